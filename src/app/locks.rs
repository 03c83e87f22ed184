//! Pane 2: the lock forest as rows of a tree that does not jump: roots keep their order, and what has left stays struck
//! through for a while.

mod rows;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub(super) use self::rows::session;
pub use self::rows::{COLUMNS, LockColumn, LockLine, LockRow};
use super::activity;
use super::list::{ListState, RowKey};
use crate::engine::PgTick;
use crate::engine::filter::Filter;
use crate::engine::locks::{Forest, NodeKind};
use crate::model::postgres::Session;

/// How many ticks a node that has left stays.
const STRUCK_TICKS: u32 = 3;

/// State of the pane.
#[derive(Debug, Default)]
pub struct LocksView {
    /// Rows and selection.
    pub list: ListState,
    /// The text filter as typed.
    pub filter_text: String,
    /// Queues that have been opened, by the key of their fold.
    pub open: BTreeSet<RowKey>,
    /// Waiters that the filter leaves out.
    pub hidden: usize,
    /// The roots, in the order of the last tick.
    root_order: Vec<RowKey>,
    /// Listed nodes as they were last seen: where in the tree, and who.
    seen: BTreeMap<RowKey, (Vec<bool>, String)>,
    /// Nodes that have left: after which row they stood, and the ticks they have left.
    departed: Vec<Departed>,
    /// The tick that was listed last, by the server's clock.
    listed_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Departed {
    key: RowKey,
    after: Option<RowKey>,
    ticks_left: u32,
}

impl LocksView {
    /// Lists the rows anew.
    pub(super) fn refresh(&mut self, tick: &PgTick) {
        if let Some(forest) = tick.forest.value() {
            self.root_order = rows::steady(forest, tick, &self.root_order)
                .into_iter()
                .map(|node| rows::key(node, tick))
                .collect();
        }
        let is_next = self.listed_at != Some(tick.sample.server_time);
        self.listed_at = Some(tick.sample.server_time);
        let passing = passing(self, tick);
        let is_waiter = |line: &LockLine<'_>| matches!(line, LockLine::Node(row) if !row.is_root());
        let listed = passing.iter().filter(|(_, line)| is_waiter(line)).count();
        let waiting = tick.forest.value().map_or(0, |forest| forest.blocked_sessions);
        self.hidden = waiting.saturating_sub(listed);
        self.strike(tick, &passing, is_next);
        let mut keys: Vec<RowKey> = passing.iter().map(|(key, _)| key.clone()).collect();
        for departed in &self.departed {
            let after = departed.after.as_ref().and_then(|key| keys.iter().position(|it| it == key));
            keys.insert(after.map_or(0, |place| place + 1).min(keys.len()), departed.key.clone());
        }
        for (key, line) in &passing {
            if let LockLine::Node(row) = line {
                let who = row.session.map(|session| session.application_name.to_string()).unwrap_or_default();
                let text = format!("{} {who}", row.name());
                self.seen.insert(key.clone(), (row.guides.clone(), text.trim_end().to_owned()));
            }
        }
        self.list.set_rows(keys);
        // The selected row stays listed after it has left, and is still told by who it was.
        let listed: BTreeSet<&RowKey> = self.list.rows.iter().collect();
        self.seen.retain(|key, _| listed.contains(key));
    }

