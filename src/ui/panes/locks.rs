//! Pane 2: the lock forest, with what helps against the selected node below it.

use ratatui::layout::Rect;

use super::{paragraph, reason, unavailable};
use crate::app::{App, LockLine, LockRow, Role, Span, listed_locks, lock_advice};
use crate::engine::PgTick;
use crate::format;
use crate::text;
use crate::ui::canvas::{Canvas, below, row};

/// Columns of the tree with its pid, and of the counts.
const TREE: usize = 16;
const BEHIND: usize = 6;
const WAITS: usize = 7;
/// Room for what is wanted, where that leaves enough for the query.
const WANTS: usize = 38;
const WANTS_AND_QUERY: u16 = 70;

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
        title += &format!(" · /{}", app.locks.filter_text);
    }
    title
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
    if rows.iter().all(|(_, line)| matches!(line, LockLine::Gone(_))) {
        quiet(canvas, area, tick);
        if let Some((_, LockLine::Gone(text))) = rows.first() {
            paragraph(canvas, below(area, 1), &[Span::new(Role::Gone, text.clone())]);
        }
        return;
    }
    let body = Rect { height: area.height.saturating_sub(1), ..area };
    header(canvas, row(body, 0));
    let shown = rows.iter().skip(app.locks.list.offset).take(usize::from(body.height.saturating_sub(1)));
    for (number, (key, entry)) in shown.enumerate() {
        let line = row(below(body, 1), u16::try_from(number).unwrap_or(u16::MAX));
        match entry {
            LockLine::Node(entry) => node(canvas, line, entry, tick),
            LockLine::Gone(text) => {
                canvas.spans(line, &[Span::text("   "), Span::new(Role::Gone, text.clone())]);
            }
            LockLine::Fold { guides: levels, text } => {
                let spans = [
                    Span::text(" "),
                    Span::new(Role::Border, guides(levels)),
                    Span::new(Role::Dim, text.clone()),
                ];
                canvas.spans(line, &spans);
            }
        }
        if app.locks.list.selected.as_ref() == Some(key) {
            canvas.text(Rect { width: 1, ..line }, Role::Focus, ">");
            canvas.tint(line, Role::Selected);
        }
    }
    if let Some(advice) = lock_advice(&app.locks, tick) {
        canvas.spans(
            row(area, area.height.saturating_sub(1)),
            &[Span::new(Role::Label, " what helps: "), Span::text(advice)],
        );
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

fn header(canvas: &mut Canvas<'_>, area: Rect) {
    let text = format!(" {:<TREE$}{:>BEHIND$} {:>WAITS$}  state · wants", "   pid", "behind", "waits");
    canvas.text(area, Role::Header, &text);
}

/// Writes cells of a line one after the other.
struct Pen {
    line: Rect,
    x: u16,
}

impl Pen {
    fn put(&mut self, canvas: &mut Canvas<'_>, width: usize, role: Role, raw: &str, right: bool) {
        let width = u16::try_from(width).unwrap_or(u16::MAX).min(self.rest());
        let used = u16::try_from(text::width(&text::line(raw))).unwrap_or(u16::MAX);
        let indent = if right { width.saturating_sub(used) } else { 0 };
        canvas.text(Rect { x: self.x + indent, width: width - indent, ..self.line }, role, raw);
        self.x += width;
    }

    const fn rest(&self) -> u16 {
        self.line.right().saturating_sub(self.x)
    }
}

fn node(canvas: &mut Canvas<'_>, line: Rect, entry: &LockRow<'_>, tick: &PgTick) {
    let is_root = entry.guides.is_empty();
    let mut pen = Pen { line, x: line.x + 1 };
    let tree = guides(&entry.guides);
    let tree_width = text::width(&tree);
    pen.put(canvas, tree_width, Role::Border, &tree, false);
    // A long name, or a deep place in the tree, takes the room it needs: the pid is what one acts on.
    let name = entry.name();
    let name_width = (text::width(&text::line(&name)) + 1).max(TREE.saturating_sub(tree_width));
    pen.put(canvas, name_width, if is_root { Role::Title } else { Role::Text }, &name, false);
    let behind = if entry.node.behind > 0 { entry.node.behind.to_string() } else { String::new() };
    pen.put(canvas, BEHIND, if is_root { Role::Critical } else { Role::Warning }, &behind, true);
    pen.put(canvas, WAITS + 1, Role::Text, &entry.waits(), true);
    pen.put(canvas, 2, Role::Text, "", false);
    let (role, situation) = entry.situation(tick);
    let needed = text::width(&text::line(&situation));
    let wants = if pen.rest() > WANTS_AND_QUERY { WANTS.max(needed.min(WANTS + 8)) } else { needed };
    pen.put(canvas, wants, role, &situation, false);
    pen.put(canvas, 2, Role::Text, "", false);
    let rest = usize::from(pen.rest());
    pen.put(canvas, rest, Role::Text, &entry.query(tick), false);
}

/// The lines that lead to a node: for each level above it whether that branch has ended, then its own.
fn guides(levels: &[bool]) -> String {
    let Some((last, above)) = levels.split_last() else { return "▼ ".into() };
    let above: String = above.iter().map(|ended| if *ended { "  " } else { "│ " }).collect();
    above + if *last { "└ " } else { "├ " }
}
