//! Pane 2: the lock forest as rows of a tree.

use std::collections::{BTreeMap, BTreeSet};

use super::activity;
use super::list::{ListState, RowKey};
use super::table::Role;
use crate::engine::filter::Filter;
use crate::engine::locks::{Forest, Node, NodeKind};
use crate::engine::{PgTick, was_there};
use crate::format;
use crate::model::postgres::{Session, State};

/// State of the pane.
#[derive(Debug, Default)]
pub struct LocksView {
    /// Rows and selection.
    pub list: ListState,
    /// The text filter as typed.
    pub filter_text: String,
    /// Queues that have been opened, by the key of their fold.
    pub open: BTreeSet<RowKey>,
}

/// Waiters of one queue that are shown before the rest is folded into a line with a count.
const QUEUE_SHOWN: usize = 3;

/// A line of the tree.
#[derive(Debug, Clone)]
pub enum LockLine<'a> {
    /// A node.
    Node(LockRow<'a>),
    /// Waiters of one queue that are not shown one by one.
    Fold {
        /// Its place in the tree, as for a node.
        guides: Vec<bool>,
        /// How many they are, what they want, and the longest of their waits.
        text: String,
    },
    /// The selected node after it has left the forest: it no longer waits and nobody waits for it.
    Gone(String),
}

/// A node and its place in the tree.
#[derive(Debug, Clone)]
pub struct LockRow<'a> {
    /// The node.
    pub node: &'a Node,
    /// For each level above it whether a line goes on there; the last is its own: whether it is the last child.
    pub guides: Vec<bool>,
    /// The session, where it is one.
    pub session: Option<&'a Session>,
}

/// The forest in the order of the screen, each line with its key.
fn lines<'a>(view: &LocksView, tick: &'a PgTick) -> Vec<(RowKey, LockLine<'a>)> {
    let mut walk = Walk { view, tick, lines: Vec::new(), guides: Vec::new() };
    if let Some(forest) = tick.forest.value() {
        for root in forest.roots() {
            walk.node(forest, root);
        }
    }
    walk.lines
}

struct Walk<'v, 'a> {
    view: &'v LocksView,
    tick: &'a PgTick,
    lines: Vec<(RowKey, LockLine<'a>)>,
    guides: Vec<bool>,
}

impl<'a> Walk<'_, 'a> {
    fn node(&mut self, forest: &'a Forest, node: &'a Node) {
        let row = LockRow {
            node,
            guides: self.guides.clone(),
            session: node.pid.and_then(|pid| session(self.tick, pid)),
        };
        let own = key(&row);
        self.lines.push((own.clone(), LockLine::Node(row)));
        // Waiters without anybody under them that stand in one queue for one thing; the others are always shown.
        let mut queues: BTreeMap<String, Vec<&'a Node>> = BTreeMap::new();
        let mut shown: Vec<&'a Node> = Vec::new();
        for child in forest.children(node) {
            match &child.waits_for {
                Some(wait) if forest.children(child).next().is_none() => {
                    queues.entry(format!("{} on {}", wait.mode, wait.object)).or_default().push(child);
                }
                Some(_) | None => shown.push(child),
            }
        }
        let mut folds = Vec::new();
        for (queue, waiters) in queues {
            let fold = RowKey::Fold(Box::new(own.clone()), queue.clone());
            let one_by_one = waiters.len() <= QUEUE_SHOWN + 1 || self.view.open.contains(&fold);
            let taken = if one_by_one { waiters.len() } else { QUEUE_SHOWN };
            shown.extend(waiters.iter().take(taken));
            if let Some(first) = waiters.get(taken) {
                let longest = format::age(first.wait_seconds.unwrap_or_default());
                folds.push((
                    fold,
                    format!("… {} more want {queue}, longest {longest}", waiters.len() - taken),
                ));
            }
        }
        let count = shown.len() + folds.len();
        for (place, child) in shown.into_iter().enumerate() {
            self.guides.push(place + 1 == count);
            self.node(forest, child);
            self.guides.pop();
        }
        let first = count - folds.len();
        for (place, (fold, text)) in folds.into_iter().enumerate() {
            let mut guides = self.guides.clone();
            guides.push(first + place + 1 == count);
            self.lines.push((fold, LockLine::Fold { guides, text }));
        }
    }
}

