//! Writing down what is shown: a report of the moment, or the timeline, into a file that only its owner may read or
//! into the clipboard.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Session;
use crate::app::{App, Export, Msg, Paper};
use crate::engine::{Observer, Severity};
use crate::report;
use crate::terminal;

/// Names that are tried before it is given up.
const NAMES_MAX: u32 = 100;

/// The text; statements without their literals where the screen shows them so.
pub(super) fn text(app: &App, paper: Paper) -> Result<String, String> {
    let shown = app.shown().iter().map(|it| if app.private { it.masked() } else { it.as_shown() });
    let shown: Vec<Observer> = shown.collect();
    let interval = shown.iter().filter_map(|it| it.tick().and_then(|tick| tick.interval_seconds));
    let at = app.clock();
    match paper {
        Paper::Text => Ok(report::text(&shown, at)),
        Paper::Markdown => Ok(report::markdown(&shown, at)),
        Paper::Json => report::json(&shown, at, interval.reduce(f64::max)).map_err(|error| error.to_string()),
        Paper::Timeline => {
            let span = report::Span {
                begins: app.began,
                ends: app.present(),
                cuts: Vec::new(),
                files: vec!["the screen".into()],
                redacted: app.private,
            };
            Ok(report::timeline(app, &span))
        }
    }
}

/// Writes it into a new file in the current folder, beside the loop, and says which.
pub(super) fn keep(text: String, paper: Paper, at: Timestamp, messages: mpsc::Sender<Msg>) {
    tokio::task::spawn_blocking(move || {
        let said = match write(&text, paper, at) {
            Ok(path) => Msg::Notice(Severity::Notice, format!("written to {}", path.display())),
            Err(error) => cannot(&error.to_string()),
        };
        drop(messages.blocking_send(said));
    });
}

/// Why nothing was written.
pub(super) fn cannot(error: &str) -> Msg {
    Msg::Notice(Severity::Warning, format!("cannot write it down: {error}"))
}

/// A file that is there is never written over.
fn write(text: &str, paper: Paper, at: Timestamp) -> io::Result<PathBuf> {
    let what = if paper == Paper::Timeline { "timeline" } else { "snapshot" };
    let name = format!("dbtriage-{what}-{}", at.strftime("%Y%m%dT%H%M%SZ"));
    for number in 1..NAMES_MAX {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let path = std::path::absolute(format!("{name}{more}.{}", paper.suffix()))?;
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

impl Session {
    /// Copies what is shown, or writes it down.
    pub(super) fn export(&mut self, export: Export) {
        match text(&self.app, export.paper) {
            Ok(text) if export.is_copy => self.copy(text),
            Ok(text) => keep(text, export.paper, self.app.clock(), self.messages.clone()),
            Err(error) => self.take(cannot(&error)),
        }
    }

    /// Inside tmux its own buffer is better, but another program may hang and so runs beside the loop; OSC 52 goes
    /// the way of the frames, so that the two cannot mix.
    pub(super) fn copy(&mut self, text: String) {
        if self.inside_tmux {
            let messages = self.messages.clone();
            tokio::task::spawn_blocking(move || {
                drop(messages.blocking_send(said(terminal::copy_to_tmux(&text))));
            });
        } else {
            self.take(said(self.screen.copy(&text)));
        }
    }
}

/// What became of a copy.
fn said(copied: io::Result<&'static str>) -> Msg {
    match copied {
        Ok(said) => Msg::Notice(Severity::Notice, said.to_owned()),
        Err(error) => Msg::Notice(Severity::Warning, format!("cannot copy: {error}")),
    }
}
