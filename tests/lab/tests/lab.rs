//! Tests of the lab itself: its servers start, stop, and reach the state of every scenario.

#![allow(clippy::disallowed_methods, reason = "deadlines need the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dbtriage_lab::{Client, Lab, Load, Options, Scenario};

/// Looks at a condition until it holds.
fn until(what: &str, limit: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !look()? {
        if limit < started.elapsed() {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn small() -> Options {
    Options { standby: false, redis: false, ..Options::default() }
}

/// Says if a process runs; one that ended and was not yet reaped by init does not.
fn is_process(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("\nState:\tZ")
}

fn count(client: &Client, sql: &str) -> Result<i64> {
    Ok(client.cell(sql)?.parse()?)
}

#[test]
fn labs_run_side_by_side_and_leave_nothing() -> Result<()> {
    let one = Lab::start(Options::default())?;
    let other = Lab::start(small())?;
    ensure!(one.primary().port != other.primary().port);
    for lab in [&one, &other] {
        let client = lab.primary().client("oncall", "shop")?;
        ensure!(count(&client, "SELECT count(*) FROM pg_stat_statements")? > 0);
        ensure!(count(&client, "SELECT count(*) FROM pg_stat_activity")? > 1);
    }
    let directory = one.directory().to_owned();
    let pid = one.primary().postmaster_pid()?;
    drop(one);
    ensure!(!directory.exists() && !is_process(pid));
    let client = other.primary().client("watcher", "shop")?;
    ensure!(client.cell("SELECT 1")? == "1");
    Ok(())
}

#[test]
fn servers_stop_and_start_again() -> Result<()> {
    let options = Options {
        max_connections: 12,
        settings: vec![("deadlock_timeout".to_owned(), "250ms".to_owned())],
        ..Options::default()
    };
    let lab = Lab::start(options)?;
    let primary = lab.primary();
    let client = primary.client("postgres", "shop")?;
    ensure!(client.cell("SHOW max_connections")? == "12");
    ensure!(client.cell("SHOW deadlock_timeout")? == "250ms");
    let running = client.spawn("SELECT pg_sleep(60)");
    ensure!(running.wait(Duration::from_millis(50)).is_err());
    primary.stop("immediate")?;
    ensure!(running.wait(Duration::from_secs(5)).is_err() && client.cell("SELECT 1").is_err());
    primary.start()?;
    primary.restart()?;
    ensure!(primary.client("shop_owner", "shop")?.cell("SELECT 1")? == "1");
    let standby = lab.standby().context("no standby")?;
    ensure!(standby.client("oncall", "shop")?.cell("SELECT pg_is_in_recovery()")? == "t");

    let redis = lab.redis().context("no Redis")?;
    redis.stop()?;
    ensure!(redis.command(&["PING"]).is_err());
    redis.start()?;
    redis.command(&["PING"]).map(drop)
}

/// A lab with one scenario on it, and a second pair of eyes.
struct Stage {
    load: Load,
    client: Client,
    lab: Lab,
}

impl Stage {
    fn play(options: Options, scenario: Scenario) -> Result<Self> {
        let lab = Lab::start(options)?;
        let load = lab.play(scenario)?;
        let client = lab.primary().client("postgres", "shop")?;
        Ok(Self { load, client, lab })
    }

    /// Counts the sessions of the load for which a condition holds.
    fn sessions(&self, condition: &str) -> Result<i64> {
        let pids: Vec<String> = self.load.facts.pids.iter().map(ToString::to_string).collect();
        let application = self.load.facts.application.clone().context("no application")?;
        let query = self.load.facts.query.clone().context("no query")?.replace('\'', "''");
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid IN ({}) AND {condition} \
             AND application_name = '{application}' AND query LIKE '%{query}%'",
            pids.join(", ")
        );
        count(&self.client, &sql)
    }

    /// Ends the load in time, and with it every session of the application.
    fn end(self) -> Result<()> {
        let started = Instant::now();
        drop(self.load);
        ensure!(started.elapsed() < Duration::from_millis(2200), "took {:?}", started.elapsed());
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop_owner'";
        ensure!(count(&self.client, sql)? == 0);
        drop(self.lab);
        Ok(())
    }
}

#[test]
fn lock_pileup_blocks_everyone_behind_the_root() -> Result<()> {
    let stage = Stage::play(small(), Scenario::LockPileup)?;
    let root = stage.load.facts.root_pid.context("no root")?;
    ensure!(stage.sessions("state = 'idle in transaction'")? == 1);
    let rows = stage.client.rows(
        "SELECT pid, unnest(pg_blocking_pids(pid)) FROM pg_stat_activity \
         WHERE wait_event_type = 'Lock'",
    )?;
    let mut blockers: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
    for row in rows {
        let [Some(blocked), Some(blocker)] = row.as_slice() else { bail!("{row:?}") };
        blockers.entry(blocked.parse()?).or_default().insert(blocker.parse()?);
    }
    let blocked: BTreeSet<i32> = blockers.keys().copied().collect();
    ensure!(blocked == stage.load.facts.blocked_pids.iter().copied().collect());
    ensure!(blocked.len() == 36);
    // Whoever is reached from the root, against the arrows, is blocked by it in the end.
    let mut reached = BTreeSet::from([root]);
    while let Some((next, _)) =
        blockers.iter().find(|(it, by)| !reached.contains(it) && !reached.is_disjoint(by))
    {
        reached.insert(*next);
    }
    ensure!(reached.len() == 37);

    // The on-call engineer ends the root: everybody goes on.
    let engineer = stage.lab.primary().client("oncall", "shop")?;
    ensure!(engineer.cell(&format!("SELECT pg_terminate_backend({root})"))? == "t");
    until("the pile-up to dissolve", Duration::from_secs(5), || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        Ok(count(&stage.client, sql)? == 0)
    })?;
    stage.end()
}

#[test]
fn connection_spike_takes_the_connections() -> Result<()> {
    let stage = Stage::play(small(), Scenario::ConnectionSpike)?;
    let held =
        count(&stage.client, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")?;
    ensure!(held >= 93, "{held} connections");
    ensure!(stage.sessions("state = 'active'")? > 70);
    let fast = count(
        &stage.client,
        "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%payload_hash(payload)%' \
         AND calls >= 200 AND mean_exec_time < 100",
    )?;
    ensure!(fast == 1, "the statement was not fast before");
    // There is still room for whoever comes to look.
    let engineers = [(); 3].map(|()| stage.lab.primary().client("oncall", "shop"));
    ensure!(engineers.iter().all(Result::is_ok));
    stage.end()
}

#[test]
fn idle_in_transaction_and_slow_query_are_there_together() -> Result<()> {
    let stage = Stage::play(small(), Scenario::IdleInTransaction)?;
    ensure!(stage.sessions("state = 'idle in transaction'")? == 3);
    let load = stage.lab.play(Scenario::SlowQuery)?;
    let other = Stage { load, client: stage.lab.primary().client("postgres", "shop")?, ..stage };
    ensure!(other.sessions("state = 'active'")? == 4);
    drop(stage.load);
    other.end()
}

#[test]
fn operation_spike_multiplies_the_calls() -> Result<()> {
    let stage = Stage::play(small(), Scenario::OperationSpike)?;
    let sql = "SELECT sum(calls)::bigint FROM pg_stat_statements WHERE query LIKE 'SELECT status%'";
    let (started, before) = (Instant::now(), count(&stage.client, sql)?);
    until("a thousand calls", Duration::from_secs(10), || Ok(count(&stage.client, sql)? > before + 1000))?;
    let took = started.elapsed();
    ensure!(Duration::from_secs(1) < took, "the load is not bounded: {took:?}");
    stage.end()
}

#[test]
fn replication_lag_grows_until_the_load_ends() -> Result<()> {
    let none = Lab::start(small())?;
    let error = none.play(Scenario::ReplicationLag).err().context("played without a standby")?;
    ensure!(format!("{error:#}").contains("needs a standby"), "{error:#}");
    drop(none);
    let stage = Stage::play(Options { redis: false, ..Options::default() }, Scenario::ReplicationLag)?;
    let lag = |client: &Client| {
        count(client, "SELECT sum(pg_current_wal_lsn() - replay_lsn)::bigint FROM pg_stat_replication")
    };
    let before = lag(&stage.client)?;
    until("the lag to grow", Duration::from_secs(5), || Ok(lag(&stage.client)? > before + 1_000_000))?;
    let Stage { load, client, lab } = stage;
    drop(load);
    until("the standby to catch up", Duration::from_secs(10), || Ok(lag(&client)? == 0))?;
    drop(lab);
    Ok(())
}

#[test]
fn cache_failure_sends_the_misses_to_the_database() -> Result<()> {
    let options = Options { standby: false, ..Options::default() };
    let stage = Stage::play(options, Scenario::CacheFailure)?;
    let sql = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements \
               WHERE query LIKE 'SELECT data FROM sessions%'";
    let before = count(&stage.client, sql)?;
    until("reads of the database", Duration::from_secs(5), || Ok(count(&stage.client, sql)? > before + 100))?;
    stage.end()
}

#[test]
fn deadlocks_go_on() -> Result<()> {
    let stage = Stage::play(small(), Scenario::Deadlock)?;
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'shop'";
    until("a second deadlock", Duration::from_secs(5), || Ok(count(&stage.client, sql)? > 1))?;
    stage.end()
}

#[test]
fn tour_begins_with_the_pile_up_and_ends_at_once() -> Result<()> {
    let stage = Stage::play(Options::default(), Scenario::Tour)?;
    until("the pile-up", Duration::from_secs(2), || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        Ok(count(&stage.client, sql)? == 36)
    })?;
    let sql = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements \
               WHERE query LIKE 'SELECT name, country%'";
    let before = count(&stage.client, sql)?;
    until("traffic", Duration::from_secs(2), || Ok(count(&stage.client, sql)? > before + 20))?;
    stage.end()
}

#[test]
fn scenarios_have_names() {
    for scenario in Scenario::ALL {
        assert_eq!(scenario.to_string().parse::<Scenario>().ok(), Some(scenario));
    }
    let error = "pileup".parse::<Scenario>().unwrap_err().to_string();
    assert!(error.contains("lock-pileup"), "{error}");
}
