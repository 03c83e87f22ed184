//! The only event loop: signals, keys, samples and outcomes in; effects and frames out. Owns the clock.

mod acting;
mod beat;
mod exporting;
mod logging;
mod opening;
mod painter;
mod recording;
mod replay;
mod screen;
mod signals;
mod snapshot;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use recording::record;
pub use replay::{replay, timeline};
pub use snapshot::{check, snapshot};

use self::beat::Beat;
use self::logging::Journal;
use self::opening::{Handles, Opened};
use self::recording::Recordings;
use self::replay::Clock;
use self::screen::Screen;
use self::signals::{Asked, Signals};
use crate::app::{App, Effect, Msg, Options, Pane};
use crate::config::{ConfigError, ScreenConfig};
use crate::engine::{Baseline, Observer, Reach, Severity};
use crate::model::action::{Operator, Record};
use crate::model::{Sample, TargetId};
use crate::recording::Note;
use crate::sources::Pace;
use crate::sources::postgres::Withdrawal;
use crate::sources::postgres::settings::Environment;
use crate::terminal::{self, Input, Inputs};
use crate::text;
use crate::ui::{Glyphs, Theme};

/// Samples that may wait for the loop; a source behind a full channel waits too, so that nothing old piles up.
const SAMPLES_MAX: usize = 1;
/// Outcomes and notices that may wait for the loop.
const MESSAGES_MAX: usize = 64;
/// A login that takes longer is told of, so that nobody looks at an empty terminal.
const SILENT: Duration = Duration::from_millis(700);
/// Keys that are taken before a frame is drawn, so that type-ahead costs one frame.
const KEYS_PER_FRAME: usize = 64;

/// Why the program ends without success: what to say, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// One sentence with the next step.
    pub message: String,
    /// 1 a recording has stopped, 2 usage, 3 could not connect, 101 a bug, 130 interrupted.
    pub code: u8,
}

impl Failure {
    /// A mistake in what was asked for.
    pub const fn usage(message: String) -> Self {
        Self { message, code: 2 }
    }

    const fn unreachable(message: String) -> Self {
        Self { message, code: 3 }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.0)
    }
}

#[expect(clippy::disallowed_methods, reason = "the runtime owns the clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[expect(clippy::disallowed_methods, reason = "the runtime owns the clock")]
fn instant() -> Instant {
    Instant::now()
}

/// A runtime of one thread. Reading is waiting, and writing to the terminal has a thread of its own; on several threads
/// what one allocates and another frees made the heap grow by a tenth within twenty minutes.
fn start_tokio() -> Result<tokio::runtime::Runtime, Failure> {
    // Redis and PostgreSQL share the provider; a second installation is refused, which is fine.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start: {error}")))
}

/// A screen needs a terminal that can show one.
fn needs_terminal(environment: &Environment) -> Result<(), Failure> {
    let terminal = environment.get("TERM").map_or("", String::as_str);
    if !std::io::IsTerminal::is_terminal(&std::io::stdout())
        || !std::io::IsTerminal::is_terminal(&std::io::stdin())
    {
        return Err(Failure::usage(
            "the screen needs a terminal; dbtriage snapshot prints a report without one".into(),
        ));
    }
    if terminal.is_empty() || terminal == "dumb" {
        let why = if terminal.is_empty() { "TERM is not set" } else { "TERM=dumb cannot show a screen" };
        return Err(Failure::usage(format!("{why}; dbtriage snapshot prints a report without one")));
    }
    Ok(())
}

/// Runs what shows a screen. A bug that ends it gives the terminal back before anything is said about it.
fn guarded(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let tokio = start_tokio()?;
    let ended = catch_unwind(AssertUnwindSafe(|| tokio.block_on(work)));
    terminal::restore();
    // Tasks that still wait for a server must not keep the terminal.
    tokio.shutdown_timeout(Duration::from_millis(100));
    ended.unwrap_or_else(|_| Err(logging::failure()))
}

/// Opens the screen and stays until the person quits.
pub fn screen(config: ScreenConfig, environment: &Environment) -> Result<ExitCode, Failure> {
    let journal = logging::start(config.log.as_deref())?;
    needs_terminal(environment)?;
    for warning in &config.targets.warnings {
        logging::warn(warning);
    }
    guarded(run(config, journal, environment))
}

