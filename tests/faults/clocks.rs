//! Time and counters that jump: statistics that are reset, and a client whose clock is an hour off.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dbtriage_lab::Stopped;
use dbtriage_lab::terminal::{PATIENCE, Tty, now, rows};

use super::{Watched, admin, is_live, lab, uri};

/// A figure of the second line.
fn vital(tty: &Tty, name: &str) -> String {
    let line = tty.rows()[1].clone();
    let rest = line.split(&format!(" {name} ")).nth(1).unwrap_or_else(|| panic!("{name} in {line}"));
    rest.split_whitespace().next().unwrap_or_default().to_owned()
}

/// A plausible figure of a server on which a test does little, or none.
fn assert_plausible(tty: &Tty) {
    let transactions = vital(tty, "tps");
    let number: Result<f64, _> = match transactions.strip_suffix('k') {
        Some(thousands) => thousands.parse::<f64>().map(|it| it * 1000.0),
        None => transactions.parse(),
    };
    assert!(
        transactions == "?" || number.as_ref().is_ok_and(|tps| (0.0..=5000.0).contains(tps)),
        "tps {transactions}: {}",
        tty.rows()[1]
    );
    let hit = vital(tty, "hit");
    let share = hit.strip_suffix('%').map(str::parse::<f64>);
    assert!(
        ["?", "–"].contains(&hit.as_str())
            || matches!(share, Some(Ok(share)) if (0.0..=100.0).contains(&share)),
        "hit {hit}: {}",
        tty.rows()[1]
    );
}

#[test]
fn a_reset_of_the_statistics_makes_no_rate_negative_or_absurd() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let busy = lab.primary().client_as("shop_owner", "shop", "busy").unwrap();
    busy.execute("SELECT count(*) FROM customers a JOIN orders b ON a.id = b.customer_id").unwrap();
    // The counters of a whole life are large, so that a fall shows.
    for _ in 0..300 {
        busy.execute("SELECT count(*) FROM customers").unwrap();
    }
    watched.tty.wait_for("a rate", PATIENCE, |screen| !rows(screen)[1].contains("tps ?"));
    for reset in ["pg_stat_reset()", "pg_stat_reset_shared('bgwriter')", "pg_stat_reset()"] {
        second.execute(&format!("SELECT {reset}")).unwrap();
        let until = now() + Duration::from_millis(2500);
        while now() < until {
            busy.execute("SELECT count(*) FROM customers").unwrap();
            assert_plausible(&watched.tty);
            assert!(watched.tty.look(is_live));
        }
    }
    watched.tty.wait_for("a rate again", PATIENCE, |screen| !rows(screen)[1].contains("tps ?"));
    watched.quit();
}

/// A library that puts the clock of whoever loads it forward or back, and leaves the time since the start alone.
const SHIFTED_CLOCK: &str = "
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += SHIFT;
    return failed;
}
int gettimeofday(struct timeval *at, void *zone) {
    (void) zone;
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    if (!failed) { at->tv_sec = now.tv_sec; at->tv_usec = now.tv_nsec / 1000; }
    return failed;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
";

fn shifted_clock(folder: &Path, seconds: i32) -> PathBuf {
    let source = folder.join("clock.c");
    let library = folder.join(format!("clock{seconds}.so"));
    std::fs::write(&source, SHIFTED_CLOCK).unwrap();
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", &format!("-DSHIFT=({seconds})"), "-o"])
        .args([&library, &source])
        .output()
        .expect("a C compiler, which Rust needs for its linker as well");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

#[test]
fn ages_are_those_of_the_server_when_the_clock_of_the_client_is_an_hour_off() {
    let lab = lab(&[]);
    let server = lab.primary();
    let folder = tempfile::tempdir().unwrap();
    let idle = server.client_as("shop_owner", "shop", "forgotten").unwrap();
    idle.execute("BEGIN; SELECT 1").unwrap();
    for seconds in [3600, -3600] {
        let library = shifted_clock(folder.path(), seconds);
        let environment = [("LD_PRELOAD", library.to_str().unwrap())];
        let mut watched = Watched::start(server, &[&uri("oncall", server.port)], &environment);
        watched.wait_until_complete();
        watched.tty.wait_for("the idle transaction with an age of seconds", PATIENCE, |screen| {
            age_of_idle(&rows(screen)[1]).is_some_and(|age| (2..50).contains(&age))
        });
        let before = watched.tty.look(|screen| age_of_idle(&rows(screen)[1])).unwrap();
        watched.tty.wait_for("its age to grow", PATIENCE, |screen| {
            age_of_idle(&rows(screen)[1]).is_some_and(|age| before < age && age < 55)
        });
        watched.tty.look(|screen| {
            assert!(is_live(screen), "{}", screen.contents());
            let hour = ["1h0", "59m", "-1s", "60m"].into_iter().find(|it| screen.contents().contains(it));
            assert_eq!(hour, None, "{}", screen.contents());
        });
        // While nothing comes, too.
        let stopped = Stopped::all_of(server).unwrap();
        watched.tty.wait_for("an outage of seconds", PATIENCE, |screen| {
            super::ages(screen, "blocked").is_some_and(|ages| ages.iter().all(|age| (2..20).contains(age)))
        });
        drop(stopped);
        watched.assert_live_soon_after("a stop under another clock", now());
        watched.quit();
    }
}

/// The seconds in `idle-tx 1·12s`.
fn age_of_idle(vitals: &str) -> Option<u64> {
    vitals.split("1·").nth(1)?.split_once('s')?.0.parse().ok()
}
