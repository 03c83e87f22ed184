//! Commands as data: name, keys, words, the reason why one does not work now, and what it does. The footer, the
//! help, the key table of the README and the manual page derive from this table.

mod copying;
mod keys;
mod marking;
mod moving;
mod reasons;

use copying::copied;
pub(super) use keys::{key, paste};
use moving::{
    back, changed, page, show, sideways, sort, start_typing, step, step_pane, step_time, with_list,
};

use super::detail::Detail;
use super::locks;
use super::{App, Effect, Overlay, Pane};
use crate::engine::{Observer, Severity, Tick};
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

const fn always(_: &App) -> Option<String> {
    None
}

macro_rules! command {
    ($name:literal, $label:expr, $group:ident, [$($key:literal),*], $doc:literal, $disabled:expr, $run:expr) => {
        Command { name: $name, doc: $doc, label: $label, group: Group::$group, keys: &[$($key),*], disabled_reason: $disabled, run: $run }
    };
}

/// Every command, in the order of the footer and the help.
pub static COMMANDS: &[Command] = &[
    command!(
        "terminate",
        Some("terminate"),
        Act,
        ["K"],
        "terminate the selected session, or the marked ones, after a question",
        reasons::terminate_disabled,
        |app| ask(app, false)
    ),
    command!(
        "cancel",
        Some("cancel"),
        Act,
        ["C"],
        "cancel the statement of the selected session, or of the marked ones, after a question",
        reasons::cancel_disabled,
        |app| ask(app, true)
    ),
    command!(
        "mark",
        Some("mark"),
        Act,
        ["Space"],
        "mark the selected session, group or folded queue, or unmark it",
        reasons::nothing_to_mark,
        marking::mark_selected
    ),
    command!(
        "mark-all",
        None,
        Act,
        ["a"],
        "mark everything the filter shows; in Locks the selected node and all behind it",
        reasons::only_sessions,
        marking::mark_all
    ),
    command!(
        "mark-by",
        None,
        Act,
        ["M"],
        "mark by rule: idle for long, idle in transaction for long, active for long, an application",
        reasons::only_sessions,
        marking::open_menu
    ),
    command!(
        "unmark-all",
        Some("unmark all"),
        Act,
        ["u"],
        "unmark everything",
        reasons::nothing_marked,
        marking::unmark_all
    ),
    command!(
        "detail",
        Some("detail"),
        Look,
        ["Enter"],
        "show the selected row in full; open a group; go to a finding",
        reasons::nothing_to_open,
        open
    ),
    command!(
        "explain",
        Some("explain"),
        Look,
        ["e"],
        "show the plan of the selected statement, without running it",
        App::explain_disabled,
        App::explain
    ),
    command!(
        "findings",
        Some("findings"),
        Look,
        ["!"],
        "go to the findings; again: the next one",
        reasons::no_findings,
        next_finding
    ),
    command!(
        "filter",
        Some("filter"),
        Look,
        ["/"],
        "filter by words; !word leaves out",
        reasons::filter_disabled,
        start_typing
    ),
    command!(
        "open",
        None,
        Look,
        ["Right", "l"],
        "show every waiter of a folded queue; in Waits go some seconds on",
        reasons::only_sideways,
        |app| sideways(app, 1)
    ),
    command!(
        "close",
        None,
        Look,
        ["Left", "h"],
        "fold the queues again; in Waits go some seconds back",
        reasons::only_sideways,
        |app| sideways(app, -1)
    ),
    command!("live", Some("live"), Look, ["0"], "back to the present", reasons::is_live, |app| {
        app.show_present();
        Vec::new()
    }),
    command!(
        "pause",
        Some("pause"),
        Look,
        ["p"],
        "stop the view, while reading goes on",
        reasons::nothing_kept,
        |app| {
            app.pause();
            Vec::new()
        }
    ),
    command!("earlier", None, Look, ["["], "look at the sample before", reasons::nothing_kept, |app| {
        step_time(app, -1)
    }),
    command!("later", None, Look, ["]"], "look at the sample after", reasons::is_live, |app| step_time(
        app, 1
    )),
    command!("much-earlier", None, Look, ["{"], "look ten samples back", reasons::nothing_kept, |app| {
        step_time(app, -10)
    }),
    command!("much-later", None, Look, ["}"], "look ten samples on", reasons::is_live, |app| step_time(
        app, 10
    )),
    command!(
        "group",
        Some("group"),
        Look,
        ["g"],
        "group sessions by application, client, user, database, state, wait; in Tables the next list",
        reasons::only_grouped,
        |app| {
            if app.focus == Pane::Tables {
                app.tables.show_next();
            } else {
                app.activity.next_group();
            }
            changed(app)
        }
    ),
    command!(
        "idle",
        Some("idle"),
        Look,
        ["i"],
        "show or hide idle sessions",
        reasons::only_activity,
        |app| {
            app.activity.show_idle = !app.activity.show_idle;
            app.activity.list.selected = None;
            changed(app)
        }
    ),
    command!("sort", Some("sort"), Look, ["s"], "sort by the next column", reasons::sort_disabled, |app| {
        sort(app, false)
    }),
    command!(
        "sort-direction",
        None,
        Look,
        ["S"],
        "turn the order round",
        reasons::sort_disabled,
        |app| sort(app, true)
    ),
    command!(
        "freeze",
        None,
        Look,
        ["o"],
        "rows keep their places while their figures change",
        reasons::only_activity,
        |app| {
            app.activity.frozen = !app.activity.frozen;
            changed(app)
        }
    ),
    command!("zoom", Some("zoom"), Look, ["z"], "give the pane the whole screen", always, |app| {
        app.zoomed = !app.zoomed;
        Vec::new()
    }),
    command!(
        "copy",
        None,
        Look,
        ["c"],
        "copy the statement, or the command that a message suggests",
        reasons::copy_disabled,
        |app| copied(app).map(Effect::Copy).into_iter().collect()
    ),
    command!(
        "target",
        Some("next server"),
        Look,
        ["t"],
        "show the next PostgreSQL server",
        reasons::one_target,
        |app| {
            app.next_target();
            Vec::new()
        }
    ),
    command!(
        "server",
        None,
        Look,
        ["I"],
        "show what this role sees and may do here, and the GRANT that would help",
        reasons::no_data,
        |app| {
            app.overlay = Some(Overlay::Server(0));
            Vec::new()
        }
    ),
    command!("activity", None, Move, ["1"], "sessions", always, |app| show(app, Pane::Activity)),
    command!("locks", None, Move, ["2"], "who blocks whom", always, |app| show(app, Pane::Locks)),
    command!("statements", None, Move, ["3"], "which statements cost most now", always, |app| show(
        app,
        Pane::Statements
    )),
    command!("replication", None, Move, ["4"], "standbys, slots, lag", always, |app| show(
        app,
        Pane::Replication
    )),
    command!("cache", None, Move, ["5"], "buffer cache and Redis", always, |app| show(app, Pane::Cache)),
    command!("waits", None, Move, ["6"], "what active sessions wait for, over time", always, |app| show(
        app,
        Pane::Waits
    )),
    command!(
        "tables",
        None,
        Move,
        ["7"],
        "tables, unused and invalid indexes, running VACUUM",
        always,
        |app| show(app, Pane::Tables)
    ),
    command!("events", None, Move, ["8"], "what was done, and what came of it", always, |app| show(
        app,
        Pane::Events
    )),
    command!("next-pane", None, Move, ["Tab"], "next pane", always, |app| step_pane(app, 1)),
    command!("previous-pane", None, Move, ["Shift-Tab"], "previous pane", always, |app| step_pane(app, -1)),
    command!("up", None, Move, ["Up", "k"], "one row up", always, |app| step(app, -1)),
    command!("down", None, Move, ["Down", "j"], "one row down", always, |app| step(app, 1)),
    command!("page-up", None, Move, ["PgUp"], "one page up", always, |app| step(app, -page(app))),
    command!("page-down", None, Move, ["PgDn"], "one page down", always, |app| step(app, page(app))),
    command!("first", None, Move, ["Home"], "first row", always, |app| step(app, isize::MIN)),
    command!("last", None, Move, ["End"], "last row", always, |app| step(app, isize::MAX)),
    command!("back", None, Move, ["Esc", "Backspace"], "one level back", always, back),
    command!("slower", None, Program, ["+"], "sample less often", always, |app| interval(app, 2.0)),
    command!("faster", None, Program, ["-"], "sample more often", always, |app| interval(app, 0.5)),
    command!(
        "privacy",
        None,
        Program,
        ["Ctrl-O"],
        "show statements without their literals, or with them again",
        always,
        |app| {
            app.private = !app.private;
            Vec::new()
        }
    ),
    command!("redraw", None, Program, ["Ctrl-L"], "draw the screen anew", always, |_| vec![Effect::Redraw]),
    command!("suspend", None, Program, ["Ctrl-Z"], "give the terminal back to the shell", always, |_| vec![
        Effect::Suspend
    ]),
    command!("help", Some("help"), Program, ["?"], "every command and its keys", always, |app| {
        app.overlay = Some(Overlay::Help(0));
        Vec::new()
    }),
    command!("quit", Some("quit"), Program, ["q", "Ctrl-C"], "quit", always, |_| vec![Effect::Quit(false)]),
    command!(
        "quit-keep",
        None,
        Program,
        ["Q"],
        "quit and leave the last screen in the scrollback",
        always,
        |_| vec![Effect::Quit(true)]
    ),
];

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
    app.overlay = Detail::of_selection(app).map(Overlay::Detail);
    Vec::new()
}

/// Whether Enter has something to open in the focused pane.
fn opens(app: &App) -> bool {
    let is_row = Detail::of_selection(app).is_some();
    match app.focus {
        Pane::Activity => is_row || app.activity.group_by.is_some(),
        Pane::Waits => app.waits.list.selected.is_some(),
        Pane::Locks | Pane::Statements | Pane::Replication | Pane::Cache | Pane::Tables | Pane::Events => {
            is_row
        }
    }
}

fn open_fold(app: &mut App) -> bool {
    let observer = app.postgres.and_then(|target| app.observers.get(target.0));
    let tick = observer.and_then(Observer::tick).and_then(Tick::postgres);
    tick.is_some_and(|tick| app.locks.open_fold(tick))
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
        Pane::Statements | Pane::Replication | Pane::Cache | Pane::Waits | Pane::Tables | Pane::Events => {
            None
        }
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
