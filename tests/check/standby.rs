//! Queries on a standby that are in the way of replay, and a subscription whose changes cannot be applied.

use dbtriage_lab::terminal::until;
use dbtriage_lab::{Client, Postgres};
use pretty_assertions::assert_eq;

use super::watching::{number, wait_for, watch, watch_from_now};
use super::{PATIENCE, alone, busy};

fn admin(server: &Postgres, database: &str) -> Client {
    server.client("postgres", database).unwrap()
}

/// Removes the oldest rows of a table for good, which whoever has an old snapshot may still want.
fn purge(primary: &Client) {
    let some = "SELECT id FROM parcels ORDER BY id LIMIT 100";
    primary.execute(&format!("DELETE FROM parcels WHERE id IN ({some})")).unwrap();
    primary.execute("VACUUM parcels").unwrap();
}

/// How long replay waits for a query.
fn give_time(standby: &Postgres, time: &str) {
    standby.configure("max_standby_streaming_delay", time).unwrap();
    let reader = admin(standby, "shop");
    reader.execute("SELECT pg_reload_conf()").unwrap();
    wait_for(
        &reader,
        "the setting",
        &format!("SELECT current_setting('max_standby_streaming_delay') = '{time}'"),
    );
}

#[test]
fn replay_that_waits_for_a_query_is_told_and_then_how_many_queries_it_has_cancelled() {
    let lab = busy();
    let (server, target) = (lab.standby().unwrap(), lab.standby().unwrap().uri("oncall", "shop"));
    let (writer, reader) = (admin(lab.primary(), "shop"), admin(server, "shop"));
    let analyst = || server.client_as("shop_owner", "shop", "analyst").unwrap();
    let asleep = |pid: i32| {
        format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'")
    };

    give_time(server, "-1");
    writer.execute("CREATE TABLE parcels AS SELECT generate_series(1, 1000) AS id").unwrap();
    writer.execute("GRANT SELECT ON parcels TO shop_owner").unwrap();
    let behind = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication";
    let caught_up = || until("replay to go on", PATIENCE, || number(&writer, behind) == 0.0);
    caught_up();
    let slow = analyst();
    let query = slow.spawn("SELECT count(*), pg_sleep(60) FROM parcels");
    wait_for(&reader, "the query", &asleep(slow.pid()));
    purge(&writer);
    let replay = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'";
    wait_for(&reader, "replay to wait", &format!("SELECT coalesce(({replay}), '') LIKE 'RecoveryConflict%'"));
    // That it is behind then is told by another check.
    let report = watch("1s", "replication_lag_seconds = {}", &[&target]).end();
    let [waits] = report.found(["replay-conflict"]);
    waits.assert_judged("warning", 1.0, "waits");
    let suspect = format!("; the oldest snapshot is that of {} analyst, for ", slow.pid());
    waits.assert_says(&["replay waits for a query on this standby (RecoveryConflictSnapshot)", &suspect]);
    assert_eq!(waits.pid, Some(slow.pid()));

    // As the help says.
    reader.execute(&format!("SELECT pg_cancel_backend({})", slow.pid())).unwrap();
    query.wait(PATIENCE).unwrap_err();
    caught_up();
    watch("1s", "", &[&target]).end().found([]);

    give_time(server, "0");
    // What is cancelled is rolled back.
    let limits = "rollback_percent = {}\nconflicts_per_minute = { notice = 1.0, warning = 6000.0 }";
    let cancelled = "SELECT sum(conflicts) FROM pg_stat_database";
    let before = number(&reader, cancelled);
    let watch = watch_from_now("3s", limits, &[&target], &[&reader]);
    let crowd = [1, 2, 3].map(|_| analyst());
    let queries = crowd.each_ref().map(|it| it.spawn("SELECT count(*), pg_sleep(60) FROM parcels"));
    for session in &crowd {
        wait_for(&reader, "the query", &asleep(session.pid()));
    }
    purge(&writer);
    for query in &queries {
        query.wait(PATIENCE).unwrap_err();
    }
    drop(crowd);
    wait_for(&reader, "all to be counted", &format!("SELECT ({cancelled}) = {}", before + 3.0));
    let report = watch.end();
    let [found] = report.found(["conflicts"]);
    found.assert_judged("notice", 1.0, "per minute");
    found.assert_near(3.0, 0.05);
    found.assert_says(&["3 queries on this standby were cancelled because of replay within the last 3s"]);
    give_time(server, "30s");
    writer.execute("DROP TABLE parcels").unwrap();
    caught_up();
}

