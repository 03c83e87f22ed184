//! The scenarios by name, and the load that plays one.

mod cache;
mod locks;
mod queries;
mod replication;
mod tour;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::engine::Engine;
use crate::stage::{Stage, World};

/// How long the start of a load may take, all its waits together.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long dropping a load may take.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// An incident that can be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// A session idle in a transaction holds a row; writers, a migration and readers pile up.
    LockPileup,
    /// One application takes nearly all connections, with a statement that became slow.
    ConnectionSpike,
    /// Three sessions idle in a transaction that has written.
    IdleInTransaction,
    /// Four sessions run an aggregate of half a minute.
    SlowQuery,
    /// A calm application begins to send hundreds of small statements per second.
    OperationSpike,
    /// The standby stops replaying while the primary writes.
    ReplicationLag,
    /// The cache is emptied and flooded; its misses go to the database.
    CacheFailure,
    /// Two sessions deadlock again and again.
    Deadlock,
    /// Light traffic all the time, and every other scenario in turn.
    Tour,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 9] = [
        Self::LockPileup,
        Self::ConnectionSpike,
        Self::IdleInTransaction,
        Self::SlowQuery,
        Self::OperationSpike,
        Self::ReplicationLag,
        Self::CacheFailure,
        Self::Deadlock,
        Self::Tour,
    ];

    /// The name, as typed on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LockPileup => "lock-pileup",
            Self::ConnectionSpike => "connection-spike",
            Self::IdleInTransaction => "idle-in-transaction",
            Self::SlowQuery => "slow-query",
            Self::OperationSpike => "operation-spike",
            Self::ReplicationLag => "replication-lag",
            Self::CacheFailure => "cache-failure",
            Self::Deadlock => "deadlock",
            Self::Tour => "tour",
        }
    }

    /// Starts the load on a stage and returns when its state is reached. Boxed, because a tour
    /// begins other scenarios.
    fn begin(self, stage: &mut Stage) -> BoxFuture<'_, Result<Facts>> {
        match self {
            Self::LockPileup => locks::lock_pileup(stage).boxed(),
            Self::ConnectionSpike => queries::connection_spike(stage).boxed(),
            Self::IdleInTransaction => locks::idle_in_transaction(stage).boxed(),
            Self::SlowQuery => queries::slow_query(stage).boxed(),
            Self::OperationSpike => queries::operation_spike(stage).boxed(),
            Self::ReplicationLag => replication::replication_lag(stage).boxed(),
            Self::CacheFailure => cache::cache_failure(stage).boxed(),
            Self::Deadlock => locks::deadlock(stage).boxed(),
            Self::Tour => tour::tour(stage).boxed(),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|it| it.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            anyhow!("there is no scenario {text:?}; the scenarios are {names}")
        })
    }
}

/// What a test may expect to see of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The session that holds the others up.
    pub root_pid: Option<i32>,
    /// The sessions that wait for a lock.
    pub blocked_pids: Vec<i32>,
    /// The application name of the sessions at fault.
    pub application: Option<String>,
    /// A fragment of their statement.
    pub query: Option<String>,
    /// The sessions at fault.
    pub pids: Vec<i32>,
}

/// A load that is being played; dropping it terminates its sessions and undoes its changes.
#[derive(Debug)]
pub struct Load {
    /// What a test may expect to see.
    pub facts: Facts,
    stage: Option<Stage>,
    engine: Arc<Engine>,
}

impl Load {
    /// Plays a scenario; returns when its state is reached.
    pub(crate) fn start(engine: &Arc<Engine>, world: World, scenario: Scenario) -> Result<Self> {
        let (stage, facts) = engine.run(START_LIMIT, async move {
            let mut stage = Stage::new(world);
            match scenario.begin(&mut stage).await {
                Ok(facts) => Ok((stage, facts)),
                Err(error) => {
                    stage.close().await;
                    Err(error)
                }
            }
        })?;
        Ok(Self { facts, stage: Some(stage), engine: Arc::clone(engine) })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(stage) = self.stage.take() {
            let close = async move {
                stage.close().await;
                Ok(())
            };
            // It ends in the background if it is late; the lab's end ends it in any case.
            self.engine.run(STOP_LIMIT, close).ok();
        }
    }
}
