//! Pane 2: the lock forest, with what helps against the selected node below it.

use ratatui::layout::Rect;

use super::{paragraph, reason, unavailable, wrapped};
use crate::app::{
    App, Cell, Column, LOCK_COLUMNS, LockColumn, LockLine, LockRow, Role, RowKey, Span, Value, Width,
    listed_locks, lock_advice,
};
use crate::engine::PgTick;
use crate::format;
use crate::text;
use crate::ui::canvas::{Canvas, below, row};
use crate::ui::layout::advice_rows;
use crate::ui::widgets::table;

/// Room for the tree with its pid: the least, and the most that a deep place or a long name may take.
const TREE: u16 = 11;
const TREE_MAX: u16 = 40;
/// Room for what is wanted on a narrow screen, and the most anywhere.
const WANTS_NARROW: u16 = 34;
const WANTS_MAX: u16 = 58;
const NARROW: u16 = 100;

pub(super) fn title(app: &App) -> String {
    let Some(forest) = app.pg().and_then(|tick| tick.forest.value()) else { return String::new() };
    let mut title = match (forest.roots().count(), forest.blocked_sessions) {
        (_, 0) => "nothing blocked".to_owned(),
        (roots, blocked) => format!("{} · {blocked} blocked", format::counted(roots, "root")),
    };
    if !forest.queue_is_exact && forest.blocked_sessions > 0 {
        title += " · order of queues approximate before 14";
    }
    if !app.locks.filter_text.is_empty() {
        title += &format!(" · /{} · {} hidden", app.locks.filter_text, app.locks.hidden);
    }
    title + &super::activity::marked(app)
}

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, tick: &PgTick) {
    if let Some(why) = unavailable(&tick.forest) {
        reason(canvas, area, why, app);
        if let Some(waiting) = tick.vitals.blocked.filter(|waiting| *waiting > 0) {
            let waiting = format::counted(waiting, "session");
            paragraph(canvas, below(area, 2), &[Span::text(format!("{waiting} waiting (from activity)"))]);
        }
        return;
    }
    let rows = listed_locks(&app.locks, tick);
    if rows.iter().all(|(_, line)| matches!(line, LockLine::Gone { .. })) {
        quiet(canvas, area, tick);
        for (number, (_, line)) in rows.iter().enumerate() {
            if let LockLine::Gone { text, .. } = line {
                let place = below(area, u16::try_from(number + 1).unwrap_or(u16::MAX));
                paragraph(canvas, place, &[Span::new(Role::Gone, text.clone())]);
            }
        }
        return;
    }
    let advice_rows = advice_rows(area.height);
    let body = Rect { height: area.height.saturating_sub(advice_rows), ..area };
    tree(canvas, body, app, &rows);
    let Some((advice, other)) = lock_advice(&app.locks, tick, &rows) else { return };
    let lines = below(area, area.height.saturating_sub(advice_rows));
    let label = " helps: ";
    let indent = u16::try_from(label.len()).unwrap_or_default();
    canvas.text(row(lines, 0), Role::Label, label);
    let room = Rect { x: lines.x + indent, width: lines.width.saturating_sub(indent), ..lines };
    match other {
        None => drop(wrapped(canvas, room, 0, Role::Text, &advice)),
        Some(other) => {
            canvas.text(row(room, 0), Role::Text, &advice);
            canvas.text(row(lines, 1), Role::Label, "    or: ");
            canvas.text(row(room, 1), Role::Text, &other);
        }
    }
}

/// Nothing waits: the next thing one would ask for is the longest transaction.
fn quiet(canvas: &mut Canvas<'_>, area: Rect, tick: &PgTick) {
    let longest = tick
        .sample
        .sessions
        .value()
        .into_iter()
        .flatten()
        .filter(|session| session.is_client())
        .filter(|session| !crate::engine::vitals::is_own(&tick.sample, session));
    let longest = longest.filter_map(|session| Some((session.xact_start?, session.id.pid))).min();
    let text = match longest.filter(|_| tick.vitals.active.is_some()) {
        Some((start, pid)) => {
            format!(
                "no session waits for a lock · longest transaction {} pid {pid}",
                format::age_at(start, tick.sample.server_time)
            )
        }
        None => "no session waits for a lock".into(),
    };
    paragraph(canvas, area, &[Span::new(Role::Dim, text)]);
}