    /// Keeps what was listed and has left, for some ticks more.
    fn strike(&mut self, tick: &PgTick, passing: &[(RowKey, LockLine<'_>)], is_next: bool) {
        let now: BTreeSet<&RowKey> = passing.iter().map(|(key, _)| key).collect();
        let forest = tick.forest.value();
        let is_there =
            |key: &RowKey| now.contains(key) || forest.is_some_and(|forest| is_in(forest, tick, key));
        if is_next {
            for departed in &mut self.departed {
                departed.ticks_left = departed.ticks_left.saturating_sub(1);
            }
            let mut after = None;
            for key in &self.list.rows {
                let known = self.departed.iter().any(|departed| departed.key == *key);
                let is_node = !matches!(key, RowKey::Fold(..));
                if is_node && !known && !is_there(key) && forest.is_some() {
                    let ticks_left = STRUCK_TICKS;
                    self.departed.push(Departed { key: key.clone(), after: after.clone(), ticks_left });
                }
                // A fold comes and goes with the length of its queue: nothing can be placed by it.
                if is_node {
                    after = Some(key.clone());
                }
            }
        }
        self.departed.retain(|departed| 0 < departed.ticks_left && !is_there(&departed.key));
    }

    /// Forgets everything about the server that was shown, except what was typed.
    pub(super) fn forget(&mut self) {
        *self = Self { filter_text: std::mem::take(&mut self.filter_text), ..Self::default() };
    }

    pub(super) fn show_all(&mut self) {
        self.filter_text.clear();
    }

    /// Opens the selected fold, whose rows are listed with the next refresh; false where none is selected.
    pub(super) fn open_fold(&mut self) -> bool {
        let Some(fold @ RowKey::Fold(..)) = self.list.selected.take_if(|key| matches!(key, RowKey::Fold(..)))
        else {
            return false;
        };
        self.open.insert(fold);
        true
    }

    /// Selects the root of a process, or the one without a process for 0; false when it is not there any more.
    pub(super) fn select_root(&mut self, pid: i32) -> bool {
        let found = self.list.rows.iter().find(|key| match key {
            RowKey::Session(id) => id.pid == pid,
            RowKey::Pid(other) => *other == pid,
            RowKey::Prepared(_) | RowKey::Deadlock(_) => pid == 0,
            RowKey::Statement(_)
            | RowKey::Wait(_)
            | RowKey::Relation(_)
            | RowKey::Group(_)
            | RowKey::Event(_)
            | RowKey::Fold(..) => false,
        });
        let found = found.cloned();
        if let Some(root) = &found {
            self.list.select(root.clone());
        }
        found.is_some()
    }
}

/// Whether the forest still knows who waits or blocks under a key, listed or folded.
fn is_in(forest: &Forest, tick: &PgTick, key: &RowKey) -> bool {
    let waits_or_blocks = |pid: i32| {
        forest.find(pid).is_some_and(|node| {
            (node.waits_for.is_some() || node.behind > 0) && rows::key(node, tick) == *key
        })
    };
    match key {
        RowKey::Session(id) => waits_or_blocks(id.pid),
        RowKey::Pid(pid) => waits_or_blocks(*pid),
        RowKey::Prepared(_) | RowKey::Deadlock(_) => forest.roots().any(|root| rows::key(root, tick) == *key),
        RowKey::Statement(_)
        | RowKey::Wait(_)
        | RowKey::Relation(_)
        | RowKey::Group(_)
        | RowKey::Event(_)
        | RowKey::Fold(..) => false,
    }
}

/// The lines that pass the filter, and those that a line that passes stands under: a filter never hides who blocks one
/// that is shown. With a filter every queue is open, so that nobody who passes is folded away.
fn passing<'a>(view: &LocksView, tick: &'a PgTick) -> Vec<(RowKey, LockLine<'a>)> {
    let filter = Filter::parse(&view.filter_text);
    let unfolded = rows::Unfolded {
        open: &view.open,
        open_all: !filter.is_empty(),
        root_order: &view.root_order,
        selected: view.list.selected.as_ref(),
    };
    let mut lines = rows::lines(&unfolded, tick);
    if filter.is_empty() {
        return lines;
    }
    // Whoever one that passes waits for is listed too, under whichever blocker they stand.
    let passing: Vec<i32> = lines
        .iter()
        .filter_map(|(_, line)| match line {
            LockLine::Node(row) => row.node.pid.filter(|_| filter.passes(&row.searched())),
            LockLine::Fold { .. } | LockLine::Gone { .. } => None,
        })
        .collect();
    let ahead = tick.forest.value().map(|forest| forest.pids_ahead(passing)).unwrap_or_default();
    let mut parent_level = None;
    let mut keep = Vec::new();
    for (_, line) in lines.iter_mut().rev() {
        let level = line.guides().len();
        let passes = match line {
            LockLine::Node(row) => {
                row.filtered = !filter.passes(&row.searched());
                !row.filtered || row.node.pid.is_some_and(|pid| ahead.contains(&pid))
            }
            LockLine::Fold { .. } | LockLine::Gone { .. } => false,
        };
        // A root is never hidden: without it the waiters below make no sense.
        let kept = passes || level == 0 || parent_level == Some(level);
        if passes || parent_level == Some(level) {
            parent_level = level.checked_sub(1);
        }
        keep.push(kept);
    }
    lines.retain(|_| keep.pop().unwrap_or(true));
    lines
}

/// The lines that the view lists, each with its key.
pub fn listed<'a>(view: &LocksView, tick: &'a PgTick) -> Vec<(RowKey, LockLine<'a>)> {
    let passing = passing(view, tick);
    // As a rule nobody has left.
    if passing.iter().map(|(key, _)| key).eq(&view.list.rows) {
        return passing;
    }
    let mut known: BTreeMap<RowKey, LockLine<'a>> = passing.into_iter().collect();
    let line = |key: &RowKey| {
        let line = known.remove(key).unwrap_or_else(|| {
            let (guides, who) = view.seen.get(key).cloned().unwrap_or_default();
            LockLine::Gone { guides, text: gone(key, &who, tick) }
        });
        (key.clone(), line)
    };
    view.list.rows.iter().map(line).collect()
}

fn gone(key: &RowKey, who: &str, tick: &PgTick) -> String {
    match key {
        RowKey::Session(id) => {
            let who = if who.is_empty() { id.pid.to_string() } else { who.to_owned() };
            let is_there = tick.sample.sessions.value().is_none() || activity::find(tick, *id).is_some();
            if is_there { format!("{who} neither waits nor blocks now") } else { format!("{who} has gone") }
        }
        RowKey::Pid(pid) => format!("{pid} neither waits nor blocks now"),
        RowKey::Prepared(gid) => format!("prepared '{gid}' blocks nobody now"),
        RowKey::Deadlock(_) => "the deadlock is resolved".into(),
        RowKey::Fold(_, queue) => format!("nobody else wants {queue} now"),
        RowKey::Statement(_)
        | RowKey::Wait(_)
        | RowKey::Relation(_)
        | RowKey::Group(_)
        | RowKey::Event(_) => String::new(),
    }
}

fn line_of<'a>(view: &LocksView, tick: &'a PgTick, wanted: &RowKey) -> Option<LockLine<'a>> {
    passing(view, tick).into_iter().find(|(key, _)| key == wanted).map(|(_, line)| line)
}

