//! One reading of a PostgreSQL server, in the server's own terms.
//!
//! Field names and meanings are those of the functions behind the statistics views (manual, "The Cumulative
//! Statistics System"). It must not know how the server is asked.

mod replication;
mod statements;
mod tables;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::replication::{Slot, Wal, WalReceiver, WalSender};
pub use self::statements::{Statement, StatementKey, Statements, StatementsDelta};
pub use self::tables::{Constraint, Counted, Index, Progress, Table, Tables};
pub use self::upkeep::{
    Archiver, Checkpoints, FreezeAge, LockUsage, Neglect, SETTINGS, Setting, Subscription, Upkeep,
    XminHolder, XminKind,
};
use super::Reading;

/// An object identifier of PostgreSQL.
pub type Oid = u32;

/// A position in the write-ahead log, in bytes.
pub type Lsn = u64;

/// Everything one tick reads from a PostgreSQL server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// `clock_timestamp()` of the server, read in the same round trip: every age is taken against it.
    pub server_time: Timestamp,
    /// What changes only with a restart, a promotion or a reload.
    pub server: Arc<Server>,
    /// What this connection's role may see and do.
    pub rights: Arc<Rights>,
    /// Names of roles, databases and relations, as far as they are known.
    pub names: Arc<Names>,
    /// The backends, ours included.
    pub sessions: Reading<Vec<Session>>,
    /// The lock table; empty while no session waits for a lock.
    pub locks: Reading<Arc<LockTable>>,
    /// Transactions prepared for two-phase commit.
    pub prepared: Reading<Vec<Prepared>>,
    /// Cumulative counters, one entry per database.
    pub databases: Reading<Vec<DatabaseCounters>>,
    /// Cumulative statement counters, read at their own slower pace.
    pub statements: Reading<Arc<Statements>>,
    /// Normalised texts of statements, as far as they have been read.
    #[serde(skip)]
    pub statement_texts: Arc<BTreeMap<StatementKey, Arc<str>>>,
    /// Where the write-ahead log stands.
    pub wal: Reading<Wal>,
    /// The walsenders, one for each connected standby, base backup or logical subscriber.
    pub senders: Reading<Vec<WalSender>>,
    /// The replication slots.
    pub slots: Reading<Vec<Slot>>,
    /// The walreceiver of a standby; `None` on a primary or while the standby is not connected.
    pub receiver: Reading<Option<WalReceiver>>,
    /// What is read seldom; `None` before it was read for the first time.
    pub upkeep: Option<Arc<Upkeep>>,
    /// Tables and what works on them; `None` while nobody looks at them.
    #[serde(default)]
    pub tables: Option<Arc<Tables>>,
    /// What is read more seldom than it would be, because reading it costs this server so much.
    #[serde(default)]
    pub slowed: Vec<Slowed>,
}

/// A part that is read more seldom than it would be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slowed {
    /// Which one.
    pub part: SampledPart,
    /// From one reading to the next, seconds.
    pub every_seconds: f64,
}

/// The parts of a sample whose readings become rarer the more they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum SampledPart {
    /// The counters of `pg_stat_statements`.
    Statements,
    /// Tables, indexes and constraints.
    Tables,
    /// Archiving, checkpoints, wraparound and settings.
    Housekeeping,
}

/// What is known of the server itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `server_version`, such as `15.18`, without the packager's words.
    pub version: String,
    /// `server_version_num`, such as 150018.
    pub version_num: u32,
    /// `pg_postmaster_start_time()`.
    pub started_at: Timestamp,
    /// `pg_is_in_recovery()`: true on a standby.
    pub in_recovery: bool,
    /// `max_connections`.
    pub max_connections: u32,
    /// The connections open to a role without special rights: `max_connections` less all reserved ones.
    pub usable_connections: u32,
    /// Process ids of our own connections to this server.
    pub own_pids: Vec<i32>,
    /// Whether a connection pooler stands between us and the server: what is one connection to us may be any of
    /// its server connections, and the clients that are seen are the pooler's.
    #[serde(default)]
    pub pooled: bool,
    /// Which of several hosts this is, `host:port/database (of n hosts)`; `None` where there is but one.
    #[serde(default)]
    pub endpoint: Option<String>,
}

/// What the role that we are connected as may see and do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The role's name.
    pub user: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Whether it holds the rights of `pg_read_all_stats` (part of `pg_monitor`).
    pub read_all_stats: bool,
    /// Whether it holds the rights of `pg_signal_backend`.
    pub signal_backend: bool,
    /// Whether it holds the rights of `pg_use_reserved_connections`; `None` before 16, which has no such role.
    #[serde(default)]
    pub reserved_connections: Option<bool>,
    /// Whether it holds the rights of `pg_signal_autovacuum_worker`; `None` before 18, which has no such role.
    #[serde(default)]
    pub signal_autovacuum_worker: Option<bool>,
}

