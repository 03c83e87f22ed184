//! A promotion, or a primary that came back as a standby, while we watched.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "role-change", "a standby became the primary, or a primary a standby", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(at) = situation.changes.role_changed_at else { return Verdict::Quiet };
    let seconds = format::seconds_between(at, situation.now);
    let Some((severity, threshold)) = situation.thresholds.role_change_told_seconds.judge_until(seconds)
    else {
        return Verdict::Quiet;
    };
    let role = if tick.sample.server.in_recovery { "a standby" } else { "the primary" };
    Verdict::Found(vec![Found {
        severity,
        summary: format!("the server has become {role} {} ago", format::age(seconds)),
        subject: Subject::Replication,
        help: "is there one primary only, and do the applications write to it?".into(),
        evidence: Evidence { value: seconds, threshold, unit: "seconds" },
    }])
}
