//! What turns one frame into the next, in few bytes: over a slow line each of them is time.
//!
//! It must not know when or where it is written.

use std::io::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Position;
use ratatui::style::{Color, Modifier};

use crate::text;

/// The codes that set a modifier and those that take it back; bold and dim share theirs.
const MODIFIERS: [(Modifier, &str, &str); 7] = [
    (Modifier::BOLD, "1", "22"),
    (Modifier::DIM, "2", "22"),
    (Modifier::ITALIC, "3", "23"),
    (Modifier::UNDERLINED, "4", "24"),
    (Modifier::REVERSED, "7", "27"),
    (Modifier::HIDDEN, "8", "28"),
    (Modifier::CROSSED_OUT, "9", "29"),
];

/// How a cell looks beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    fg: Color,
    bg: Color,
    modifier: Modifier,
}

const PLAIN: Look = Look { fg: Color::Reset, bg: Color::Reset, modifier: Modifier::empty() };

impl Look {
    const fn of(cell: &Cell) -> Self {
        Self { fg: cell.fg, bg: cell.bg, modifier: cell.modifier }
    }
}

/// Where the terminal writes next, and how.
struct Pen<'a> {
    bytes: &'a mut Vec<u8>,
    /// Unknown at first, and behind the last column, where terminals differ.
    at: Option<Position>,
    /// Whether only ASCII was written since the cursor was last sent to a place: of other characters terminals do not
    /// all agree how wide they are.
    is_sure: bool,
    look: Look,
}

/// Appends what turns `shown` into `frame`, which are of the same size; nothing where they do not differ. The terminal
/// writes plainly before and after.
pub(super) fn append(bytes: &mut Vec<u8>, shown: &Buffer, frame: &Buffer) {
    let width = usize::from(frame.area.width).max(1);
    let rows = shown.content().chunks(width).zip(frame.content().chunks(width));
    let mut pen = Pen { bytes, at: None, is_sure: false, look: PLAIN };
    for (y, (before, after)) in (frame.area.y..).zip(rows) {
        if !before.iter().zip(after).all(|(old, new)| is_same(old, new)) {
            pen.row(Position { x: frame.area.x, y }, before, after);
        }
    }
    pen.put_on(PLAIN);
}

impl Pen<'_> {
    fn row(&mut self, start: Position, before: &[Cell], after: &[Cell]) {
        // From here on the new row is blank.
        let end = after.iter().rposition(|cell| !is_blank(cell)).map_or(0, |last| last + 1);
        let (mut covered_before, mut covered) = (0_usize, 0_usize);
        for (column, (old, new)) in before.iter().zip(after).enumerate() {
            // Half of a character that was wide is not what its cell says.
            let is_changed = 0 < covered_before || !(is_same(old, new) || is_blank(old) && is_blank(new));
            covered_before = covered_before.max(width(old)).saturating_sub(1);
            if 0 < covered {
                covered -= 1;
                continue;
            }
            covered = width(new).saturating_sub(1);
            if !is_changed {
                continue;
            }
            let x = start.x.saturating_add(u16::try_from(column).unwrap_or(u16::MAX));
            self.go(Position { x, ..start }, start.x, after);
            if end <= column {
                self.put_on(PLAIN);
                self.bytes.extend_from_slice(b"\x1b[K");
                return;
            }
            self.put_on(Look::of(new));
            self.write(new.symbol());
            // Behind a wide character, of whose width terminals do not all agree, the place is named again.
            if 0 < covered || column + 1 == after.len() {
                self.at = None;
            }
        }
    }

    fn write(&mut self, symbol: &str) {
        self.bytes.extend_from_slice(symbol.as_bytes());
        self.is_sure &= symbol.is_ascii();
        if let Some(at) = &mut self.at {
            at.x = at.x.saturating_add(u16::try_from(text::width(symbol).max(1)).unwrap_or(u16::MAX));
        }
    }

    /// Sends the cursor to a place of a row that begins at `left`, by the shorter way: past what stays, over it, or by
    /// naming the place.
    fn go(&mut self, to: Position, left: u16, row: &[Cell]) {
        if self.at == Some(to) {
            return;
        }
        if let Some(at) = self.at.filter(|at| self.is_sure && at.y == to.y && at.x < to.x) {
            let gap = to.x - at.x;
            let forward = if gap == 1 { "\x1b[C".to_owned() } else { format!("\x1b[{gap}C") };
            let between = row.get(usize::from(at.x - left)..usize::from(to.x - left)).unwrap_or_default();
            let is_alike = between.iter().all(|cell| cell.symbol().is_ascii() && Look::of(cell) == self.look);
            if is_alike && between.len() <= forward.len() {
                for cell in between {
                    self.bytes.extend_from_slice(cell.symbol().as_bytes());
                }
            } else {
                self.bytes.extend_from_slice(forward.as_bytes());
            }
        } else {
            let line = u32::from(to.y) + 1;
            // Writing to memory does not fail.
            drop(match to.x {
                0 => write!(self.bytes, "\x1b[{line}H"),
                x => write!(self.bytes, "\x1b[{line};{}H", u32::from(x) + 1),
            });
            self.is_sure = true;
        }
        self.at = Some(to);
    }

    fn put_on(&mut self, look: Look) {
        if self.look == look {
            return;
        }
        let (on, anew) = (changes(self.look, look), changes(PLAIN, look));
        self.look = look;
        // They differ in nothing that is drawn.
        if on.is_empty() {
            return;
        }
        // An empty code takes everything back.
        if anew.len() < on.len() {
            let and = if anew.is_empty() { "" } else { ";" };
            drop(write!(self.bytes, "\x1b[{and}{anew}m"));
        } else {
            drop(write!(self.bytes, "\x1b[{on}m"));
        }
    }
}

