//! What was seen, for programs and for people: the snapshot as JSON and as text.
//!
//! Reads observers, draws nothing. It must not know the terminal.

mod json;
mod text;

use jiff::Timestamp;

use crate::engine::{Observer, PgTick};
use crate::model::Reason;

/// The contract `dbtriage.snapshot/1` as one JSON document; `interval_seconds` is what the rates span, `None` for
/// a single sample.
pub fn json(
    observers: &[Observer],
    taken_at: Timestamp,
    interval_seconds: Option<f64>,
) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&json::Snapshot::of(observers, taken_at, interval_seconds))
}

/// The same for a ticket: what one would type up by hand.
pub fn text(observers: &[Observer], taken_at: Timestamp) -> String {
    text::render(observers, taken_at)
}

/// The parts of a tick that could not be read, each with its reason.
fn unavailable(tick: &PgTick) -> Vec<(&'static str, Reason)> {
    let sample = &tick.sample;
    let mut list: Vec<(&'static str, Reason)> = [
        ("sessions", sample.sessions.reason()),
        ("locks", sample.locks.reason()),
        ("prepared", sample.prepared.reason()),
        ("databases", sample.databases.reason()),
        ("statements", sample.statements.reason()),
        ("wal", sample.wal.reason()),
        ("standbys", sample.senders.reason()),
        ("slots", sample.slots.reason()),
        ("walreceiver", sample.receiver.reason()),
    ]
    .into_iter()
    .filter_map(|(part, reason)| Some((part, reason?.clone())))
    .collect();
    if let Some(since) = sample.locks.stale_since() {
        let age = crate::format::age_at(since, sample.server_time);
        list.push(("locks", Reason::new(format!("the lock table is {age} old: lock manager busy"))));
    }
    if !sample.rights.read_all_stats && !sample.rights.superuser {
        let user = &sample.rights.user;
        let reason = Reason::new(format!("\"{user}\" sees only its own sessions in full"));
        list.push(("session details", reason.with_hint(format!("GRANT pg_monitor TO {user};"))));
    }
    list
}