/// The lines of the tree: guides and names at the left, the columns that fit beside them.
fn tree(canvas: &mut Canvas<'_>, area: Rect, app: &App, rows: &[(RowKey, LockLine<'_>)]) {
    let list = &app.locks.list;
    let shown: Vec<_> =
        rows.iter().skip(list.offset).take(usize::from(area.height.saturating_sub(1))).collect();
    let widest = shown.iter().map(|(_, line)| tree_width(line)).max().unwrap_or_default();
    let tree_width = widest.clamp(TREE, TREE_MAX).min(area.width);
    let beside = Rect { x: area.x + tree_width, width: area.width - tree_width, ..area };
    let columns = columns(&shown, area.width, beside.width.saturating_sub(1));
    canvas.text(row(area, 0), Role::Header, "    pid");
    table::header(canvas, row(beside, 0), &columns, None);
    for (number, (key, line)) in shown.iter().enumerate() {
        let place = row(below(area, 1), u16::try_from(number).unwrap_or(u16::MAX));
        let inner = Rect { x: place.x + 1, width: place.width.saturating_sub(1), ..place };
        let guides = Span::new(Role::Border, guides(line.guides()));
        match line {
            LockLine::Node(entry) => {
                let role = match (entry.filtered, entry.is_root()) {
                    (true, _) => Role::Dim,
                    (false, true) => Role::Title,
                    (false, false) => Role::Text,
                };
                let name = Rect { width: tree_width.saturating_sub(1), ..inner };
                canvas.spans(name, &[guides, Span::new(role, entry.name())]);
                let dimmed =
                    |cell: Cell| if entry.filtered { Cell { role: Role::Dim, ..cell } } else { cell };
                let cells: Vec<Cell> =
                    columns.iter().map(|(column, _)| dimmed((column.cell)(entry))).collect();
                table::cells(canvas, Rect { x: beside.x, width: beside.width, ..place }, &columns, &cells);
            }
            LockLine::Fold { text, .. } => {
                canvas.spans(inner, &[guides, Span::new(Role::Dim, text.clone())]);
            }
            LockLine::Gone { text, .. } => {
                canvas.spans(inner, &[guides, Span::new(Role::Gone, text.clone())]);
            }
        }
        let marked = match line {
            LockLine::Fold { waiters, .. } => {
                app.marks.contain_all(waiters.iter().filter_map(|node| node.pid))
            }
            LockLine::Node(_) | LockLine::Gone { .. } => {
                matches!(key, RowKey::Session(id) if app.marks.contains(*id))
            }
        };
        table::gutter(canvas, place, list.selected.as_ref() == Some(key), marked);
    }
}

fn tree_width(line: &LockLine<'_>) -> u16 {
    let LockLine::Node(entry) = line else { return 0 };
    let name = text::width(&text::line(&entry.name()));
    u16::try_from(2 + text::width(&guides(&entry.guides)) + name).unwrap_or(TREE_MAX)
}

/// The columns that fit beside the tree; what is wanted takes the room it needs, within bounds.
fn columns(shown: &[&(RowKey, LockLine<'_>)], pane_width: u16, width: u16) -> Vec<(LockColumn, u16)> {
    let is_narrow = pane_width < NARROW;
    let most = if is_narrow { WANTS_NARROW } else { WANTS_MAX };
    let situation =
        |row: &LockRow<'_>| if is_narrow { row.situation_in_short().1 } else { row.situation().1 };
    let needed = |line: &LockLine<'_>| match line {
        LockLine::Node(entry) => u16::try_from(text::width(&text::line(&situation(entry)))).unwrap_or(most),
        LockLine::Fold { .. } | LockLine::Gone { .. } => 0,
    };
    let wants = shown.iter().map(|(_, line)| needed(line)).max().unwrap_or_default().clamp(12, most);
    let columns: Vec<LockColumn> = LOCK_COLUMNS
        .iter()
        .map(|column| match column.name {
            "state · wants" if is_narrow => Column {
                width: Width::Fixed(wants),
                title: "state · wants (+ also behind)",
                cell: situation_in_short as fn(&LockRow<'_>) -> Cell,
                ..*column
            },
            "state · wants" => Column { width: Width::Fixed(wants), ..*column },
            _ => *column,
        })
        .collect();
    table::fitting(&columns, width)
}

fn situation_in_short(row: &LockRow<'_>) -> Cell {
    let (role, text) = row.situation_in_short();
    Cell { value: Value::Text(text), role }
}

/// The lines that lead to a node: for each level above it whether that branch has ended, then its own.
fn guides(levels: &[bool]) -> String {
    let Some((last, above)) = levels.split_last() else { return "▼ ".into() };
    let above: String = above.iter().map(|ended| if *ended { "  " } else { "│ " }).collect();
    above + if *last { "└ " } else { "├ " }
}
