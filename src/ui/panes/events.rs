//! Pane 8: what was done, newest first.

use ratatui::layout::Rect;

use super::paragraph;
use crate::app::{App, EVENT_COLUMNS, Role, Span};
use crate::format;
use crate::ui::canvas::Canvas;
use crate::ui::widgets::table::{self, Row};

/// A pane of fewer columns shows time and event only.
const NARROW: u16 = 110;

pub(super) fn title(app: &App) -> String {
    let view = &app.events;
    let filter =
        if view.filter_text.is_empty() { String::new() } else { format!(" · /{}", view.filter_text) };
    if view.is_empty() { String::new() } else { format!("{}{filter}", format::counted(view.len(), "event")) }
}

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let view = &app.events;
    if view.list.rows.is_empty() {
        let text = if view.is_empty() {
            "nothing was done, and nothing has changed yet"
        } else {
            "no event passes the filter"
        };
        paragraph(canvas, area, &[Span::new(Role::Dim, text)]);
        return;
    }
    // On a small screen what happened is worth more room than where, and by whom: an action says that in full.
    let is_narrow = area.width < NARROW;
    let shown: Vec<_> = EVENT_COLUMNS.iter().filter(|it| !is_narrow || it.priority == 0).copied().collect();
    let columns = table::fitting(&shown, area.width.saturating_sub(1));
    let rows = view.list.rows.iter().skip(view.list.offset).filter_map(|key| {
        let event = view.find(key)?;
        let cells = columns.iter().map(|(column, _)| (column.cell)(event)).collect();
        let selected = view.list.selected.as_ref() == Some(key);
        Some(Row { cells, selected, gone: false, marked: false })
    });
    table::draw(canvas, area, &columns, None, rows);
}
