//! Which sessions a marking means: the selected one, a group, a subtree, everything the filter shows, a ready-made
//! selection.

use super::super::list::{ListState, RowKey};
use super::super::{App, Effect, Overlay, Pane, Rule, RuleMenu, chosen_by_rule, locks};
use super::{changed, selected_session, with_list};
use crate::engine::{PgTick, Severity};
use crate::model::postgres::{Session, SessionId};

/// Marks what is selected, and goes on to the next row.
pub(super) fn mark_selected(app: &mut App) -> Vec<Effect> {
    let sessions = meant(app);
    app.marks.toggle(&sessions);
    with_list(app, |list| list.step(1));
    changed(app)
}

/// Marks everything the filter shows, or in the forest the selected node with everybody behind it.
pub(super) fn mark_all(app: &mut App) -> Vec<Effect> {
    let sessions = match (app.focus, app.pg()) {
        (Pane::Locks, Some(tick)) => subtree(app, tick),
        (Pane::Activity, Some(tick)) => shown(app).flat_map(|key| of_row(app, tick, key)).collect(),
        (
            Pane::Activity
            | Pane::Locks
            | Pane::Statements
            | Pane::Replication
            | Pane::Cache
            | Pane::Waits
            | Pane::Tables
            | Pane::Events
            | Pane::Recovery,
            _,
        ) => Vec::new(),
    };
    app.marks.mark(sessions, Rule::Picked);
    say_count(app);
    Vec::new()
}

/// The rows that pass the filter: whoever is listed only because they block somebody is not meant by it.
fn shown(app: &App) -> impl Iterator<Item = &RowKey> {
    app.activity.list.rows.iter().filter(|key| !app.activity.is_filtered(key))
}

/// Marks what a ready-made selection chooses.
pub(super) fn mark_by(app: &mut App, rule: Rule) {
    let like = selected_session(app).cloned();
    let chosen: Vec<SessionId> = app
        .pg()
        .map(|tick| chosen_by_rule(rule, like.as_ref(), tick).into_iter().map(|session| session.id).collect())
        .unwrap_or_default();
    if chosen.is_empty() {
        app.say(Severity::Notice, format!("nobody to mark: {}", rule.label(like.as_ref())));
        return;
    }
    app.marks.mark(chosen, rule);
    say_count(app);
}

/// Opens the menu of ready-made selections.
pub(super) fn open_menu(app: &mut App) -> Vec<Effect> {
    app.overlay = Some(Overlay::Rules(RuleMenu::default()));
    Vec::new()
}

/// Unmarks everything.
pub(super) fn unmark_all(app: &mut App) -> Vec<Effect> {
    app.marks.clear();
    Vec::new()
}

fn say_count(app: &mut App) {
    if app.marks.is_empty() {
        app.say(Severity::Notice, "nobody to mark here");
        return;
    }
    let count = crate::format::counted(app.marks.len(), "session");
    let keys = [app.options.keymap.hint("terminate"), app.options.keymap.hint("unmark-all")];
    let [terminate, unmark] = keys;
    app.say(
        Severity::Notice,
        format!("{count} marked: {terminate} terminates them after a question, {unmark} unmarks"),
    );
}

/// The sessions that the selected row stands for.
pub(super) fn meant(app: &App) -> Vec<SessionId> {
    let list: &ListState = match app.focus {
        Pane::Activity => &app.activity.list,
        Pane::Locks => &app.locks.list,
        Pane::Statements
        | Pane::Recovery
        | Pane::Replication
        | Pane::Cache
        | Pane::Waits
        | Pane::Tables
        | Pane::Events => {
            return Vec::new();
        }
    };
    match (app.pg(), &list.selected) {
        (Some(tick), Some(key)) => of_row(app, tick, key),
        (..) => Vec::new(),
    }
}

fn of_row(app: &App, tick: &PgTick, key: &RowKey) -> Vec<SessionId> {
    let ids = |sessions: Vec<&Session>| sessions.into_iter().map(|session| session.id).collect();
    match key {
        RowKey::Session(id) => {
            super::super::activity::find(tick, *id).map(|session| session.id).into_iter().collect()
        }
        RowKey::Group(name) => ids(app
            .activity
            .group_by
            .map(|by| super::super::activity::of_group(tick, by, name))
            .unwrap_or_default()),
        RowKey::Deadlock(pids) => ids(pids.iter().filter_map(|pid| locks::session(tick, *pid)).collect()),
        RowKey::Fold(..) => ids(locks::folded(&app.locks, tick, key)),
        RowKey::Pid(_)
        | RowKey::Prepared(_)
        | RowKey::Statement(_)
        | RowKey::Wait(_)
        | RowKey::Relation(_)
        | RowKey::Event(_) => Vec::new(),
    }
}

/// The selected node of the forest and everybody behind it.
fn subtree(app: &App, tick: &PgTick) -> Vec<SessionId> {
    let Some(forest) = tick.forest.value() else { return Vec::new() };
    let mut all = meant(app);
    if let (true, Some(key)) = (all.is_empty(), &app.locks.list.selected) {
        return locks::under(&app.locks, tick, key).into_iter().map(|session| session.id).collect();
    }
    let roots: Vec<i32> = all.iter().map(|id| id.pid).collect();
    for pid in roots.into_iter().flat_map(|pid| forest.pids_behind(pid)) {
        all.extend(locks::session(tick, pid).map(|session| session.id));
    }
    all
}
