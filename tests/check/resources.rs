//! The buffer cache, temporary files, checkpoints, the archive, the counter of transactions, and settings.

use dbtriage_lab::{Client, Lab, Options};
use pretty_assertions::assert_eq;

use super::watching::{busy_with, number, wait_for, watch, watch_from_now};
use super::{alone, settings};

/// The session that has read what is read seldom, and perhaps texts of statements since.
const UPKEEP_READ: &str = "FROM pg_stat_activity WHERE application_name = 'dbtriage' AND state = 'idle' \
                           AND query ~ 'dbtriage:(limit|texts)'";

fn reload(admin: &Client, change: &str) {
    admin.execute(&format!("ALTER SYSTEM {change}")).unwrap();
    admin.execute("SELECT pg_reload_conf()").unwrap();
}

#[test]
fn what_is_read_past_the_buffer_cache_and_what_is_sorted_on_disk_is_measured() {
    let settings = settings(&[("shared_buffers", "4MB")]);
    let lab = Lab::start(Options { standby: false, redis: false, settings, ..Options::default() }).unwrap();
    let server = lab.primary().clone();
    let admin = server.client("postgres", "shop").unwrap();
    let counters = |admin: &Client| {
        ["blks_hit", "blks_hit + blks_read", "temp_bytes"]
            .map(|counter| number(admin, &format!("SELECT sum({counter}) FROM pg_stat_database")))
    };
    let limits = "buffer_hit_percent = { warning = 95.0 }\ntemp_bytes_per_second = { warning = 100000.0 }";
    let watch = watch_from_now("3s", limits, &[&server.uri("oncall", "shop")], &[&admin]);
    let before = counters(&admin);
    let load = busy_with(move || {
        // What a session has counted is told at its end.
        let session = server.client_as("shop_owner", "shop", "reports-worker").unwrap();
        session.execute("SET work_mem = '64kB'").unwrap();
        session.execute("SELECT count(*) FROM (SELECT id FROM reports ORDER BY payload OFFSET 0) r").unwrap();
    });
    let report = watch.end();
    let after = counters(&admin);
    drop(load);

    let [hits, files] = report.found(["buffer-hit-rate", "temp-files"]);
    let [hit, all, temporary] = [0, 1, 2].map(|place| after[place] - before[place]);
    hits.assert_judged("warning", 95.0, "percent");
    hits.assert_near(100.0 * hit / all, 0.1);
    hits.assert_says(&["blocks/s were found in the buffer cache over the last "]);
    files.assert_judged("warning", 100_000.0, "bytes per second");
    files.assert_near(temporary / 3.0, 0.4);
    files.assert_says(&[" MB/s went into ", " temporary files a second over the last "]);
}

#[test]
fn checkpoints_that_somebody_asks_for_are_counted() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let watch = watch_from_now("4s", "", &[&server.uri("oncall", "shop")], &[&admin]);
    wait_for(&admin, "the first reading", &format!("SELECT count(*) = 1 {UPKEEP_READ}"));
    for _ in 0..4 {
        admin.execute("CHECKPOINT").unwrap();
    }
    // A report reads them with every sample.
    let report = watch.end();
    let [found] = report.found(["checkpoints"]);
    found.assert_judged("warning", 3.0, "checkpoints");
    found.assert_within(4.0, 4.0);
    found.assert_says(&["4 of 4 checkpoints since we watch came before their time"]);
}

#[test]
fn an_archive_command_that_fails_is_told_with_the_file_until_it_works_again() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let target = server.uri("oncall", "shop");
    let archiver = |column: &str| admin.cell(&format!("SELECT {column} FROM pg_stat_archiver")).unwrap();
    let failing = "coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false)";
    admin.execute("COPY (SELECT) TO PROGRAM 'touch archiving_fails'").unwrap();
    admin.execute("SELECT pg_logical_emit_message(true, 'test', 'log'); SELECT pg_switch_wal()").unwrap();
    wait_for(&admin, "a failure", &format!("SELECT {failing} FROM pg_stat_archiver"));
    let report = watch("1s", "", &[&target]).end();
    let [found] = report.found(["archiver"]);
    found.assert_judged("warning", 300.0, "seconds");
    found.assert_within(0.0, 5.0);
    found.assert_says(&[&format!("archiving fails: {} ", archiver("last_failed_wal"))]);

    admin.execute("COPY (SELECT) TO PROGRAM 'rm archiving_fails'").unwrap();
    wait_for(&admin, "an archived file", &format!("SELECT NOT {failing} FROM pg_stat_archiver"));
    watch("1s", "", &[&target]).end().found([]);
}

#[test]
fn the_database_with_the_oldest_rows_is_named_with_its_age() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let age = "greatest(age(datfrozenxid), mxid_age(datminmxid))";
    let oldest = format!("SELECT max({age}) FROM pg_database");
    admin.execute("DO $$BEGIN FOR i IN 1..500 LOOP PERFORM txid_current(); COMMIT; END LOOP; END$$").unwrap();
    let before = number(&admin, &oldest);
    assert!(before > 500.0, "{before}");
    let percent = |age: f64| 100.0 * age / 2_147_483_648.0;
    let limit = percent(400.0);
    let report = watch(
        "1s",
        &format!("wraparound_percent = {{ critical = {limit:e} }}"),
        &[&server.uri("oncall", "shop")],
    )
    .end();
    let [found] = report.found(["wraparound"]);
    found.assert_judged("critical", limit, "percent");
    found.assert_near(percent(before), 0.01);
    let names = admin.rows(&format!("SELECT datname FROM pg_database WHERE {age} = ({oldest})")).unwrap();
    let is_named =
        |name: &str| found.summary.starts_with(&format!("database {name} has not been frozen for "));
    assert!(names.iter().flatten().flatten().any(|name| is_named(name)), "{names:?}: {found:#?}");
}

#[test]
fn settings_that_wait_for_a_restart_are_named() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let waiting = "SELECT count(*) FROM pg_settings WHERE pending_restart";
    reload(&admin, "SET max_connections = 50");
    reload(&admin, "SET max_prepared_transactions = 30");
    wait_for(&admin, "the settings to wait", &format!("SELECT ({waiting}) = 2"));
    let report = watch("1s", "", &[&server.uri("oncall", "shop")]).end();
    let [found] = report.found(["pending-restart"]);
    found.assert_judged("notice", 1.0, "settings");
    found.assert_within(2.0, 2.0);
    assert_eq!(
        found.summary,
        "changed and waiting for a restart: max_connections, max_prepared_transactions"
    );
    reload(&admin, "RESET max_connections");
    reload(&admin, "RESET max_prepared_transactions");
    wait_for(&admin, "no setting to wait", &format!("SELECT ({waiting}) = 0"));
}
