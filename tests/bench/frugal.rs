//! The fewest bytes that paint one screen over another: what an economical program would have written.

use vt100::{Cell, Color, Screen};

/// How a cell looks beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    foreground: Color,
    background: Color,
    /// Bold, dim, italic, underline, inverse.
    flags: [bool; 5],
}

const PLAIN: Look = Look { foreground: Color::Default, background: Color::Default, flags: [false; 5] };

/// The codes that set a flag, and those that take it back; bold and dim share theirs.
const FLAGS: [(&str, &str); 5] = [("1", "22"), ("2", "22"), ("3", "23"), ("4", "24"), ("7", "27")];

/// Where the cursor is, how it writes, and how much was written.
struct Pen {
    at: Option<(u16, u16)>,
    look: Option<Look>,
    bytes: usize,
}

/// The bytes for every cell in which the two differ, and how many those are.
pub(crate) fn fewest(before: &Screen, after: &Screen) -> (usize, usize) {
    let (rows, columns) = (after.size().0.get(), after.size().1.get());
    let mut pen = Pen { at: None, look: None, bytes: 0 };
    let mut cells = 0;
    for row in 0..rows {
        let is_changed = |column: u16| looks(before, row, column) != looks(after, row, column);
        let changed: Vec<u16> = (0..columns).filter(|column| is_changed(*column)).collect();
        cells += changed.len();
        let end = blank_from(after, row, columns);
        for column in changed {
            if pen.is_behind(row, column) {
                continue;
            }
            if end <= column {
                // What is left of the line is blank: erased at once.
                pen.go(after, row, column);
                pen.put_on(PLAIN);
                pen.bytes += "\x1b[K".len();
                break;
            }
            pen.go(after, row, column);
            pen.write(after, row, column);
        }
    }
    (pen.bytes, cells)
}

impl Pen {
    /// Whether a place was written already, as the second half of a wide character.
    fn is_behind(&self, row: u16, column: u16) -> bool {
        self.at.is_some_and(|(at_row, at_column)| at_row == row && column < at_column)
    }

    fn write(&mut self, screen: &Screen, row: u16, column: u16) {
        let Some(cell) = screen.cell(row, column) else { return };
        self.put_on(look(cell));
        self.bytes += if cell.has_contents() { cell.contents().len() } else { 1 };
        self.at = Some((row, column + if cell.is_wide() { 2 } else { 1 }));
    }

    /// Moves the cursor by the shortest way; in a line that may be to write what is between anew.
    fn go(&mut self, screen: &Screen, row: u16, column: u16) {
        if self.at == Some((row, column)) {
            return;
        }
        let mut shortest = absolute(row, column);
        if let Some((at_row, at_column)) = self.at {
            if at_row == row && at_column < column {
                let between = || (at_column..column).filter_map(|it| screen.cell(row, it));
                let is_alike = between().all(|cell| Some(look(cell)) == self.look);
                let anew: usize =
                    between().map(|cell| if cell.has_contents() { cell.contents().len() } else { 1 }).sum();
                let forward = count(column - at_column);
                shortest = shortest.min(forward).min(if is_alike { anew } else { usize::MAX });
            }
            if at_row < row {
                // Line feeds keep the column, and a return goes to the first.
                let feeds = usize::from(row - at_row);
                let across = match column {
                    0 => "\r".len(),
                    _ if column == at_column => 0,
                    _ => "\r".len() + count(column),
                };
                shortest = shortest.min(feeds + across);
            }
        }
        self.bytes += shortest;
        self.at = Some((row, column));
    }

    fn put_on(&mut self, wanted: Look) {
        if self.look == Some(wanted) {
            return;
        }
        let from_nothing = sgr(&changes(PLAIN, wanted), true);
        let from_here = self.look.map(|look| sgr(&changes(look, wanted), false));
        self.bytes += from_here.map_or(from_nothing, |from_here| from_here.min(from_nothing));
        self.look = Some(wanted);
    }
}

fn look(cell: &Cell) -> Look {
    Look {
        foreground: cell.fgcolor(),
        background: cell.bgcolor(),
        flags: [cell.bold(), cell.dim(), cell.italic(), cell.underline(), cell.inverse()],
    }
}

/// What a cell shows; a blank has no foreground that could be seen, unless it is inverse or underlined.
fn looks(screen: &Screen, row: u16, column: u16) -> Option<(String, Look)> {
    let cell = screen.cell(row, column)?;
    let mut look = look(cell);
    let text = if cell.has_contents() { cell.contents() } else { " " };
    if text == " " && !look.flags.iter().skip(3).any(|flag| *flag) {
        look = Look { background: look.background, ..PLAIN };
    }
    Some((text.to_owned(), look))
}

/// From which column on a line is blank.
fn blank_from(screen: &Screen, row: u16, columns: u16) -> u16 {
    let is_blank = |column: &u16| looks(screen, row, *column) == Some((" ".to_owned(), PLAIN));
    columns - u16::try_from((0..columns).rev().take_while(is_blank).count()).unwrap_or_default()
}

/// `CSI row ; column H`, where a 1 is left out.
fn absolute(row: u16, column: u16) -> usize {
    let digits = |n: u16| if n == 0 { 0 } else { (n + 1).to_string().len() };
    "\x1b[H".len() + digits(row) + if column == 0 { 0 } else { 1 + digits(column) }
}

/// `CSI n C`, where a 1 is left out.
fn count(by: u16) -> usize {
    "\x1b[C".len() + if by == 1 { 0 } else { by.to_string().len() }
}

fn sgr(codes: &[String], is_anew: bool) -> usize {
    let length = codes.iter().map(|code| code.len() + 1).sum::<usize>().saturating_sub(1);
    // A leading semicolon stands for the 0 that takes everything back.
    "\x1b[m".len() + length + usize::from(is_anew && !codes.is_empty())
}

fn changes(from: Look, to: Look) -> Vec<String> {
    let mut codes = Vec::new();
    if from.foreground != to.foreground {
        codes.push(color(to.foreground, 30));
    }
    if from.background != to.background {
        codes.push(color(to.background, 40));
    }
    let mut taken_back = "";
    for ((was, is), (_, off)) in from.flags.iter().zip(to.flags).zip(FLAGS) {
        if *was && !is && taken_back != off {
            codes.push(off.to_owned());
            taken_back = off;
        }
    }
    for ((was, is), (on, off)) in from.flags.iter().zip(to.flags).zip(FLAGS) {
        if is && (!was || taken_back == off) {
            codes.push(on.to_owned());
        }
    }
    codes
}

fn color(color: Color, base: u8) -> String {
    match color {
        Color::Default => (base + 9).to_string(),
        Color::Idx(index @ 0..8) => (base + index).to_string(),
        Color::Idx(index @ 8..16) => (base + 60 + index - 8).to_string(),
        Color::Idx(index) => format!("{};5;{index}", base + 8),
        Color::Rgb(red, green, blue) => format!("{};2;{red};{green};{blue}", base + 8),
    }
}
