//! Replication slots that have lost the log that they kept, or lose it with the next checkpoint.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict};
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "slot-lost",
    "replication slots that have lost the log that they kept, or are about to",
    rule,
);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(slots) = tick.replication.slots.value() else {
        return Verdict::NotYet("replication slots cannot be read");
    };
    let state = |status: Option<&str>| match status {
        Some("lost") => Some("has lost the log that it needs: its consumer must start anew"),
        Some("unreserved") => Some("loses the log that it needs with the next checkpoint"),
        Some(_) | None => None,
    };
    let lost: Vec<_> =
        slots.iter().filter_map(|it| Some((&it.slot.name, state(it.slot.wal_status.as_deref())?))).collect();
    let Some((name, state)) = lost.first() else { return Verdict::Quiet };
    let more = if lost.len() > 1 { format!(", and {} more", lost.len() - 1) } else { String::new() };
    Verdict::Found(vec![Found {
        severity: Severity::Critical,
        summary: format!("slot {name} {state}{more}"),
        subject: Subject::Replication,
        help: "bring its consumer back at once, or set it up anew; max_slot_wal_keep_size is the limit"
            .into(),
        evidence: Evidence {
            value: f64::from(u32::try_from(lost.len()).unwrap_or(u32::MAX)),
            threshold: 1.0,
            unit: "slots",
        },
    }])
}
