//! Commands as data: name, keys, words, the reason why one does not work now, and what it does. The footer, the
//! help, the key table of the README and the manual page derive from this table.

mod copying;
mod keys;
mod marking;
mod moving;
mod reasons;
mod table;

use copying::copied;
pub(super) use keys::{key, paste};
use moving::{changed, with_list};
pub use table::COMMANDS;

use super::detail::Detail;
use super::locks;
use super::{App, Effect, Overlay, Pane};
use crate::engine::Severity;
use crate::model::postgres::Session;
use crate::terminal::{Chord, Key};

/// Something the person can ask for.
#[derive(Debug)]
pub struct Command {
    /// Its name: in the config and in the documentation.
    pub name: &'static str,
    /// What it does, for the help.
    pub doc: &'static str,
    /// A word or two for the footer; `None`: not listed there.
    pub label: Option<&'static str>,
    /// Where the help lists it.
    pub group: Group,
    /// Its default keys.
    pub keys: &'static [&'static str],
    /// Why it does not work now; `None` when it does.
    pub disabled_reason: fn(&App) -> Option<String>,
    run: fn(&mut App) -> Vec<Effect>,
}

/// The sections of the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[expect(missing_docs, reason = "the names are the headings")]
pub enum Group {
    Act,
    Look,
    Move,
    Program,
}

/// A key as it is written in hints: short symbols where everybody knows them.
pub(super) fn symbol(chord: Chord) -> String {
    if chord == Chord::plain(Key::Enter) { "↵".into() } else { chord.to_string() }
}

// === What the commands do ===

fn next_finding(app: &mut App) -> Vec<Effect> {
    let count = app.findings().len().max(1);
    let next = app.finding_place().map_or(0, |place| (place + 1) % count);
    app.choose_finding(next);
    Vec::new()
}

fn open(app: &mut App) -> Vec<Effect> {
    if app.finding.is_some() {
        match app.finding_place() {
            Some(place) => app.jump(place),
            None => app.say(Severity::Notice, "it is over"),
        }
        app.finding = None;
        return Vec::new();
    }
    if app.focus == Pane::Activity && app.activity.open_group() {
        return changed(app);
    }
    if app.focus == Pane::Locks && open_fold(app) {
        return Vec::new();
    }
    if app.focus == Pane::Waits {
        app.open_wait();
        return changed(app);
    }
    if app.focus == Pane::Events {
        return app.go_to_event();
    }
    app.overlay = Detail::of_selection(app).map(Overlay::Detail);
    Vec::new()
}

/// Whether Enter has something to open in the focused pane.
fn opens(app: &App) -> bool {
    let is_row = Detail::of_selection(app).is_some();
    match app.focus {
        Pane::Activity => is_row || app.activity.group_by.is_some(),
        Pane::Waits => app.waits.list.selected.is_some(),
        Pane::Events => app.events.list.selected.is_some(),
        Pane::Locks | Pane::Statements | Pane::Recovery | Pane::Replication | Pane::Cache | Pane::Tables => {
            is_row
        }
    }
}

/// Opens the selected fold; the first of those that were hidden is selected.
fn open_fold(app: &mut App) -> bool {
    let place = app.locks.list.position();
    if !app.locks.open_fold() {
        return false;
    }
    app.refresh();
    if let Some(first) = place.and_then(|place| app.locks.list.rows.get(place)).cloned() {
        app.locks.list.select(first);
    }
    true
}

fn interval(app: &mut App, factor: f64) -> Vec<Effect> {
    let seconds = (app.options.interval.as_secs_f64() * factor).clamp(0.5, 60.0);
    app.options.interval = std::time::Duration::from_secs_f64(seconds);
    let shown = crate::format::count(seconds);
    app.say(Severity::Notice, format!("a sample every {shown}s"));
    vec![Effect::SetInterval(app.options.interval)]
}

/// The session that an action would mean: the one selected in the focused pane.
pub(super) fn selected_session(app: &App) -> Option<&Session> {
    let tick = app.pg()?;
    match app.focus {
        Pane::Activity => app
            .activity
            .row(tick, app.activity.list.selected.as_ref()?)
            .filter(|row| !row.departed)
            .map(|row| row.session),
        Pane::Locks => locks::selected_session(&app.locks, tick),
        Pane::Statements
        | Pane::Recovery
        | Pane::Replication
        | Pane::Cache
        | Pane::Waits
        | Pane::Tables
        | Pane::Events => None,
    }
}

/// Asks about the marked sessions, or about the selected one; never about one that is not in sight.
fn ask(app: &mut App, cancel: bool) -> Vec<Effect> {
    if !app.marks.is_empty() {
        return app.ask_many(cancel);
    }
    let Some(session) = selected_session(app).cloned() else { return Vec::new() };
    let rows = app.viewport.rows_of(app.focus);
    // Shown in full it is in sight, wherever its row is.
    let mut is_in_sight = matches!(app.overlay, Some(Overlay::Detail(_)));
    with_list(app, |list| is_in_sight |= list.show_selection(rows));
    if !is_in_sight {
        let again = app.options.keymap.hint(if cancel { "cancel" } else { "terminate" });
        app.say(
            Severity::Notice,
            format!("{} is selected and was out of sight: {again} again asks about it", session.id.pid),
        );
        return Vec::new();
    }
    app.ask(session, cancel)
}
