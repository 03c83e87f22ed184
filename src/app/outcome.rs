//! What came of an action: told once it is known, and told apart. A signal that was sent is not yet an effect.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::engine::missing::grant;
use crate::engine::{PgTick, Severity, Tick};
use crate::format::{counted, duration_ms};
use crate::model::TargetId;
use crate::model::action::{Action, ActionReply, Counts, Outcome, Record, Seen};
use crate::model::postgres::{SessionId, State};

/// How long the figures of a later tick are waited for before an outcome is told without them.
const PATIENCE: SignedDuration = SignedDuration::from_secs(4);

/// Actions whose outcome has not been told yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    actions: Vec<Watched>,
}

/// An action that was ordered, with what must be known to tell its outcome.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) target: TargetId,
    pub(super) action: Action,
    pub(super) record: Record,
    /// The role that acted, for the right that it may lack.
    pub(super) role: String,
    /// Start of the transaction that was seen.
    pub(super) xact_start: Option<Timestamp>,
    /// Who waited behind the session when it was acted on.
    pub(super) behind: BTreeSet<i32>,
    /// Whether it is one of many, whose outcomes are listed where they were ordered.
    pub(super) one_of_many: bool,
    pub(super) outcome: Option<(Outcome, Timestamp)>,
}

/// An outcome as far as it can be known.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) target: TargetId,
    pub(super) severity: Severity,
    pub(super) record: Record,
    pub(super) one_of_many: bool,
}

impl Pending {
    /// Notes an action.
    pub(super) fn asked(&mut self, watched: Watched) {
        self.actions.push(watched);
    }

    /// Takes what was observed.
    pub(super) fn arrived(&mut self, id: u64, outcome: Outcome, now: Timestamp) {
        let waiting = |watched: &&mut Watched| watched.record.id == id && watched.outcome.is_none();
        if let Some(watched) = self.actions.iter_mut().find(waiting) {
            watched.record.sql.clone_from(&outcome.sql);
            watched.outcome = Some((outcome, now));
        }
    }

    /// The records whose outcome has not been told.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.actions.iter().map(|watched| &watched.record)
    }

    /// The outcomes that can be told: a tick taken after each says who runs again.
    pub(super) fn tell<'a>(
        &mut self,
        now: Timestamp,
        tick: impl Fn(TargetId) -> Option<&'a Tick>,
    ) -> Vec<Told> {
        let can_be_told = |watched: &mut Watched| {
            watched.outcome.as_ref().is_some_and(|(outcome, at)| {
                let later = tick(watched.target).is_some_and(|tick| *at < tick.asked_at && is_fresh(tick));
                later
                    || outcome.reply != Ok(ActionReply::Signalled)
                    || at.checked_add(PATIENCE).is_ok_and(|limit| limit <= now)
            })
        };
        let ready: Vec<Watched> = self.actions.extract_if(.., can_be_told).collect();
        ready.into_iter().filter_map(|watched| watched.told(&tick)).collect()
    }
}

fn is_fresh(tick: &Tick) -> bool {
    tick.postgres().is_some_and(|tick| tick.forest.stale_since().is_none())
}

/// The figures of a moment; `pid` is the session that is meant.
pub(super) fn counts(tick: &PgTick, pid: i32) -> Counts {
    Counts {
        connections: tick.vitals.connections,
        active: tick.vitals.active,
        blocked: tick.vitals.blocked,
        behind: tick.forest.value().map(|forest| forest.behind(pid)),
    }
}

/// What came of one of many, in a few words.
pub(super) fn in_short(outcome: &Outcome) -> (Severity, String) {
    let ended = if outcome.action.is_cancel() { "cancelled" } else { "gone" };
    match (&outcome.reply, outcome.effect_after_seconds) {
        (Err(reason), _) => {
            (Severity::Critical, format!("not known whether it was signalled: {}", reason.text))
        }
        (Ok(ActionReply::Withdrawn), _) => (Severity::Notice, "withdrawn before it was sent".into()),
        (Ok(ActionReply::Failed(reason)), _) => (Severity::Critical, format!("failed: {}", reason.text)),
        (Ok(ActionReply::NotPermitted(text)), _) => (Severity::Critical, format!("not permitted: {text}")),
        (Ok(ActionReply::Gone), _) => (Severity::Notice, "was already gone".into()),
        (Ok(ActionReply::Changed(_)), _) => (Severity::Notice, "left alone: changed since".into()),
        (Ok(ActionReply::Signalled), Some(seconds)) => {
            (Severity::Notice, format!("{ended} after {}", duration_ms(seconds * 1000.0)))
        }
        (Ok(ActionReply::Signalled), None) => (Severity::Warning, "signalled, no effect seen yet".into()),
    }
}

