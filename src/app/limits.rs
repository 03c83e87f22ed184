//! What bounds acting on many: who is left out, and how fast signals go out.
//!
//! It must not know how the others are asked about.

use crate::engine::PgTick;
use crate::engine::vitals::{is_own, is_protected};
use crate::model::postgres::{Session, State};

/// What the person set for acting on many.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Applications that are left out; the beginning of their name, whatever its case.
    pub protect: Vec<String>,
    /// Signals a second.
    pub signals_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let protect = ["pg_dump", "pg_basebackup", "pgbackrest", "barman", "wal-g", "Patroni", "repmgrd"];
        Self { protect: protect.map(str::to_owned).to_vec(), signals_per_second: 20 }
    }
}

impl Limits {
    /// Why a marked session is left out of many, in words that follow a count; `None` when it is meant.
    pub(super) fn excludes(&self, session: &Session, tick: &PgTick, cancel: bool) -> Option<String> {
        let superuser = |role| tick.sample.names.superusers.contains(&role);
        if is_own(&tick.sample, session) {
            Some("of ours".into())
        } else if !session.is_client() {
            Some(session.backend_type.as_deref().unwrap_or("process of the server").to_owned())
        } else if session.id.backend_start.is_none() {
            Some("hidden from this role (GRANT pg_read_all_stats)".into())
        } else if !tick.sample.rights.superuser && session.usesysid.is_some_and(superuser) {
            Some("of superusers, which you may not signal".into())
        } else if is_protected(&session.application_name, &self.protect) {
            Some(format!("{} (protected)", session.application_name))
        } else if cancel && session.state != Some(State::Active) {
            Some("without a statement to cancel".into())
        } else if cancel && session.wait_event.as_deref() == Some("ClientRead") {
            Some("waiting for the client's data, which a cancel does not reach".into())
        } else {
            None
        }
    }
}
