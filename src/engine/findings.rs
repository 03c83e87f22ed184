//! Findings: what is wrong, in sentences, worst first, with the evidence and what helps.
//!
//! A check is one small rule in a file of its own: it answers quiet, not yet, or found. Adding one touches its
//! file and the list below.

mod archiver;
mod blocking;
mod buffer_hit_rate;
mod checkpoints;
mod checksum_failures;
mod common;
mod conflicts;
mod connection_hog;
mod connections;
mod dead_tuples;
mod deadlocks;
mod idle_in_transaction;
mod idle_sessions;
mod invalid_index;
mod locks_near_limit;
mod logins_stuck;
mod long_transaction;
mod operation_spike;
mod pending_restart;
mod pooler;
mod query_latency;
mod redis_clients;
mod redis_cluster;
mod redis_evictions;
mod redis_hit_rate;
mod redis_memory;
mod redis_monitor;
mod redis_persistence;
mod redis_replication;
mod redis_slowlog;
mod replay_conflict;
mod replication_lag;
mod restart;
mod role_change;
mod rollback_ratio;
mod slot_inactive;
mod slot_lost;
mod slot_retention;
mod slow_active;
mod slow_statement;
mod stale_statistics;
mod standby_gone;
mod statement_regression;
mod subscription_errors;
mod sync_rep_stalled;
mod temp_files;
mod thresholds;
mod unreachable;
mod wal_rate;
mod wraparound;
mod xmin_horizon;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

pub use self::common::sees_all;
use self::common::{largest_first, named, redis_upkeep, rows_of_statements, takes, upkeep, who};
pub use self::thresholds::{Limits, Thresholds};
use super::changes::{Changes, Seen, SeenKind};
use super::history::Mean;
use super::{History, Metric, PgTick, RedisTick, Tick};
use crate::format;
pub use crate::model::Severity;
use crate::model::postgres::{Oid, SessionId, StatementKey};
use crate::model::{Kind, Outage};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence with the numbers.
    pub summary: String,
    /// Since when it has been seen, by the client's clock.
    pub since: Timestamp,
    /// What is meant: where `Enter` goes.
    pub subject: Subject,
    /// What helps, in words.
    pub help: String,
    /// The number and the limit it passed.
    pub evidence: Evidence,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The server as a whole.
    Server,
    /// The sessions taken together.
    Activity,
    /// One session, best seen in the list of sessions.
    Session(SessionId),
    /// One session that others wait for, best seen in the lock forest; 0 where the root is no session.
    Root(i32),
    /// One statement, best seen among the counters.
    Statement(StatementKey),
    /// Standbys, slots and replay.
    Replication,
    /// Caches: that of PostgreSQL, or Redis.
    Cache,
    /// One table or index of the connected database.
    Relation(Oid),
}

impl Subject {
    const fn root(self) -> Option<i32> {
        match self {
            Self::Root(pid) => Some(pid),
            Self::Server
            | Self::Activity
            | Self::Session(_)
            | Self::Statement(_)
            | Self::Replication
            | Self::Cache
            | Self::Relation(_) => None,
        }
    }
}

/// The number that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evidence {
    /// What was measured.
    pub value: f64,
    /// The limit that it passed.
    pub threshold: f64,
    /// The unit of both.
    pub unit: &'static str,
}

/// What a check answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// All is well.
    Quiet,
    /// It cannot tell; the text says why.
    NotYet(&'static str),
    /// Something is wrong.
    Found(Vec<Found>),
}

/// A finding without what is the same for every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence with the numbers.
    pub summary: String,
    /// What is meant.
    pub subject: Subject,
    /// What helps, in words.
    pub help: String,
    /// The number and the limit it passed.
    pub evidence: Evidence,
}

/// What a check may look at.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Which kind of server it is.
    pub kind: Kind,
    /// The last good sample's meaning; it may be old when there is an outage.
    pub tick: Option<&'a Tick>,
    /// Why there are no data now.
    pub outage: Option<&'a Outage>,
    /// Whether this is a report, which watches for seconds only: then nothing waits for a second tick, and figures over
    /// some time are those of the time that there was.
    pub is_report: bool,
    /// What was seen to change.
    pub changes: &'a Changes,
    /// The figures of the last hour.
    pub history: &'a History,
    /// The limits in force.
    pub thresholds: &'a Thresholds,
    /// Now, by the client's clock.
    pub now: Timestamp,
}

/// Why most checks cannot tell at first.
const NO_SAMPLE: Verdict = Verdict::NotYet("no sample yet");

/// A minute, for figures that are judged over one.
const MINUTE_SECONDS: f64 = 60.0;

