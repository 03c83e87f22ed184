//! The stage of a scenario: its sessions and its tasks, and how all of them end together.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::future::{Future, pending};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::cache::Redis;
use crate::client::{Rows, login, rows};
use crate::postgres::Postgres;
use crate::shop::{DATABASE, OWNER};
use crate::wait::until;

/// How long a load runs when nobody ends it.
const LOAD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long the end of a load may take.
const CLOSE_LIMIT: Duration = Duration::from_millis(1800);

/// How long a scenario may take to reach its state.
pub(crate) const STATE_LIMIT: Duration = Duration::from_secs(15);

/// The servers a scenario plays on.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) primary: Postgres,
    pub(crate) standby: Option<Postgres>,
    pub(crate) redis: Option<Redis>,
    /// Where tasks that fail in the background say so: nothing may be printed under a terminal UI.
    pub(crate) log: PathBuf,
}

/// What has to be undone at the end of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Let the standby replay again.
    ResumeReplay,
    /// Remove the keys that fill Redis.
    FlushCache,
}

/// The backends and changes for which a stage has to account.
#[derive(Debug, Default)]
struct Ledger {
    pids: Vec<i32>,
    undo: Vec<Undo>,
}

/// The sessions and tasks of one load.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) world: World,
    tasks: JoinSet<()>,
    limit: Duration,
    ledger: Arc<Mutex<Ledger>>,
    /// The ledger of the stage around this one: it may end first, and then ends our sessions too.
    outer: Option<Arc<Mutex<Ledger>>>,
}

impl Stage {
    /// An empty stage.
    pub(crate) fn new(world: World) -> Self {
        Self { world, tasks: JoinSet::new(), limit: LOAD_LIMIT, ledger: Arc::default(), outer: None }
    }

    /// Lets tasks started from now on run longer than usual.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Makes what is needed to open stages inside of this one.
    pub(crate) fn nursery(&self) -> Nursery {
        Nursery { world: self.world.clone(), outer: Arc::clone(&self.ledger) }
    }

    /// Makes what is needed to log in from a task of this stage.
    pub(crate) fn door(&self) -> Door {
        let ledgers = [Some(&self.ledger), self.outer.as_ref()];
        let ledgers = ledgers.into_iter().flatten().map(Arc::clone).collect();
        Door { primary: self.world.primary.clone(), ledgers }
    }

    /// Logs in as the application.
    pub(crate) async fn session(&self, application: &str) -> Result<Session> {
        self.door().session(application).await
    }

    /// Logs in as the superuser who looks whether a state is reached.
    pub(crate) async fn watcher(&self) -> Result<Session> {
        let config = self.world.primary.config("postgres", DATABASE, "lab");
        let (client, pid) = login(config).await?;
        Ok(Session { client, pid })
    }

    /// Runs a task until it ends, the load ends, or its time is over.
    pub(crate) fn spawn<F>(&mut self, task: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (limit, log) = (self.limit, self.world.log.clone());
        self.tasks.spawn(async move {
            if let Ok(Err(error)) = timeout(limit, task).await {
                note(&log, &error);
            }
        });
    }

    /// Keeps a session as it is.
    pub(crate) fn hold(&mut self, session: Session) {
        self.spawn(async move {
            let _session = session;
            pending().await
        });
    }

    /// Remembers something to undo.
    pub(crate) fn undo_later(&self, undo: Undo) {
        for ledger in [Some(&self.ledger), self.outer.as_ref()].into_iter().flatten() {
            lock(ledger).undo.push(undo);
        }
    }

    /// Ends the tasks, terminates the sessions and undoes what has to be undone.
    pub(crate) async fn close(mut self) {
        self.tasks.abort_all();
        let (pids, undo) = {
            let ledger = lock(&self.ledger);
            (ledger.pids.clone(), ledger.undo.clone())
        };
        let ends = async {
            let (terminated, undone) = tokio::join!(self.terminate(&pids), self.undo(&undo));
            terminated.and(undone)
        };
        let ended = timeout(CLOSE_LIMIT, ends).await.context("the load did not end in time");
        if let Err(error) = ended.and_then(|it| it) {
            note(&self.world.log, &error);
        }
        if let Some(outer) = &self.outer {
            let mut outer = lock(outer);
            outer.pids.retain(|pid| !pids.contains(pid));
            outer.undo.retain(|it| !undo.contains(it));
        }
    }

