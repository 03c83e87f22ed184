//! Standbys that are behind, gone or promoted, servers that restart or stop, and slots that keep the log.

use dbtriage_lab::terminal::until;
use dbtriage_lab::{Client, Lab, Options, Postgres};
use pretty_assertions::assert_eq;

use super::watching::{number, wait_for, watch, watch_from_now};
use super::{PATIENCE, alone, busy};

/// How many bytes of log the slot `forgotten` keeps.
const KEPT: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots \
                    WHERE slot_name = 'forgotten'";

/// Writes some megabytes of log.
fn write(admin: &Client) {
    admin
        .execute(
            "SELECT pg_logical_emit_message(true, 'test', repeat('x', 1000000)) FROM generate_series(1, 3)",
        )
        .unwrap();
}

fn admin(server: &Postgres) -> Client {
    server.client("postgres", "shop").unwrap()
}

#[test]
fn a_standby_whose_replay_is_paused_is_told_on_both_servers_in_bytes_and_in_seconds() {
    let lab = busy();
    let (primary, standby) = (lab.primary(), lab.standby().unwrap());
    let (writer, reader) = (admin(primary), admin(standby));
    let behind = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication \
                  WHERE application_name = 'standby'";
    // Each by itself: of both the worse would be told, and on the primary the time comes when the standby reports.
    let in_bytes = "replication_lag_bytes = { critical = 1e6 }\nreplication_lag_seconds = {}";
    let in_seconds = "replication_lag_bytes = {}\nreplication_lag_seconds = { critical = 0.5 }";
    let targets = [primary.uri("oncall", "shop"), standby.uri("oncall", "shop")];
    let watch = watch_from_now("3s", in_bytes, &[&targets[0], &targets[1]], &[&writer, &reader]);
    reader.execute("SELECT pg_wal_replay_pause()").unwrap();
    write(&writer);
    let before = number(&writer, behind);
    let bytes = watch.end();
    let after = number(&writer, behind);
    let seconds = super::watching::watch("2s", in_seconds, &[&targets[1]]).end();
    reader.execute("SELECT pg_wal_replay_resume()").unwrap();

    let [of_primary] = bytes.target(0).found(["replication-lag"]);
    of_primary.assert_within(before, after);
    of_primary.assert_judged("critical", 1e6, "bytes");
    of_primary.assert_says(&["standby replays ", " MB behind"]);
    let paused = "this standby, whose replay is paused, replays ";
    let [of_standby] = bytes.target(1).found(["replication-lag"]);
    of_standby.assert_judged("critical", 1e6, "bytes");
    of_standby.assert_says(&[paused, " MB behind"]);
    let [of_standby] = seconds.found(["replication-lag"]);
    of_standby.assert_judged("critical", 0.5, "seconds");
    // Paused before the look: no more is known than the age of the last commit that was replayed.
    of_standby.assert_says(&[paused, "at most ", " MB behind"]);

    until("the standby to catch up", PATIENCE, || number(&writer, behind) == 0.0);
}

#[test]
fn a_promotion_a_restart_and_a_stop_are_told_where_they_happen() {
    let lab = Lab::start(Options { redis: false, ..Options::default() }).unwrap();
    let (primary, standby) = (lab.primary(), lab.standby().unwrap());
    let targets = [primary.uri("oncall", "shop"), standby.uri("oncall", "shop")];
    let limits = "standby_gone_seconds = { warning = 0.2 }";
    let watching =
        watch_from_now("5s", limits, &[&targets[0], &targets[1]], &[&admin(primary), &admin(standby)]);
    let senders = "FROM pg_stat_replication WHERE application_name = 'standby'";
    standby.promote().unwrap();
    wait_for(&admin(primary), "the standby to go", &format!("SELECT count(*) = 0 {senders}"));
    let report = watching.end();
    let [gone] = report.target(0).found(["standby-gone"]);
    gone.assert_judged("warning", 0.2, "seconds");
    gone.assert_within(0.2, 5.5);
    gone.assert_says(&["standby standby has gone "]);
    let [promoted] = report.target(1).found(["role-change"]);
    promoted.assert_judged("warning", 300.0, "seconds");
    promoted.assert_within(0.0, 5.5);
    promoted.assert_says(&["the server has become the primary "]);

    let watching = watch_from_now("4s", "", &[&targets[1]], &[&admin(standby)]);
    standby.restart().unwrap();
    let [restarted] = watching.end().found(["restart"]).map(Clone::clone);
    restarted.assert_judged("warning", 300.0, "seconds");
    restarted.assert_within(0.0, 4.5);
    restarted.assert_says(&["the server was restarted ", " ago"]);

    let watching = watch_from_now("2s", "", &[&targets[1]], &[&admin(standby)]);
    standby.stop("fast").unwrap();
    let [dark] = watching.end().found(["unreachable"]).map(Clone::clone);
    dark.assert_judged("critical", 0.0, "seconds");
    // An outage is told once a second, at last when the time is over.
    dark.assert_within(0.0, 3.5);
    dark.assert_says(&["Connection refused"]);
}

#[test]
fn a_slot_that_nobody_uses_is_told_by_the_log_that_it_keeps_until_it_has_lost_it() {
    let lab = alone();
    let server = lab.primary();
    let (admin, target) = (admin(server), server.uri("oncall", "shop"));
    admin.execute("SELECT pg_create_physical_replication_slot('forgotten', true)").unwrap();
    write(&admin);
    let before = number(&admin, KEPT);
    let report = watch("1s", "slot_retention_bytes = { critical = 1e6 }", &[&target]).end();
    let [keeps] = report.found(["slot-retention"]);
    keeps.assert_judged("critical", 1e6, "bytes");
    keeps.assert_within(before, number(&admin, KEPT));
    keeps.assert_says(&["slot forgotten keeps ", " MB of log and is used by nobody"]);

    admin.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").unwrap();
    admin.execute("SELECT pg_reload_conf()").unwrap();
    wait_for(&admin, "the setting", "SELECT current_setting('max_slot_wal_keep_size') = '1MB'");
    for (status, says) in [
        ("unreserved", "loses the log that it needs with the next checkpoint"),
        ("lost", "has lost the log that it needs: its consumer must start anew"),
    ] {
        let reached = format!("SELECT wal_status = '{status}' FROM pg_replication_slots");
        until(status, PATIENCE, || {
            if status == "lost" {
                admin.execute("CHECKPOINT").unwrap();
            } else {
                write(&admin);
                admin.execute("SELECT pg_switch_wal()").unwrap();
            }
            admin.cell(&reached).unwrap() == "t"
        });
        let report = watch("1s", "", &[&target]).end();
        let [found] = report.found(["slot-lost"]);
        found.assert_judged("critical", 1.0, "slots");
        assert_eq!(found.summary, format!("slot forgotten {says}"));
    }
    admin.execute("SELECT pg_drop_replication_slot('forgotten')").unwrap();
    admin.execute("ALTER SYSTEM RESET max_slot_wal_keep_size").unwrap();
    admin.execute("SELECT pg_reload_conf()").unwrap();
}
