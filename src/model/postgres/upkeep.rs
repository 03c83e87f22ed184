//! Housekeeping that is read seldom, because its neglect is felt hours later: archiving, checkpoints, wraparound, and
//! settings that wait for a restart.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Oid;
use crate::model::Reading;

/// One reading of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upkeep {
    /// The archiver.
    pub archiver: Reading<Archiver>,
    /// Checkpoints since the statistics were reset.
    pub checkpoints: Reading<Checkpoints>,
    /// How far each database is from its last freeze.
    pub freeze_ages: Reading<Vec<FreezeAge>>,
    /// Names of settings that are changed and wait for a restart.
    pub pending_restart: Reading<Vec<Arc<str>>>,
    /// Settings that matter in an incident, in the order of [`SETTINGS`]; one that the server does not have, or does not
    /// show to our role, is left out.
    pub settings: Reading<Vec<Setting>>,
}

/// The settings that matter in an incident: what ends or delays sessions, what cleans up, what writes. Those that our own
/// sessions set for themselves are left out: the server would tell ours.
pub const SETTINGS: [&str; 16] = [
    "deadlock_timeout",
    "synchronous_standby_names",
    "synchronous_commit",
    "shared_buffers",
    "work_mem",
    "temp_file_limit",
    "autovacuum",
    "autovacuum_max_workers",
    "autovacuum_freeze_max_age",
    "checkpoint_timeout",
    "max_wal_size",
    "max_slot_wal_keep_size",
    "wal_level",
    "hot_standby_feedback",
    "max_standby_streaming_delay",
    "track_activity_query_size",
];

/// A setting of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: Arc<str>,
    /// Its value with its unit, as SHOW tells it.
    pub value: Arc<str>,
}

/// What the archiver did last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archiver {
    /// Whether anything is archived.
    pub is_on: bool,
    /// When a file was archived last; `None` before the first.
    pub archived_at: Option<Timestamp>,
    /// How often it has failed since the statistics were reset.
    pub failed_count: i64,
    /// When it failed last; `None` before the first failure.
    pub failed_at: Option<Timestamp>,
    /// The file that it failed on last.
    pub failed_file: Option<Arc<str>>,
}

/// Checkpoints, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// Because `checkpoint_timeout` was over.
    pub timed: i64,
    /// For any other reason, above all because `max_wal_size` was reached.
    pub requested: i64,
}

/// How far a database is from its last freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeAge {
    /// Which database.
    pub datid: Oid,
    /// Transactions since the oldest one that is not frozen.
    pub xids: i64,
    /// The same of multixacts.
    pub multixacts: i64,
}
