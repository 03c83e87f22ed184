//! Situations of Redis.

use dbtriage::engine::Severity;
use dbtriage::model::Body;
use dbtriage::model::redis::Sample;

use crate::{Case, moment, silence};

fn changed(second: i64, change: impl FnOnce(&mut Sample)) -> Body {
    let mut sample = moment::redis(u64::try_from(second).unwrap());
    sample.evicted_keys = Some(7);
    let seconds = u64::try_from(second).unwrap();
    (sample.keyspace_hits, sample.keyspace_misses) = (Some(1000 + seconds * 95), Some(400 + seconds * 5));
    change(&mut sample);
    Body::Redis(Box::new(sample))
}

pub(crate) fn healthy(second: i64) -> Body {
    changed(second, |_| ())
}

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
    ]
}
