//! Logins that wait for a lock: they hold slots, and no list of sessions shows them.

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict, upkeep};
use crate::format;
use crate::model::Kind;
use crate::model::postgres::State;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "logins-stuck",
    "logins that wait for a lock: they hold slots and are in no list of sessions",
    rule,
);

/// A login that waits for less may go on in a moment.
const LONG_SECONDS: f64 = 1.0;
/// Process ids that are named at most.
const NAMED_MAX: usize = 5;

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let (tick, usage) = match upkeep(situation, |upkeep| &upkeep.lock_usage) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    // A login may wait for an instant; only who still waits at the next reading is stuck.
    let stuck = if situation.is_report { &usage.stuck_pids } else { &situation.changes.stuck_logins };
    // From 18 on a session is listed while it logs in.
    let sessions = tick.sample.sessions.value().into_iter().flatten();
    let logs_in = sessions.filter(|it| it.state == Some(State::Starting) && it.waits_for_lock());
    let for_long = logs_in.filter(|it| {
        let start = it.id.backend_start;
        start.is_some_and(|at| LONG_SECONDS <= format::seconds_between(at, tick.sample.server_time))
    });
    let listed = for_long.map(|it| it.id.pid).filter(|pid| !stuck.contains(pid));
    let stuck: Vec<i32> = stuck.iter().copied().chain(listed).collect();
    if stuck.is_empty() {
        return Verdict::Quiet;
    }
    let named: Vec<String> = stuck.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if stuck.len() > NAMED_MAX { ", ..." } else { "" };
    let held_by = |pid: &i32| tick.forest.value()?.blocked_by(*pid).into_iter().find(|pid| *pid != 0);
    let holder = stuck.iter().find_map(held_by);
    let held = holder.map_or_else(String::new, |pid| format!(" that {pid} holds"));
    let count = f64::from(u32::try_from(stuck.len()).unwrap_or(u32::MAX));
    Verdict::Found(vec![Found {
        severity: Severity::Critical,
        summary: format!(
            "{} cannot finish and {} slots: pid {}{more} waits for a lock{held}",
            format::counted(stuck.len(), "login"),
            if stuck.len() == 1 { "holds" } else { "hold" },
            named.join(", ")
        ),
        subject: holder.map_or(Subject::Server, Subject::Root),
        help: "most likely a catalog is locked: Locks (2) shows by whom; end that session (K)".into(),
        evidence: Evidence { value: count, threshold: 1.0, unit: "logins" },
    }])
}
