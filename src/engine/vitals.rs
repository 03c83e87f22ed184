//! The figures of the vitals line, and what the active sessions wait for.

use std::collections::BTreeMap;

use super::locks::Forest;
use super::rates::{self, Deltas};
use crate::format::seconds_between;
use crate::model::postgres::{Sample, Session, State};

/// The figures of the vitals line. Own connections count as connections, and as nothing else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PgVitals {
    /// Client connections, ours included: these fill the slots.
    pub connections: Option<usize>,
    /// Client sessions that run a statement; `None` when our role may not see states.
    pub active: Option<usize>,
    /// Sessions that wait for a lock.
    pub blocked: Option<usize>,
    /// Sessions that are idle in a transaction.
    pub idle_in_transaction: Option<usize>,
    /// Age of the longest `idle in transaction`, seconds.
    pub longest_idle_in_transaction_seconds: Option<f64>,
    /// Age of the oldest transaction of a client, seconds; `None` also when there is none.
    pub oldest_transaction_seconds: Option<f64>,
    /// Transactions per second, ours included.
    pub transactions_per_second: Option<f64>,
    /// Share of transactions that rolled back.
    pub rollback_ratio: Option<f64>,
    /// Transactions rolled back per second; `None` before a second sample.
    pub rollbacks_per_second: Option<f64>,
    /// Share of blocks found in the buffer cache.
    pub buffer_hit_ratio: Option<f64>,
}

/// Derives the vitals of one sample.
pub fn postgres(sample: &Sample, forest: Option<&Forest>, deltas: &Deltas, seconds: Option<f64>) -> PgVitals {
    let sessions = sample.sessions.value();
    let clients: Option<Vec<&Session>> = sessions.map(|all| all.iter().filter(|s| s.is_client()).collect());
    let connections = clients.as_ref().map(Vec::len);
    let clients = clients.map(|mut clients| {
        clients.retain(|s| !is_own(sample, s));
        clients
    });
    let others = |wanted: fn(&Session) -> bool| {
        clients.as_ref().map(move |all| all.iter().copied().filter(move |s| wanted(s)))
    };
    let sees_states = sample.rights.read_all_stats || sample.rights.superuser;
    let seen = |wanted: fn(&Session) -> bool| others(wanted).filter(|_| sees_states).map(Iterator::count);
    let oldest = |start: fn(&Session) -> Option<jiff::Timestamp>, wanted: fn(&Session) -> bool| {
        others(wanted)?
            .filter_map(start)
            .map(|at| seconds_between(at, sample.server_time).max(0.0))
            .max_by(f64::total_cmp)
    };
    let waiting = sessions.map(|all| all.iter().filter(|s| s.waits_for_lock() && !is_own(sample, s)).count());
    let idle_in_transaction = |s: &Session| s.state.is_some_and(State::is_idle_in_transaction);
    let (mut commits, mut rollbacks) = (0, 0);
    for delta in deltas.iter().flat_map(BTreeMap::values) {
        commits += delta.commits;
        rollbacks += delta.rollbacks;
    }
    let transactions = rates::float(commits + rollbacks);
    PgVitals {
        connections,
        active: seen(|s| s.state == Some(State::Active)),
        blocked: forest
            .map(|forest| forest.blocked_sessions)
            .filter(|_| !sees_states || sample.locks.stale_since().is_none())
            .or(waiting),
        idle_in_transaction: seen(idle_in_transaction),
        longest_idle_in_transaction_seconds: oldest(|s| s.state_change, idle_in_transaction),
        oldest_transaction_seconds: oldest(|s| s.xact_start, |_| true).filter(|_| sees_states),
        transactions_per_second: seconds.filter(|_| deltas.is_some()).map(|seconds| transactions / seconds),
        rollbacks_per_second: seconds
            .filter(|_| deltas.is_some())
            .map(|seconds| rates::float(rollbacks) / seconds),
        rollback_ratio: seconds.and_then(|_| rates::ratio(rates::float(rollbacks), transactions)),
        buffer_hit_ratio: rates::postgres_cache(deltas, seconds).buffer_hit_ratio,
    }
}

/// Whether the session is one of ours.
pub fn is_own(sample: &Sample, session: &Session) -> bool {
    sample.server.own_pids.contains(&session.id.pid)
}

/// Whether an application is one of those that are left alone: by the beginning of its name, in capitals or not.
pub fn is_protected(application: &str, protected: &[String]) -> bool {
    let name = application.to_lowercase();
    protected.iter().any(|known| !known.is_empty() && name.starts_with(&known.to_lowercase()))
}

/// How many sessions, on average over the samples taken, were active with this wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    /// `wait_event_type`, or `CPU*` for active without a wait: the star because not every path is instrumented.
    pub class: String,
    /// `wait_event`; empty for `CPU*`.
    pub event: String,
    /// Average active sessions.
    pub average_active_sessions: f64,
}

/// Counts of active sessions by wait, summed over samples.
#[derive(Debug, Default)]
pub struct WaitCounts {
    samples: u32,
    counts: BTreeMap<(String, String), u32>,
}

impl WaitCounts {
    /// Adds the active sessions of one sample.
    pub fn add(&mut self, sample: &Sample) {
        let Some(sessions) = sample.sessions.value() else { return };
        self.samples += 1;
        let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for session in
            sessions.iter().filter(|s| s.is_client() && s.state == Some(State::Active) && !is_own(sample, s))
        {
            let class = session.wait_event_type.as_deref().unwrap_or("CPU*");
            *counts.entry((class, session.wait_event.as_deref().unwrap_or_default())).or_default() += 1;
        }
        for ((class, event), count) in counts {
            *self.counts.entry((class.to_owned(), event.to_owned())).or_default() += count;
        }
    }

    /// The averages, largest first.
    pub fn averages(&self) -> Vec<Wait> {
        let mut averages: Vec<_> = self
            .counts
            .iter()
            .map(|((class, event), count)| Wait {
                class: class.clone(),
                event: event.clone(),
                average_active_sessions: f64::from(*count) / f64::from(self.samples.max(1)),
            })
            .collect();
        averages.sort_by(|a, b| b.average_active_sessions.total_cmp(&a.average_active_sessions));
        averages
    }
}