#[test]
fn a_subscription_whose_changes_cannot_be_applied_is_told_with_how_often_it_failed() {
    let lab = alone();
    let server = lab.primary();
    let publisher = admin(server, "shop");
    let retry = |change: &str| {
        publisher.execute(&format!("ALTER SYSTEM {change} wal_retrieve_retry_interval")).unwrap();
        publisher.execute("SELECT pg_reload_conf()").unwrap();
    };
    publisher.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'").unwrap();
    publisher.execute("SELECT pg_reload_conf()").unwrap();
    publisher.execute("CREATE DATABASE copy").unwrap();
    let subscriber = admin(server, "copy");
    subscriber.execute("CREATE EXTENSION pg_stat_statements").unwrap();
    for side in [&publisher, &subscriber] {
        side.execute("CREATE TABLE mirrored (id int PRIMARY KEY)").unwrap();
    }
    subscriber.execute("INSERT INTO mirrored VALUES (1)").unwrap();
    publisher.execute("CREATE PUBLICATION mirror FOR TABLE mirrored").unwrap();
    // Within one server the slot must be there already.
    publisher.execute("SELECT pg_create_logical_replication_slot('mirror', 'pgoutput')").unwrap();
    let conninfo = server.conninfo("postgres", "shop");
    let options = "create_slot = false, slot_name = 'mirror', copy_data = false";
    let subscribe =
        format!("CREATE SUBSCRIPTION mirror CONNECTION '{conninfo}' PUBLICATION mirror WITH ({options})");
    subscriber.execute(&subscribe).unwrap();
    let target = server.uri("oncall", "copy");
    // The changes that fail are rolled back.
    let limits = "rollback_percent = {}";
    if number(&publisher, "SHOW server_version_num") < 150_000.0 {
        publisher.execute("INSERT INTO mirrored VALUES (1)").unwrap();
        let report = watch("1s", limits, &[&target]).end();
        report.found([]);
        let why = "errors of subscriptions are counted by PostgreSQL 15 and later";
        assert_eq!(report.target(0).not_yet("subscription-errors"), Some(why));
    } else {
        let errors = "SELECT apply_error_count FROM pg_stat_subscription_stats";
        let watch = watch_from_now("3s", limits, &[&target], &[&subscriber]);
        publisher.execute("INSERT INTO mirrored VALUES (1)").unwrap();
        wait_for(&subscriber, "the errors", &format!("SELECT ({errors}) >= 3"));
        let seen = number(&subscriber, errors);
        let report = watch.end();
        let [found] = report.found(["subscription-errors"]);
        found.assert_judged("warning", 1.0, "errors");
        found.assert_within(seen, number(&subscriber, errors));
        found.assert_says(&["subscription mirror failed ", " times since we watch"]);
    }
    retry("RESET");
    subscriber.execute("ALTER SUBSCRIPTION mirror DISABLE").unwrap();
    subscriber.execute("ALTER SUBSCRIPTION mirror SET (slot_name = NONE)").unwrap();
    subscriber.execute("DROP SUBSCRIPTION mirror").unwrap();
    wait_for(&publisher, "the slot to be free", "SELECT NOT active FROM pg_replication_slots");
    publisher.execute("SELECT pg_drop_replication_slot('mirror')").unwrap();
    publisher.execute("DROP TABLE mirrored; DROP PUBLICATION mirror").unwrap();
    drop(subscriber);
    until("the database to go", PATIENCE, || publisher.execute("DROP DATABASE copy").is_ok());
}
