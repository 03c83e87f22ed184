//! Cases of the checks of counters, of replication and of housekeeping.

use std::sync::Arc;

use dbtriage::engine::Severity;
use dbtriage::model::postgres::{
    Archiver, Checkpoints, FreezeAge, LockUsage, Neglect, Session, Slot, State, Subscription, Upkeep, Wal,
    XminHolder, XminKind,
};
use dbtriage::model::{Body, Reading};

use super::moment::{self, session};
use super::postgres::{NO_SAMPLE, changed, database, healthy, unread};
use super::{Case, silence};

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

fn neglect(dead_rows: i64, changed_since_analyze: i64) -> Neglect {
    Neglect {
        oid: 100,
        name: "orders".into(),
        live_rows: 300_000,
        dead_rows,
        changed_since_analyze,
        vacuumed_at: moment::ago(moment::start(), 7200),
        analyzed_at: moment::ago(moment::start(), 3600),
    }
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
            check: "logins-stuck",
            seconds: 2,
            sample: |second| {
                kept(second, |it| {
                    let stuck_pids = vec![7001, 7002];
                    it.lock_usage = Reading::Fresh(LockUsage { locked: 40, room: 15_000, stuck_pids });
                })
            },
            severity: Severity::Critical,
            says: "2 logins cannot finish and hold slots: pid 7001, 7002 waits for a lock",
            blind: (|second| kept(second, |it| it.lock_usage = unread()), NOT_LET),
        },
        Case {
            check: "locks-near-limit",
            seconds: 1,
            sample: |second| {
                kept(second, |it| {
                    let stuck_pids = Vec::new();
                    it.lock_usage = Reading::Fresh(LockUsage { locked: 9_600, room: 15_000, stuck_pids });
                })
            },
            severity: Severity::Critical,
            says: "the lock table holds 9.6k of 15k objects; when it is full statements fail",
            blind: (|second| kept(second, |it| it.lock_usage = unread()), NOT_LET),
        },
        Case {
            check: "xmin-horizon",
            seconds: 1,
            sample: |second| {
                kept(second, |it| {
                    let holder =
                        XminHolder { kind: XminKind::Prepared, name: "orders-7".into(), xids: 2_400_000 };
                    it.xmin_holder = Reading::Fresh(Some(holder));
                })
            },
            severity: Severity::Warning,
            says: "prepared transaction 'orders-7' keeps VACUUM from rows that died within the last 2.4M transactions",
            blind: (|second| kept(second, |it| it.xmin_holder = unread()), NOT_LET),
        },
        Case {
            check: "invalid-index",
            seconds: 1,
            sample: |second| {
                kept(second, |it| it.invalid_indexes = Reading::Fresh(vec![(901, "orders_idx".into())]))
            },
            severity: Severity::Warning,
            says: "index orders_idx is invalid: it answers no query and costs every write",
            blind: (|second| kept(second, |it| it.invalid_indexes = unread()), NOT_LET),
        },
        Case {
            check: "dead-tuples",
            seconds: 1,
            sample: |second| kept(second, |it| it.neglected = Reading::Fresh(vec![neglect(700_000, 0)])),
            severity: Severity::Warning,
            says: "70.0% of the rows of orders are dead (700k), vacuumed 2h00m ago",
            blind: (|second| kept(second, |it| it.neglected = unread()), NOT_LET),
        },
        Case {
            check: "stale-statistics",
            seconds: 1,
            sample: |second| kept(second, |it| it.neglected = Reading::Fresh(vec![neglect(0, 400_000)])),
            severity: Severity::Notice,
            says: "400k rows of orders have changed since its last ANALYZE, 1h00m ago: plans may be wrong",
            blind: (|second| kept(second, |it| it.neglected = unread()), NOT_LET),
        },
        Case {
            check: "subscription-errors",
            seconds: 4,
            sample: |second| {
                kept(second, |it| {
                    let subscription = Subscription { name: "shop".into(), errors: Some(100 + second) };
                    it.subscriptions = Reading::Fresh(vec![subscription]);
                })
            },
            severity: Severity::Warning,
            says: "subscription shop failed 3 times since we watch",
            blind: (
                |second| {
                    kept(second, |it| {
                        let subscription = Subscription { name: "shop".into(), errors: None };
                        it.subscriptions = Reading::Fresh(vec![subscription]);
                    })
                },
                "errors of subscriptions are counted by PostgreSQL 15 and later",
            ),
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
            says: "38 MB/s went into 0 temporary files a second over the last 1m00s",
            blind: (healthy, A_MINUTE),
        },
    ]
}

