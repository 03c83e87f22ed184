//! What a server is to be kept clean of: dead rows, stale statistics, broken indexes and pages, old snapshots, slots,
//! full lock tables.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use dbtriage_lab::{Client, Lab, Options, Postgres};
use pretty_assertions::assert_eq;

use super::alone;
use super::watching::{Found, busy_with, number, wait_for, watch, watch_from_now};

fn admin(server: &Postgres) -> Client {
    server.client("postgres", "shop").unwrap()
}

/// Runs statements in a session of their own: what a session has counted is told at its end.
fn run(server: &Postgres, statements: &[&str]) {
    let session = admin(server);
    for statement in statements {
        session.execute(statement).unwrap();
    }
}

/// Waits until a counter of a table has reached so many rows.
fn wait_for_rows(admin: &Client, counter: &str, rows: u32) {
    let sql = format!("SELECT {counter} = {rows} FROM pg_stat_user_tables WHERE relname = 'ledger'");
    wait_for(admin, &format!("{rows} of {counter}"), &sql);
}

/// Gives away so many transactions, one after the other.
fn burn(admin: &Client, transactions: u32) {
    let body = format!("FOR i IN 1..{transactions} LOOP PERFORM txid_current(); COMMIT; END LOOP");
    admin.execute(&format!("DO $$BEGIN {body}; END$$")).unwrap();
}

#[test]
fn a_table_of_which_much_is_dead_rows_is_named_until_it_is_vacuumed() {
    let lab = alone();
    let (server, target) = (lab.primary(), lab.primary().uri("oncall", "shop"));
    let admin = admin(server);
    let make = "CREATE TABLE ledger (id int) WITH (autovacuum_enabled = off)";
    run(server, &[make, "INSERT INTO ledger SELECT generate_series(1, 30000)"]);
    for (dead, severity, limit) in [(12_000, "notice", 30.0), (24_000, "warning", 60.0)] {
        run(server, &[&format!("DELETE FROM ledger WHERE id <= {dead}")]);
        wait_for_rows(&admin, "n_dead_tup", dead);
        let report = watch("1s", "", &[&target]).end();
        let [found] = report.found(["dead-tuples"]);
        found.assert_judged(severity, limit, "percent");
        found.assert_near(100.0 * f64::from(dead) / 30_000.0, 0.001);
        let (percent, thousands) = (dead / 300, dead / 1000);
        let says = format!("{percent}.0% of the rows of ledger are dead ({thousands}k), never vacuumed");
        assert_eq!(found.summary, says);
    }
    run(server, &["VACUUM ledger"]);
    wait_for_rows(&admin, "n_dead_tup", 0);
    watch("1s", "", &[&target]).end().found([]);
    admin.execute("DROP TABLE ledger").unwrap();
}

#[test]
fn a_table_that_has_changed_much_since_its_last_analyze_is_named_and_one_that_never_had_any() {
    let lab = alone();
    let (server, target) = (lab.primary(), lab.primary().uri("oncall", "shop"));
    let admin = admin(server);
    let make = "CREATE TABLE ledger (id int) WITH (autovacuum_enabled = off)";
    run(server, &[make, "INSERT INTO ledger SELECT generate_series(1, 100000)"]);
    wait_for_rows(&admin, "n_mod_since_analyze", 100_000);
    let report = watch("1s", "", &[&target]).end();
    let [never] = report.found(["stale-statistics"]);
    never.assert_judged("notice", 50.0, "percent");
    never.assert_near(100.0, 0.001);
    never.assert_says(&["100k rows of ledger have changed and it was never analyzed"]);

    run(server, &["ANALYZE ledger"]);
    wait_for_rows(&admin, "n_mod_since_analyze", 0);
    watch("1s", "", &[&target]).end().found([]);
    run(server, &["INSERT INTO ledger SELECT generate_series(1, 150000)"]);
    wait_for_rows(&admin, "n_mod_since_analyze", 150_000);
    let report = watch("1s", "", &[&target]).end();
    let [old] = report.found(["stale-statistics"]);
    old.assert_judged("notice", 50.0, "percent");
    old.assert_near(60.0, 0.001);
    old.assert_says(&[
        "150k rows of ledger have changed since its last ANALYZE, ",
        " ago: plans may be wrong",
    ]);
    admin.execute("DROP TABLE ledger").unwrap();
}

