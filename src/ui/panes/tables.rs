//! Pane 7: what works on relations now, and below it tables, indexes or constraints.

use ratatui::layout::Rect;

use super::{paragraph, reason, unavailable};
use crate::app::{
    App, CONSTRAINT_COLUMNS, Cell, CellOf, Column, INDEX_COLUMNS, Role, RowKey, Shown, Span, TableLine,
    constraint_of, index_of, table_of,
};
use crate::engine::PgTick;
use crate::engine::rates::{float, ratio};
use crate::engine::tables::TableRows;
use crate::format;
use crate::model::Reading;
use crate::model::postgres::Progress;
use crate::ui::canvas::{Canvas, below, row};
use crate::ui::widgets::table::{self, Row, Sorted};

/// Commands in progress that are listed at most; more are counted.
const PROGRESS_ROWS_MAX: u16 = 6;

pub(super) fn title(app: &App) -> String {
    let Some(rows) = app.pg().and_then(|tick| tick.tables.as_deref()) else { return String::new() };
    let Some(counted) = rows.read.counted.value() else { return String::new() };
    let read = rows.rows.value().map_or(0, Vec::len);
    let tables = usize::try_from(counted.tables).unwrap_or_default();
    let of = if read < tables { format!("{read} largest of ") } else { String::new() };
    let tables = format!("{of}{}", format::counted(tables, "table"));
    let indexes = rows.read.indexes.value().map(Vec::as_slice).unwrap_or_default();
    let invalid = indexes.iter().filter(|index| !index.is_valid).count();
    let unused = indexes.len() - invalid;
    let constraints = rows.read.constraints.value().map_or(0, Vec::len);
    let current =
        |shown: Shown, text: String| if shown == app.tables.shown { format!("[{text}]") } else { text };
    let mut title = [
        current(Shown::Tables, tables),
        current(Shown::Indexes, format!("{unused} unused, {invalid} invalid indexes")),
        current(Shown::Constraints, format!("{constraints} not validated")),
    ]
    .join(" · ");
    if !app.tables.filter_text.is_empty() {
        title += &format!(" · /{}", app.tables.filter_text);
    }
    if app.tables.hidden > 0 {
        title += &format!(" · {} hidden", app.tables.hidden);
    }
    title
}

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, tick: &PgTick) {
    let Some(rows) = tick.tables.as_deref() else {
        paragraph(canvas, area, &[Span::new(Role::Dim, "reading the catalogs …")]);
        return;
    };
    let used = progress(canvas, area, app, tick, rows);
    let (body, note) = split_note(below(area, used));
    match app.tables.shown {
        Shown::Tables => tables(canvas, body, app, tick, rows),
        Shown::Indexes => {
            list(canvas, body, app, &rows.read.indexes, INDEX_COLUMNS, |key| index_of(tick, key));
        }
        Shown::Constraints => {
            list(canvas, body, app, &rows.read.constraints, CONSTRAINT_COLUMNS, |key| {
                constraint_of(tick, key)
            });
        }
    }
    if let Some(counted) = rows.read.counted.value().filter(|_| !note.is_empty()) {
        let age = format::age_at(counted.read_at, tick.sample.server_time);
        let since = counted.stats_reset.map_or_else(
            || "since the counters began".into(),
            |at| format!("since {}", at.strftime("%Y-%m-%d %H:%MZ")),
        );
        let next = app.options.keymap.hint("group");
        let what = match app.tables.shown {
            Shown::Tables => "size and rows are estimates of the last VACUUM or ANALYZE".to_owned(),
            Shown::Indexes => format!("unused: scanned less than 100 times {since}, on this server"),
            Shown::Constraints => "not validated: existing rows were never held against it".to_owned(),
        };
        paragraph(
            canvas,
            note,
            &[Span::new(Role::Dim, format!("{what} · read {age} ago · {next} next list"))],
        );
    }
}

fn split_note(area: Rect) -> (Rect, Rect) {
    if area.height > 6 {
        (Rect { height: area.height - 1, ..area }, row(below(area, area.height - 1), 0))
    } else {
        (area, Rect::ZERO)
    }
}

fn tables(canvas: &mut Canvas<'_>, area: Rect, app: &App, tick: &PgTick, rows: &TableRows) {
    let columns = &app.options.columns.tables;
    let sorted = Some((app.tables.sort.column, app.tables.sort.descending));
    draw_list(canvas, area, app, &rows.rows, (columns, sorted), |key, column| {
        table_of(tick, key).map(|row| (column.cell)(&TableLine { row, tick }))
    });
}

