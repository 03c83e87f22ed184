//! Who gets a key: the filter being typed, what is open above the panes, or the command it is bound to.

use super::super::confirm::{Answer, Confirm};
use super::super::export::{EXPORTS, stepped};
use super::super::list::ListState;
use super::super::many::{Many, ManyAnswer, whom};
use super::super::{App, Effect, Overlay, Phase, Rule, RuleMenu, Typing};
use super::{changed, with_list};
use crate::app::Pane;
use crate::engine::{Observer, Severity, Tick};
use crate::terminal::{Chord, Key};

/// Takes a key: what is open on top gets it first.
pub(in crate::app) fn key(app: &mut App, chord: Chord) -> Vec<Effect> {
    // Somebody steps behind the chair: that works whatever is open.
    if app.options.keymap.command(chord).is_some_and(|command| command.name == "privacy") {
        return run(app, chord);
    }
    if app.typing.is_some() {
        return type_key(app, chord);
    }
    match app.overlay.take() {
        Some(Overlay::Confirm(confirm)) => return answer(app, confirm, chord),
        Some(Overlay::Many(many)) => return answer_many(app, many, chord),
        Some(Overlay::Rules(menu)) => return choose_rule(app, menu, chord),
        Some(Overlay::Export(place)) => return choose_export(app, place, chord),
        Some(Overlay::Help(offset)) => {
            return scroll_overlay(app, chord, |moved| Overlay::Help(offset.saturating_add_signed(moved)));
        }
        Some(Overlay::Server(offset)) => {
            return scroll_overlay(app, chord, |moved| Overlay::Server(offset.saturating_add_signed(moved)));
        }
        Some(Overlay::Detail(detail)) => {
            if app
                .options
                .keymap
                .command(chord)
                .is_some_and(|command| ["terminate", "cancel", "copy"].contains(&command.name))
            {
                app.overlay = Some(Overlay::Detail(detail));
                return run(app, chord);
            }
            return scroll_overlay(app, chord, |moved| Overlay::Detail(detail.scrolled(moved)));
        }
        Some(Overlay::Plan(mut plan)) => {
            return scroll_overlay(app, chord, |moved| {
                plan.offset = plan.offset.saturating_add_signed(moved);
                Overlay::Plan(plan)
            });
        }
        None => {}
    }
    run(app, chord)
}

fn run(app: &mut App, chord: Chord) -> Vec<Effect> {
    let Some(command) = app.options.keymap.command(chord) else { return Vec::new() };
    if let Some(reason) = (command.disabled_reason)(app) {
        app.say(Severity::Notice, format!("{}: {reason}", command.label.unwrap_or(command.name)));
        return Vec::new();
    }
    (command.run)(app)
}

/// Pasted text goes into the filter line and nowhere else: a paste must never run commands.
pub(in crate::app) fn paste(app: &mut App, text: &str) {
    if let Some(Typing { input, .. }) = &mut app.typing {
        for c in text.chars().filter(|c| !c.is_control()) {
            input.handle(tui_input::InputRequest::InsertChar(c));
        }
        filter_typed(app);
    } else {
        let now = app.now;
        if let Some(hearing) = app.hearing() {
            hearing.disturb(now);
        }
    }
}

fn scroll_overlay(app: &mut App, chord: Chord, overlay: impl FnOnce(isize) -> Overlay) -> Vec<Effect> {
    let page = isize::try_from(app.viewport.overlay_rows).unwrap_or(10).max(1);
    let moved = match app.options.keymap.command(chord).map(|command| command.name) {
        Some("up") => -1,
        Some("down") => 1,
        Some("page-up") => -page,
        Some("page-down") => page,
        Some("first") => isize::MIN,
        Some("redraw") => {
            app.overlay = Some(overlay(0));
            return vec![Effect::Redraw];
        }
        Some("suspend") => {
            app.overlay = Some(overlay(0));
            return vec![Effect::Suspend];
        }
        Some("back" | "quit" | "help" | "detail") => return Vec::new(),
        Some(_) | None => 0,
    };
    app.overlay = Some(overlay(moved));
    Vec::new()
}

fn answer(app: &mut App, mut confirm: Box<Confirm>, chord: Chord) -> Vec<Effect> {
    match confirm.answer(chord, app.now) {
        Answer::Stay => {
            app.overlay = Some(Overlay::Confirm(confirm));
            Vec::new()
        }
        Answer::No => Vec::new(),
        Answer::Yes(action) => {
            let sent = confirm.sent();
            let tick = app.observer(Some(confirm.target)).and_then(Observer::tick).and_then(Tick::postgres);
            let whom = tick.map(|tick| whom(&confirm.session, tick)).unwrap_or_default();
            let order = app.order(confirm.target, action, whom, confirm.session.xact_start, None);
            app.say(Severity::Notice, format!("{sent} …"));
            vec![order]
        }
    }
}

