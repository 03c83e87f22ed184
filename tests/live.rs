//! Real servers: what the program says about each incident of the lab, against what a second client reads on the
//! same server, and what the connections do while catalogs are locked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "deadlines need the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc as plain};
use std::time::{Duration, Instant};

use dbtriage::model::action::{Action, ActionReply};
use dbtriage::model::postgres::{LockTable, Sample as PgSample, Session, SessionId, State};
use dbtriage::model::{Body, Kind, Reading, Reason, Sample, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::postgres::{self, Handle, settings};
use dbtriage_lab::{Client, Lab, Options, Postgres, Scenario};
use jiff::{SignedDuration, Timestamp};
use pretty_assertions::assert_eq;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

/// The interval of the samples.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a state may take to show, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A primary, a standby and a Redis, on which the incidents are played, one at a time.
static SHOP: LazyLock<Mutex<Lab>> = LazyLock::new(|| Mutex::new(Lab::start(Options::default()).unwrap()));

/// A primary on which nothing happens, and which logs every statement.
static QUIET: LazyLock<Mutex<Lab>> = LazyLock::new(|| {
    let settings = vec![("log_statement".to_owned(), "all".to_owned())];
    Mutex::new(Lab::start(Options { standby: false, redis: false, settings, ..Options::default() }).unwrap())
});

fn take(lab: &'static Mutex<Lab>) -> MutexGuard<'static, Lab> {
    // A test that failed leaves the servers as good as they were: its load was dropped.
    lab.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at a condition until it holds.
fn until(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < limit, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the program printed.
#[derive(Debug)]
struct Report {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the program with nothing of this machine around it.
fn dbtriage(arguments: &[&str]) -> Report {
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_dbtriage"))
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    let (sender, receiver) = plain::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(Duration::from_secs(60)) else {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        panic!("dbtriage {arguments:?} did not end");
    };
    let output = output.unwrap();
    Report {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The report of `dbtriage snapshot --format json`, which must succeed.
fn snapshot(arguments: &[&str]) -> Value {
    let report =
        dbtriage(&[&["snapshot", "-w", "--format", "json", "--interval", "500ms"], arguments].concat());
    assert_eq!(report.code, Some(0), "{}", report.stderr);
    serde_json::from_str(&report.stdout).unwrap()
}

/// The first target of a snapshot.
fn look_at(server: &Postgres, user: &str) -> Value {
    snapshot(&[&server.conninfo(user, "shop")])["targets"][0].take()
}

/// A look at a server at rest: what `truth` reads is the same before and after.
fn at_rest(client: &Client, truth: &str, mut look: impl FnMut() -> Value) -> (Rows, Value) {
    let started = Instant::now();
    loop {
        let before = client.rows(truth).unwrap();
        let report = look();
        if before == client.rows(truth).unwrap() {
            return (before, report);
        }
        assert!(started.elapsed() < PATIENCE, "the server does not come to rest: {truth}");
    }
}

type Rows = Vec<Vec<Option<String>>>;

fn float(client: &Client, sql: &str) -> f64 {
    client.cell(sql).unwrap().parse().unwrap()
}

/// The server's version, as `server_version_num` has it.
fn version(client: &Client) -> u32 {
    client.cell("SHOW server_version_num").unwrap().parse().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn pids(value: &Value) -> Vec<i64> {
    list(value).iter().map(|it| it.as_i64().unwrap()).collect()
}

fn sorted(pids: &[i32]) -> Vec<i64> {
    let set: BTreeSet<i64> = pids.iter().map(|pid| i64::from(*pid)).collect();
    set.into_iter().collect()
}

/// `{1,2}`, as PostgreSQL writes an array, sorted and each once.
fn array(text: &str) -> Vec<i64> {
    let numbers = text.trim_matches(['{', '}']).split(',').filter(|it| !it.is_empty());
    let set: BTreeSet<i64> = numbers.map(|it| it.parse().unwrap()).collect();
    set.into_iter().collect()
}

fn session_of(target: &Value, pid: i32) -> &Value {
    list(&target["sessions"])
        .iter()
        .find(|session| session["pid"] == pid)
        .unwrap_or_else(|| panic!("no session {pid}"))
}

fn findings<'a>(target: &'a Value, check: &str) -> Vec<&'a Value> {
    list(&target["findings"]).iter().filter(|finding| finding["check"] == check).collect()
}

/// Every node under a root.
fn waiters<'a>(node: &'a Value, all: &mut Vec<&'a Value>) {
    for child in list(&node["children"]) {
        all.push(child);
        waiters(child, all);
    }
}

fn assert_between(what: &str, low: f64, value: &Value, high: f64) {
    let seen = value.as_f64().unwrap_or_else(|| panic!("{what} is {value}"));
    assert!(low <= seen && seen <= high, "{what}: {low} <= {seen} <= {high}");
}

// The incidents.

const BLOCKED: &str = "SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity \
                       WHERE cardinality(pg_blocking_pids(pid)) > 0 ORDER BY pid";

/// Who waits for whom, whichever of the two goes first.
fn pairs(blockers: &BTreeMap<i64, Vec<i64>>) -> BTreeSet<[i64; 2]> {
    let pairs = blockers.iter().flat_map(|(pid, by)| by.iter().map(|by| [*pid.min(by), *pid.max(by)]));
    pairs.collect()
}

#[test]
fn a_lock_pileup_is_a_tree_under_its_root() {
    let lab = take(&SHOP);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let load = lab.play(Scenario::LockPileup).unwrap();
    let root_pid = load.facts.root_pid.unwrap();
    let (truth, target) = at_rest(&client, BLOCKED, || look_at(lab.primary(), "oncall"));

    let locks = &target["locks"];
    assert_eq!(truth.len(), 36);
    assert_eq!(locks["blocked_sessions"], truth.len());
    assert_eq!(target["vitals"]["blocked"], truth.len());
    let [root] = list(&locks["roots"]) else { panic!("not one root: {locks}") };
    assert_eq!(root["kind"], "session");
    assert_eq!(root["pid"], root_pid);
    assert_eq!(root["blocked_total"], truth.len());
    assert_eq!(root["advice"]["action"], "terminate");
    assert_eq!(root["advice"]["pid"], root_pid);

    let mut nodes = Vec::new();
    waiters(root, &mut nodes);
    let mut blocked: Vec<i64> = nodes.iter().map(|node| node["pid"].as_i64().unwrap()).collect();
    blocked.sort_unstable();
    assert_eq!(blocked, sorted(&load.facts.blocked_pids));
    let blockers: BTreeMap<i64, Vec<i64>> = truth
        .iter()
        .map(|row| (row[0].as_ref().unwrap().parse().unwrap(), array(row[1].as_ref().unwrap())))
        .collect();
    let told: BTreeMap<i64, Vec<i64>> = list(&target["sessions"])
        .iter()
        .map(|session| (session["pid"].as_i64().unwrap(), pids(&session["blocked_by"])))
        .filter(|(_, by)| !by.is_empty())
        .collect();
    if version(&client) >= 140_000 {
        assert_eq!(told, blockers);
    } else {
        // The server tells who stands in a queue, but not in which order.
        assert_eq!(told.keys().collect::<Vec<_>>(), blockers.keys().collect::<Vec<_>>());
        assert_eq!(pairs(&told), pairs(&blockers));
    }
    assert_eq!(session_of(&target, root_pid)["blocks_total"], truth.len());
    assert_eq!(session_of(&target, root_pid)["state"], "idle in transaction");

    let [finding] = findings(&target, "blocking")[..] else { panic!("{}", target["findings"]) };
    assert_eq!(finding["pid"], root_pid);
    assert!(finding["summary"].as_str().unwrap().starts_with(&root_pid.to_string()), "{finding}");
}

#[test]
fn a_waiter_tells_what_it_waits_for() {
    let lab = take(&SHOP);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let _load = lab.play(Scenario::LockPileup).unwrap();
    // Since when it waits, or what the server can tell instead.
    let since = if version(&client) >= 140_000 { "waitstart" } else { "query_start" };
    // The relation of a tuple lock and of a table lock; a wait for a transaction has none.
    let truth = format!(
        "SELECT pid, locktype, mode, coalesce(relation::regclass::text, 'tx ' || transactionid), \
         extract(epoch FROM clock_timestamp() - {since}) > 0 \
         FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted ORDER BY pid"
    );
    let (truth, target) = at_rest(&client, &truth, || look_at(lab.primary(), "oncall"));
    let mut nodes = Vec::new();
    for root in list(&target["locks"]["roots"]) {
        waiters(root, &mut nodes);
    }
    assert_eq!(nodes.len(), truth.len());
    for row in &truth {
        let row: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap()).collect();
        let pid: i64 = row[0].parse().unwrap();
        let node = nodes.iter().find(|node| node["pid"] == pid).unwrap();
        let wait = &node["waits_for"];
        assert_eq!((&wait["lock_type"], &wait["mode"]), (&Value::from(row[1]), &Value::from(row[2])));
        assert!(wait["object"].as_str().unwrap().ends_with(row[3]), "{wait} is not {}", row[3]);
        assert!(node["wait_seconds"].as_f64().unwrap() > 0.0, "{node}");
    }
}

#[test]
fn a_lock_pileup_reads_well_as_text() {
    let lab = take(&SHOP);
    let load = lab.play(Scenario::LockPileup).unwrap();
    let root = load.facts.root_pid.unwrap();
    let report =
        dbtriage(&["snapshot", "-w", "--interval", "500ms", &lab.primary().conninfo("oncall", "shop")]);
    assert_eq!(report.code, Some(0), "{}", report.stderr);
    let line = |part: &str| report.stdout.lines().find(|line| line.contains(part)).unwrap_or_default();
    let blocks = line("blocks 36 sessions");
    assert!(blocks.contains(&format!("{root} reports-worker, idle in transaction")), "{}", report.stdout);
    let advice = line("advice:");
    assert!(advice.contains(&format!("terminate {root} frees")), "{}", report.stdout);
    assert!(line("36 sessions wait").contains("locks:"), "{}", report.stdout);
    assert_eq!(report.stderr, "");
}

#[test]
fn a_connection_spike_names_its_holder_and_the_slower_statement() {
    let lab = take(&SHOP);
    let client = lab.primary().client("postgres", "shop").unwrap();
    client.execute("SELECT pg_stat_statements_reset()").unwrap();
    let load = lab.play(Scenario::ConnectionSpike).unwrap();
    let truth = "SELECT count(*) FILTER (WHERE application_name = 'reports-worker'), count(*) \
                 FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'dbtriage'";
    let (truth, target) = at_rest(&client, truth, || look_at(lab.primary(), "oncall"));
    let truth: Vec<usize> = truth[0].iter().map(|it| it.as_ref().unwrap().parse().unwrap()).collect();
    assert_eq!(truth[0], load.facts.pids.len());
    let is_own = |session: &&Value| session["application"] == "dbtriage";
    let own = list(&target["sessions"]).iter().filter(is_own).count();
    assert!((1..=3).contains(&own), "{own} connections of our own");
    assert_eq!(target["vitals"]["connections"], truth[1] + own);

    let [finding] = findings(&target, "connections")[..] else { panic!("{}", target["findings"]) };
    assert_eq!(finding["severity"], "critical");
    let usable = target["server"]["usable_connections"].as_u64().unwrap();
    let summary = format!(
        "{} of {usable} usable connections in use: reports-worker holds {}",
        truth[1] + own,
        truth[0]
    );
    assert_eq!(finding["summary"], summary.as_str());
    assert_eq!(usable, 97);

    let fragment = load.facts.query.as_deref().unwrap();
    // The first of the slow statements ends after three seconds, and only then it counts.
    until("the statement that became slow", PATIENCE, || {
        let target = look_at(lab.primary(), "oncall");
        list(&target["statements"]).iter().take(3).any(|row| {
            row["query"].as_str().is_some_and(|query| query.contains(fragment))
                && row["slowdown"].as_f64().is_some_and(|times| times > 3.0)
                && row["mean_ms"].as_f64().is_some_and(|mean| mean > 1000.0)
        })
    });
}

#[test]
fn sessions_idle_in_transaction_are_found_by_the_limits_of_the_config() {
    let lab = take(&SHOP);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let load = lab.play(Scenario::IdleInTransaction).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let limits = "[thresholds]\nidle_in_transaction_seconds = { warning = 0.0, critical = 3600.0 }\n";
    std::fs::write(&config, limits).unwrap();
    let conninfo = lab.primary().conninfo("oncall", "shop");
    let config = config.to_str().unwrap();
    let oldest = "SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity \
                  WHERE state LIKE 'idle in transaction%'";
    let before = float(&client, oldest);
    let truth = "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' ORDER BY pid";
    let (truth, target) =
        at_rest(&client, truth, || snapshot(&["--config", config, &conninfo])["targets"][0].take());
    let after = float(&client, oldest);

    assert_eq!(truth.len(), load.facts.pids.len());
    assert_eq!(target["vitals"]["idle_in_transaction"], truth.len());
    assert_between("oldest transaction", before, &target["vitals"]["oldest_transaction_seconds"], after);
    let found = findings(&target, "idle-in-transaction");
    assert!(found.iter().all(|finding| finding["severity"] == "warning"), "{found:?}");
    let mut named: Vec<i64> = found.iter().map(|finding| finding["pid"].as_i64().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, sorted(&load.facts.pids));
    let summaries = found.iter().map(|finding| finding["summary"].as_str().unwrap());
    assert!(summaries.into_iter().all(|text| text.contains("billing, idle in transaction")), "{found:?}");
    for pid in load.facts.pids.iter().copied() {
        let session = session_of(&target, pid);
        assert_eq!(
            (&session["state"], &session["application"]),
            (&"idle in transaction".into(), &"billing".into())
        );
        assert!(session["query"].as_str().unwrap().contains(load.facts.query.as_deref().unwrap()));
    }

    // The defaults have more patience.
    assert_eq!(findings(&look_at(lab.primary(), "oncall"), "idle-in-transaction"), Vec::<&Value>::new());
}

#[test]
fn slow_queries_show_what_they_run_and_since_when() {
    let lab = take(&SHOP);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let load = lab.play(Scenario::SlowQuery).unwrap();
    let stamp =
        |column: &str| format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')");
    let has_query_id = version(&client) >= 140_000;
    let query_id = if has_query_id { "query_id" } else { "NULL" };
    let truth = format!(
        "SELECT pid, {}, {}, {}, {}, usename, datname, host(client_addr), {query_id} FROM pg_stat_activity \
         WHERE application_name = 'reports-worker' AND state = 'active' ORDER BY pid",
        stamp("backend_start"),
        stamp("xact_start"),
        stamp("query_start"),
        stamp("state_change")
    );
    let (truth, target) = at_rest(&client, &truth, || look_at(lab.primary(), "oncall"));
    assert_eq!(truth.len(), load.facts.pids.len());
    for row in &truth {
        let (query_id, row) = row.split_last().unwrap();
        let row: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap()).collect();
        let session = session_of(&target, row[0].parse().unwrap());
        let columns = ["backend_start", "xact_start", "query_start", "state_change"];
        for (column, expected) in columns.iter().zip(&row[1..5]) {
            assert_eq!(session[column], *expected, "{column} of {}", row[0]);
        }
        let query_id = query_id.as_ref().map(|id| id.parse::<i64>().unwrap());
        assert_eq!(session["query_id"], Value::from(query_id));
        assert_eq!(query_id.is_some(), has_query_id);
        let who: Vec<&str> =
            ["user", "database", "client"].iter().map(|column| session[column].as_str().unwrap()).collect();
        assert_eq!(who, row[5..8]);
        assert_eq!(session["state"], "active");
        assert_eq!(session["application"], "reports-worker");
        assert!(session["query"].as_str().unwrap().contains(load.facts.query.as_deref().unwrap()));
    }
    assert_eq!(target["vitals"]["active"], truth.len());
    let wait = list(&target["waits"]).iter().find(|wait| wait["event"] == "PgSleep").unwrap();
    assert_eq!(wait["class"], "Timeout");
    // Between two sleeps a session may be caught computing.
    assert_between("sessions asleep", 2.0, &wait["average_active_sessions"], 4.0);
}

#[test]
fn an_operation_spike_is_counted_per_second() {
    let lab = take(&SHOP);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let load = lab.play(Scenario::OperationSpike).unwrap();
    let fragment = load.facts.query.as_deref().unwrap();
    let calls = || {
        let sql = format!(
            "SELECT sum(calls), extract(epoch FROM clock_timestamp()) FROM pg_stat_statements \
             WHERE query LIKE '{fragment}%'"
        );
        let row = client.rows(&sql).unwrap().remove(0);
        let numbers: Vec<f64> = row.iter().map(|it| it.as_ref().unwrap().parse().unwrap()).collect();
        (numbers[0], numbers[1])
    };
    let before = calls();
    let report = snapshot(&["--ticks", "5", &lab.primary().conninfo("oncall", "shop")]);
    let after = calls();

    let seconds = report["interval_seconds"].as_f64().unwrap();
    let rows = list(&report["targets"][0]["statements"]);
    let row = rows
        .iter()
        .find(|row| row["query"].as_str().is_some_and(|query| query.contains(fragment)))
        .unwrap_or_else(|| panic!("not among {} statements", rows.len()));
    let rate = row["calls_per_second"].as_f64().unwrap();
    // No more calls than there were around the snapshot, and about as many per second.
    assert!(rate * seconds <= after.0 - before.0, "{rate}/s over {seconds}s, {before:?} to {after:?}");
    let mean = (after.0 - before.0) / (after.1 - before.1);
    assert!((0.6..1.6).contains(&(rate / mean)), "{rate}/s, on average {mean}/s");
    assert!(mean > 100.0, "no spike: {mean}/s");
    assert_eq!((&row["user"], &row["database"]), (&"shop_owner".into(), &"shop".into()));
    assert_between("rows per call", 0.99, &row["rows_per_call"], 1.01);
    let exec = row["exec_ms_per_second"].as_f64().unwrap();
    assert_between("mean", exec / rate * 0.999, &row["mean_ms"], exec / rate * 1.001);
    let tps = report["targets"][0]["vitals"]["transactions_per_second"].as_f64().unwrap();
    // Two statements per order, each a transaction, and what the snapshot itself does.
    assert!(tps > rate, "{tps} transactions, {rate} calls per second");
}

#[test]
fn a_standby_that_does_not_replay_falls_behind() {
    let lab = take(&SHOP);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let _load = lab.play(Scenario::ReplicationLag).unwrap();
    let bytes = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication";
    let seconds = "SELECT coalesce(extract(epoch FROM replay_lag), 0) FROM pg_stat_replication";
    until("the primary to know a lag in seconds", PATIENCE, || float(&client, seconds) > 0.5);

    // Nothing is replayed, so that all of them only grow.
    let before = [bytes, seconds].map(|sql| float(&client, sql));
    let target = look_at(lab.primary(), "oncall");
    let after = [bytes, seconds].map(|sql| float(&client, sql));
    let [standby] = list(&target["replication"]["standbys"]) else { panic!("{}", target["replication"]) };
    assert_eq!(standby["application"], "standby");
    assert_eq!(standby["state"], "streaming");
    assert_between("replay lag in bytes", before[0], &standby["replay_lag_bytes"], after[0]);
    assert_between("replay lag in seconds", before[1], &standby["replay_lag_seconds"], after[1]);
    assert_eq!(standby["catch_up_seconds"], Value::Null);
    let [slot] = list(&target["replication"]["slots"]) else { panic!("{}", target["replication"]) };
    assert_eq!(
        (&slot["name"], &slot["kind"], &slot["active"]),
        (&"standby".into(), &"physical".into(), &true.into())
    );
    assert_eq!(slot["wal_status"], "reserved");
    assert_eq!(target["replication"]["recovery"], Value::Null);
    assert_eq!(target["server"]["role"], "primary");
}

#[test]
fn a_standby_tells_that_its_replay_is_paused() {
    let lab = take(&SHOP);
    let standby = lab.standby().unwrap();
    let client = standby.client("postgres", "shop").unwrap();
    let _load = lab.play(Scenario::ReplicationLag).unwrap();
    let bytes = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())";
    let replayed = client.cell("SELECT pg_last_wal_replay_lsn()").unwrap();
    let before = float(&client, bytes);
    let target = look_at(standby, "oncall");
    let after = float(&client, bytes);
    assert_eq!(target["server"]["role"], "standby");
    let recovery = &target["replication"]["recovery"];
    assert_eq!(recovery["paused"], true);
    assert_eq!(recovery["receiver"]["status"], "streaming");
    assert_eq!(recovery["replayed_lsn"], replayed.as_str());
    assert_between("replay lag in bytes", before, &recovery["replay_lag_bytes"], after);
    assert!(recovery["replay_lag_seconds_at_most"].as_f64().unwrap() > 0.0, "{recovery}");
    assert_eq!(list(&target["replication"]["standbys"]).len(), 0);
    assert_eq!(target["vitals"]["blocked"], 0);
}

#[test]
fn a_cache_that_fails_misses_and_evicts() {
    let lab = take(&SHOP);
    let redis = lab.redis().unwrap();
    let _load = lab.play(Scenario::CacheFailure).unwrap();
    let counters = || {
        let reply = redis.command(&["INFO", "stats"]).unwrap();
        let info: redis::InfoDict = redis::from_redis_value(reply).unwrap();
        ["keyspace_hits", "keyspace_misses", "evicted_keys"].map(|name| info.get::<u32>(name).unwrap())
    };
    let before = counters();
    let report = snapshot(&["--ticks", "4", &redis.url()]);
    let after = counters();
    let seconds = report["interval_seconds"].as_f64().unwrap();
    let target = &report["targets"][0];
    assert_eq!((&target["kind"], &target["status"]), (&"redis".into(), &"ok".into()));
    let cache = &target["cache"];
    // The reader never fills the cache again: nothing but misses.
    assert_eq!(after[0], before[0]);
    assert_eq!(cache["hit_ratio"], 0.0);
    let rates = ["hits_per_second", "misses_per_second", "evictions_per_second"];
    let grown = rates.map(|rate| cache[rate].as_f64().unwrap() * seconds);
    for (place, grown) in grown.iter().enumerate() {
        assert!(*grown <= f64::from(after[place] - before[place]) + 1e-6, "{}: {grown}", rates[place]);
    }
    assert!(grown[1] >= 1.0 && grown[2] >= 1.0, "{cache}");
    assert_eq!(target["memory"]["limit_bytes"], 20 * 1024 * 1024);
    assert_eq!(target["memory"]["policy"], "allkeys-lru");
}

#[test]
fn a_deadlock_is_a_root_until_the_server_ends_it() {
    let lab = take(&SHOP);
    let load = lab.play(Scenario::Deadlock).unwrap();
    // It lasts for a second of each one and a half.
    until("a deadlock", PATIENCE, || {
        let target = look_at(lab.primary(), "oncall");
        let roots = list(&target["locks"]["roots"]).to_vec();
        let Some(root) = roots.iter().find(|root| root["kind"] == "deadlock") else { return false };
        let mut members = pids(&root["members"]);
        members.sort_unstable();
        assert_eq!(members, sorted(&load.facts.pids));
        assert_eq!(root["advice"]["action"], "wait");
        assert_eq!(root["pid"], Value::Null);
        for (one, other) in [(0, 1), (1, 0)] {
            let session = session_of(&target, load.facts.pids[one]);
            assert_eq!(pids(&session["blocked_by"]), [i64::from(load.facts.pids[other])]);
        }
        true
    });
}

// The contract of the report.

fn assert_keys(what: &str, value: &Value, expected: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("{what} is {value}"));
    let seen: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(seen, expected.iter().copied().collect::<BTreeSet<_>>(), "keys of {what}");
}

/// The keys of every entry of a list that has at least one.
fn assert_list(what: &str, value: &Value, expected: &[&str]) {
    assert!(!list(value).is_empty(), "no {what} to look at");
    for entry in list(value) {
        assert_keys(what, entry, expected);
    }
}

const ROOT: [&str; 11] = [
    "kind",
    "pid",
    "gid",
    "members",
    "state",
    "blocked_total",
    "blocked_direct",
    "frees_now",
    "longest_wait_seconds",
    "advice",
    "children",
];
const WAITER: [&str; 9] = [
    "pid",
    "kind",
    "members",
    "waits_for",
    "wait_seconds",
    "also_behind",
    "blocked_total",
    "frees_now",
    "children",
];
const RECOVERY: [&str; 9] = [
    "receiver",
    "received_lsn",
    "replayed_lsn",
    "replay_lag_bytes",
    "replay_lag_seconds",
    "replay_lag_seconds_at_most",
    "last_replayed_at",
    "paused",
    "waiting_on",
];

#[test]
fn the_keys_of_a_snapshot_are_the_contract() {
    let lab = take(&SHOP);
    let _load = lab.play(Scenario::LockPileup).unwrap();
    let (primary, standby) = (lab.primary(), lab.standby().unwrap());
    let conninfos = [primary, standby].map(|server| server.conninfo("oncall", "shop"));
    let report = snapshot(&[&conninfos[0], &conninfos[1], "--redis", &lab.redis().unwrap().url()]);
    assert_keys("report", &report, &["schema", "taken_at", "interval_seconds", "targets"]);
    assert_eq!(report["schema"], "dbtriage.snapshot/1");
    let taken_at = report["taken_at"].as_str().unwrap();
    let parsed: Timestamp = taken_at.parse().unwrap();
    assert_eq!(parsed.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(), taken_at);
    let [target, standby, redis] = list(&report["targets"]) else { panic!("not three targets") };
    assert_postgres_keys(target);
    assert_postgres_keys(standby);
    assert_incident_keys(target);
    let recovery = &standby["replication"]["recovery"];
    assert_keys("recovery", recovery, &RECOVERY);
    assert_keys("receiver", &recovery["receiver"], &["status", "upstream", "last_message_at"]);
    assert_redis_keys(redis);
}

fn assert_postgres_keys(target: &Value) {
    let keys = "name kind status error server vitals sessions locks statements replication cache waits findings \
                unavailable";
    assert_keys("target", target, &keys.split_whitespace().collect::<Vec<_>>());
    assert_eq!((&target["kind"], &target["status"]), (&"postgres".into(), &"ok".into()));
    let server = ["version", "version_num", "role", "started_at", "max_connections", "usable_connections"];
    assert_keys("server", &target["server"], &server);
    let vitals = "connections active blocked idle_in_transaction oldest_transaction_seconds \
                  transactions_per_second rollback_ratio buffer_hit_ratio";
    assert_keys("vitals", &target["vitals"], &vitals.split_whitespace().collect::<Vec<_>>());
    let session = "pid backend_start backend_type user database application client state wait_event_type \
                   wait_event xact_start query_start state_change query_id query blocked_by blocks_total";
    assert_list("sessions", &target["sessions"], &session.split_whitespace().collect::<Vec<_>>());
    assert_keys("locks", &target["locks"], &["blocked_sessions", "roots"]);
    assert_keys("replication", &target["replication"], &["standbys", "slots", "recovery"]);
    let cache =
        ["buffer_hit_ratio", "blocks_hit_per_second", "blocks_read_per_second", "temp_bytes_per_second"];
    assert_keys("cache", &target["cache"], &cache);
    assert_eq!(target["error"], Value::Null);
}

fn assert_incident_keys(target: &Value) {
    let roots = &target["locks"]["roots"];
    assert_list("roots", roots, &ROOT);
    assert_keys("advice", &roots[0]["advice"], &["action", "pid", "reason"]);
    let mut nodes = Vec::new();
    waiters(&roots[0], &mut nodes);
    for node in nodes {
        assert_keys("waiter", node, &WAITER);
        assert_keys("wait", &node["waits_for"], &["lock_type", "mode", "object", "held_by"]);
    }
    let statement = "query_id user database toplevel calls_per_second exec_ms_per_second mean_ms \
                     mean_ms_since_reset slowdown rows_per_call hit_ratio temp_blocks_per_second query";
    assert_list("statements", &target["statements"], &statement.split_whitespace().collect::<Vec<_>>());
    let standby = "application client state sync_state sent_lag_bytes write_lag_bytes flush_lag_bytes \
                   replay_lag_bytes replay_lag_seconds catch_up_seconds";
    let standby: Vec<_> = standby.split_whitespace().collect();
    assert_list("standbys", &target["replication"]["standbys"], &standby);
    let slot = ["name", "kind", "active", "wal_status", "retained_bytes", "safe_wal_bytes"];
    assert_list("slots", &target["replication"]["slots"], &slot);
    assert_list("waits", &target["waits"], &["class", "event", "average_active_sessions"]);
    let finding = ["check", "severity", "summary", "since", "pid", "help", "evidence"];
    assert_list("findings", &target["findings"], &finding);
    assert_keys("evidence", &target["findings"][0]["evidence"], &["value", "threshold", "unit"]);
    assert_eq!(roots[0]["gid"], Value::Null);
    assert_eq!(target["replication"]["recovery"], Value::Null);
    // What a background process has not is unknown, not empty.
    let sessions = list(&target["sessions"]);
    let writer = sessions.iter().find(|session| session["backend_type"] == "walwriter").unwrap();
    for key in ["user", "database", "client", "state", "xact_start", "query_start", "query_id"] {
        assert_eq!(writer[key], Value::Null, "{key}");
    }
}

fn assert_redis_keys(target: &Value) {
    let keys = "name kind status error server cache memory clients load replication findings unavailable";
    assert_keys("target", target, &keys.split_whitespace().collect::<Vec<_>>());
    assert_keys("server", &target["server"], &["version", "role", "mode", "run_id", "started_at"]);
    let cache = "hit_ratio hits_per_second misses_per_second evictions_per_second expirations_per_second";
    assert_keys("cache", &target["cache"], &cache.split_whitespace().collect::<Vec<_>>());
    let memory = ["used_bytes", "limit_bytes", "policy", "fragmentation_ratio"];
    assert_keys("memory", &target["memory"], &memory);
    assert_keys("clients", &target["clients"], &["connected", "blocked", "limit", "rejected_per_second"]);
    let load = ["commands_per_second", "main_thread_cpu_ratio", "ping_seconds"];
    assert_keys("load", &target["load"], &load);
    assert_keys("replication", &target["replication"], &["link", "lag_bytes", "replicas"]);
    // Nobody looked anything up: there is no ratio, not a ratio of zero.
    assert_eq!(target["cache"]["hits_per_second"], 0.0);
    assert_eq!(target["cache"]["hit_ratio"], Value::Null);
}

#[test]
fn rates_of_a_single_sample_are_unknown() {
    let lab = take(&SHOP);
    let conninfo = lab.primary().conninfo("oncall", "shop");
    let report = snapshot(&["--ticks", "1", &conninfo, "--redis", &lab.redis().unwrap().url()]);
    assert_eq!(report["interval_seconds"], Value::Null);
    let [target, redis] = list(&report["targets"]) else { panic!("not two targets") };
    for key in ["transactions_per_second", "rollback_ratio", "buffer_hit_ratio"] {
        assert_eq!(target["vitals"][key], Value::Null, "{key}");
    }
    let nothing = |value: &Value| value.as_object().unwrap().values().all(Value::is_null);
    assert!(nothing(&target["cache"]), "{}", target["cache"]);
    assert!(nothing(&redis["cache"]), "{}", redis["cache"]);
    let rows = list(&target["statements"]);
    assert!(!rows.is_empty());
    for row in rows {
        for key in ["calls_per_second", "exec_ms_per_second", "mean_ms", "slowdown", "hit_ratio"] {
            assert_eq!(row[key], Value::Null, "{key} of {row}");
        }
        assert!(row["mean_ms_since_reset"].is_number(), "{row}");
    }
    assert!(target["vitals"]["connections"].as_u64().unwrap() > 0);
}

#[test]
fn a_server_that_is_not_there_is_null_and_a_reason() {
    let nowhere = tempfile::tempdir().unwrap();
    let nowhere = nowhere.path().display();
    let target = format!("host={nowhere} user=oncall dbname=shop");
    let report = dbtriage(&["snapshot", "-w", "--format", "json", &target]);
    assert_eq!(report.code, Some(3));
    let refused = format!("cannot connect to {nowhere}/.s.PGSQL.5432");
    assert!(report.stderr.starts_with(&format!("dbtriage: {refused}")), "{}", report.stderr);
    let json: Value = serde_json::from_str(&report.stdout).unwrap();
    let target = &json["targets"][0];
    assert_eq!(target["status"], "unreachable");
    assert!(target["error"].as_str().unwrap().contains(&refused), "{target}");
    for key in ["server", "vitals", "sessions", "locks", "statements", "replication", "cache", "waits"] {
        assert_eq!(target[key], Value::Null, "{key}");
    }
    let [finding] = findings(target, "unreachable")[..] else { panic!("{}", target["findings"]) };
    assert_eq!(finding["severity"], "critical");
}

#[test]
fn a_prepared_transaction_is_a_root_without_a_process() {
    let lab = take(&QUIET);
    let primary = lab.primary();
    let holder = primary.client("shop_owner", "shop").unwrap();
    holder
        .execute(
            "BEGIN; UPDATE orders SET status = 'paid' WHERE id = 9; PREPARE TRANSACTION 'it''s forgotten'",
        )
        .unwrap();
    let waiter = primary.client("shop_owner", "shop").unwrap();
    let waiting = waiter.spawn("UPDATE orders SET status = 'new' WHERE id = 9");
    let client = primary.client("postgres", "shop").unwrap();
    until("the session to wait", PATIENCE, || client.rows(BLOCKED).unwrap().len() == 1);
    let target = look_at(primary, "oncall");
    holder.execute("ROLLBACK PREPARED 'it''s forgotten'").unwrap();
    waiting.wait(PATIENCE).unwrap();

    let [root] = list(&target["locks"]["roots"]) else { panic!("{}", target["locks"]) };
    assert_eq!(
        (&root["kind"], &root["pid"], &root["gid"]),
        (&"prepared".into(), &Value::Null, &"it's forgotten".into())
    );
    assert_eq!(root["advice"]["action"], "rollback_prepared");
    let reason = root["advice"]["reason"].as_str().unwrap();
    assert!(reason.contains("ROLLBACK PREPARED 'it''s forgotten'") && reason.contains("shop"), "{reason}");
    assert_eq!(root["children"][0]["pid"], waiter.pid());
    // As pg_blocking_pids has it.
    assert_eq!(pids(&session_of(&target, waiter.pid())["blocked_by"]), [0]);
}

#[test]
fn a_migration_stands_before_readers_who_have_been_connected_for_longer() {
    let lab = take(&QUIET);
    let primary = lab.primary();
    let [client, holder, reader, migration] = ["postgres", "shop_owner", "shop_owner", "shop_owner"]
        .map(|user| primary.client(user, "shop").unwrap());
    holder.execute("BEGIN; SELECT count(*) FROM orders").unwrap();
    let altering = migration.spawn("ALTER TABLE orders ADD COLUMN IF NOT EXISTS note text");
    until("the migration to wait", PATIENCE, || client.rows(BLOCKED).unwrap().len() == 1);
    let reading = reader.spawn("SELECT count(*) FROM orders");
    until("the reader to wait", PATIENCE, || client.rows(BLOCKED).unwrap().len() == 2);
    let target = look_at(primary, "oncall");
    holder.execute("ROLLBACK").unwrap();
    for running in [altering, reading] {
        running.wait(PATIENCE).unwrap();
    }
    let [root] = list(&target["locks"]["roots"]) else { panic!("not one root: {}", target["locks"]) };
    assert_eq!(root["pid"], holder.pid());
    assert_eq!(pids(&session_of(&target, migration.pid())["blocked_by"]), [i64::from(holder.pid())]);
    assert_eq!(pids(&session_of(&target, reader.pid())["blocked_by"]), [i64::from(migration.pid())]);
}

#[test]
fn a_forgotten_slot_keeps_the_log() {
    let lab = take(&QUIET);
    let client = lab.primary().client("postgres", "shop").unwrap();
    client.execute("SELECT pg_create_physical_replication_slot('forgotten', true)").unwrap();
    let message = "SELECT pg_logical_emit_message(true, 'outbox', repeat('m', 1000000))";
    client.execute(message).unwrap();
    let kept = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots";
    let before = float(&client, kept);
    let target = look_at(lab.primary(), "oncall");
    let after = float(&client, kept);
    let conninfo = lab.primary().conninfo("oncall", "shop");
    let text = dbtriage(&["snapshot", "-w", "--ticks", "1", &conninfo]).stdout;
    client.execute("SELECT pg_drop_replication_slot('forgotten')").unwrap();
    let [slot] = list(&target["replication"]["slots"]) else { panic!("{}", target["replication"]) };
    assert_eq!((&slot["name"], &slot["active"]), (&"forgotten".into(), &false.into()));
    assert_between("retained", before.max(1_000_000.0), &slot["retained_bytes"], after);
    assert!(text.contains("slot forgotten inactive, keeps "), "{text}");
}

// What a role may see.

#[test]
fn a_role_without_rights_sees_the_sessions_and_is_told_what_is_missing() {
    let lab = take(&QUIET);
    let other = lab.primary().client("shop_owner", "shop").unwrap();
    other.execute("BEGIN; SELECT 1").unwrap();
    let target = look_at(lab.primary(), "nobody_special");
    assert_eq!(target["status"], "degraded");
    let missing = list(&target["unavailable"]);
    let details = missing.iter().find(|it| it["part"] == "session details").unwrap();
    assert_eq!(details["hint"], "GRANT pg_monitor TO nobody_special;");
    assert!(details["reason"].as_str().unwrap().contains("nobody_special"), "{details}");
    let session = session_of(&target, other.pid());
    assert_eq!((&session["user"], &session["database"]), (&"shop_owner".into(), &"shop".into()));
    for key in ["state", "xact_start", "query_start", "backend_start", "client"] {
        assert_eq!(session[key], Value::Null, "{key}");
    }
    // Counts of what cannot be seen are unknown, not zero.
    for key in ["active", "idle_in_transaction", "oldest_transaction_seconds"] {
        assert_eq!(target["vitals"][key], Value::Null, "{key}");
    }
    assert!(target["vitals"]["connections"].as_u64().unwrap() >= 2);
}

#[test]
fn a_report_as_text_says_what_is_missing() {
    let lab = take(&QUIET);
    let text = |user: &str, database: &str| {
        let report = dbtriage(&["snapshot", "-w", "--ticks", "1", &lab.primary().conninfo(user, database)]);
        assert_eq!(report.code, Some(0), "{}", report.stderr);
        report.stdout
    };
    let without_extension = text("oncall", "postgres");
    assert!(without_extension.contains("CREATE EXTENSION pg_stat_statements"), "{without_extension}");
    let without_rights = text("nobody_special", "shop");
    assert!(without_rights.contains("GRANT pg_monitor TO nobody_special"), "{without_rights}");
}

#[test]
fn a_monitoring_role_misses_nothing() {
    let lab = take(&QUIET);
    let other = lab.primary().client("shop_owner", "shop").unwrap();
    other.execute("BEGIN; SELECT 1").unwrap();
    for user in ["watcher", "oncall", "postgres"] {
        let target = look_at(lab.primary(), user);
        assert_eq!(target["status"], "ok", "{user}: {}", target["unavailable"]);
        assert_eq!(list(&target["unavailable"]).len(), 0);
        let session = session_of(&target, other.pid());
        assert_eq!(
            (&session["state"], &session["query"]),
            (&"idle in transaction".into(), &"BEGIN; SELECT 1".into())
        );
        assert_eq!(target["vitals"]["idle_in_transaction"], 1, "{user}");
        assert!(!list(&target["statements"]).is_empty(), "{user}");
    }
}

#[test]
fn a_database_without_the_extension_says_how_to_get_it() {
    let lab = take(&QUIET);
    let report = snapshot(&[&lab.primary().conninfo("oncall", "postgres")]);
    let target = &report["targets"][0];
    assert_eq!(target["statements"], Value::Null);
    let [missing] = list(&target["unavailable"]) else { panic!("{}", target["unavailable"]) };
    assert_eq!(missing["part"], "statements");
    assert!(missing["reason"].as_str().unwrap().contains("\"postgres\""), "{missing}");
    assert!(missing["hint"].as_str().unwrap().contains("CREATE EXTENSION pg_stat_statements"), "{missing}");
    assert!(!list(&target["sessions"]).is_empty());
}

// The connections.

/// The library on a server, as the screen uses it.
struct Watch {
    runtime: Runtime,
    handle: Option<Handle>,
    samples: mpsc::Receiver<Sample>,
    _pace: watch::Sender<Pace>,
}

impl Watch {
    fn start(conninfo: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let environment = settings::Environment::from([("HOME".to_owned(), "/nonexistent".to_owned())]);
        let settings = settings::resolve(&settings::parse(conninfo).unwrap(), &environment).unwrap();
        let opened = runtime.block_on(postgres::open(settings)).unwrap();
        let target = Target { id: TargetId(0), name: "shop".to_owned(), kind: Kind::Postgres };
        let (pace_sender, pace) = watch::channel(Pace::screen(INTERVAL));
        let (sender, samples) = mpsc::channel(1);
        let handle = {
            let _inside = runtime.enter();
            opened.start(&target, pace, sender)
        };
        Self { runtime, handle: Some(handle), samples, _pace: pace_sender }
    }

    /// Waits until all three connections have run each of their statements once.
    fn warm(mut self) -> Self {
        let handle = self.handle.as_ref().unwrap();
        // Answered after the control connection is warm.
        assert_eq!(self.runtime.block_on(handle.observe(1)), Ok(None));
        self.sample(|sample| sample.server.own_pids.len() == 3 && sample.statements.value().is_some());
        self
    }

    /// The next sample, which must come within two intervals and must not be an outage.
    fn next(&mut self) -> Arc<PgSample> {
        let receive = async { tokio::time::timeout(INTERVAL * 2, self.samples.recv()).await };
        let sample = self.runtime.block_on(receive).expect("no sample within two intervals");
        match sample.expect("the sampler has ended").body {
            Body::Postgres(sample) => sample,
            body @ (Body::Redis(_) | Body::Outage(_)) => panic!("{body:?}"),
        }
    }

    /// The first sample of which something holds.
    fn sample(&mut self, holds: impl Fn(&PgSample) -> bool) -> Arc<PgSample> {
        let started = Instant::now();
        loop {
            let sample = self.next();
            if holds(&sample) {
                return sample;
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain for a sample");
        }
    }

    /// A session, as soon as something holds of it.
    fn session(&mut self, pid: i32, holds: impl Fn(&Session) -> bool) -> Session {
        let is_it = |session: &&Session| session.id.pid == pid && holds(session);
        let sample = self.sample(|sample| fresh(&sample.sessions).iter().any(|it| is_it(&it)));
        fresh(&sample.sessions).iter().find(is_it).unwrap().clone()
    }

    fn act(&self, action: Action) -> Result<ActionReply, Reason> {
        self.runtime.block_on(self.handle.as_ref().unwrap().act(action))
    }
}

fn fresh<T>(reading: &Reading<T>) -> &T {
    match reading {
        Reading::Fresh(value) => value,
        Reading::Stale(_, since) => panic!("old since {since}"),
        Reading::Unavailable(reason) => panic!("{reason}"),
    }
}

/// Says if a process of the server is there, without touching a catalog.
fn is_there(client: &Client, pid: i32) -> bool {
    !client.rows(&format!("SELECT pid FROM pg_stat_get_activity({pid})")).unwrap().is_empty()
}

fn own_connections(client: &Client) -> usize {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dbtriage'";
    client.rows(sql).unwrap().len()
}

/// Samples and a terminate while a table is locked so that whoever reads it waits, `query` among them.
fn work_under_a_lock(user: &str, table: &str, query: &str) {
    let lab = take(&QUIET);
    let primary = lab.primary();
    let [locker, reader, observer] = [(); 3].map(|()| primary.client("postgres", "shop").unwrap());
    let victim = primary.client("shop_owner", "shop").unwrap();
    assert!(is_there(&observer, victim.pid()));
    let mut watch = Watch::start(&primary.conninfo(user, "shop")).warm();
    let seen = watch.session(victim.pid(), |_| true);

    locker.execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).unwrap();
    let waiting = reader.spawn(query);
    let waits = format!("SELECT pid FROM pg_lock_status() WHERE pid = {} AND NOT granted", reader.pid());
    until("the reader to wait", PATIENCE, || !observer.rows(&waits).unwrap().is_empty());
    let sql = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let locked_at: Timestamp = observer.cell(sql).unwrap().parse().unwrap();

    watch.sample(|sample| sample.server_time > locked_at);
    for _ in 0..4 {
        let sample = watch.next();
        let sessions = fresh(&sample.sessions);
        let waiter = sessions.iter().find(|session| session.id.pid == reader.pid()).unwrap();
        assert!(waiter.waits_for_lock(), "{waiter:?}");
        fresh(&sample.databases);
        fresh(&sample.wal);
    }
    let in_the_table = |sample: &PgSample| matches!(&sample.locks, Reading::Fresh(table) if table.rows.iter().any(|row| row.pid == Some(reader.pid()) && !row.granted));
    watch.sample(in_the_table);

    let asked = Instant::now();
    let reply = watch.act(Action::Terminate { session: seen.id, xact_start: seen.xact_start });
    assert_eq!(reply, Ok(ActionReply::Signalled));
    assert!(asked.elapsed() < Duration::from_secs(1), "terminate took {:?}", asked.elapsed());
    until("the session to be gone", Duration::from_secs(2), || !is_there(&observer, victim.pid()));
    assert!(waiting.wait(Duration::from_millis(1)).is_err(), "the lock did not hold anybody up");
    locker.execute("ROLLBACK").unwrap();
    waiting.wait(PATIENCE).unwrap();
}

const VIEW: &str = "SELECT count(*) FROM pg_stat_activity";

#[test]
fn samples_and_terminate_under_a_lock_on_a_table() {
    work_under_a_lock("oncall", "reports", "SELECT count(*) FROM reports");
}

#[test]
fn samples_and_terminate_under_a_lock_on_the_roles() {
    work_under_a_lock("oncall", "pg_catalog.pg_authid", VIEW);
}

#[test]
fn samples_and_terminate_under_a_lock_on_the_roles_as_superuser() {
    work_under_a_lock("postgres", "pg_catalog.pg_authid", VIEW);
}

#[test]
fn samples_and_terminate_under_a_lock_on_the_databases() {
    work_under_a_lock("oncall", "pg_catalog.pg_database", VIEW);
}

#[test]
fn housekeeping_that_catalogs_refuse_does_not_hold_up_the_lock_table() {
    let lab = take(&QUIET);
    let primary = lab.primary();
    let [locker, reader] = [(); 2].map(|()| primary.client("postgres", "shop").unwrap());
    let query = "SELECT count(*) FROM pg_catalog.pg_namespace";
    reader.execute(query).unwrap();
    let mut watch = Watch::start(&primary.conninfo("postgres", "shop")).warm();
    watch.sample(|sample| sample.upkeep.is_some());
    // Four of its parts read one of these.
    let lock = "LOCK TABLE pg_catalog.pg_database, pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE";
    locker.execute(&format!("BEGIN; {lock}")).unwrap();
    let waiting = reader.spawn(query);
    let waits =
        |table: &Arc<LockTable>| table.rows.iter().any(|row| row.pid == Some(reader.pid()) && !row.granted);
    watch.sample(|sample| matches!(&sample.locks, Reading::Fresh(table) if waits(table)));

    watch.sample(|sample| {
        assert!(waits(fresh(&sample.locks)));
        sample.upkeep.as_deref().is_some_and(|upkeep| upkeep.freeze_ages.reason().is_some())
    });
    locker.execute("ROLLBACK").unwrap();
    waiting.wait(PATIENCE).unwrap();
}

#[test]
fn a_session_that_has_moved_on_is_not_terminated() {
    let lab = take(&QUIET);
    let victim = lab.primary().client("shop_owner", "shop").unwrap();
    victim.execute("BEGIN; SELECT 1").unwrap();
    let mut watch = Watch::start(&lab.primary().conninfo("oncall", "shop"));
    let seen = watch.session(victim.pid(), |session| session.state == Some(State::IdleInTransaction));
    assert!(seen.xact_start.is_some());

    victim.execute("COMMIT").unwrap();
    let terminate = Action::Terminate { session: seen.id, xact_start: seen.xact_start };
    let Ok(ActionReply::Changed(now)) = watch.act(terminate.clone()) else { panic!("signalled") };
    assert_eq!(
        (now.backend_start, now.xact_start, now.state),
        (seen.id.backend_start, None, Some(State::Idle))
    );

    victim.execute("BEGIN; SELECT 1").unwrap();
    let Ok(ActionReply::Changed(now)) = watch.act(terminate.clone()) else { panic!("signalled") };
    assert!(now.xact_start > seen.xact_start, "{now:?}");
    // In no transaction when it was seen, in one now.
    let idle = Action::Terminate { session: seen.id, xact_start: None };
    assert!(matches!(watch.act(idle), Ok(ActionReply::Changed(_))));
    assert_eq!(victim.cell("SELECT 'alive'").unwrap(), "alive");
    // The same transaction is another matter.
    let again = Action::Terminate { session: seen.id, xact_start: now.xact_start };
    assert_eq!(watch.act(again), Ok(ActionReply::Signalled));
}

#[test]
fn a_process_id_of_another_session_is_not_touched() {
    let lab = take(&QUIET);
    let victim = lab.primary().client("shop_owner", "shop").unwrap();
    let running = victim.spawn("SELECT pg_sleep(60)");
    let mut watch = Watch::start(&lab.primary().conninfo("oncall", "shop"));
    let seen = watch.session(victim.pid(), |session| session.state == Some(State::Active));
    for microseconds in [-1, 1] {
        let moved = seen.id.backend_start.unwrap() + SignedDuration::from_micros(microseconds);
        let session = SessionId { backend_start: Some(moved), ..seen.id };
        for action in [
            Action::Cancel { session, query_start: seen.query_start },
            Action::Terminate { session, xact_start: seen.xact_start },
            Action::TerminateAny { session },
        ] {
            let Ok(ActionReply::Changed(now)) = watch.act(action.clone()) else {
                panic!("{action:?} signalled")
            };
            assert_eq!(now.backend_start, seen.id.backend_start);
        }
    }
    let unknown = SessionId { backend_start: None, ..seen.id };
    assert!(watch.act(Action::TerminateAny { session: unknown }).is_err());
    // Untouched: still the same statement.
    let now = watch.runtime.block_on(watch.handle.as_ref().unwrap().observe(seen.id.pid)).unwrap().unwrap();
    assert_eq!((now.query_start, now.state), (seen.query_start, Some(State::Active)));
    assert_eq!(watch.act(Action::TerminateAny { session: seen.id }), Ok(ActionReply::Signalled));
    let error = running.wait(PATIENCE).unwrap_err();
    assert!(format!("{error:#}").contains("57P01"), "{error:#}");
}

#[test]
fn a_session_that_has_left_is_gone() {
    let lab = take(&QUIET);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let victim = lab.primary().client("shop_owner", "shop").unwrap();
    let mut watch = Watch::start(&lab.primary().conninfo("oncall", "shop"));
    let seen = watch.session(victim.pid(), |_| true);
    drop(victim);
    until("the session to leave", PATIENCE, || !is_there(&client, seen.id.pid));
    for action in [
        Action::Cancel { session: seen.id, query_start: seen.query_start },
        Action::Terminate { session: seen.id, xact_start: None },
        Action::TerminateAny { session: seen.id },
    ] {
        assert_eq!(watch.act(action.clone()), Ok(ActionReply::Gone), "{action:?}");
    }
}

#[test]
fn a_cancel_means_one_statement() {
    let lab = take(&QUIET);
    let victim = lab.primary().client("shop_owner", "shop").unwrap();
    let running = victim.spawn("SELECT pg_sleep(60)");
    let mut watch = Watch::start(&lab.primary().conninfo("oncall", "shop"));
    let seen = watch.session(victim.pid(), |session| session.state == Some(State::Active));
    let another = seen.query_start.map(|at| at - SignedDuration::from_micros(1));
    for query_start in [another, None] {
        let cancel = Action::Cancel { session: seen.id, query_start };
        let Ok(ActionReply::Changed(now)) = watch.act(cancel) else { panic!("signalled") };
        assert_eq!((now.query_start, now.state), (seen.query_start, Some(State::Active)));
    }
    let cancel = Action::Cancel { session: seen.id, query_start: seen.query_start };
    assert_eq!(watch.act(cancel.clone()), Ok(ActionReply::Signalled));
    let error = running.wait(PATIENCE).unwrap_err();
    assert!(format!("{error:#}").contains("57014"), "{error:#}");
    // Once it is over there is nothing left to cancel, and the session lives.
    watch.session(victim.pid(), |session| session.state == Some(State::Idle));
    assert!(matches!(watch.act(cancel), Ok(ActionReply::Changed(_))));
    assert_eq!(victim.cell("SELECT 'alive'").unwrap(), "alive");
}

#[test]
fn a_session_idle_in_transaction_is_terminated_and_rolls_back() {
    let lab = take(&QUIET);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let victim = lab.primary().client("shop_owner", "shop").unwrap();
    victim.execute("BEGIN; UPDATE orders SET status = 'terminated' WHERE id = 11").unwrap();
    let mut watch = Watch::start(&lab.primary().conninfo("oncall", "shop"));
    let seen = watch.session(victim.pid(), |session| session.state == Some(State::IdleInTransaction));
    let terminate = Action::Terminate { session: seen.id, xact_start: seen.xact_start };
    assert_eq!(watch.act(terminate), Ok(ActionReply::Signalled));
    until("the session to be gone", Duration::from_secs(2), || !is_there(&client, seen.id.pid));
    assert!(victim.cell("SELECT 1").is_err());
    assert!(client.cell("SELECT status FROM orders WHERE id = 11").unwrap() != "terminated");
}

#[test]
fn a_role_that_may_not_signal_is_told_so() {
    let lab = take(&QUIET);
    let victim = lab.primary().client("shop_owner", "shop").unwrap();
    let running = victim.spawn("SELECT pg_sleep(60)");
    let mut watch = Watch::start(&lab.primary().conninfo("watcher", "shop"));
    let seen = watch.session(victim.pid(), |session| session.state == Some(State::Active));
    for action in [
        Action::Cancel { session: seen.id, query_start: seen.query_start },
        Action::Terminate { session: seen.id, xact_start: seen.xact_start },
        Action::TerminateAny { session: seen.id },
    ] {
        let Ok(ActionReply::NotPermitted(text)) = watch.act(action.clone()) else { panic!("{action:?}") };
        assert!(!text.is_empty());
    }
    assert!(running.wait(Duration::from_millis(1)).is_err());
    let client = lab.primary().client("postgres", "shop").unwrap();
    assert!(is_there(&client, victim.pid()));
    client.execute(&format!("SELECT pg_terminate_backend({})", victim.pid())).unwrap();

    // And one that sees no backend_start cannot name a session.
    let other = lab.primary().client("shop_owner", "shop").unwrap();
    let mut watch = Watch::start(&lab.primary().conninfo("nobody_special", "shop"));
    let seen = watch.session(other.pid(), |_| true);
    assert_eq!(seen.id.backend_start, None);
    let refused = watch.act(Action::TerminateAny { session: seen.id }).unwrap_err();
    assert!(refused.hint.is_some_and(|hint| hint.contains("pg_read_all_stats")));
    assert_eq!(other.cell("SELECT 'alive'").unwrap(), "alive");
}

#[test]
fn connections_end_with_their_handle() {
    let lab = take(&QUIET);
    let client = lab.primary().client("postgres", "shop").unwrap();
    let conninfo = lab.primary().conninfo("oncall", "shop");
    let gone = || until("our connections to end", Duration::from_secs(2), || own_connections(&client) == 0);
    gone();
    // At once, while the other two connections are being opened.
    let mut watch = Watch::start(&conninfo);
    drop(watch.handle.take());
    gone();
    let mut watch = Watch::start(&conninfo).warm();
    assert_eq!(own_connections(&client), 3);
    drop(watch.handle.take());
    gone();
    assert!(watch.runtime.block_on(watch.samples.recv()).is_none(), "the sampler goes on");
}

/// One statement of the server's log.
#[derive(Debug)]
struct Logged {
    pid: i32,
    text: String,
}

/// The statements of some processes in the server's log, from `offset` on. Anything else of theirs is refused.
fn logged(log: &Path, offset: usize, of: &[i32]) -> Vec<Logged> {
    let log = String::from_utf8(std::fs::read(log).unwrap().split_off(offset)).unwrap();
    let mut entries: Vec<Logged> = Vec::new();
    let mut ours = false;
    for line in log.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(last) = entries.last_mut().filter(|_| ours) {
                last.text.push(' ');
                last.text.push_str(more);
            }
            continue;
        }
        let pid: Option<i32> = line.split(['[', ']']).nth(1).and_then(|pid| pid.parse().ok());
        ours = pid.is_some_and(|pid| of.contains(&pid)) && !line.contains(" DETAIL:  ");
        if ours {
            let (_, text) = line.split_once(" LOG:  ").unwrap_or_else(|| panic!("{line}"));
            let (how, text) = text.split_once(": ").unwrap();
            assert!(["execute <unnamed>", "statement"].contains(&how), "{line}");
            entries.push(Logged { pid: pid.unwrap(), text: text.to_owned() });
        }
    }
    entries
}

