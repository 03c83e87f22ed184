//! From a question to an outcome: what is asked stays live, what is answered becomes an order, what came of it is told.
//!
//! It must not know how an order is carried out.

use jiff::Timestamp;

use super::many::Phase;
use super::overlay::Question;
use super::{App, Confirm, Effect, Many, OUTCOME_TOAST, Order, Overlay, Toast, outcome};
use crate::engine::recovery::{Recovery, Watch};
use crate::engine::vitals::is_protected;
use crate::engine::{Observer, Tick};
use crate::format::seconds_between;
use crate::model::TargetId;
use crate::model::action::{Action, Record, Verb, Whom};
use crate::model::postgres::{Session, SessionId};
use crate::recording::Note;

/// What a baseline says of acting on many.
const MANY: &str = "many sessions";
/// What a baseline says that a key has set.
pub(super) const BY_HAND: &str = "set by hand";
/// The signals of one batch come within this time of its baseline.
const BATCH_SECONDS: f64 = 60.0;

impl App {
    /// Asks about one session.
    pub(super) fn ask(&mut self, session: Session, cancel: bool) -> Vec<Effect> {
        let (Some(target), Some(tick)) = (self.postgres, self.pg()) else { return Vec::new() };
        let protected = is_protected(&session.application_name, &self.options.limits.protect);
        let confirm = Confirm::new(target, session, tick, cancel, protected);
        let (pid, waiter) = (confirm.session.id.pid, confirm.waiter);
        self.overlay = Some(Overlay::Confirm(Box::new(confirm)));
        vec![Effect::ReadHoldings(target, pid, waiter)]
    }

    /// Asks about the marked sessions.
    pub(super) fn ask_many(&mut self, cancel: bool) -> Vec<Effect> {
        let (Some(target), Some(tick)) = (self.postgres, self.pg()) else { return Vec::new() };
        let many = Many::new(target, &self.marks, tick, cancel, &self.options.limits);
        self.overlay = Some(Overlay::Many(Box::new(many)));
        if cancel { Vec::new() } else { vec![Effect::ReadAdvisoryHolders(target)] }
    }

    /// What cannot be seen must neither be answered nor go on.
    pub(super) fn withdraw_question(&mut self) {
        match self.overlay.as_mut().and_then(Overlay::question) {
            Some(Question::Many(many)) if many.phase != Phase::Asking => many.stop(),
            Some(Question::One(_) | Question::Many(_)) => self.overlay = None,
            None => {}
        }
    }