async fn run(config: ScreenConfig, journal: Journal, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut signals =
        Signals::listen().map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")))?;
    let names = config.targets.names();
    let slow = async {
        tokio::time::sleep(SILENT).await;
        logging::say(&format!("connecting to {names} ..."));
        std::future::pending::<()>().await;
    };
    let opened = tokio::select! {
        code = signals.end() => return Ok(ExitCode::from(code)),
        opened = opening::open(config.targets, config.wait) => opened?,
        () = slow => return Ok(ExitCode::FAILURE),
    };
    let (sample_sender, samples) = mpsc::channel(SAMPLES_MAX);
    let (pace_sender, pace) = watch::channel(Pace::screen(config.interval));
    let mut observers = observers(&opened, Baseline::Previous, &config.thresholds);
    let share = config.reach.bytes / observers.len().max(1);
    observers = observers.into_iter().map(|it| it.reaching(Reach { bytes: share, ..config.reach })).collect();
    let targets = observers.iter().map(|observer| observer.target.clone()).collect();
    let options = Options {
        keymap: config.keymap,
        columns: config.columns,
        read_only: config.read_only,
        redact: config.redact,
        cpus: config.cpus,
        interval: config.interval,
        limits: config.limits,
        operator: operator(environment),
    };
    let (message_sender, messages) = mpsc::channel(MESSAGES_MAX);
    let screen =
        Screen::enter().map_err(|error| Failure::usage(format!("cannot use the terminal: {error}")))?;
    let handles = Arc::new(opening::start(opened, &pace, &sample_sender));
    let recordings = Recordings::new(config.record, targets, message_sender.clone());
    let mut session = Session {
        app: App::new(observers, options, now()),
        clock: Clock::Wall,
        recordings,
        screen,
        theme: config.theme,
        glyphs: config.glyphs,
        handles,
        pace: pace_sender,
        messages: message_sender,
        inside_tmux: environment.contains_key("TMUX"),
        journal,
        withdrawals: BTreeMap::new(),
        has_gone_on: false,
        ended: None,
        #[cfg(debug_assertions)]
        trace: trace(environment),
        #[cfg(debug_assertions)]
        panics: environment.get("DBTRIAGE_TEST_PANIC").is_some_and(|place| place == "draw"),
    };
    session.recordings.begin(&mut session.app);
    let code = session.serve(&mut signals, samples, messages).await;
    session.keep_untold().await;
    session.recordings.finish();
    if session.screen.has_panicked() {
        return Err(logging::failure());
    }
    Ok(ExitCode::from(code))
}

/// Who sits at the keyboard: the account, where they came from by `SSH_CONNECTION`, and this machine.
fn operator(environment: &Environment) -> Operator {
    let account = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    let from = environment.get("SSH_CONNECTION").and_then(|words| words.split(' ').next());
    Operator {
        os_user: account.or_else(|| environment.get("USER").cloned()).unwrap_or_else(|| "?".into()),
        from: from.filter(|address| !address.is_empty()).map(str::to_owned),
        host: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
    }
}

fn observers(opened: &[Opened], baseline: Baseline, thresholds: &crate::engine::Thresholds) -> Vec<Observer> {
    let mut targets: Vec<_> = opened.iter().map(|it| it.target().clone()).collect();
    targets.sort_by_key(|target| target.id);
    let mut observers: Vec<_> =
        targets.into_iter().map(|target| Observer::new(target, baseline, thresholds.clone())).collect();
    // What is known already stands on the first frame.
    for sample in opened.iter().filter_map(Opened::outage) {
        if let Some(observer) = observers.get_mut(sample.target.0) {
            observer.observe(&sample);
        }
    }
    observers
}

/// One run of the screen.
struct Session {
    app: App,
    clock: Clock,
    recordings: Recordings,
    screen: Screen,
    theme: Theme,
    glyphs: Glyphs,
    handles: Arc<Handles>,
    pace: watch::Sender<Pace>,
    messages: mpsc::Sender<Msg>,
    journal: Journal,
    /// How to call back what has been ordered and is not over.
    withdrawals: BTreeMap<u64, Withdrawal>,
    inside_tmux: bool,
    /// Whether the signal that ended our own stop is still to come.
    has_gone_on: bool,
    ended: Option<u8>,
    /// Where a test wants to read what was made of each sample.
    #[cfg(debug_assertions)]
    trace: Option<std::fs::File>,
    /// Whether a test wants to see what a bug in drawing leaves behind.
    #[cfg(debug_assertions)]
    panics: bool,
}

