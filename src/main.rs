//! The process: hands over its arguments and returns the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    dbtriage::run_with(std::env::args_os())
}
