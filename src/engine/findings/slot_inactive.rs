//! Replication slots that nobody has used for some time: they keep log, and old rows.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::format::{self, seconds_between};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "slot-inactive", "replication slots that nobody uses", rule);

/// The first version whose slots tell since when nobody uses them.
const TOLD_SINCE: u32 = 170_000;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(slots) = tick.replication.slots.value() else {
        return Verdict::NotYet("replication slots cannot be read");
    };
    let lost = |status: Option<&str>| status == Some("lost");
    let mut inactive = slots
        .iter()
        .map(|it| &it.slot)
        .filter(|slot| !slot.active && !lost(slot.wal_status.as_deref()))
        .peekable();
    if inactive.peek().is_some() && situation.is_report && tick.sample.server.version_num < TOLD_SINCE {
        return Verdict::NotYet("since when a slot is not used is told by PostgreSQL 17 and later");
    }
    // Before 17 since we first saw it so.
    let seconds = |slot: &crate::model::postgres::Slot| match slot.inactive_since {
        Some(since) => Some(seconds_between(since, tick.sample.server_time)),
        None => {
            situation.changes.slots_inactive.get(&slot.name).map(|at| seconds_between(*at, situation.now))
        }
    };
    let longest = inactive.filter_map(|slot| Some((slot, seconds(slot)?))).max_by(|a, b| a.1.total_cmp(&b.1));
    let Some((slot, seconds)) = longest else { return Verdict::Quiet };
    let limits = &situation.thresholds.slot_inactive_seconds;
    let Some((severity, threshold)) = limits.judge(seconds, severity_told(told, Subject::Replication)) else {
        return Verdict::Quiet;
    };
    let at_least = if slot.inactive_since.is_none() { "at least " } else { "" };
    Verdict::Found(vec![Found {
        severity,
        summary: format!("slot {} has been used by nobody for {at_least}{}", slot.name, format::age(seconds)),
        subject: Subject::Replication,
        help: "bring its consumer back, or drop it: SELECT pg_drop_replication_slot(...) gives the disk back"
            .into(),
        evidence: Evidence { value: seconds, threshold, unit: "seconds" },
    }])
}
