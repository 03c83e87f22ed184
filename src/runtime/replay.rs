//! Playing a recording: entries come when it is their time, by a clock that runs as fast as is wanted and stands when it
//! is told to. And `timeline`, which goes through a recording without a screen.

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use super::opening::Handles;
use super::recording::Recordings;
use super::screen::Screen;
use super::signals::Signals;
use super::{Failure, MESSAGES_MAX, SAMPLES_MAX, Session, logging};
use crate::app::{App, Columns, Keymap, Limits, Msg, Options, Replay, ReplayNews, ReplayOrder};
use crate::cli::TimelineFormat;
use crate::config::ReplayConfig;
use crate::engine::{Baseline, Observer, Reach, Severity, Thresholds};
use crate::model::TargetId;
use crate::model::action::Operator;
use crate::recording::{Entry, Note, Opening};
use crate::report;
use crate::sources::Pace;
use crate::sources::postgres::settings::Environment;
use crate::sources::recording::Reader;

/// To show a time, as much before it is derived again: as far back as one can look.
const LEAD: SignedDuration = SignedDuration::from_mins(15);

/// Where samples come from: servers in their own time, or a recording by a clock of its own.
pub(super) enum Clock {
    Wall,
    Recording(Player),
}

impl Clock {
    /// Whether a recording is being gone through to a time.
    pub(super) fn is_seeking(&self) -> bool {
        match self {
            Self::Wall => false,
            Self::Recording(player) => player.control().until.is_some(),
        }
    }

    pub(super) fn order(&self, order: ReplayOrder) {
        if let Self::Recording(player) = self {
            player.order(order);
        }
    }
}

/// How the recording is to be played.
#[derive(Debug)]
struct Control {
    /// Times as fast as it was; 0: it stands.
    speed: u32,
    /// What the recording's clock showed at some time of the wall's.
    anchor: (Timestamp, Instant),
    /// Samples that are wanted although it stands, and of which target.
    steps: usize,
    stepped: TargetId,
    /// Where to go to.
    seek: Option<Timestamp>,
    /// Everything up to this time is wanted at once.
    until: Option<Timestamp>,
    /// And so many samples more, however late they are: else there would be nothing to show at the beginning.
    wanted: usize,
    /// The program ends.
    is_over: bool,
}

impl Control {
    #[expect(clippy::disallowed_methods, reason = "the runtime owns the clock")]
    fn set(&mut self, at: Timestamp) {
        self.anchor = (at, Instant::now());
    }

    fn now(&self) -> Timestamp {
        let (at, since) = self.anchor;
        let played = since.elapsed() * self.speed;
        SignedDuration::try_from(played).ok().and_then(|played| at.checked_add(played).ok()).unwrap_or(at)
    }

    fn turn(&mut self, speed: u32) {
        self.set(self.now());
        self.speed = speed;
    }
}

/// The player, as the loop of the program sees it.
#[derive(Debug, Clone)]
pub(super) struct Player(Arc<(Mutex<Control>, Condvar)>);

