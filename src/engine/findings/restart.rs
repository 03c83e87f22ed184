//! A restart that happened while we watched.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "restart", "the server was restarted while it was watched", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    if situation.postgres().is_none() {
        return NO_SAMPLE;
    }
    let Some(at) = situation.changes.restarted_at else { return Verdict::Quiet };
    let seconds = format::seconds_between(at, situation.now);
    // Here the limit is how long it is told.
    let Some((severity, threshold)) = situation.thresholds.restart_told_seconds.judge_until(seconds) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!("the server was restarted {} ago", format::age(seconds)),
        subject: Subject::Server,
        help: "its log tells why; counters and caches begin anew".into(),
        evidence: Evidence { value: seconds, threshold, unit: "seconds" },
    }])
}
