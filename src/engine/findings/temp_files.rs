//! Sorts and hashes that do not fit into memory.

use super::{
    Check, Evidence, Found, MINUTE_SECONDS, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told,
};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "temp-files", "temporary files written, over a minute", rule);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    if situation.postgres().is_none() {
        return NO_SAMPLE;
    }
    let Some(mean) = situation.mean(Metric::TempBytes, MINUTE_SECONDS) else {
        return Verdict::NotYet("judged over a minute");
    };
    let limits = &situation.thresholds.temp_bytes_per_second;
    let Some((severity, threshold)) = limits.judge(mean.value, severity_told(told, Subject::Cache)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{}/s went into temporary files over the last {}",
            format::bytes(mean.value),
            format::age(mean.seconds)
        ),
        subject: Subject::Cache,
        help: "pane 3 sorted by temporary blocks tells which statements; work_mem is too small for them"
            .into(),
        evidence: Evidence { value: mean.value, threshold, unit: "bytes per second" },
    }])
}
