//! Entering and leaving the full screen. Leaving works however the program ends: by the guard, by the panic hook,
//! and twice does no harm.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{self, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};
use nix::sys::termios::{FlushArg, tcflush};

/// How long a terminal that does not read may hold up the end of the program, twice.
pub const WRITE_LIMIT: Duration = Duration::from_millis(300);

/// Ends an escape sequence that was cut in two.
const CANCEL: u8 = 0x18;

static ENTERED: AtomicBool = AtomicBool::new(false);
/// Whether output was thrown away: its last sequence may be half there.
static CUT: AtomicBool = AtomicBool::new(false);

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

/// Notes that output was ended within a sequence.
pub fn note_cut() {
    CUT.store(true, Ordering::SeqCst);
}

/// Throws away what has been written and not been read by the terminal, so that what comes next has room.
pub fn discard_output() {
    note_cut();
    if let Err(error) = tcflush(io::stdout(), FlushArg::TCOFLUSH) {
        tracing::info!("output is not discarded: {error}");
    }
}

/// Puts the terminal back as it was found, if it was taken.
pub fn restore() {
    super::password::restore();
    if ENTERED.swap(false, Ordering::SeqCst) {
        let mut bytes = Vec::new();
        if CUT.swap(false, Ordering::SeqCst) {
            bytes.push(CANCEL);
        }
        // Writing to memory does not fail.
        drop(queue!(bytes, EndSynchronizedUpdate, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show));
        write_within_limit(bytes);
        drop(terminal::disable_raw_mode());
    }
}

/// Writes from a thread of its own: a terminal that does not read must not keep the program from ending.
pub fn write_within_limit(bytes: Vec<u8>) {
    let Ok(mut out) = io::stdout().as_fd().try_clone_to_owned().map(File::from) else { return };
    let (sender, written) = mpsc::channel();
    std::thread::spawn(move || {
        // A terminal that is gone fails it, and nobody is left to see.
        drop(out.write_all(&bytes));
        sender.send(()).ok();
    });
    if written.recv_timeout(WRITE_LIMIT).is_err() {
        discard_output();
        written.recv_timeout(WRITE_LIMIT).ok();
    }
}
