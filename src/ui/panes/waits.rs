//! Pane 6: average active sessions by wait class over time, and what they waited for.

use ratatui::layout::Rect;
use strum::IntoEnumIterator as _;

use super::{paragraph, reason, unavailable};
use crate::app::{App, Role, RowKey, Scale, Span, WAIT_COLUMNS, WaitLine};
use crate::engine::missing::grant;
use crate::engine::waits::{BIN_SECONDS, Bin, Class, WaitHistory};
use crate::format;
use crate::model::Reason;
use crate::ui::canvas::{Canvas, below, row};
use crate::ui::layout::chart_rows;
use crate::ui::widgets::table::{self, Row};
use crate::ui::widgets::trend;

/// Columns of the scale to the left of the chart.
const SCALE: u16 = 6;

pub(super) fn title(app: &App) -> String {
    let view = &app.waits;
    let over = match view.moment {
        None => "over the last minute".to_owned(),
        Some(bin) => {
            let at = |bin: i64| jiff::Timestamp::from_second(bin * BIN_SECONDS).unwrap_or_default();
            let age = format::age_at(at(bin), app.present());
            format!("{} to {}, {age} ago", format::clock(at(bin)), format::clock(at(bin + 1)))
        }
    };
    let mut title = format!("average active sessions {over}");
    let path = &view.path;
    for part in [
        path.class.map(|class| class.name().to_owned()),
        path.event.as_deref().filter(|event| !event.is_empty()).map(str::to_owned),
        path.statement.map(|_| "one statement".to_owned()),
    ] {
        title += &part.map(|part| format!(" > {part}")).unwrap_or_default();
    }
    title
}

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let Some(observer) = app.live_pg() else { return };
    let waits = observer.waits();
    let width = area.width.saturating_sub(SCALE + 1);
    let bins = waits.bins(width.into());
    if bins.is_empty() {
        nothing_known(canvas, area, app);
        return;
    }
    let rows = chart_rows(area.height);
    let chart_area = Rect { height: rows, ..area };
    chart(canvas, chart_area, app, &bins);
    axis(canvas, row(area, rows), app, &bins);
    legend(canvas, row(area, rows + 1), &bins);
    list(canvas, below(area, rows + 2), app, waits);
}

/// Why nothing is known of who is active.
fn nothing_known(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let Some(tick) = app.pg() else { return };
    let why = match unavailable(&tick.sample.sessions) {
        Some(why) => why.clone(),
        None => Reason::new("this role does not see who is active")
            .with_hint(grant("pg_monitor", &tick.sample.rights.user)),
    };
    reason(canvas, area, &why, app);
}

/// The role of a class: those that hold others up are the loudest.
const fn role(class: Class) -> Role {
    match class {
        Class::Cpu => Role::Good,
        Class::Lock => Role::Critical,
        Class::LWLock | Class::BufferPin => Role::Warning,
        Class::Io | Class::Ipc => Role::Notice,
        Class::Client | Class::Timeout | Class::Extension | Class::Activity | Class::Other => Role::Dim,
    }
}

fn total(bin: &Bin) -> f64 {
    bin.averages.iter().flatten().sum()
}

/// Columns of letters, one letter a class, stacked in the order of the classes.
fn chart(canvas: &mut Canvas<'_>, area: Rect, app: &App, bins: &[Bin]) {
    let cpus = app.options.cpus.map(f64::from);
    let ceiling = bins.iter().map(total).chain(cpus).fold(1.0, f64::max).ceil();
    let rows = f64::from(area.height);
    let cpu_row = cpus.map(|cpus| rows - (cpus / ceiling * rows).round());
    let watched_from = bins.iter().position(|bin| bin.averages.is_some()).unwrap_or_default();
    for number in 0..area.height {
        let line = row(area, number);
        let from_top = f64::from(number);
        let label = match number {
            0 => format::count(ceiling),
            _ if cpu_row.is_some_and(|it| it.to_bits() == from_top.to_bits()) => {
                format!("{} cpu", app.options.cpus.unwrap_or_default())
            }
            _ => String::new(),
        };
        canvas.text(Rect { width: SCALE, ..line }, Role::Label, &format!("{label:>5}"));
        let is_cpu_line = cpu_row.is_some_and(|it| it.to_bits() == from_top.to_bits());
        for ((place, bin), x) in bins.iter().enumerate().zip(line.x + SCALE..line.right()) {
            // The middle of the cell, measured from below.
            let height = (rows - from_top - 0.5) / rows * ceiling;
            let is_lowest = number + 1 == area.height;
            let (role, letter) = match (at_height(bin, height, is_lowest), is_cpu_line) {
                (Some(class), _) => (role(class), class.letter()),
                (None, true) => (Role::Border, '─'),
                (None, false) if bin.averages.is_none() && is_lowest && watched_from < place => {
                    (Role::Dim, '·')
                }
                (None, false) => continue,
            };
            canvas.text(Rect { x, width: 1, ..line }, role, letter.encode_utf8(&mut [0; 4]));
        }
    }
}

