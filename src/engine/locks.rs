//! The lock forest: who waits for whom, from one reading of the lock table.
//!
//! Hard edges run from a waiter to whoever holds a conflicting lock on the same object; soft edges to whoever
//! stands before it in the queue and wants a conflicting one. It must not know how the table was read.

mod conflict;
mod graph;
mod queue;
mod tree;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use self::conflict::strength;
use self::graph::Graph;
use crate::model::postgres::{Lock, LockTag, Names, Prepared, Session};

/// What is needed beside the lock table to understand it.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The backends: leaders of parallel groups, states, ages.
    pub sessions: &'a [Session],
    /// Prepared transactions, to name holders without a process.
    pub prepared: &'a [Prepared],
    /// Names of relations and roles.
    pub names: &'a Names,
    /// Our own backends, which are left out.
    pub own_pids: &'a [i32],
    /// The server's clock.
    pub now: Timestamp,
    /// Whether `waitstart` tells the order of a queue (14 and later).
    pub queue_is_exact: bool,
}

/// Who waits for whom. Every waiter stands in it once.
#[derive(Debug, Clone, Default)]
pub struct Forest {
    /// Sessions that wait for a lock.
    pub blocked_sessions: usize,
    /// Whether the order of queues is known; if not, soft edges are approximate.
    pub queue_is_exact: bool,
    nodes: Vec<Node>,
    roots: Vec<usize>,
    graph: Graph,
}

/// A session, prepared transaction or deadlock in the forest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Its process; `None` for a prepared transaction, a deadlock and an unknown holder.
    pub pid: Option<i32>,
    /// Name of a prepared transaction.
    pub gid: Option<String>,
    /// The database in which a prepared transaction must be finished.
    pub database: Option<String>,
    /// The processes of a deadlock.
    pub members: Vec<i32>,
    /// What it waits for; `None` for a root.
    pub waits_for: Option<WaitsFor>,
    /// How long it has waited, seconds; `None` when it does not wait or the server does not say.
    pub wait_seconds: Option<f64>,
    /// Processes that it waits for besides the one it stands under.
    pub also_behind: Vec<i32>,
    /// Sessions that wait for it, directly or through others.
    pub behind: usize,
    /// Sessions that wait for it directly.
    pub behind_directly: usize,
    /// Sessions that would be granted their lock at once if it went.
    pub frees_now: usize,
    /// The longest wait behind it, seconds.
    pub longest_wait_seconds: Option<f64>,
    /// Sum of the waits behind it, seconds.
    pub summed_wait_seconds: f64,
    /// Who it is, for a sentence: application, state and age.
    pub description: String,
    /// Its place in the server's state machine, which decides what helps.
    pub situation: RootSituation,
    /// Who stands under it.
    children: Vec<usize>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeKind {
    /// A backend.
    #[default]
    Session,
    /// A prepared transaction, which has no backend.
    Prepared,
    /// Sessions that wait for each other in a circle.
    Deadlock,
    /// A holder that is in no list: gone meanwhile, or not visible.
    Unknown,
}

impl NodeKind {
    /// Its name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Prepared => "prepared",
            Self::Deadlock => "deadlock",
            Self::Unknown => "unknown",
        }
    }
}

/// What a root does, as far as it decides what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RootSituation {
    /// A client's session that runs a statement.
    Active,
    /// Idle inside a transaction.
    IdleInTransaction,
    /// Idle outside a transaction: it can only hold session-level advisory locks.
    Idle,
    /// Waits for a synchronous standby: it has committed locally.
    SyncRep,
    /// An autovacuum worker.
    Autovacuum,
    /// An autovacuum worker that prevents wraparound.
    AutovacuumWraparound,
    /// The startup process of a standby, a walsender or another process of the server.
    Background,
    /// Not known.
    #[default]
    Unknown,
}

/// The lock that a session waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitsFor {
    /// The object.
    pub tag: LockTag,
    /// The mode that is wanted.
    pub mode: String,
    /// The object in words.
    pub object: String,
    /// Processes that hold it in a conflicting mode; 0 for a prepared transaction.
    pub held_by: Vec<i32>,
}

/// What is the least that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What to do.
    pub action: AdvisedAction,
    /// To which process; `None` when there is none to act on.
    pub pid: Option<i32>,
    /// Why, in a sentence.
    pub reason: String,
}

