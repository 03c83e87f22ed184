//! Going from pane to pane and from row to row, sorting, and back one level.

use super::super::detail::Detail;
use super::super::list::ListState;
use super::super::{App, Effect, Overlay, Pane, Typing};

pub(super) fn show(app: &mut App, pane: Pane) -> Vec<Effect> {
    // The newest event is what one comes for, wherever one was before.
    if pane == Pane::Events && app.focus != pane {
        app.events.list.selected = None;
    }
    app.focus = pane;
    app.finding = None;
    changed(app)
}

pub(super) fn step_pane(app: &mut App, by: isize) -> Vec<Effect> {
    use strum::IntoEnumIterator as _;
    let panes: Vec<Pane> = Pane::iter().collect();
    let place = panes.iter().position(|pane| *pane == app.focus).unwrap_or_default();
    let next = if by > 0 { place + 1 } else { place + panes.len() - 1 } % panes.len().max(1);
    let pane = panes.get(next).copied().unwrap_or(app.focus);
    show(app, pane)
}

/// Does something to the list of the focused pane; nothing in a pane without one.
pub(super) fn with_list(app: &mut App, change: impl FnOnce(&mut ListState)) {
    if let Some(list) = app.list_of(app.focus) {
        change(list);
    }
}

pub(super) fn page(app: &App) -> isize {
    isize::try_from(app.viewport.rows_of(app.focus)).unwrap_or(10).max(1)
}

pub(super) fn step(app: &mut App, by: isize) -> Vec<Effect> {
    if app.finding.is_some() {
        let last = app.findings().len().saturating_sub(1);
        let place = app.finding_place().unwrap_or_default().saturating_add_signed(by).min(last);
        app.choose_finding(place);
        return Vec::new();
    }
    with_list(app, |list| list.step(by));
    // A departed session goes when another is selected.
    changed(app)
}

pub(super) fn changed(app: &mut App) -> Vec<Effect> {
    app.refresh();
    Vec::new()
}

pub(super) fn back(app: &mut App) -> Vec<Effect> {
    let went_back = app.finding.take().is_some() || app.toast.take().is_some() || narrowed_less(app);
    if !went_back {
        app.zoomed = false;
    }
    changed(app)
}

/// Takes away what narrows the focused list most; false when nothing does.
fn narrowed_less(app: &mut App) -> bool {
    if app.focus == Pane::Activity && app.activity.only.take().is_some() {
        return true;
    }
    if app.focus == Pane::Statements && app.statements.only.take().is_some() {
        return true;
    }
    if app.focus == Pane::Waits && app.leave_wait() {
        return true;
    }
    if let Some(text) = app.filter_of(app.focus).filter(|text| !text.is_empty()) {
        text.clear();
        return true;
    }
    let grouped = app.focus == Pane::Activity && app.activity.group_by.is_some();
    if grouped {
        app.activity.group(None);
    }
    grouped
}

pub(super) fn sort(app: &mut App, turn: bool) -> Vec<Effect> {
    let columns = &app.options.columns;
    match app.focus {
        Pane::Activity if turn => app.activity.sort.descending = !app.activity.sort.descending,
        Pane::Activity => app.activity.sort = app.activity.sort.next(&columns.activity),
        Pane::Statements if turn => app.statements.sort.descending = !app.statements.sort.descending,
        Pane::Statements => app.statements.sort = app.statements.sort.next(&columns.statements),
        Pane::Tables if turn => app.tables.sort.descending = !app.tables.sort.descending,
        Pane::Tables => app.tables.sort = app.tables.sort.next(&columns.tables),
        Pane::Locks | Pane::Recovery | Pane::Replication | Pane::Cache | Pane::Waits | Pane::Events => {}
    }
    app.refresh();
    with_list(app, ListState::to_top);
    changed(app)
}

/// Asks for a time to go to.
pub(super) fn start_time(app: &mut App) -> Vec<Effect> {
    app.typing = Some(Typing { input: tui_input::Input::default(), is_time: true });
    Vec::new()
}

pub(super) fn start_typing(app: &mut App) -> Vec<Effect> {
    let input = tui_input::Input::new(app.filter_of(app.focus).cloned().unwrap_or_default());
    app.typing = Some(Typing { input, is_time: false });
    Vec::new()
}

/// To an earlier or a later sample.
pub(super) fn step_time(app: &mut App, by: isize) -> Vec<Effect> {
    app.step_sample(by)
}

/// To the right: a folded queue opens, a moment later is looked at; to the left the reverse.
pub(super) fn sideways(app: &mut App, by: i64) -> Vec<Effect> {
    if app.focus == Pane::Waits {
        app.step_bin(by);
        return Vec::new();
    }
    if app.focus == Pane::Events {
        app.overlay = Detail::of_selection(app).filter(|_| by > 0).map(Overlay::Detail);
        return Vec::new();
    }
    if by > 0 {
        super::open_fold(app);
        return Vec::new();
    }
    app.locks.open.clear();
    changed(app)
}
