//! What the person is looking at and what they asked for: state, messages in, effects out. Pure.
//!
//! It must not know sources, files, the terminal's output or a clock: `update` is given the time.

mod acting;
mod activity;
mod columns;
mod commands;
mod confirm;
mod detail;
mod events;
mod export;
mod going;
mod hearing;
mod incident;
mod keymap;
mod limits;
mod list;
mod locks;
mod many;
mod marks;
mod messages;
mod outcome;
mod overlay;
mod pane;
mod past;
mod plan;
mod recovery;
mod replay;
mod server;
mod statements;
mod table;
mod tables;
mod vitals;
mod waits;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strum::IntoEnumIterator as _;

pub use activity::{ActivityRow, GroupBy, GroupRow, Only, groups, of_group as sessions_of_group};
pub use columns::Columns;
pub use commands::{COMMANDS, Command, Group};
pub use confirm::{Change, Confirm};
pub use detail::{Detail, Sheet};
pub use events::{COLUMNS as EVENT_COLUMNS, Event, EventColumn, What};
pub use export::{EXPORTS, Export, Paper};
use hearing::Hearing;
pub use keymap::Keymap;
pub use limits::Limits;
pub use list::{ListState, RowKey};
pub use locks::{
    COLUMNS as LOCK_COLUMNS, LockColumn, LockLine, LockRow, advice as lock_advice, listed as listed_locks,
};
pub use many::{Advisory, Entry, Many, Phase};
pub use marks::{Marks, Rule, RuleMenu, chosen as chosen_by_rule};
pub use messages::{Effect, Msg, Order};
pub use overlay::Overlay;
use overlay::Question;
pub use pane::{Pane, Viewport};
pub use past::Past;
pub use plan::Plan;
pub use recovery::{COLUMNS as RECOVERY_COLUMNS, RecoveryRow, shown as shown_figure};
pub use replay::{Replay, ReplayNews, ReplayOrder};
pub use table::{Align, Cell, Column, Role, Span, Value, Width};
pub use tables::{
    CONSTRAINT_COLUMNS, CellOf, INDEX_COLUMNS, Shown, TableLine, constraint as constraint_of,
    index as index_of, table as table_of,
};
pub use vitals::{Scale, Vital, redis as redis_vital, vitals};
pub use waits::{COLUMNS as WAIT_COLUMNS, WaitLine};

use crate::engine::findings::Subject;
use crate::engine::recovery::Watch;
use crate::engine::{Observer, PgTick, RedisTick, Severity, Tick};
use crate::model::action::{Operator, Record};
use crate::model::postgres::Session;
use crate::model::{Body, Kind, Sample, Target, TargetId};
use crate::terminal::Input;
use crate::text;

/// How long a toast stays.
const TOAST: SignedDuration = SignedDuration::from_secs(6);
/// How long the outcome of an action stays.
const OUTCOME_TOAST: SignedDuration = SignedDuration::from_secs(12);

/// Names a finding for as long as it lasts.
pub type FindingKey = (TargetId, &'static str, Subject);

/// A short message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toast {
    /// How it is meant.
    pub severity: Severity,
    /// What it says.
    pub text: String,
    /// When it goes.
    pub until: Timestamp,
    /// Whether it tells what came of an action.
    pub outcome: bool,
}

/// What is being typed into the last line.
#[derive(Debug, Clone)]
pub struct Typing {
    /// The text.
    pub input: tui_input::Input,
    /// Whether it is a time to go to, and not a filter.
    pub is_time: bool,
}

/// What is recorded now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Whether the last hours are.
    pub is_rolling: bool,
    /// The file that is kept in full.
    pub file: Option<String>,
}

/// What the program starts with.
#[derive(Debug)]
pub struct Options {
    /// Keys.
    pub keymap: Keymap,
    /// Columns of the tables.
    pub columns: Columns,
    /// Whether cancel and terminate are unbound.
    pub read_only: bool,
    /// Time between samples.
    pub interval: Duration,
    /// Who is left out when acting on many, and how fast that goes.
    pub limits: Limits,
    /// The person at the keyboard.
    pub operator: Operator,
    /// Whether the screen opens without the literals of statements.
    pub redact: bool,
    /// Processors of the server, where somebody told: a line in the chart of waits.
    pub cpus: Option<u32>,
}

