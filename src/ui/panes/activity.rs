//! Pane 1: sessions, or groups of them.

use ratatui::layout::Rect;

use super::{paragraph, reason, unavailable};
use crate::app::{
    ActivityRow, Align, App, Cell, Column, GroupBy, GroupRow, Only, Role, RowKey, Span, Value, Width,
    sessions_of_group,
};
use crate::engine::PgTick;
use crate::engine::missing::grant;
use crate::ui::canvas::{Canvas, below, row};
use crate::ui::widgets::table::{self, Row};

pub(super) fn title(app: &App) -> String {
    let view = &app.activity;
    let Some(tick) = app.pg() else { return String::new() };
    let total = tick.vitals.connections.map_or_else(|| "?".into(), |n| n.to_string());
    let active = tick.vitals.active.map(|n| format!(" · {n} active")).unwrap_or_default();
    let mut title = format!("{total}{active}");
    if let Some(by) = view.group_by {
        title += &format!(" · by {}", <&str>::from(by));
    }
    match &view.only {
        Some(Only::Group(by, value)) => title += &format!(" · only {} {value}", <&str>::from(*by)),
        Some(Only::Waited(sessions)) => title += &format!(" · only the {} of Waits", sessions.len()),
        None => {}
    }
    if !view.filter_text.is_empty() {
        title += &format!(" · /{}", view.filter_text);
    }
    if view.hidden > 0 {
        title += &format!(" · {} hidden", view.hidden);
    }
    if view.frozen {
        title += " · order frozen";
    }
    title + &marked(app)
}

/// How many sessions are marked, for a title.
pub(super) fn marked(app: &App) -> String {
    if app.marks.is_empty() { String::new() } else { format!(" · {} marked", app.marks.len()) }
}

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, tick: &PgTick) {
    if let Some(why) = unavailable(&tick.sample.sessions) {
        reason(canvas, area, why, app);
        return;
    }
    if let Some(by) = app.activity.group_by {
        let area = rights_note(canvas, area, tick);
        groups(canvas, area, app, tick, by);
        return;
    }
    let area = rights_note(canvas, area, tick);
    let view = &app.activity;
    if view.list.rows.is_empty() {
        paragraph(canvas, area, &[Span::new(Role::Dim, "no session passes the filter")]);
        return;
    }
    let columns = table::fitting(&app.options.columns.activity, area.width.saturating_sub(1));
    let rows = view.list.rows.iter().skip(view.list.offset).filter_map(|key| {
        let entry: ActivityRow<'_> = view.row(tick, key)?;
        let dim = entry.is_own() || entry.filtered;
        let cells = columns.iter().map(|(column, _)| dimmed((column.cell)(&entry), dim)).collect();
        Some(Row {
            cells,
            selected: view.list.selected.as_ref() == Some(key),
            gone: entry.departed,
            marked: app.marks.contains(entry.session.id),
        })
    });
    table::draw(canvas, area, &columns, Some((view.sort.column, view.sort.descending)), rows);
}

fn dimmed(cell: Cell, dim: bool) -> Cell {
    if dim { Cell { role: Role::Dim, ..cell } } else { cell }
}

/// A role that sees little is told so, with what would help.
fn rights_note(canvas: &mut Canvas<'_>, area: Rect, tick: &PgTick) -> Rect {
    let rights = &tick.sample.rights;
    if rights.read_all_stats || rights.superuser {
        return area;
    }
    let sessions = tick.sample.sessions.value().map(Vec::as_slice).unwrap_or_default();
    let clients = sessions.iter().filter(|session| session.is_client());
    let (total, seen) = clients
        .fold((0, 0), |(total, seen), session| (total + 1, seen + usize::from(session.state.is_some())));
    let text = format!("you see {seen} of {total} sessions in full: {}", grant("pg_monitor", &rights.user));
    paragraph(canvas, row(area, 0), &[Span::new(Role::Warning, text)]);
    below(area, 1)
}

type GroupColumn = Column<fn(&GroupRow) -> Cell>;

const fn number(title: &'static str, width: u16, priority: u8, cell: fn(&GroupRow) -> Cell) -> GroupColumn {
    Column { name: title, title, width: Width::Fixed(width), align: Align::Right, priority, cell }
}

fn count(n: usize) -> Value {
    i64::try_from(n).map_or(Value::Unknown, Value::Integer)
}

fn groups(canvas: &mut Canvas<'_>, area: Rect, app: &App, tick: &PgTick, by: GroupBy) {
    let name = Column {
        name: "name",
        title: by.into(),
        width: Width::Rest,
        align: Align::Left,
        priority: 0,
        cell: (|group| {
            Value::Text(if group.name.is_empty() { "(none)".into() } else { group.name.clone() }).into()
        }) as fn(&GroupRow) -> Cell,
    };
    let columns: [GroupColumn; 8] = [
        number("total", 6, 0, |group| count(group.total).into()),
        number("active", 6, 1, |group| count(group.active).into()),
        number("waiting", 7, 2, |group| Cell {
            value: count(group.waiting),
            role: if group.waiting > 0 { Role::Warning } else { Role::Text },
        }),
        number("idle-tx", 7, 2, |group| Cell {
            value: count(group.idle_in_transaction),
            role: if group.idle_in_transaction > 0 { Role::Warning } else { Role::Text },
        }),
        number("idle", 6, 3, |group| count(group.idle).into()),
        number("oldest tx", 9, 4, |group| Value::some(group.oldest_transaction_seconds, Value::Age).into()),
        number("share", 6, 5, |_| Value::None.into()),
        name,
    ];
    let columns = table::fitting(&columns, area.width.saturating_sub(1));
    let usable = f64::from(tick.sample.server.usable_connections.max(1));
    let list = &app.activity.list;
    let rows = crate::app::groups(tick, by).into_iter().skip(list.offset).map(|group| {
        let share = |cell: Cell, name: &str| {
            let held = f64::from(u32::try_from(group.total).unwrap_or(u32::MAX)) / usable;
            if name == "share" { Value::Share(held).into() } else { cell }
        };
        let cells = columns.iter().map(|(column, _)| share((column.cell)(&group), column.name)).collect();
        let selected = list.selected == Some(RowKey::Group(group.name.clone()));
        let sessions =
            if app.marks.is_empty() { Vec::new() } else { sessions_of_group(tick, by, &group.name) };
        let marked = app.marks.contain_all(sessions.iter().map(|session| session.id.pid));
        Row { cells, selected, gone: false, marked }
    });
    table::draw(canvas, area, &columns, None, rows);
}
