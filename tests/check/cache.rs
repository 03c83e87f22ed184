//! Redis: its memory, its hits, its evictions, its clients and its master.

use std::net::TcpStream;

use dbtriage_lab::Redis;
use dbtriage_lab::terminal::until;
use redis::InfoDict;

use super::watching::{Busy, Watch, busy_with, watch};
use super::{PATIENCE, alone, busy};

/// A figure of the server.
fn info(redis: &Redis, name: &str) -> f64 {
    let info: InfoDict = redis::from_redis_value(redis.command(&["INFO"]).unwrap()).unwrap();
    info.get(name).unwrap()
}

fn set(redis: &Redis, name: &str, value: &str) {
    redis.command(&["CONFIG", "SET", name, value]).unwrap();
}

/// Writes kilobytes under so many keys, with one command.
fn fill(redis: &Redis, prefix: &str, keys: u32) {
    let value = "v".repeat(1000);
    let names: Vec<String> = (0..keys).map(|key| format!("{prefix}:{key}")).collect();
    let pairs = names.iter().flat_map(|name| [name.as_str(), value.as_str()]);
    let words: Vec<&str> = ["MSET"].into_iter().chain(pairs).collect();
    redis.command(&words).unwrap();
}

#[test]
fn a_full_redis_that_evicts_nothing_is_told_before_and_when_writes_fail() {
    let lab = alone();
    let redis = lab.redis().unwrap();
    fill(redis, "page", 5_000);
    set(redis, "maxmemory-policy", "noeviction");
    for (share, severity, limit) in [(0.95, "warning", 90.0), (1.2, "critical", 100.0)] {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
        let maxmemory = (info(redis, "used_memory") / share) as u64;
        set(redis, "maxmemory", &maxmemory.to_string());
        let report = watch("1s", "", &[&redis.url()]).end();
        let [found] = report.found(["redis-memory"]);
        found.assert_judged(severity, limit, "percent");
        found.assert_near(100.0 * info(redis, "used_memory") / info(redis, "maxmemory"), 0.03);
        found.assert_says(&[" MB in use, and nothing is evicted: writes fail when it is full"]);
    }
    redis.command(&["SET", "one", "more"]).unwrap_err();
    set(redis, "maxmemory", "20mb");
    set(redis, "maxmemory-policy", "allkeys-lru");
    redis.command(&["FLUSHALL"]).unwrap();
}

#[test]
fn keys_that_are_missed_and_keys_that_are_evicted_are_measured() {
    let lab = alone();
    let redis = lab.redis().unwrap().clone();
    fill(&redis, "session", 20);
    let counters = |redis: &Redis| {
        ["keyspace_hits", "keyspace_misses", "evicted_keys"].map(|counter| info(redis, counter))
    };
    let measured = |load: Busy, watching: Watch| {
        let before = counters(&redis);
        let report = watching.end();
        let after = counters(&redis);
        drop(load);
        (report, [0, 1, 2].map(|place| after[place] - before[place]))
    };

    let reader = redis.clone();
    let load = busy_with(move || {
        let found = ["session:1", "session:2", "session:3"];
        let missed = ["gone:1", "gone:2", "gone:3"];
        let words: Vec<&str> = ["MGET"].into_iter().chain(found).chain(missed).collect();
        reader.command(&words).unwrap();
    });
    let (report, [hits, misses, _]) = measured(load, watch("2s", "", &[&redis.url()]));
    let [found] = report.found(["redis-hit-rate"]);
    found.assert_judged("warning", 70.0, "percent");
    found.assert_near(100.0 * hits / (hits + misses), 0.05);
    found.assert_says(&["% of ", " look-ups/s found their key over the last "]);

    set(&redis, "maxmemory", "3mb");
    let writer = redis.clone();
    let mut round = 0;
    let load = busy_with(move || {
        round += 1;
        fill(&writer, &format!("flood{round}"), 50);
    });
    until("evictions", PATIENCE, || info(&redis, "evicted_keys") > 1000.0);
    let (report, [.., evicted]) = measured(load, watch("2s", "", &[&redis.url()]));
    let [found] = report.found(["redis-evictions"]);
    found.assert_judged("notice", 10.0, "keys per second");
    found.assert_near(evicted / 2.0, 0.4);
    found.assert_says(&["keys/s were evicted over the last "]);
    set(&redis, "maxmemory", "20mb");
    redis.command(&["FLUSHALL"]).unwrap();
}

#[test]
fn clients_of_redis_near_their_limit_are_counted() {
    let lab = alone();
    let redis = lab.redis().unwrap();
    set(redis, "maxclients", "20");
    let held: Vec<TcpStream> =
        (0..16).map(|_| TcpStream::connect(("127.0.0.1", redis.port)).unwrap()).collect();
    until("the clients", PATIENCE, || info(redis, "connected_clients") >= 17.0);
    let report = watch("1s", "", &[&redis.url()]).end();
    let [found] = report.found(["redis-clients"]);
    found.assert_judged("warning", 80.0, "percent");
    // Who looks is a client too.
    found.assert_near(100.0 * 17.0 / 20.0, 0.001);
    found.assert_says(&["17 of 20 clients are connected"]);
    drop(held);
    set(redis, "maxclients", "10000");
}

#[test]
fn a_replica_of_redis_whose_master_has_stopped_is_told_and_one_that_follows_is_not() {
    let (masters, lab) = (busy(), alone());
    let (master, replica) = (masters.redis().unwrap(), lab.redis().unwrap());
    set(master, "repl-diskless-sync-delay", "0");
    let link = |state: &str| {
        let info: InfoDict = redis::from_redis_value(replica.command(&["INFO"]).unwrap()).unwrap();
        info.get::<String>("master_link_status").as_deref() == Some(state)
    };
    replica.command(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]).unwrap();
    until("the link", PATIENCE, || link("up"));
    watch("1s", "", &[&replica.url(), &master.url()]).end().target(0).found([]);
    master.stop().unwrap();
    until("the end of the link", PATIENCE, || link("down"));
    let report = watch("1s", "", &[&replica.url()]).end();
    let [found] = report.found(["redis-replication"]);
    found.assert_judged("critical", 1.0, "links");
    found.assert_says(&["the link to the master is down"]);
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    master.start().unwrap();
}