/// The kinds of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvisedAction {
    /// Cancel the statement.
    Cancel,
    /// Terminate the session.
    Terminate,
    /// It ends by itself.
    Wait,
    /// Finish the prepared transaction in SQL.
    RollbackPrepared,
    /// Nothing that can be done here.
    None,
}

impl AdvisedAction {
    /// Its name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Wait => "wait",
            Self::RollbackPrepared => "rollback_prepared",
            Self::None => "none",
        }
    }
}

impl Forest {
    /// Builds the forest. Any rows at all give a forest that is finite and loses no waiter.
    pub fn build(rows: &[Lock], context: &Context<'_>) -> Self {
        let graph = Graph::build(rows, context);
        tree::grow(graph, context)
    }

    /// The roots, worst first: those behind whom most sessions wait, then by summed and by longest wait.
    pub fn roots(&self) -> impl Iterator<Item = &Node> {
        self.roots.iter().filter_map(|place| self.nodes.get(*place))
    }

    /// Who stands under a node, longest wait first.
    pub fn children<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        node.children.iter().filter_map(|place| self.nodes.get(*place))
    }

    /// The node of a process; a member of a deadlock gives the deadlock.
    pub fn find(&self, pid: i32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.pid == Some(pid) || node.members.contains(&pid))
    }

    /// The processes that a waiting process waits for, as `pg_blocking_pids` gives them: 0 for a prepared
    /// transaction. Empty for one that does not wait.
    pub fn blocked_by(&self, pid: i32) -> Vec<i32> {
        let pids: BTreeSet<i32> =
            self.graph.blockers(pid).into_iter().map(|party| self.graph.pid_of(party)).collect();
        pids.into_iter().collect()
    }

    /// The processes that wait for a process, directly or through others.
    pub fn pids_behind(&self, pid: i32) -> BTreeSet<i32> {
        let mut found = BTreeSet::from([pid]);
        let mut waiting: Vec<(i32, Vec<i32>)> =
            self.graph.waits.keys().map(|waiter| (*waiter, self.blocked_by(*waiter))).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|(waiter, blockers)| {
                let is_behind = blockers.iter().any(|blocker| found.contains(blocker));
                if is_behind {
                    found.insert(*waiter);
                }
                !is_behind
            });
            if waiting.len() == before {
                found.remove(&pid);
                return found;
            }
        }
    }

    /// Whether a process waits for a lock.
    pub fn is_waiting(&self, pid: i32) -> bool {
        self.graph.waits.contains_key(&pid)
    }

    /// Sessions that wait for a process, directly or through others.
    pub fn behind(&self, pid: i32) -> usize {
        self.find(pid).map_or(0, |node| node.behind)
    }

    /// What is the least that helps against a root.
    pub fn advice(&self, root: &Node) -> Advice {
        let waiting_ddl = self
            .children(root)
            .filter(|child| child.is_waiting_ddl() && child.behind > 0)
            .max_by_key(|child| child.behind);
        root.advice(waiting_ddl)
    }
}

impl Node {
    /// `4242 reports-worker, idle in transaction 8m12s`.
    pub fn title(&self) -> String {
        match (self.kind, self.pid, &self.gid) {
            (NodeKind::Prepared, _, Some(gid)) => format!("prepared transaction '{gid}'"),
            (NodeKind::Deadlock, ..) => {
                let members: Vec<_> = self.members.iter().map(i32::to_string).collect();
                format!("deadlock of {}", members.join(", "))
            }
            (_, Some(pid), _) if self.description.is_empty() => pid.to_string(),
            (_, Some(pid), _) => format!("{pid} {}", self.description),
            (_, None, _) => "a holder that is not visible".into(),
        }
    }

    /// Whether it waits for a table lock that most others must queue behind: the mark of a schema change.
    fn is_waiting_ddl(&self) -> bool {
        self.waits_for.as_ref().is_some_and(|wait| {
            &*wait.tag.locktype == "relation"
                && matches!(
                    wait.mode.as_str(),
                    "AccessExclusiveLock" | "ShareRowExclusiveLock" | "ExclusiveLock"
                )
        })
    }

