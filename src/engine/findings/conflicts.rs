//! Queries on a standby that were cancelled because they were in the way of replay.

use super::{
    Check, Evidence, Found, MINUTE_SECONDS, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told,
};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "conflicts",
    "queries on a standby that were cancelled because of replay, over a minute",
    rule,
);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    if !tick.sample.server.in_recovery {
        return Verdict::Quiet;
    }
    let Some(mean) = situation.mean(Metric::Conflicts, MINUTE_SECONDS) else {
        return Verdict::NotYet("judged over a minute");
    };
    let count = (mean.value * mean.seconds).round();
    let limits = &situation.thresholds.conflicts_per_minute;
    let Some((severity, threshold)) = limits.judge(count, severity_told(told, Subject::Replication)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} queries on this standby were cancelled because of replay within the last {}",
            format::count(count),
            format::age(mean.seconds.round())
        ),
        subject: Subject::Replication,
        help: "hot_standby_feedback keeps their rows at the price of bloat; max_standby_streaming_delay gives them time".into(),
        evidence: Evidence { value: count, threshold, unit: "per minute" },
    }])
}
