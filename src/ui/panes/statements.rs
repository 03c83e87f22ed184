//! Pane 3: statements, costliest now first.

use ratatui::layout::Rect;

use super::{paragraph, reason, unavailable};
use crate::app::{App, Role, RowKey, Span, Value};
use crate::engine::PgTick;
use crate::engine::statements::{StatementTable, Usual};
use crate::format;
use crate::ui::canvas::{Canvas, below, row};
use crate::ui::widgets::table::{self, Row};

pub(super) fn title(app: &App) -> String {
    let view = &app.statements;
    let Some(table) = app.pg().and_then(|tick| tick.statements.value()) else { return String::new() };
    let busy: f64 = table.rows.iter().filter_map(|row| row.exec_ms_per_second).sum::<f64>() / 1000.0;
    let mut title = table.interval_seconds.map_or_else(
        || "rates with the next sample".into(),
        |_| format!("they keep {} sessions busy", format::count(busy)),
    );
    if !view.filter_text.is_empty() {
        title += &format!(" · /{}", view.filter_text);
    }
    if view.only.is_some() {
        title += " · only those of Waits";
    }
    if view.hidden > 0 {
        title += &format!(" · {} hidden", view.hidden);
    }
    if table.hidden_rows > 0 {
        title += &format!(" · {} of other roles not visible", table.hidden_rows);
    }
    if let Some(evicted) = table.evicted.filter(|evicted| *evicted > 0) {
        title += &format!(" · {evicted} evictions, raise pg_stat_statements.max");
    }
    title
}

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, tick: &PgTick) {
    if let Some(why) = unavailable(&tick.statements) {
        reason(canvas, area, why, app);
        return;
    }
    let view = &app.statements;
    if view.list.rows.is_empty() {
        paragraph(canvas, area, &[Span::new(Role::Dim, "no statement to show")]);
        return;
    }
    let columns = table::fitting(&app.options.columns.statements, area.width.saturating_sub(1));
    let Some(statements) = tick.statements.value() else { return };
    let (body, note) = if area.height > 8 {
        (Rect { height: area.height - 1, ..area }, row(below(area, area.height - 1), 0))
    } else {
        (area, Rect::ZERO)
    };
    let rows = view.list.rows.iter().skip(view.list.offset).filter_map(|key| {
        let RowKey::Statement(wanted) = key else { return None };
        let selected = view.list.selected.as_ref() == Some(key);
        let Some(entry) = statements.rows.iter().find(|row| row.key == *wanted) else {
            let text = |name: &str| {
                if name == "query" { Value::Text("(evicted or reset)".into()) } else { Value::None }
            };
            let cells = columns.iter().map(|(column, _)| text(column.name).into()).collect();
            return Some(Row { cells, selected, gone: true, marked: false });
        };
        let cells = columns.iter().map(|(column, _)| (column.cell)(entry)).collect();
        Some(Row { cells, selected, gone: false, marked: false })
    });
    table::draw(canvas, body, &columns, Some((view.sort.column, view.sort.descending)), rows);
    if !note.is_empty() {
        paragraph(canvas, note, &[where_before_comes_from(statements, tick)]);
    }
}

/// A reset that is not older is worth more than a note.
const RESET_TOLD_SECONDS: f64 = 300.0;

fn where_before_comes_from(statements: &StatementTable, tick: &PgTick) -> Span {
    if statements.usual == Usual::LastHour {
        return Span::new(Role::Dim, "before = the last hour, which this program has watched");
    }
    let Some(at) = statements.stats_reset else {
        return Span::new(Role::Dim, "before = average since the counters were reset");
    };
    let age = format::seconds_between(at, tick.sample.server_time);
    if age < RESET_TOLD_SECONDS {
        let text = format!("the counters were reset {} ago: before = average since then", format::age(age));
        return Span::new(Role::Warning, text);
    }
    Span::new(Role::Dim, format!("before = average since {} (stats reset)", at.strftime("%Y-%m-%d %H:%MZ")))
}