/// The session of a process.
pub(super) fn session(tick: &PgTick, pid: i32) -> Option<&Session> {
    let read_at = tick.forest.stale_since();
    tick.sample.sessions.value()?.iter().find(|session| session.id.pid == pid && was_there(session, read_at))
}

fn key(row: &LockRow<'_>) -> RowKey {
    match (row.node.kind, row.session, row.node.pid) {
        (NodeKind::Prepared, ..) => RowKey::Prepared(row.node.gid.clone().unwrap_or_default()),
        (NodeKind::Deadlock, ..) => RowKey::Deadlock(row.node.members.clone()),
        (_, Some(session), _) => RowKey::Session(session.id),
        (_, None, pid) => RowKey::Pid(pid.unwrap_or_default()),
    }
}

impl LockRow<'_> {
    /// How long it has waited; `-` for a root.
    pub fn waits(&self) -> String {
        match (&self.node.waits_for, self.node.wait_seconds) {
            (Some(_), Some(seconds)) => format::age(seconds),
            // waitstart is absent for an instant after the wait begins.
            (Some(_), None) => "<1s".into(),
            (None, _) => "-".into(),
        }
    }

    /// What it does or wants, in the server's words.
    pub fn situation(&self, tick: &PgTick) -> (Role, String) {
        if let Some(wait) = &self.node.waits_for {
            let also = match self.node.also_behind.len() {
                0 => String::new(),
                others => format!(" · also behind {others}"),
            };
            return (Role::Text, format!("{} on {}{also}", wait.mode, wait.object));
        }
        match (self.node.kind, self.session) {
            (NodeKind::Deadlock, _) => (Role::Critical, "wait for each other in a circle".into()),
            (NodeKind::Prepared, _) => (Role::Critical, self.node.description.clone()),
            (_, Some(session)) => (Role::Critical, state(session, tick)),
            (NodeKind::Session | NodeKind::Unknown, None) => (Role::Critical, "not visible".into()),
        }
    }

    /// Who it is.
    pub fn name(&self) -> String {
        match self.node.kind {
            NodeKind::Session | NodeKind::Unknown => {
                self.node.pid.map_or_else(|| "?".into(), |pid| pid.to_string())
            }
            NodeKind::Prepared => format!("prepared '{}'", self.node.gid.as_deref().unwrap_or("?")),
            NodeKind::Deadlock => {
                let members: Vec<_> = self.node.members.iter().map(i32::to_string).collect();
                format!("deadlock {}", members.join(","))
            }
        }
    }

    /// Its statement; `last:` in front when it is over.
    pub fn query(&self, tick: &PgTick) -> String {
        self.session
            .map(|session| activity::ActivityRow { session, tick, departed: false }.query())
            .unwrap_or_default()
    }

    fn searched(&self, tick: &PgTick) -> String {
        let application =
            self.session.map(|session| session.application_name.to_string()).unwrap_or_default();
        [self.name(), application, self.situation(tick).1, self.query(tick)].join(" ")
    }
}

fn state(session: &Session, tick: &PgTick) -> String {
    let now = tick.sample.server_time;
    let age = |since: Option<jiff::Timestamp>| {
        since.map(|since| format!(" {}", format::age_at(since, now))).unwrap_or_default()
    };
    let who = match &*session.application_name {
        "" => String::new(),
        name => format!(" · {name}"),
    };
    match session.state {
        Some(State::Active) => format!("active{}{who}", age(session.query_start)),
        Some(state) if state.is_idle_in_transaction() => {
            format!("idle in tx{}{who}", age(session.state_change))
        }
        Some(state) => format!("{}{}{who}", state.as_str(), age(session.state_change)),
        None => format!("state not visible{who}"),
    }
}

