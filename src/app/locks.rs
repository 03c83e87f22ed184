//! Pane 2: the lock forest as rows of a tree.

use std::collections::BTreeSet;

use super::activity;
use super::list::{ListState, RowKey};
use super::table::Role;
use crate::engine::PgTick;
use crate::engine::filter::Filter;
use crate::engine::locks::{Forest, Node, NodeKind};
use crate::format;
use crate::model::postgres::{Session, State};

/// State of the pane.
#[derive(Debug, Default)]
pub struct LocksView {
    /// Rows and selection.
    pub list: ListState,
    /// The text filter as typed.
    pub filter_text: String,
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

/// The forest in the order of the screen.
pub(super) fn rows(tick: &PgTick) -> Vec<LockRow<'_>> {
    let mut rows = Vec::new();
    if let Some(forest) = tick.forest.value() {
        for root in forest.roots() {
            push(&mut rows, forest, root, tick, &mut Vec::new());
        }
    }
    rows
}

fn push<'a>(
    rows: &mut Vec<LockRow<'a>>,
    forest: &'a Forest,
    node: &'a Node,
    tick: &'a PgTick,
    guides: &mut Vec<bool>,
) {
    rows.push(LockRow { node, guides: guides.clone(), session: node.pid.and_then(|pid| session(tick, pid)) });
    let mut children = forest.children(node).peekable();
    while let Some(child) = children.next() {
        guides.push(children.peek().is_none());
        push(rows, forest, child, tick, guides);
        guides.pop();
    }
}

/// The session of a process.
pub(super) fn session(tick: &PgTick, pid: i32) -> Option<&Session> {
    tick.sample.sessions.value()?.iter().find(|session| session.id.pid == pid)
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
        let all = rows(tick);
        // A root is never hidden: without it the waiters below make no sense.
        let passes = |row: &&LockRow<'_>| {
            row.guides.is_empty() || filter.is_empty() || filter.passes(&row.searched(tick))
        };
        self.list.set_rows(all.iter().filter(passes).map(key).collect());
    }

    pub(super) fn show_all(&mut self) {
        self.filter_text.clear();
    }

    pub(super) fn select_root(&mut self, pid: i32) {
        let found = self.list.rows.iter().find(|key| match key {
            RowKey::Session(id) => id.pid == pid,
            RowKey::Pid(other) => *other == pid,
            RowKey::Prepared(_) | RowKey::Deadlock(_) => pid == 0,
            RowKey::Statement(_) | RowKey::Group(_) => false,
        });
        self.list.selected = found.or(self.list.rows.first()).cloned();
    }
}

/// The rows that the view lists, each with its key.
pub fn listed<'a>(view: &LocksView, tick: &'a PgTick) -> Vec<(RowKey, LockRow<'a>)> {
    let wanted: BTreeSet<&RowKey> = view.list.rows.iter().collect();
    rows(tick).into_iter().map(|row| (key(&row), row)).filter(|(key, _)| wanted.contains(key)).collect()
}

/// The advice for the selected node: for a root the engine's, for a waiter what its own end would bring.
pub fn advice(view: &LocksView, tick: &PgTick) -> Vec<String> {
    let Some(forest) = tick.forest.value() else { return Vec::new() };
    let listed = listed(view, tick);
    let Some((_, row)) = listed.iter().find(|(key, _)| Some(key) == view.list.selected.as_ref()) else {
        return Vec::new();
    };
    if row.guides.is_empty() {
        return vec![forest.advice(row.node).reason];
    }
    let pid = row.name();
    let behind = match row.node.behind {
        0 => format!("nobody waits behind {pid}: ending it helps only itself"),
        behind => format!(
            "cancel {pid} frees {} now, {behind} behind; its statement fails, the root stays",
            row.node.frees_now
        ),
    };
    vec![behind]
}
