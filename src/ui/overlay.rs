//! What stands above the panes: help, detail, question.

use ratatui::layout::Rect;
use strum::IntoEnumIterator as _;

use super::canvas::{Canvas, below, row};
use super::layout::Layout;
use crate::app::{App, COMMANDS, Confirm, Detail, EXPORTS, Group, Plan, Role, Sheet, Span};
use crate::text;

/// Clears the middle of the screen, draws a frame with a title, and returns the room inside.
pub(super) fn window(
    canvas: &mut Canvas<'_>,
    layout: &Layout,
    columns: u16,
    rows: u16,
    title: &str,
    role: Role,
) -> Rect {
    let (columns, rows) = (columns.min(layout.area.width), rows.min(layout.area.height));
    let area = Rect {
        x: layout.area.x + (layout.area.width - columns) / 2,
        y: layout.area.y + (layout.area.height - rows) / 2,
        width: columns,
        height: rows,
    };
    canvas.clear(area);
    let across = "─".repeat(usize::from(columns.saturating_sub(2)));
    canvas.text(row(area, 0), role, &format!("┌{across}┐"));
    for y in 1..rows.saturating_sub(1) {
        let line = row(area, y);
        canvas.text(Rect { width: 1, ..line }, role, "│");
        canvas.text(Rect { x: area.right() - 1, width: 1, ..line }, role, "│");
    }
    canvas.text(row(area, rows.saturating_sub(1)), role, &format!("└{across}┘"));
    canvas.text(
        Rect { x: area.x + 2, width: columns.saturating_sub(4), ..row(area, 0) },
        role,
        &format!(" {title} "),
    );
    Rect { x: area.x + 2, y: area.y + 1, width: columns.saturating_sub(4), height: rows.saturating_sub(2) }
}

/// Every command with its keys; those that do not work now say why.
pub(super) fn help(canvas: &mut Canvas<'_>, layout: &Layout, app: &App, offset: usize) {
    let mut lines: Vec<Vec<Span>> = Vec::new();
    for group in Group::iter() {
        lines.push(vec![Span::new(Role::Title, <&str>::from(group).to_owned())]);
        for command in COMMANDS.iter().filter(|command| command.group == group) {
            let keys: Vec<String> =
                app.options.keymap.keys(command.name).iter().map(ToString::to_string).collect();
            let padded = format!("{:<15}", keys.join(" "));
            let disabled = (command.disabled_reason)(app);
            let role = if disabled.is_some() { Role::Dim } else { Role::Text };
            let why = disabled.map(|why| format!("  (not now: {why})")).unwrap_or_default();
            lines.push(vec![
                Span::new(Role::Key, format!("  {padded}")),
                Span::new(role, format!("{}{why}", command.doc)),
            ]);
        }
    }
    scrolled(canvas, layout, &lines, offset, "Keys");
}

/// Room for the names of fields.
const NAMES: usize = 17;

/// One row in full.
pub(super) fn detail(canvas: &mut Canvas<'_>, layout: &Layout, app: &App, detail: &Detail) {
    let Some(sheet) = detail.sheet(app) else {
        scrolled(canvas, layout, &[vec![Span::new(Role::Dim, "it has gone")]], 0, "Gone");
        return;
    };
    fields(canvas, layout, &sheet, detail.offset);
}

/// What works on this server, and what does not.
pub(super) fn server(canvas: &mut Canvas<'_>, layout: &Layout, app: &App, offset: usize) {
    if let Some(sheet) = app.server_sheet() {
        fields(canvas, layout, &sheet, offset);
    }
}

/// The plan of a statement.
pub(super) fn plan(canvas: &mut Canvas<'_>, layout: &Layout, app: &App, plan: &Plan) {
    fields(canvas, layout, &app.plan_sheet(plan), plan.offset);
}

/// A sheet, its values broken at the width.
fn fields(canvas: &mut Canvas<'_>, layout: &Layout, sheet: &Sheet, offset: usize) {
    let width = usize::from(layout.area.width.saturating_sub(8)).max(20);
    let mut lines: Vec<Vec<Span>> = Vec::new();
    for (name, value) in &sheet.fields {
        let pieces = text::wrapped(&text::line(&value.text), width.saturating_sub(NAMES));
        for (number, piece) in pieces.into_iter().enumerate() {
            let name = if number == 0 { *name } else { "" };
            lines.push(vec![Span::new(Role::Label, format!("{name:<NAMES$}")), Span::new(value.role, piece)]);
        }
    }
    if !sheet.text.is_empty() {
        lines.push(Vec::new());
        lines.push(vec![Span::new(Role::Title, sheet.heading)]);
        lines.extend(
            text::lines(&sheet.text).flat_map(|line| broken(&line, width)).map(|line| vec![Span::text(line)]),
        );
    }
    scrolled(canvas, layout, &lines, offset, &sheet.title);
}

/// Breaks a line at the width.
fn broken(line: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for c in line.chars() {
        let columns = text::width(c.encode_utf8(&mut [0; 4]));
        if used + columns > width {
            pieces.push(String::new());
            used = 0;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
        used += columns;
    }
    pieces
}

fn scrolled(canvas: &mut Canvas<'_>, layout: &Layout, lines: &[Vec<Span>], offset: usize, title: &str) {
    let columns = layout.area.width.saturating_sub(4);
    let rows = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2)
        .min(layout.area.height.saturating_sub(2));
    let visible = usize::from(rows.saturating_sub(2));
    let offset = offset.min(lines.len().saturating_sub(visible));
    let more = if lines.len() > visible {
        format!("  {}-{} of {}", offset + 1, offset + visible, lines.len())
    } else {
        String::new()
    };
    let inner = window(canvas, layout, columns, rows, &format!("{title}{more}  Esc closes"), Role::Focus);
    for (number, line) in lines.iter().skip(offset).take(visible).enumerate() {
        canvas.spans(row(inner, u16::try_from(number).unwrap_or(u16::MAX)), line);
    }
}

/// The question before an action.
pub(super) fn confirm(canvas: &mut Canvas<'_>, layout: &Layout, confirm: &Confirm) {
    let lines = confirm.lines(canvas.is_private());
    let rows = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(4);
    let role = if confirm.is_armed() { Role::Focus } else { Role::Critical };
    let inner = window(canvas, layout, 76, rows, &confirm.title(), role);
    // On a low screen the facts are cut from below; the answers are always visible.
    let facts = Rect { height: inner.height.saturating_sub(2), ..inner };
    for (number, line) in lines.iter().enumerate().take(usize::from(facts.height)) {
        canvas.spans(row(facts, u16::try_from(number).unwrap_or(u16::MAX)), line);
    }
    let last = below(inner, inner.height.saturating_sub(1));
    canvas.spans(Rect { x: last.x + 4, width: last.width.saturating_sub(4), ..last }, &confirm.answers());
}

/// Draws the menu of what can be taken out.
pub(super) fn export(canvas: &mut Canvas<'_>, layout: &Layout, place: usize) {
    let rows = u16::try_from(EXPORTS.len()).unwrap_or(u16::MAX).saturating_add(2);
    let inner = window(canvas, layout, 64, rows, "Take out", Role::Focus);
    for (number, export) in EXPORTS.iter().enumerate() {
        let line = row(inner, u16::try_from(number).unwrap_or(u16::MAX));
        let key = Span::new(Role::Key, format!("{}  ", number + 1));
        canvas.spans(line, &[key, Span::text(export.label)]);
        if number == place {
            canvas.tint(line, Role::Selected);
        }
    }
}