#[test]
fn a_tick_asks_functions_only() {
    let lab = take(&QUIET);
    let log = &lab.primary().log;
    let offset = std::fs::read(log).unwrap().len();
    let mut watch = Watch::start(&lab.primary().conninfo("oncall", "shop")).warm();
    // Statement counters are read every two seconds.
    let last = (0..6).map(|_| watch.next()).last().unwrap();
    drop(watch);
    let entries = logged(log, offset, &last.server.own_pids);
    for entry in &entries {
        assert!(entry.text.starts_with("/* dbtriage:"), "{entry:?}");
    }
    let sampler = entries.iter().find(|entry| entry.text.starts_with("/* dbtriage:activity */")).unwrap().pid;
    let texts: Vec<&str> =
        entries.iter().filter(|entry| entry.pid == sampler).map(|entry| entry.text.as_str()).collect();
    let count =
        |name: &str| texts.iter().filter(|text| text.starts_with(&format!("/* dbtriage:{name} */"))).count();
    for name in ["clock", "activity", "databases", "wal", "walsenders", "slots", "prepared"] {
        assert!(count(name) >= 6, "{name}: {}", count(name));
    }
    // A primary has none, and is asked before that is known.
    assert_eq!(count("walreceiver"), 1);
    assert!(count("statements") >= 2, "{}", count("statements"));
    for text in texts {
        for name in
            ["pg_stat_activity", "pg_locks", "pg_authid", "pg_database", "pg_class", "pg_roles", " JOIN "]
        {
            assert!(!text.contains(name), "{name} in: {text}");
        }
        // `extract(epoch FROM column)` reads nothing.
        for source in text.replace("(epoch FROM ", "(").split(" FROM ").skip(1) {
            let source = source.split_whitespace().next().unwrap_or_default();
            assert!(source.contains('(') && !source.starts_with('('), "{source} is no function: {text}");
        }
    }
}

