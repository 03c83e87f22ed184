//! Pane 6: average active sessions by wait class over time, and down to the event, the statement and the session.

use std::collections::BTreeSet;

use super::list::{ListState, RowKey};
use super::table::{Align, Cell, Column, Role, Sql, Value, Width};
use super::{App, Pane};
use crate::engine::Severity;
use crate::engine::waits::{Class, Part, Path, WaitHistory, WaitRow};
use crate::model::postgres::SessionId;

/// State of the pane.
#[derive(Debug, Default)]
pub struct WaitsView {
    /// Rows and selection.
    pub list: ListState,
    /// How far one has gone into the waits.
    pub path: Path,
    /// The bin that is looked at; `None`: the last minute.
    pub moment: Option<i64>,
    /// The rows, in the order of the list; `None` where who was active at the moment is not kept any more.
    pub rows: Option<Vec<WaitRow>>,
}

/// A row and how it is named.
#[derive(Debug, Clone, Copy)]
pub struct WaitLine<'a> {
    /// The row; `None` once its part waits no more.
    pub row: Option<&'a WaitRow>,
    /// What it stands for.
    pub part: &'a Part,
    /// Where statements are named.
    pub waits: &'a WaitHistory,
}

/// A column of the pane.
pub(super) type WaitColumn = Column<fn(&WaitLine<'_>) -> Cell>;

const fn column(
    name: &'static str,
    title: &'static str,
    width: u16,
    cell: fn(&WaitLine<'_>) -> Cell,
) -> WaitColumn {
    Column { name, title, width: Width::Fixed(width), align: Align::Right, priority: 0, cell }
}

/// Every column.
pub const COLUMNS: &[WaitColumn] = &[
    column("average", "average", 8, |line| Value::some(line.row, |row| Value::Count(row.average)).into()),
    column("peak", "peak", 6, |line| Value::some(line.row, |row| Value::Integer(row.peak.into())).into()),
    column("share", "share", 6, |line| Value::some(line.row, |row| Value::Share(row.share)).into()),
    Column {
        name: "what",
        title: "wait",
        width: Width::Rest,
        align: Align::Left,
        priority: 0,
        cell: |line| what(line.part, line.waits),
    },
];

fn what(part: &Part, waits: &WaitHistory) -> Cell {
    let text = match part {
        Part::Class(Class::Cpu) => "C CPU* (running, or waiting for a processor)".to_owned(),
        Part::Class(class) => format!("{} {}", class.letter(), class.name()),
        Part::Event(event) if event.is_empty() => "no wait".to_owned(),
        Part::Event(event) => event.to_string(),
        Part::Statement(statement) => {
            return match waits.label(*statement) {
                Some(text) => Value::Sql(Sql { text: text.clone(), ..Sql::default() }).into(),
                None => Cell { value: Value::Text(format!("query id {statement}")), role: Role::Dim },
            };
        }
        Part::Session(session) => format!("session {}", session.pid),
    };
    Value::Text(text).into()
}

impl WaitsView {
    /// Lists the rows anew.
    pub(super) fn refresh(&mut self, waits: &WaitHistory) {
        self.rows = waits.breakdown(&self.path, self.moment);
        let parts = self.rows.iter().flatten().map(|row| RowKey::Wait(row.part.clone()));
        self.list.set_rows(parts.collect());
    }

    /// Whether nothing is left out: no class was gone into, and no moment is looked at.
    pub(super) fn is_everything(&self) -> bool {
        self.path == Path::default() && self.moment.is_none()
    }

    /// The sessions that waited as is looked at, and what they ran; `None` while everything is looked at, or where who
    /// was active then is not kept any more.
    pub(super) fn who(&self, waits: &WaitHistory) -> Option<(BTreeSet<SessionId>, BTreeSet<i64>)> {
        if self.is_everything() { None } else { waits.who(&self.path, self.moment) }
    }

    /// The row of a part.
    pub fn row(&self, part: &Part) -> Option<&WaitRow> {
        self.rows.iter().flatten().find(|row| row.part == *part)
    }

    /// Goes one level up; false at the top.
    fn up(&mut self) -> bool {
        let path = &mut self.path;
        let went = if path.statement.take().is_some() {
            true
        } else if path.event.take().is_some() {
            // Of what has no wait there is but one event.
            if path.class == Some(Class::Cpu) {
                path.class = None;
            }
            true
        } else {
            path.class.take().is_some()
        };
        if went {
            self.list = ListState::default();
        }
        went
    }
}

impl App {
    /// Goes into the selected part of the waits; a session is shown among the others.
    pub(super) fn open_wait(&mut self) {
        let Some(RowKey::Wait(part)) = self.waits.list.selected.clone() else { return };
        let path = &mut self.waits.path;
        match part {
            Part::Class(class) => {
                path.class = Some(class);
                if class == Class::Cpu {
                    path.event = Some("".into());
                }
            }
            Part::Event(event) => path.event = Some(event),
            Part::Statement(statement) => path.statement = Some(statement),
            Part::Session(session) => {
                self.focus = Pane::Activity;
                self.activity.show_all();
                self.refresh();
                if !self.activity.list.select(RowKey::Session(session)) {
                    self.say(Severity::Notice, format!("{} has gone", session.pid));
                }
                return;
            }
        }
        self.waits.list = ListState::default();
    }

    /// Goes one level up, then back to the present; false when there is neither.
    pub(super) fn leave_wait(&mut self) -> bool {
        if self.waits.up() {
            if self.waits.is_everything() {
                self.show_everybody();
            }
            return true;
        }
        let was_past = self.is_past();
        self.show_present();
        was_past
    }

    /// Panes 1 and 3 show everything again.
    pub(super) fn show_everybody(&mut self) {
        self.activity.only = None;
        self.statements.only = None;
    }
}
