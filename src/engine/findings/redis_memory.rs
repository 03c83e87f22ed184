//! Redis near the limit of its memory where it refuses writes then.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Redis,
    "redis-memory",
    "Redis near the limit of its memory where nothing is evicted",
    rule,
)
.twice();

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.redis() else { return NO_SAMPLE };
    let sample = &tick.sample;
    // A cache that evicts is full when it is healthy.
    if sample.maxmemory_policy.as_deref().is_some_and(|policy| policy != "noeviction") {
        return Verdict::Quiet;
    }
    let Some((used, limit)) = sample.used_memory_bytes.zip(sample.maxmemory_bytes.filter(|limit| *limit > 0))
    else {
        return Verdict::Quiet;
    };
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory stay far below 2^53")]
    let (used, limit) = (used as f64, limit as f64);
    let percent = 100.0 * used / limit;
    let limits = &situation.thresholds.redis_memory_percent;
    let Some((severity, threshold)) = limits.judge(percent, severity_told(told, Subject::Cache)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} of {} in use, and nothing is evicted: writes fail when it is full",
            format::bytes(used),
            format::bytes(limit)
        ),
        subject: Subject::Cache,
        help: "raise maxmemory, or set maxmemory-policy to one that evicts".into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}