#[test]
fn indexes_whose_concurrent_build_has_failed_are_named_until_they_are_gone() {
    let lab = alone();
    let (server, target) = (lab.primary(), lab.primary().uri("oncall", "shop"));
    let admin = admin(server);
    for (count, says) in [(1.0, "index one_each is invalid: "), (2.0, " is invalid, and 1 more: ")] {
        let name = if count > 1.0 { "another" } else { "one_each" };
        let build = format!("CREATE UNIQUE INDEX CONCURRENTLY {name} ON orders (status)");
        admin.execute(&build).unwrap_err();
        let report = watch("1s", "", &[&target]).end();
        let [found] = report.found(["invalid-index"]);
        found.assert_judged("warning", 1.0, "indexes");
        found.assert_within(count, count);
        found.assert_says(&[says]);
    }
    admin.execute("DROP INDEX one_each, another").unwrap();
    watch("1s", "", &[&target]).end().found([]);
}

#[test]
fn a_lock_table_that_fills_is_told_with_how_much_fits() {
    let lab = alone();
    let (server, target) = (lab.primary(), lab.primary().uri("oncall", "shop"));
    let admin = admin(server);
    let setting =
        |name: &str| number(&admin, &format!("SELECT coalesce(current_setting('{name}', true), '-1')"));
    let workers = match setting("autovacuum_worker_slots") {
        slots if slots > 0.0 => slots,
        _ => setting("autovacuum_max_workers"),
    };
    let settings =
        ["max_connections", "max_prepared_transactions", "max_worker_processes", "max_wal_senders"];
    let processes = settings.map(setting).iter().sum::<f64>() + workers + 1.0;
    let room = setting("max_locks_per_transaction") * processes;
    // Whether they stand in the table or only in the process is all the same for how they are counted here.
    let held = "SELECT count(*) FROM pg_locks WHERE NOT fastpath";
    for (share, severity, limit) in [(0.25, "warning", 20.0), (0.65, "critical", 60.0)] {
        let hog = server.client_as("shop_owner", "shop", "hog").unwrap();
        hog.execute("BEGIN").unwrap();
        let last = format!("{:.0}", share * room);
        hog.execute(&format!("SELECT count(pg_advisory_xact_lock(n)) FROM generate_series(1, {last}) n"))
            .unwrap();
        let before = number(&admin, held);
        let report = watch("1s", "", &[&target]).end();
        let [found] = report.found(["locks-near-limit"]);
        found.assert_judged(severity, limit, "percent");
        found.assert_near(100.0 * before / room, 0.01);
        found.assert_says(&["the lock table holds ", " objects; when it is full statements fail"]);
        hog.execute("ROLLBACK").unwrap();
    }
    watch("1s", "", &[&target]).end().found([]);
}