/// The class that a column has at some height; in the lowest row the largest one, however small.
fn at_height(bin: &Bin, height: f64, is_lowest: bool) -> Option<Class> {
    let averages = bin.averages.as_ref()?;
    let mut top = 0.0;
    for (class, average) in Class::iter().zip(averages) {
        top += average;
        if height < top {
            return Some(class);
        }
    }
    let largest = Class::iter().zip(averages).max_by(|a, b| a.1.total_cmp(b.1));
    largest.filter(|(_, average)| is_lowest && **average > 0.0).map(|(class, _)| class)
}

/// How far back the chart goes, and where the moment is that is looked at.
fn axis(canvas: &mut Canvas<'_>, line: Rect, app: &App, bins: &[Bin]) {
    let line = Rect { x: line.x + SCALE, width: line.width.saturating_sub(SCALE), ..line };
    let seconds = i32::try_from(bins.len()).map_or(0.0, f64::from) * 5.0;
    canvas.text(line, Role::Label, &format!("{} ago", format::age(seconds)));
    let right = Rect { width: line.width.min(u16::try_from(bins.len()).unwrap_or(u16::MAX)), ..line };
    canvas.right(right, &[Span::new(Role::Label, "now")]);
    let place = app.waits.moment.and_then(|moment| bins.iter().position(|bin| bin.number == moment));
    if let Some(place) = place.and_then(|place| u16::try_from(place).ok()) {
        canvas.text(Rect { x: line.x + place, width: 1, ..line }, Role::Focus, "▲");
    }
}

/// Which letters stand for what, and those idle in a transaction, who wait for their client.
fn legend(canvas: &mut Canvas<'_>, line: Rect, bins: &[Bin]) {
    const SLOTS: usize = 12;
    let mut spans = vec![Span::text("  ")];
    for class in Class::iter() {
        let occurs =
            |bin: &Bin| bin.averages.and_then(|all| all.get(class as usize).copied()).unwrap_or_default();
        if bins.iter().any(|bin| occurs(bin) > 0.0) {
            spans.push(Span::new(role(class), class.letter().to_string()));
            spans.push(Span::new(Role::Dim, format!(" {}  ", class.name())));
        }
    }
    let idle = bins.last().and_then(|bin| bin.idle_in_transaction);
    let recent = bins.iter().rev().take(SLOTS).rev().map(|bin| bin.idle_in_transaction).collect();
    let drawn = trend::inline(&recent, Scale::ZeroToMax(1.0), canvas.glyphs().ascii);
    spans.push(Span::new(Role::Label, "idle in transaction "));
    spans.push(Span::text(idle.map_or_else(|| "?".into(), format::count)));
    spans.push(Span::new(Role::Dim, format!(" {drawn}")));
    canvas.spans(line, &spans);
}

fn list(canvas: &mut Canvas<'_>, area: Rect, app: &App, waits: &WaitHistory) {
    let view = &app.waits;
    if view.rows.is_none() {
        paragraph(canvas, area, &[Span::new(Role::Dim, "who was active then is not kept any more")]);
        return;
    }
    if view.list.rows.is_empty() {
        paragraph(canvas, area, &[Span::new(Role::Dim, "no session was active")]);
        return;
    }
    let columns = table::fitting(WAIT_COLUMNS, area.width.saturating_sub(1));
    let rows = view.list.rows.iter().skip(view.list.offset).filter_map(|key| {
        let RowKey::Wait(part) = key else { return None };
        let line = WaitLine { row: view.row(part), part, waits };
        let cells = columns.iter().map(|(column, _)| (column.cell)(&line)).collect();
        let selected = view.list.selected.as_ref() == Some(key);
        Some(Row { cells, selected, gone: line.row.is_none(), marked: false })
    });
    table::draw(canvas, area, &columns, None, rows);
}