impl<'a> Situation<'a> {
    /// The present tick of a PostgreSQL server; `None` while there are no data, so that nothing old is judged.
    fn postgres(&self) -> Option<&'a PgTick> {
        self.tick.filter(|_| self.outage.is_none()).and_then(Tick::postgres)
    }

    /// The same for Redis.
    fn redis(&self) -> Option<&'a RedisTick> {
        self.tick.filter(|_| self.outage.is_none()).and_then(Tick::redis)
    }

    /// The mean of a figure over some time; `None` until it was watched for as long. In a report over the time that
    /// there was, which the sentence then tells.
    fn mean(&self, metric: Metric, seconds: f64) -> Option<Mean> {
        if self.is_report && metric.spans_report() {
            return self.history.mean_of_report(metric, seconds);
        }
        self.history.mean(metric, seconds).filter(|mean| self.is_report || seconds <= mean.seconds)
    }
}

/// Tables that one check tells at most: more of them are no news.
const TABLES_TOLD_MAX: usize = 3;

/// What was told with the tick before, by subject.
type Told = BTreeMap<Subject, Track>;

/// A named rule.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name: in the config, in reports, in the documentation.
    pub id: &'static str,
    /// What it looks for.
    pub doc: &'static str,
    /// The kind of server that it looks at; `None` for any.
    pub kind: Option<Kind>,
    /// In how many ticks in a row it must be found before it is told: more than one for a figure of a moment, one for
    /// what has an age.
    pub ticks: u32,
    rule: fn(&Situation<'_>, &Told) -> Verdict,
}

impl Check {
    const fn of(kind: Kind, id: &'static str, doc: &'static str, rule: Rule) -> Self {
        Self { id, doc, kind: Some(kind), ticks: 1, rule }
    }

    /// Found in two ticks in a row before it is told.
    const fn twice(self) -> Self {
        Self { ticks: 2, ..self }
    }
}

type Rule = fn(&Situation<'_>, &Told) -> Verdict;

/// How bad a finding was told to be with the tick before.
fn severity_told(told: &Told, subject: Subject) -> Option<Severity> {
    told.get(&subject).map(|track| track.severity)
}

/// Every check, in the order of the decision tree: reachable, connections, locks, transactions, statements, replication,
/// resources, Redis.
pub const CHECKS: &[Check] = &[
    unreachable::CHECK,
    restart::CHECK,
    role_change::CHECK,
    connections::CHECK,
    connection_hog::CHECK,
    idle_sessions::CHECK,
    logins_stuck::CHECK,
    blocking::CHECK,
    deadlocks::CHECK,
    locks_near_limit::CHECK,
    sync_rep_stalled::CHECK,
    replay_conflict::CHECK,
    idle_in_transaction::CHECK,
    long_transaction::CHECK,
    xmin_horizon::CHECK,
    statement_regression::CHECK,
    slow_active::CHECK,
    slow_statement::CHECK,
    query_latency::CHECK,
    operation_spike::CHECK,
    rollback_ratio::CHECK,
    standby_gone::CHECK,
    replication_lag::CHECK,
    conflicts::CHECK,
    slot_lost::CHECK,
    slot_retention::CHECK,
    slot_inactive::CHECK,
    subscription_errors::CHECK,
    wal_rate::CHECK,
    buffer_hit_rate::CHECK,
    temp_files::CHECK,
    checkpoints::CHECK,
    archiver::CHECK,
    checksum_failures::CHECK,
    wraparound::CHECK,
    dead_tuples::CHECK,
    stale_statistics::CHECK,
    invalid_index::CHECK,
    pending_restart::CHECK,
    unreachable::REDIS,
    unreachable::REDIS_BLOCKED,
    redis_memory::CHECK,
    redis_persistence::CHECK,
    redis_cluster::CHECK,
    redis_hit_rate::CHECK,
    redis_evictions::CHECK,
    redis_clients::CHECK,
    redis_replication::CHECK,
    redis_monitor::CHECK,
    redis_slowlog::CHECK,
    pooler::CHECK,
];

/// The checks that look at this kind of server.
pub fn checks_of(kind: Kind) -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().filter(move |check| check.kind.is_none_or(|it| it == kind))
}

/// Whether the same check has found both of the same thing.
fn is_same(one: &Finding, other: &Finding) -> bool {
    one.check == other.check && one.subject == other.subject
}

/// How long something has been found, and how bad it was.
#[derive(Debug, Clone, Copy)]
struct Track {
    since: Timestamp,
    ticks: u32,
    severity: Severity,
}

/// The findings of one target, with the time each was first seen.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    tracks: BTreeMap<&'static str, Told>,
    not_yet: BTreeMap<&'static str, &'static str>,
    /// What was said to have begun and is not over, as bad as it was at worst.
    begun: Vec<Finding>,
}

impl Findings {
    /// What was found, worst first.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// The checks that could not tell, and why.
    pub const fn not_yet(&self) -> &BTreeMap<&'static str, &'static str> {
        &self.not_yet
    }

