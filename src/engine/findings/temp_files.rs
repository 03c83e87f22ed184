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
    let told = severity_told(told, Subject::Cache);
    let files = situation.mean(Metric::TempFiles, MINUTE_SECONDS).map_or(0.0, |files| files.value);
    let by_bytes = situation.thresholds.temp_bytes_per_second.judge(mean.value, told);
    let by_files = situation.thresholds.temp_files_per_second.judge(files, told);
    let bytes = by_bytes.map(|it| (it, mean.value, "bytes per second"));
    let many = by_files.map(|it| (it, files, "files per second"));
    let Some(((severity, threshold), value, unit)) = bytes.or(many) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{}/s went into {} temporary files a second over the last {}",
            format::bytes(mean.value),
            format::count(files),
            format::age(mean.seconds.round())
        ),
        subject: Subject::Cache,
        help: "pane 3 sorted by temporary blocks tells which statements; work_mem is too small for them"
            .into(),
        evidence: Evidence { value, threshold, unit },
    }])
}
