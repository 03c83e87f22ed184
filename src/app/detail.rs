//! One row in full: every field and the whole text.

use super::activity::{ActivityRow, find};
use super::list::RowKey;
use super::table::{Role, Span};
use super::{App, Pane, locks, statements};
use crate::engine::PgTick;
use crate::engine::statements::StatementRow;
use crate::format::{age_at, count, duration_ms, rfc3339, share};
use crate::model::postgres::{SessionId, State};

/// What is shown, and how far it is scrolled.
#[derive(Debug, Clone)]
pub struct Detail {
    /// Which row.
    pub key: RowKey,
    /// Lines scrolled.
    pub offset: usize,
}

/// The content of a detail view.
#[derive(Debug)]
pub struct Sheet {
    /// The title.
    pub title: String,
    /// Fields with their names.
    pub fields: Vec<(&'static str, Span)>,
    /// The heading of the text.
    pub heading: &'static str,
    /// The text: any text at all.
    pub text: String,
}

impl Detail {
    /// The detail of what is selected; `None` where there is nothing more to show.
    pub(super) fn of_selection(app: &App) -> Option<Self> {
        let key = match app.focus {
            Pane::Activity => app.activity.list.selected.clone(),
            Pane::Locks => app.locks.list.selected.clone(),
            Pane::Statements => app.statements.list.selected.clone(),
            Pane::Replication | Pane::Cache => None,
        }?;
        Some(Self { key, offset: 0 })
    }

    pub(super) fn scrolled(self, by: isize) -> Self {
        Self { offset: self.offset.saturating_add_signed(by), ..self }
    }

    /// What to show of it now.
    pub fn sheet(&self, app: &App) -> Option<Sheet> {
        let tick = app.pg()?;
        match &self.key {
            RowKey::Session(id) => {
                let present = find(tick, *id).map(|session| ActivityRow { session, tick, departed: false });
                Some(
                    present
                        .or_else(|| app.activity.row(tick, &self.key))
                        .map_or_else(|| gone(*id), session_sheet),
                )
            }
            RowKey::Statement(_) => statements::find(tick, &self.key).map(|row| statement_sheet(row, tick)),
            RowKey::Pid(_) | RowKey::Prepared(_) | RowKey::Deadlock(_) => lock_sheet(app, tick),
            RowKey::Group(_) | RowKey::Fold(..) => None,
        }
    }
}

fn gone(id: SessionId) -> Sheet {
    Sheet { title: format!("{} has gone", id.pid), fields: Vec::new(), heading: "", text: String::new() }
}

fn session_sheet(row: ActivityRow<'_>) -> Sheet {
    let (session, tick) = (row.session, row.tick);
    let now = tick.sample.server_time;
    let time = |at: Option<jiff::Timestamp>| {
        at.map_or_else(|| "-".into(), |at| format!("{}  {} ago", rfc3339(at), age_at(at, now)))
    };
    let word = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let number = |n: Option<String>| n.unwrap_or_else(|| "-".into());
    let forest = tick.forest.value();
    let blockers: Vec<String> = forest
        .map(|forest| forest.blocked_by(session.id.pid))
        .unwrap_or_default()
        .iter()
        .map(i32::to_string)
        .collect();
    let waits_for =
        forest.and_then(|forest| forest.find(session.id.pid)).and_then(|node| node.waits_for.as_ref());
    let client = session
        .client_port
        .filter(|port| *port > 0)
        .map_or_else(|| row.client(), |port| format!("{}:{port}", row.client()));
    let plain = |text: String| Span::text(text);
    let fields = vec![
        ("state", plain(session.state.map_or("hidden", State::as_str).to_owned())),
        ("user", plain(row.user())),
        ("database", plain(row.database())),
        ("application", plain(session.application_name.to_string())),
        ("client", plain(client)),
        ("backend_type", plain(word(session.backend_type.as_deref()))),
        (
            "wait",
            plain(format!(
                "{} / {}",
                word(session.wait_event_type.as_deref()),
                word(session.wait_event.as_deref())
            )),
        ),
        ("backend_start", plain(time(session.id.backend_start))),
        ("xact_start", plain(time(session.xact_start))),
        ("query_start", plain(time(session.query_start))),
        ("state_change", plain(time(session.state_change))),
        (
            "backend_xid",
            plain(number(
                session.backend_xid.map(|xid| format!("{xid} (it has written: a rollback undoes it)")),
            )),
        ),
        ("backend_xmin", plain(number(session.backend_xmin.map(|xmin| xmin.to_string())))),
        ("leader_pid", plain(number(session.leader_pid.map(|pid| pid.to_string())))),
        ("query_id", plain(number(session.query_id.map(|id| id.to_string())))),
        (
            "waits for",
            plain(waits_for.map_or_else(|| "-".into(), |wait| format!("{} on {}", wait.mode, wait.object))),
        ),
        ("blocked by", plain(if blockers.is_empty() { "-".into() } else { blockers.join(", ") })),
        ("behind it", behind_it(forest.map(|forest| forest.behind(session.id.pid)))),
    ];
    let over = session.state.is_some_and(|state| state != State::Active);
    let state = if row.departed { ", gone" } else { "" };
    Sheet {
        title: format!("Session {}{state}", session.id.pid),
        fields,
        heading: if over { "last statement" } else { "statement" },
        text: session.query.to_string(),
    }
}

fn behind_it(behind: Option<usize>) -> Span {
    let role = if behind > Some(0) { Role::Critical } else { Role::Text };
    Span::new(role, behind.map_or_else(|| "?".into(), |behind| format!("{behind} sessions")))
}

fn statement_sheet(row: &StatementRow, tick: &PgTick) -> Sheet {
    let names = &tick.sample.names;
    let known =
        |value: Option<f64>, show: fn(f64) -> String| Span::text(value.map_or_else(|| "?".into(), show));
    let fields = vec![
        ("query_id", Span::text(row.key.queryid.to_string())),
        ("user", Span::text(names.role(row.key.userid).to_string())),
        ("database", Span::text(names.database(row.key.dbid).to_string())),
        ("toplevel", Span::text(row.key.toplevel.to_string())),
        ("calls/s", known(row.calls_per_second, count)),
        ("seconds/s", known(row.exec_ms_per_second.map(|ms| ms / 1000.0), count)),
        ("share of time", known(row.share, share)),
        ("mean now", known(row.mean_ms, duration_ms)),
        ("mean before", known(row.mean_ms_before, duration_ms)),
        ("mean since reset", known(row.mean_ms_since_reset, duration_ms)),
        ("rows per call", known(row.rows_per_call, count)),
        ("buffer hits", known(row.hit_ratio, share)),
        ("temp blocks/s", known(row.temp_blocks_per_second, count)),
    ];
    Sheet {
        title: "Statement".into(),
        fields,
        heading: "text",
        text: row.query.as_deref().unwrap_or("(not read yet)").to_owned(),
    }
}

fn lock_sheet(app: &App, tick: &PgTick) -> Option<Sheet> {
    let row = locks::selected(&app.locks, tick)?;
    let forest = tick.forest.value()?;
    let fields = vec![
        ("what it is", Span::text(row.node.title())),
        ("state", Span::text(row.node.description.clone())),
        (
            "behind it",
            Span::text(format!("{} sessions, {} would run at once", row.node.behind, row.node.frees_now)),
        ),
        ("what helps", Span::text(forest.advice(row.node).reason)),
    ];
    Some(Sheet { title: row.name(), fields, heading: "", text: String::new() })
}
