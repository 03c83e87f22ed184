//! Keys that are not found in Redis, over a minute with traffic: the database then does the work.

use super::{
    Check, Evidence, Found, MINUTE_SECONDS, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told,
};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-hit-rate", "keys that are not found in Redis, over a minute", rule);

/// Fewer look-ups say nothing.
const LOOKUPS_MIN_PER_SECOND: f64 = 10.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    if situation.redis().is_none() {
        return NO_SAMPLE;
    }
    let mean = |metric| situation.mean(metric, MINUTE_SECONDS);
    let Some((hits, misses)) = mean(Metric::RedisHits).zip(mean(Metric::RedisMisses)) else {
        return Verdict::NotYet("judged over a minute");
    };
    let (hits, seconds) = (hits.value, hits.seconds);
    let all = hits + misses.value;
    if all < LOOKUPS_MIN_PER_SECOND {
        return Verdict::Quiet;
    }
    let percent = 100.0 * hits / all;
    let limits = &situation.thresholds.redis_hit_percent;
    let Some((severity, threshold)) = limits.judge_below(percent, severity_told(told, Subject::Cache)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} of {} look-ups/s found their key over the last {}",
            format::share(hits / all),
            format::count(all),
            format::age(seconds.round())
        ),
        subject: Subject::Cache,
        help: "what is missed is read from the database: look there too; evictions, a flush or a restart empty it".into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}