fn list<'a, T: 'a>(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    reading: &Reading<Vec<T>>,
    columns: &[Column<CellOf<T>>],
    find: impl Fn(&RowKey) -> Option<&'a T>,
) {
    draw_list(canvas, area, app, reading, (columns, None), |key, column| {
        find(key).map(|it| (column.cell)(it))
    });
}

/// A list of relations; one that has gone is struck through.
fn draw_list<F: Copy, T>(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    reading: &Reading<Vec<T>>,
    (columns, sorted): (&[Column<F>], Sorted),
    cell: impl Fn(&RowKey, &Column<F>) -> Option<Cell>,
) {
    if let Some(why) = unavailable(reading) {
        reason(canvas, area, why, app);
        return;
    }
    let view = &app.tables.list;
    if view.rows.is_empty() {
        paragraph(canvas, area, &[Span::new(Role::Dim, "none")]);
        return;
    }
    let columns = table::fitting(columns, area.width.saturating_sub(1));
    let rows = view.rows.iter().skip(view.offset).map(|key| {
        let cells: Option<Vec<Cell>> = columns.iter().map(|(column, _)| cell(key, column)).collect();
        let gone = cells.is_none();
        let nothing = || columns.iter().map(|_| crate::app::Value::None.into()).collect();
        Row {
            cells: cells.unwrap_or_else(nothing),
            selected: view.selected.as_ref() == Some(key),
            gone,
            marked: false,
        }
    });
    table::draw(canvas, area, &columns, sorted, rows);
}

/// What works on relations now, a line each; returns the rows used.
fn progress(canvas: &mut Canvas<'_>, area: Rect, app: &App, tick: &PgTick, rows: &TableRows) -> u16 {
    if let Some(why) = unavailable(&rows.read.progress) {
        paragraph(canvas, area, &[Span::new(Role::Warning, format!("progress: {}", why.text))]);
        return 1;
    }
    let all = rows.read.progress.value().map(Vec::as_slice).unwrap_or_default();
    let room = PROGRESS_ROWS_MAX.min(area.height / 3);
    let mut used = 0;
    for (number, step) in (0..room).zip(all) {
        paragraph(canvas, row(area, number), &step_line(step, tick, app));
        used = number + 1;
    }
    let more = all.len() - usize::from(used);
    if more > 0 {
        paragraph(canvas, row(area, used), &[Span::new(Role::Dim, format!("and {more} more"))]);
        used += 1;
    }
    used
}

fn step_line(step: &Progress, tick: &PgTick, app: &App) -> Vec<Span> {
    let percent = step.done.zip(step.total).and_then(|(done, total)| ratio(float(done), float(total)));
    let percent = percent.map_or_else(String::new, |ratio| format!(" {}", format::share(ratio)));
    let of = match (&step.relation, step.datid) {
        (Some(relation), _) => relation.to_string(),
        (None, Some(datid)) => format!("a relation of {}", tick.sample.names.database(datid)),
        (None, None) => String::new(),
    };
    let sessions = tick.sample.sessions.value().into_iter().flatten();
    let session = sessions.clone().find(|session| session.id.pid == step.pid);
    let age = session
        .and_then(|session| session.query_start)
        .map_or_else(String::new, |at| format!(" for {}", format::age_at(at, tick.sample.server_time)));
    let mut line = vec![
        Span::text(format!("{} {} ", step.pid, step.command)),
        Span::new(Role::Title, of),
        Span::text(percent),
    ];
    let blockers = tick.forest.value().map(|forest| forest.blocked_by(step.pid)).unwrap_or_default();
    let blockers: Vec<i32> =
        if blockers.is_empty() { step.waits_for_pid.into_iter().collect() } else { blockers };
    if let Some(first) = blockers.first() {
        let name =
            sessions.clone().find(|session| session.id.pid == *first).map_or("", |it| &it.application_name);
        let more =
            if blockers.len() > 1 { format!(" and {} more", blockers.len() - 1) } else { String::new() };
        let locks = app.options.keymap.hint("locks");
        line.push(Span::new(Role::Warning, format!("  waits for {first} {name}{more}")));
        line.push(Span::new(Role::Dim, format!("  {locks} Locks")));
    }
    line.push(Span::text(format!("  {}{age}", step.phase)));
    line
}
