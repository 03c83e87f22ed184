//! What has changed while we watched: restarts, the role of the server, settings, standbys that have gone, slots that
//! nobody uses.
//!
//! It must not know how bad that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Severity;
use super::replication::Replication;
use crate::model::postgres::{Checkpoints, Sample, Upkeep};

/// Standbys that are remembered at most.
const STANDBYS_MAX: usize = 100;
/// Changes that wait to be told.
const SEEN_MAX: usize = 200;

/// What was seen to change; times are the client's.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// When a restart was seen; `None` while there was none.
    pub restarted_at: Option<Timestamp>,
    /// When the server was seen to have become a primary, or a standby.
    pub role_changed_at: Option<Timestamp>,
    /// When each physical standby was last seen, by the name that it gives.
    pub standbys: BTreeMap<Arc<str>, Timestamp>,
    /// The checkpoints counted when watching began, or since the counters went down.
    pub checkpoints: Option<Checkpoints>,
    /// Since when each slot was seen to be used by nobody.
    pub slots_inactive: BTreeMap<Arc<str>, Timestamp>,
    /// Logins that waited for a lock in the last two readings.
    pub stuck_logins: Vec<i32>,
    /// Checksum failures of the worst database when watching began.
    pub checksum_failures: Option<i64>,
    /// Errors of each subscription when it was first seen.
    pub subscription_errors: BTreeMap<Arc<str>, i64>,
    /// What has changed and was not told yet, in order.
    pub seen: Vec<Seen>,
    upkeep: Option<Arc<Upkeep>>,
    started_at: Option<Timestamp>,
    in_recovery: Option<bool>,
    databases_reset: Option<Timestamp>,
    statements_reset: Option<Timestamp>,
}

/// Something that was seen to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When that was seen, by the client's clock.
    pub at: Timestamp,
    /// What kind of thing it is.
    pub kind: SeenKind,
    /// How it is meant.
    pub severity: Severity,
    /// What it was, in a sentence.
    pub what: String,
}

/// The kinds of things that are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenKind {
    /// Something is found.
    Began,
    /// It is worse than it was.
    Worse,
    /// It is found no more.
    Over,
    /// The server gives no data, or gives them again.
    Outage,
    /// The server, its role, a setting or its counters have changed.
    Changed,
    /// A baseline, or the verdict on it.
    Recovery,
}

impl Changes {
    /// Compares a sample with those before it.
    pub(super) fn observe(&mut self, sample: &Sample, replication: &Replication, now: Timestamp) {
        let server = &sample.server;
        if self.started_at.replace(server.started_at).is_some_and(|before| before != server.started_at) {
            self.restarted_at = Some(now);
            self.see(now, Severity::Warning, "the server was restarted".to_owned());
        }
        if self.in_recovery.replace(server.in_recovery).is_some_and(|before| before != server.in_recovery) {
            self.role_changed_at = Some(now);
            let role = if server.in_recovery { "a standby" } else { "a primary" };
            self.see(now, Severity::Warning, format!("the server has become {role}"));
            // The standbys of before followed another server.
            self.standbys.clear();
        }
        self.observe_slots(replication, now);
        self.observe_resets(sample, now);
        let failures =
            sample.databases.value().into_iter().flatten().filter_map(|it| it.checksum_failures).max();
        self.checksum_failures = self.checksum_failures.or(failures);
        if let Some(upkeep) = &sample.upkeep {
            self.observe_upkeep(upkeep, now);
        }
        let checkpoints = sample.upkeep.as_ref().and_then(|upkeep| upkeep.checkpoints.value());
        if let Some(now) = checkpoints
            && self.checkpoints.is_none_or(|first| now.requested < first.requested || now.timed < first.timed)
        {
            self.checkpoints = Some(*now);
        }
        let standbys = replication.standbys.value().into_iter().flatten();
        // A base backup, or a subscriber that synchronises a table, comes and goes.
        let lasting = standbys.filter(|it| matches!(it.state.as_deref(), Some("streaming" | "catchup")));
        for standby in lasting {
            let is_known = self.standbys.contains_key(&standby.application);
            if is_known || self.standbys.len() < STANDBYS_MAX {
                self.standbys.insert(Arc::clone(&standby.application), now);
            }
        }
    }

    fn observe_slots(&mut self, replication: &Replication, now: Timestamp) {
        let Some(slots) = replication.slots.value() else { return };
        let before = std::mem::take(&mut self.slots_inactive);
        let inactive = slots.iter().filter(|it| !it.slot.active).map(|it| &it.slot.name);
        let since = |name: &Arc<str>| (Arc::clone(name), before.get(name).copied().unwrap_or(now));
        self.slots_inactive = inactive.map(since).collect();
    }

    /// Compares what is read seldom with the reading before.
    fn observe_upkeep(&mut self, upkeep: &Arc<Upkeep>, now: Timestamp) {
        let before = self.upkeep.replace(Arc::clone(upkeep));
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, upkeep)) {
            return;
        }
        for subscription in upkeep.subscriptions.value().into_iter().flatten() {
            let errors = subscription.errors.unwrap_or_default();
            self.subscription_errors.entry(Arc::clone(&subscription.name)).or_insert(errors);
        }
        let stuck =
            |upkeep: &Upkeep| upkeep.lock_usage.value().map(|it| it.stuck_pids.clone()).unwrap_or_default();
        let stuck_before = before.as_deref().map(stuck).unwrap_or_default();
        self.stuck_logins = stuck(upkeep);
        self.stuck_logins.retain(|pid| stuck_before.contains(pid));
        let settings_before =
            before.as_ref().and_then(|before| before.settings.value()).into_iter().flatten();
        let settings_before: BTreeMap<_, _> = settings_before.map(|it| (&it.name, &it.value)).collect();
        for setting in upkeep.settings.value().into_iter().flatten() {
            let Some(value) = settings_before.get(&setting.name).filter(|value| **value != &setting.value)
            else {
                continue;
            };
            self.see(
                now,
                Severity::Notice,
                format!("{} changed from {value} to {}", setting.name, setting.value),
            );
        }
    }

    /// Nobody may ask for what a report has seen: then only the newest are kept.
    fn see(&mut self, at: Timestamp, severity: Severity, what: String) {
        self.note(Seen { at, kind: SeenKind::Changed, severity, what });
    }

    /// Keeps what was seen until somebody asks for it.
    pub(super) fn note(&mut self, seen: Seen) {
        if self.seen.len() >= SEEN_MAX {
            self.seen.remove(0);
        }
        self.seen.push(seen);
    }

    /// Counters that began anew: what they say of before is lost.
    fn observe_resets(&mut self, sample: &Sample, now: Timestamp) {
        let databases = sample.databases.value().into_iter().flatten().filter_map(|it| it.stats_reset).max();
        let is_new = |before: &mut Option<Timestamp>, reset: Option<Timestamp>| {
            let Some(reset) = reset else { return false };
            before.replace(reset).is_some_and(|before| before < reset)
        };
        if is_new(&mut self.databases_reset, databases) {
            self.see(now, Severity::Notice, "the statistics of a database were reset".to_owned());
        }
        let statements = sample.statements.value().and_then(|read| read.stats_reset);
        if is_new(&mut self.statements_reset, statements) {
            self.see(now, Severity::Notice, "pg_stat_statements was reset".to_owned());
        }
    }
}
