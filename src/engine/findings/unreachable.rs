//! A target gives no data: refused, silent, or answering with an error.

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict};
use crate::format;
use crate::model::{Kind, Outage, OutageKind};

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "unreachable", "a PostgreSQL server that gives no data", rule);

pub(super) const REDIS: Check = Check::of(
    Kind::Redis,
    "redis-unreachable",
    "a Redis server that cannot be connected to, or answers with an error",
    |situation, _| of_redis(situation, false),
);

pub(super) const REDIS_BLOCKED: Check = Check::of(
    Kind::Redis,
    "redis-blocked",
    "a Redis server that does not answer: a slow command, a fork, the network",
    |situation, _| of_redis(situation, true),
);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    situation.outage.map_or(Verdict::Quiet, |outage| found(outage, situation))
}

fn of_redis(situation: &Situation<'_>, blocked: bool) -> Verdict {
    let outage = situation.outage.filter(|outage| (outage.kind == OutageKind::Blocked) == blocked);
    outage.map_or(Verdict::Quiet, |outage| found(outage, situation))
}

fn found(outage: &Outage, situation: &Situation<'_>) -> Verdict {
    let seconds = format::seconds_between(outage.since, situation.now).max(0.0);
    let summary = format!("{} for {}: {}", outage.kind, format::age(seconds), outage.reason.text);
    let help = outage.reason.hint.as_deref().unwrap_or("trying again by itself").to_owned();
    Verdict::Found(vec![Found {
        severity: Severity::Critical,
        summary,
        subject: Subject::Server,
        help,
        evidence: Evidence { value: seconds, threshold: 0.0, unit: "seconds" },
    }])
}
