//! One reading of a Redis server: what INFO says, in its own terms.
//!
//! Every field is optional because forks and managed services leave some out. It must not know how INFO is asked.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::Reading;

/// Everything one tick reads from a Redis server. Absent = the server does not report it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// `redis_version`.
    pub version: Option<Arc<str>>,
    /// `role`: `master` or `slave`.
    pub role: Option<Arc<str>>,
    /// `redis_mode`: `standalone`, `sentinel` or `cluster`.
    pub mode: Option<Arc<str>>,
    /// `run_id`: changes with every start.
    pub run_id: Option<Arc<str>>,
    /// Start of the server: our clock less `uptime_in_seconds`.
    pub started_at: Option<Timestamp>,
    /// `keyspace_hits`, cumulative.
    pub keyspace_hits: Option<u64>,
    /// `keyspace_misses`, cumulative.
    pub keyspace_misses: Option<u64>,
    /// `evicted_keys`, cumulative.
    pub evicted_keys: Option<u64>,
    /// `expired_keys`, cumulative.
    pub expired_keys: Option<u64>,
    /// `used_memory`, bytes.
    pub used_memory_bytes: Option<u64>,
    /// `maxmemory`, bytes; 0 = no limit.
    pub maxmemory_bytes: Option<u64>,
    /// `maxmemory_policy`.
    pub maxmemory_policy: Option<Arc<str>>,
    /// `mem_fragmentation_ratio`.
    pub mem_fragmentation_ratio: Option<f64>,
    /// `connected_clients`.
    pub connected_clients: Option<u64>,
    /// `blocked_clients`.
    pub blocked_clients: Option<u64>,
    /// `maxclients`.
    pub maxclients: Option<u64>,
    /// `rejected_connections`, cumulative.
    pub rejected_connections: Option<u64>,
    /// `total_commands_processed`, cumulative.
    pub total_commands_processed: Option<u64>,
    /// `used_cpu_user_main_thread` and `used_cpu_sys_main_thread` together, seconds, cumulative (6.2 and later).
    pub main_thread_cpu_seconds: Option<f64>,
    /// `master_link_status` of a replica: `up` or `down`.
    pub master_link_status: Option<Arc<str>>,
    /// `master_repl_offset`, bytes.
    pub master_repl_offset: Option<u64>,
    /// `slave_repl_offset` of a replica, bytes.
    pub slave_repl_offset: Option<u64>,
    /// The replicas connected to it.
    pub replicas: Vec<Replica>,
    /// Round trip of a PING just before INFO, seconds.
    pub ping_seconds: f64,
    /// `rdb_last_bgsave_status`: `ok` or `err`.
    #[serde(default)]
    pub rdb_last_bgsave_status: Option<Arc<str>>,
    /// `aof_last_write_status`: `ok` or `err`.
    #[serde(default)]
    pub aof_last_write_status: Option<Arc<str>>,
    /// `aof_last_bgrewrite_status`: `ok` or `err`.
    #[serde(default)]
    pub aof_last_bgrewrite_status: Option<Arc<str>>,
    /// `cluster_enabled`.
    #[serde(default)]
    pub cluster_enabled: Option<u64>,
    /// What is read seldom; `None` before it was read for the first time.
    #[serde(default)]
    pub upkeep: Option<Arc<Upkeep>>,
}

/// What is read every few seconds only, because it is asked for client by client or entry by entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Names and addresses of the clients that run MONITOR.
    pub monitors: Reading<Vec<Arc<str>>>,
    /// The newest entries of the slow log, newest first.
    pub slow_log: Reading<Vec<SlowCommand>>,
    /// The cluster; `None` where this server is no node of one.
    pub cluster: Option<Reading<Cluster>>,
}

/// An entry of the slow log, without the arguments of the command: they are somebody's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowCommand {
    /// Grows with every entry.
    pub id: i64,
    /// When it ran, by the server's clock.
    pub at: Timestamp,
    /// What it took, seconds.
    pub seconds: f64,
    /// The command.
    pub name: Arc<str>,
}

/// What CLUSTER INFO says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// `cluster_state`: `ok` or `fail`.
    pub state: Arc<str>,
    /// `cluster_slots_assigned`, of 16384.
    pub slots_assigned: u64,
    /// `cluster_slots_pfail`: of nodes that this one cannot reach.
    pub slots_pfail: u64,
    /// `cluster_slots_fail`: of nodes that the cluster has given up.
    pub slots_fail: u64,
    /// `cluster_known_nodes`.
    pub known_nodes: u64,
}

/// One `slaveN` line of INFO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// `ip:port`.
    pub address: Arc<str>,
    /// `online`, `wait_bgsave` and so on.
    pub state: Arc<str>,
    /// Replication offset it has confirmed, bytes.
    pub offset: u64,
}
