//! A Redis target of the snapshot.

use serde::Serialize;

use super::{FindingEntry, Unavailable, error, findings, status};
use crate::engine::{Observer, RedisTick, Tick};
use crate::format::rfc3339;

#[derive(Serialize)]
pub(super) struct RedisTarget {
    name: String,
    kind: &'static str,
    status: &'static str,
    error: Option<String>,
    server: Option<RedisServer>,
    cache: Option<RedisCache>,
    memory: Option<Memory>,
    clients: Option<Clients>,
    load: Option<RedisLoad>,
    replication: Option<RedisReplication>,
    findings: Vec<FindingEntry>,
    unavailable: Vec<Unavailable>,
}

#[derive(Serialize)]
struct RedisServer {
    version: Option<String>,
    role: Option<String>,
    mode: Option<String>,
    run_id: Option<String>,
    started_at: Option<String>,
}

#[derive(Serialize)]
struct RedisCache {
    hit_ratio: Option<f64>,
    hits_per_second: Option<f64>,
    misses_per_second: Option<f64>,
    evictions_per_second: Option<f64>,
    expirations_per_second: Option<f64>,
}

#[derive(Serialize)]
struct Memory {
    used_bytes: Option<u64>,
    limit_bytes: Option<u64>,
    policy: Option<String>,
    fragmentation_ratio: Option<f64>,
}

#[derive(Serialize)]
struct Clients {
    connected: Option<u64>,
    blocked: Option<u64>,
    limit: Option<u64>,
    rejected_per_second: Option<f64>,
}

#[derive(Serialize)]
struct RedisLoad {
    commands_per_second: Option<f64>,
    main_thread_cpu_ratio: Option<f64>,
    ping_seconds: f64,
}

#[derive(Serialize)]
struct RedisReplication {
    link: Option<String>,
    lag_bytes: Option<u64>,
    replicas: Vec<ReplicaEntry>,
}

#[derive(Serialize)]
struct ReplicaEntry {
    address: String,
    state: String,
    lag_bytes: Option<u64>,
}

impl RedisTarget {
    pub(super) fn of(observer: &Observer) -> Self {
        let tick = observer.tick().and_then(Tick::redis);
        let owned = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        let sample = tick.map(|tick| &tick.sample);
        Self {
            name: observer.target.name.clone(),
            kind: "redis",
            status: status(observer, false),
            error: error(observer),
            server: sample.map(|sample| RedisServer {
                version: owned(&sample.version),
                role: owned(&sample.role),
                mode: owned(&sample.mode),
                run_id: owned(&sample.run_id),
                started_at: sample.started_at.map(rfc3339),
            }),
            cache: tick.map(|tick| RedisCache {
                hit_ratio: tick.rates.hit_ratio,
                hits_per_second: tick.rates.hits_per_second,
                misses_per_second: tick.rates.misses_per_second,
                evictions_per_second: tick.rates.evictions_per_second,
                expirations_per_second: tick.rates.expirations_per_second,
            }),
            memory: sample.map(|sample| Memory {
                used_bytes: sample.used_memory_bytes,
                // Redis writes "no limit" as 0.
                limit_bytes: sample.maxmemory_bytes.filter(|limit| *limit > 0),
                policy: owned(&sample.maxmemory_policy),
                fragmentation_ratio: sample.mem_fragmentation_ratio,
            }),
            clients: tick.map(|tick| Clients {
                connected: tick.sample.connected_clients,
                blocked: tick.sample.blocked_clients,
                limit: tick.sample.maxclients,
                rejected_per_second: tick.rates.rejected_per_second,
            }),
            load: tick.map(|tick| RedisLoad {
                commands_per_second: tick.rates.commands_per_second,
                main_thread_cpu_ratio: tick.rates.main_thread_cpu_ratio,
                ping_seconds: tick.sample.ping_seconds,
            }),
            replication: tick.map(RedisReplication::of),
            findings: findings(observer),
            unavailable: Vec::new(),
        }
    }
}

impl RedisReplication {
    fn of(tick: &RedisTick) -> Self {
        let sample = &tick.sample;
        let is_master = sample.role.as_deref() == Some("master");
        let behind = |offset: u64| sample.master_repl_offset.map(|end| end.saturating_sub(offset));
        Self {
            link: sample.master_link_status.as_deref().map(str::to_owned),
            // A replica knows its own offset only, not how far its master is.
            lag_bytes: None,
            replicas: sample
                .replicas
                .iter()
                .map(|replica| ReplicaEntry {
                    address: replica.address.to_string(),
                    state: replica.state.to_string(),
                    // Before its first synchronisation is over a replica's offset is 0 and means nothing.
                    lag_bytes: behind(replica.offset).filter(|_| is_master && &*replica.state == "online"),
                })
                .collect(),
        }
    }
}