/// The codes that lead from one look to another, with semicolons between them.
fn changes(from: Look, to: Look) -> String {
    let mut codes = String::new();
    let mut add = |code: &str| {
        if !codes.is_empty() {
            codes.push(';');
        }
        codes.push_str(code);
    };
    let mut standing = from.modifier;
    for (modifier, _, off) in MODIFIERS {
        if (standing - to.modifier).contains(modifier) {
            add(off);
            MODIFIERS.iter().filter(|it| it.2 == off).for_each(|it| standing -= it.0);
        }
    }
    for (modifier, on, _) in MODIFIERS {
        if (to.modifier - standing).contains(modifier) {
            add(on);
        }
    }
    if from.fg != to.fg {
        add(&color(to.fg, 30));
    }
    if from.bg != to.bg {
        add(&color(to.bg, 40));
    }
    codes
}

/// The code of a colour: 30 is the base of foregrounds, 40 that of backgrounds (ECMA-48, 8.3.117; xterm for the rest).
fn color(color: Color, base: u8) -> String {
    let plain = |number: u8| (base + number).to_string();
    let bright = |number: u8| (base + 60 + number).to_string();
    match color {
        Color::Reset => plain(9),
        Color::Black => plain(0),
        Color::Red => plain(1),
        Color::Green => plain(2),
        Color::Yellow => plain(3),
        Color::Blue => plain(4),
        Color::Magenta => plain(5),
        Color::Cyan => plain(6),
        Color::Gray => plain(7),
        Color::DarkGray => bright(0),
        Color::LightRed => bright(1),
        Color::LightGreen => bright(2),
        Color::LightYellow => bright(3),
        Color::LightBlue => bright(4),
        Color::LightMagenta => bright(5),
        Color::LightCyan => bright(6),
        Color::White => bright(7),
        Color::Indexed(index) => format!("{};5;{index}", base + 8),
        Color::Rgb(red, green, blue) => format!("{};2;{red};{green};{blue}", base + 8),
    }
}

/// Whether two cells look the same. ratatui's own comparison asks for more, at twice the price, and ten thousand cells are
/// compared with each frame.
fn is_same(old: &Cell, new: &Cell) -> bool {
    let (before, after) = (old.symbol().as_bytes(), new.symbol().as_bytes());
    let is_same_text = match (before, after) {
        ([before], [after]) => before == after,
        _ => before == after,
    };
    is_same_text && Look::of(old) == Look::of(new)
}

/// Whether erasing leaves just this.
fn is_blank(cell: &Cell) -> bool {
    cell.symbol() == " " && cell.bg == Color::Reset && !shows_on_blanks(cell.modifier)
}

fn shows_on_blanks(modifier: Modifier) -> bool {
    modifier.intersects(Modifier::UNDERLINED | Modifier::REVERSED | Modifier::CROSSED_OUT)
}

