//! Marked sessions: by identity, each with what it was chosen for; and the selections that runbooks ask for.
//!
//! It must not know how a marked session is acted on.

use std::collections::BTreeMap;

use super::activity::find;
use crate::engine::PgTick;
use crate::engine::vitals::is_own;
use crate::format::seconds_between;
use crate::model::action::Still;
use crate::model::postgres::{Session, SessionId, State};

/// What counts as long in the ready-made selections, seconds.
const LONG_SECONDS: f64 = 300.0;

/// What a session was chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
pub enum Rule {
    /// Somebody picked this very session.
    Picked,
    /// Idle for long.
    Idle,
    /// Idle in a transaction for long.
    IdleInTransaction,
    /// Running one statement for long.
    Active,
    /// Of the application of the selected session.
    Application,
}

impl Rule {
    /// The ready-made selections, in the order of the menu.
    pub const READY_MADE: [Self; 4] = [Self::Idle, Self::IdleInTransaction, Self::Active, Self::Application];

    /// What it chooses, in words; `like` is the selected session.
    pub fn label(self, like: Option<&Session>) -> String {
        match (self, like) {
            (Self::Picked, _) => "picked one by one".into(),
            (Self::Idle, _) => "idle longer than 5 minutes".into(),
            (Self::IdleInTransaction, _) => "idle in transaction longer than 5 minutes".into(),
            (Self::Active, _) => "active, one statement longer than 5 minutes".into(),
            (Self::Application, Some(session)) if session.application_name.is_empty() => {
                "all sessions without an application name".into()
            }
            (Self::Application, Some(session)) => {
                format!("all sessions of {}", session.application_name)
            }
            (Self::Application, None) => "all sessions of an application: select one first".into(),
        }
    }

    fn chooses(self, session: &Session, like: Option<&Session>, now: jiff::Timestamp) -> bool {
        let long = |since: Option<jiff::Timestamp>| {
            since.is_some_and(|since| LONG_SECONDS < seconds_between(since, now))
        };
        match self {
            Self::Picked => false,
            Self::Idle => session.state == Some(State::Idle) && long(session.state_change),
            Self::IdleInTransaction => {
                session.state.is_some_and(State::is_idle_in_transaction) && long(session.state_change)
            }
            Self::Active => session.state == Some(State::Active) && long(session.query_start),
            Self::Application => like.is_some_and(|like| like.application_name == session.application_name),
        }
    }

    /// What the server must still find when it acts; `None`: the session, whatever it does.
    pub(super) fn still(self, session: &Session) -> Option<Still> {
        match self {
            Self::Picked => None,
            Self::Idle => Some(Still::Idle { state_change: session.state_change }),
            Self::IdleInTransaction => Some(Still::IdleInTransaction { state_change: session.state_change }),
            Self::Active => Some(Still::Active { query_start: session.query_start }),
            Self::Application => Some(Still::Application(session.application_name.clone())),
        }
    }
}

/// The sessions that a ready-made selection chooses now: clients' sessions other than ours.
pub fn chosen<'a>(rule: Rule, like: Option<&Session>, tick: &'a PgTick) -> Vec<&'a Session> {
    let now = tick.sample.server_time;
    let sessions = tick.sample.sessions.value().into_iter().flatten();
    sessions
        .filter(|session| session.is_client() && !is_own(&tick.sample, session))
        .filter(|session| rule.chooses(session, like, now))
        .collect()
}

/// The marked sessions of the shown server.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    rules: BTreeMap<SessionId, Rule>,
}

impl Marks {
    /// How many sessions are marked.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a session is marked.
    pub fn contains(&self, session: SessionId) -> bool {
        self.rules.contains_key(&session)
    }

    /// Whether each of these processes is marked; false of nobody.
    pub fn contain_all(&self, pids: impl IntoIterator<Item = i32>) -> bool {
        let mut pids = pids.into_iter().peekable();
        let marked = |pid: i32| self.rules.keys().any(|session| session.pid == pid);
        !self.is_empty() && pids.peek().is_some() && pids.all(marked)
    }

    /// Picks these sessions, or unmarks them if all of them are picked: one that a rule has chosen is picked first.
    pub(super) fn toggle(&mut self, sessions: &[SessionId]) {
        if sessions.iter().all(|session| self.rules.get(session) == Some(&Rule::Picked)) {
            self.rules.retain(|session, _| !sessions.contains(session));
        } else {
            self.rules.extend(sessions.iter().map(|session| (*session, Rule::Picked)));
        }
    }

    pub(super) fn mark(&mut self, sessions: impl IntoIterator<Item = SessionId>, rule: Rule) {
        for session in sessions {
            // Whoever was picked stays meant whatever it does.
            self.rules.entry(session).or_insert(rule);
        }
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn forget(&mut self, sessions: impl Iterator<Item = SessionId>) {
        for session in sessions {
            self.rules.remove(&session);
        }
    }

    /// A session that has left is not marked any more.
    pub(super) fn forget_gone(&mut self, tick: &PgTick) {
        if tick.sample.sessions.value().is_some() && !self.is_empty() {
            self.rules.retain(|session, _| find(tick, *session).is_some());
        }
    }

    /// The marked sessions that are there, each with its rule.
    pub(super) fn sessions<'a>(&'a self, tick: &'a PgTick) -> impl Iterator<Item = (&'a Session, Rule)> {
        self.rules.iter().filter_map(|(id, rule)| Some((find(tick, *id)?, *rule)))
    }
}

/// The menu of the ready-made selections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleMenu {
    /// The place of the selected line.
    pub selected: usize,
}

impl RuleMenu {
    pub(super) fn step(self, by: isize) -> Self {
        let last = Rule::READY_MADE.len() - 1;
        Self { selected: self.selected.saturating_add_signed(by).min(last) }
    }

    pub(super) fn rule(self) -> Option<Rule> {
        Rule::READY_MADE.get(self.selected).copied()
    }
}