fn answer_many(app: &mut App, mut many: Box<Many>, chord: Chord) -> Vec<Effect> {
    let page = isize::try_from(app.viewport.list_rows).unwrap_or(10).max(1);
    match many.answer(chord, app.now, page) {
        ManyAnswer::Stay => app.overlay = Some(Overlay::Many(many)),
        ManyAnswer::Close if matches!(many.phase, Phase::Over { .. }) => {
            // What was acted on is done with; what was not stays marked.
            app.marks.forget(many.ordered());
            app.refresh();
        }
        ManyAnswer::Close => {}
    }
    Vec::new()
}

fn choose_export(app: &mut App, place: usize, chord: Chord) -> Vec<Effect> {
    let chosen = if chord.key == Key::Enter { Some(place) } else { numbered(chord) };
    if let Some(export) = chosen.and_then(|place| EXPORTS.get(place)) {
        return vec![Effect::Export(*export)];
    }
    let step = match app.options.keymap.command(chord).map(|command| command.name) {
        Some("up") => -1,
        Some("down") => 1,
        Some("back" | "quit" | "export") => return Vec::new(),
        Some(_) | None => 0,
    };
    app.overlay = Some(Overlay::Export(stepped(place, step)));
    Vec::new()
}

/// The place in a menu whose number was typed.
fn numbered(chord: Chord) -> Option<usize> {
    let digit = chord.character().and_then(|c| c.to_digit(10))?;
    usize::try_from(digit).ok()?.checked_sub(1)
}

fn choose_rule(app: &mut App, menu: RuleMenu, chord: Chord) -> Vec<Effect> {
    let numbered = numbered(chord).and_then(|place| Rule::READY_MADE.get(place)).copied();
    let chosen = if chord.key == Key::Enter { menu.rule() } else { numbered };
    if let Some(rule) = chosen {
        super::marking::mark_by(app, rule);
        return Vec::new();
    }
    let step = match app.options.keymap.command(chord).map(|command| command.name) {
        Some("up") => -1,
        Some("down") => 1,
        Some("back" | "quit" | "mark-by") => return Vec::new(),
        Some(_) | None => 0,
    };
    app.overlay = Some(Overlay::Rules(menu.step(step)));
    Vec::new()
}

fn type_key(app: &mut App, chord: Chord) -> Vec<Effect> {
    use tui_input::InputRequest as Edit;
    let edit = match (chord.key, chord.ctrl) {
        (Key::Enter, _) if app.typing.as_ref().is_some_and(|typing| typing.is_time) => {
            return go_to_typed(app);
        }
        // Both keep the filter: Esc a second time takes it away.
        (Key::Enter | Key::Esc, _) | (Key::Char('c'), true) => {
            app.typing = None;
            return changed(app);
        }
        (Key::Backspace, _) => Edit::DeletePrevChar,
        (Key::Delete, _) => Edit::DeleteNextChar,
        (Key::Left, _) => Edit::GoToPrevChar,
        (Key::Right, _) => Edit::GoToNextChar,
        (Key::Home, _) | (Key::Char('a'), true) => Edit::GoToStart,
        (Key::End, _) | (Key::Char('e'), true) => Edit::GoToEnd,
        (Key::Char('u'), true) => Edit::DeleteLine,
        (Key::Char('w'), true) => Edit::DeletePrevWord,
        (Key::Char(c), false) if !chord.alt => Edit::InsertChar(c),
        _ => return Vec::new(),
    };
    if let Some(Typing { input, .. }) = &mut app.typing {
        input.handle(edit);
    }
    filter_typed(app);
    Vec::new()
}

/// Goes to the time that was typed.
fn go_to_typed(app: &mut App) -> Vec<Effect> {
    let typed = app.typing.take().map(|typing| typing.input.value().to_owned()).unwrap_or_default();
    if let Some(at) = app.typed_time(&typed) {
        return app.go_to(at);
    }
    app.say(Severity::Notice, format!("\"{typed}\" is no time: write 16:15, 16:15:30, -5m or +30s"));
    Vec::new()
}

fn filter_typed(app: &mut App) {
    let Some(Typing { input, is_time: false }) = &app.typing else { return };
    let typed = input.value().to_owned();
    if let Some(text) = app.filter_of(app.focus) {
        *text = typed;
    }
    app.activity.group_by = app.activity.group_by.filter(|_| app.focus != Pane::Activity);
    with_list(app, |list| list.selected = None);
    app.refresh();
    with_list(app, ListState::to_top);
}
