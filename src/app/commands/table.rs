//! Every command, in the order of the footer and the help.

use super::super::{App, Effect, Overlay, Pane};
use super::copying::copied;
use super::moving::{
    back, changed, page, show, sideways, sort, start_time, start_typing, step, step_pane, step_time,
};
use super::{Command, Group, ask, interval, marking, next_finding, open, reasons};
use crate::recording::Note;

const fn always(_: &App) -> Option<String> {
    None
}

macro_rules! command {
    ($name:literal, $label:expr, $group:ident, [$($key:literal),*], $doc:literal, $disabled:expr, $run:expr) => {
        Command { name: $name, doc: $doc, label: $label, group: Group::$group, keys: &[$($key),*], disabled_reason: $disabled, run: $run }
    };
}

/// Every command.
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
        "show the selected row in full; open a group; go to a finding; look at the moment of an event",
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
        "show every waiter of a folded queue; in Waits some seconds on; in Events an action in full",
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
    command!(
        "live",
        Some("live"),
        Look,
        ["0"],
        "back to the present; play a recording on",
        reasons::is_live,
        App::go_live
    ),
    command!(
        "pause",
        Some("pause"),
        Look,
        ["p"],
        "stop the view, while reading goes on; let a recording stand, or play it",
        reasons::nothing_kept,
        App::pause
    ),
    command!(
        "go-to",
        None,
        Look,
        ["T"],
        "go to a time: 16:15, 16:15:30, -5m",
        reasons::nothing_kept,
        start_time
    ),
    command!(
        "play-faster",
        Some("faster"),
        Look,
        [">"],
        "play a recording twice as fast",
        reasons::no_replay,
        |app| { app.change_speed(true).map(Effect::Replay).into_iter().collect() }
    ),
    command!("play-slower", None, Look, ["<"], "play a recording half as fast", reasons::no_replay, |app| {
        app.change_speed(false).map(Effect::Replay).into_iter().collect()
    }),
    command!("earlier", None, Look, ["["], "look at the sample before", reasons::nothing_kept, |app| {
        step_time(app, -1)
    }),
    command!("later", None, Look, ["]"], "look at the sample after", reasons::is_newest, |app| step_time(
        app, 1
    )),
    command!("much-earlier", None, Look, ["{"], "look ten samples back", reasons::nothing_kept, |app| {
        step_time(app, -10)
    }),
    command!("much-later", None, Look, ["}"], "look ten samples on", reasons::is_newest, |app| step_time(
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
        "export",
        None,
        Look,
        ["x"],
        "copy this moment, or write it or the timeline into a file",
        reasons::nothing_kept,
        |app| {
            app.overlay = Some(Overlay::Export(0));
            Vec::new()
        }
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
    command!(
        "next-event",
        None,
        Look,
        ["n"],
        "look at the moment of the next event",
        reasons::is_newest,
        |app| app.step_event(1)
    ),
    command!(
        "previous-event",
        None,
        Look,
        ["N"],
        "look at the moment of the event before",
        reasons::nothing_kept,
        |app| app.step_event(-1)
    ),
    command!(
        "baseline",
        Some("baseline"),
        Look,
        ["b"],
        "compare with now from here on: show whether it gets better (every action does so, too)",
        reasons::no_baseline,
        |app| {
            let target = app.postgres;
            let note = app.baseline().zip(target).map(|(at, target)| Note::Baseline(at, target));
            note.map(|note| Effect::Note(Box::new(note))).into_iter().collect()
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
    command!(
        "recovery",
        Some("recovery"),
        Move,
        ["9"],
        "whether it got better",
        reasons::no_recovery,
        |app| { show(app, Pane::Recovery) }
    ),
    command!("next-pane", None, Move, ["Tab"], "next pane", always, |app| step_pane(app, 1)),
    command!("previous-pane", None, Move, ["Shift-Tab"], "previous pane", always, |app| step_pane(app, -1)),
    command!("up", None, Move, ["Up", "k"], "one row up", always, |app| step(app, -1)),
    command!("down", None, Move, ["Down", "j"], "one row down", always, |app| step(app, 1)),
    command!("page-up", None, Move, ["PgUp"], "one page up", always, |app| step(app, -page(app))),
    command!("page-down", None, Move, ["PgDn"], "one page down", always, |app| step(app, page(app))),
    command!("first", None, Move, ["Home"], "first row", always, |app| step(app, isize::MIN)),
    command!("last", None, Move, ["End"], "last row", always, |app| step(app, isize::MAX)),
    command!("back", None, Move, ["Esc", "Backspace"], "one level back", always, back),
    command!(
        "record",
        None,
        Program,
        ["R"],
        "keep everything in a file of its own from now on, or end that",
        reasons::is_replay,
        |app| vec![Effect::Record(app.recording.file.is_none())]
    ),
    command!("slower", None, Program, ["+"], "sample less often", reasons::is_replay, |app| interval(
        app, 2.0
    )),
    command!("faster", None, Program, ["-"], "sample more often", reasons::is_replay, |app| interval(
        app, 0.5
    )),
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
