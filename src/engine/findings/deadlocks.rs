//! Deadlocks that the server resolved within a minute.

use super::{
    Check, Evidence, Found, MINUTE_SECONDS, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told,
};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(Kind::Postgres, "deadlocks", "deadlocks within a minute", rule);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    if situation.postgres().is_none() {
        return NO_SAMPLE;
    }
    let Some(mean) = situation.mean(Metric::Deadlocks, MINUTE_SECONDS) else {
        return Verdict::NotYet("judged over a minute");
    };
    // Of a shorter time only those that there were: nobody knows how it goes on.
    let count = mean.value * mean.seconds;
    let limits = &situation.thresholds.deadlocks_per_minute;
    let Some((severity, threshold)) = limits.judge(count, severity_told(told, Subject::Server)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} deadlocks within the last {}",
            format::count(count),
            format::age(mean.seconds.round())
        ),
        subject: Subject::Server,
        help: "the server's log names the statements of each; take locks in one order".into(),
        evidence: Evidence { value: count, threshold, unit: "deadlocks" },
    }])
}
