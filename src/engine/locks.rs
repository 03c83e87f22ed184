//! The lock forest: who waits for whom, from one reading of the lock table.
//!
//! Hard edges run from a waiter to whoever holds a conflicting lock on the same object; soft edges to whoever
//! stands before it in the queue and wants a conflicting one. It must not know how the table was read.

mod advice;
mod conflict;
mod graph;
mod queue;
mod tree;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::advice::{Advice, AdvisedAction};
pub use self::conflict::strength;
use self::graph::Graph;
use crate::model::postgres::{LockTable, LockTag, Names, Prepared, Session};

/// The lock type and mode under which a wait for a safe snapshot stands, which is no lock of the server's.
pub(super) const SAFE_SNAPSHOT: &str = "safe snapshot";

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
    /// The node of each party.
    node_of: Vec<usize>,
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
    /// Sessions that wait for it, directly or through others.
    pub behind: usize,
    /// Sessions that wait for it directly.
    pub behind_directly: usize,
    /// Sessions that would be granted their lock at once, and could go on, if it went.
    pub frees_now: usize,
    /// The longest wait behind it, seconds.
    pub longest_wait_seconds: Option<f64>,
    /// Sum of the waits behind it, seconds.
    pub summed_wait_seconds: f64,
    /// Who it is, for a sentence: application, state and age.
    pub description: String,
    /// Its place in the server's state machine, which decides what helps.
    pub situation: RootSituation,
    /// Under whom it stands.
    parent: Option<usize>,
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
    /// In the middle of a statement that waits for its client's data, such as COPY FROM STDIN.
    ClientRead,
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
    /// The startup process of a standby.
    Startup,
    /// A walsender: replication or a base backup.
    Walsender,
    /// Another process of the server.
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
    pub mode: Arc<str>,
    /// The object in words.
    pub object: Arc<str>,
}

impl Forest {
    /// Builds the forest. Any rows at all give a forest that is finite and loses no waiter.
    pub fn build(table: &LockTable, context: &Context<'_>) -> Self {
        let graph = Graph::build(table, context);
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

    /// The node of a process; a member of a deadlock gives the deadlock, a parallel worker its leader.
    pub fn find(&self, pid: i32) -> Option<&Node> {
        self.place(pid).and_then(|place| self.nodes.get(place))
    }

    fn place(&self, pid: i32) -> Option<usize> {
        self.graph.party_of.get(&pid).and_then(|party| self.node_of.get(*party)).copied()
    }

    /// Processes that hold what a node waits for in a conflicting mode; 0 for a prepared transaction. Empty for one that
    /// waits only for those before it in the queue, and for a deadlock.
    pub fn held_by(&self, node: &Node) -> Vec<i32> {
        let waiting = node.pid.map(|pid| self.graph.waiting_beside(pid)).unwrap_or_default();
        let queues = waiting.iter().filter_map(|pid| self.graph.waiting(*pid));
        let holders = queues.flat_map(|(object, place)| object.hard_blockers(place));
        let pids: BTreeSet<i32> = holders.map(|party| self.graph.pid_of(party)).collect();
        pids.into_iter().collect()
    }

    /// Processes that a node waits for besides the one it stands under; 0 for a prepared transaction.
    pub fn also_behind(&self, node: &Node) -> Vec<i32> {
        let parties: BTreeSet<usize> = node
            .pid
            .iter()
            .chain(&node.members)
            .filter_map(|pid| self.graph.party_of.get(pid))
            .copied()
            .collect();
        let Some(own) = parties.first().and_then(|party| self.node_of.get(*party)).copied() else {
            return Vec::new();
        };
        let waiting = parties.iter().filter_map(|party| self.graph.waiting_of.get(*party)).flatten();
        let blockers: BTreeSet<usize> = waiting.flat_map(|pid| self.graph.blockers(*pid)).collect();
        let is_other = |party: &usize| {
            let place = self.node_of.get(*party).copied();
            place != Some(own) && place != node.parent
        };
        let pids: BTreeSet<i32> =
            blockers.into_iter().filter(is_other).map(|party| self.graph.pid_of(party)).collect();
        pids.into_iter().collect()
    }

    /// The processes that a waiting process waits for, as `pg_blocking_pids` gives them: 0 for a prepared
    /// transaction. Empty for one that does not wait.
    pub fn blocked_by(&self, pid: i32) -> Vec<i32> {
        let waiting = self.graph.waiting_beside(pid).iter();
        let parties = waiting.flat_map(|waiter| self.graph.blockers(*waiter));
        let pids: BTreeSet<i32> = parties.map(|party| self.graph.pid_of(party)).collect();
        pids.into_iter().collect()
    }

    /// The sessions that wait for a process, directly or through others; a parallel group is told by its leader.
    pub fn pids_behind(&self, pid: i32) -> BTreeSet<i32> {
        let Some(own) = self.place(pid) else { return BTreeSet::new() };
        // Nodes are numbered so that each waits only for those before it: one pass finds everybody behind.
        let mut parties: Vec<(usize, usize)> =
            self.node_of.iter().enumerate().map(|(party, place)| (*place, party)).collect();
        parties.sort_unstable();
        let mut nodes = BTreeSet::from([own]);
        let mut pids = BTreeSet::new();
        for node in parties.chunk_by(|(one, _), (other, _)| one == other) {
            let waiting = || node.iter().filter(|(_, party)| !self.graph.is_idle(*party));
            let blockers = waiting().flat_map(|(_, party)| self.graph.nearest_blockers(*party));
            let mut places = blockers.filter_map(|party| self.node_of.get(party));
            if places.any(|place| nodes.contains(place)) {
                nodes.extend(node.iter().map(|(place, _)| *place));
                let others = waiting().filter(|(_, party)| Some(party) != self.graph.party_of.get(&pid));
                pids.extend(others.map(|(_, party)| self.graph.pid_of(*party)));
            }
        }
        pids
    }

    /// The sessions that these processes wait for, directly or through others; 0 for a prepared transaction.
    pub fn pids_ahead(&self, pids: impl IntoIterator<Item = i32>) -> BTreeSet<i32> {
        let mut nodes: BTreeSet<usize> = pids.into_iter().filter_map(|pid| self.place(pid)).collect();
        let mut parties: Vec<(usize, usize)> =
            self.node_of.iter().enumerate().map(|(party, place)| (*place, party)).collect();
        parties.sort_unstable();
        let mut ahead = BTreeSet::new();
        // Each waits only for those before it: from the last to the first everybody is known when it is their turn.
        for node in parties.chunk_by(|(one, _), (other, _)| one == other).rev() {
            let is_meant = node.first().is_some_and(|(place, _)| nodes.contains(place));
            for blocker in
                node.iter().filter(|_| is_meant).flat_map(|(_, party)| self.graph.nearest_blockers(*party))
            {
                nodes.extend(self.node_of.get(blocker));
                ahead.insert(self.graph.pid_of(blocker));
            }
        }
        ahead
    }

    /// Whether a process, or another of its parallel group, waits for a lock.
    pub fn is_waiting(&self, pid: i32) -> bool {
        !self.graph.waiting_beside(pid).is_empty()
    }

    /// Sessions that wait for a process, directly or through others.
    pub fn behind(&self, pid: i32) -> usize {
        self.find(pid).map_or(0, |node| node.behind)
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
        (SAFE_SNAPSHOT, ..) => "the serializable transactions beside it".into(),
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
