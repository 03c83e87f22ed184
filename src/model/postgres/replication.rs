//! Replication as the server tells it: positions in its log, walsenders, slots, the walreceiver.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Lsn, Oid};
use crate::model::Reason;

/// Positions in the write-ahead log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wal {
    /// `pg_current_wal_lsn()` of a primary.
    pub current_lsn: Option<Lsn>,
    /// `pg_last_wal_receive_lsn()` of a standby.
    pub received_lsn: Option<Lsn>,
    /// `pg_last_wal_replay_lsn()` of a standby.
    pub replayed_lsn: Option<Lsn>,
    /// `pg_last_xact_replay_timestamp()` of a standby: the commit time of the last transaction replayed.
    pub last_replayed_at: Option<Timestamp>,
    /// Whether replay is paused on a standby.
    pub replay_paused: Option<bool>,
    /// Why some of these are absent, in the server's words; `None` when none was refused.
    #[serde(default)]
    pub refused: Option<Reason>,
}

/// One row of `pg_stat_get_wal_senders()`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WalSender {
    /// Process id of the walsender.
    pub pid: i32,
    /// `startup`, `catchup`, `streaming`, `backup` or `stopping`; absent when our role may not see it.
    pub state: Option<Arc<str>>,
    /// Last position sent.
    pub sent_lsn: Option<Lsn>,
    /// Last position written to the standby's disk cache.
    pub write_lsn: Option<Lsn>,
    /// Last position flushed on the standby.
    pub flush_lsn: Option<Lsn>,
    /// Last position replayed on the standby.
    pub replay_lsn: Option<Lsn>,
    /// Time until the last write was confirmed, seconds; absent when caught up or unknown.
    pub write_lag_seconds: Option<f64>,
    /// The same for the flush.
    pub flush_lag_seconds: Option<f64>,
    /// The same for the replay.
    pub replay_lag_seconds: Option<f64>,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: Option<Arc<str>>,
}

/// One row of `pg_get_replication_slots()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Name of the slot.
    pub name: Arc<str>,
    /// `physical` or `logical`.
    pub kind: Arc<str>,
    /// Database of a logical slot.
    pub datoid: Option<Oid>,
    /// Whether somebody streams from it.
    pub active: bool,
    /// Process that streams from it.
    pub active_pid: Option<i32>,
    /// The oldest log position it keeps.
    pub restart_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<Arc<str>>,
    /// Bytes that can still be written before it may be lost; absent without `max_slot_wal_keep_size`.
    pub safe_wal_bytes: Option<i64>,
    /// Since when nobody uses it (17 and later).
    #[serde(default)]
    pub inactive_since: Option<Timestamp>,
}

/// The row of `pg_stat_get_wal_receiver()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalReceiver {
    /// `streaming`, `waiting` and so on; absent when our role may not see it.
    pub status: Option<Arc<str>>,
    /// `host:port` of the server it streams from.
    pub upstream: Option<Arc<str>>,
    /// When the last message arrived.
    pub last_msg_receipt_time: Option<Timestamp>,
    /// The sender's end of log, as last reported.
    pub latest_end_lsn: Option<Lsn>,
}