impl LocksView {
    /// Lists the rows anew.
    pub(super) fn refresh(&mut self, tick: &PgTick) {
        let filter = Filter::parse(&self.filter_text);
        let passes = |line: &LockLine<'_>| match line {
            // A root is never hidden: without it the waiters below make no sense.
            LockLine::Node(row) => {
                row.guides.is_empty() || filter.is_empty() || filter.passes(&row.searched(tick))
            }
            LockLine::Fold { .. } | LockLine::Gone(_) => filter.is_empty(),
        };
        let rows =
            lines(self, tick).into_iter().filter(|(_, line)| passes(line)).map(|(key, _)| key).collect();
        self.list.set_rows(rows);
    }

    pub(super) fn show_all(&mut self) {
        self.filter_text.clear();
    }

    /// Opens the selected fold; the first of those that were hidden is selected.
    pub(super) fn open_fold(&mut self, tick: &PgTick) -> bool {
        let Some(fold @ RowKey::Fold(..)) = self.list.selected.clone() else { return false };
        let place = self.list.position();
        self.open.insert(fold);
        self.list.selected = None;
        self.refresh(tick);
        if let Some(first) = place.and_then(|place| self.list.rows.get(place)).cloned() {
            self.list.select(first);
        }
        true
    }

    /// Selects the root of a process, or the one without a process for 0; false when it is not there any more.
    pub(super) fn select_root(&mut self, pid: i32) -> bool {
        let found = self.list.rows.iter().find(|key| match key {
            RowKey::Session(id) => id.pid == pid,
            RowKey::Pid(other) => *other == pid,
            RowKey::Prepared(_) | RowKey::Deadlock(_) => pid == 0,
            RowKey::Statement(_) | RowKey::Group(_) | RowKey::Fold(..) => false,
        });
        let found = found.cloned();
        if let Some(root) = &found {
            self.list.select(root.clone());
        }
        found.is_some()
    }
}

/// The lines that the view lists, each with its key.
pub fn listed<'a>(view: &LocksView, tick: &'a PgTick) -> Vec<(RowKey, LockLine<'a>)> {
    let mut known: BTreeMap<RowKey, LockLine<'a>> = lines(view, tick).into_iter().collect();
    let line = |key: &RowKey| (key.clone(), known.remove(key).unwrap_or_else(|| LockLine::Gone(gone(key))));
    view.list.rows.iter().map(line).collect()
}

fn gone(key: &RowKey) -> String {
    match key {
        RowKey::Session(id) => format!("{} neither waits nor blocks now", id.pid),
        RowKey::Pid(pid) => format!("{pid} neither waits nor blocks now"),
        RowKey::Prepared(gid) => format!("prepared '{gid}' blocks nobody now"),
        RowKey::Deadlock(_) => "the deadlock is resolved".into(),
        RowKey::Fold(_, queue) => format!("nobody else wants {queue} now"),
        RowKey::Statement(_) | RowKey::Group(_) => String::new(),
    }
}

/// The selected node.
pub(super) fn selected<'a>(view: &LocksView, tick: &'a PgTick) -> Option<LockRow<'a>> {
    let wanted = view.list.selected.as_ref()?;
    lines(view, tick).into_iter().find(|(key, _)| key == wanted).and_then(|(_, line)| match line {
        LockLine::Node(row) => Some(row),
        LockLine::Fold { .. } | LockLine::Gone(_) => None,
    })
}

/// The advice for the selected node: for a root the engine's, for a waiter what its own end would bring.
pub fn advice(view: &LocksView, tick: &PgTick) -> Option<String> {
    let forest = tick.forest.value()?;
    let row = selected(view, tick)?;
    if row.guides.is_empty() {
        return Some(forest.advice(row.node).reason);
    }
    let pid = row.name();
    Some(match row.node.behind {
        0 => format!("nobody waits behind {pid}: ending it helps only itself"),
        behind => format!(
            "cancel {pid} frees {} now, {behind} behind; its statement fails, the root stays",
            row.node.frees_now
        ),
    })
}