/// How long the proxy keeps what the server says, so that what depends on it comes visibly later.
const DELAY: Duration = Duration::from_millis(60);

/// One connection through the proxy.
#[derive(Debug, Default)]
struct Wire {
    /// Whether the client has been answered since it last spoke.
    answered: bool,
    /// How often it spoke after an answer.
    round_trips: usize,
    is_sampler: bool,
}

type Wires = Arc<Mutex<Vec<Arc<Mutex<Wire>>>>>;

/// Passes connections on to a server and counts their turns.
async fn proxy(listener: TcpListener, port: u16, wires: Wires) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let wire = Arc::new(Mutex::new(Wire::default()));
        wires.lock().unwrap().push(Arc::clone(&wire));
        let (client_reads, client_writes) = client.into_split();
        let (server_reads, server_writes) = server.into_split();
        tokio::spawn(ask(client_reads, server_writes, Arc::clone(&wire)));
        tokio::spawn(answer(server_reads, client_writes, wire));
    }
}

async fn ask(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, wire: Arc<Mutex<Wire>>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        {
            let mut wire = wire.lock().unwrap();
            wire.round_trips += usize::from(wire.answered);
            wire.answered = false;
            let marker = b"/* dbtriage:activity */";
            wire.is_sampler |= buffer[..length].windows(marker.len()).any(|it| it == marker);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, wire: Arc<Mutex<Wire>>) {
    let mut buffer = vec![0; 1 << 20];
    while from.readable().await.is_ok() {
        tokio::time::sleep(DELAY).await;
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        wire.lock().unwrap().answered = true;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[test]
fn a_tick_is_one_round_trip() {
    let lab = take(&QUIET);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let wires = Wires::default();
    runtime.spawn(proxy(listener, lab.primary().port, Arc::clone(&wires)));
    let conninfo = format!("host=127.0.0.1 port={port} user=oncall dbname=shop");
    let mut watch = Watch::start(&conninfo).warm();
    let round_trips = || {
        let wires = wires.lock().unwrap();
        let mut samplers = wires.iter().map(|wire| wire.lock().unwrap()).filter(|wire| wire.is_sampler);
        let trips = samplers.next().unwrap().round_trips;
        assert!(samplers.next().is_none(), "more than one connection samples");
        trips
    };
    // Six ticks hold one with the statement counters at least.
    watch.next();
    for tick in 0..6 {
        let before = round_trips();
        watch.next();
        assert_eq!(round_trips() - before, 1, "tick {tick}");
    }
    assert_eq!(wires.lock().unwrap().len(), 3, "connections");
}

#[test]
fn samples_and_terminate_under_a_lock_on_the_relations() {
    work_under_a_lock("oncall", "pg_catalog.pg_class", "SELECT count(*) FROM pg_catalog.pg_class");
}

#[test]
fn every_other_major() {
    dbtriage_lab::on_every_other_major(&["every_other_major"]).unwrap();
}
