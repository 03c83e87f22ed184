//! What keeps VACUUM from removing dead rows: an old snapshot, a prepared transaction, a slot, a standby.

use super::{Check, Evidence, Found, Situation, Subject, Told, Verdict, upkeep, who};
use crate::engine::rates::float;
use crate::format;
use crate::model::Kind;
use crate::model::postgres::{Session, XminKind};

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "xmin-horizon",
    "what keeps VACUUM from removing dead rows: a session, a prepared transaction, a slot, a standby",
    rule,
);

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let (tick, holder) = match upkeep(situation, |upkeep| &upkeep.xmin_holder) {
        Ok((tick, Some(holder))) => (tick, holder),
        Ok((_, None)) => return Verdict::Quiet,
        Err(verdict) => return verdict,
    };
    let xids = float(holder.xids);
    // Who holds it may change while it stays held.
    let told = told.values().map(|track| track.severity).max();
    let Some((severity, threshold)) = situation.thresholds.xmin_age_xids.judge(xids, told) else {
        return Verdict::Quiet;
    };
    let sessions = tick.sample.sessions.value().into_iter().flatten();
    let session = sessions.into_iter().find(|session| session.id.pid.to_string() == *holder.name);
    let age = format::count(xids);
    let (holds, help) = match holder.kind {
        XminKind::Session => (
            session.map_or_else(|| format!("session {}", holder.name), who),
            "Enter goes to it; K terminates it, and its transaction rolls back",
        ),
        XminKind::Standby => (
            format!("standby {}", session.map_or(&*holder.name, |it| &it.application_name)),
            "a long query there, told by hot_standby_feedback: end it there",
        ),
        XminKind::Prepared => (
            format!("prepared transaction '{}'", holder.name),
            "COMMIT PREPARED or ROLLBACK PREPARED ends it, in its database",
        ),
        XminKind::Slot => (
            format!("slot {}", holder.name),
            "bring its consumer back, or drop the slot: SELECT pg_drop_replication_slot(...)",
        ),
    };
    let subject = match (holder.kind, session) {
        (XminKind::Session, Some(Session { id, .. })) => Subject::Session(*id),
        (XminKind::Standby | XminKind::Slot, _) => Subject::Replication,
        (XminKind::Session | XminKind::Prepared, _) => Subject::Server,
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!("{holds} keeps VACUUM from rows that died within the last {age} transactions"),
        subject,
        help: help.into(),
        evidence: Evidence { value: xids, threshold, unit: "transactions" },
    }])
}