/// The columns of a cell's text.
fn width(cell: &Cell) -> usize {
    let symbol = cell.symbol();
    if symbol.len() == 1 { 1 } else { text::width(symbol) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;
    use std::num::NonZeroU16;
    use vt100::Parser;

    const AREA: Rect = Rect { x: 0, y: 0, width: 24, height: 4 };

    fn terminal() -> Parser {
        let size = |n: u16| NonZeroU16::new(n).unwrap();
        Parser::new(size(AREA.height), size(AREA.width), 0)
    }

    /// A terminal that shows a frame, cell by cell.
    fn painted(frame: &Buffer) -> Parser {
        let mut bytes = Vec::new();
        for row in AREA.rows() {
            let mut covered = 0;
            for at in row.positions() {
                if covered > 0 {
                    covered -= 1;
                    continue;
                }
                let cell = frame.cell(at).unwrap();
                covered = width(cell) - 1;
                let codes = changes(PLAIN, Look::of(cell));
                write!(bytes, "\x1b[{};{}H\x1b[0m", at.y + 1, at.x + 1).unwrap();
                write!(bytes, "\x1b[0;{codes}m{}", cell.symbol()).unwrap();
            }
        }
        bytes.extend_from_slice(b"\x1b[m");
        let mut terminal = terminal();
        terminal.process(&bytes);
        terminal
    }

    /// What one sees of each cell.
    fn seen(terminal: &Parser) -> Vec<String> {
        let look = |(y, x): (u16, u16)| {
            let cell = terminal.screen().cell(y, x).unwrap();
            let text = if cell.has_contents() { cell.contents() } else { " " };
            let shows = text != " " || cell.inverse() || cell.underline();
            let fg = shows.then(|| (cell.fgcolor(), cell.bold(), cell.dim(), cell.italic()));
            format!("{y},{x} {text:?} {:?} {fg:?} {} {}", cell.bgcolor(), cell.inverse(), cell.underline())
        };
        (0..AREA.height).flat_map(|y| (0..AREA.width).map(move |x| (y, x))).map(look).collect()
    }

    fn style() -> impl Strategy<Value = Style> {
        let color = prop_oneof![
            4 => Just(Color::Reset),
            1 => Just(Color::Red),
            1 => Just(Color::DarkGray),
            1 => Just(Color::Indexed(203)),
            1 => Just(Color::Rgb(1, 20, 255)),
        ];
        // The terminal of this test knows no cell that is both bold and dim.
        let weight = prop::sample::select(vec![Modifier::empty(), Modifier::BOLD, Modifier::DIM]);
        let more = [Modifier::ITALIC, Modifier::UNDERLINED, Modifier::REVERSED];
        let more = prop::sample::subsequence(more.to_vec(), 0..3);
        (color.clone(), color, weight, more).prop_map(|(fg, bg, weight, more)| {
            Style::new().fg(fg).bg(bg).add_modifier(weight | more.into_iter().collect::<Modifier>())
        })
    }

    type Text = (u16, u16, String, Style);

    fn text() -> impl Strategy<Value = Text> {
        (0..AREA.width, 0..AREA.height, "[ab 日█]{1,9}", style())
    }

    fn frame(texts: &[Text]) -> Buffer {
        let mut frame = Buffer::empty(AREA);
        for (x, y, text, style) in texts {
            frame.set_stringn(*x, *y, text, usize::MAX, Style::reset().patch(*style));
        }
        frame
    }

    fn from_to(shown: &Buffer, frame: &Buffer) -> Vec<u8> {
        let mut bytes = Vec::new();
        append(&mut bytes, shown, frame);
        bytes
    }

    proptest! {
        #[test]
        fn the_difference_makes_the_next_frame_of_the_one_before(
            first in prop::collection::vec(text(), 0..8),
            second in prop::collection::vec(text(), 0..8),
        ) {
            let (shown, next) = (frame(&first), frame(&second));
            let mut terminal = painted(&shown);
            terminal.process(&from_to(&shown, &next));
            pretty_assertions::assert_eq!(seen(&terminal), seen(&painted(&next)));
            prop_assert_eq!(from_to(&next, &next), b"");
        }
    }

    fn lines(lines: &[&str]) -> Buffer {
        let mut buffer = Buffer::empty(AREA);
        for (y, line) in (0..).zip(lines) {
            buffer.set_stringn(0, y, line, usize::MAX, Style::new());
        }
        buffer
    }

    #[test]
    fn few_bytes_say_it() {
        let bytes = |before: &[&str], after: &[&str]| {
            String::from_utf8(from_to(&lines(before), &lines(after))).unwrap()
        };
        assert_eq!(bytes(&["age 10s"], &["age 11s"]), "\x1b[1;6H1");
        // Over what stays between, past it, and to the end of the line.
        assert_eq!(bytes(&["10s 10s"], &["11s 11s"]), "\x1b[1;2H1s 11");
        assert_eq!(bytes(&["1......2"], &["3......4"]), "\x1b[1H3\x1b[6C4");
        assert_eq!(bytes(&["", "ab and more"], &["", "ab"]), "\x1b[2;4H\x1b[K");
        // Terminals do not all agree how wide a block is: behind one the place is named again.
        assert_eq!(bytes(&["a█.......b"], &["c▇.......d"]), "\x1b[1Hc▇\x1b[1;10Hd");
    }

    #[test]
    fn behind_a_wide_character_the_place_is_named() {
        let bytes = from_to(&lines(&["...."]), &lines(&["日bc"]));
        assert_eq!(String::from_utf8(bytes).unwrap(), "\x1b[1H日\x1b[1;3Hbc");
    }

    #[test]
    fn a_style_is_taken_back_at_the_end() {
        let mut frame = lines(&["ab"]);
        frame.set_style(Rect { width: 1, ..AREA }, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let bytes = String::from_utf8(from_to(&lines(&["xy"]), &frame)).unwrap();
        assert_eq!(bytes, "\x1b[1H\x1b[1;31ma\x1b[mb");
    }
}
