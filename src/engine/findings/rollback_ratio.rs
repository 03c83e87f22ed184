//! Transactions that are rolled back, over a minute with traffic.

use super::{
    Check, Evidence, Found, MINUTE_SECONDS, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told,
};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "rollback-ratio", "transactions that are rolled back, over a minute", rule);

/// Fewer transactions say nothing.
const TRANSACTIONS_MIN_PER_SECOND: f64 = 10.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    if situation.postgres().is_none() {
        return NO_SAMPLE;
    }
    let mean = |metric| situation.mean(metric, MINUTE_SECONDS);
    let Some((all, rolled_back)) = mean(Metric::Transactions).zip(mean(Metric::Rollbacks)) else {
        return Verdict::NotYet("judged over a minute");
    };
    let (all, rolled_back, seconds) = (all.value, rolled_back.value, all.seconds);
    if all < TRANSACTIONS_MIN_PER_SECOND {
        return Verdict::Quiet;
    }
    let percent = 100.0 * rolled_back / all;
    let limits = &situation.thresholds.rollback_percent;
    let Some((severity, threshold)) = limits.judge(percent, severity_told(told, Subject::Server)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} of {} transactions/s were rolled back over the last {}",
            format::share(rolled_back / all),
            format::count(all),
            format::age(seconds.round())
        ),
        subject: Subject::Server,
        help:
            "errors, timeouts, deadlocks or retries of the application: its log and the server's tell which"
                .into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}
