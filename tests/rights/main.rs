//! First contact: what a role may see and do, servers that lack what others have, and every pane of every
//! supported version before anybody has prepared anything. Whatever is missing says why and what would help;
//! nothing else goes dark with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod contact;
mod detail;
mod extension;
mod fork;
mod managed;
mod outcomes;
mod privileges;
mod processes;
mod slow;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dbtriage_lab::terminal::{Tty, until};
use dbtriage_lab::{Client, Lab, MAJORS, Options, Postgres, server_directory};
use serde_json::Value;

pub(crate) use dbtriage_lab::terminal::PATIENCE;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");

/// The size at which all panes are shown.
pub(crate) const WIDE: (u16, u16) = (200, 50);
/// The size of a terminal that nobody has made larger.
pub(crate) const SMALL: (u16, u16) = (80, 24);

/// The roles of these tests, beside those of every lab.
const ROLES: &str = "
    CREATE ROLE signaller LOGIN IN ROLE pg_signal_backend;
    CREATE ROLE member LOGIN IN ROLE shop_owner;
    CREATE ROLE cloud_superuser IN ROLE pg_monitor, pg_signal_backend;
    CREATE ROLE master LOGIN IN ROLE cloud_superuser;
    CREATE DATABASE empty";

/// A server of each version, which tests leave as they find it; `None` inside for a version that is not here.
static SERVERS: [OnceLock<Option<Mutex<Lab>>>; MAJORS.len()] = [const { OnceLock::new() }; MAJORS.len()];

/// Starts servers whose autovacuum looks for work all the time.
pub(crate) fn start(major: u32, standby: bool) -> Lab {
    let settings = vec![("autovacuum_naptime".to_owned(), "1s".to_owned())];
    let options = Options { standby, redis: false, settings, major: Some(major), ..Options::default() };
    let lab = Lab::start(options).unwrap_or_else(|error| panic!("{error:#}"));
    let system = superuser(lab.primary());
    for statement in ROLES.split(';') {
        system.execute(statement).unwrap();
    }
    lab
}

/// The servers of a version, for one test at a time.
pub(crate) fn lab(major: u32) -> MutexGuard<'static, Lab> {
    let place = MAJORS.iter().position(|known| *known == major).unwrap();
    let found = SERVERS[place].get_or_init(|| Some(Mutex::new(start(major, true))));
    found.as_ref().unwrap().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of these versions those that there is a server of. What is missing is said, past the test's own capture.
pub(crate) fn here(majors: &[u32]) -> Vec<u32> {
    let (here, missing): (Vec<u32>, Vec<u32>) =
        majors.iter().partition(|major| server_directory(**major).is_some());
    if !missing.is_empty() {
        let text = format!("PostgreSQL {missing:?} is not here: sh tests/lab/setup.sh --all-versions\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    here
}

/// A session that may do everything.
pub(crate) fn superuser(server: &Postgres) -> Client {
    server.client("postgres", "shop").unwrap()
}

pub(crate) fn is_there(client: &Client, pid: i32) -> bool {
    !client.rows(&format!("SELECT FROM pg_stat_activity WHERE pid = {pid}")).unwrap().is_empty()
}

/// Opens the screen on a server and waits until it is live.
pub(crate) fn open(server: &Postgres, user: &str, database: &str, size: (u16, u16)) -> Tty {
    let uri = server.uri(user, database);
    let mut tty = Tty::start(PROGRAM, size, &["-w", "--interval", "500ms", &uri]);
    tty.wait_for_text("● live");
    tty
}

pub(crate) fn quit(tty: Tty) {
    tty.keys("q");
    let ended = tty.end();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
}

/// The only target of `dbtriage snapshot --format json`, which must succeed.
pub(crate) fn snapshot(server: &Postgres, user: &str, database: &str) -> Value {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(["snapshot", "-w", "--format", "json", "--interval", "500ms", &server.uri(user, database)])
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["targets"][0].take()
}

/// Why a part of a snapshot is not there: reason and hint; `None` where nothing is missing.
pub(crate) fn missing(target: &Value, part: &str) -> Option<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = target["unavailable"].as_array().unwrap();
    let found = all.iter().find(|entry| entry["part"] == part)?;
    Some((text(&found["reason"]), text(&found["hint"])))
}

/// The parts of a snapshot that are not there.
pub(crate) fn dark(target: &Value) -> Vec<&str> {
    let all = target["unavailable"].as_array().unwrap();
    all.iter().map(|entry| entry["part"].as_str().unwrap()).collect()
}

/// Runs a statement again and again until its first value is as wanted.
pub(crate) fn wait_until(client: &Client, what: &str, sql: &str) {
    until(what, PATIENCE, || !client.rows(sql).unwrap().is_empty());
}