#[test]
fn who_keeps_vacuum_from_dead_rows_is_named_be_it_a_session_a_prepared_transaction_or_a_slot() {
    let lab = alone();
    let (server, target) = (lab.primary(), lab.primary().uri("oncall", "shop"));
    let admin = admin(server);
    let limits = "xmin_age_xids = { notice = 1000.0, warning = 100000.0 }";
    let told = |age: &str, name: &str, subject: Option<i32>| {
        burn(&admin, 1_500);
        let before = number(&admin, age);
        let report = watch("1s", limits, &[&target]).end();
        let [found] = report.found(["xmin-horizon"]);
        found.assert_judged("notice", 1000.0, "transactions");
        found.assert_within(before, number(&admin, age));
        found.assert_says(&[&format!(
            "{name} keeps VACUUM from rows that died within the last 1.5k transactions"
        )]);
        assert_eq!(found.pid, subject, "{found:#?}");
    };

    let billing = server.client_as("shop_owner", "shop", "billing").unwrap();
    billing.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM customers").unwrap();
    let pid = billing.pid();
    let age = format!("SELECT age(backend_xmin) FROM pg_stat_activity WHERE pid = {pid}");
    told(&age, &format!("{pid} billing"), Some(pid));
    billing.execute("ROLLBACK").unwrap();

    let transfer = "UPDATE orders SET status = 'paid' WHERE id = 7; PREPARE TRANSACTION 'transfer-18'";
    billing.execute(&format!("BEGIN; {transfer}")).unwrap();
    told("SELECT age(transaction) FROM pg_prepared_xacts", "prepared transaction 'transfer-18'", None);
    billing.execute("ROLLBACK PREPARED 'transfer-18'").unwrap();

    admin.execute("SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')").unwrap();
    told("SELECT age(catalog_xmin) FROM pg_replication_slots", "slot cdc", None);
    admin.execute("SELECT pg_drop_replication_slot('cdc')").unwrap();
    watch("1s", limits, &[&target]).end().found([]);
}

#[test]
fn a_slot_that_nobody_uses_is_told_by_its_time_where_the_server_knows_it() {
    let lab = alone();
    let (server, target) = (lab.primary(), lab.primary().uri("oncall", "shop"));
    let admin = admin(server);
    admin.execute("SELECT pg_create_physical_replication_slot('idle')").unwrap();
    let limits = "slot_inactive_seconds = { warning = 1.0, critical = 3600.0 }";
    if number(&admin, "SHOW server_version_num") < 170_000.0 {
        let report = watch("1s", limits, &[&target]).end();
        report.found([]);
        let why = "since when a slot is not used is told by PostgreSQL 17 and later";
        assert_eq!(report.target(0).not_yet("slot-inactive"), Some(why));
    } else {
        let age = "SELECT extract(epoch FROM clock_timestamp() - inactive_since) FROM pg_replication_slots";
        wait_for(&admin, "a second", &format!("SELECT ({age}) > 1"));
        let before = number(&admin, age);
        let report = watch("1s", limits, &[&target]).end();
        let [found] = report.found(["slot-inactive"]);
        found.assert_judged("warning", 1.0, "seconds");
        found.assert_within(before, number(&admin, age));
        found.assert_says(&["slot idle has been used by nobody for "]);
    }
    admin.execute("SELECT pg_drop_replication_slot('idle')").unwrap();
}

#[test]
fn much_write_ahead_log_is_measured() {
    let lab = alone();
    let server = lab.primary().clone();
    let admin = admin(&server);
    let written = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')";
    let limits = "wal_bytes_per_second = { warning = 1e6 }";
    let watch = watch_from_now("3s", limits, &[&server.uri("oncall", "shop")], &[&admin]);
    let before = number(&admin, written);
    let load = busy_with(move || {
        let message = "SELECT pg_logical_emit_message(true, 'test', repeat('x', 500000)), pg_sleep(0.05)";
        super::housekeeping::admin(&server).execute(message).unwrap();
    });
    let report = watch.end();
    let after = number(&admin, written);
    drop(load);
    let [found] = report.found(["wal-rate"]);
    found.assert_judged("warning", 1e6, "bytes per second");
    found.assert_near((after - before) / 3.0, 0.25);
    found.assert_says(&[" MB/s of write-ahead log over the last 3s"]);
}

