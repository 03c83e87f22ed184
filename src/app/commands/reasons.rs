//! Why a command does not work now: one function a reason, `None` when it does.

use super::super::detail::Detail;
use super::super::{App, Pane, RowKey, Shown, confirm};
use super::{copied, opens, selected_session};
use crate::engine::Observer;
use crate::engine::missing::grant;
use crate::format::{age_at, clock};
use crate::model::Kind;
use crate::model::postgres::State;

pub(super) fn only_grouped(app: &App) -> Option<String> {
    (!matches!(app.focus, Pane::Activity | Pane::Tables))
        .then(|| "only in Activity (1) and Tables (7)".into())
}

pub(super) fn only_activity(app: &App) -> Option<String> {
    (app.focus != Pane::Activity).then(|| "only in Activity (1)".into())
}

pub(super) fn filter_disabled(app: &App) -> Option<String> {
    matches!(app.focus, Pane::Waits | Pane::Replication | Pane::Cache | Pane::Recovery)
        .then(|| "this pane has no filter".into())
}

pub(super) fn sort_disabled(app: &App) -> Option<String> {
    match app.focus {
        Pane::Activity if app.activity.group_by.is_some() => Some("groups are sorted by size".into()),
        Pane::Tables if app.tables.shown != Shown::Tables => Some("only tables can be sorted".into()),
        Pane::Activity | Pane::Statements | Pane::Tables => None,
        Pane::Waits => Some("waits are ranked by who waits most".into()),
        Pane::Locks => Some("the forest is ranked by who blocks most".into()),
        Pane::Events => Some("events stand in their order".into()),
        Pane::Replication | Pane::Cache | Pane::Recovery => Some("this pane has no list".into()),
    }
}

/// The statement that would give the role on the shown server a right.
fn granted(app: &App, right: &str) -> String {
    let user = app.pg().map_or("", |tick| tick.sample.rights.user.as_str());
    grant(right, user)
}

pub(super) fn nothing_to_open(app: &App) -> Option<String> {
    (app.finding.is_none() && !opens(app)).then(|| "this pane has no row to open".into())
}

pub(super) fn no_data(app: &App) -> Option<String> {
    app.pg_observer().is_none().then(|| "no PostgreSQL server is watched".into())
}

pub(super) fn no_findings(app: &App) -> Option<String> {
    app.findings().is_empty().then(|| "nothing found".into())
}

pub(super) fn one_target(app: &App) -> Option<String> {
    let count = app.observers.iter().filter(|observer| observer.target.kind == Kind::Postgres).count();
    (count < 2).then(|| "only one PostgreSQL server is watched".into())
}

pub(super) fn copy_disabled(app: &App) -> Option<String> {
    copied(app).is_none().then(|| "nothing here to copy".into())
}

pub(super) fn terminate_disabled(app: &App) -> Option<String> {
    action_disabled(app)
}

pub(super) fn only_sessions(app: &App) -> Option<String> {
    (!matches!(app.focus, Pane::Activity | Pane::Locks)).then(|| "only in Activity (1) and Locks (2)".into())
}

pub(super) fn nothing_to_mark(app: &App) -> Option<String> {
    only_sessions(app).or_else(|| {
        super::marking::meant(app).is_empty().then(|| "no session that is there is selected".into())
    })
}

pub(super) fn nothing_marked(app: &App) -> Option<String> {
    app.marks.is_empty().then(|| "nothing is marked".into())
}

pub(super) fn cancel_disabled(app: &App) -> Option<String> {
    action_disabled(app).or_else(|| {
        let session = selected_session(app).filter(|_| app.marks.is_empty())?;
        let pid = session.id.pid;
        let instead = "K terminates it";
        match session.state {
            Some(State::Idle) => Some(format!("{pid} is idle, no statement runs; {instead}")),
            Some(state) if state.is_idle_in_transaction() => {
                Some(format!("{pid} is {}, no statement runs; {instead}", state.as_str()))
            }
            Some(State::Active) if session.wait_event.as_deref() == Some("ClientRead") => {
                Some(format!("{pid} waits for its client's data, a cancel would do nothing; {instead}"))
            }
            Some(State::Active) => None,
            Some(state) => Some(format!("{pid} is {}: there is no statement to cancel", state.as_str())),
            None => Some(format!("{} ({pid} is hidden from this role)", granted(app, "pg_read_all_stats"))),
        }
    })
}

pub(super) fn action_disabled(app: &App) -> Option<String> {
    if app.replay.is_some() {
        return Some("this is a recording".into());
    }
    if app.options.read_only {
        return Some("started with --read-only".into());
    }
    if let Some(past) = &app.past {
        let (at, age) = (clock(past.at), age_at(past.at, app.present()));
        let live = app.options.keymap.hint("live");
        return Some(format!("this was {age} ago, at {at}; {live} goes back to the present"));
    }
    let Some(observer) = app.pg_observer() else { return Some("no PostgreSQL server is watched".into()) };
    let Some(tick) = app.pg() else { return Some("no sample yet".into()) };
    if observer.outage().is_some() {
        return Some("the server gives no data now: what is shown may be gone".into());
    }
    if !app.marks.is_empty() {
        return None;
    }
    let Some(session) = selected_session(app) else {
        if let (Pane::Locks, Some(RowKey::Prepared(gid))) = (app.focus, &app.locks.list.selected) {
            let copy = app.options.keymap.hint("copy");
            return Some(format!("prepared '{gid}' has no process: {copy} copies ROLLBACK PREPARED"));
        }
        return Some("select a session in Activity (1) or Locks (2)".into());
    };
    confirm::refusal(session, tick)
}

pub(super) fn only_sideways(app: &App) -> Option<String> {
    match app.focus {
        Pane::Locks | Pane::Waits => None,
        Pane::Events => Detail::of_selection(app).is_none().then(|| "only an action has more to show".into()),
        Pane::Activity
        | Pane::Statements
        | Pane::Replication
        | Pane::Cache
        | Pane::Tables
        | Pane::Recovery => Some("only in Locks (2), Waits (6) and Events (8)".into()),
    }
}

pub(super) fn is_live(app: &App) -> Option<String> {
    let stands = app.replay.is_some_and(|replay| !replay.is_playing);
    (!app.is_past() && !stands).then(|| "what is shown is live".into())
}

pub(super) fn is_newest(app: &App) -> Option<String> {
    (!app.is_past() && app.replay.is_none()).then(|| "what is shown is the newest".into())
}

pub(super) fn no_replay(app: &App) -> Option<String> {
    app.replay.is_none().then(|| "this is no recording".into())
}

pub(super) fn is_replay(app: &App) -> Option<String> {
    app.replay.is_some().then(|| "this is a recording".into())
}

pub(super) fn nothing_kept(app: &App) -> Option<String> {
    app.observers.iter().all(|observer| observer.times().next().is_none()).then(|| "no sample yet".into())
}

pub(super) fn no_baseline(app: &App) -> Option<String> {
    let observer = app.pg_observer();
    if app.replay.is_some() {
        return Some("this is a recording".into());
    }
    if app.past.is_some() {
        return Some("a baseline is set in the present".into());
    }
    observer.and_then(Observer::tick).is_none().then(|| "no sample of a PostgreSQL server yet".into())
}

pub(super) fn no_recovery(app: &App) -> Option<String> {
    let key = app.options.keymap.hint("baseline");
    app.recovery().is_none().then(|| format!("nothing to compare with yet: {key} sets a baseline"))
}
