//! One row in full: every field and the whole text.

use super::activity::{ActivityRow, find};
use super::list::RowKey;
use super::table::{Role, Span};
use super::{App, Event, Pane, locks, statements, tables};
use crate::engine::PgTick;
use crate::engine::rates::ratio;
use crate::engine::statements::StatementRow;
use crate::format::{age_at, bytes, count, duration_ms, rfc3339, share};
use crate::model::action::{Counts, Record};
use crate::model::postgres::{SessionId, State};

/// From here on a session tells which statement it runs.
const QUERY_ID_SINCE: u32 = 140_000;

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
            Pane::Events => {
                let selected = app.events.list.selected.as_ref();
                selected.filter(|key| app.events.find(key).and_then(Event::record).is_some()).cloned()
            }
            Pane::Tables => app.tables.list.selected.clone(),
            Pane::Waits | Pane::Replication | Pane::Cache | Pane::Recovery => None,
        }?;
        Some(Self { key, offset: 0 })
    }

    pub(super) fn scrolled(self, by: isize) -> Self {
        Self { offset: self.offset.saturating_add_signed(by), ..self }
    }

    /// What to show of it now.
    pub fn sheet(&self, app: &App) -> Option<Sheet> {
        let sheet = self.full_sheet(app)?;
        let is_of_server = !matches!(self.key, RowKey::Event(_));
        let text = if is_of_server { app.shown_sql(&sheet.text) } else { sheet.text };
        Some(Sheet { text, ..sheet })
    }

    fn full_sheet(&self, app: &App) -> Option<Sheet> {
        if let RowKey::Event(_) = &self.key {
            return app.events.find(&self.key).and_then(event_sheet);
        }
        let tick = app.pg()?;
        match &self.key {
            RowKey::Session(id) => {
                let present = find(tick, *id).map(|session| ActivityRow::present(session, tick));
                Some(
                    present
                        .or_else(|| app.activity.row(tick, &self.key))
                        .map_or_else(|| gone(*id), session_sheet),
                )
            }
            RowKey::Statement(_) => statements::find(tick, &self.key).map(|row| statement_sheet(row, tick)),
            RowKey::Pid(_) | RowKey::Prepared(_) | RowKey::Deadlock(_) => lock_sheet(app, tick),
            RowKey::Relation(_) => tables::sheet(app, tick, &self.key),
            RowKey::Group(_) | RowKey::Fold(..) | RowKey::Event(_) | RowKey::Wait(_) => None,
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
                session.backend_xid.map(|xid| format!("{xid} (a rollback may have something to undo)")),
            )),
        ),
        ("backend_xmin", plain(number(session.backend_xmin.map(|xmin| xmin.to_string())))),
        ("leader_pid", plain(number(session.leader_pid.map(|pid| pid.to_string())))),
        ("query_id", plain(number(session.query_id.map(|id| id.to_string())))),
    ];
    let fields = fields.into_iter().chain(lock_fields(session.id.pid, tick)).collect();
    let over = session.state.is_some_and(|state| state != State::Active);
    let state = if row.departed { ", gone" } else { "" };
    Sheet {
        title: format!("Session {}{state}", session.id.pid),
        fields,
        heading: if over { "last statement" } else { "statement" },
        text: session.query.to_string(),
    }
}

/// What a session waits for, and who waits for it.
fn lock_fields(pid: i32, tick: &PgTick) -> Vec<(&'static str, Span)> {
    let Some(forest) = tick.forest.value() else { return vec![("locks", Span::text("not known"))] };
    let behind = forest.behind(pid);
    let role = if behind > 0 { Role::Critical } else { Role::Text };
    let mut fields = Vec::new();
    let node = forest.find(pid);
    if let Some((node, wait)) = node.and_then(|node| Some((node, node.waits_for.as_ref()?))) {
        fields.extend([
            ("waits for", Span::text(format!("{} on {}", wait.mode, wait.object))),
            ("held by", Span::text(listed(&forest.held_by(node)))),
            ("blocked by", Span::text(listed(&forest.blocked_by(pid)))),
        ]);
    }
    let frees = node.map_or(0, |node| node.frees_now);
    fields.push(("behind it", Span::new(role, format!("{behind} sessions, {frees} would run at once"))));
    fields
}

