//! The structures of `dbtriage.snapshot/1`. Field names are the contract; unknown is `null`, never 0.

mod postgres;
mod redis;

use jiff::Timestamp;
use serde::Serialize;

use self::postgres::PgTarget;
use self::redis::RedisTarget;
use crate::engine::findings::Evidence;
use crate::engine::{Finding, Observer, Severity};
use crate::format::rfc3339;
use crate::model::{Kind, Reason};

#[derive(Serialize)]
pub(super) struct Snapshot {
    schema: &'static str,
    taken_at: String,
    interval_seconds: Option<f64>,
    targets: Vec<Target>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Target {
    Postgres(Box<PgTarget>),
    Redis(Box<RedisTarget>),
}

impl Snapshot {
    pub(super) fn of(observers: &[Observer], taken_at: Timestamp, interval_seconds: Option<f64>) -> Self {
        let targets = observers
            .iter()
            .map(|observer| match observer.target.kind {
                Kind::Postgres => Target::Postgres(Box::new(PgTarget::of(observer))),
                Kind::Redis => Target::Redis(Box::new(RedisTarget::of(observer))),
            })
            .collect();
        Self { schema: "dbtriage.snapshot/1", taken_at: rfc3339(taken_at), interval_seconds, targets }
    }
}

fn status(observer: &Observer, degraded: bool) -> &'static str {
    match (observer.outage(), observer.tick()) {
        (_, None) => "unreachable",
        (None, Some(_)) if !degraded => "ok",
        (_, Some(_)) => "degraded",
    }
}

fn error(observer: &Observer) -> Option<String> {
    observer.outage().map(|outage| outage.reason.to_string())
}

#[derive(Serialize)]
struct Unavailable {
    part: &'static str,
    reason: String,
    hint: Option<String>,
}

impl Unavailable {
    fn of(part: &'static str, reason: &Reason) -> Self {
        Self { part, reason: reason.text.to_string(), hint: reason.hint.as_deref().map(str::to_owned) }
    }
}

#[derive(Serialize)]
pub(super) struct FindingEntry {
    check: &'static str,
    severity: Severity,
    summary: String,
    since: String,
    pid: Option<i32>,
    help: String,
    evidence: Evidence,
}

impl FindingEntry {
    pub(super) fn of(finding: &Finding) -> Self {
        use crate::engine::findings::Subject;
        let pid = match finding.subject {
            Subject::Session(id) => Some(id.pid),
            Subject::Root(pid) => Some(pid).filter(|pid| *pid != 0),
            Subject::Server
            | Subject::Activity
            | Subject::Statement(_)
            | Subject::Replication
            | Subject::Cache
            | Subject::Relation(_) => None,
        };
        Self {
            check: finding.check,
            severity: finding.severity,
            summary: finding.summary.clone(),
            since: rfc3339(finding.since),
            pid,
            help: finding.help.clone(),
            evidence: finding.evidence,
        }
    }
}

fn findings(observer: &Observer) -> Vec<FindingEntry> {
    observer.findings().iter().map(FindingEntry::of).collect()
}
