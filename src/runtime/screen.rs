//! The terminal as a surface: taken, given back, and shown frames, of which only the difference is written.

use std::io;

use crossterm::style::force_color_output;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;

use super::painter::Painter;
use crate::terminal::{self, Guard};
use crate::text;

/// The terminal and what is to be on it.
#[derive(Debug)]
pub(super) struct Screen {
    painter: Painter,
    area: Rect,
    guard: Option<Guard>,
    kept: Option<Buffer>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        // Without this crossterm answers NO_COLOR by wiping reverse and bold as well; the mono theme does it right.
        force_color_output(true);
        let (columns, rows) = terminal::size()?;
        let guard = Guard::enter()?;
        let area = Rect::new(0, 0, columns, rows);
        Ok(Self { painter: Painter::start()?, area, guard: Some(guard), kept: None })
    }

    /// The size of the terminal.
    pub(super) const fn area(&self) -> Rect {
        self.area
    }

    /// Takes a new size.
    pub(super) fn resize(&mut self, columns: u16, rows: u16) {
        self.area = Rect::new(0, 0, columns, rows);
        self.forget();
    }

    /// The next frame is written whole.
    pub(super) fn forget(&self) {
        self.painter.forget();
    }

    /// An empty frame of the terminal's size.
    pub(super) fn blank(&self) -> Buffer {
        self.painter.blank(self.area)
    }

    /// Hands a frame over: what differs from the frame before is written, nothing at all when nothing does.
    pub(super) fn show(&mut self, frame: Buffer, is_awaited: bool) {
        self.painter.show(frame, is_awaited);
    }

    /// Waits until the newest frame is on the screen, if that is awaited: true. False when the terminal is gone.
    pub(super) async fn shown(&mut self) -> bool {
        self.painter.shown().await
    }

    /// Whether a bug has ended the drawing.
    pub(super) fn has_panicked(&self) -> bool {
        self.painter.has_panicked()
    }

    /// Copies by the terminal, between two frames, and says so.
    pub(super) fn copy(&self, text: &str) -> io::Result<&'static str> {
        let mut bytes = Vec::new();
        let said = terminal::copy(text, &mut bytes)?;
        self.painter.write_aside(&bytes);
        Ok(said)
    }

    /// This frame stays in the scrollback after the end.
    pub(super) fn keep(&mut self, frame: Buffer) {
        self.kept = Some(frame);
    }

    /// Gives the terminal back for a while.
    pub(super) fn leave(&mut self) {
        self.painter.close();
        self.guard = None;
    }

    /// Takes it again.
    pub(super) fn come_back(&mut self) -> io::Result<()> {
        self.guard = Some(Guard::enter()?);
        self.painter = Painter::start()?;
        let (columns, rows) = terminal::size()?;
        self.resize(columns, rows);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
        if let Some(frame) = &self.kept {
            terminal::write_within_limit((lines(frame).join("\n") + "\n").into_bytes());
        }
    }
}

fn lines(frame: &Buffer) -> Vec<String> {
    let width = usize::from(frame.area.width).max(1);
    frame.content().chunks(width).map(|row| line(row).trim_end().to_owned()).collect()
}

/// The text of a row; a wide character covers the cell after it, which holds a blank.
fn line(row: &[Cell]) -> String {
    let mut text = String::new();
    let mut covered = 0;
    for cell in row {
        if covered > 0 {
            covered -= 1;
        } else {
            text.push_str(cell.symbol());
            covered = text::width(cell.symbol()).saturating_sub(1);
        }
    }
    text
}
