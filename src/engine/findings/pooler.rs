//! A pooler between us and the server: what is seen is the pooler's.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "pooler", "a connection pooler stands between dbtriage and the server", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    if !tick.sample.server.pooled {
        return Verdict::Quiet;
    }
    Verdict::Found(vec![Found {
        severity: Severity::Warning,
        summary: "through a pooler: sessions are the pooler's".into(),
        subject: Subject::Server,
        help: "connect to the server itself for an incident: behind a pooler our limits on time and locks are not in \
               force, and a terminate hits whatever client the session serves by then"
            .into(),
        evidence: Evidence { value: 1.0, threshold: 1.0, unit: "poolers" },
    }])
}