/// Processes in a list; 0 is a prepared transaction.
fn listed(pids: &[i32]) -> String {
    let name = |pid: &i32| if *pid == 0 { "a prepared transaction".to_owned() } else { pid.to_string() };
    if pids.is_empty() {
        "nobody: those before it in the queue".into()
    } else {
        pids.iter().map(name).collect::<Vec<_>>().join(", ")
    }
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
        ("WAL/s", known(row.wal_bytes_per_second, bytes)),
        (
            "planning",
            row.plan_share.map_or_else(|| Span::text("not counted".to_owned()), |it| Span::text(share(it))),
        ),
        ("longest", Span::text(format!("{} since reset", duration_ms(row.max_ms_since_reset)))),
        ("deviation", Span::text(format!("{} since reset", duration_ms(row.stddev_ms_since_reset)))),
        ("running now", Span::text(running(row, tick))),
        ("by user", Span::text(by_user(row, tick))),
    ];
    Sheet {
        title: "Statement".into(),
        fields,
        heading: "text",
        text: row.query.as_deref().unwrap_or("(not read yet)").to_owned(),
    }
}

/// Who runs a statement, each with the share of its time, now or since the reset.
fn by_user(row: &StatementRow, tick: &PgTick) -> String {
    let rows = tick.statements.value().map(|table| table.rows.as_slice()).unwrap_or_default();
    let alike = rows.iter().filter(|it| it.key.queryid == row.key.queryid && it.key.dbid == row.key.dbid);
    let is_running = alike.clone().any(|it| it.exec_ms_per_second.is_some_and(|ms| ms > 0.0));
    let time = |it: &StatementRow| {
        if is_running { it.exec_ms_per_second.unwrap_or_default() } else { it.total_exec_ms }
    };
    let total: f64 = alike.clone().map(time).sum();
    let mut users: Vec<(f64, &StatementRow)> = alike.map(|it| (time(it), it)).collect();
    users.sort_by(|a, b| b.0.total_cmp(&a.0));
    let user = |(ms, it): &(f64, &StatementRow)| {
        let part = ratio(*ms, total).map_or_else(|| "-".into(), share);
        let calls = it.calls_per_second.map_or_else(|| "?".into(), count);
        format!("{} {part} ({calls} calls/s)", tick.sample.names.role(it.key.userid))
    };
    let when = if is_running { "" } else { ", since the reset" };
    format!("{}{when}", users.iter().map(user).collect::<Vec<_>>().join(", "))
}

/// The sessions that run a statement now.
fn running(row: &StatementRow, tick: &PgTick) -> String {
    if tick.sample.server.version_num < QUERY_ID_SINCE {
        return "not known before PostgreSQL 14".into();
    }
    let sessions = tick.sample.sessions.value().into_iter().flatten();
    let active =
        sessions.filter(|it| it.state == Some(State::Active) && it.query_id == Some(row.key.queryid));
    let pids: Vec<String> = active.map(|session| session.id.pid.to_string()).collect();
    if pids.is_empty() {
        return "no session".into();
    }
    format!("{}: {}", crate::format::counted(pids.len(), "session"), pids.join(", "))
}

/// An action in full; what was only seen has no more to it than its sentence.
fn event_sheet(event: &Event) -> Option<Sheet> {
    let Record { at, by, target, action, session, before, after, outcome, sql, .. } = event.record()?;
    let figures = |counts: &Counts| {
        let show = |n: Option<usize>| n.map_or_else(|| "?".into(), |n| n.to_string());
        let Counts { connections, active, blocked, behind } = counts;
        Span::text(format!(
            "{} connections, {} active, {} waiting for a lock, {} behind it",
            show(*connections),
            show(*active),
            show(*blocked),
            show(*behind)
        ))
    };
    let whom = format!(
        "{}   {}   user {}   db {}   from {}",
        session.pid, session.application, session.user, session.database, session.client
    );
    let started = session.backend_start.map_or_else(|| "hidden".into(), rfc3339);
    let fields = vec![
        ("ordered", Span::text(rfc3339(*at))),
        ("by", Span::text(format!("{} on {}", event.by(), by.host))),
        ("server", Span::text(target.clone())),
        ("session", Span::text(whom)),
        ("backend_start", Span::text(started)),
        ("state then", Span::text(session.state.clone())),
        ("outcome", Span::text(outcome.clone().unwrap_or_else(|| "not known yet".into()))),
        ("before", figures(before)),
        ("after", after.as_ref().map_or_else(|| Span::text("not known yet"), figures)),
    ];
    Some(Sheet { title: format!("{action} {}", session.pid), fields, heading: "SQL", text: sql.clone() })
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
        ("or", Span::text(forest.alternative(row.node).map_or_else(|| "-".into(), |advice| advice.reason))),
    ];
    Some(Sheet { title: row.name(), fields, heading: "", text: String::new() })
}
