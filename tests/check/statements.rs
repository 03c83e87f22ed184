//! What the counters of statements and of transactions tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dbtriage_lab::terminal::until;
use dbtriage_lab::{Client, Postgres};

use super::watching::{busy_with, number, wait_for, watch_from_now};
use super::{PATIENCE, alone};

/// Calls and milliseconds of the statements whose text begins like this.
fn counted(admin: &Client, beginning: &str) -> (f64, f64) {
    let sum = |column: &str| {
        let sql = format!(
            "SELECT coalesce(sum({column}), 0) FROM pg_stat_statements WHERE query LIKE '{beginning}%'"
        );
        number(admin, &sql)
    };
    (sum("calls"), sum("total_exec_time"))
}

/// Resets the counters of every database and waits for so long, so that it is known what is usual: since 15 a database
/// that was never reset does not tell since when it counts.
pub(crate) fn reset_counters(server: &Postgres, calm: &str) {
    let admin = server.client("postgres", "shop").unwrap();
    let began = admin.cell("SELECT clock_timestamp()").unwrap();
    admin.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true").unwrap();
    for database in ["template0", "template1", "postgres", "shop"] {
        server.client("postgres", database).unwrap().execute("SELECT pg_stat_reset()").unwrap();
    }
    admin.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS false").unwrap();
    // Before 15 a reset takes effect some time later.
    let resets = "FROM pg_stat_database WHERE datname IS NOT NULL";
    wait_for(
        &admin,
        "the resets",
        &format!("SELECT bool_and(coalesce(stats_reset, '-infinity') > '{began}') {resets}"),
    );
    // In one statement: to ask again and again would be counted as what is usual.
    let left = format!("max(stats_reset) + '{calm}' - clock_timestamp()");
    admin.execute(&format!("SELECT pg_sleep(extract(epoch FROM {left})) {resets}")).unwrap();
}

#[test]
fn statements_that_are_slow_or_have_become_slow_are_named_and_slow_all_executions_down() {
    let lab = alone();
    let server = lab.primary().clone();
    let admin = server.client("postgres", "shop").unwrap();
    let [web, reports] = ["web", "reports"].map(|name| server.client_as("shop_owner", "shop", name).unwrap());
    admin.execute("SELECT pg_stat_statements_reset()").unwrap();
    for _ in 0..50 {
        web.execute("SELECT id, pg_sleep(0.002) FROM orders WHERE id = 5").unwrap();
    }
    let (was, is_now) = ("SELECT id, pg_sleep", "SELECT count(*), pg_sleep");
    let before = counted(&admin, was);

    let limits = "slow_statement_ms = { warning = 250.0, critical = 5000.0 }";
    let watch = watch_from_now("3s", limits, &[&server.uri("oncall", "shop")], &[&admin]);
    let load = [
        busy_with(move || web.execute("SELECT id, pg_sleep(0.2) FROM orders WHERE id = 5").unwrap()),
        busy_with(move || reports.execute("SELECT count(*), pg_sleep(0.3) FROM customers").unwrap()),
    ];
    let report = watch.end();
    drop(load);
    let (after, slow) = (counted(&admin, was), counted(&admin, is_now));

    let [regressed, found, all] = report.found(["statement-regression", "slow-statement", "query-latency"]);
    let (calls, ms) = (after.0 - before.0, after.1 - before.1);
    regressed.assert_judged("warning", 3.0, "times");
    regressed.assert_near((ms / calls) / (before.1 / before.0), 0.1);
    regressed.assert_says(&["SELECT id, pg_sleep($1) FROM orders", "x its average of "]);
    found.assert_judged("warning", 250.0, "ms");
    found.assert_near(slow.1 / slow.0, 0.1);
    // The server's own count: on a busy machine it wakes who sleeps for 300 ms some tens of milliseconds later.
    let takes = format!(
        "SELECT count(*), pg_sleep($1) FROM customers takes {:.0}ms on average",
        found.evidence.value
    );
    found.assert_says(&[&takes]);
    all.assert_judged("warning", 100.0, "ms");
    // The few calls of the test itself are in it too.
    all.assert_near((ms + slow.1) / (calls + slow.0), 0.2);
    all.assert_says(&["executions take ", "ms on average, "]);
}

#[test]
fn many_more_transactions_than_usual_and_their_rollbacks_are_counted() {
    let lab = alone();
    let server = lab.primary().clone();
    let admin = server.client("postgres", "shop").unwrap();
    reset_counters(&server, "3s");
    let counters = |admin: &Client| {
        let of_all = |counters: &str| {
            number(admin, &format!("SELECT sum({counters}) FROM pg_stat_database WHERE datname IS NOT NULL"))
        };
        let usual = "SELECT sum((xact_commit + xact_rollback) / extract(epoch FROM clock_timestamp() - stats_reset)) \
                     FROM pg_stat_database WHERE datname IS NOT NULL";
        (of_all("xact_commit + xact_rollback"), of_all("xact_rollback"), number(admin, usual))
    };

    let limits = "operation_spike_since_reset_factor = { notice = 1.2 }";
    let target = server.uri("oncall", "shop");
    let watch = watch_from_now("3s", limits, &[&target], &[&admin]);
    let (transactions, rollbacks, _) = counters(&admin);
    let rounds = Arc::new(AtomicU32::new(0));
    let done = Arc::clone(&rounds);
    let load = busy_with(move || {
        // What a session has counted is told at its end.
        let session = server.client_as("shop_owner", "shop", "web").unwrap();
        // In one message: many a second also where the machine has little time for either side.
        session.execute(&"BEGIN; ROLLBACK; BEGIN; COMMIT; ".repeat(10)).unwrap();
        done.fetch_add(1, Ordering::Relaxed);
    });
    let report = watch.end();
    let (transactions_after, rollbacks_after, usual) = counters(&admin);
    drop(load);

    let [spike, rolled_back] = report.found(["operation-spike", "rollback-ratio"]);
    let (all, lost) = (transactions_after - transactions, rollbacks_after - rollbacks);
    spike.assert_judged("notice", 1.2, "times");
    spike.assert_near(all / 3.0 / usual, 0.3);
    spike.assert_says(&["transactions/s over the last ", "x the average of the time since the reset"]);
    rolled_back.assert_judged("warning", 10.0, "percent");
    rolled_back.assert_near(100.0 * lost / all, 0.1);
    rolled_back.assert_says(&["transactions/s were rolled back over the last "]);
    // What is counted late would be told of the next test.
    let all = rollbacks + f64::from(10 * rounds.load(Ordering::Relaxed));
    until("all rollbacks to be counted", PATIENCE, || all <= counters(&admin).1);
}
