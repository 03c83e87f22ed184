//! The lines of the lock forest, in the order of the screen, and the columns of a line.
//!
//! It must not know which line is selected or how one is painted.

use std::collections::{BTreeMap, BTreeSet};

use super::super::activity::ActivityRow;
use super::super::list::RowKey;
use super::super::table::{Align, Cell, Column, Role, Sql, Value, Width};
use crate::engine::locks::{Forest, Node, NodeKind};
use crate::engine::{PgTick, was_there};
use crate::format;
use crate::model::postgres::{Session, State};

/// Waiters of one queue that are shown before the rest is folded into a line with a count.
const QUEUE_SHOWN: usize = 3;

/// The deepest level that is drawn as one; what stands below is listed beside each other.
const DEPTH_MAX: usize = 60;

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
        /// Who they are.
        waiters: Vec<&'a Node>,
    },
    /// A node that has left the forest: it no longer waits and nobody waits for it.
    Gone {
        /// Where it stood in the tree.
        guides: Vec<bool>,
        /// Who it was.
        text: String,
    },
}

impl LockLine<'_> {
    /// Its place in the tree: for each level above it whether that branch has ended, then its own.
    pub fn guides(&self) -> &[bool] {
        match self {
            Self::Node(row) => &row.guides,
            Self::Fold { guides, .. } | Self::Gone { guides, .. } => guides,
        }
    }
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
    /// The tick it belongs to.
    pub tick: &'a PgTick,
    /// Whether the filter leaves it out, and it is listed only because somebody who is shown waits for it.
    pub filtered: bool,
}

/// What decides which lines there are, and in which order.
pub(super) struct Unfolded<'v> {
    /// Queues that have been opened.
    pub(super) open: &'v BTreeSet<RowKey>,
    /// Whether every queue is open.
    pub(super) open_all: bool,
    /// The roots, in the order of the last tick.
    pub(super) root_order: &'v [RowKey],
    /// The selected line, which is never folded away.
    pub(super) selected: Option<&'v RowKey>,
}

/// The forest in the order of the screen, each line with its key.
pub(super) fn lines<'a>(view: &Unfolded<'_>, tick: &'a PgTick) -> Vec<(RowKey, LockLine<'a>)> {
    let mut walk = Walk { view, tick, folds: BTreeSet::new(), lines: Vec::new(), guides: Vec::new() };
    if let Some(forest) = tick.forest.value() {
        for root in steady(forest, tick, view.root_order) {
            walk.node(forest, root);
        }
    }
    walk.lines
}

/// The roots, worst first, except that two do not change places for a small difference: nothing jumps between ticks.
pub(super) fn steady<'a>(forest: &'a Forest, tick: &PgTick, before: &[RowKey]) -> Vec<&'a Node> {
    let mut roots: Vec<&Node> = forest.roots().collect();
    let place = |node: &Node| {
        let key = key(node, tick);
        before.iter().position(|known| *known == key).unwrap_or(usize::MAX)
    };
    roots.sort_by_cached_key(|node| place(node));
    for place in 1..roots.len() {
        let mut place = place;
        while let Some((above, below)) =
            place.checked_sub(1).and_then(|above| roots.get(above)).zip(roots.get(place))
            && clearly_worse(below, above)
        {
            roots.swap(place - 1, place);
            place -= 1;
        }
    }
    roots
}

fn clearly_worse(one: &Node, other: &Node) -> bool {
    other.behind + (other.behind / 4).max(1) < one.behind
}