/// The state of the program.
#[derive(Debug)]
pub struct App {
    /// When it began, by the same clock.
    pub began: Timestamp,
    /// The client's clock at the last message.
    pub now: Timestamp,
    /// The targets, each with what is known of it.
    pub observers: Vec<Observer>,
    /// The PostgreSQL server that the panes show.
    pub postgres: Option<TargetId>,
    /// The Redis server that the panes show.
    pub redis: Option<TargetId>,
    /// The pane that keys go to.
    pub focus: Pane,
    /// The finding that keys go to, while they go to the findings line: by identity, because findings are ranked
    /// anew with every sample.
    pub finding: Option<FindingKey>,
    /// Whether the focused pane has the screen to itself.
    pub zoomed: bool,
    /// Whether statements are shown without their literals.
    pub private: bool,
    /// State of the Activity pane.
    pub activity: activity::ActivityView,
    /// State of the Locks pane.
    pub locks: locks::LocksView,
    /// State of the Statements pane.
    pub statements: statements::StatementsView,
    /// State of the Waits pane.
    pub waits: waits::WaitsView,
    /// State of the Tables pane.
    pub tables: tables::TablesView,
    /// State of the Events pane.
    pub events: events::EventsView,
    /// The marked sessions of the shown PostgreSQL server.
    pub marks: Marks,
    /// What stands above the panes.
    pub overlay: Option<Overlay>,
    /// What is being typed.
    pub typing: Option<Typing>,
    /// The message at the bottom.
    pub toast: Option<Toast>,
    /// What the program was started with.
    pub options: Options,
    /// How the screen is divided now.
    pub viewport: Viewport,
    /// What is recorded now.
    pub recording: Recording,
    /// The recording that is looked at; `None`: the servers themselves.
    pub replay: Option<Replay>,
    /// The earlier moment that is looked at; `None`: the present.
    pub past: Option<Past>,
    recoveries: BTreeMap<TargetId, Watch>,
    incident: Option<incident::Incident>,
    pending: outcome::Pending,
    /// Outcomes that wait for their turn at the bottom.
    untold: VecDeque<(Severity, String)>,
}

impl App {
    /// The state before the first sample. `observers` are in the order of their targets.
    pub fn new(observers: Vec<Observer>, options: Options, now: Timestamp) -> Self {
        let first = |kind| {
            observers
                .iter()
                .map(|observer| &observer.target)
                .find(|target| target.kind == kind)
                .map(|target| target.id)
        };
        Self {
            began: now,
            now,
            postgres: first(Kind::Postgres),
            redis: first(Kind::Redis),
            focus: if first(Kind::Postgres).is_some() { Pane::Activity } else { Pane::Cache },
            observers,
            finding: None,
            zoomed: false,
            private: options.redact,
            activity: activity::ActivityView::default(),
            locks: locks::LocksView::default(),
            statements: statements::StatementsView::default(),
            waits: waits::WaitsView::default(),
            tables: tables::TablesView::default(),
            events: events::EventsView::starting_at(now),
            marks: Marks::default(),
            overlay: None,
            typing: None,
            toast: None,
            options,
            viewport: Viewport::default(),
            recording: Recording::default(),
            replay: None,
            past: None,
            recoveries: BTreeMap::new(),
            incident: None,
            pending: outcome::Pending::default(),
            untold: VecDeque::new(),
        }
    }

