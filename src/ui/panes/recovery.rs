//! Pane 9: whether it got better.

use ratatui::layout::Rect;

use super::paragraph;
use crate::app::{App, RECOVERY_COLUMNS, Role, Span};
use crate::format;
use crate::ui::canvas::Canvas;
use crate::ui::widgets::table::{self, Row};

pub(super) fn title(app: &App) -> String {
    let Some(recovery) = app.recovery() else { return String::new() };
    let now = app.clock();
    let (since, verdict) = recovery.verdict_at(now);
    let gone = recovery.session.map_or_else(String::new, |id| {
        let is_gone = recovery.gone_at.is_some_and(|gone_at| gone_at <= now);
        format!(" · {} {}", id.pid, if is_gone { "gone" } else { "still connected" })
    });
    let relapses = match recovery.relapses_at(now) {
        0 => String::new(),
        relapses => format!(" · came back {relapses}x"),
    };
    format!(
        "{} for {} · since {} {} ({}){gone}{relapses}",
        verdict.word(),
        format::age_at(since, now),
        format::clock(recovery.at),
        recovery.cause,
        format::age_at(recovery.at, now)
    )
}

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let rows = app.recovery_rows();
    if rows.is_empty() {
        let key = app.options.keymap.hint("baseline");
        let text = format!("no baseline yet: {key} sets one, and every cancel and terminate does");
        paragraph(canvas, area, &[Span::new(Role::Dim, text)]);
        return;
    }
    let columns = table::fitting(RECOVERY_COLUMNS, area.width.saturating_sub(1));
    let rows = rows.iter().map(|row| {
        let cells = columns.iter().map(|(column, _)| (column.cell)(row)).collect();
        Row { cells, selected: false, gone: false, marked: false }
    });
    table::draw(canvas, area, &columns, None, rows);
}
