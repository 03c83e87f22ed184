//! Keys that Redis throws away because its memory is full.

use super::{
    Check, Evidence, Found, MINUTE_SECONDS, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told,
};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-evictions", "keys that Redis evicts, over a minute", rule);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    if situation.redis().is_none() {
        return NO_SAMPLE;
    }
    let Some(mean) = situation.mean(Metric::RedisEvictions, MINUTE_SECONDS) else {
        return Verdict::NotYet("judged over a minute");
    };
    let limits = &situation.thresholds.redis_evictions_per_second;
    let Some((severity, threshold)) = limits.judge(mean.value, severity_told(told, Subject::Cache)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} keys/s were evicted over the last {}",
            format::count(mean.value),
            format::age(mean.seconds.round())
        ),
        subject: Subject::Cache,
        help: "the memory is full; see whether keys are missed that are needed (hit rate in pane 5)".into(),
        evidence: Evidence { value: mean.value, threshold, unit: "keys per second" },
    }])
}