    /// Takes one message and says what must be done about it.
    pub fn update(&mut self, now: Timestamp, msg: Msg) -> Vec<Effect> {
        self.now = now;
        if self.toast.as_ref().is_some_and(|toast| toast.until <= now) {
            self.toast = None;
        }
        let mut effects = Vec::new();
        match msg {
            Msg::Input(Input::Key(chord)) => effects = commands::key(self, chord),
            Msg::Input(Input::Paste(text)) => commands::paste(self, &text),
            Msg::Input(Input::Resize(..)) | Msg::Timer => {}
            Msg::Sample(sample) => self.take(&sample),
            Msg::Outcome(id, outcome) => {
                if let Some(Overlay::Many(many)) = &mut self.overlay {
                    many.arrived(id, &outcome);
                }
                self.pending.arrived(id, *outcome, now);
            }
            Msg::Holdings(target, pid, holdings) => {
                if let Some(Overlay::Confirm(confirm)) =
                    self.overlay.as_mut().filter(|it| it.is_about(target))
                    && confirm.session.id.pid == pid
                {
                    confirm.holdings = Some(holdings);
                }
            }
            Msg::AdvisoryHolders(target, holders) => {
                if let Some(Overlay::Many(many)) = self.overlay.as_mut().filter(|it| it.is_about(target)) {
                    many.advisory_holders(holders, now);
                }
            }
            Msg::Plan(target, sql, answer) => self.planned(target, &sql, answer),
            Msg::Note(note) => self.take_note(*note),
            Msg::Replay(news) => self.take_replay_news(news),
            Msg::Notice(severity, text) => self.say(severity, text),
        }
        effects.extend(self.withdraw_stopped());
        effects.extend(self.order_next());
        effects.extend(self.tell_outcomes());
        effects
    }

    /// Tells the application how the screen is divided. A question that cannot be seen is withdrawn.
    pub fn resized(&mut self, viewport: Viewport) {
        if viewport.too_small || (viewport.list_rows == 0 && matches!(self.overlay, Some(Overlay::Many(_)))) {
            self.withdraw_question();
        }
        self.viewport = viewport;
        for pane in Pane::iter() {
            let rows = self.viewport.rows_of(pane);
            if let Some(list) = self.list_of(pane) {
                list.scroll_to_selection(rows);
            }
        }
    }

    /// When something changes by itself: a toast ends, the next of many signals is due.
    pub fn next_change(&self) -> Option<Timestamp> {
        let due = match &self.overlay {
            Some(Overlay::Many(many)) => many.due(),
            Some(_) | None => None,
        };
        self.toast.as_ref().map(|toast| toast.until).into_iter().chain(due).min()
    }

    /// The observer of a target, as it is shown.
    pub fn observer(&self, target: Option<TargetId>) -> Option<&Observer> {
        self.shown().get(target?.0)
    }

    /// The shown PostgreSQL server.
    pub fn pg_observer(&self) -> Option<&Observer> {
        self.observer(self.postgres)
    }

    /// The shown Redis server.
    pub fn redis_observer(&self) -> Option<&Observer> {
        self.observer(self.redis)
    }

    /// The last good tick of the shown PostgreSQL server.
    pub fn pg(&self) -> Option<&PgTick> {
        self.pg_observer().and_then(Observer::tick).and_then(Tick::postgres)
    }

    /// The last good tick of the shown Redis server.
    pub fn redis_tick(&self) -> Option<&RedisTick> {
        self.redis_observer().and_then(Observer::tick).and_then(Tick::redis)
    }

    /// What was ordered and whose outcome has not been told: for the log, when the program ends.
    pub fn untold_records(&self) -> impl Iterator<Item = &Record> {
        self.pending.records()
    }

    /// The session that is selected in the focused pane, if it is one that is there.
    pub fn session_at_hand(&self) -> Option<&Session> {
        commands::selected_session(self)
    }

    /// Findings of all targets, worst first, with the target they belong to.
    pub fn findings(&self) -> Vec<(&Target, &crate::engine::Finding)> {
        let mut all: Vec<_> = self
            .shown()
            .iter()
            .flat_map(|observer| observer.findings().iter().map(|finding| (&observer.target, finding)))
            .collect();
        all.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
        all
    }

    /// The place of the finding that keys go to; `None` when they go elsewhere or it is over.
    pub fn finding_place(&self) -> Option<usize> {
        let chosen = self.finding?;
        self.findings().iter().position(|(target, it)| (target.id, it.check, it.subject) == chosen)
    }

