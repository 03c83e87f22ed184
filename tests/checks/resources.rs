//! Cases of the checks of counters, of replication and of housekeeping.

use std::sync::Arc;

use dbtriage::engine::Severity;
use dbtriage::model::postgres::{Archiver, Checkpoints, FreezeAge, Upkeep};
use dbtriage::model::{Body, Reading};

use super::postgres::{NO_SAMPLE, changed, database, healthy, unread};
use super::{Case, moment, silence};

const A_MINUTE: &str = "judged over a minute";

/// Housekeeping, changed in one respect.
fn kept(second: i64, change: impl FnOnce(&mut Upkeep)) -> Body {
    changed(second, |it| {
        let mut upkeep = moment::upkeep();
        change(&mut upkeep);
        it.upkeep = Some(Arc::new(upkeep));
    })
}

const NOT_LET: &str = "the server does not let us read it";

pub(crate) fn cases() -> Vec<Case> {
    let mut all = of_upkeep();
    all.extend(of_activity());
    all.extend(of_replication());
    all
}

fn of_upkeep() -> Vec<Case> {
    vec![
        Case {
            check: "checkpoints",
            seconds: 10,
            sample: |second| {
                kept(second, |it| {
                    it.checkpoints = Reading::Fresh(Checkpoints { timed: 900, requested: 4 + second / 3 });
                })
            },
            severity: Severity::Warning,
            says: "3 of 3 checkpoints since we watch came before their time",
            blind: (|second| kept(second, |it| it.checkpoints = unread()), NOT_LET),
        },
        Case {
            check: "archiver",
            seconds: 1,
            sample: |second| {
                kept(second, |it| {
                    it.archiver = Reading::Fresh(Archiver {
                        is_on: true,
                        archived_at: moment::ago(moment::start(), 7200),
                        failed_count: 120,
                        failed_at: moment::ago(moment::start(), 12),
                        failed_file: Some("00000001000000000000000A".into()),
                    });
                })
            },
            severity: Severity::Warning,
            says: "archiving fails: 00000001000000000000000A 12s ago; the last was archived 2h00m ago",
            blind: (|second| changed(second, |it| it.upkeep = None), "not read yet"),
        },
        Case {
            check: "wraparound",
            seconds: 1,
            sample: |second| {
                kept(second, |it| {
                    let age = FreezeAge { datid: 6, xids: 1_200_000_000, multixacts: 4 };
                    it.freeze_ages = Reading::Fresh(vec![age]);
                })
            },
            severity: Severity::Warning,
            says: "database shop has not been frozen for 1200M transactions, 55.8% of what there are",
            blind: (|second| kept(second, |it| it.freeze_ages = unread()), NOT_LET),
        },
        Case {
            check: "pending-restart",
            seconds: 1,
            sample: |second| {
                kept(second, |it| {
                    let names = ["max_connections", "shared_buffers", "wal_level", "max_wal_senders"];
                    it.pending_restart = Reading::Fresh(names.map(Into::into).to_vec());
                })
            },
            severity: Severity::Notice,
            says: "changed and waiting for a restart: max_connections, shared_buffers, wal_level, ...",
            blind: (|second| kept(second, |it| it.pending_restart = unread()), NOT_LET),
        },
    ]
}

fn of_activity() -> Vec<Case> {
    vec![
        Case {
            check: "operation-spike",
            seconds: 302,
            sample: |second| {
                changed(second, |it| {
                    database(it, |counters| {
                        counters.stats_reset = moment::ago(moment::start(), 100_000);
                        counters.xact_commit = 10_000_000 + second * 1200;
                    });
                })
            },
            severity: Severity::Notice,
            says: "1.2k transactions/s over the last 5m00s, 12x the average of the time since the reset",
            blind: (healthy, "judged over five minutes"),
        },
        Case {
            check: "deadlocks",
            seconds: 62,
            sample: |second| changed(second, |it| database(it, |counters| counters.deadlocks = second / 5)),
            severity: Severity::Warning,
            says: "12 deadlocks within the last 1m00s",
            blind: (healthy, A_MINUTE),
        },
        Case {
            check: "rollback-ratio",
            seconds: 62,
            sample: |second| {
                changed(second, |it| database(it, |counters| counters.xact_rollback = second * 400))
            },
            severity: Severity::Warning,
            says: "25.0% of 1.6k transactions/s were rolled back over the last 1m00s",
            blind: (healthy, A_MINUTE),
        },
        Case {
            check: "temp-files",
            seconds: 62,
            sample: |second| {
                changed(second, |it| database(it, |counters| counters.temp_bytes = second * 40_000_000))
            },
            severity: Severity::Warning,
            says: "38 MB/s went into temporary files over the last 1m00s",
            blind: (healthy, A_MINUTE),
        },
    ]
}

fn of_replication() -> Vec<Case> {
    vec![
        Case {
            check: "buffer-hit-rate",
            seconds: 302,
            sample: |second| {
                changed(second, |it| database(it, |counters| counters.blks_read = second * 3_000))
            },
            severity: Severity::Warning,
            says: "75.0% of 12k blocks/s were found in the buffer cache over the last 5m00s",
            blind: (healthy, "judged over five minutes"),
        },
        Case {
            check: "replication-lag",
            seconds: 2,
            sample: |second| changed(second, |it| it.senders = moment::postgres(second, false).senders),
            severity: Severity::Critical,
            says: "shop-db-2 replays 31s, 390 MB behind",
            blind: (silence, NO_SAMPLE),
        },
        Case {
            check: "slot-retention",
            seconds: 1,
            sample: |second| changed(second, |it| it.slots = moment::postgres(second, false).slots),
            severity: Severity::Critical,
            says: "slot debezium keeps 17 GB of log and is used by nobody",
            blind: (|second| changed(second, |it| it.slots = unread()), "replication slots cannot be read"),
        },
        Case {
            check: "pooler",
            seconds: 1,
            sample: |second| {
                changed(second, |it| {
                    let mut server = (*it.server).clone();
                    server.pooled = true;
                    it.server = Arc::new(server);
                })
            },
            severity: Severity::Warning,
            says: "through a pooler: sessions are the pooler's",
            blind: (silence, NO_SAMPLE),
        },
    ]
}
