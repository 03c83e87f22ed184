//! The server as a whole goes away and comes back, or becomes another one.

use std::fs;
use std::path::PathBuf;

use dbtriage_lab::terminal::{PATIENCE, now, rows, until};
use dbtriage_lab::{Lab, Options, Postgres};

use super::{SOON, Watched, admin, ages, lab, own_pids};

/// How long a server stays away for the pauses between attempts to have become long.
const LONG: u64 = 20;

#[test]
fn a_restarted_server_is_live_again_by_itself() {
    let lab = lab(&[]);
    let server = lab.primary();
    let mut watched = Watched::open(server, server.port);
    for mode in ["fast", "immediate"] {
        server.stop(mode).unwrap();
        let refused = format!("cannot connect to 127.0.0.1:{}: Connection refused", server.port);
        watched.wait_for_outage("unreachable", &refused);
        watched.assert_ages_grow("unreachable");
        server.start().unwrap();
        watched.assert_live_soon_after(&format!("a restart {mode}"), now());
    }
    watched.quit();
}

#[test]
fn a_server_that_was_away_for_long_is_live_again_at_once() {
    let lab = lab(&[]);
    let server = lab.primary();
    let mut watched = Watched::open(server, server.port);
    server.stop("fast").unwrap();
    wait_long(&mut watched, "unreachable");
    server.start().unwrap();
    assert_back(&mut watched, "a long absence");
    watched.quit();
}

#[test]
fn the_finding_of_an_outage_tells_the_same_age_as_the_first_line() {
    let lab = lab(&[]);
    let server = lab.primary();
    let mut watched = Watched::open(server, server.port);
    server.stop("fast").unwrap();
    watched.wait_for_outage("unreachable", "cannot connect to");
    // The pauses between attempts become longer, and both ages go on.
    for second in 2..10 {
        watched.tty.wait_for(&format!("{second}s"), PATIENCE, |screen| {
            ages(screen, "unreachable").is_some_and(|ages| ages[0] >= second)
        });
        let (first, finding) = watched.tty.look(|screen| (rows(screen)[0].clone(), rows(screen)[2].clone()));
        let age = |line: &str| {
            line.split("unreachable for ").nth(1).and_then(|it| it.split('s').next()?.parse::<i64>().ok())
        };
        let both = age(&first).zip(age(&finding));
        assert!(both.is_some_and(|(a, b)| (a - b).abs() <= 1), "{first}\n{finding}");
    }
    server.start().unwrap();
    watched.quit();
}

#[test]
fn a_server_that_starts_up_for_long_says_so_and_is_live_at_once() {
    let lab = lab(&[]);
    let server = lab.primary();
    let mut watched = Watched::open(server, server.port);
    server.stop("fast").unwrap();
    let hold = hold_recovery(&lab);
    server.begin_start().unwrap();
    watched.wait_for_outage("error", "answered: the database system is starting up");
    watched.assert_ages_grow("error");
    wait_long(&mut watched, "error");
    fs::remove_file(hold).unwrap();
    until("the server to take connections", PATIENCE, || server.client("oncall", "shop").is_ok());
    assert_back(&mut watched, "a long recovery");
    watched.quit();
}

/// Lets the next start wait in recovery for as long as the file is there.
fn hold_recovery(lab: &Lab) -> PathBuf {
    let hold = lab.directory().join("data/hold");
    fs::write(&hold, "").unwrap();
    let command = format!("while [ -e {} ]; do sleep 0.1; done; false", hold.display());
    lab.primary().configure("restore_command", &command).unwrap();
    fs::write(lab.primary().data.join("recovery.signal"), "").unwrap();
    hold
}

fn wait_long(watched: &mut Watched, kind: &str) {
    watched.tty.wait_for("a long outage", PATIENCE * 2, |screen| {
        ages(screen, kind).is_some_and(|ages| ages[0] >= LONG)
    });
}

/// Live at once, and all three connections: without its own, a kill would still be refused.
fn assert_back(watched: &mut Watched, what: &str) {
    let returned = now();
    watched.assert_live_soon_after(what, returned);
    let second = admin(&watched.server);
    until("three sessions again", PATIENCE, || own_pids(&second).len() == 3);
    let time = now() - returned;
    assert!(time <= SOON, "after {what}: three connections only {time:?} after the server's return");
}

#[test]
fn a_server_that_crashed_and_recovered_is_live_again_by_itself() {
    let lab = lab(&[]);
    let server = lab.primary();
    let mut watched = Watched::open(server, server.port);
    let before = own_pids(&admin(server));
    server.crash().unwrap();
    // Whoever is let in has a server that has recovered: before that the old sessions have all gone.
    let is_back =
        || server.client("oncall", "shop").is_ok_and(|client| own_pids(&client).is_disjoint(&before));
    until("the server to recover", PATIENCE, is_back);
    let returned = now();
    let second = admin(server);
    until("three new sessions", PATIENCE, || own_pids(&second).len() == 3);
    let time = now() - returned;
    assert!(time <= SOON, "three connections only {time:?} after the recovery");
    watched.assert_live_soon_after("a crash", returned);
    let port = server.port;
    // The clock of the first line is the server's: another second is a new sample.
    let shown = watched.tty.rows()[0].clone();
    watched.tty.wait_for("another sample", PATIENCE, |screen| {
        rows(screen)[0] != shown && !rows(screen)[2].contains(&format!("127.0.0.1:{port}"))
    });
    watched.quit();
}

#[test]
fn a_promoted_standby_is_shown_as_the_primary_over_the_same_connections() {
    let lab = Lab::start(Options { redis: false, max_connections: 40, ..Options::default() }).unwrap();
    let standby: &Postgres = lab.standby().unwrap();
    let mut watched = Watched::open(standby, standby.port);
    watched.tty.wait_for("a standby that streams", PATIENCE, |screen| {
        rows(screen)[0].contains(" standby  up ")
            && screen.contents().contains("this standby: streaming from")
    });
    let before = own_pids(&admin(standby));
    standby.promote().unwrap();
    let promoted = now();
    let shown = watched.tty.wait_for("a primary", PATIENCE, |screen| {
        rows(screen)[0].contains(" primary  up ")
            && rows(screen)[0].contains("● live")
            && screen.contents().contains("no standby is connected")
            && !screen.contents().contains("this standby")
    });
    let time = shown.saturating_duration_since(promoted);
    assert!(time <= SOON, "{time:?}");
    assert_eq!(own_pids(&admin(standby)), before, "the same connections");
    watched.quit();
}
