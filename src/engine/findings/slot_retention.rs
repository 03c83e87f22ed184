//! Replication slots that keep the log from being removed.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict, severity_told};
use crate::engine::rates::float;
use crate::engine::replication::SlotLag;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "slot-retention", "replication slots that keep much of the log", rule);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(slots) = tick.replication.slots.value() else {
        return Verdict::NotYet("replication slots cannot be read");
    };
    let told = severity_told(told, Subject::Replication);
    let found = slots.iter().filter_map(|slot| judge(slot, situation, told));
    // The first of the worst: one finding for all slots, because they fill one disk.
    let worst = found.fold(None, |worst: Option<Found>, found| match worst {
        Some(worst) if found.severity <= worst.severity => Some(worst),
        Some(_) | None => Some(found),
    });
    worst.map_or(Verdict::Quiet, |found| Verdict::Found(vec![found]))
}

fn judge(lag: &SlotLag, situation: &Situation<'_>, told: Option<Severity>) -> Option<Found> {
    let slot = &lag.slot;
    let retained = lag.retained_bytes.map_or(0.0, float);
    let kept = format::bytes(retained);
    let (severity, threshold) = situation.thresholds.slot_retention_bytes.judge(retained, told)?;
    let state = if slot.active { "is in use" } else { "is used by nobody" };
    Some(Found {
        severity,
        summary: format!("slot {} keeps {kept} of log and {state}", slot.name),
        subject: Subject::Replication,
        help: "bring its consumer back, or drop it: SELECT pg_drop_replication_slot(...) gives the disk back"
            .into(),
        evidence: Evidence { value: retained, threshold, unit: "bytes" },
    })
}
