//! Blocks that are not found in the buffer cache, over five minutes with traffic.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "buffer-hit-rate",
    "blocks that are not found in the buffer cache, over five minutes",
    rule,
);

/// A cold start and one big report are over by then.
const WINDOW_SECONDS: f64 = 300.0;
/// Fewer blocks say nothing.
const BLOCKS_MIN_PER_SECOND: f64 = 100.0;
/// The same of all that was watched, which in a report is short: every start reads a few hundred.
const BLOCKS_MIN: f64 = 10_000.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    if situation.postgres().is_none() {
        return NO_SAMPLE;
    }
    let mean = |metric| situation.mean(metric, WINDOW_SECONDS);
    let Some((hit, read)) = mean(Metric::BlocksHit).zip(mean(Metric::BlocksRead)) else {
        return Verdict::NotYet("judged over five minutes");
    };
    let (hit, seconds) = (hit.value, hit.seconds);
    let all = hit + read.value;
    if all < BLOCKS_MIN_PER_SECOND || all * seconds < BLOCKS_MIN {
        return Verdict::Quiet;
    }
    let percent = 100.0 * hit / all;
    let limits = &situation.thresholds.buffer_hit_percent;
    let Some((severity, threshold)) = limits.judge_below(percent, severity_told(told, Subject::Cache)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} of {} blocks/s were found in the buffer cache over the last {}",
            format::share(hit / all),
            format::count(all),
            format::age(seconds.round())
        ),
        subject: Subject::Cache,
        help:
            "pane 3 sorted by hit ratio tells which statements read; a missing index or a report reads much"
                .into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}
