//! A terminal that answers as xterm does, and knows when each byte came.

use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use dbtriage_lab::terminal::now;
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use tempfile::TempDir;
use vt100::{Parser, Screen};

/// The size at which everything is measured.
pub(crate) const COLUMNS: u16 = 200;
pub(crate) const ROWS: u16 = 50;

/// What is asked of a terminal, and what xterm answers.
const ANSWERS: [(&[u8], &[u8]); 5] = [
    (b"\x1b[c", b"\x1b[?62;22c"),
    (b"\x1b[0c", b"\x1b[?62;22c"),
    (b"\x1b[>c", b"\x1b[>41;370;0c"),
    (b"\x1b[6n", b"\x1b[1;1R"),
    (b"\x1b[?2026$p", b"\x1b[?2026;2$y"),
];

struct Shown {
    parser: Parser,
    bytes: usize,
    changed_at: Instant,
}

/// A program in a terminal of its own.
pub(crate) struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    pub(crate) spawned_at: Instant,
    _home: TempDir,
}

impl Terminal {
    pub(crate) fn start(program: &str, arguments: &[String]) -> Result<Self> {
        let home = TempDir::new().context("could not make a home")?;
        let (pty, slave) = open().context("could not open a pseudo-terminal")?;
        pty.resize(Size::new(ROWS, COLUMNS)).context("could not give the terminal its size")?;
        let command = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home.path())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .current_dir(home.path());
        let size = |n: u16| NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN);
        let spawned_at = now();
        let parser = Parser::new(size(ROWS), size(COLUMNS), 0);
        let shown =
            Arc::new((Mutex::new(Shown { parser, bytes: 0, changed_at: spawned_at }), Condvar::new()));
        let pty = Arc::new(pty);
        let (read, into) = (Arc::clone(&pty), Arc::clone(&shown));
        let child = command.spawn(slave).with_context(|| format!("could not start {program}"))?;
        std::thread::spawn(move || keep(&read, &into));
        Ok(Self { pty, child, shown, spawned_at, _home: home })
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn screen(&self) -> Screen {
        self.shown().parser.screen().clone()
    }

    /// Bytes that were written so far.
    pub(crate) fn bytes(&self) -> usize {
        self.shown().bytes
    }

    /// Types, and says when.
    pub(crate) fn type_in(&self, keys: &str) -> Result<Instant> {
        let at = now();
        (&*self.pty).write_all(keys.as_bytes()).context("the program has closed its terminal")?;
        Ok(at)
    }

    /// Waits until the screen is as wanted; when its last byte came, and how many there were by then.
    pub(crate) fn wait_for(
        &self,
        limit: Duration,
        look: impl Fn(&Screen) -> bool,
    ) -> Option<(Instant, usize)> {
        let deadline = now() + limit;
        let mut shown = self.shown();
        loop {
            if look(shown.parser.screen()) {
                return Some((shown.changed_at, shown.bytes));
            }
            let left = deadline.checked_duration_since(now())?;
            shown = self.shown.1.wait_timeout(shown, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for something to be written after the first `bytes`, and for its end, which is a pause; when the first and
    /// when the last of it came.
    pub(crate) fn burst(&self, bytes: usize, limit: Duration, pause: Duration) -> Option<(Instant, Instant)> {
        let deadline = now() + limit;
        let mut shown = self.shown();
        while shown.bytes <= bytes {
            let left = deadline.checked_duration_since(now())?;
            shown = self.shown.1.wait_timeout(shown, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let first = shown.changed_at;
        loop {
            let before = shown.bytes;
            let waited = self.shown.1.wait_timeout_while(shown, pause, |shown| shown.bytes == before);
            shown = waited.unwrap_or_else(PoisonError::into_inner).0;
            if shown.bytes == before {
                return Some((first, shown.changed_at));
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keep(pty: &Pty, shown: &(Mutex<Shown>, Condvar)) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = (&*pty).read(&mut buffer) {
        let at = now();
        let bytes = buffer.get(..count).unwrap_or_default();
        for (question, answer) in ANSWERS {
            for _ in bytes.windows(question.len()).filter(|window| *window == question) {
                drop((&*pty).write_all(answer));
            }
        }
        let mut state = shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.parser.process(bytes);
        state.bytes += count;
        state.changed_at = at;
        drop(state);
        shown.1.notify_all();
    }
}
