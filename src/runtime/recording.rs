//! What is recorded while the screen is open, and `record`, which has none.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::opening::{self, Opened};
use super::signals::{Asked, Signals};
use super::{Failure, SAMPLES_MAX, logging, now, start_tokio};
use crate::app::{App, Msg, Order, Recording};
use crate::config::{RecordConfig, ReportConfig};
use crate::engine::Severity;
use crate::model::{Sample, Target};
use crate::recording::{Entry, Note, Opening, VERSION};
use crate::sources::Pace;
use crate::sources::postgres;
use crate::sources::recording::{Handed, Kept, Place, Recorder, wait_for};

/// How long the end of the program waits for the disk; `record`, which has no terminal to give back, longer.
const END_LIMIT: Duration = Duration::from_millis(500);
const RECORD_END_LIMIT: Duration = Duration::from_secs(30);

/// The recordings that go on.
pub(super) struct Recordings {
    config: Option<RecordConfig>,
    targets: Vec<Target>,
    messages: mpsc::Sender<Msg>,
    rolling: Option<Recorder>,
    file: Option<(PathBuf, Recorder)>,
    /// The end of one that `R` has ended.
    ending: Option<JoinHandle<()>>,
    /// Whether it was told that the disk is too slow.
    is_late: bool,
}

impl Recordings {
    pub(super) const fn new(config: RecordConfig, targets: Vec<Target>, messages: mpsc::Sender<Msg>) -> Self {
        Self {
            config: Some(config),
            targets,
            messages,
            rolling: None,
            file: None,
            ending: None,
            is_late: false,
        }
    }

    /// Nothing is ever recorded: what is looked at is a recording.
    pub(super) const fn none(messages: mpsc::Sender<Msg>) -> Self {
        Self {
            config: None,
            targets: Vec::new(),
            messages,
            rolling: None,
            file: None,
            ending: None,
            is_late: false,
        }
    }

    /// Begins what the configuration asks for; what cannot be begun is told, and stops nothing.
    pub(super) fn begin(&mut self, app: &mut App) {
        let Some(config) = self.config.clone() else { return };
        let at = now();
        if let Some(rolling) = config.rolling {
            match self.start(Place::Rolling(rolling), true, at) {
                Ok(recorder) => self.rolling = Some(recorder),
                Err(error) => {
                    let text = format!("the last hours are not recorded: {error}");
                    drop(app.update(at, Msg::Notice(Severity::Warning, text)));
                }
            }
        }
        if let Some(Place::File(path, bytes_max)) = config.file {
            match self.start(Place::File(path.clone(), bytes_max), config.redact, at) {
                Ok(recorder) => self.file = Some((path, recorder)),
                Err(error) => drop(app.update(at, cannot(&path, &error))),
            }
        }
        app.recording = self.state();
    }

    fn start(&self, place: Place, redacted: bool, at: Timestamp) -> std::io::Result<Recorder> {
        let messages = self.messages.clone();
        Recorder::start(place, opening(at, redacted, &self.targets), move |why| {
            let text = format!("recording has stopped: {why}");
            drop(messages.blocking_send(Msg::Notice(Severity::Warning, text)));
        })
    }

    /// Begins or ends the file that is kept in full; what to tell the person at once.
    pub(super) fn turn(&mut self, is_on: bool, at: Timestamp) -> Option<Msg> {
        let Some((path, recorder)) = self.file.take() else { return Some(self.begin_file(is_on, at)) };
        let messages = self.messages.clone();
        // The disk may be slow, and keys do not wait for it.
        self.ending = Some(std::thread::spawn(move || {
            let kept = recorder.finish(RECORD_END_LIMIT);
            drop(messages.try_send(Msg::Notice(Severity::Notice, told(kept.as_ref(), &path))));
        }));
        None
    }

    fn begin_file(&mut self, is_on: bool, at: Timestamp) -> Msg {
        if !is_on {
            return Msg::Notice(Severity::Notice, "no file is being recorded".into());
        }
        let name = format!("dbtriage-{}.dbtriage", at.strftime("%Y%m%dT%H%M%SZ"));
        let path = std::path::absolute(&name).unwrap_or_else(|_| PathBuf::from(&name));
        let redact = self.config.as_ref().is_some_and(|config| config.redact);
        match self.start(Place::file(path.clone()), redact, at) {
            Ok(recorder) => {
                let text = format!("recording everything in {}", path.display());
                self.file = Some((path, recorder));
                Msg::Notice(Severity::Notice, text)
            }
            Err(error) => cannot(&path, &error),
        }
    }

    /// What goes on now.
    pub(super) fn state(&self) -> Recording {
        Recording {
            is_rolling: self.rolling.is_some(),
            file: self.file.as_ref().map(|(path, _)| path.display().to_string()),
        }
    }

    pub(super) fn keep_sample(&mut self, sample: &Sample) {
        self.keep(&Entry::Sample(sample.clone()));
    }

    /// An order, with the statement that is sent.
    pub(super) fn keep_order(&mut self, order: &Order) {
        let record =
            crate::model::action::Record { sql: postgres::statement(&order.action), ..order.record.clone() };
        self.keep_note(Note::Action(Box::new(record), order.target, None, order.one_of_many));
    }

