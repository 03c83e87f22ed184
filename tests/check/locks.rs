//! Sessions that wait for one another, or for a standby that does not answer.

use dbtriage_lab::terminal::PATIENCE;
use dbtriage_lab::{Client, Postgres};
use pretty_assertions::assert_eq;

use super::alone;
use super::watching::{Found, busy_with, number, wait_for, watch, watch_from_now};

/// What a session of the application does to an order.
pub(crate) fn update(order: u32) -> String {
    format!("UPDATE orders SET status = 'paid' WHERE id = {order}")
}

fn application(server: &Postgres, name: &str) -> Client {
    server.client_as("shop_owner", "shop", name).unwrap()
}

/// The longest wait of these sessions for a lock, by the server's clock.
pub(crate) fn longest_wait(admin: &Client, pids: &[i32]) -> f64 {
    let since = if admin.cell("SHOW server_version_num").unwrap().as_str() < "140000" {
        "query_start FROM pg_stat_activity"
    } else {
        "waitstart FROM pg_locks"
    };
    let (column, from) = since.split_once(' ').unwrap();
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    let sql = format!(
        "SELECT max(extract(epoch FROM clock_timestamp() - {column})) {from} WHERE pid IN ({})",
        pids.join(", ")
    );
    number(admin, &sql)
}

pub(crate) fn wait_for_waiters(admin: &Client, count: usize) {
    let sql = format!("SELECT count(*) = {count} FROM pg_locks WHERE NOT granted");
    wait_for(admin, "the sessions to wait", &sql);
}

#[test]
fn each_root_of_a_pile_up_is_named_with_how_many_wait_for_it_and_how_long() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();

    let payroll = application(server, "payroll");
    payroll.execute(&format!("BEGIN; {}", update(7001))).unwrap();
    let [web, cron] = ["web", "cron"].map(|name| application(server, name));
    let behind_payroll = [web.spawn(&update(7001)), cron.spawn(&update(7001))];

    let transfer = application(server, "transfer");
    transfer.execute(&format!("BEGIN; {}; PREPARE TRANSACTION 'transfer-17'", update(7002))).unwrap();
    let behind_transfer = transfer.spawn(&update(7002));

    let pair = ["left", "right"].map(|name| server.client_as("postgres", "shop", name).unwrap());
    for (session, order) in pair.iter().zip([7003, 7004]) {
        // The server would end the deadlock before anybody sees it.
        session.execute(&format!("SET deadlock_timeout = '1h'; BEGIN; {}", update(order))).unwrap();
    }
    let embrace = [pair[0].spawn(&update(7004)), pair[1].spawn(&update(7003))];
    wait_for_waiters(&admin, 5);
    let third = application(server, "third");
    let behind_pair = third.spawn(&update(7003));
    wait_for_waiters(&admin, 6);

    let before = longest_wait(&admin, &[web.pid(), cron.pid()]);
    let limits = "blocking_seconds = { warning = 0.2, critical = 3600.0 }";
    let report = watch("1s", limits, &[&server.uri("oncall", "shop")]).end();
    let after = longest_wait(&admin, &[web.pid(), cron.pid()]);

    let found = report.target(0).all_found("blocking");
    assert_eq!(found.len(), 3, "{found:#?}");
    let of = |pid: Option<i32>, beginning: &str| -> &Found {
        let found = found.iter().find(|it| it.pid == pid && it.summary.starts_with(beginning));
        let found = found.unwrap_or_else(|| panic!("{beginning}: {report:#?}"));
        found.assert_judged("warning", 0.2, "seconds");
        found
    };
    let root = of(Some(payroll.pid()), &format!("{} payroll, idle in transaction ", payroll.pid()));
    root.assert_says(&["blocks 2 sessions (longest "]);
    root.assert_within(before, after);
    assert!(root.help.contains(&format!("terminate {}", payroll.pid())), "{root:#?}");
    let prepared = of(None, "prepared transaction 'transfer-17'");
    prepared.assert_says(&["blocks 1 session (longest "]);
    assert!(prepared.help.contains("ROLLBACK PREPARED"), "{prepared:#?}");
    let cycle = of(None, "deadlock of 2 sessions (");
    cycle.assert_says(&["blocks 1 session (longest "]);
    assert!(cycle.help.contains("deadlock_timeout"), "{cycle:#?}");

    payroll.execute("ROLLBACK").unwrap();
    admin.execute("ROLLBACK PREPARED 'transfer-17'").unwrap();
    admin.execute(&format!("SELECT pg_cancel_backend({})", pair[0].pid())).unwrap();
    pair[0].execute("ROLLBACK").unwrap();
    drop(embrace[1].wait(PATIENCE).unwrap());
    pair[1].execute("ROLLBACK").unwrap();
    for waiter in behind_payroll.iter().chain([&behind_transfer, &behind_pair]) {
        drop(waiter.wait(PATIENCE).unwrap());
    }
}

