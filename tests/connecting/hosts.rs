//! Several hosts: the one that is wanted is found in every order, those that are not are told, and after a failover the
//! program is where the new primary is.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use dbtriage::sources::postgres::Cure;
use dbtriage_lab::terminal::{PATIENCE, Tty, rows, until};
use dbtriage_lab::{Lab, Network, Options, Postgres, Proxy};
use pretty_assertions::assert_eq;

use super::{Done, PROGRAM, assert_says, refusal, snapshot};

fn lab_with_standby() -> Lab {
    Lab::start(Options { redis: false, ..Options::default() }).unwrap()
}

static LAB: LazyLock<Lab> = LazyLock::new(lab_with_standby);

fn primary() -> u16 {
    LAB.primary().port
}

fn standby() -> u16 {
    LAB.standby().unwrap().port
}

/// A port on which nobody listens.
fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn conninfo(ports: &[u16], more: &str) -> String {
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!("host={hosts} port={} user=oncall dbname=shop {more}", ports.join(","))
}

fn report(conninfo: &str) -> Done {
    let home = tempfile::tempdir().unwrap();
    snapshot(home.path(), &[conninfo], &[])
}

/// The role of the server that was reached, by its own word.
fn role(done: &Done) -> &str {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let roles = ["primary", "standby"].map(|role| (role, done.stdout.contains(&format!(" {role}  up "))));
    match roles {
        [(role, true), (_, false)] | [(_, false), (role, true)] => role,
        _ => panic!("{} names one role", done.stdout),
    }
}

#[test]
fn the_kind_of_server_that_is_wanted_is_found_in_every_order() {
    let (a, b, down) = (primary(), standby(), closed());
    let cases: Vec<(&str, Vec<u16>, &str)> = vec![
        ("any", vec![a, b], "primary"),
        ("any", vec![b, a], "standby"),
        ("any", vec![down, b], "standby"),
        ("read-write", vec![b, a], "primary"),
        ("read-write", vec![a, b], "primary"),
        ("read-only", vec![a, b], "standby"),
        ("read-only", vec![b, a], "standby"),
        ("primary", vec![b, a], "primary"),
        ("primary", vec![down, b, a], "primary"),
        ("standby", vec![a, b], "standby"),
        ("standby", vec![a, down, b], "standby"),
        ("prefer-standby", vec![a, b], "standby"),
        ("prefer-standby", vec![a, down], "primary"),
        ("prefer-standby", vec![down, a], "primary"),
    ];
    // As many at once as the machine has cores for.
    for cases in cases.chunks(3) {
        std::thread::scope(|scope| {
            for (attrs, ports, wanted) in cases {
                scope.spawn(move || {
                    let conninfo = conninfo(ports, &format!("target_session_attrs={attrs}"));
                    assert_eq!(role(&report(&conninfo)), *wanted, "{conninfo}, primary {a}, standby {b}");
                });
            }
        });
    }
}

#[test]
fn the_wanted_kind_of_server_may_stand_in_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let ports = format!("{},{}", primary(), standby());
    let environment = [
        ("PGHOST", "127.0.0.1,127.0.0.1"),
        ("PGPORT", &ports),
        ("PGUSER", "oncall"),
        ("PGDATABASE", "shop"),
        ("PGTARGETSESSIONATTRS", "standby"),
    ];
    assert_eq!(role(&snapshot(home.path(), &[], &environment)), "standby");
}

#[test]
fn a_report_names_the_server_that_it_is_about() {
    let done = report(&conninfo(&[closed(), standby()], "target_session_attrs=standby"));
    let line = done.stdout.lines().find(|line| line.contains(" standby  up ")).unwrap();
    assert!(line.starts_with(&format!("127.0.0.1:{}/shop", standby())), "{line:?}");
}

#[test]
fn every_host_that_did_not_let_us_in_is_told_with_its_reason() {
    let (down, other) = (closed(), closed());
    let done = report(&conninfo(&[down, other], ""));
    assert_eq!(done.code, Some(3));
    let both = [format!("127.0.0.1:{down}"), format!("127.0.0.1:{other}")];
    assert_says(&done.stderr, &[&both[0], &both[1], "Connection refused"], "two that are down");

    // The host that is down is not what one has to change.
    let done = report(&conninfo(&[down, primary()], "user=nobody_at_all"));
    assert_eq!(done.code, Some(3));
    let words = [both[0].as_str(), "Connection refused", "role \"nobody_at_all\" does not exist"];
    assert_says(&done.stderr, &words, "one down, one refuses");
}

#[test]
fn a_kind_of_server_that_is_not_there_is_told_with_every_host() {
    let down = closed();
    let names = [format!("127.0.0.1:{}", primary()), format!("127.0.0.1:{down}")];
    for ports in [[primary(), down], [down, primary()]] {
        let done = report(&conninfo(&ports, "target_session_attrs=standby"));
        assert_eq!(done.code, Some(3));
        let words =
            [names[0].as_str(), "is not a standby", "target_session_attrs", &names[1], "Connection refused"];
        assert_says(&done.stderr, &words, &format!("{ports:?}"));
    }
}

