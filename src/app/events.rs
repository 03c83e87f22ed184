//! Pane 8: what was done and what changed, newest first: every action with its outcome, restarts, settings.
//!
//! It must not know how an action is carried out or where its record is kept.

use std::collections::VecDeque;

use super::list::{ListState, RowKey};
use super::table::{Align, Cell, Column, Role, Value, Width};
use jiff::Timestamp;

use crate::engine::Severity;
use crate::engine::changes::{Seen, SeenKind};
use crate::engine::filter::Filter;
use crate::format;
use crate::model::action::Record;

/// Events that are kept; the log keeps all of them.
const EVENTS_MAX: usize = 2000;

/// Set in the number of what was seen.
const SEEN: u64 = 1 << 63;

/// Something that was done, or was seen to change.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number: that of its record, if it has one.
    id: u64,
    /// When it was ordered, or seen.
    pub at: Timestamp,
    /// The server.
    pub target: String,
    /// How it is meant; absent while the outcome of an action is not known.
    pub severity: Option<Severity>,
    /// What it is.
    pub what: What,
}

/// The kinds of events.
#[derive(Debug, Clone)]
pub enum What {
    /// An action, and what is kept of it.
    Action(Box<Record>),
    /// Something that was seen, in a sentence.
    Seen(SeenKind, String),
}

/// State of the pane.
#[derive(Debug, Default)]
pub struct EventsView {
    /// Rows and selection.
    pub list: ListState,
    /// The text filter as typed.
    pub filter_text: String,
    events: VecDeque<Event>,
    ordered: u64,
}

/// A column of the pane.
pub type EventColumn = Column<fn(&Event) -> Cell>;

/// The columns of the pane.
pub const COLUMNS: &[EventColumn] = &[
    column("time", 9, 0, |event| Value::Text(format::clock(event.at)).into()),
    column("server", 22, 3, |event| Value::Text(event.target.clone()).into()),
    column("by", 20, 2, |event| Value::Text(event.by()).into()),
    Column {
        name: "what",
        title: "what",
        width: Width::Rest,
        align: Align::Left,
        priority: 0,
        cell: |event| Cell {
            value: Value::Text(format!("{} {}", event.mark(), event.sentence())),
            role: event.role(),
        },
    },
];

const fn column(name: &'static str, width: u16, priority: u8, cell: fn(&Event) -> Cell) -> EventColumn {
    Column { name, title: name, width: Width::Fixed(width), align: Align::Left, priority, cell }
}

impl Event {
    /// What was done and what came of it, or what was seen.
    pub fn sentence(&self) -> String {
        match &self.what {
            What::Action(record) => {
                let Record { action, session, outcome, .. } = &**record;
                outcome
                    .clone()
                    .unwrap_or_else(|| format!("{action} {} {} …", session.pid, session.application))
            }
            What::Seen(_, what) => what.clone(),
        }
    }

    /// What is kept of it, where it is an action.
    pub fn record(&self) -> Option<&Record> {
        match &self.what {
            What::Action(record) => Some(record),
            What::Seen(..) => None,
        }
    }

    /// Never colour alone; an action whose outcome is not known has none yet.
    const fn mark(&self) -> &'static str {
        match self.severity {
            Some(Severity::Critical) => "■",
            Some(Severity::Warning) => "▲",
            Some(Severity::Notice) => "·",
            None => "…",
        }
    }

    const fn role(&self) -> Role {
        match self.severity {
            Some(Severity::Critical) => Role::Critical,
            Some(Severity::Warning) => Role::Warning,
            Some(Severity::Notice) => Role::Text,
            None => Role::Dim,
        }
    }

    /// Who ordered it; nobody of ours where it was only seen.
    pub fn by(&self) -> String {
        let Some(by) = self.record().map(|record| &record.by) else { return "-".into() };
        by.from.as_ref().map_or_else(|| by.os_user.clone(), |from| format!("{}@{from}", by.os_user))
    }
}

impl EventsView {
    /// No events yet. Numbers go on from the time of the start, so that those of two runs in one log differ.
    pub(super) fn starting_at(now: Timestamp) -> Self {
        Self { ordered: u64::try_from(now.as_millisecond()).unwrap_or_default(), ..Self::default() }
    }

    /// A number for the next record.
    pub(super) fn next_id(&mut self) -> u64 {
        self.ordered += 1;
        self.ordered
    }

    /// Notes an action, or what came of it.
    pub(super) fn note(&mut self, record: Record, severity: Option<Severity>) {
        let (id, at, target) = (record.id, record.at, record.target.clone());
        let event = Event { id, at, target, severity, what: What::Action(Box::new(record)) };
        match self.events.iter_mut().rev().find(|event| event.id == id) {
            Some(known) => *known = event,
            None => self.push(event),
        }
        self.refresh();
    }

    /// Notes a change that was seen.
    pub(super) fn note_seen(&mut self, target: &str, seen: Seen) {
        let Seen { at, kind, severity, what } = seen;
        // Numbers of records may come from a recording: those of what was seen never meet them.
        let id = self.next_id() | SEEN;
        self.push(Event {
            id,
            at,
            target: target.to_owned(),
            severity: Some(severity),
            what: What::Seen(kind, what),
        });
        self.refresh();
    }

    fn push(&mut self, event: Event) {
        self.events.push_back(event);
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// Forgets what was noted of a time and what came after it.
    pub(super) fn forget_from(&mut self, at: Timestamp) {
        self.events.retain(|event| event.at < at);
    }

    /// Every event that is kept, in the order in which they were noted.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// The event of a row.
    pub fn find(&self, key: &RowKey) -> Option<&Event> {
        let RowKey::Event(id) = key else { return None };
        self.events.iter().rev().find(|event| event.id == *id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing has happened yet.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Lists the rows anew.
    pub(super) fn refresh(&mut self) {
        let filter = Filter::parse(&self.filter_text);
        let passes = |event: &&Event| filter.is_empty() || filter.passes(&event.sentence());
        let rows = self.events.iter().rev().filter(passes).map(|event| RowKey::Event(event.id));
        let rows = rows.collect();
        self.list.set_rows(rows);
    }
}