    /// What was found at an earlier moment.
    pub(super) fn of(found: &super::ring::Found) -> Self {
        Self { list: found.list.clone(), not_yet: found.not_yet.clone(), ..Self::default() }
    }

    /// What is found, without how long it has been.
    pub(super) fn as_told(&self) -> Self {
        Self { list: self.list.clone(), not_yet: self.not_yet.clone(), ..Self::default() }
    }

    /// Runs every check of this kind of server, and says what is found from now on and what no more. A finding that was
    /// there before keeps its beginning, also while its check cannot tell.
    pub fn update(&mut self, situation: &Situation<'_>) -> Vec<Seen> {
        self.list.clear();
        self.not_yet.clear();
        let is_silent = |check: &Check| situation.thresholds.silenced.iter().any(|name| name == check.id);
        for check in checks_of(situation.kind).filter(|check| !is_silent(check)) {
            let told = self.tracks.remove(check.id).unwrap_or_default();
            let tracks = match (check.rule)(situation, &told) {
                Verdict::Quiet => Told::new(),
                Verdict::NotYet(why) => {
                    self.not_yet.insert(check.id, why);
                    told
                }
                Verdict::Found(found) => {
                    found.into_iter().map(|it| self.take(check, it, &told, situation)).collect()
                }
            };
            self.tracks.insert(check.id, tracks);
        }
        // Stable: findings of one severity keep the order of the decision tree.
        self.list.sort_by_key(|it| std::cmp::Reverse(it.severity));
        let over = self.over(situation);
        self.tell_once();
        self.began(situation).into_iter().chain(over).collect()
    }

    /// What is found no more; a check that cannot tell does not say that it is over, and neither does one that is told by
    /// another now.
    fn over(&mut self, situation: &Situation<'_>) -> Vec<Seen> {
        let mut over = Vec::new();
        let (list, not_yet) = (&self.list, &self.not_yet);
        self.begun.retain_mut(|known| match list.iter().find(|now| is_same(now, known)) {
            Some(now) => {
                known.summary.clone_from(&now.summary);
                true
            }
            None if not_yet.contains_key(known.check) => true,
            None => {
                over.push(known.clone());
                false
            }
        });
        let at = situation.now;
        let seen = |it: &Finding| {
            let what = format!("over after {}: {}", format::age_at(it.since, at), it.summary);
            Seen { at, kind: SeenKind::Over, severity: Severity::Notice, what }
        };
        over.iter().map(seen).collect()
    }

    /// What is found from now on, or is worse; notices are no events, and an outage is one of its own.
    fn began(&mut self, situation: &Situation<'_>) -> Vec<Seen> {
        let mut seen = Vec::new();
        let of_samples = self.list.iter().filter(|_| situation.outage.is_none());
        for it in of_samples.filter(|it| it.severity >= Severity::Warning) {
            let known = self.begun.iter_mut().find(|known| is_same(known, it));
            let kind = if known.is_some() { SeenKind::Worse } else { SeenKind::Began };
            match known {
                Some(known) if it.severity <= known.severity => continue,
                Some(known) => *known = it.clone(),
                None => self.begun.push(it.clone()),
            }
            seen.push(Seen { at: situation.now, kind, severity: it.severity, what: it.summary.clone() });
        }
        seen
    }

    /// A session that is told as the root of a pile-up is not told again for being idle, and a session or statement
    /// that more than one check has found is told by the first of them.
    fn tell_once(&mut self) {
        let roots: Vec<i32> = self.list.iter().filter_map(|it| it.subject.root()).collect();
        let mut told = BTreeSet::new();
        self.list.retain(|it| match it.subject {
            Subject::Session(id) => !roots.contains(&id.pid) && told.insert(it.subject),
            Subject::Statement(_) => told.insert(it.subject),
            Subject::Server
            | Subject::Activity
            | Subject::Root(_)
            | Subject::Replication
            | Subject::Cache
            | Subject::Relation(_) => true,
        });
    }

    /// Tells what was found in as many ticks as its check wants; it becomes worse only with the second tick, too.
    fn take(
        &mut self,
        check: &Check,
        found: Found,
        told: &Told,
        situation: &Situation<'_>,
    ) -> (Subject, Track) {
        let before = told.get(&found.subject);
        let wanted = if situation.is_report { 1 } else { check.ticks };
        let track = Track {
            since: before.map_or(situation.now, |before| before.since),
            ticks: before.map_or(1, |before| before.ticks.saturating_add(1)),
            severity: found.severity,
        };
        let subject = found.subject;
        if wanted <= track.ticks {
            let seen_twice = before.filter(|_| wanted > 1).map(|before| before.severity);
            self.list.push(Finding {
                check: check.id,
                severity: seen_twice.map_or(found.severity, |before| before.min(found.severity)),
                summary: found.summary,
                since: track.since,
                subject,
                help: found.help,
                evidence: found.evidence,
            });
        }
        (subject, track)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
