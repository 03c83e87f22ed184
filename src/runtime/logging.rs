//! The log, when one is asked for: a file that only its owner may read. And the hook that leaves the screen before
//! a panic is printed.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use super::Failure;
use crate::terminal;

/// Starts the log and sets the panic hook.
pub(super) fn start(file: Option<&Path>) -> Result<(), Failure> {
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "panic");
        // A task that fails is survived, and its message may quote a server's text: only the end of the program
        // gives the terminal back and speaks, and what it says is made safe.
        if std::thread::current().id() == main {
            terminal::restore();
            let said = super::one_line(&info.to_string());
            drop(writeln!(io::stderr(), "dbtriage: this is a bug, please report it: {said}"));
        }
    }));
    let Some(file) = file else { return Ok(()) };
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| Failure::usage(format!("cannot write the log {}: {error}", file.display())))?;
    // A second start in one process (tests, the demo) keeps the first log.
    drop(
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(Mutex::new(log))
            .try_init(),
    );
    Ok(())
}

/// Says something on standard error before the screen opens.
pub(super) fn warn(message: &str) {
    tracing::warn!("{message}");
    drop(writeln!(io::stderr(), "dbtriage: {}", super::one_line(message)));
}
