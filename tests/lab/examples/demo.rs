//! The demonstration: starts a lab, plays incidents on it, and opens dbtriage on its servers.
//!
//! ```text
//! cargo run -p dbtriage-lab --example demo [scenario]
//! ```
//!
//! Without a scenario it plays the tour: every incident in turn. Everything ends with dbtriage.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use dbtriage_lab::{Lab, Options, Scenario};

fn main() -> ExitCode {
    match demonstrate() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<ExitCode> {
    let scenario = match env::args().nth(1) {
        Some(name) => name.parse()?,
        None => Scenario::Tour,
    };
    eprintln!("demo: starting PostgreSQL, a standby and Redis, then the scenario {scenario}");
    let lab = Lab::start(Options::default())?;
    // The load must end before the lab: it is declared later, so it is dropped earlier.
    let _load = lab.play(scenario)?;
    let mut arguments: Vec<OsString> = vec!["dbtriage".into()];
    if let Some(redis) = lab.redis() {
        arguments.extend(["--redis".into(), redis.url().into()]);
    }
    arguments.push(lab.primary().conninfo("oncall", "shop").into());
    if let Some(standby) = lab.standby() {
        arguments.push(standby.conninfo("oncall", "shop").into());
    }
    Ok(dbtriage::run_with(arguments))
}
