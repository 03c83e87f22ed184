//! Redis that cannot write what it must keep: by default it refuses writes then.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-persistence", "Redis that cannot write its snapshot or its log", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.redis() else { return NO_SAMPLE };
    let sample = &tick.sample;
    let failed = |status: &Option<std::sync::Arc<str>>| status.as_deref().is_some_and(|word| word != "ok");
    let (what, help) = if failed(&sample.rdb_last_bgsave_status) {
        (
            "the last background save failed: with stop-writes-on-bgsave-error, the default, writes are refused",
            "its log says why: no disk, or no memory for the fork (vm.overcommit_memory)",
        )
    } else if failed(&sample.aof_last_write_status) {
        (
            "the append-only file cannot be written: writes are refused",
            "its log says why: most likely no disk",
        )
    } else if failed(&sample.aof_last_bgrewrite_status) {
        (
            "the append-only file could not be rewritten: it grows until it can",
            "its log says why: no disk, or no memory for the fork (vm.overcommit_memory)",
        )
    } else {
        return Verdict::Quiet;
    };
    let is_rewrite = !failed(&sample.rdb_last_bgsave_status) && !failed(&sample.aof_last_write_status);
    Verdict::Found(vec![Found {
        severity: if is_rewrite { Severity::Warning } else { Severity::Critical },
        summary: what.into(),
        subject: Subject::Cache,
        help: help.into(),
        evidence: Evidence { value: 1.0, threshold: 1.0, unit: "failures" },
    }])
}
