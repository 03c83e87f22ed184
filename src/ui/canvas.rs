//! The one place where text meets the buffer: sanitised, cut to its room, in the style of its role.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Theme;
use crate::app::{Role, Span};
use crate::text;

/// Which characters lines and trends are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glyphs {
    /// Whether only ASCII may be used.
    pub ascii: bool,
}

impl Glyphs {
    /// Box drawing and block characters.
    pub const BLOCK: Self = Self { ascii: false };
    /// ASCII only.
    pub const ASCII: Self = Self { ascii: true };

    /// The character, or what stands for it in ASCII.
    pub fn of(self, c: char) -> char {
        if !self.ascii || c.is_ascii() {
            return c;
        }
        match c {
            '─' | '–' => '-',
            '│' => '|',
            '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => '+',
            '■' => '#',
            '▲' => '!',
            '●' => '*',
            '○' => 'o',
            '·' => '.',
            '…' => '~',
            '↵' => '>',
            '▼' => 'v',
            '»' => '%',
            _ => '?',
        }
    }
}

/// A buffer with the theme it is painted in.
pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    theme: &'a Theme,
    glyphs: Glyphs,
    private: bool,
}

impl<'a> Canvas<'a> {
    pub(super) const fn new(buffer: &'a mut Buffer, theme: &'a Theme, glyphs: Glyphs, private: bool) -> Self {
        Self { buffer, theme, glyphs, private }
    }

    /// Whether statements are shown without their literals.
    pub(super) const fn is_private(&self) -> bool {
        self.private
    }

    pub(super) const fn glyphs(&self) -> Glyphs {
        self.glyphs
    }

    /// Writes one line at the top of the area and returns the columns used. Text that does not fit is cut.
    pub(super) fn text(&mut self, area: Rect, role: Role, raw: &str) -> u16 {
        if area.is_empty() {
            return 0;
        }
        let clean = text::line(raw);
        let fitted = text::fit(&clean, area.width.into(), self.glyphs.ascii);
        let style = self.theme.style(role);
        let area = area.intersection(self.buffer.area);
        if area.is_empty() {
            return 0;
        }
        if fitted.chars().all(has_one_column) {
            let glyphs = self.glyphs;
            return self.columns(area, style, fitted.chars().map(|c| glyphs.of(c)));
        }
        if self.glyphs.ascii {
            let ascii: String = fitted
                .chars()
                .flat_map(|c| std::iter::repeat_n(self.glyphs.of(c), text::width(c.encode_utf8(&mut [0; 4]))))
                .collect();
            return self.columns(area, style, ascii.chars());
        }
        self.buffer.set_stringn(area.x, area.y, fitted, area.width.into(), style).0 - area.x
    }

    /// Writes characters of one column each, as most text has, without looking for where they join.
    fn columns(&mut self, area: Rect, style: Style, chars: impl Iterator<Item = char>) -> u16 {
        let begin = self.buffer.index_of(area.x, area.y);
        let cells = self.buffer.content.get_mut(begin..).unwrap_or_default();
        let mut used = 0;
        for (cell, c) in cells.iter_mut().take(area.width.into()).zip(chars) {
            cell.set_char(c).set_style(style);
            used += 1;
        }
        used
    }

    /// Writes spans one after the other and returns the columns used.
    pub(super) fn spans(&mut self, area: Rect, spans: &[Span]) -> u16 {
        let mut used = 0;
        for span in spans {
            let rest = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
            used += self.text(rest, span.role, &span.text);
        }
        used
    }

    /// Writes a line that ends at the right edge of the area.
    pub(super) fn right(&mut self, area: Rect, spans: &[Span]) -> u16 {
        let total: usize = spans.iter().map(|span| text::width(&text::line(&span.text))).sum();
        let width = u16::try_from(total).unwrap_or(u16::MAX).min(area.width);
        self.spans(Rect { x: area.x + area.width - width, width, ..area }, spans)
    }

    /// Gives a whole area the style of a role on top of what is there.
    pub(super) fn tint(&mut self, area: Rect, role: Role) {
        self.buffer.set_style(area.intersection(self.buffer.area), self.theme.style(role));
    }

    /// Blanks an area.
    pub(super) fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        for position in area.positions() {
            if let Some(cell) = self.buffer.cell_mut(position) {
                cell.reset();
                cell.set_style(self.theme.style(Role::Text));
            }
        }
    }

    /// Draws a horizontal line.
    pub(super) fn rule(&mut self, area: Rect, role: Role) {
        let area = area.intersection(self.buffer.area);
        if !area.is_empty() {
            let line = self.glyphs.of('─');
            self.columns(area, self.theme.style(role), std::iter::repeat(line));
        }
    }

    /// Draws a vertical line that joins the horizontal ones beside it.
    pub(super) fn upright(&mut self, x: u16, top: u16, bottom: u16) {
        for y in top..bottom {
            let is_rule = |x: Option<u16>| {
                let rule = self.glyphs.of('─').to_string();
                x.and_then(|x| self.buffer.cell((x, y))).is_some_and(|cell| cell.symbol() == rule)
            };
            let joint = match (is_rule(x.checked_sub(1)), is_rule(x.checked_add(1)), y == top) {
                (true, true, true) => "┬",
                (true, true, false) => "┼",
                (true, false, _) => "┤",
                (false, true, _) => "├",
                (false, false, _) => "│",
            };
            self.text(Rect { x, y, width: 1, height: 1 }, Role::Border, joint);
        }
    }
}

/// Whether a character takes one column and joins with none: Latin, punctuation, arrows, lines and blocks.
const fn has_one_column(c: char) -> bool {
    c.is_ascii()
        || matches!(c, '\u{a0}'..='\u{2ff}' | '\u{2010}'..='\u{2027}' | '\u{2190}'..='\u{21ff}' | '\u{2500}'..='\u{25fc}')
}

/// The first line of an area.
pub(super) const fn row(area: Rect, number: u16) -> Rect {
    let inside = number < area.height;
    Rect { y: area.y.saturating_add(number), height: if inside { 1 } else { 0 }, ..area }
}

/// An area without its first lines.
pub(super) const fn below(area: Rect, rows: u16) -> Rect {
    let rows = if rows < area.height { rows } else { area.height };
    Rect { y: area.y + rows, height: area.height - rows, ..area }
}