    pub(super) fn keep_note(&mut self, note: Note) {
        self.keep(&Entry::Note(note));
    }

    fn keep(&mut self, entry: &Entry) {
        let messages = &self.messages;
        let tell = |text: String| drop(messages.try_send(Msg::Notice(Severity::Warning, text)));
        // One that has ended by itself has said why.
        let mut goes_on = |recorder: &mut Recorder, what: &str| match recorder.keep(entry.clone()) {
            Handed::Kept => true,
            Handed::GivenUp => {
                if !std::mem::replace(&mut self.is_late, true) {
                    tell(format!("the disk is too slow: samples are missing from {what}"));
                }
                true
            }
            Handed::Ended => false,
        };
        self.rolling.take_if(|recorder| !goes_on(recorder, "what is kept of the last hours"));
        self.file.take_if(|(path, recorder)| !goes_on(recorder, &path.display().to_string()));
    }

    /// Waits until everything is on the disk, but not for long.
    pub(super) fn finish(&mut self) {
        let file = self.file.take().map(|(_, recorder)| recorder);
        let mut recorders: Vec<Recorder> = self.rolling.take().into_iter().chain(file).collect();
        recorders.iter_mut().for_each(Recorder::end);
        for recorder in recorders {
            recorder.finish(END_LIMIT);
        }
        if let Some(ending) = self.ending.take() {
            wait_for(&ending, END_LIMIT);
        }
    }
}

/// What was recorded, in a sentence.
fn told(kept: Option<&Kept>, path: &std::path::Path) -> String {
    let path = path.display();
    match kept {
        Some(Kept { bytes, given_up: 0 }) => {
            format!("recorded {} in {path}", crate::format::bytes(float(*bytes)))
        }
        Some(Kept { bytes, given_up }) => {
            let bytes = crate::format::bytes(float(*bytes));
            format!("recorded {bytes} in {path}; the disk was too slow: {given_up} samples are missing")
        }
        None => format!("{path}: the disk is too slow, its end may be missing"),
    }
}

fn cannot(path: &std::path::Path, error: &std::io::Error) -> Msg {
    Msg::Notice(Severity::Warning, format!("cannot record in {}: {error}", path.display()))
}

fn opening(at: Timestamp, redacted: bool, targets: &[Target]) -> Opening {
    let program = env!("CARGO_PKG_VERSION").to_owned();
    Opening { version: VERSION, program, at, redacted, targets: targets.to_vec() }
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
const fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// Records without a screen, until the time is over or a signal ends it.
pub fn record(config: ReportConfig, to: Place, watch: Option<Duration>) -> Result<ExitCode, Failure> {
    drop(logging::start(config.log.as_deref())?);
    for warning in &config.targets.warnings {
        logging::warn(warning);
    }
    start_tokio()?.block_on(async {
        let mut signals = Signals::listen()
            .map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")))?;
        let opened = tokio::select! {
            code = signals.end() => return Ok(ExitCode::from(code)),
            opened = opening::open(config.targets, true) => opened?,
        };
        let mut targets: Vec<Target> = opened.iter().map(|it| it.target().clone()).collect();
        targets.sort_by_key(|target| target.id);
        let name = match &to {
            Place::File(path, _) => path.display().to_string(),
            Place::Rolling(rolling) => rolling.folder.display().to_string(),
        };
        let (stopped, mut why) = mpsc::channel(1);
        let mut recorder = Recorder::start(to, opening(now(), config.redact, &targets), move |error| {
            drop(stopped.blocking_send(error));
        })
        .map_err(|error| Failure::usage(format!("cannot record in {name}: {error}")))?;
        let (sender, mut samples) = mpsc::channel(SAMPLES_MAX);
        let (_unchanged, pace) = watch::channel(Pace::screen(config.interval));
        for sample in opened.iter().filter_map(Opened::outage) {
            recorder.keep(Entry::Sample(sample));
        }
        let _handles = opening::start(opened, &pace, &sender);
        logging::say(&format!("recording in {name}; Ctrl-C ends it"));
        let over = async {
            match watch {
                Some(watch) => tokio::time::sleep(watch).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                asked = signals.next() => match asked {
                    // To end it is how it is meant to end.
                    Asked::End(_) => break,
                    Asked::Stop | Asked::Resize | Asked::GoOn => {}
                },
                () = &mut over => break,
                Some(error) = why.recv() => return Err(stopped_by(&error)),
                Some(sample) = samples.recv() => {
                    recorder.keep(Entry::Sample(sample));
                }
            }
        }
        let kept = recorder.finish(RECORD_END_LIMIT);
        // What was written last may be what did not fit.
        if let Ok(error) = why.try_recv() {
            return Err(stopped_by(&error));
        }
        logging::say(&told(kept.as_ref(), std::path::Path::new(&name)));
        Ok(ExitCode::SUCCESS)
    })
}

fn stopped_by(error: &str) -> Failure {
    Failure { message: format!("recording has stopped: {error}"), code: 1 }
}
