//! INFO's `field:value` lines to the model. Any text is accepted; what is missing stays absent.

use std::str::FromStr;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use jiff::{SignedDuration, Timestamp};

use crate::model::redis::{Cluster, Replica, Sample};

/// The most `slaveN` lines that are looked for.
const REPLICAS_MAX: usize = 64;

/// About so many fields an answer has.
const FIELDS: usize = 256;

/// The most of a word that is kept, in characters.
const WORD_MAX: usize = 200;

/// Reads the answer of INFO, received at `now`.
pub(super) fn parse(text: &str, now: Timestamp, ping_seconds: f64) -> Sample {
    let info = fields(text);
    let cpu = number::<f64>(&info, "used_cpu_user_main_thread")
        .zip(number::<f64>(&info, "used_cpu_sys_main_thread"));
    let uptime = number::<i64>(&info, "uptime_in_seconds").map(SignedDuration::from_secs);
    Sample {
        version: word(&info, "redis_version"),
        role: word(&info, "role"),
        mode: word(&info, "redis_mode"),
        run_id: word(&info, "run_id"),
        started_at: uptime.and_then(|uptime| now.checked_sub(uptime).ok()),
        keyspace_hits: number(&info, "keyspace_hits"),
        keyspace_misses: number(&info, "keyspace_misses"),
        evicted_keys: number(&info, "evicted_keys"),
        expired_keys: number(&info, "expired_keys"),
        used_memory_bytes: number(&info, "used_memory"),
        maxmemory_bytes: number(&info, "maxmemory"),
        maxmemory_policy: word(&info, "maxmemory_policy"),
        mem_fragmentation_ratio: number(&info, "mem_fragmentation_ratio"),
        connected_clients: number(&info, "connected_clients"),
        blocked_clients: number(&info, "blocked_clients"),
        maxclients: number(&info, "maxclients"),
        rejected_connections: number(&info, "rejected_connections"),
        total_commands_processed: number(&info, "total_commands_processed"),
        main_thread_cpu_seconds: cpu.map(|(user, system)| user + system),
        master_link_status: word(&info, "master_link_status"),
        master_repl_offset: number(&info, "master_repl_offset"),
        slave_repl_offset: number(&info, "slave_repl_offset"),
        replicas: (0..REPLICAS_MAX)
            .map_while(|n| word(&info, &format!("slave{n}")))
            .map(|line| replica(&line))
            .collect(),
        ping_seconds,
        rdb_last_bgsave_status: word(&info, "rdb_last_bgsave_status"),
        aof_last_write_status: word(&info, "aof_last_write_status"),
        aof_last_bgrewrite_status: word(&info, "aof_last_bgrewrite_status"),
        cluster_enabled: number(&info, "cluster_enabled"),
        upkeep: None,
    }
}

/// Reads the answer of CLUSTER INFO; `None` where it names no state.
pub(super) fn parse_cluster(text: &str) -> Option<Cluster> {
    let info = fields(text);
    let count = |field: &str| number(&info, field).unwrap_or_default();
    Some(Cluster {
        state: word(&info, "cluster_state")?,
        slots_assigned: count("cluster_slots_assigned"),
        slots_pfail: count("cluster_slots_pfail"),
        slots_fail: count("cluster_slots_fail"),
        known_nodes: count("cluster_known_nodes"),
    })
}

/// The fields by name. The crate's own dictionary makes a value of each of two hundred with every tick.
fn fields(text: &str) -> HashMap<&str, &str> {
    let mut fields = HashMap::with_capacity(FIELDS);
    fields.extend(text.lines().filter_map(|line| line.split_once(':')));
    fields
}

fn number<T: FromStr>(info: &HashMap<&str, &str>, field: &str) -> Option<T> {
    info.get(field)?.parse().ok()
}

fn word(info: &HashMap<&str, &str>, field: &str) -> Option<Arc<str>> {
    info.get(field).map(|word| word.chars().take(WORD_MAX).collect::<String>().into())
}

/// `ip=10.0.0.2,port=6379,state=online,offset=1234,lag=0`.
fn replica(line: &str) -> Replica {
    let field = |name: &str| {
        line.split(',')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map_or("", |(_, value)| value)
    };
    Replica {
        address: format!("{}:{}", field("ip"), field("port")).into(),
        state: field("state").into(),
        offset: field("offset").parse().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_and_missing_ones_stay_absent() {
        let text = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:60\r\n# Stats\r\nkeyspace_hits:16\r\nkeyspace_misses:34\r\n\
                    used_cpu_sys_main_thread:1.5\r\nused_cpu_user_main_thread:2.25\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=12,lag=0\r\n";
        let now: Timestamp = "2026-11-02T16:02:00Z".parse().unwrap();
        let sample = parse(text, now, 0.001);
        assert_eq!(sample.version.as_deref(), Some("7.0.15"));
        assert_eq!(sample.started_at, Some("2026-11-02T16:01:00Z".parse().unwrap()));
        assert_eq!((sample.keyspace_hits, sample.keyspace_misses), (Some(16), Some(34)));
        assert_eq!(sample.main_thread_cpu_seconds, Some(3.75));
        assert_eq!(sample.maxmemory_bytes, None);
        assert_eq!(
            sample.replicas,
            [Replica { address: "10.0.0.2:6379".into(), state: "online".into(), offset: 12 }]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            parse(&text, Timestamp::UNIX_EPOCH, 0.0);
        }
    }
}