/// Names by object identifier; what is not here is shown as the bare number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// `pg_roles`: oid to rolname.
    pub roles: BTreeMap<Oid, Arc<str>>,
    /// Roles that are superusers, which only a superuser may signal.
    pub superusers: BTreeSet<Oid>,
    /// `pg_database`: oid to datname.
    pub databases: BTreeMap<Oid, Arc<str>>,
    /// `pg_class` of the connected database, only relations that were asked for.
    pub relations: BTreeMap<Oid, Arc<str>>,
    /// The database that we are connected to, the only one whose relations can be named.
    pub connected_database: Oid,
}

impl Names {
    /// The role's name, or its number in digits.
    pub fn role(&self, oid: Oid) -> Arc<str> {
        name_or_number(&self.roles, oid)
    }

    /// The database's name, or its number in digits.
    pub fn database(&self, oid: Oid) -> Arc<str> {
        name_or_number(&self.databases, oid)
    }

    /// The relation's name: bare number if unknown, `database/number` if it is of another database.
    pub fn relation(&self, database: Oid, oid: Oid) -> Arc<str> {
        // Shared catalogs are listed under database 0 and are known everywhere.
        if database == 0 || database == self.connected_database {
            name_or_number(&self.relations, oid)
        } else {
            format!("{}/{oid}", self.database(database)).into()
        }
    }
}

fn name_or_number(names: &BTreeMap<Oid, Arc<str>>, oid: Oid) -> Arc<str> {
    names.get(&oid).map_or_else(|| oid.to_string().into(), Arc::clone)
}

/// Names one session for ever: a process id is reused, the pair is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// Process id of the backend.
    pub pid: i32,
    /// When the backend started; absent when our role may not see it.
    pub backend_start: Option<Timestamp>,
}

/// One row of `pg_stat_get_activity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Who it is.
    pub id: SessionId,
    /// Process id of the parallel group's leader; absent for a leader or a session without workers.
    pub leader_pid: Option<i32>,
    /// The database; absent for background processes.
    pub datid: Option<Oid>,
    /// The role; absent for background processes.
    pub usesysid: Option<Oid>,
    /// `application_name` as the client set it: any text at all.
    pub application_name: Arc<str>,
    /// Address of the client; absent for Unix sockets and background processes.
    pub client_addr: Option<IpAddr>,
    /// Port of the client; -1 for a Unix socket.
    pub client_port: Option<i32>,
    /// `client backend`, `autovacuum worker`, `walsender` and so on; absent when our role may not see it.
    pub backend_type: Option<Arc<str>>,
    /// What it is doing; absent when our role may not see it, and for background processes.
    pub state: Option<State>,
    /// The class of what it waits for; absent when it does not wait.
    pub wait_event_type: Option<Arc<str>>,
    /// What it waits for; absent when it does not wait.
    pub wait_event: Option<Arc<str>>,
    /// Start of its transaction; absent outside one.
    pub xact_start: Option<Timestamp>,
    /// Start of the current statement, or of the last one when idle.
    pub query_start: Option<Timestamp>,
    /// When `state` last changed.
    pub state_change: Option<Timestamp>,
    /// Its transaction id; present once it has written.
    pub backend_xid: Option<u32>,
    /// The oldest transaction its snapshot can still see.
    pub backend_xmin: Option<u32>,
    /// Identifier of the normalised statement (14 and later, with `compute_query_id`).
    pub query_id: Option<i64>,
    /// The current statement, or the last one when idle; cut to 1024 bytes.
    pub query: Arc<str>,
}

impl Session {
    /// Whether this is a client's session: not a background process, not a walsender. A role without
    /// `pg_read_all_stats` sees no `backend_type`, but then a client's session is the kind with a role.
    pub fn is_client(&self) -> bool {
        match self.backend_type.as_deref() {
            Some(kind) => kind == "client backend",
            None => self.usesysid.is_some() && self.datid.is_some(),
        }
    }

    /// Whether it applies a subscription's changes: such workers have a leader too (16 and later), but are no lock group
    /// and do wait for each other.
    pub fn is_apply_worker(&self) -> bool {
        self.backend_type.as_deref().is_some_and(|kind| kind.starts_with("logical replication"))
    }

    /// Whether it waits for a heavyweight lock.
    pub fn waits_for_lock(&self) -> bool {
        self.wait_event_type.as_deref() == Some("Lock")
    }

    /// Whether it waits for a safe snapshot, until the serializable transactions beside it have ended.
    pub fn waits_for_safe_snapshot(&self) -> bool {
        self.wait_event.as_deref() == Some("SafeSnapshot")
    }

    /// Whether it waits for other sessions: for a lock, or for a safe snapshot, which is no lock.
    pub fn waits_for_sessions(&self) -> bool {
        self.waits_for_lock() || self.waits_for_safe_snapshot()
    }
}

