//! Logins that wait for a lock: they hold slots, and no list of sessions shows them.

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict, upkeep};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "logins-stuck",
    "logins that wait for a lock: they hold slots and are in no list of sessions",
    rule,
);

/// Process ids that are named at most.
const NAMED_MAX: usize = 5;

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let usage = match upkeep(situation, |upkeep| &upkeep.lock_usage) {
        Ok((_, usage)) => usage,
        Err(verdict) => return verdict,
    };
    // A login may wait for an instant; only who still waits at the next reading is stuck.
    let stuck = if situation.is_report { &usage.stuck_pids } else { &situation.changes.stuck_logins };
    if stuck.is_empty() {
        return Verdict::Quiet;
    }
    let named: Vec<String> = stuck.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if stuck.len() > NAMED_MAX { ", ..." } else { "" };
    let count = f64::from(u32::try_from(stuck.len()).unwrap_or(u32::MAX));
    Verdict::Found(vec![Found {
        severity: Severity::Critical,
        summary: format!(
            "{} cannot finish and {} slots: pid {}{more} waits for a lock",
            format::counted(stuck.len(), "login"),
            if stuck.len() == 1 { "holds" } else { "hold" },
            named.join(", ")
        ),
        subject: Subject::Root(0),
        help: "Locks (2) shows who holds what they wait for, most likely a catalog; end that session (K)"
            .into(),
        evidence: Evidence { value: count, threshold: 1.0, unit: "logins" },
    }])
}