impl Session {
    async fn serve(
        &mut self,
        signals: &mut Signals,
        mut samples: mpsc::Receiver<Sample>,
        mut messages: mpsc::Receiver<Msg>,
    ) -> u8 {
        let mut inputs = Inputs::new();
        let mut beat = Beat::begin(instant());
        loop {
            if let Some(code) = self.ended {
                return code;
            }
            // While a recording is gone through to a time, the way there is not shown.
            let is_shown = !self.clock.is_seeking();
            if is_shown && beat.is_due(instant()) {
                self.draw();
            }
            let wake = self.wake_in();
            tokio::select! {
                biased;
                asked = signals.next() => {
                    match asked {
                        Asked::End(code) => return code,
                        Asked::Resize => match terminal::size() {
                            Ok((columns, rows)) => self.take(Msg::Input(Input::Resize(columns, rows))),
                            Err(_) => return 129,
                        },
                        Asked::Stop => self.suspend(),
                        Asked::GoOn => self.go_on(),
                    }
                    beat.soon(instant());
                }
                input = inputs.next() => {
                    // The terminal is gone, and with it whoever looked.
                    let Some(input) = input else { return 129 };
                    self.take_inputs(input, &mut inputs);
                    beat.soon(instant());
                }
                is_there = self.screen.shown() => {
                    if !is_there {
                        return 129;
                    }
                    self.app.drawn(now());
                }
                Some(msg) = messages.recv() => {
                    self.take(msg);
                    beat.soon(instant());
                }
                Some(sample) = samples.recv() => {
                    let target = sample.target;
                    self.take(Msg::Sample(Box::new(sample)));
                    let giving = self.app.observers.iter().filter(|it| it.outage().is_none());
                    let giving: Vec<TargetId> = giving.map(|it| it.target.id).collect();
                    beat.gather(target, &giving, instant());
                }
                () = beat.wait(), if is_shown => {}
                () = tokio::time::sleep(wake) => {
                    self.take(Msg::Timer);
                    beat.soon(instant());
                }
            }
        }
    }

    /// What was ordered and not told yet is in the log at least as that.
    async fn keep_untold(&self) {
        for record in self.app.untold_records() {
            let outcome = Some("not known: the program ended before it was told".to_owned());
            let record = Record { outcome, ..record.clone() };
            drop(tokio::time::timeout(Duration::from_millis(100), self.journal.keep(&record, false)).await);
        }
        // Who quits at once after an outcome still has it in the log.
        drop(tokio::time::timeout(Duration::from_millis(100), self.journal.settle()).await);
    }

    fn take_inputs(&mut self, first: Input, inputs: &mut Inputs) {
        self.take(Msg::Input(first));
        for _ in 1..KEYS_PER_FRAME {
            let Some(input) = inputs.waiting() else { return };
            self.take(Msg::Input(input));
        }
    }

