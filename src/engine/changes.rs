//! What has changed while we watched: restarts, the role of the server, and standbys that have gone.
//!
//! It must not know how bad that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::replication::Replication;
use crate::model::postgres::{Checkpoints, Sample};

/// Standbys that are remembered at most.
const STANDBYS_MAX: usize = 100;

/// What was seen to change; times are the client's.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// When a restart was seen; `None` while there was none.
    pub restarted_at: Option<Timestamp>,
    /// When the server was seen to have become a primary, or a standby.
    pub role_changed_at: Option<Timestamp>,
    /// When each physical standby was last seen, by the name that it gives.
    pub standbys: BTreeMap<Arc<str>, Timestamp>,
    /// The checkpoints counted when watching began, or since the counters went down.
    pub checkpoints: Option<Checkpoints>,
    started_at: Option<Timestamp>,
    in_recovery: Option<bool>,
}

impl Changes {
    /// Compares a sample with those before it.
    pub(super) fn observe(&mut self, sample: &Sample, replication: &Replication, now: Timestamp) {
        let server = &sample.server;
        if self.started_at.replace(server.started_at).is_some_and(|before| before != server.started_at) {
            self.restarted_at = Some(now);
        }
        if self.in_recovery.replace(server.in_recovery).is_some_and(|before| before != server.in_recovery) {
            self.role_changed_at = Some(now);
            // The standbys of before followed another server.
            self.standbys.clear();
        }
        let checkpoints = sample.upkeep.as_ref().and_then(|upkeep| upkeep.checkpoints.value());
        if let Some(now) = checkpoints
            && self.checkpoints.is_none_or(|first| now.requested < first.requested || now.timed < first.timed)
        {
            self.checkpoints = Some(*now);
        }
        let standbys = replication.standbys.value().into_iter().flatten();
        // A base backup, or a subscriber that synchronises a table, comes and goes.
        let lasting = standbys.filter(|it| matches!(it.state.as_deref(), Some("streaming" | "catchup")));
        for standby in lasting {
            let is_known = self.standbys.contains_key(&standby.application);
            if is_known || self.standbys.len() < STANDBYS_MAX {
                self.standbys.insert(Arc::clone(&standby.application), now);
            }
        }
    }
}