#[test]
fn a_host_that_swallows_everything_holds_up_no_longer_than_the_limit() {
    let swallowing = Proxy::start(primary()).unwrap();
    swallowing.set(Network::BlackHole);
    let started = Instant::now();
    let done = report(&conninfo(&[swallowing.port, primary()], "connect_timeout=2"));
    assert_eq!(role(&done), "primary");
    let taken = started.elapsed();
    assert!(Duration::from_secs(2) <= taken && taken < Duration::from_secs(6), "{taken:?}");
}

#[test]
fn after_a_failover_the_program_is_live_on_the_new_primary_by_itself() {
    let lab = lab_with_standby();
    let (old, new) = (lab.primary(), lab.standby().unwrap());
    let conninfo = conninfo(&[old.port, new.port], "target_session_attrs=primary");
    let mut tty = Tty::start(PROGRAM, (160, 45), &[&conninfo]);
    tty.wait_for("the old primary", PATIENCE, |screen| {
        let first = &rows(screen)[0];
        first.contains("● live") && first.contains("primary")
    });
    old.stop("fast").unwrap();
    tty.wait_for("the loss to be told", PATIENCE, |screen| rows(screen)[0].contains('○'));
    // Both are named: the one that is gone, and the one that will not do yet.
    tty.wait_for_text("Connection refused");
    new.promote().unwrap();
    let promoted = Instant::now();
    let live = tty.wait_for("the new primary", PATIENCE, |screen| {
        let first = &rows(screen)[0];
        first.contains("● live") && first.contains("primary")
    });
    let taken = live.saturating_duration_since(promoted);
    // The longest pause between two attempts is 15 s.
    assert!(taken < Duration::from_secs(16), "{taken:?}");
    // All three connections are with the new one.
    let second = new.client("postgres", "shop").unwrap();
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbtriage'";
    until("all three connections", PATIENCE, || second.cell(ours).unwrap() == "3");
    let first = tty.rows()[0].clone();
    assert!(first.contains(&format!(":{}", new.port)), "{first:?} names the new primary");
    assert!(!first.contains(&format!(":{}", old.port)), "{first:?} names no server that is down");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_of_several_hosts_only_needs_time_the_program_waits() {
    // A role that has as many sessions as it may have: a place will be free again.
    let admin = LAB.primary().client("postgres", "shop").unwrap();
    admin.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0").unwrap();
    let (full, down) = (primary(), closed());
    for (ports, attrs) in [([full, down], "primary"), ([down, full], "primary"), ([down, full], "any")] {
        let more = format!("user=crowded target_session_attrs={attrs}");
        let error = refusal(&conninfo(&ports, &more), &[]).await;
        assert_eq!(error.cure, Cure::Wait, "{ports:?}: {}", error.reason);
        let words = ["too many connections for role", "Connection refused"];
        assert_says(&error.reason.to_string(), &words, &format!("{ports:?}"));
    }
}

/// As libpq: a server that is full is the one that was meant. Its standby must not be taken for it without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_is_not_exchanged_for_the_next() {
    let admin = LAB.primary().client("postgres", "shop").unwrap();
    admin.execute("CREATE ROLE crowded_out LOGIN CONNECTION LIMIT 0").unwrap();
    let error = refusal(&conninfo(&[primary(), standby()], "user=crowded_out"), &[]).await;
    assert_says(&error.reason.to_string(), &[&format!("127.0.0.1:{}", primary()), "too many"], "full");
    assert!(!error.reason.to_string().contains(&format!(":{}", standby())), "{}", error.reason);
}

fn own_sessions(server: &Postgres) -> usize {
    let second = server.client("postgres", "shop").unwrap();
    let ours =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbtriage' AND state IS NOT NULL";
    second.cell(ours).unwrap().parse().unwrap()
}

/// Behind one name, or one address, there may be several servers: whose sessions are shown, whose locks, and whose
/// session would be ended must be one.
#[test]
fn behind_a_balancer_all_three_connections_are_with_one_server() {
    let lab = lab_with_standby();
    let (one, other) = (lab.primary(), lab.standby().unwrap());
    let balancer = Proxy::balance(vec![one.port, other.port]).unwrap();
    let mut tty = Tty::start(PROGRAM, (160, 45), &[&conninfo(&[balancer.port], "")]);
    tty.wait_for("a live screen over three connections", PATIENCE, |screen| {
        let first = &rows(screen)[0];
        first.contains("● live") && !first.contains(" of 3 connections")
    });
    let read = if tty.rows()[0].contains(" primary ") { [one, other] } else { [other, one] };
    until("all three on the server that is read", PATIENCE, || own_sessions(read[0]) == 3);
    until("none on the other", PATIENCE, || own_sessions(read[1]) == 0);
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}
