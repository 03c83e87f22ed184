//! Pane 8: what was done, newest first: every action with its outcome.
//!
//! It must not know how an action is carried out or where its record is kept.

use std::collections::VecDeque;

use super::list::{ListState, RowKey};
use super::table::{Align, Cell, Column, Role, Value, Width};
use crate::engine::Severity;
use crate::engine::filter::Filter;
use crate::format;
use crate::model::action::Record;

/// Events that are kept; the log keeps all of them.
const EVENTS_MAX: usize = 2000;

/// An action, told.
#[derive(Debug, Clone)]
pub struct Event {
    /// What is kept of it.
    pub record: Record,
    /// How its outcome is meant; absent until there is one.
    pub severity: Option<Severity>,
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
    column("time", 9, 0, |event| Value::Text(format::clock(event.record.at)).into()),
    column("server", 22, 3, |event| Value::Text(event.record.target.clone()).into()),
    column("by", 20, 2, |event| Value::Text(event.by()).into()),
    Column {
        name: "what",
        title: "what",
        width: Width::Rest,
        align: Align::Left,
        priority: 0,
        cell: |event| Cell { value: Value::Text(event.sentence()), role: event.role() },
    },
];

const fn column(name: &'static str, width: u16, priority: u8, cell: fn(&Event) -> Cell) -> EventColumn {
    Column { name, title: name, width: Width::Fixed(width), align: Align::Left, priority, cell }
}

impl Event {
    /// What was done and what came of it.
    pub fn sentence(&self) -> String {
        let Record { action, session, outcome, .. } = &self.record;
        outcome.clone().unwrap_or_else(|| format!("{action} {} {} …", session.pid, session.application))
    }

    const fn role(&self) -> Role {
        match self.severity {
            Some(Severity::Critical) => Role::Critical,
            Some(Severity::Warning) => Role::Warning,
            Some(Severity::Notice) => Role::Text,
            None => Role::Dim,
        }
    }

    /// Who ordered it.
    pub fn by(&self) -> String {
        let by = &self.record.by;
        by.from.as_ref().map_or_else(|| by.os_user.clone(), |from| format!("{}@{from}", by.os_user))
    }
}

impl EventsView {
    /// No events yet. Numbers go on from the time of the start, so that those of two runs in one log differ.
    pub(super) fn starting_at(now: jiff::Timestamp) -> Self {
        Self { ordered: u64::try_from(now.as_millisecond()).unwrap_or_default(), ..Self::default() }
    }

    /// A number for the next record.
    pub(super) fn next_id(&mut self) -> u64 {
        self.ordered += 1;
        self.ordered
    }

    /// Notes an action, or what came of it.
    pub(super) fn note(&mut self, record: Record, severity: Option<Severity>) {
        match self.events.iter_mut().rev().find(|event| event.record.id == record.id) {
            Some(event) => *event = Event { record, severity },
            None => self.events.push_back(Event { record, severity }),
        }
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
        self.refresh();
    }

    /// The event of a row.
    pub fn find(&self, key: &RowKey) -> Option<&Event> {
        let RowKey::Event(id) = key else { return None };
        self.events.iter().rev().find(|event| event.record.id == *id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing has been done yet.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Lists the rows anew.
    pub(super) fn refresh(&mut self) {
        let filter = Filter::parse(&self.filter_text);
        let passes = |event: &&Event| filter.is_empty() || filter.passes(&event.sentence());
        let rows = self.events.iter().rev().filter(passes).map(|event| RowKey::Event(event.record.id));
        let rows = rows.collect();
        self.list.set_rows(rows);
    }
}
