//! The terminal as a surface: what is on it, and only the difference written, in one piece, when there is one.

use std::io::{self, BufWriter, Stdout, Write as _};

use crossterm::cursor::{Hide, MoveTo};
use crossterm::queue;
use crossterm::style::force_color_output;
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;

use crate::terminal::{self, Guard};
use crate::text;

/// Room for the largest frame, so that it leaves in one write.
const FRAME_BYTES: usize = 256 * 1024;

/// The terminal and what is on it.
#[derive(Debug)]
pub(super) struct Screen {
    backend: CrosstermBackend<BufWriter<Stdout>>,
    shown: Buffer,
    /// Whether the terminal holds something else than `shown`.
    unknown: bool,
    guard: Option<Guard>,
    kept: Option<Buffer>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        // Without this crossterm answers NO_COLOR by wiping reverse and bold as well; the mono theme does it right.
        force_color_output(true);
        let (columns, rows) = crossterm::terminal::size()?;
        let guard = Guard::enter()?;
        Ok(Self {
            backend: CrosstermBackend::new(BufWriter::with_capacity(FRAME_BYTES, io::stdout())),
            shown: Buffer::empty(Rect::new(0, 0, columns, rows)),
            unknown: true,
            guard: Some(guard),
            kept: None,
        })
    }

    /// The size of the terminal.
    pub(super) const fn area(&self) -> Rect {
        self.shown.area
    }

    /// Takes a new size.
    pub(super) fn resize(&mut self, columns: u16, rows: u16) {
        self.shown = Buffer::empty(Rect::new(0, 0, columns, rows));
        self.unknown = true;
    }

    /// The next frame is written whole.
    pub(super) const fn forget(&mut self) {
        self.unknown = true;
    }

    /// Writes what differs from the frame before; nothing at all when nothing does.
    pub(super) fn show(&mut self, frame: Buffer) -> io::Result<()> {
        if self.unknown {
            self.shown = Buffer::empty(frame.area);
        }
        let changes = self.shown.diff(&frame);
        if changes.is_empty() && !self.unknown {
            return Ok(());
        }
        queue!(self.backend, BeginSynchronizedUpdate)?;
        if self.unknown {
            queue!(self.backend, Hide, Clear(ClearType::All), MoveTo(0, 0))?;
        }
        self.backend.draw(changes.into_iter())?;
        queue!(self.backend, EndSynchronizedUpdate)?;
        io::Write::flush(&mut self.backend)?;
        self.unknown = false;
        self.shown = frame;
        Ok(())
    }

    /// The frame that is on the screen stays in the scrollback after the end.
    pub(super) fn keep(&mut self) {
        self.kept = Some(self.shown.clone());
    }

    /// Gives the terminal back for a while.
    pub(super) fn leave(&mut self) {
        self.guard = None;
    }

    /// Takes it again.
    pub(super) fn come_back(&mut self) -> io::Result<()> {
        self.guard = Some(Guard::enter()?);
        let (columns, rows) = crossterm::terminal::size()?;
        self.resize(columns, rows);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.guard = None;
        terminal::restore();
        if let Some(frame) = &self.kept {
            let mut out = io::stdout().lock();
            for line in lines(frame) {
                drop(writeln!(out, "{line}"));
            }
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
