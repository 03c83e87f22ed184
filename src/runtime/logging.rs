//! The log, when one is asked for: JSON lines in a file that only its owner may read, every action among them before
//! its signal is sent. And the hook that leaves the screen before a panic is printed.
//!
//! No text of a statement goes into it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::Failure;
use crate::model::action::Record;
use crate::terminal;

/// Where actions are kept; nothing is without a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal(Option<Arc<Mutex<File>>>);

/// A line of the log about an action.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    #[serde(flatten)]
    record: &'a Record,
}

impl Journal {
    /// Writes a record and waits until it is on the disk.
    pub(super) fn keep(&self, record: &Record) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let mut line = serde_json::to_vec(&Line { kind: "action", record })?;
        line.push(b'\n');
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        file.sync_data()
    }
}

/// Starts the log and sets the panic hook.
pub(super) fn start(file: Option<&Path>) -> Result<Journal, Failure> {
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "panic");
        // A task that fails is survived, and its message may quote a server's text: only the end of the program
        // gives the terminal back and speaks, and what it says is made safe.
        if std::thread::current().id() == main {
            terminal::restore();
            let said = super::one_line(&info.to_string());
            drop(writeln!(io::stderr(), "dbtriage: this is a bug, please report it: {said}"));
        }
    }));
    let Some(path) = file else { return Ok(Journal::default()) };
    let failed =
        |error: io::Error| Failure::usage(format!("cannot write the log {}: {error}", path.display()));
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failed)?;
    let own = log.try_clone().map_err(failed)?;
    // A second start in one process (tests, the demo) keeps the first log.
    drop(
        tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(Mutex::new(log))
            .try_init(),
    );
    Ok(Journal(Some(Arc::new(Mutex::new(own)))))
}

/// Says something on standard error before the screen opens.
pub(super) fn warn(message: &str) {
    tracing::warn!("{message}");
    drop(writeln!(io::stderr(), "dbtriage: {}", super::one_line(message)));
}
