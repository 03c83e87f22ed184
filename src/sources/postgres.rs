//! Reading a PostgreSQL server that may be on its knees, and acting on its sessions.
//!
//! Three connections, each with a task of its own: the *sampler* calls functions only and sends one sample a
//! tick; *locks* reads the lock table, and what needs catalogs, which may be slow in an incident; *control* cancels
//! and terminates, and nothing else, so that a kill never waits behind a slow reading. Each opens again by itself.

mod act;
mod batch;
mod catalog;
mod control;
mod error;
mod explain;
mod link;
mod locks;
mod read;
mod sampler;
mod servers;
pub mod settings;
mod sparing;
mod sql;
mod tables;
mod tls;
mod upkeep;
pub(in crate::sources) mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use error::{ConnectError, Cure};

use self::link::Connection;
use self::servers::Servers;
use self::settings::Settings;
use super::Pace;
use crate::model::action::{Action, ActionReply, Holdings, Seen};
use crate::model::{Reason, Sample, Target};

/// A server whose first connection is open, not read yet.
#[derive(Debug)]
pub struct Opened {
    servers: Arc<Servers>,
    first: Option<Connection>,
}

/// Connects once, so that what waiting does not cure can be said before the screen opens.
pub async fn open(settings: Settings) -> Result<Opened, ConnectError> {
    let servers = Arc::new(Servers::new(settings));
    let first = servers.connect_any().await?;
    Ok(Opened { servers, first: Some(first) })
}

/// A server that could not be connected to yet: the tasks keep trying.
pub fn not_yet_open(settings: Settings) -> Opened {
    Opened { servers: Arc::new(Servers::new(settings)), first: None }
}

/// The running tasks of one server. Dropping it closes the connections.
#[derive(Debug)]
pub struct Handle {
    servers: Arc<Servers>,
    control: control::Counter,
    locks: mpsc::Sender<locks::Want>,
    _tasks: JoinSet<()>,
}

impl Opened {
    /// Starts the tasks. Samples go to `samples`, which makes the sampler wait when it is full.
    pub fn start(
        self,
        target: &Target,
        pace: watch::Receiver<Pace>,
        samples: mpsc::Sender<Sample>,
    ) -> Handle {
        let own_pids = OwnPids::default();
        let (want_sender, want_receiver) = mpsc::channel(8);
        let (counter, orders) = control::orders();
        let (catalog_sender, catalog_receiver) = watch::channel(catalog::Catalog::default());
        // Before the others start: they wait for it.
        if let Some(first) = &self.first {
            self.servers.adopt(first);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(locks::run(Arc::clone(&self.servers), own_pids.clone(), want_receiver, catalog_sender));
        tasks.spawn(control::run(Arc::clone(&self.servers), own_pids.clone(), orders));
        let reader = sampler::Sampler::new(
            target.id,
            Arc::clone(&self.servers),
            sampler::Wires { own_pids, pace, catalog: catalog_receiver, wants: want_sender.clone(), samples },
        );
        tasks.spawn(reader.run(self.first));
        Handle { servers: self.servers, control: counter, locks: want_sender, _tasks: tasks }
    }
}

impl Handle {
    /// Carries out one action and reports what came of it. Errors when the control connection is busy or lost.
    pub async fn act(&self, action: Action) -> Result<ActionReply, Reason> {
        self.act_unless(action, Withdrawal::default()).await
    }

    /// The same, unless it is withdrawn before it is sent.
    pub async fn act_unless(&self, action: Action, withdrawal: Withdrawal) -> Result<ActionReply, Reason> {
        Self::order(&self.control.acts, |reply| control::Order::Act(action, withdrawal, reply)).await?
    }

    /// What the process is now; `None` once it has gone.
    pub async fn observe(&self, pid: i32) -> Result<Option<Seen>, Reason> {
        Self::order(&self.control.looks, |reply| control::Order::Observe(pid, reply)).await?
    }

    async fn order<T>(
        counter: &mpsc::Sender<control::Order>,
        order: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> control::Order,
    ) -> Result<T, Reason> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let limit = 2 * link::STATEMENT_LIMIT;
        let answered = async {
            counter.send(order(sender)).await.ok()?;
            receiver.await.ok()
        };
        let no_answer =
            || Reason::new(format!("no answer on the control connection within {}s", limit.as_secs()));
        tokio::time::timeout(limit, answered)
            .await
            .map_err(|_| no_answer())?
            .ok_or_else(|| Reason::new("the control connection was closed"))
    }

    /// All locks of one process, and whom `waiter` waits for by the server's own word, read once on the locks
    /// connection.
    pub async fn holdings(&self, pid: i32, waiter: Option<i32>) -> Result<Holdings, Reason> {
        self.want(|reply| locks::Want::Holdings(pid, waiter, reply)).await
    }

    /// The processes that hold an advisory lock, read once on the locks connection.
    pub async fn advisory_holders(&self) -> Result<Vec<i32>, Reason> {
        self.want(locks::Want::AdvisoryHolders).await
    }

    /// The plan of a statement of a database, line by line, on a connection that is opened for it. It is never run.
    pub async fn explain(&self, database: &str, sql: &str) -> Result<Vec<String>, Reason> {
        explain::explain(&self.servers, database, sql).await
    }

    async fn want<T>(
        &self,
        want: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, Reason>>) -> locks::Want,
    ) -> Result<T, Reason> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.locks.try_send(want(sender)).map_err(|_| Reason::new("the locks connection is busy"))?;
        tokio::time::timeout(link::STATEMENT_LIMIT, receiver)
            .await
            .map_err(|_| Reason::new("the lock manager is busy"))?
            .map_err(|_| Reason::new("the locks connection was closed"))?
    }
}

/// The statement of an action as it is sent, its arguments filled in: for the record.
pub fn statement(action: &Action) -> String {
    act::told(action)
}

/// Calls an order back, as long as it has not been sent.
#[derive(Debug, Clone, Default)]
pub struct Withdrawal(Arc<AtomicBool>);

impl Withdrawal {
    /// Asks for it.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has been asked for.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Process ids of our backends, by place: sampler, locks, control.
#[derive(Debug, Clone, Default)]
struct OwnPids(Arc<Mutex<[Option<i32>; 3]>>);

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Sampler = 0,
    Locks = 1,
    Control = 2,
}

impl OwnPids {
    fn set(&self, place: Place, pid: Option<i32>) {
        let mut pids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = pids.get_mut(place as usize) {
            *slot = pid;
        }
    }

    fn all(&self) -> Vec<i32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().copied().collect()
    }
}
