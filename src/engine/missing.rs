//! What cannot be read of a server, why, and the statement that would help.

use super::PgTick;
use crate::format;
use crate::model::Reason;

/// The statement that gives a role the rights of another.
pub fn grant(rights: &str, role: &str) -> String {
    format!("GRANT {rights} TO {};", format::identifier(role))
}

/// The parts of a tick that could not be read, each with its reason.
pub fn unavailable(tick: &PgTick) -> Vec<(&'static str, Reason)> {
    let sample = &tick.sample;
    let mut list: Vec<(&'static str, Reason)> = [
        ("sessions", sample.sessions.reason()),
        ("locks", sample.locks.reason()),
        ("prepared", sample.prepared.reason()),
        ("databases", sample.databases.reason()),
        ("statements", sample.statements.reason()),
        ("wal", sample.wal.reason().or_else(|| sample.wal.value()?.refused.as_ref())),
        ("standbys", sample.senders.reason()),
        ("slots", sample.slots.reason()),
        ("walreceiver", sample.receiver.reason()),
    ]
    .into_iter()
    .filter_map(|(part, reason)| Some((part, reason?.clone())))
    .collect();
    if let Some(since) = sample.locks.stale_since() {
        let age = format::age_at(since, sample.server_time);
        list.push(("locks", Reason::new(format!("the lock table is {age} old: lock manager busy"))));
    }
    if let Some(hidden) = sample.statements.value().map(|read| read.hidden_rows).filter(|rows| *rows > 0) {
        let reason = Reason::new(format!("{hidden} statements of other roles are hidden"));
        list.push(("statements", reason.with_hint(grant("pg_monitor", &sample.rights.user))));
    }
    if !sample.rights.read_all_stats && !sample.rights.superuser {
        let user = &sample.rights.user;
        let reason = Reason::new(format!("\"{user}\" sees only its own sessions in full"));
        list.push(("session details", reason.with_hint(grant("pg_monitor", user))));
    }
    list
}
