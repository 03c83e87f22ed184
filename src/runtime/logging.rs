//! The log, when one is asked for: JSON lines in a file that only its owner may read, every action among them before
//! its signal is sent. And the hook that leaves the screen before a panic is printed.
//!
//! No text of a statement goes into it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::oneshot;

use super::Failure;
use crate::model::action::Record;
use crate::text;

/// Lines that may wait for the disk; more are refused, and told.
const LINES_MAX: usize = 1000;

/// Where actions are kept; nothing is without a log. One thread writes, so that a disk that hangs holds up nothing else.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal(Option<std::sync::mpsc::SyncSender<Entry>>);

/// A line to write, whether it must be on the disk, and whom to tell.
struct Entry {
    line: Vec<u8>,
    sync: bool,
    written: oneshot::Sender<io::Result<()>>,
}

/// A line of the log about an action.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    #[serde(flatten)]
    record: &'a Record,
}

impl Journal {
    fn over(file: File) -> Self {
        let (sender, entries) = std::sync::mpsc::sync_channel::<Entry>(LINES_MAX);
        std::thread::spawn(move || {
            for Entry { line, sync, written } in entries {
                // Nobody may wait any more.
                drop(written.send(write(&file, &line, sync)));
            }
        });
        Self(Some(sender))
    }

    /// Writes a record; with `sync` it is on the disk when this is done.
    pub(super) async fn keep(&self, record: &Record, sync: bool) -> io::Result<()> {
        let Some(entries) = &self.0 else { return Ok(()) };
        let json = serde_json::to_string(&Line { kind: "action", record })?;
        let line = (text::terminal_safe_json(&json) + "\n").into_bytes();
        let (written, answer) = oneshot::channel();
        entries
            .try_send(Entry { line, sync, written })
            .map_err(|_| io::Error::other("too many lines wait for it"))?;
        answer.await.map_err(io::Error::other)?
    }

    /// Waits until everything that was kept so far is written.
    pub(super) async fn settle(&self) {
        let Some(entries) = &self.0 else { return };
        // What was handed to a task of its own gets its turn first.
        tokio::task::yield_now().await;
        let (written, answer) = oneshot::channel();
        if entries.try_send(Entry { line: Vec::new(), sync: false, written }).is_ok() {
            drop(answer.await);
        }
    }
}

fn write(mut file: &File, line: &[u8], sync: bool) -> io::Result<()> {
    file.write_all(line)?;
    if sync { file.sync_data() } else { Ok(()) }
}

/// The file of the log, for lines that come finished and one at a time.
struct SafeLines(File);

impl io::Write for SafeLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(text::terminal_safe_json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What the last panic said, made safe, and where it is kept.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// What is said about a bug that ended the program.
pub(super) fn failure() -> Failure {
    let said = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    Failure { message: format!("this is a bug, please report it: {said}"), code: 101 }
}

/// Starts the log and sets the panic hook, which prints nothing: a task that fails is survived, and the screen is
/// still there.
pub(super) fn start(file: Option<&Path>) -> Result<Journal, Failure> {
    let kept = file.map_or_else(
        || "--log FILE keeps what led to it".to_owned(),
        |path| format!("{} has what led to it", path.display()),
    );
    std::panic::set_hook(Box::new(move |info| {
        // The message may quote a server's text.
        let said = text::masked(&info.to_string()).into_owned();
        tracing::error!(panic = said, "panic");
        let said = format!("{} ({kept})", super::one_line(&said));
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }));
    let Some(path) = file else { return Ok(Journal::default()) };
    let failed =
        |error: io::Error| Failure::usage(format!("cannot write the log {}: {error}", path.display()));
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failed)?;
    // One that was there already may have been open to others.
    log.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    let own = log.try_clone().map_err(failed)?;
    // A second start in one process (tests, the demo) keeps the first log.
    drop(
        tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(Mutex::new(SafeLines(log)))
            .try_init(),
    );
    Ok(Journal::over(own))
}

/// Says something on standard error before the screen opens.
pub(super) fn warn(message: &str) {
    tracing::warn!("{message}");
    drop(writeln!(io::stderr(), "dbtriage: {}", super::one_line(message)));
}

/// Says what goes on, on standard error, before the screen opens.
pub(super) fn say(message: &str) {
    drop(writeln!(io::stderr(), "dbtriage: {}", super::one_line(message)));
}
