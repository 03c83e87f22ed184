//! Bursts, deadlocks, calm and paused replay: what a report says of them is what the server knows.

use dbtriage_lab::terminal::{PATIENCE, until};
use dbtriage_lab::{Client, Postgres, Running};
use pretty_assertions::assert_eq;

use super::locks::{longest_wait, update, wait_for_waiters};
use super::statements::reset_counters;
use super::watching::{number, watch, watch_from_now};
use super::{alone, busy};

/// Two sessions that wait for each other, and end that after some time.
fn embrace(server: &Postgres, deadlock_timeout: &str) -> ([Client; 2], [Running; 2]) {
    let pair = ["left", "right"].map(|name| server.client_as("postgres", "shop", name).unwrap());
    for (session, order) in pair.iter().zip([8001, 8002]) {
        let set = format!("SET deadlock_timeout = '{deadlock_timeout}'");
        session.execute(&format!("{set}; BEGIN; {}", update(order))).unwrap();
    }
    let waits = [pair[0].spawn(&update(8002)), pair[1].spawn(&update(8001))];
    (pair, waits)
}

#[test]
fn deadlocks_at_the_beginning_of_a_watch_are_counted_once() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    // Each victim is rolled back.
    let limits = "deadlocks_per_minute = { warning = 0.1 }\nrollback_percent = {}";
    let watch = watch_from_now("3s", limits, &[&server.uri("oncall", "shop")], &[&admin]);
    for _ in 0..3 {
        // What a session has counted is told at its end, which comes with each round.
        let (_pair, waits) = embrace(server, "10ms");
        assert_eq!(waits.iter().filter(|it| it.wait(PATIENCE).is_err()).count(), 1, "one is the victim");
    }
    let report = watch.end();
    let [found] = report.found(["deadlocks"]);
    found.assert_judged("warning", 0.1, "deadlocks");
    // A rate by the clock of the server, times seconds by that of the client.
    found.assert_near(3.0, 0.05);
    found.assert_says(&[" deadlocks within the last 3s"]);
}

#[test]
fn a_deadlock_that_lasts_is_told_although_nobody_else_waits() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let (pair, waits) = embrace(server, "1h");
    wait_for_waiters(&admin, 2);
    let pids = [pair[0].pid(), pair[1].pid()];
    let before = longest_wait(&admin, &pids);
    let limits = "blocking_seconds = { warning = 0.2 }";
    let report = watch("1s", limits, &[&server.uri("oncall", "shop")]).end();
    let [found] = report.found(["blocking"]);
    found.assert_judged("warning", 0.2, "seconds");
    found.assert_within(before, longest_wait(&admin, &pids));
    let [left, right] = pids;
    let either =
        [(left, right), (right, left)].map(|(a, b)| format!("deadlock of 2 sessions ({a}, {b}) for "));
    assert!(either.iter().any(|words| found.summary.starts_with(words)), "{found:#?}");

    admin.execute(&format!("SELECT pg_cancel_backend({left})")).unwrap();
    waits[0].wait(PATIENCE).unwrap_err();
    waits[1].wait(PATIENCE).unwrap();
}

#[test]
fn an_idle_server_whose_counters_were_reset_has_no_spike() {
    let lab = alone();
    let server = lab.primary();
    reset_counters(server, "3s");
    let limits = "operation_spike_since_reset_factor = { notice = 5.0 }";
    for time in ["1s", "2s", "4s"] {
        let report = watch(time, limits, &[&server.uri("oncall", "shop")]).end();
        report.found([]);
        // A second of many transactions, which the server's own upkeep makes, too, is too short to be judged.
        let too_short = Some("judged over more than two seconds").filter(|_| time != "4s");
        let not_yet = report.target(0).not_yet("operation-spike");
        assert!(not_yet.is_none() || not_yet == too_short, "it was judged: {report:#?}");
    }
}

#[test]
fn a_replay_that_was_paused_before_the_look_is_told() {
    let lab = busy();
    let (primary, standby) = (lab.primary(), lab.standby().unwrap());
    let admin = |server: &Postgres| server.client("postgres", "shop").unwrap();
    let (writer, reader) = (admin(primary), admin(standby));
    reader.execute("SELECT pg_wal_replay_pause()").unwrap();
    writer.execute("UPDATE orders SET status = 'paid' WHERE id < 1000").unwrap();
    let of_primary = "SELECT coalesce(max(extract(epoch FROM replay_lag)), 0) FROM pg_stat_replication";
    let of_standby = "SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())";
    until("a lag of seconds", PATIENCE, || {
        // The standby tells how far it is when it has received something.
        writer.execute("SELECT pg_logical_emit_message(false, 'test', 'x')").unwrap();
        number(&writer, of_primary) > 2.0
    });
    let lags = || [number(&writer, of_primary), number(&reader, of_standby)];
    let before = lags();
    let targets = [primary.uri("oncall", "shop"), standby.uri("oncall", "shop")];
    let limits = "replication_lag_seconds = { warning = 2.0 }";
    let report = watch("2s", limits, &[&targets[0], &targets[1]]).end();
    let after = lags();
    reader.execute("SELECT pg_wal_replay_resume()").unwrap();
    let who = ["standby replays ", "this standby, whose replay is paused, replays "];
    for (place, who) in who.into_iter().enumerate() {
        let [told] = report.target(place).found(["replication-lag"]);
        told.assert_judged("warning", 2.0, "seconds");
        told.assert_within(before[place], after[place]);
        told.assert_says(&[who, "s, ", " behind"]);
    }
}