impl Player {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: ReplayOrder) {
        let mut control = self.control();
        match order {
            ReplayOrder::Play(speed) => control.turn(speed),
            ReplayOrder::Stop => control.turn(0),
            ReplayOrder::Step(target) => {
                control.stepped = target;
                control.steps += 1;
            }
            ReplayOrder::Seek(at) => {
                control.turn(0);
                control.seek = Some(at);
                // From now on the way there is not shown.
                control.until = Some(at);
            }
        }
        self.0.1.notify_all();
    }

    fn end(&self) {
        self.control().is_over = true;
        self.0.1.notify_all();
    }

    /// Waits until an entry's time has come; false where something else is wanted first.
    fn wait_for(&self, at: Timestamp) -> bool {
        let mut control = self.control();
        loop {
            if control.is_over || control.seek.is_some() {
                return false;
            }
            if let Some(until) = control.until {
                if at <= until || control.wanted > 0 {
                    control.set(at);
                    return true;
                }
                return false;
            }
            if control.steps > 0 {
                control.set(at);
                return true;
            }
            let now = control.now();
            if at <= now {
                return true;
            }
            let left = match (control.speed, Duration::try_from(at.duration_since(now))) {
                (speed @ 1.., Ok(left)) => left / speed,
                (0, _) | (_, Err(_)) => Duration::from_secs(3600),
            };
            let waited = self.0.1.wait_timeout(control, left).unwrap_or_else(PoisonError::into_inner);
            control = waited.0;
        }
    }

    /// A sample of the target that is stepped through is a step.
    fn given(&self, entry: &Entry) {
        let mut control = self.control();
        let Entry::Sample(sample) = entry else { return };
        control.wanted = control.wanted.saturating_sub(1);
        if sample.target == control.stepped {
            control.steps = control.steps.saturating_sub(1);
        }
    }

    /// Waits until something is wanted after the end.
    fn wait_for_order(&self) {
        let mut control = self.control();
        while !control.is_over && control.seek.is_none() {
            control.steps = 0;
            control = self.0.1.wait(control).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn time_of(entry: &Entry) -> Timestamp {
    match entry {
        Entry::Opening(opening) => opening.at,
        Entry::Sample(sample) => sample.taken_at,
        Entry::Note(Note::Action(record, ..)) => record.at,
        Entry::Note(Note::Baseline(at, _)) => *at,
    }
}

/// What an entry is to the application; an opening is nothing.
fn message(entry: Entry) -> Option<Msg> {
    match entry {
        Entry::Opening(_) => None,
        Entry::Sample(sample) => Some(Msg::Sample(Box::new(sample))),
        Entry::Note(note) => Some(Msg::Note(Box::new(note))),
    }
}

/// Entries in their order, until there are no more or others were watched.
struct Entries {
    reader: Reader,
    waiting: VecDeque<Entry>,
    opening: Opening,
}

/// The next of a recording.
enum Next {
    Entry(Entry),
    Cut(Timestamp),
    /// Nothing more, and why, where that is not the end.
    End(Option<String>),
}

impl Entries {
    fn of(reader: Reader) -> Self {
        let opening = reader.opening.clone();
        Self { reader, waiting: VecDeque::new(), opening }
    }

    fn next(&mut self) -> Next {
        loop {
            match self.waiting.pop_front() {
                Some(Entry::Opening(opening)) if opening.targets != self.opening.targets => {
                    self.waiting.clear();
                    return Next::End(Some("what follows was recorded of other servers".into()));
                }
                Some(entry) => return Next::Entry(entry),
                None => {}
            }
            match self.reader.read() {
                None => return Next::End(None),
                Some(Err(why)) => return Next::End(Some(why)),
                Some(Ok((entries, cut))) => {
                    self.waiting.extend(entries);
                    if let Some(cut) = cut {
                        return Next::Cut(cut.at);
                    }
                }
            }
        }
    }

    fn seek(&mut self, at: Timestamp) -> Timestamp {
        self.waiting.clear();
        self.reader.seek(at, LEAD)
    }
}

/// Plays until the program ends, on a thread of its own.
fn play(player: &Player, mut entries: Entries, messages: &mpsc::Sender<Msg>) {
    let send = |msg: Msg| messages.blocking_send(msg).is_ok();
    let tell = |news: ReplayNews| messages.blocking_send(Msg::Replay(news)).is_ok();
    let mut next = entries.next();
    loop {
        let seek = player.control().seek.take();
        if player.control().is_over {
            return;
        }
        if let Some(at) = seek {
            let begins = entries.seek(at);
            player.control().wanted = entries.opening.targets.len();
            if !tell(ReplayNews::Rewound(begins)) {
                return;
            }
            next = entries.next();
        }
        let is_there = match next {
            Next::Entry(entry) => {
                if player.wait_for(time_of(&entry)) {
                    player.given(&entry);
                    let is_there = message(entry).is_none_or(send);
                    next = entries.next();
                    is_there
                } else {
                    next = Next::Entry(entry);
                    arrive(player, &tell)
                }
            }
            Next::Cut(at) => {
                next = entries.next();
                tell(ReplayNews::Cut(at))
            }
            Next::End(why) => {
                let told = why.is_none_or(|why| send(Msg::Notice(Severity::Warning, why)));
                let is_there = told && arrive(player, &tell) && tell(ReplayNews::Over);
                player.control().turn(0);
                player.wait_for_order();
                next = Next::End(None);
                is_there
            }
        };
        if !is_there {
            return;
        }
    }
}

/// Where it was going through to a time, it has come there.
fn arrive(player: &Player, tell: &impl Fn(ReplayNews) -> bool) -> bool {
    let at = {
        let mut control = player.control();
        if control.seek.is_some() || control.is_over {
            return true;
        }
        let at = control.until.take();
        if let Some(at) = at {
            control.set(at);
        }
        at
    };
    at.is_none() || tell(ReplayNews::Arrived)
}

fn open(files: &[std::path::PathBuf]) -> Result<Entries, Failure> {
    Reader::open(files).map(Entries::of).map_err(Failure::usage)
}

fn application(entries: &Entries, options: Options, thresholds: &Thresholds, reach: Reach) -> App {
    let targets = &entries.opening.targets;
    let reach = Reach { bytes: reach.bytes / targets.len().max(1), ..reach };
    let observer = |target: &crate::model::Target| {
        Observer::new(target.clone(), Baseline::Previous, thresholds.clone()).reaching(reach)
    };
    let (begins, _) = entries.reader.span();
    App::new(targets.iter().map(observer).collect(), options, begins)
}

fn options(keymap: Keymap, columns: Columns, redact: bool) -> Options {
    Options {
        keymap,
        columns,
        read_only: true,
        redact,
        cpus: None,
        interval: Duration::from_secs(1),
        limits: Limits::default(),
        operator: Operator::default(),
    }
}

/// Opens the screen over a recording.
pub fn replay(config: ReplayConfig, environment: &Environment) -> Result<ExitCode, Failure> {
    let journal = logging::start(None)?;
    super::needs_terminal(environment)?;
    let entries = open(&config.files)?;
    let (begins, ends) = entries.reader.span();
    let options = options(config.keymap, config.columns, config.redact);
    let app = application(&entries, options, &config.thresholds, config.reach).replaying(Replay::new(
        begins,
        ends,
        config.speed,
    ));
    let control = Control {
        speed: config.speed,
        anchor: (begins, started()),
        steps: 0,
        stepped: TargetId(0),
        seek: None,
        until: None,
        wanted: 0,
        is_over: false,
    };
    let player = Player(Arc::new((Mutex::new(control), Condvar::new())));
    let theme = config.theme;
    let glyphs = config.glyphs;
    super::guarded(async move {
        let mut signals = Signals::listen()
            .map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")))?;
        let (message_sender, messages) = mpsc::channel(MESSAGES_MAX);
        let (_no_samples, samples) = mpsc::channel(SAMPLES_MAX);
        let screen =
            Screen::enter().map_err(|error| Failure::usage(format!("cannot use the terminal: {error}")))?;
        let thread = {
            let (player, messages) = (player.clone(), message_sender.clone());
            std::thread::spawn(move || play(&player, entries, &messages))
        };
        let mut session = Session {
            app,
            clock: Clock::Recording(player.clone()),
            recordings: Recordings::none(message_sender.clone()),
            screen,
            theme,
            glyphs,
            handles: Arc::new(Handles::default()),
            pace: watch::channel(Pace::screen(Duration::from_secs(1))).0,
            messages: message_sender,
            inside_tmux: environment.contains_key("TMUX"),
            journal,
            withdrawals: std::collections::BTreeMap::new(),
            has_gone_on: false,
            ended: None,
            #[cfg(debug_assertions)]
            trace: super::trace(environment),
            #[cfg(debug_assertions)]
            panics: false,
        };
        let code = session.serve(&mut signals, samples, messages).await;
        player.end();
        let has_panicked = session.screen.has_panicked();
        drop(session);
        drop(thread.join());
        if has_panicked { Err(logging::failure()) } else { Ok(ExitCode::from(code)) }
    })
}

#[expect(clippy::disallowed_methods, reason = "the runtime owns the clock")]
fn started() -> Instant {
    Instant::now()
}

/// Goes through a recording and prints what happened and what was done.
pub fn timeline(
    files: &[std::path::PathBuf],
    thresholds: &Thresholds,
    format: TimelineFormat,
) -> Result<(), Failure> {
    let mut entries = open(files)?;
    let options = options(Keymap::default(), Columns::default(), true);
    let mut app = application(&entries, options, thresholds, Reach { seconds: 60, bytes: 1 << 20 });
    let mut cuts = Vec::new();
    let mut ends = app.now;
    loop {
        match entries.next() {
            Next::Entry(entry) => {
                ends = time_of(&entry).max(ends);
                if let Some(msg) = message(entry) {
                    drop(app.update(ends, msg));
                }
            }
            Next::Cut(at) => cuts.push(at),
            Next::End(Some(why)) => {
                logging::say(&why);
                break;
            }
            Next::End(None) => break,
        }
    }
    let name = |path: &std::path::PathBuf| {
        path.file_name().map(Path::new).map_or_else(String::new, |name| name.display().to_string())
    };
    let names: Vec<String> = files.iter().map(name).collect();
    let (begins, _) = entries.reader.span();
    let span = report::Span { begins, ends, cuts, files: names, redacted: entries.opening.redacted };
    let text = match format {
        TimelineFormat::Markdown => report::timeline(&app, &span),
        TimelineFormat::Json => {
            report::timeline_json(&app, &span).map_err(|error| Failure::usage(error.to_string()))? + "\n"
        }
    };
    super::snapshot::print(&text)
}