/// The selected session, as long as it waits or blocks.
pub(super) fn selected_session<'a>(view: &LocksView, tick: &'a PgTick) -> Option<&'a Session> {
    let key = view.list.selected.as_ref()?;
    let RowKey::Session(id) = key else { return None };
    let is_there = tick.forest.value().is_some_and(|forest| is_in(forest, tick, key));
    session(tick, id.pid).filter(|session| is_there && session.id == *id)
}

/// The selected node.
pub(super) fn selected<'a>(view: &LocksView, tick: &'a PgTick) -> Option<LockRow<'a>> {
    match line_of(view, tick, view.list.selected.as_ref()?)? {
        LockLine::Node(row) => Some(row),
        LockLine::Fold { .. } | LockLine::Gone { .. } => None,
    }
}

/// The sessions that a fold stands for.
pub(super) fn folded<'a>(view: &LocksView, tick: &'a PgTick, fold: &RowKey) -> Vec<&'a Session> {
    match line_of(view, tick, fold) {
        Some(LockLine::Fold { waiters, .. }) => {
            waiters.into_iter().filter_map(|node| session(tick, node.pid?)).collect()
        }
        Some(LockLine::Node(_) | LockLine::Gone { .. }) | None => Vec::new(),
    }
}

/// The sessions that stand under a node without a session: a prepared transaction.
pub(super) fn under<'a>(view: &LocksView, tick: &'a PgTick, node: &RowKey) -> Vec<&'a Session> {
    let Some(LockLine::Node(row)) = line_of(view, tick, node) else { return Vec::new() };
    let Some(forest) = tick.forest.value() else { return Vec::new() };
    let mut open = vec![row.node];
    let mut found = Vec::new();
    while let Some(node) = open.pop() {
        found.extend(node.pid.and_then(|pid| session(tick, pid)));
        open.extend(forest.children(node));
    }
    found
}

/// What helps against the selected node, and what else: for a root the engine's advice, for a waiter what its own end
/// would bring. `lines` are those that are [`listed`].
pub fn advice(
    view: &LocksView,
    tick: &PgTick,
    lines: &[(RowKey, LockLine<'_>)],
) -> Option<(String, Option<String>)> {
    let forest = tick.forest.value()?;
    let selected = view.list.selected.as_ref()?;
    let row = match lines.iter().find(|(key, _)| key == selected).map(|(_, line)| line) {
        Some(LockLine::Node(row)) => row,
        Some(LockLine::Fold { .. }) => {
            return Some(("→ shows them one by one, Space marks all of them".into(), None));
        }
        // It has left: what helps against the first that is there.
        Some(LockLine::Gone { .. }) | None => lines.iter().find_map(|(_, line)| match line {
            LockLine::Node(row) => Some(row),
            LockLine::Fold { .. } | LockLine::Gone { .. } => None,
        })?,
    };
    if row.is_root() || row.node.kind == NodeKind::Deadlock {
        let other = forest.alternative(row.node).map(|advice| advice.reason);
        return Some((forest.advice(row.node).reason, other));
    }
    let pid = row.name();
    let is_client = row.session.is_none_or(Session::is_client);
    let text = match (row.node.behind, row.node.frees_now) {
        _ if !is_client => format!("{pid} is a process of the server itself: it must not be ended"),
        (0, _) => format!("nobody waits behind {pid}: ending it helps only itself"),
        (behind, 0) => format!("ending {pid} frees nobody now; the {behind} behind it go on waiting"),
        (behind, frees) => {
            format!("cancel {pid} frees {frees} now, {behind} behind; its statement fails, the root stays")
        }
    };
    Some((text, None))
}

/// The statement that helps against the selected node, where no signal does.
pub(super) fn statement_to_copy(view: &LocksView, tick: &PgTick) -> Option<String> {
    let row = selected(view, tick)?;
    let forest = tick.forest.value()?;
    let advised = [Some(forest.advice(row.node)), forest.alternative(row.node)];
    advised.into_iter().flatten().find_map(|advice| advice.statement)
}
