//! Servers that a part costs much: it is read the more seldom, and the bottom line says which and how often.

use std::time::Duration;

use dbtriage_lab::terminal::{Tty, rows};

use super::fork::Fork;
use super::{WIDE, open, quit, start, superuser};

/// A part is slowed once two readings in a row were slow, and as fast as before after one that was not.
const TURN: Duration = Duration::from_secs(60);

/// How often a part is read by the bottom line, seconds.
fn every_seconds(tty: &Tty, part: &str) -> Option<f64> {
    let bottom = tty.rows().last()?.clone();
    let (_, rest) = bottom.split_once(&format!(" {part} every "))?;
    rest.split_once("s, to spare the server")?.0.parse().ok()
}

fn has(screen: &vt100::Screen, part: &str) -> bool {
    rows(screen).last().is_some_and(|row| row.contains(&format!(" {part} every ")))
}

#[test]
fn a_part_that_costs_the_server_much_is_read_seldom_and_that_is_said() {
    let lab = start(15, false);
    let server = lab.primary();
    let schema = "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_stat_statements'";
    assert_eq!(superuser(server).cell(schema).unwrap(), "public");
    let mut tty = open(server, "oncall", "shop", WIDE);
    tty.wait_for_text("time/s");
    let reads = || {
        let sql = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%/* dbtriage */ userid, dbid%calls%'";
        superuser(server).cell(sql).unwrap().parse::<u32>().unwrap()
    };
    assert!(tty.look(|screen| !has(screen, "statements") && !has(screen, "housekeeping")));
    let slow = Fork::within(server, "public").slow("pg_stat_statements", "boolean", 0.2);
    tty.wait_for("the statements to be slowed", TURN, |screen| has(screen, "statements"));
    let every = every_seconds(&tty, "statements").unwrap();
    // Fifty times what a reading takes beyond a round trip: what it sleeps, more or less.
    assert!((8.0..20.0).contains(&every), "every {every} s");
    let before = reads();
    let archiver = Fork::of(server).slow("pg_stat_get_archiver", "", 0.4);
    tty.wait_for("the housekeeping to be slowed", TURN, |screen| has(screen, "housekeeping"));
    let every = every_seconds(&tty, "housekeeping").unwrap();
    assert!((16.0..40.0).contains(&every), "every {every} s");
    // Ten seconds at least went by, in which the counters were read every two before.
    assert!(reads() - before <= 3, "read {} times", reads() - before);
    drop((slow, archiver));
    tty.wait_for("the statements to be as before", TURN, |screen| !has(screen, "statements"));
    quit(tty);
}