/// One slot that keeps nothing much, changed in one respect.
fn with_slot(second: i64, change: impl FnOnce(&mut Slot)) -> Body {
    changed(second, |it| {
        let mut slot = moment::postgres(second, false).slots.value().unwrap()[0].clone();
        slot.restart_lsn = it.wal.value().unwrap().current_lsn;
        change(&mut slot);
        it.slots = Reading::Fresh(vec![slot]);
    })
}

/// A standby on which a report is in the way of replay; who replays is seen or not.
fn on_standby(second: i64, seen: bool) -> Body {
    changed(second, |it| {
        let now = it.server_time;
        let mut server = (*it.server).clone();
        server.in_recovery = true;
        it.server = Arc::new(server);
        it.senders = Reading::Fresh(Vec::new());
        let report = Session {
            backend_xmin: Some(77),
            ..session(now, 8801, "report", State::Active, 300, "SELECT sum(total) FROM orders")
        };
        let startup = Session {
            backend_type: Some("startup".into()),
            usesysid: None,
            wait_event_type: Some("IPC".into()),
            wait_event: Some("RecoveryConflictSnapshot".into()),
            ..session(now, 12, "", State::Active, 0, "")
        };
        it.sessions = Reading::Fresh([report, startup].into_iter().take(1 + usize::from(seen)).collect());
    })
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
            check: "slot-lost",
            seconds: 1,
            sample: |second| with_slot(second, |slot| slot.wal_status = Some("lost".into())),
            severity: Severity::Critical,
            says: "slot debezium has lost the log that it needs: its consumer must start anew",
            blind: (|second| changed(second, |it| it.slots = unread()), "replication slots cannot be read"),
        },
        Case {
            check: "slot-inactive",
            seconds: 1,
            sample: |second| {
                with_slot(second, |slot| slot.inactive_since = moment::ago(moment::start(), 2400))
            },
            severity: Severity::Critical,
            says: "slot debezium has been used by nobody for 40m00s",
            blind: (|second| changed(second, |it| it.slots = unread()), "replication slots cannot be read"),
        },
        Case {
            check: "wal-rate",
            seconds: 302,
            sample: |second| {
                changed(second, |it| {
                    it.wal = it.wal.map(|wal| {
                        let written = 100_000_000 * u64::try_from(second).unwrap();
                        Wal { current_lsn: wal.current_lsn.map(|lsn| lsn + written), ..wal.clone() }
                    });
                    it.senders = Reading::Fresh(Vec::new());
                })
            },
            severity: Severity::Warning,
            says: "99 MB/s of write-ahead log over the last 5m00s",
            blind: (healthy, "judged over five minutes"),
        },
        Case {
            check: "replay-conflict",
            seconds: 2,
            sample: |second| on_standby(second, true),
            severity: Severity::Warning,
            says: "replay waits for a query on this standby (RecoveryConflictSnapshot); the oldest snapshot is that of 8801 report, for 5m00s",
            blind: (|second| on_standby(second, false), "the startup process cannot be seen"),
        },
        Case {
            check: "conflicts",
            seconds: 62,
            sample: |second| {
                let Body::Postgres(mut it) = on_standby(second, true) else { unreachable!() };
                database(Arc::make_mut(&mut it), |counters| counters.conflicts = second / 6);
                Body::Postgres(it)
            },
            severity: Severity::Warning,
            says: "10 queries on this standby were cancelled because of replay within the last 1m00s",
            blind: (|second| on_standby(second, true), A_MINUTE),
        },
        Case {
            check: "checksum-failures",
            seconds: 3,
            sample: |second| {
                changed(second, |it| database(it, |counters| counters.checksum_failures = Some(second)))
            },
            severity: Severity::Critical,
            says: "2 reads of database reports met a page that does not match its checksum",
            blind: (
                |second| changed(second, |it| it.databases = unread()),
                "the counters of the databases cannot be read",
            ),
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
