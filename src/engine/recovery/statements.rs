//! Means of the statements that were in trouble. Who waited for a lock and was freed carries the wait into the mean, so
//! that the cure would look like a slow-down: a mean counts only once every execution from before has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Now;
use crate::engine::findings::Subject;
use crate::format::seconds_between;
use crate::model::Reading;
use crate::model::postgres::{State, StatementKey};

/// Statements that are followed.
const FOLLOWED_MAX: usize = 3;

/// The mean execution time of a statement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mean {
    /// Executions from before have not all ended, or ended in the interval that was counted last.
    Draining,
    /// Milliseconds; `None` where it was not called.
    Of(Option<f64>),
}

/// A statement before and after.
#[derive(Debug, Clone)]
pub struct StatementLine {
    /// The statement.
    pub key: StatementKey,
    /// Its normalised text, once read.
    pub query: Option<Arc<str>>,
    /// Its mean before the incident, milliseconds.
    pub usual_ms: Option<f64>,
    /// Its mean at the baseline, milliseconds.
    pub before_ms: Option<f64>,
    /// The largest mean since, draining left out, milliseconds.
    pub worst_ms: Option<f64>,
    /// Its mean now.
    pub now: Mean,
    /// The client's clock at the baseline.
    set_at: Timestamp,
    /// The server's clock at the first sample since: what began earlier began before.
    began_at: Option<Timestamp>,
    /// The server's clock when no execution from before was left.
    drained_at: Option<Timestamp>,
}

impl StatementLine {
    /// The statements that a finding is about, and the one that most waiting sessions run.
    pub(super) fn in_trouble(now: &Now<'_>) -> Vec<Self> {
        let Some(table) = now.tick.statements.value() else { return Vec::new() };
        let found = now.findings.iter().filter_map(|finding| match finding.subject {
            Subject::Statement(key) => Some(key),
            Subject::Server
            | Subject::Activity
            | Subject::Session(_)
            | Subject::Root(_)
            | Subject::Replication
            | Subject::Cache
            | Subject::Relation(_) => None,
        });
        let mut waiting: BTreeMap<i64, usize> = BTreeMap::new();
        let sessions = now.tick.sample.sessions.value().into_iter().flatten();
        for id in sessions.filter(|session| session.waits_for_lock()).filter_map(|session| session.query_id) {
            *waiting.entry(id).or_default() += 1;
        }
        let most = waiting.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id);
        let row_of = |id: i64| table.rows.iter().find(|row| row.key.queryid == id).map(|row| row.key);
        let mut keys: Vec<StatementKey> = Vec::new();
        for key in most.and_then(row_of).into_iter().chain(found) {
            if !keys.contains(&key) && keys.len() < FOLLOWED_MAX {
                keys.push(key);
            }
        }
        let line = |key: StatementKey| {
            let row = table.rows.iter().find(|row| row.key == key)?;
            Some(Self {
                key,
                query: row.query.clone(),
                usual_ms: row.mean_ms_before.or(row.mean_ms_since_reset),
                before_ms: row.mean_ms,
                worst_ms: row.mean_ms,
                now: Mean::Draining,
                set_at: now.at,
                began_at: None,
                drained_at: None,
            })
        };
        keys.into_iter().filter_map(line).collect()
    }

    pub(super) fn observe(&mut self, now: &Now<'_>) {
        let sample = &now.tick.sample;
        if self.began_at.is_none() && self.set_at < now.at {
            self.began_at = Some(sample.server_time);
        }
        if let (Some(began_at), Reading::Fresh(sessions)) = (self.began_at, &sample.sessions) {
            // Before 14 no session tells the id of its statement: it may be this one.
            let is_left = sessions.iter().any(|session| {
                session.is_client()
                    && session.state == Some(State::Active)
                    && session.query_id.is_none_or(|id| id == self.key.queryid)
                    && !now.tick.sample.server.own_pids.contains(&session.id.pid)
                    && session.query_start.is_some_and(|start| start <= began_at)
            });
            self.drained_at = self.drained_at.or(Some(sample.server_time)).filter(|_| !is_left);
        }
        let (Some(table), Some(read)) = (now.tick.statements.value(), sample.statements.value()) else {
            return;
        };
        let row = table.rows.iter().find(|row| row.key == self.key);
        self.query = self.query.take().or_else(|| row.and_then(|row| row.query.clone()));
        // What was counted last must all have begun after.
        let is_clean = self
            .drained_at
            .zip(table.interval_seconds)
            .is_some_and(|(drained_at, interval)| interval <= seconds_between(drained_at, read.read_at));
        self.now = if is_clean { Mean::Of(row.and_then(|row| row.mean_ms)) } else { Mean::Draining };
        if let Mean::Of(Some(mean)) = self.now {
            self.worst_ms = Some(self.worst_ms.map_or(mean, |worst| worst.max(mean)));
        }
    }
}
