//! Connections near their limit, who holds them, and a pooler in between.

use dbtriage_lab::{Client, PoolMode, Pooler, Postgres};
use pretty_assertions::assert_eq;

use super::alone;
use super::watching::{number, wait_for, watch};

/// How many connections the program has open to one server.
const OWN: usize = 3;

fn sessions(server: &Postgres, application: &str, count: usize) -> Vec<Client> {
    (0..count).map(|_| server.client_as("shop_owner", "shop", application).unwrap()).collect()
}

/// The connections that count while the program has all of its own.
fn in_use(admin: &Client) -> f64 {
    let own = "count(*) FILTER (WHERE application_name = 'dbtriage')";
    wait_for(admin, "all connections", &format!("SELECT {own} = {OWN} FROM pg_stat_activity"));
    number(admin, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
}

fn usable(admin: &Client) -> f64 {
    let sql = "SELECT current_setting('max_connections')::int \
               - current_setting('superuser_reserved_connections')::int \
               - coalesce(current_setting('reserved_connections', true)::int, 0)";
    number(admin, sql)
}

#[test]
fn connections_near_their_limit_are_told_with_who_holds_most_and_how_many_idle() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let _held = sessions(server, "web", 30);
    let target = server.uri("oncall", "shop");
    let watching = watch("1s", "", &[&target]);
    let (used, usable) = (in_use(&admin), usable(&admin));
    let report = watching.end();
    let [near] = report.found(["connections"]);
    near.assert_judged("warning", 80.0, "percent");
    near.assert_near(100.0 * used / usable, 0.001);
    assert_eq!(near.summary, format!("{used} of {usable} usable connections in use: web holds 30"));

    let longest = "SELECT max(extract(epoch FROM clock_timestamp() - state_change)) FROM pg_stat_activity \
                   WHERE application_name = 'web' AND state = 'idle'";
    let before = number(&admin, longest);
    // Of all that idle for so long only those of the application are left.
    drop(admin);
    let report = watch("1s", "idle_sessions_seconds = { notice = 1.0 }", &[&target]).end();
    let after = number(&server.client("postgres", "shop").unwrap(), longest);
    let [_, idle] = report.found(["connections", "idle-sessions"]);
    idle.assert_judged("notice", 1.0, "seconds");
    idle.assert_within(before, after);
    idle.assert_says(&["30 sessions idle for more than 1s, the longest for "]);
}

#[test]
fn an_application_that_holds_most_of_the_connections_is_named_before_they_run_out() {
    let lab = alone();
    let server = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let _held = [sessions(server, "web", 20), sessions(server, "cron", 2)];
    let usable = usable(&admin);
    let report = watch("1s", "", &[&server.uri("oncall", "shop")]).end();
    let [hog] = report.found(["connection-hog"]);
    hog.assert_judged("warning", 50.0, "percent");
    hog.assert_near(100.0 * 20.0 / usable, 0.001);
    assert_eq!(hog.summary, format!("web holds 20 of {usable} usable connections"));
}

#[test]
fn a_pooler_in_between_is_told() {
    let lab = alone();
    let pooler = Pooler::start(lab.primary(), PoolMode::Transaction, 5).unwrap();
    let report = watch("1s", "", &[&pooler.uri("oncall", "shop")]).end();
    let [found] = report.found(["pooler"]);
    found.assert_judged("warning", 1.0, "poolers");
    found.assert_says(&["through a pooler"]);
}
