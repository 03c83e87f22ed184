//! A replica of Redis that has lost its master.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-replication", "a replica of Redis that has lost its master", rule).twice();

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.redis() else { return NO_SAMPLE };
    match tick.sample.master_link_status.as_deref() {
        Some("up") | None => Verdict::Quiet,
        Some(_) => Verdict::Found(vec![Found {
            severity: Severity::Critical,
            summary: "the link to the master is down: what is read here is old".into(),
            subject: Subject::Cache,
            help: "is the master up, and reachable from here? its INFO replication lists its replicas".into(),
            evidence: Evidence { value: 1.0, threshold: 1.0, unit: "links" },
        }]),
    }
}