impl Watched {
    fn told<'a>(self, tick: &impl Fn(TargetId) -> Option<&'a Tick>) -> Option<Told> {
        let (outcome, at) = self.outcome.as_ref()?;
        let later =
            tick(self.target).filter(|tick| *at < tick.asked_at && is_fresh(tick)).and_then(Tick::postgres);
        let (severity, sentence) = self.sentence(outcome, later);
        let after = later.map(|tick| counts(tick, self.action.session().pid));
        let record = Record { outcome: Some(sentence), after, ..self.record };
        Some(Told { target: self.target, severity, record, one_of_many: self.one_of_many })
    }

    fn sentence(&self, outcome: &Outcome, later: Option<&PgTick>) -> (Severity, String) {
        let SessionId { pid, backend_start } = self.action.session();
        let whom = &self.record.session;
        let name = if whom.application.is_empty() { &whom.user } else { &whom.application };
        let who = if name.is_empty() { pid.to_string() } else { format!("{pid} {name}") };
        let verb = if self.action.is_cancel() { "cancel" } else { "terminate" };
        match &outcome.reply {
            Err(reason) => (Severity::Critical, format!("{verb} {who}: {reason}")),
            Ok(ActionReply::Failed(reason)) => (Severity::Critical, format!("{verb} {who} failed: {reason}")),
            Ok(ActionReply::NotPermitted(text)) => {
                let hint = if text.to_lowercase().contains("superuser") {
                    "only a superuser may".to_owned()
                } else {
                    grant("pg_signal_backend", &self.role)
                };
                (Severity::Critical, format!("{verb} {who} not permitted: {hint} ({text})"))
            }
            Ok(ActionReply::Withdrawn) => {
                (Severity::Notice, format!("{verb} {who}: withdrawn, nothing was signalled"))
            }
            Ok(ActionReply::Gone) => {
                (Severity::Notice, format!("{who} was already gone, nothing was signalled"))
            }
            Ok(ActionReply::Changed(seen)) => {
                (Severity::Warning, changed(&who, backend_start, seen, &self.action))
            }
            Ok(ActionReply::Signalled)
                if outcome.effect_after_seconds.is_none() && outcome.seen.is_none() =>
            {
                (Severity::Warning, format!("{who}: signal sent, what came of it could not be observed"))
            }
            Ok(ActionReply::Signalled) if self.action.is_cancel() => self.cancelled(&who, outcome, later),
            Ok(ActionReply::Signalled) => match outcome.effect_after_seconds {
                Some(seconds) => (
                    Severity::Notice,
                    format!(
                        "terminated {who}: gone after {}{}",
                        duration_ms(seconds * 1000.0),
                        self.freed(later)
                    ),
                ),
                None => (
                    Severity::Warning,
                    format!("{who}: signal sent, still there; it ends when it next checks for interrupts"),
                ),
            },
        }
    }

    fn cancelled(&self, who: &str, outcome: &Outcome, later: Option<&PgTick>) -> (Severity, String) {
        let Some(seconds) = outcome.effect_after_seconds else {
            return (Severity::Warning, format!("{who}: cancel sent, no effect yet; K terminates it"));
        };
        let ended = format!("cancelled {who}: statement ended after {}", duration_ms(seconds * 1000.0));
        // A client with savepoints goes on in the same transaction, with all its locks.
        let in_transaction = outcome.seen.is_some_and(|seen| {
            seen.state.is_some_and(State::is_idle_in_transaction)
                || (seen.xact_start.is_some() && seen.xact_start == self.xact_start)
        });
        if !in_transaction {
            return (Severity::Notice, format!("{ended}, locks released{}", self.freed(later)));
        }
        let behind = later
            .and_then(|tick| tick.forest.value())
            .map_or(0, |forest| forest.behind(self.action.session().pid));
        let blocking = if behind > 0 { format!(" and blocking {behind}") } else { String::new() };
        (Severity::Warning, format!("{ended}, still in its transaction{blocking}; K terminates it"))
    }

    /// Of those who waited behind it: how many run again, how many still queue.
    fn freed(&self, later: Option<&PgTick>) -> String {
        if self.behind.is_empty() {
            return String::new();
        }
        let Some(forest) = later.and_then(|tick| tick.forest.value()) else {
            return format!(", {} waited behind it", counted(self.behind.len(), "session"));
        };
        let queueing = self.behind.iter().filter(|pid| forest.is_waiting(**pid)).count();
        let sessions =
            later.and_then(|tick| tick.sample.sessions.value()).map(Vec::as_slice).unwrap_or_default();
        let state =
            |pid: i32| sessions.iter().find(|session| session.id.pid == pid).map(|session| session.state);
        // Whoever has left, or whose transaction has failed, does not run again.
        let ended = |pid: &&i32| matches!(state(**pid), None | Some(Some(State::IdleInTransactionAborted)));
        let ended = self.behind.iter().filter(|pid| !forest.is_waiting(**pid)).filter(ended).count();
        let parts = [
            (self.behind.len() - queueing - ended, "run again"),
            (queueing, "still queue"),
            (ended, "ended"),
        ];
        parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!(", {count} {what}"))
            .collect::<Vec<_>>()
            .concat()
    }
}

fn changed(who: &str, backend_start: Option<Timestamp>, seen: &Seen, action: &Action) -> String {
    if seen.backend_start != backend_start {
        return format!("{who} is gone and another session has that pid now: nothing was signalled");
    }
    let what = match action {
        Action::Cancel { .. } => "runs another statement or none now",
        Action::Terminate { .. } => "runs another transaction or none now",
        Action::TerminateAny { .. } | Action::TerminateIf { .. } => "is no longer what it was chosen for",
    };
    format!("{who} {what}: nothing was signalled, look again")
}
