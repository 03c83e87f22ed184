//! Entering and leaving the full screen. Leaving works however the program ends: by the guard, by the panic hook,
//! and twice does no harm.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{self, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};

static ENTERED: AtomicBool = AtomicBool::new(false);

/// Holds the terminal in raw mode on the alternate screen; dropping it puts everything back.
#[derive(Debug)]
pub struct Guard(());

impl Guard {
    /// Takes the terminal. Errors when standard output is no terminal or cannot be switched.
    pub fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        ENTERED.store(true, Ordering::SeqCst);
        let guard = Self(());
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was found, if it was taken.
pub fn restore() {
    super::password::restore();
    if ENTERED.swap(false, Ordering::SeqCst) {
        // Each step by itself: a terminal that is gone fails them all, one that is half there gets the rest.
        let mut out = io::stdout();
        drop(execute!(out, EndSynchronizedUpdate, DisableBracketedPaste));
        drop(execute!(out, LeaveAlternateScreen, cursor::Show));
        drop(out.flush());
        drop(terminal::disable_raw_mode());
    }
}