/// `state` of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Runs a statement.
    Active,
    /// Waits for the client, outside a transaction.
    Idle,
    /// Waits for the client, inside a transaction.
    IdleInTransaction,
    /// Waits for the client, inside a transaction that has failed.
    IdleInTransactionAborted,
    /// Runs a fast-path function call.
    FastpathFunctionCall,
    /// `track_activities` is off for it.
    Disabled,
    /// Logs in (18 and later).
    Starting,
}

impl State {
    /// Every state, in the order they are listed.
    pub const ALL: [Self; 7] = [
        Self::Active,
        Self::IdleInTransaction,
        Self::IdleInTransactionAborted,
        Self::FastpathFunctionCall,
        Self::Starting,
        Self::Disabled,
        Self::Idle,
    ];

    /// The server's own word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
            Self::IdleInTransactionAborted => "idle in transaction (aborted)",
            Self::FastpathFunctionCall => "fastpath function call",
            Self::Disabled => "disabled",
            Self::Starting => "starting",
        }
    }

    /// Reads the server's word; `None` for a word of a later version.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether the session holds a transaction open while its client is silent.
    pub const fn is_idle_in_transaction(self) -> bool {
        matches!(self, Self::IdleInTransaction | Self::IdleInTransactionAborted)
    }
}

/// What the lock manager knew at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockTable {
    /// Rows of `pg_lock_status()`, less those that can block nobody.
    pub rows: Vec<Lock>,
    /// Sessions that wait for a safe snapshot, which the lock table does not show.
    pub safe_snapshot_waits: Vec<SafeSnapshotWait>,
}

/// A session of `SERIALIZABLE READ ONLY DEFERRABLE` that waits until the transactions beside it have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafeSnapshotWait {
    /// The waiting process.
    pub pid: i32,
    /// `pg_safe_snapshot_blocking_pids` of it.
    pub blocked_by: Vec<i32>,
}

/// One row of `pg_lock_status()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What is locked.
    pub tag: LockTag,
    /// Virtual transaction of the holder or waiter: it tells holders apart where there is no process.
    pub virtualtransaction: Arc<str>,
    /// Process of the holder or waiter; absent for a prepared transaction.
    pub pid: Option<i32>,
    /// `AccessShareLock` to `AccessExclusiveLock`.
    pub mode: Arc<str>,
    /// Whether it is held; false: waited for.
    pub granted: bool,
    /// Since when it is waited for (14 and later; may be absent for an instant).
    pub waitstart: Option<Timestamp>,
}

impl Lock {
    /// What few rows of a lock table have in common: the process, and the parts of the object that are numbers.
    pub(crate) const fn party_and_object(&self) -> [Option<u32>; 4] {
        let pid = match self.pid {
            Some(pid) => Some(pid.cast_unsigned()),
            None => None,
        };
        [pid, self.tag.relation, self.tag.transactionid, self.tag.objid]
    }
}

/// The ten columns that together name a lockable object.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockTag {
    /// `relation`, `tuple`, `transactionid`, `virtualxid`, `advisory` and so on.
    pub locktype: Arc<str>,
    /// Database of the object; 0 for shared objects.
    pub database: Option<Oid>,
    /// Relation.
    pub relation: Option<Oid>,
    /// Page in the relation.
    pub page: Option<i32>,
    /// Tuple on the page.
    pub tuple: Option<i16>,
    /// Virtual transaction that is locked.
    pub virtualxid: Option<Arc<str>>,
    /// Transaction that is locked.
    pub transactionid: Option<u32>,
    /// Catalog of the object.
    pub classid: Option<Oid>,
    /// Object in the catalog, or half of an advisory key.
    pub objid: Option<Oid>,
    /// Column, or the kind of an advisory key.
    pub objsubid: Option<i16>,
}

/// One row of `pg_prepared_xact()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Its transaction id.
    pub transaction: u32,
    /// The name the application gave it.
    pub gid: Arc<str>,
    /// When it was prepared.
    pub prepared: Timestamp,
    /// Who prepared it.
    pub owner: Oid,
    /// The database in which it must be finished.
    pub database: Oid,
}

/// Cumulative counters of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseCounters {
    /// The database.
    pub datid: Oid,
    /// Backends connected to it now.
    pub numbackends: i64,
    /// Transactions committed.
    pub xact_commit: i64,
    /// Transactions rolled back.
    pub xact_rollback: i64,
    /// Blocks asked of the buffer cache and not found there.
    pub blks_read: i64,
    /// Blocks found in the buffer cache.
    pub blks_hit: i64,
    /// Bytes written to temporary files.
    pub temp_bytes: i64,
    /// Temporary files created.
    pub temp_files: i64,
    /// Deadlocks detected.
    pub deadlocks: i64,
    /// Statements cancelled on a standby because they were in the way of replay.
    #[serde(default)]
    pub conflicts: i64,
    /// Pages whose checksum did not match; `None` where checksums are off.
    #[serde(default)]
    pub checksum_failures: Option<i64>,
    /// When these counters were last reset.
    pub stats_reset: Option<Timestamp>,
}
