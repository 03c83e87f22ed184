//! Sessions that idle in a transaction, transactions that are open for long, and statements that take long.

use dbtriage_lab::Client;
use pretty_assertions::assert_eq;

use super::watching::{number, wait_for, watch};
use super::{PATIENCE, alone};

/// The age of something of one session, seconds by the server's clock.
fn age(admin: &Client, column: &str, pid: i32) -> f64 {
    let sql = format!(
        "SELECT extract(epoch FROM clock_timestamp() - {column}) FROM pg_stat_activity WHERE pid = {pid}"
    );
    number(admin, &sql)
}

/// Waits until so many sessions sleep in a statement.
fn wait_for_sleepers(admin: &Client, count: usize) {
    let sql = format!("SELECT count(*) = {count} FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    wait_for(admin, "the statements to run", &sql);
}

#[test]
fn who_idles_in_a_transaction_and_who_works_in_an_old_one_are_named_each_with_its_age() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let billing = server.client_as("shop_owner", "shop", "billing").unwrap();
    billing.execute("BEGIN; UPDATE orders SET status = 'paid' WHERE id = 5001").unwrap();
    let etl = server.client_as("shop_owner", "shop", "etl").unwrap();
    etl.execute("BEGIN; SELECT count(*) FROM orders").unwrap();
    let work = etl.spawn("SELECT pg_sleep(60)");
    wait_for_sleepers(&admin, 1);

    let ages = || [age(&admin, "state_change", billing.pid()), age(&admin, "xact_start", etl.pid())];
    let [idle_before, open_before] = ages();
    let limits = "idle_in_transaction_seconds = { warning = 0.2, critical = 0.3 }\n\
                  long_transaction_seconds = { warning = 0.4 }";
    let report = watch("1s", limits, &[&server.uri("oncall", "shop")]).end();
    let [idle_after, open_after] = ages();

    let [idle, open] = report.found(["idle-in-transaction", "long-transaction"]);
    idle.assert_judged("critical", 0.3, "seconds");
    idle.assert_within(idle_before, idle_after);
    idle.assert_says(&[&format!("{} billing, idle in transaction ", billing.pid())]);
    assert_eq!(idle.pid, Some(billing.pid()));
    open.assert_judged("warning", 0.4, "seconds");
    open.assert_within(open_before, open_after);
    open.assert_says(&[&format!("{} etl, transaction open for ", etl.pid())]);
    assert_eq!(open.pid, Some(etl.pid()));

    admin.execute(&format!("SELECT pg_cancel_backend({})", etl.pid())).unwrap();
    work.wait(PATIENCE).unwrap_err();
}

#[test]
fn sessions_that_run_one_slow_statement_are_told_together_and_one_alone_is_never_critical() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let crowd = [1, 2, 3].map(|_| server.client_as("shop_owner", "shop", "reports-worker").unwrap());
    let loner = server.client_as("shop_owner", "shop", "analyst").unwrap();
    let sleeping: Vec<_> = crowd
        .iter()
        .map(|session| session.spawn("SELECT id, pg_sleep(60) FROM reports WHERE id = 7"))
        .collect();
    wait_for_sleepers(&admin, 3);
    let alone = loner.spawn("SELECT count(*), pg_sleep(60) FROM customers");
    wait_for_sleepers(&admin, 4);

    let longest = || crowd.iter().map(|it| age(&admin, "query_start", it.pid())).fold(0.0, f64::max);
    let (crowd_before, loner_before) = (longest(), age(&admin, "query_start", loner.pid()));
    let limits = "slow_active_seconds = { notice = 0.2, warning = 0.3, critical = 0.4 }";
    let report = watch("1s", limits, &[&server.uri("oncall", "shop")]).end();
    let (crowd_after, loner_after) = (longest(), age(&admin, "query_start", loner.pid()));

    let found = report.target(0).all_found("slow-active");
    let [together, single] = found[..] else { panic!("{found:#?}") };
    together.assert_judged("critical", 0.4, "seconds");
    together.assert_within(crowd_before, crowd_after);
    together.assert_says(&["3 sessions run one statement, the longest for ", " reports-worker"]);
    assert!(crowd.iter().any(|session| together.pid == Some(session.pid())), "{together:#?}");
    single.assert_judged("warning", 0.4, "seconds");
    single.assert_within(loner_before, loner_after);
    single.assert_says(&[&format!("{} analyst runs one statement for ", loner.pid())]);
    assert_eq!(single.pid, Some(loner.pid()));

    admin
        .execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        .unwrap();
    for statement in sleeping.iter().chain([&alone]) {
        statement.wait(PATIENCE).unwrap_err();
    }
}
