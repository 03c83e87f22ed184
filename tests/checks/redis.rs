//! Situations of Redis.

use std::sync::Arc;

use dbtriage::engine::Severity;
use dbtriage::model::redis::{Cluster, Sample, SlowCommand, Upkeep};
use dbtriage::model::{Body, Reading, Reason};

use crate::{Case, moment, silence};

fn changed(second: i64, change: impl FnOnce(&mut Sample)) -> Body {
    let mut sample = moment::redis(u64::try_from(second).unwrap());
    sample.evicted_keys = Some(7);
    let seconds = u64::try_from(second).unwrap();
    (sample.keyspace_hits, sample.keyspace_misses) = (Some(1000 + seconds * 95), Some(400 + seconds * 5));
    change(&mut sample);
    Body::Redis(Arc::new(sample))
}

pub(crate) fn healthy(second: i64) -> Body {
    changed(second, |_| ())
}

/// What is read seldom, changed in one respect.
fn kept(second: i64, change: impl FnOnce(&mut Upkeep)) -> Body {
    changed(second, |it| {
        let mut upkeep = it.upkeep.as_deref().cloned().unwrap();
        change(&mut upkeep);
        it.upkeep = Some(Arc::new(upkeep));
    })
}

const NOT_LET: &str = "the server does not let us read it";

pub(crate) fn cases() -> Vec<Case> {
    let no_sample = "no sample yet";
    vec![
        Case {
            check: "redis-memory",
            seconds: 2,
            sample: |second| changed(second, |it| it.maxmemory_policy = Some("noeviction".into())),
            severity: Severity::Warning,
            says: "4.0 GB of 4.0 GB in use, and nothing is evicted: writes fail when it is full",
            blind: (silence, no_sample),
        },
        Case {
            check: "redis-hit-rate",
            seconds: 62,
            sample: |second| {
                changed(second, |it| {
                    let seconds = u64::try_from(second).unwrap();
                    it.keyspace_hits = Some(seconds * 20);
                    it.keyspace_misses = Some(seconds * 80);
                })
            },
            severity: Severity::Critical,
            says: "20.0% of 100 look-ups/s found their key over the last 1m00s",
            blind: (healthy, "judged over a minute"),
        },
        Case {
            check: "redis-evictions",
            seconds: 62,
            sample: |second| {
                changed(second, |it| it.evicted_keys = Some(u64::try_from(second).unwrap() * 512))
            },
            severity: Severity::Notice,
            says: "512 keys/s were evicted over the last 1m00s",
            blind: (healthy, "judged over a minute"),
        },
        Case {
            check: "redis-clients",
            seconds: 2,
            sample: |second| changed(second, |it| it.connected_clients = Some(9_600)),
            severity: Severity::Critical,
            says: "9600 of 10000 clients are connected",
            blind: (
                |second| changed(second, |it| it.maxclients = None),
                "the server does not tell its limit",
            ),
        },
        Case {
            check: "redis-replication",
            seconds: 2,
            sample: |second| changed(second, |it| it.master_link_status = Some("down".into())),
            severity: Severity::Critical,
            says: "the link to the master is down: what is read here is old",
            blind: (silence, no_sample),
        },
        Case {
            check: "redis-persistence",
            seconds: 1,
            sample: |second| changed(second, |it| it.aof_last_write_status = Some("err".into())),
            severity: Severity::Critical,
            says: "the append-only file cannot be written: writes are refused",
            blind: (silence, no_sample),
        },
        Case {
            check: "redis-cluster",
            seconds: 2,
            sample: |second| {
                kept(second, |it| {
                    it.cluster = Some(Reading::Fresh(Cluster {
                        state: "fail".into(),
                        slots_assigned: 10_923,
                        slots_pfail: 0,
                        slots_fail: 5_461,
                        known_nodes: 6,
                    }));
                })
            },
            severity: Severity::Critical,
            says: "the cluster is down: 10923 of 16384 slots assigned, 5461 on nodes that do not answer, 6 nodes known",
            blind: (
                |second| {
                    kept(second, |it| it.cluster = Some(Reading::Unavailable(Reason::new("not permitted"))))
                },
                NOT_LET,
            ),
        },
        Case {
            check: "redis-monitor",
            seconds: 1,
            sample: |second| {
                kept(second, |it| it.monitors = Reading::Fresh(vec!["alice 10.0.0.9:51000".into()]))
            },
            severity: Severity::Warning,
            says: "alice 10.0.0.9:51000 runs MONITOR: it is sent every command, which halves what Redis can do",
            blind: (|second| changed(second, |it| it.upkeep = None), "not read yet"),
        },
        Case {
            check: "redis-slowlog",
            seconds: 1,
            sample: |second| {
                kept(second, |it| {
                    let entry = |id, seconds| SlowCommand {
                        id,
                        at: moment::ago(moment::start(), 5).unwrap(),
                        seconds,
                        name: "KEYS".into(),
                    };
                    it.slow_log = Reading::Fresh(vec![entry(9, 1.25), entry(8, 0.2)]);
                })
            },
            severity: Severity::Warning,
            says: "KEYS took 1.25s, one of 2 within a minute: everybody waited",
            blind: (
                |second| kept(second, |it| it.slow_log = Reading::Unavailable(Reason::new("not permitted"))),
                NOT_LET,
            ),
        },
    ]
}