    /// Terminates sessions of the application and waits until they are gone.
    async fn terminate(&self, pids: &[i32]) -> Result<()> {
        if pids.is_empty() {
            return Ok(());
        }
        let (client, _) = login(self.world.primary.config("postgres", "postgres", "lab")).await?;
        // A server that lost a session may have given its number to another by now.
        let ours = format!("usename = '{OWNER}' AND pid IN ({})", list(pids));
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}");
        rows(&client, &sql).await?;
        let sql = format!("SELECT FROM pg_stat_activity WHERE {ours}");
        let look = || async { Ok(rows(&client, &sql).await?.is_empty()) };
        until("the sessions of the load to end", CLOSE_LIMIT, look).await
    }

    async fn undo(&self, undo: &[Undo]) -> Result<()> {
        if undo.contains(&Undo::ResumeReplay)
            && let Some(standby) = &self.world.standby
        {
            let (client, _) = login(standby.config("postgres", "postgres", "lab")).await?;
            rows(&client, "SELECT pg_wal_replay_resume()").await?;
        }
        if undo.contains(&Undo::FlushCache)
            && let Some(redis) = &self.world.redis
        {
            redis::cmd("FLUSHALL").exec_async(&mut redis.connect().await?).await?;
        }
        Ok(())
    }
}

/// Opens stages inside of another.
#[derive(Debug, Clone)]
pub(crate) struct Nursery {
    pub(crate) world: World,
    outer: Arc<Mutex<Ledger>>,
}

impl Nursery {
    /// An empty stage whose sessions end with the outer one at the latest.
    pub(crate) fn stage(&self) -> Stage {
        let mut stage = Stage::new(self.world.clone());
        stage.outer = Some(Arc::clone(&self.outer));
        stage
    }
}

/// Logs in on behalf of a stage.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    primary: Postgres,
    ledgers: Vec<Arc<Mutex<Ledger>>>,
}

impl Door {
    /// Logs in as the application.
    pub(crate) async fn session(&self, application: &str) -> Result<Session> {
        let config = self.primary.tcp_config(OWNER, DATABASE, application);
        let (client, pid) = login(config).await?;
        for ledger in &self.ledgers {
            lock(ledger).pids.push(pid);
        }
        Ok(Session { client, pid })
    }
}

/// A session of PostgreSQL that belongs to a load.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: tokio_postgres::Client,
    pub(crate) pid: i32,
}

impl Session {
    /// Runs a statement and returns its rows as text.
    pub(crate) async fn run(&self, sql: &str) -> Result<Rows> {
        rows(&self.client, sql).await.with_context(|| format!("could not run: {sql}"))
    }

    /// Runs a statement and returns its first value as a number; none counts as zero.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        let value = self.run(sql).await?.into_iter().flatten().flatten().next();
        let text = value.unwrap_or_default();
        if text.is_empty() { Ok(0) } else { text.parse().with_context(|| format!("no number: {sql}")) }
    }

    /// Waits until a statement returns at least the number `expected`.
    pub(crate) async fn reach(&self, what: &str, sql: &str, expected: i64) -> Result<()> {
        let look = || async { Ok(self.number(sql).await? >= expected) };
        until(what, STATE_LIMIT, look).await
    }
}

/// The rhythm of a loop: late ticks are not made up for, so that load stays bounded.
pub(crate) fn every(milliseconds: u64) -> Interval {
    let mut ticks = interval(Duration::from_millis(milliseconds));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A list for `IN (...)`.
pub(crate) fn list(pids: &[i32]) -> String {
    let mut text = String::from("0");
    for pid in pids {
        // Writing to a string cannot fail.
        write!(text, ", {pid}").ok();
    }
    text
}

/// Writes down an error that has nobody to return to; there is nobody to tell if that fails too.
pub(crate) fn note(log: &PathBuf, error: &anyhow::Error) {
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(log) {
        writeln!(file, "{error:#}").ok();
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