struct Walk<'v, 'a> {
    view: &'v Unfolded<'v>,
    tick: &'a PgTick,
    /// The keys of folds that are in use.
    folds: BTreeSet<RowKey>,
    lines: Vec<(RowKey, LockLine<'a>)>,
    guides: Vec<bool>,
}

impl<'a> Walk<'_, 'a> {
    fn node(&mut self, forest: &'a Forest, node: &'a Node) {
        let row = LockRow {
            node,
            guides: self.guides.clone(),
            session: node.pid.and_then(|pid| session(self.tick, pid)),
            tick: self.tick,
            filtered: false,
        };
        let own = key_of(node, row.session);
        self.lines.push((own.clone(), LockLine::Node(row)));
        if DEPTH_MAX <= self.guides.len() {
            self.flat(forest, node);
            return;
        }
        // Waiters without anybody under them that stand in one queue for one thing; the others are always shown.
        let mut queues: BTreeMap<(&str, &str), Vec<&'a Node>> = BTreeMap::new();
        let mut shown: Vec<&'a Node> = Vec::new();
        for child in forest.children(node) {
            match &child.waits_for {
                Some(wait) if forest.children(child).next().is_none() => {
                    queues.entry((&wait.mode, &wait.object)).or_default().push(child);
                }
                Some(_) | None => shown.push(child),
            }
        }
        let mut folds = Vec::new();
        for ((mode, object), waiters) in queues {
            let queue = format!("{mode} on {object}");
            let fold = self.fold_key(&own, &queue);
            let is_open = self.view.open_all || self.view.open.contains(&fold);
            let one_by_one = waiters.len() <= QUEUE_SHOWN + 1 || is_open;
            let taken = if one_by_one { waiters.len() } else { QUEUE_SHOWN };
            shown.extend(waiters.iter().take(taken));
            // Whoever is selected is never folded away under the hands of the person.
            let (selected, folded): (Vec<&'a Node>, Vec<&'a Node>) = waiters
                .into_iter()
                .skip(taken)
                .partition(|node| node.pid.is_some() && node.pid == self.selected_pid());
            shown.extend(selected);
            if let Some(first) = folded.first() {
                let longest = format::age(first.wait_seconds.unwrap_or_default());
                folds.push((
                    fold,
                    format!("… {} more want {queue}, longest {longest}", folded.len()),
                    folded,
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
        for (place, (fold, text, waiters)) in folds.into_iter().enumerate() {
            let mut guides = self.guides.clone();
            guides.push(first + place + 1 == count);
            self.lines.push((fold, LockLine::Fold { guides, text, waiters }));
        }
    }
}

impl<'a> Walk<'_, 'a> {
    /// Everybody below a node, side by side: no chain is too long to be shown.
    fn flat(&mut self, forest: &'a Forest, node: &'a Node) {
        let mut open: Vec<&'a Node> = forest.children(node).collect();
        while let Some(node) = open.pop() {
            open.extend(forest.children(node));
            let session = node.pid.and_then(|pid| session(self.tick, pid));
            let guides = self.guides.iter().copied().chain([open.is_empty()]).collect();
            let row = LockRow { node, guides, session, tick: self.tick, filtered: false };
            self.lines.push((key_of(node, session), LockLine::Node(row)));
        }
    }

    /// A queue is known by its root: the one at its head changes with every lock that is handed on, and an opened queue
    /// must stay open. Where a root has the same queue twice, by the node that it stands under.
    fn fold_key(&mut self, under: &RowKey, queue: &str) -> RowKey {
        let of = |key: &RowKey| RowKey::Fold(Box::new(key.clone()), queue.to_owned());
        let root =
            self.lines.iter().rev().find(|(_, line)| line.guides().is_empty()).map_or(under, |(key, _)| key);
        let (by_root, by_parent) = (of(root), of(under));
        if self.folds.insert(by_root.clone()) { by_root } else { by_parent }
    }

    fn selected_pid(&self) -> Option<i32> {
        match self.view.selected.cloned() {
            Some(RowKey::Session(id)) => Some(id.pid),
            Some(RowKey::Pid(pid)) => Some(pid),
            Some(_) | None => None,
        }
    }
}

/// The session of a process.
pub(in crate::app) fn session(tick: &PgTick, pid: i32) -> Option<&Session> {
    let read_at = tick.forest.stale_since();
    tick.sessions_of(pid).find(|session| was_there(session, read_at))
}

/// What tells a node from others for as long as it is there.
pub(super) fn key(node: &Node, tick: &PgTick) -> RowKey {
    key_of(node, node.pid.and_then(|pid| session(tick, pid)))
}

fn key_of(node: &Node, session: Option<&Session>) -> RowKey {
    match (node.kind, session) {
        (NodeKind::Prepared, _) => RowKey::Prepared(node.gid.clone().unwrap_or_default()),
        (NodeKind::Deadlock, _) => RowKey::Deadlock(node.members.clone()),
        (NodeKind::Session | NodeKind::Unknown, Some(session)) => RowKey::Session(session.id),
        (NodeKind::Session | NodeKind::Unknown, None) => RowKey::Pid(node.pid.unwrap_or_default()),
    }
}

/// A column of the pane.
pub type LockColumn = Column<fn(&LockRow<'_>) -> Cell>;

const fn column(
    name: &'static str,
    width: u16,
    align: Align,
    priority: u8,
    cell: fn(&LockRow<'_>) -> Cell,
) -> LockColumn {
    Column { name, title: name, width: Width::Fixed(width), align, priority, cell }
}

/// The columns beside the tree.
pub const COLUMNS: &[LockColumn] = &[
    column("behind", 6, Align::Right, 0, |row| count(row.node.behind, row.is_root())),
    column("frees", 5, Align::Right, 7, |row| count(row.node.frees_now, false)),
    column("waits", 7, Align::Right, 0, |row| Value::Text(row.waits()).into()),
    column("state · wants", 30, Align::Left, 0, |row| {
        let (role, text) = row.situation();
        Cell { value: Value::Text(text), role }
    }),
    column("held by", 9, Align::Left, 5, |row| Value::some(row.held_by(), Value::Text).into()),
    column("xact", 7, Align::Right, 4, |row| row.transaction_age().into()),
    column("xid", 10, Align::Right, 6, |row| row.transaction_id().into()),
    column("application", 16, Align::Left, 3, |row| {
        row.of_session(|it| it.session.application_name.to_string())
    }),
    column("user", 12, Align::Left, 8, |row| row.of_session(ActivityRow::user)),
    column("client", 15, Align::Left, 9, |row| row.of_session(ActivityRow::client)),
    Column {
        name: "query",
        title: "query",
        width: Width::Rest,
        align: Align::Left,
        priority: 0,
        cell: |row| Value::Sql(row.query()).into(),
    },
];

fn count(n: usize, critical: bool) -> Cell {
    match i64::try_from(n) {
        Ok(0) | Err(_) => Cell { value: Value::Text(String::new()), role: Role::Text },
        Ok(n) => {
            Cell { value: Value::Integer(n), role: if critical { Role::Critical } else { Role::Warning } }
        }
    }
}

impl<'a> LockRow<'a> {
    /// Whether it waits for nobody.
    pub const fn is_root(&self) -> bool {
        self.guides.is_empty()
    }

    fn activity(&self) -> Option<ActivityRow<'a>> {
        self.session.map(|session| ActivityRow::present(session, self.tick))
    }

    fn of_session(&self, text: impl Fn(&ActivityRow<'a>) -> String) -> Cell {
        Value::Text(self.activity().map(|row| text(&row)).unwrap_or_default()).into()
    }

    /// How long it has waited; `-` for a root.
    pub fn waits(&self) -> String {
        match (&self.node.waits_for, self.node.wait_seconds) {
            (Some(_), Some(seconds)) => format::age(seconds),
            // waitstart is absent for an instant after the wait begins.
            (Some(_), None) => "<1s".into(),
            (None, _) => "-".into(),
        }
    }

    /// Who holds what it waits for, where that is not the one it stands under alone.
    fn held_by(&self) -> Option<String> {
        self.node.waits_for.as_ref()?;
        let held_by = self.tick.forest.value()?.held_by(self.node);
        let name = |pid: &i32| if *pid == 0 { "prepared".to_owned() } else { pid.to_string() };
        match held_by.as_slice() {
            [] => Some("queue".into()),
            [first] => Some(name(first)),
            [first, rest @ ..] => Some(format!("{} +{}", name(first), rest.len())),
        }
    }

    fn transaction_age(&self) -> Value {
        let start = self.session.and_then(|session| session.xact_start);
        Value::some(start, |start| Value::Age(format::seconds_between(start, self.tick.sample.server_time)))
    }

    /// Its transaction id: who has one may have written, so that a rollback has something to undo.
    fn transaction_id(&self) -> Value {
        Value::some(self.session.and_then(|session| session.backend_xid), |xid| Value::Integer(xid.into()))
    }

    /// What it does or wants, in the server's words, and how many it waits for besides the one it stands under.
    pub fn situation(&self) -> (Role, String) {
        self.situation_with(" · also behind ")
    }

    /// The same where there is little room.
    pub fn situation_in_short(&self) -> (Role, String) {
        self.situation_with(" +")
    }

    fn situation_with(&self, also: &str) -> (Role, String) {
        if let Some(wait) = &self.node.waits_for {
            let others = self.tick.forest.value().map_or(0, |forest| forest.also_behind(self.node).len());
            let also = if others > 0 { format!("{also}{others}") } else { String::new() };
            return (Role::Text, format!("{} on {}{also}", wait.mode, wait.object));
        }
        match (self.node.kind, self.session) {
            (NodeKind::Deadlock, _) => (Role::Critical, "wait for each other in a circle".into()),
            (NodeKind::Prepared, _) => (Role::Critical, self.node.description.clone()),
            (_, Some(session)) => (Role::Critical, self.state(session)),
            (NodeKind::Session | NodeKind::Unknown, None) => (Role::Critical, "not visible".into()),
        }
    }

    fn state(&self, session: &Session) -> String {
        let now = self.tick.sample.server_time;
        let age = |since: Option<jiff::Timestamp>| {
            since.map(|since| format!(" {}", format::age_at(since, now))).unwrap_or_default()
        };
        let who = match (&*session.application_name, session.backend_type.as_deref()) {
            ("", _) => String::new(),
            (name, _) => format!(" · {name}"),
        };
        match (session.state, session.backend_type.as_deref()) {
            (Some(State::Active), _) => format!("active{}{who}", age(session.query_start)),
            (Some(state), _) if state.is_idle_in_transaction() => {
                format!("idle in tx{}{who}", age(session.state_change))
            }
            (Some(state), _) => format!("{}{}{who}", state.as_str(), age(session.state_change)),
            (None, Some(kind)) if !session.is_client() => format!("{kind} process"),
            (None, _) => format!("state not visible{who}"),
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

    /// Its statement; `last:` in front when it is over, and why it is listed where that needs saying.
    pub fn query(&self) -> Sql {
        let query = self.activity().map(|row| row.query()).unwrap_or_default();
        let outside = if self.filtered { "(outside the filter) " } else { "" };
        Sql { before: format!("{outside}{}", query.before), ..query }
    }

    pub(super) fn searched(&self) -> String {
        let session = self.activity().map(|row| row.searched()).unwrap_or_default();
        [self.name(), self.situation().1, session].join(" ")
    }
}
