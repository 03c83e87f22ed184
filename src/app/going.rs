//! Going to another server, and to what a finding is about.
//!
//! It must not know how the place that is gone to is drawn.

use super::activity::GroupBy;
use super::list::{ListState, RowKey};
use super::waits::WaitsView;
use super::{App, Overlay, Pane};
use crate::engine::Severity;
use crate::engine::findings::Subject;
use crate::model::postgres::Oid;
use crate::model::{Kind, TargetId};

impl App {
    /// Shows another PostgreSQL server: the next one on the command line.
    pub(super) fn next_target(&mut self) {
        let ids: Vec<TargetId> = self
            .observers
            .iter()
            .map(|o| &o.target)
            .filter(|t| t.kind == Kind::Postgres)
            .map(|t| t.id)
            .collect();
        let place = ids.iter().position(|id| Some(*id) == self.postgres).map_or(0, |place| place + 1);
        self.show_target(ids.get(place).or_else(|| ids.first()).copied());
    }

    fn show_target(&mut self, target: Option<TargetId>) {
        if target.is_some() && target != self.postgres {
            self.postgres = target;
            self.marks.clear();
            self.activity.list = ListState::default();
            self.locks.forget();
            self.statements.list = ListState::default();
            self.tables.list = ListState::default();
            // What was gone into was that of the other server.
            self.waits = WaitsView::default();
            self.show_everybody();
            self.refresh();
        }
    }

    /// Shows a table or an index; the catalogs are read once the pane is on the screen.
    fn show_relation(&mut self, oid: Oid) {
        self.focus = Pane::Tables;
        self.tables.filter_text.clear();
        self.tables.wanted = Some(oid);
    }

    /// Goes to what a finding is about.
    pub(super) fn jump(&mut self, place: usize) {
        let Some((target, kind, subject)) =
            self.findings().get(place).map(|(target, it)| (target.id, target.kind, it.subject))
        else {
            return;
        };
        self.finding = None;
        if kind == Kind::Redis {
            self.redis = Some(target);
            self.focus = Pane::Cache;
            return;
        }
        self.show_target(Some(target));
        match subject {
            Subject::Server => self.overlay = Some(Overlay::Server(0)),
            Subject::Activity => {
                self.focus = Pane::Activity;
                self.activity.group(Some(GroupBy::Application));
            }
            Subject::Statement(key) => {
                self.focus = Pane::Statements;
                self.statements.filter_text.clear();
                self.statements.only = None;
                self.refresh();
                if !self.statements.list.select(RowKey::Statement(key)) {
                    self.say(Severity::Notice, "it is not among the counters any more");
                }
            }
            Subject::Relation(oid) => self.show_relation(oid),
            Subject::Replication | Subject::Cache => self.focus = Pane::of(kind, subject),
            Subject::Session(id) => {
                self.focus = Pane::Activity;
                self.activity.show_all();
                self.refresh();
                if !self.activity.list.select(RowKey::Session(id)) {
                    self.say(Severity::Notice, format!("{} has gone", id.pid));
                }
            }
            Subject::Root(pid) => {
                self.focus = Pane::Locks;
                self.locks.show_all();
                self.refresh();
                if !self.locks.select_root(pid) {
                    self.say(Severity::Notice, "it blocks nobody any more");
                }
            }
        }
        self.refresh();
    }
}
