//! A table: columns as data, those that fit by priority, a header, rows with one selected.

use ratatui::layout::Rect;

use super::trend;
use crate::app::{Align, Cell, Column, Role, Scale, Value, Width};
use crate::text;
use crate::ui::canvas::{Canvas, below, row};

/// The least that the widest column is given before others are left out.
const REST_MIN: u16 = 24;

/// The columns that fit, with their widths. Those of the highest priority number go first.
pub(in crate::ui) fn fitting<F: Copy>(columns: &[Column<F>], width: u16) -> Vec<(Column<F>, u16)> {
    let mut kept: Vec<Column<F>> = columns.to_vec();
    let needed = |kept: &[Column<F>]| -> u16 {
        kept.iter()
            .map(|column| 1 + if let Width::Fixed(width) = column.width { width } else { REST_MIN })
            .sum()
    };
    while width < needed(&kept) && kept.len() > 1 {
        let Some(place) =
            (0..kept.len()).max_by_key(|place| kept.get(*place).map(|column| (column.priority, *place)))
        else {
            break;
        };
        if kept.get(place).is_none_or(|column| column.priority == 0) {
            break;
        }
        kept.remove(place);
    }
    let fixed: u16 =
        kept.iter().map(|column| 1 + if let Width::Fixed(width) = column.width { width } else { 0 }).sum();
    let rest = width.saturating_sub(fixed);
    kept.into_iter()
        .map(|column| (column, if let Width::Fixed(width) = column.width { width } else { rest }))
        .collect()
}

/// What is drawn of one row.
pub(in crate::ui) struct Row {
    pub(in crate::ui) cells: Vec<Cell>,
    pub(in crate::ui) selected: bool,
    /// Struck through: it has gone.
    pub(in crate::ui) gone: bool,
    pub(in crate::ui) marked: bool,
}

/// The sorted column and its direction, for the header.
pub(in crate::ui) type Sorted = Option<(&'static str, bool)>;

/// Draws header and rows.
pub(in crate::ui) fn draw<F: Copy>(
    canvas: &mut Canvas<'_>,
    area: Rect,
    columns: &[(Column<F>, u16)],
    sorted: Sorted,
    rows: impl Iterator<Item = Row>,
) {
    header(canvas, row(area, 0), columns, sorted);
    for (number, entry) in rows.take(usize::from(area.height.saturating_sub(1))).enumerate() {
        let line = row(below(area, 1), u16::try_from(number).unwrap_or(u16::MAX));
        let struck =
            |cell: &Cell| if entry.gone { Cell { role: Role::Gone, ..cell.clone() } } else { cell.clone() };
        let shown: Vec<Cell> = entry.cells.iter().map(struck).collect();
        cells(canvas, line, columns, &shown);
        gutter(canvas, line, entry.selected, entry.marked);
    }
}

/// Draws the titles of the columns.
pub(in crate::ui) fn header<F: Copy>(
    canvas: &mut Canvas<'_>,
    line: Rect,
    columns: &[(Column<F>, u16)],
    sorted: Sorted,
) {
    let mut x = line.x + 1;
    for (column, width) in columns {
        let mark = match sorted {
            Some((name, true)) if name == column.name => "▼",
            Some((name, false)) if name == column.name => "▲",
            Some(_) | None => "",
        };
        let title = format!("{}{mark}", column.title);
        let place = Rect { x, width: *width, ..line }.intersection(line);
        aligned(canvas, place, column.align, Role::Header, &title);
        x += width + 1;
    }
}

/// Draws the cells of one row.
pub(in crate::ui) fn cells<F: Copy>(
    canvas: &mut Canvas<'_>,
    line: Rect,
    columns: &[(Column<F>, u16)],
    cells: &[Cell],
) {
    let mut x = line.x + 1;
    for ((column, width), cell) in columns.iter().zip(cells) {
        let place = Rect { x, width: *width, ..line }.intersection(line);
        let shown = if let Value::Trend(series) = &cell.value {
            trend::inline(series, Scale::ZeroToMax(1.0), canvas.glyphs().ascii).into()
        } else {
            cell.value.show(canvas.is_private())
        };
        aligned(canvas, place, column.align, cell.role, &shown);
        x += width + 1;
    }
}

/// Draws what stands before a row: whether it is selected, and whether it is marked.
pub(in crate::ui) fn gutter(canvas: &mut Canvas<'_>, line: Rect, selected: bool, marked: bool) {
    let sign = match (selected, marked) {
        (true, true) => "»",
        (true, false) => ">",
        (false, true) => "*",
        (false, false) => return,
    };
    canvas.text(Rect { width: line.width.min(1), ..line }, Role::Focus, sign);
    if selected {
        canvas.tint(line, Role::Selected);
    }
}

fn aligned(canvas: &mut Canvas<'_>, area: Rect, align: Align, role: Role, raw: &str) {
    let used = u16::try_from(text::width(&text::line(raw))).unwrap_or(u16::MAX);
    let indent = match align {
        Align::Right if used < area.width => area.width - used,
        Align::Right | Align::Left => 0,
    };
    canvas.text(Rect { x: area.x + indent, width: area.width - indent, ..area }, role, raw);
}
