//! `dbtriage check` and the findings of the screen on real servers: what is wrong is named, what is well is quiet, and
//! the exit code says which.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod cache;
mod connections;
mod every_check;
mod housekeeping;
mod locks;
mod redis_more;
mod replication;
mod resources;
mod standby;
mod statements;
mod strict;
mod transactions;
mod watching;

use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use dbtriage_lab::terminal::{PATIENCE, Tty, rows, until};
use dbtriage_lab::{Lab, Options, Scenario};
use pretty_assertions::assert_eq;
use serde_json::Value;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");

/// Incidents are played on this one, one at a time.
static BUSY: LazyLock<Mutex<Lab>> = LazyLock::new(|| Mutex::new(Lab::start(Options::default()).unwrap()));

/// Nothing happens on this one.
static IDLE: LazyLock<Lab> = LazyLock::new(|| Lab::start(Options::default()).unwrap());

/// Primaries without standbys, each with a Redis, whose settings are changed; one test at a time on each. Two threads
/// are at work on a small machine.
static ALONE: [LazyLock<Mutex<Lab>>; 2] = [const { LazyLock::new(|| Mutex::new(start_alone())) }; 2];

/// Fails while there is a file in the data directory: when an archiver hears of another command nobody can tell.
const ARCHIVE: &str = "test ! -e archiving_fails";

fn start_alone() -> Lab {
    let settings = settings(&[("archive_mode", "on"), ("archive_command", ARCHIVE)]);
    Lab::start(Options { standby: false, max_connections: 40, settings, ..Options::default() }).unwrap()
}

/// One of them that nobody uses. A test that failed has left its servers as nobody expects them: the next one is given
/// others.
fn alone() -> MutexGuard<'static, Lab> {
    let free = ALONE.iter().find(|lab| !matches!(lab.try_lock(), Err(TryLockError::WouldBlock)));
    let lab = free.unwrap_or(&ALONE[0]);
    lab.lock().unwrap_or_else(|failed| {
        lab.clear_poison();
        let mut lab = failed.into_inner();
        *lab = start_alone();
        lab
    })
}

fn settings(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn busy() -> MutexGuard<'static, Lab> {
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("check").args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_idle_healthy_server_is_found_nothing_for_a_minute() {
    let (server, redis) = (IDLE.primary().uri("oncall", "shop"), IDLE.redis().unwrap().url());
    let standby = IDLE.standby().unwrap().uri("oncall", "shop");
    let output = check(&["--for", "60s", "--format", "json", &server, &standby, &redis]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["schema"], &report["severity"]), (&"dbtriage.check/1".into(), &Value::Null));
    let targets = report["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 3);
    for target in targets {
        assert_eq!(target["findings"], Value::Array(Vec::new()), "{target}");
        assert_eq!(target["error"], Value::Null);
        assert_eq!(
            target["not_yet"],
            Value::Array(Vec::new()),
            "a report uses the time that there was: {target}"
        );
    }
}

#[test]
fn a_short_look_at_a_healthy_server_says_so_in_a_line() {
    let output = check(&["--for", "2s", "--strict", &IDLE.primary().uri("oncall", "shop")]);
    let lines = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{lines:?}");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("OK ") && lines[0].ends_with(" checks"), "{lines:?}");
}

#[test]
fn the_worst_finding_comes_first_and_is_the_exit_code() {
    let lab = busy();
    let load = lab.play(Scenario::LockPileup).unwrap();
    let root = load.facts.root_pid.unwrap();
    let output = check(&["--for", "2s", &lab.primary().uri("oncall", "shop")]);
    let lines = lines(&output);
    assert_eq!(output.status.code(), Some(1), "{lines:?}");
    assert!(
        lines[0].starts_with("WARNING ") && lines[0].contains(&format!(": {root} reports-worker")),
        "{lines:?}"
    );
    assert!(lines[0].contains("[blocking]") && lines[0].contains(&format!("terminate {root}")), "{lines:?}");
}

#[test]
fn a_role_without_rights_is_told_what_it_cannot_know_and_only_strictly_by_the_exit_code() {
    let uri = IDLE.primary().uri("nobody", "shop");
    let admin = IDLE.primary().client("postgres", "shop").unwrap();
    admin.execute("CREATE ROLE nobody LOGIN").unwrap();
    let output = check(&["--for", "1s", &uri]);
    let said = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{said:?}");
    assert!(
        said.iter().any(|line| line.starts_with("NOT KNOWN ") && line.contains("pg_monitor")),
        "{said:?}"
    );
    let strict = check(&["--for", "1s", "--strict", &uri]);
    assert_eq!(strict.status.code(), Some(3), "{said:?}");
}

#[test]
fn a_server_that_is_not_there_exits_3() {
    let output = check(&["--for", "1s", "postgres://oncall@127.0.0.1:1/shop"]);
    let said = lines(&output);
    assert_eq!(output.status.code(), Some(3), "{said:?}");
    assert!(said[0].starts_with("CRITICAL ") && said[0].contains("Connection refused"), "{said:?}");
}

#[test]
fn a_time_that_is_none_is_refused() {
    for wrong in ["soon", "0s", "2h", "-1s"] {
        let output = check(&[&format!("--for={wrong}"), "postgres://oncall@127.0.0.1:1/shop"]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("is not a time from 1s to 1h"), "{wrong}: {told}");
    }
}

/// The incident of the report: within three seconds of opening, who holds the connections and which statement is slow.
#[test]
fn a_connection_spike_is_told_within_three_seconds() {
    let lab = busy();
    let admin = lab.primary().client("postgres", "shop").unwrap();
    admin.execute("SELECT pg_stat_statements_reset()").unwrap();
    let load = lab.play(Scenario::ConnectionSpike).unwrap();
    // What runs for the first time is counted when it ends.
    let slow =
        "SELECT count(*) FROM pg_stat_statements WHERE max_exec_time > 1000 AND query LIKE '%payload_hash%'";
    until("the first slow statement to end", PATIENCE, || admin.cell(slow).unwrap() != "0");
    let mut tty = Tty::start(PROGRAM, (200, 50), &[&lab.primary().uri("oncall", "shop")]);
    let told = tty.wait_for("the holder and the statement", PATIENCE, |screen| {
        let findings = rows(screen)[2..4].join("\n");
        findings.contains("usable connections in use: reports-worker holds")
            && findings.contains("SELECT id FROM reports WHERE report_type")
            && findings.contains("x its average of ")
    });
    let time = told - tty.spawned_at();
    assert!(time < Duration::from_secs(3), "{time:?}");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
    // Whatever else is told is another side of the same.
    let may_be = [
        "connections",
        "connection-hog",
        "idle-sessions",
        "statement-regression",
        "slow-active",
        "slow-statement",
        "query-latency",
    ];
    let output = check(&["--for", "3s", "--format", "json", &lab.primary().uri("oncall", "shop")]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told: Vec<&str> = document["targets"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    assert!(told.len() >= 2 && told.iter().all(|check| may_be.contains(check)), "{document:#}");
    drop(load);
}