    fn advice(&self, waiting_ddl: Option<&Self>) -> Advice {
        let advise = |action, pid, reason: String| Advice { action, pid, reason };
        match (self.kind, self.situation) {
            (NodeKind::Deadlock, _) => {
                advise(AdvisedAction::Wait, None, "the server cancels one of them within deadlock_timeout".into())
            }
            (NodeKind::Prepared, _) => {
                let gid = self.gid.as_deref().unwrap_or_default().replace('\'', "''");
                let database = self.database.as_deref().unwrap_or("its database");
                advise(AdvisedAction::RollbackPrepared, None, format!("ROLLBACK PREPARED '{gid}'; in database {database}"))
            }
            (NodeKind::Unknown, _) | (_, RootSituation::Unknown) => {
                advise(AdvisedAction::None, self.pid, "the holder is not visible to this role".into())
            }
            (NodeKind::Session, RootSituation::IdleInTransaction) => advise(
                AdvisedAction::Terminate,
                self.pid,
                format!(
                    "terminate {} frees {} now, {} behind; its open transaction rolls back",
                    self.pid_text(),
                    self.frees_now,
                    self.behind
                ),
            ),
            (NodeKind::Session, RootSituation::Active) => match waiting_ddl {
                Some(ddl) => advise(
                    AdvisedAction::Cancel,
                    ddl.pid,
                    format!("cancel {} frees {} now; its DDL fails, {} stays", ddl.pid_text(), ddl.frees_now, self.pid_text()),
                ),
                None => advise(
                    AdvisedAction::Cancel,
                    self.pid,
                    format!("cancel {} first; terminate it if the transaction stays open", self.pid_text()),
                ),
            },
            (NodeKind::Session, RootSituation::Idle) => advise(
                AdvisedAction::Terminate,
                self.pid,
                format!("terminate {}; it may hold a leader lock or a migration lock", self.pid_text()),
            ),
            (NodeKind::Session, RootSituation::SyncRep) => advise(
                AdvisedAction::None,
                self.pid,
                "it has committed and waits for a standby: restore the standby or change synchronous_standby_names".into(),
            ),
            (NodeKind::Session, RootSituation::Autovacuum) => {
                advise(AdvisedAction::Wait, self.pid, "autovacuum yields to a waiting lock by itself".into())
            }
            (NodeKind::Session, RootSituation::AutovacuumWraparound) => {
                advise(AdvisedAction::Wait, self.pid, "autovacuum to prevent wraparound does not yield: let it finish".into())
            }
            (NodeKind::Session, RootSituation::Background) => {
                advise(AdvisedAction::None, self.pid, "a process of the server itself: it must not be ended".into())
            }
        }
    }

    fn pid_text(&self) -> String {
        self.pid.map_or_else(|| "it".into(), |pid| pid.to_string())
    }
}

/// A lockable object in words: `reports`, `tuple (3,7) of reports`, `tx 7745`.
pub fn describe(tag: &LockTag, names: &Names) -> String {
    let relation = || {
        tag.relation.map_or_else(|| "?".into(), |oid| names.relation(tag.database.unwrap_or_default(), oid))
    };
    match (&*tag.locktype, tag.transactionid, &tag.virtualxid) {
        ("relation", ..) => relation().to_string(),
        ("tuple", ..) => format!(
            "tuple ({},{}) of {}",
            tag.page.unwrap_or_default(),
            tag.tuple.unwrap_or_default(),
            relation()
        ),
        ("page", ..) => format!("page {} of {}", tag.page.unwrap_or_default(), relation()),
        ("extend", ..) => format!("extension of {}", relation()),
        ("transactionid", Some(xid), _) => format!("tx {xid}"),
        ("virtualxid", _, Some(vxid)) => format!("virtual tx {vxid}"),
        ("advisory", ..) => format!("advisory {}", advisory_key(tag)),
        (other, ..) => {
            format!("{other} {}/{}", tag.classid.unwrap_or_default(), tag.objid.unwrap_or_default())
        }
    }
}

/// Manual, "`pg_locks"`: a bigint key is split over classid and objid with objsubid 1, two int keys have objsubid 2.
fn advisory_key(tag: &LockTag) -> String {
    let (high, low) = (tag.classid.unwrap_or_default(), tag.objid.unwrap_or_default());
    if tag.objsubid == Some(1) {
        ((u64::from(high) << 32) | u64::from(low)).cast_signed().to_string()
    } else {
        format!("{}, {}", high.cast_signed(), low.cast_signed())
    }
}

#[cfg(test)]
#[path = "locks/tests.rs"]
mod tests;
