//! The panes, each a title line and a body.

mod activity;
mod cache;
mod events;
mod locks;
mod recovery;
mod replication;
mod statements;
mod tables;
mod waits;

use ratatui::layout::Rect;

use super::canvas::{Canvas, below, row};
use super::layout::Layout;
use crate::app::{App, Pane, Role, Span};
use crate::format;
use crate::model::{Reading, Reason};
use crate::text;

/// Draws one pane.
pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, pane: Pane, app: &App, layout: &Layout) {
    let title = match pane {
        Pane::Activity => activity::title(app),
        Pane::Locks => locks::title(app),
        Pane::Statements => statements::title(app),
        Pane::Replication => replication::title(app),
        Pane::Cache => String::new(),
        Pane::Waits => waits::title(app),
        Pane::Tables => tables::title(app),
        Pane::Events => events::title(app),
        Pane::Recovery => recovery::title(app),
    };
    let alone = !layout.tabs.is_empty();
    let focused = app.focus == pane && app.finding.is_none();
    title_line(canvas, row(area, 0), pane, &title, focused, alone);
    stale_note(canvas, row(area, 0), pane, app);
    let body = below(area, 1);
    match pane {
        Pane::Cache => cache::draw(canvas, body, app),
        Pane::Events => events::draw(canvas, body, app),
        Pane::Recovery => recovery::draw(canvas, body, app),
        Pane::Activity | Pane::Locks | Pane::Statements | Pane::Replication | Pane::Waits | Pane::Tables => {
            let Some(tick) = app.pg() else {
                nothing_yet(canvas, body, app);
                return;
            };
            match pane {
                Pane::Activity => activity::draw(canvas, body, app, tick),
                Pane::Locks => locks::draw(canvas, body, app, tick),
                Pane::Statements => statements::draw(canvas, body, app, tick),
                Pane::Waits => waits::draw(canvas, body, app),
                Pane::Tables => tables::draw(canvas, body, app, tick),
                Pane::Replication | Pane::Cache | Pane::Events | Pane::Recovery => {
                    replication::draw(canvas, body, tick);
                }
            }
            if app.pg_observer().is_some_and(|observer| observer.outage().is_some()) {
                canvas.tint(body, Role::Dim);
            }
        }
    }
}

fn title_line(canvas: &mut Canvas<'_>, area: Rect, pane: Pane, title: &str, focused: bool, alone: bool) {
    let (line, name) = if focused { (Role::Focus, Role::Focus) } else { (Role::Border, Role::Title) };
    canvas.rule(area, line);
    // With a tab bar above, the name stands there already.
    let own = if alone { String::new() } else { format!("{} {} ", pane as u8, pane.title()) };
    let text = format!("{own}{title}");
    if !text.trim().is_empty() {
        let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
        canvas.text(inner, name, &format!(" {} ", text.trim_end()));
    }
}

/// Old data carry their age.
fn stale_note(canvas: &mut Canvas<'_>, area: Rect, pane: Pane, app: &App) {
    let observer =
        if matches!(pane, Pane::Cache | Pane::Events | Pane::Recovery) { None } else { app.pg_observer() };
    let Some((observer, tick)) = observer.and_then(|observer| Some((observer, observer.tick()?))) else {
        return;
    };
    let note = if observer.outage().is_some() {
        Some(format!("{} old", format::age_at(tick.taken_at, app.clock())))
    } else {
        let since = tick
            .postgres()
            .filter(|_| pane == Pane::Locks)
            .and_then(|tick| Some((tick, tick.forest.stale_since()?)));
        since.map(|(tick, since)| {
            format!("graph {} old, lock manager busy", format::age_at(since, tick.sample.server_time))
        })
    };
    if let Some(note) = note {
        canvas.right(
            Rect { width: area.width.saturating_sub(1), ..area },
            &[Span::new(Role::Warning, format!(" {note} "))],
        );
    }
}

/// Before the first sample: why there is none.
fn nothing_yet(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    match app.pg_observer() {
        None => paragraph(canvas, area, &[Span::new(Role::Dim, "no PostgreSQL server is watched")]),
        Some(observer) => match observer.outage() {
            Some(outage) => reason(canvas, area, &outage.reason, app),
            None => paragraph(canvas, area, &[Span::new(Role::Dim, "connecting …")]),
        },
    }
}

/// Why a part cannot be read, and what to do.
fn reason(canvas: &mut Canvas<'_>, area: Rect, reason: &Reason, app: &App) {
    let used = wrapped(canvas, area, INDENT, Role::Warning, &reason.text);
    if let Some(hint) = &reason.hint {
        let used = used + wrapped(canvas, below(area, used), INDENT, Role::Text, hint);
        let copy = app.options.keymap.hint("copy");
        if is_statement(hint) && !copy.is_empty() {
            canvas.spans(
                row(area, used),
                &[
                    Span::text("  "),
                    Span::new(Role::Key, copy),
                    Span::new(Role::Dim, " copies the statement"),
                ],
            );
        }
    }
}

/// Whether a hint is something to run, and not advice that happens to hold a semicolon.
fn is_statement(hint: &str) -> bool {
    let first = hint.split(' ').next().unwrap_or_default();
    hint.contains(';') && first.chars().all(|c| c.is_ascii_uppercase())
}

/// Columns that a paragraph stands in from the left.
const INDENT: u16 = 2;

/// Writes a longer text over as many lines as it needs and returns their number.
pub(super) fn wrapped(canvas: &mut Canvas<'_>, area: Rect, indent: u16, role: Role, raw: &str) -> u16 {
    let area = Rect { x: area.x + indent, width: area.width.saturating_sub(indent), ..area };
    let lines = text::wrapped(&text::line(raw), usize::from(area.width));
    let mut used = 0;
    for line in lines {
        if used < area.height {
            canvas.text(row(area, used), role, &line);
            used += 1;
        }
    }
    used
}

fn paragraph(canvas: &mut Canvas<'_>, area: Rect, spans: &[Span]) {
    let mut all = vec![Span::text("  ")];
    all.extend_from_slice(spans);
    canvas.spans(row(area, 0), &all);
}

/// The reason of a reading that has none of its value.
fn unavailable<T>(reading: &Reading<T>) -> Option<&Reason> {
    reading.reason()
}