    /// The signals of a batch whose turn has come.
    pub(super) fn order_next(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let now = self.now;
            let Some(Overlay::Many(many)) = &mut self.overlay else { return effects };
            let target = many.target;
            let Some(due) = many.take_due(now) else { return effects };
            let id = self.events.next_id();
            due.mark_ordered(id);
            let (action, whom, xact_start) = (due.action.clone(), due.whom.clone(), due.session.xact_start);
            effects.push(self.order(target, action, whom, xact_start, Some(id)));
        }
    }

    /// Calls back what was ordered before a stop.
    pub(super) fn withdraw_stopped(&mut self) -> Option<Effect> {
        let Some(Overlay::Many(many)) = &mut self.overlay else { return None };
        let records = many.take_withdrawn();
        (!records.is_empty()).then_some(Effect::Withdraw(records))
    }

    /// Orders an action and keeps it in mind until its outcome can be told; one of many brings its record's number.
    pub(super) fn order(
        &mut self,
        target: TargetId,
        action: Action,
        whom: Whom,
        xact_start: Option<Timestamp>,
        one_of_many: Option<u64>,
    ) -> Effect {
        let observer = self.observers.get(target.0);
        let tick = observer.and_then(Observer::tick).and_then(Tick::postgres);
        let role = tick.map(|tick| tick.sample.rights.user.clone()).unwrap_or_default();
        let behind = tick.and_then(|tick| tick.forest.value()).map(|forest| forest.pids_behind(whom.pid));
        let record = Record {
            id: one_of_many.unwrap_or_else(|| self.events.next_id()),
            at: self.now,
            by: self.options.operator.clone(),
            target: observer.map(|observer| observer.target.name.clone()).unwrap_or_default(),
            action: if action.is_cancel() { Verb::Cancel } else { Verb::Terminate },
            before: tick.map(|tick| outcome::counts(tick, whom.pid)).unwrap_or_default(),
            session: whom,
            sql: String::new(),
            outcome: None,
            after: None,
        };
        self.note_order(record.clone(), target, one_of_many.is_some());
        self.pending.asked(outcome::Watched {
            target,
            action: action.clone(),
            record: record.clone(),
            role,
            xact_start,
            behind: behind.unwrap_or_default(),
            one_of_many: one_of_many.is_some(),
            outcome: None,
        });
        Effect::Act(Box::new(Order { target, action, record, one_of_many: one_of_many.is_some() }))
    }

    /// An action is an event, and sets a baseline; the first of many does for all of them.
    fn note_order(&mut self, record: Record, target: TargetId, is_one_of_many: bool) {
        let last = self.recovery_watch(target).and_then(Watch::last);
        let is_of_batch = |recovery: &Recovery| {
            recovery.cause == MANY && seconds_between(recovery.at, record.at) < BATCH_SECONDS
        };
        if !(is_one_of_many && last.is_some_and(is_of_batch)) {
            let whom = &record.session;
            let session = SessionId { pid: whom.pid, backend_start: whom.backend_start };
            let (cause, session) = if is_one_of_many {
                (MANY.to_owned(), None)
            } else {
                (format!("{} {} {}", record.action, whom.pid, whom.application), Some(session))
            };
            self.set_baseline(target, record.at, cause, session);
        }
        self.events.note(record, None);
    }

    /// Takes what was recorded as it was taken live.
    pub(super) fn take_note(&mut self, note: Note) {
        match note {
            Note::Action(record, target, None, is_one_of_many) => {
                self.note_order(*record, target, is_one_of_many);
            }
            Note::Action(record, _, severity, _) => self.events.note(*record, severity),
            Note::Baseline(at, target) => self.set_baseline(target, at, BY_HAND.to_owned(), None),
        }
    }

    /// A question stays live: what has changed since it was asked is marked, and a changed session disarms it.
    pub(super) fn watch_question(&mut self) {
        let of = |target: TargetId| {
            let observer = self.observers.get(target.0)?;
            Some((observer.tick()?.postgres()?, observer.outage().is_some()))
        };
        match self.overlay.as_mut().and_then(Overlay::question) {
            Some(Question::One(confirm)) => {
                if let Some((tick, is_outage)) = of(confirm.target) {
                    confirm.watch(tick, is_outage);
                }
            }
            Some(Question::Many(many)) => {
                if let Some((tick, is_outage)) = of(many.target) {
                    many.watch(tick, is_outage);
                }
            }
            None => {}
        }
    }

    /// Tells the outcomes that are known by now: each is an event, and one that was ordered alone is told at the
    /// bottom, one after the other, long enough to be read.
    pub(super) fn tell_outcomes(&mut self) -> Vec<Effect> {
        let observers = &self.observers;
        let tick = |target: TargetId| observers.get(target.0).and_then(Observer::tick);
        let mut effects = Vec::new();
        for told in self.pending.tell(self.now, tick) {
            if !told.one_of_many {
                self.untold.push_back((told.severity, told.record.outcome.clone().unwrap_or_default()));
            }
            self.events.note(told.record.clone(), Some(told.severity));
            effects.push(Effect::Keep(Box::new(told.record), told.target, told.severity));
        }
        if self.toast.as_ref().is_none_or(|toast| !toast.outcome)
            && let Some((severity, text)) = self.untold.pop_front()
        {
            self.toast = Some(Toast { severity, text, until: self.until(OUTCOME_TOAST), outcome: true });
        }
        effects
    }
}
