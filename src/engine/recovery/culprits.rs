//! Who blocked when it began: by identity, by statement, and by the relations that were waited for, so that the same
//! trouble is known again under another process id.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::engine::PgTick;
use crate::engine::locks::{Forest, Node};
use crate::format::seconds_between;
use crate::model::postgres::{LockTable, Oid, SessionId};
use crate::text;

/// The first object id that is not of the system (`FirstNormalObjectId`, access/transam.h).
const FIRST_OWN_OID: Oid = 16_384;

/// Who has waited for less waits for a moment, as somebody does in many a sample of a busy table.
const MOMENT_SECONDS: f64 = 1.0;

/// A root of the forest, whoever it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    Session(SessionId),
    Prepared(String),
    Others(Vec<i32>),
}

/// Whether those who are meant block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Blocking {
    /// They do not.
    #[default]
    Not,
    /// Nobody has waited for more than a moment.
    Moment,
    /// They do.
    Lasts,
}

impl Blocking {
    fn of(node: &Node, is_known: bool) -> Self {
        // Where the server does not say how long somebody waits, it may be long.
        let is_short = node.longest_wait_seconds.is_some_and(|seconds| seconds < MOMENT_SECONDS);
        match (is_known, is_short) {
            (false, _) => Self::Not,
            (true, true) => Self::Moment,
            (true, false) => Self::Lasts,
        }
    }

    /// Whether it is over: who waits for a moment now must not wait still when a moment has passed.
    pub(super) fn is_over(self, quiet_since: &mut Option<Timestamp>, now: Timestamp) -> bool {
        match self {
            Self::Not => true,
            Self::Moment => MOMENT_SECONDS <= seconds_between(*quiet_since.get_or_insert(now), now),
            Self::Lasts => {
                *quiet_since = None;
                false
            }
        }
    }
}

/// Who blocked, and what.
#[derive(Debug, Clone, Default)]
pub(super) struct Culprits {
    roots: BTreeSet<Root>,
    statements: BTreeSet<String>,
    relations: BTreeSet<(Oid, Oid)>,
}

impl Culprits {
    /// The roots of a moment; only the one that is meant, where it is among them.
    pub(super) fn of(tick: &PgTick, meant: Option<SessionId>) -> Self {
        let Some(forest) = tick.forest.value() else { return Self::default() };
        let mut culprits = Self::default();
        match meant.and_then(|session| forest.find(session.pid)).filter(|node| blocks(node)) {
            Some(node) => culprits.add(tick, node),
            None => roots(tick).for_each(|node| culprits.add(tick, node)),
        }
        culprits
    }

    fn add(&mut self, tick: &PgTick, node: &Node) {
        self.roots.insert(identity(tick, node));
        self.statements.extend(statement(tick, node));
        self.relations.extend(relations(tick, node));
    }

    pub(super) fn statements(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Whether one of them is a root still, or another root runs the same statement.
    pub(super) fn are_there(&self, tick: &PgTick) -> Blocking {
        let of = |node: &Node| {
            if self.is_one(tick, node) {
                Blocking::Lasts
            } else {
                Blocking::of(node, self.runs_the_same(tick, node))
            }
        };
        roots(tick).map(of).max().unwrap_or_default()
    }

    /// Whether one of them, the same statement or the same relation blocks.
    pub(super) fn block_again(&self, tick: &PgTick) -> Blocking {
        let of = |node: &Node| {
            let mut relations = relations(tick, node);
            let is_known = self.is_one(tick, node)
                || self.runs_the_same(tick, node)
                || relations.any(|it| self.relations.contains(&it));
            Blocking::of(node, is_known)
        };
        roots(tick).map(of).max().unwrap_or_default()
    }

    fn is_one(&self, tick: &PgTick, node: &Node) -> bool {
        self.roots.contains(&identity(tick, node))
    }

    fn runs_the_same(&self, tick: &PgTick, node: &Node) -> bool {
        statement(tick, node).is_some_and(|statement| self.statements.contains(&statement))
    }
}

/// Whether somebody waits for it; in a deadlock its members do for each other.
fn blocks(node: &Node) -> bool {
    node.behind > 0 || !node.members.is_empty()
}

/// The roots that somebody waits for, deadlocks among them.
fn roots(tick: &PgTick) -> impl Iterator<Item = &Node> {
    let roots = tick.forest.value().into_iter().flat_map(Forest::roots);
    roots.filter(|node| blocks(node))
}

fn identity(tick: &PgTick, node: &Node) -> Root {
    let mut sessions = tick.sample.sessions.value().into_iter().flatten();
    match (node.pid, &node.gid) {
        (_, Some(gid)) => Root::Prepared(gid.clone()),
        (Some(pid), None) => {
            let known = sessions.find(|session| session.id.pid == pid).map(|session| session.id);
            Root::Session(known.unwrap_or(SessionId { pid, backend_start: None }))
        }
        (None, None) => Root::Others(node.members.clone()),
    }
}

/// What the session of a node runs, or ran last, without its literals.
fn statement(tick: &PgTick, node: &Node) -> Option<String> {
    let pid = node.pid?;
    let session = tick.sessions_of(pid).next()?;
    (!session.query.is_empty()).then(|| text::folded(&text::masked(&session.query)))
}

/// The relations that those under a node wait for; who waits for a transaction is told by the row that it has locked to
/// wait for it, or else by the relations that both have locked.
fn relations<'a>(tick: &'a PgTick, node: &'a Node) -> impl Iterator<Item = (Oid, Oid)> + 'a {
    let locks = tick.sample.locks.value();
    let forest = tick.forest.value();
    let children = forest.into_iter().flat_map(move |forest| forest.children(node));
    children.flat_map(move |child| {
        let tag = child.waits_for.as_ref().map(|waits| &waits.tag);
        let wanted = tag.and_then(|tag| Some((tag.database?, tag.relation?)));
        let found = locks.filter(|_| wanted.is_none()).map(|locks| {
            // Most locks of relations are not in the table: they are taken by the fast path.
            let of_rows = locked(locks, "tuple", child.pid);
            if of_rows.is_empty() { shared(locks, node.pid, child.pid) } else { of_rows }
        });
        wanted.into_iter().chain(found.into_iter().flatten())
    })
}

/// The relations that two processes have locked.
fn shared(locks: &LockTable, one: Option<i32>, other: Option<i32>) -> BTreeSet<(Oid, Oid)> {
    let of = |pid| locked(locks, "relation", pid);
    of(one).intersection(&of(other)).copied().collect()
}

/// The relations of which a process has locked something.
fn locked(locks: &LockTable, what: &str, pid: Option<i32>) -> BTreeSet<(Oid, Oid)> {
    let own =
        locks.rows.iter().filter(|lock| pid.is_some() && lock.pid == pid && &*lock.tag.locktype == what);
    let named = own.filter_map(|lock| Some((lock.tag.database?, lock.tag.relation?)));
    named.filter(|(_, oid)| *oid >= FIRST_OWN_OID).collect()
}
