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
    /// How full the lock table is, and who waits in it without being in the list of sessions.
    pub lock_usage: Reading<LockUsage>,
    /// What keeps VACUUM from removing dead rows; `None` while nothing does.
    pub xmin_holder: Reading<Option<XminHolder>>,
    /// Indexes of the connected database that are invalid and not being built, by identifier and name.
    pub invalid_indexes: Reading<Vec<(Oid, Arc<str>)>>,
    /// Tables of the connected database with many dead rows, or many changed ones since the last ANALYZE.
    pub neglected: Reading<Vec<Neglect>>,
    /// Subscriptions of the connected database.
    pub subscriptions: Reading<Vec<Subscription>>,
}

/// The settings that matter in an incident: what ends or delays sessions, what cleans up, what writes. One that the
/// server does not have is left out.
pub const SETTINGS: [&str; 24] = [
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "max_locks_per_transaction",
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

/// How full the lock table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockUsage {
    /// Objects that are locked in the shared table.
    pub locked: i64,
    /// Objects that fit: `max_locks_per_transaction` for each process and prepared transaction that there may be.
    pub room: i64,
    /// Processes that wait for a lock and are in no list of sessions: logins, which hold a slot meanwhile.
    pub stuck_pids: Vec<i32>,
}

/// What holds the oldest snapshot or transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XminHolder {
    /// What kind of thing it is.
    pub kind: XminKind,
    /// Process id of a session or standby, gid of a prepared transaction, name of a slot.
    pub name: Arc<str>,
    /// Transactions begun since.
    pub xids: i64,
}

/// The kinds of things that hold old rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum XminKind {
    /// A session, by its snapshot or its transaction.
    Session,
    /// A standby with `hot_standby_feedback`.
    Standby,
    /// A prepared transaction.
    Prepared,
    /// A replication slot.
    Slot,
}

/// A table that VACUUM or ANALYZE has not kept up with. Counts are estimates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neglect {
    /// The table.
    pub oid: Oid,
    /// Its name as it stands in SQL.
    pub name: Arc<str>,
    /// Live rows.
    pub live_rows: i64,
    /// Dead rows.
    pub dead_rows: i64,
    /// Rows changed since the last ANALYZE.
    pub changed_since_analyze: i64,
    /// When it was last vacuumed; `None`: never.
    pub vacuumed_at: Option<Timestamp>,
    /// When it was last analyzed; `None`: never.
    pub analyzed_at: Option<Timestamp>,
}

/// A subscription of logical replication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its name.
    pub name: Arc<str>,
    /// Errors while applying changes and while copying tables, since the reset; `None` before 15.
    pub errors: Option<i64>,
}

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
