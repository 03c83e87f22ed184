//! The panes by number, and which of them have a list.
//!
//! It must not know how the screen is divided.

use super::App;
use super::list::ListState;
use crate::engine::findings::Subject;
use crate::model::Kind;

/// The panes, by their number on the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::EnumIter)]
#[expect(missing_docs, reason = "the names are the titles")]
pub enum Pane {
    Activity = 1,
    Locks,
    Statements,
    Replication,
    Cache,
    Waits,
    Tables,
    Events,
    Recovery,
}

impl Pane {
    /// Its title where there is little room.
    pub const fn short_title(self) -> &'static str {
        match self {
            Self::Statements => "Stmts",
            Self::Replication => "Repl",
            Self::Recovery => "Recov",
            Self::Activity | Self::Locks | Self::Cache | Self::Waits | Self::Tables | Self::Events => {
                self.title()
            }
        }
    }

    /// The pane that shows what a finding is about.
    pub const fn of(kind: Kind, subject: Subject) -> Self {
        match subject {
            _ if matches!(kind, Kind::Redis) => Self::Cache,
            Subject::Server | Subject::Activity | Subject::Session(_) => Self::Activity,
            Subject::Root(_) => Self::Locks,
            Subject::Statement(_) => Self::Statements,
            Subject::Replication => Self::Replication,
            Subject::Cache => Self::Cache,
            Subject::Relation(_) => Self::Tables,
        }
    }

    /// Its title.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Activity => "Activity",
            Self::Locks => "Locks",
            Self::Statements => "Statements",
            Self::Replication => "Replication",
            Self::Cache => "Cache",
            Self::Waits => "Waits",
            Self::Tables => "Tables",
            Self::Events => "Events",
            Self::Recovery => "Recovery",
        }
    }
}

/// What the layout tells the application: how many rows each pane's body has, so that paging knows its height.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Viewport {
    /// Rows of the body, by pane; a pane that is not on the screen is absent.
    pub rows: Vec<(Pane, usize)>,
    /// Rows of an overlay's body.
    pub overlay_rows: usize,
    /// Rows of the list of those that are meant, when there are many.
    pub list_rows: usize,
    /// Whether the screen is too small for anything but a message.
    pub too_small: bool,
}

impl Viewport {
    pub(super) fn rows_of(&self, pane: Pane) -> usize {
        self.rows.iter().find(|(shown, _)| *shown == pane).map_or(10, |(_, rows)| *rows)
    }
}

impl App {
    /// The list of a pane; `None` where it has none.
    pub(super) const fn list_of(&mut self, pane: Pane) -> Option<&mut ListState> {
        match pane {
            Pane::Activity => Some(&mut self.activity.list),
            Pane::Locks => Some(&mut self.locks.list),
            Pane::Statements => Some(&mut self.statements.list),
            Pane::Waits => Some(&mut self.waits.list),
            Pane::Tables => Some(&mut self.tables.list),
            Pane::Events => Some(&mut self.events.list),
            Pane::Recovery | Pane::Replication | Pane::Cache => None,
        }
    }

    /// The filter of a pane; `None` where it has none.
    pub(super) const fn filter_of(&mut self, pane: Pane) -> Option<&mut String> {
        match pane {
            Pane::Activity => Some(&mut self.activity.filter_text),
            Pane::Locks => Some(&mut self.locks.filter_text),
            Pane::Statements => Some(&mut self.statements.filter_text),
            Pane::Tables => Some(&mut self.tables.filter_text),
            Pane::Events => Some(&mut self.events.filter_text),
            Pane::Waits | Pane::Recovery | Pane::Replication | Pane::Cache => None,
        }
    }
}