#[test]
fn deadlocks_that_the_server_resolves_are_counted() {
    let lab = alone();
    let server = lab.primary().clone();
    let admin = server.client("postgres", "shop").unwrap();
    let deadlocks = "SELECT sum(pg_stat_get_db_deadlocks(oid)) FROM pg_database";
    // Each victim is rolled back.
    let limits = "deadlocks_per_minute = { warning = 2.0 }\nrollback_percent = {}";
    let watch = watch_from_now("3s", limits, &[&server.uri("oncall", "shop")], &[&admin]);
    let before = number(&admin, deadlocks);
    let load = busy_with(move || {
        // What a session has counted is told at its end.
        let pair = ["left", "right"].map(|name| server.client_as("postgres", "shop", name).unwrap());
        for (session, order) in pair.iter().zip([8001, 8002]) {
            session.execute(&format!("SET deadlock_timeout = '200ms'; BEGIN; {}", update(order))).unwrap();
        }
        let embrace = [pair[0].spawn(&update(8002)), pair[1].spawn(&update(8001))];
        let failed = embrace.iter().filter(|it| it.wait(PATIENCE).is_err()).count();
        assert_eq!(failed, 1, "one of them is the victim");
    });
    let report = watch.end();
    drop(load);
    let after = number(&admin, deadlocks);
    let [found] = report.found(["deadlocks"]);
    found.assert_judged("warning", 2.0, "deadlocks");
    found.assert_says(&[" deadlocks within the last "]);
    found.assert_near(after - before, 0.35);
}

#[test]
fn commits_that_wait_for_a_standby_that_is_not_there_are_counted() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nowhere'").unwrap();
    admin.execute("SELECT pg_reload_conf()").unwrap();
    wait_for(&admin, "the setting", "SELECT current_setting('synchronous_standby_names') = 'nowhere'");
    let [web, cron] = ["web", "cron"].map(|name| application(server, name));
    let commits = [web.spawn(&update(9001)), cron.spawn(&update(9002))];
    let waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_for(&admin, "the commits to wait", &format!("SELECT count(*) = 2 {waiting}"));
    let age = format!("SELECT max(extract(epoch FROM clock_timestamp() - query_start)) {waiting}");
    let before = number(&admin, &age);
    let report = watch("1s", "sync_rep_seconds = { critical = 0.5 }", &[&server.uri("oncall", "shop")]).end();
    let after = number(&admin, &age);
    let [found] = report.found(["sync-rep-stalled"]);
    found.assert_judged("critical", 0.5, "seconds");
    found.assert_says(&["2 commits", "for a synchronous standby to confirm, the longest for "]);
    found.assert_within(before, after);
    admin.execute("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
    admin.execute("SELECT pg_reload_conf()").unwrap();
    for commit in commits {
        commit.wait(PATIENCE).unwrap();
    }
}