#[test]
fn a_login_that_waits_for_a_lock_is_told_by_its_process_id() {
    let lab = alone();
    let server = lab.primary().clone();
    let (admin, holder) = (admin(&server), admin(&server));
    let limits = "blocking_seconds = { warning = 0.1 }";
    // The first sample asks for our rights, which needs the catalog that is about to be locked.
    let watch = watch_from_now("3s", limits, &[&server.uri("oncall", "shop")], &[&admin]);
    // Our own logins would wait as well.
    let own = "SELECT count(*) = 3 FROM pg_stat_activity WHERE application_name = 'dbtriage'";
    wait_for(&admin, "all connections of the watch", own);
    holder.execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE").unwrap();
    let login = std::thread::spawn(move || server.client_as("shop_owner", "shop", "web").map(|it| it.pid()));
    let own = "SELECT pid FROM pg_stat_get_activity(NULL) WHERE application_name = 'dbtriage'";
    let waiting = format!(
        "FROM pg_locks WHERE NOT granted AND relation = 'pg_authid'::regclass AND pid NOT IN ({own})"
    );
    wait_for(&admin, "the login to wait", &format!("SELECT count(*) = 1 {waiting}"));
    let pid = admin.cell(&format!("SELECT pid {waiting}")).unwrap();
    let report = watch.end();
    holder.execute("ROLLBACK").unwrap();
    let logged_in = login.join().unwrap().unwrap();
    assert_eq!(logged_in.to_string(), pid);
    let is_stuck = |found: &Found| {
        found.assert_judged("critical", 1.0, "logins");
        found.assert_within(1.0, 1.0);
        let says = format!(
            "1 login cannot finish and holds slots: pid {pid} waits for a lock that {} holds",
            holder.pid()
        );
        assert_eq!(found.summary, says);
        assert_eq!(found.pid, Some(holder.pid()), "Enter goes to who holds it");
    };
    let is_root = |found: &Found| {
        found.assert_judged("warning", 0.1, "seconds");
        found.assert_says(&[
            &format!("{} lab, idle in transaction ", holder.pid()),
            ", blocks 1 session (longest ",
        ]);
        assert_eq!(found.pid, Some(holder.pid()));
    };
    let version = number(&admin, "SHOW server_version_num");
    if version < 140_000.0 {
        // Since when somebody waits who is in no list of sessions is not known there.
        let [stuck] = report.found(["logins-stuck"]);
        is_stuck(stuck);
    } else {
        let [stuck, root] = report.found(["logins-stuck", "blocking"]);
        is_stuck(stuck);
        is_root(root);
    }
}

#[test]
fn pages_that_do_not_match_their_checksum_are_told_and_worse_when_more_come() {
    let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap();
    let (server, target) = (lab.primary(), lab.primary().uri("oncall", "shop"));
    let make = "CREATE TABLE vault AS SELECT generate_series(1, 100) AS id";
    run(server, &[make, "CHECKPOINT"]);
    let path = admin(server).cell("SELECT pg_relation_filepath('vault')").unwrap();
    server.stop("fast").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(server.data.join(path)).unwrap();
    // Among the rows, which fill a page from its end.
    let mut byte = [0];
    file.read_exact_at(&mut byte, 8_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 8_000).unwrap();
    server.start().unwrap();

    let read = || {
        let error = admin(server).execute("SELECT count(*) FROM vault").unwrap_err();
        assert!(format!("{error:#}").contains("invalid page"), "{error:#}");
    };
    let failures = "SELECT sum(checksum_failures) FROM pg_stat_database WHERE datname = 'shop'";
    let admin = admin(server);
    read();
    wait_for(&admin, "the failure to be counted", &format!("SELECT ({failures}) = 1"));
    let report = watch("1s", "", &[&target]).end();
    let [before] = report.found(["checksum-failures"]);
    before.assert_judged("warning", 1.0, "reads");
    before.assert_within(1.0, 1.0);
    before.assert_says(&["1 reads of database shop met a page that does not match its checksum"]);

    let watch = watch_from_now("2s", "", &[&target], &[&admin]);
    read();
    wait_for(&admin, "the second to be counted", &format!("SELECT ({failures}) = 2"));
    let report = watch.end();
    let [grown] = report.found(["checksum-failures"]);
    grown.assert_judged("critical", 1.0, "reads");
    grown.assert_within(2.0, 2.0);
}