    /// Until something on the screen changes by itself: a toast ends, or the age of an outage grows.
    fn wake_in(&self) -> Duration {
        let failing = self.app.observers.iter().any(|observer| observer.outage().is_some());
        // Without an outage only silence can change the screen.
        let heartbeat = if failing { Duration::from_secs(1) } else { self.app.options.interval * 3 / 2 };
        // What is due already is overdue by a negative time: at once then.
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now())).unwrap_or_default();
        let change = self.app.next_change().map(until);
        change.map_or(heartbeat, |change| change.max(Duration::from_millis(5)).min(heartbeat))
    }

    fn take(&mut self, msg: Msg) {
        match &msg {
            // What was read is kept before anything is made of it.
            Msg::Sample(sample) => {
                self.recordings.keep_sample(sample);
                self.app.recording = self.recordings.state();
            }
            Msg::Input(Input::Resize(columns, rows)) => self.screen.resize(*columns, *rows),
            Msg::Outcome(id, _) => drop(self.withdrawals.remove(id)),
            Msg::Input(_)
            | Msg::Holdings(..)
            | Msg::AdvisoryHolders(..)
            | Msg::Plan(..)
            | Msg::Note(_)
            | Msg::Replay(_)
            | Msg::Notice(..)
            | Msg::Timer => {}
        }
        #[cfg(debug_assertions)]
        let sampled = if let Msg::Sample(sample) = &msg { Some(sample.target) } else { None };
        for effect in self.app.update(now(), msg) {
            self.carry_out(effect);
        }
        #[cfg(debug_assertions)]
        if let (Some(target), Some(file)) = (sampled, &mut self.trace) {
            use std::io::Write as _;
            drop(writeln!(file, "{}", crate::report::trace(&self.app, target).unwrap_or_default()));
        }
    }

    fn draw(&mut self) {
        let frame = self.frame();
        let is_awaited = self.app.framed();
        self.screen.show(frame, is_awaited);
    }

    fn frame(&mut self) -> ratatui::buffer::Buffer {
        #[cfg(debug_assertions)]
        assert!(!self.panics, "asked for by DBTRIAGE_TEST_PANIC");
        let layout = crate::ui::layout(self.screen.area(), &self.app);
        self.app.resized(layout.viewport());
        // Tables are read only while they are on the screen.
        let tables_of = self.app.postgres.filter(|_| layout.shows(Pane::Tables));
        self.pace.send_if_modified(|pace| std::mem::replace(&mut pace.tables_of, tables_of) != tables_of);
        let mut buffer = self.screen.blank();
        crate::ui::draw(&mut buffer, &self.app, &layout, &self.theme, self.glyphs);
        buffer
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Act(order) => {
                self.recordings.keep_order(&order);
                let withdrawal = Withdrawal::default();
                self.withdrawals.insert(order.record.id, withdrawal.clone());
                let handles = Arc::clone(&self.handles);
                acting::act(handles, self.journal.clone(), (*order, withdrawal), self.messages.clone());
            }
            Effect::Withdraw(ids) => {
                ids.iter().filter_map(|id| self.withdrawals.get(id)).for_each(Withdrawal::ask);
            }
            Effect::Note(note) => self.recordings.keep_note(*note),
            Effect::Record(is_on) => {
                let said = self.recordings.turn(is_on, now());
                self.app.recording = self.recordings.state();
                if let Some(said) = said {
                    self.take(said);
                }
            }
            Effect::Replay(order) => self.clock.order(order),
            Effect::Keep(record, target, severity) => {
                self.recordings.keep_note(Note::Action(record.clone(), target, Some(severity), false));
                acting::keep_outcome(self.journal.clone(), *record, self.messages.clone());
            }
            Effect::ReadHoldings(target, pid, waiter) => {
                let handles = Arc::clone(&self.handles);
                acting::read_holdings(handles, target, (pid, waiter), self.messages.clone());
            }
            Effect::ReadAdvisoryHolders(target) => {
                acting::read_advisory_holders(Arc::clone(&self.handles), target, self.messages.clone());
            }
            Effect::Explain(target, database, sql) => {
                acting::explain(Arc::clone(&self.handles), target, (database, sql), self.messages.clone());
            }
            Effect::Export(export) => self.export(export),
            Effect::Copy(text) => self.copy(text),
            Effect::SetInterval(interval) => self.pace.send_modify(|pace| *pace = pace.changed_to(interval)),
            Effect::Redraw => self.screen.forget(),
            Effect::Suspend => self.suspend(),
            Effect::Quit(keep) => {
                if keep {
                    let frame = self.frame();
                    self.screen.keep(frame);
                }
                self.ended = Some(0);
            }
        }
    }

    fn suspend(&mut self) {
        if !terminal::has_shell() {
            self.take(Msg::Notice(Severity::Notice, "there is no shell to return to; q quits".into()));
            return;
        }
        self.screen.leave();
        let stopped = terminal::stop();
        self.has_gone_on = true;
        if self.screen.come_back().is_err() {
            self.ended = Some(129);
        }
        if let Err(error) = stopped {
            self.take(Msg::Notice(Severity::Warning, format!("cannot stop: {error}")));
        }
    }

    /// After a stop that nobody asked us for, the shell has had the terminal meanwhile.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.has_gone_on) {
            return;
        }
        self.screen.leave();
        if self.screen.come_back().is_err() {
            self.ended = Some(129);
        }
    }
}

/// The file that a test has named.
#[cfg(debug_assertions)]
fn trace(environment: &Environment) -> Option<std::fs::File> {
    std::fs::File::create(environment.get("DBTRIAGE_TEST_TRACE")?).ok()
}

/// One line for standard error, made safe for the terminal that it goes to.
fn one_line(raw: &str) -> String {
    text::line(raw).into_owned()
}
