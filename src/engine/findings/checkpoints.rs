//! Checkpoints that come because the log grows too fast for them, within the time that was watched: totals since a reset
//! say nothing of now.

use super::{Check, Evidence, Found, Situation, Subject, Told, Verdict, severity_told, upkeep};
use crate::engine::rates::float;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "checkpoints",
    "checkpoints that come before their time, while it was watched",
    rule,
);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let (_, now) = match upkeep(situation, |upkeep| &upkeep.checkpoints) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    let Some(first) = situation.changes.checkpoints else { return Verdict::Quiet };
    let (requested, timed) = (now.requested - first.requested, now.timed - first.timed);
    if requested <= timed {
        return Verdict::Quiet;
    }
    let limits = &situation.thresholds.checkpoints_requested;
    let Some((severity, threshold)) = limits.judge(float(requested), severity_told(told, Subject::Server))
    else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{requested} of {} checkpoints since we watch came before their time",
            requested + timed
        ),
        subject: Subject::Server,
        help: "max_wal_size is too small for what is written, or somebody runs CHECKPOINT".into(),
        evidence: Evidence { value: float(requested), threshold, unit: "checkpoints" },
    }])
}
