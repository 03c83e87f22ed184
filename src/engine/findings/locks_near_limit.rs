//! A lock table that fills: once it is full, statements fail with "out of shared memory".

use super::{Check, Evidence, Found, Situation, Subject, Told, Verdict, severity_told, upkeep};
use crate::engine::rates::{float, ratio};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "locks-near-limit", "a lock table that is filling up", rule);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let usage = match upkeep(situation, |upkeep| &upkeep.lock_usage) {
        Ok((_, usage)) => usage,
        Err(verdict) => return verdict,
    };
    let percent = 100.0 * ratio(float(usage.locked), float(usage.room)).unwrap_or_default();
    let limits = &situation.thresholds.locks_percent;
    let Some((severity, threshold)) = limits.judge(percent, severity_told(told, Subject::Server)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "the lock table holds {} of {} objects; when it is full statements fail",
            format::count(float(usage.locked)),
            format::count(float(usage.room))
        ),
        subject: Subject::Server,
        help:
            "end the transaction that locks so many objects; then raise max_locks_per_transaction (restart)"
                .into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}
