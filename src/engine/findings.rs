//! Findings: what is wrong, in sentences, worst first, with the evidence and what helps.
//!
//! A check is one small rule in a file of its own: it answers quiet, not yet, or found. Adding one touches its
//! file and the list below.

mod blocking;
mod connections;
mod idle_in_transaction;
mod pooler;
mod unreachable;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PgTick, Tick};
use crate::model::Outage;
use crate::model::postgres::SessionId;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Needs attention.
    Warning,
    /// Needs action.
    Critical,
}

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
}

impl Subject {
    const fn root(self) -> Option<i32> {
        match self {
            Self::Root(pid) => Some(pid),
            Self::Server | Self::Activity | Self::Session(_) => None,
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
    /// The last good sample's meaning; it may be old when there is an outage.
    pub tick: Option<&'a Tick>,
    /// Why there are no data now.
    pub outage: Option<&'a Outage>,
    /// The limits in force.
    pub thresholds: &'a Thresholds,
    /// Now, by the client's clock.
    pub now: Timestamp,
}

impl<'a> Situation<'a> {
    /// The present tick of a PostgreSQL server; `None` while there are no data, so that nothing old is judged.
    fn postgres(&self) -> Option<&'a PgTick> {
        self.tick.filter(|_| self.outage.is_none()).and_then(Tick::postgres)
    }
}

/// A named rule.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name: in the config, in reports, in the documentation.
    pub id: &'static str,
    /// What it looks for.
    pub doc: &'static str,
    rule: fn(&Situation<'_>) -> Verdict,
}

/// Every check, in the order of the decision tree: reachable, connections, locks, transactions.
pub const CHECKS: &[Check] =
    &[unreachable::CHECK, connections::CHECK, blocking::CHECK, idle_in_transaction::CHECK, pooler::CHECK];

/// Two limits of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// From here on a warning.
    pub warning: f64,
    /// From here on critical.
    pub critical: f64,
}

impl Limits {
    /// Which limit the value has reached, and that limit.
    fn judge(&self, value: f64) -> Option<(Severity, f64)> {
        if self.critical <= value {
            Some((Severity::Critical, self.critical))
        } else if self.warning <= value {
            Some((Severity::Warning, self.warning))
        } else {
            None
        }
    }
}

/// Limits of every check. The sources of the defaults: the runbooks, and public alert rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Connections in use, per cent of those open to ordinary roles.
    pub connections_percent: Limits,
    /// Sessions blocked by one root before it is a finding at all, whatever they wait.
    pub blocking_sessions: f64,
    /// Longest wait for a lock, seconds.
    pub blocking_seconds: Limits,
    /// Time idle in a transaction, seconds.
    pub idle_in_transaction_seconds: Limits,
    /// Checks that stay silent, by name.
    pub silenced: Vec<String>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            connections_percent: Limits { warning: 80.0, critical: 95.0 },
            blocking_sessions: 3.0,
            blocking_seconds: Limits { warning: 30.0, critical: 60.0 },
            idle_in_transaction_seconds: Limits { warning: 300.0, critical: 900.0 },
            silenced: Vec::new(),
        }
    }
}

/// The findings of one target, with the time each was first seen.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    not_yet: BTreeMap<&'static str, &'static str>,
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

    /// Runs every check; a finding that was there before keeps its beginning.
    pub fn update(&mut self, situation: &Situation<'_>) {
        let since: BTreeMap<_, _> = self.list.iter().map(|it| ((it.check, it.subject), it.since)).collect();
        self.list.clear();
        self.not_yet.clear();
        for check in
            CHECKS.iter().filter(|check| !situation.thresholds.silenced.iter().any(|name| name == check.id))
        {
            match (check.rule)(situation) {
                Verdict::Quiet => {}
                Verdict::NotYet(why) => drop(self.not_yet.insert(check.id, why)),
                Verdict::Found(found) => self.list.extend(found.into_iter().map(|it| Finding {
                    check: check.id,
                    severity: it.severity,
                    summary: it.summary,
                    since: since.get(&(check.id, it.subject)).copied().unwrap_or(situation.now),
                    subject: it.subject,
                    help: it.help,
                    evidence: it.evidence,
                })),
            }
        }
        // Stable: findings of one severity keep the order of the decision tree.
        self.list.sort_by_key(|it| std::cmp::Reverse(it.severity));
        // A session that is told as the root of a pile-up is not told again for being idle.
        let roots: Vec<i32> = self.list.iter().filter_map(|it| it.subject.root()).collect();
        self.list.retain(|it| !matches!(it.subject, Subject::Session(id) if roots.contains(&id.pid)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn limits_are_reached_not_passed() {
        let limits = Limits { warning: 80.0, critical: 95.0 };
        assert_eq!(limits.judge(79.9), None);
        assert_eq!(limits.judge(80.0), Some((Severity::Warning, 80.0)));
        assert_eq!(limits.judge(95.0), Some((Severity::Critical, 95.0)));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