    /// Since when there is an incident: something critical, but for short pauses; `None` while all is calm.
    pub fn incident_since(&self) -> Option<Timestamp> {
        self.incident.map(incident::Incident::since).filter(|since| *since <= self.clock())
    }

    /// Sends keys to the finding at a place.
    fn choose_finding(&mut self, place: usize) {
        self.finding = self.findings().get(place).map(|(target, it)| (target.id, it.check, it.subject));
    }

    /// Shows a message for a while.
    pub fn say(&mut self, severity: Severity, text: impl Into<String>) {
        self.toast = Some(Toast { severity, text: text.into(), until: self.until(TOAST), outcome: false });
    }

    fn until(&self, stay: SignedDuration) -> Timestamp {
        self.now.checked_add(stay).unwrap_or(self.now)
    }

    /// Tells the application that what it has now is on the frame that goes to the screen; whether something on it waits
    /// to be told when that is there.
    pub fn framed(&mut self) -> bool {
        self.hearing().is_some_and(Hearing::framed)
    }

    /// Tells the application that the newest frame is on the screen: a question on it listens only from now on.
    pub fn drawn(&mut self, now: Timestamp) {
        if let Some(hearing) = self.hearing() {
            hearing.drawn(now);
        }
    }

    fn hearing(&mut self) -> Option<&mut Hearing> {
        match self.overlay.as_mut()?.question()? {
            Question::One(confirm) => Some(&mut confirm.hearing),
            Question::Many(many) => Some(&mut many.hearing),
        }
    }

    /// The text of a statement as the screen may show it.
    pub fn shown_sql(&self, sql: &str) -> String {
        if self.private { text::masked(sql).into_owned() } else { sql.to_owned() }
    }

    fn take(&mut self, sample: &Sample) {
        let target = sample.target;
        let Some(observer) = self.observers.get_mut(target.0) else { return };
        observer.observe(sample);
        let (name, seen) = (observer.target.name.clone(), observer.take_seen());
        let is_postgres = observer.target.kind == Kind::Postgres;
        for seen in seen {
            self.events.note_seen(&name, seen);
        }
        if is_postgres && matches!(sample.body, Body::Outage(_)) {
            self.interrupt_recovery(target);
        } else if is_postgres {
            self.follow_recovery(target, sample.taken_at);
        }
        let is_critical = self.observers.iter().any(|observer| {
            observer.findings().first().is_some_and(|worst| worst.severity == Severity::Critical)
        });
        self.incident = incident::Incident::after(self.incident, is_critical, sample.taken_at);
        if let Some(replay) = &mut self.replay {
            replay.played = sample.taken_at.max(replay.played);
        }
        if let Some(past) = &mut self.past {
            past.samples_since += usize::from(self.postgres.or(self.redis) == Some(target));
        }
        if self.postgres == Some(target) {
            if self.past.is_none() {
                self.refresh();
            }
            self.watch_question();
        }
    }

    /// Lists the rows of every pane anew: after a sample, a filter, a sort.
    fn refresh(&mut self) {
        let place = self.postgres.map_or(usize::MAX, |id| id.0);
        let live = self.observers.get(place);
        let past = self.past.as_ref().and_then(|past| past.observer(place));
        let tick = past.or(live).and_then(Observer::tick).and_then(Tick::postgres);
        let Some((live, tick)) = live.zip(tick) else { return };
        if let Some(now) = live.tick().and_then(Tick::postgres) {
            self.marks.forget_gone(now);
        }
        // It looks at all sessions of a minute, and has no place on any screen but when it is looked at.
        if self.focus == Pane::Waits {
            self.waits.refresh(live.waits());
            if let Some((sessions, statements)) = self.waits.who(live.waits()) {
                self.activity.only = Some(Only::Waited(sessions));
                self.statements.only = Some(statements);
            }
        }
        self.activity.refresh(tick, &self.options.columns.activity);
        self.locks.refresh(tick);
        self.statements.refresh(tick, &self.options.columns.statements);
        self.tables.refresh(tick, &self.options.columns.tables);
        self.events.refresh();
        let viewport = self.viewport.clone();
        self.resized(viewport);
    }
}
