//! Situations of PostgreSQL.

use std::sync::Arc;

use dbtriage::engine::Severity;
use dbtriage::model::postgres::{Archiver, Checkpoints, FreezeAge, Sample, Session, State, Upkeep};
use dbtriage::model::{Body, Reading, Reason};

use crate::moment::{self, session};
use crate::{Case, silence};

/// A server on which nothing is wrong.
pub(crate) fn calm(second: i64) -> Sample {
    let mut sample = moment::postgres(second, false);
    sample.slots = Reading::Fresh(Vec::new());
    sample.senders = sample.senders.map(|senders| {
        let mut senders = senders.clone();
        for sender in &mut senders {
            (sender.replay_lsn, sender.replay_lag_seconds) = (sender.sent_lsn, Some(0.0));
        }
        senders
    });
    // A million transactions by twelve hundred a second.
    database(&mut sample, |counters| counters.stats_reset = moment::ago(moment::start(), 834));
    counters(&mut sample, |statements| {
        statements[0].total_exec_ms = 41_000.0 + 160.0 * float(second);
    });
    sample
}

/// The same, changed in one respect.
fn changed(second: i64, change: impl FnOnce(&mut Sample)) -> Body {
    let mut sample = calm(second);
    change(&mut sample);
    Body::Postgres(Box::new(sample))
}

pub(crate) fn healthy(second: i64) -> Body {
    changed(second, |_| ())
}

fn float(second: i64) -> f64 {
    f64::from(i32::try_from(second).unwrap())
}

fn counters(sample: &mut Sample, change: impl FnOnce(&mut Vec<dbtriage::model::postgres::Statement>)) {
    sample.statements = sample.statements.map(|statements| {
        let mut statements = (**statements).clone();
        change(&mut statements.rows);
        Arc::new(statements)
    });
}

fn database(sample: &mut Sample, change: impl FnOnce(&mut dbtriage::model::postgres::DatabaseCounters)) {
    sample.databases = sample.databases.map(|databases| {
        let mut databases = databases.clone();
        change(&mut databases[0]);
        databases
    });
}

/// More sessions of an application, all of the same age in seconds.
fn sessions(sample: &mut Sample, count: i32, application: &str, state: State, age: i64, query: &str) {
    let now = sample.server_time;
    let all = (0..count).map(|n| session(now, 5000 + n, application, state, age, query));
    add(sample, all);
}

fn add(sample: &mut Sample, more: impl Iterator<Item = Session>) {
    sample.sessions = sample.sessions.map(|sessions| sessions.iter().cloned().chain(more).collect());
}

fn unread<T>() -> Reading<T> {
    Reading::Unavailable(Reason::new("permission denied"))
}

fn without_sessions(second: i64) -> Body {
    changed(second, |it| it.sessions = unread())
}

fn without_rights(second: i64) -> Body {
    changed(second, |it| {
        let mut rights = (*it.rights).clone();
        rights.read_all_stats = false;
        it.rights = Arc::new(rights);
    })
}

fn without_statements(second: i64) -> Body {
    changed(second, |it| it.statements = unread())
}

const NO_SESSIONS: &str = "sessions cannot be read";
const NO_RIGHTS: &str = "needs pg_read_all_stats (part of pg_monitor)";
const NO_STATEMENTS: &str = "needs pg_stat_statements";
const NO_SAMPLE: &str = "no sample yet";
const A_MINUTE: &str = "judged over a minute";

pub(crate) fn cases() -> Vec<Case> {
    let mut all = of_sessions();
    all.extend(of_transactions());
    all.extend(of_statements());
    all.extend(of_counters());
    all.extend(of_changes());
    all.extend(of_upkeep());
    all
}

fn of_sessions() -> Vec<Case> {
    vec![
        Case {
            check: "connections",
            seconds: 2,
            sample: |second| changed(second, |it| sessions(it, 80, "web", State::Idle, 1, "COMMIT")),
            severity: Severity::Warning,
            says: "81 of 97 usable connections in use: web holds 80",
            blind: (without_sessions, NO_SESSIONS),
        },
        Case {
            check: "connection-hog",
            seconds: 2,
            sample: |second| changed(second, |it| sessions(it, 60, "web", State::Idle, 1, "COMMIT")),
            severity: Severity::Warning,
            says: "web holds 60 of 97 usable connections",
            blind: (without_sessions, NO_SESSIONS),
        },
        Case {
            check: "idle-sessions",
            seconds: 2,
            sample: |second| changed(second, |it| sessions(it, 80, "web", State::Idle, 600, "COMMIT")),
            severity: Severity::Notice,
            says: "80 sessions idle for more than 5m00s, the longest for 10m00s",
            blind: (without_sessions, NO_SESSIONS),
        },
        Case {
            check: "blocking",
            seconds: 1,
            sample: |second| Body::Postgres(Box::new(moment::postgres(second, true))),
            severity: Severity::Critical,
            says: "4242 reports-worker, idle in transaction 8m12s, blocks 19 sessions (longest 8m02s)",
            blind: (
                |second| changed(second, |it| it.locks = unread()),
                "the lock table has not been read yet",
            ),
        },
        Case {
            check: "sync-rep-stalled",
            seconds: 1,
            sample: |second| {
                changed(second, |it| {
                    let waiting = Session {
                        wait_event_type: Some("IPC".into()),
                        wait_event: Some("SyncRep".into()),
                        ..session(it.server_time, 5000, "web", State::Active, 7, "COMMIT")
                    };
                    add(it, std::iter::once(waiting));
                })
            },
            severity: Severity::Critical,
            says: "1 commit waits for a synchronous standby to confirm, the longest for 7s",
            blind: (without_sessions, NO_SESSIONS),
        },
    ]
}

fn of_transactions() -> Vec<Case> {
    vec![
        Case {
            check: "idle-in-transaction",
            seconds: 1,
            sample: |second| {
                changed(second, |it| {
                    sessions(it, 1, "web", State::IdleInTransaction, 400, "UPDATE t SET a = 1");
                })
            },
            severity: Severity::Warning,
            says: "5000 web, idle in transaction 6m40s",
            blind: (without_rights, NO_RIGHTS),
        },
        Case {
            check: "long-transaction",
            seconds: 1,
            sample: |second| {
                changed(second, |it| {
                    let report = Session {
                        query_start: moment::ago(it.server_time, 1),
                        ..session(it.server_time, 5000, "report", State::Active, 960, "FETCH 100 FROM c")
                    };
                    add(it, std::iter::once(report));
                })
            },
            severity: Severity::Critical,
            says: "5000 report, transaction open for 16m00s",
            blind: (without_rights, NO_RIGHTS),
        },
        Case {
            check: "slow-active",
            seconds: 1,
            sample: |second| {
                changed(second, |it| sessions(it, 4, "web", State::Active, 65, "SELECT count(*) FROM t"))
            },
            severity: Severity::Warning,
            says: "4 sessions run one statement, the longest for 1m05s: 5003 web",
            blind: (without_rights, NO_RIGHTS),
        },
    ]
}

fn of_statements() -> Vec<Case> {
    vec![
        Case {
            check: "statement-regression",
            seconds: 6,
            sample: |second| {
                changed(second, |it| {
                    counters(it, |rows| rows[0].total_exec_ms = 41_000.0 + 2_000.0 * float(second));
                })
            },
            severity: Severity::Warning,
            says: "SELECT … FROM reports.reports WHERE report_… takes 500ms, 10x its average of 48ms; 71.9% of all \
                   execution time",
            blind: (without_statements, NO_STATEMENTS),
        },
        Case {
            check: "slow-statement",
            seconds: 6,
            sample: |second| {
                changed(second, |it| {
                    counters(it, |rows| rows[0].total_exec_ms = 6_000_000.0 + 24_000.0 * float(second));
                })
            },
            severity: Severity::Critical,
            says: "SELECT … FROM reports.reports WHERE report_… takes 6.00s on average; 96.8% of all execution time",
            blind: (without_statements, NO_STATEMENTS),
        },
        Case {
            check: "query-latency",
            seconds: 6,
            sample: |second| {
                changed(second, |it| {
                    counters(it, |rows| {
                        for row in rows {
                            row.total_exec_ms = f64::from(i32::try_from(row.calls).unwrap()) * 200.0;
                        }
                    });
                })
            },
            severity: Severity::Warning,
            says: "executions take 200ms on average, 416 calls/s",
            blind: (without_statements, NO_STATEMENTS),
        },
    ]
}

fn of_changes() -> Vec<Case> {
    vec![
        Case {
            check: "restart",
            seconds: 5,
            sample: |second| {
                changed(second, |it| {
                    let mut server = (*it.server).clone();
                    server.started_at = moment::at(if second < 2 { -1000 } else { 1 });
                    it.server = Arc::new(server);
                })
            },
            severity: Severity::Warning,
            says: "the server was restarted 2s ago",
            blind: (silence, NO_SAMPLE),
        },
        Case {
            check: "role-change",
            seconds: 5,
            sample: |second| {
                changed(second, |it| {
                    let mut server = (*it.server).clone();
                    server.in_recovery = second < 2;
                    it.server = Arc::new(server);
                })
            },
            severity: Severity::Warning,
            says: "the server has become the primary 2s ago",
            blind: (silence, NO_SAMPLE),
        },
        Case {
            check: "standby-gone",
            seconds: 13,
            sample: |second| {
                changed(second, |it| {
                    if second > 4 {
                        it.senders = Reading::Fresh(Vec::new());
                    }
                })
            },
            severity: Severity::Warning,
            says: "standby shop-db-2 has gone 8s ago",
            blind: (|second| changed(second, |it| it.senders = unread()), "standbys cannot be read"),
        },
    ]
}

/// Housekeeping, changed in one respect.
fn kept(second: i64, change: impl FnOnce(&mut Upkeep)) -> Body {
    changed(second, |it| {
        let mut upkeep = moment::upkeep();
        change(&mut upkeep);
        it.upkeep = Some(Arc::new(upkeep));
    })
}

const NOT_LET: &str = "the server does not let us read it";

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

fn of_counters() -> Vec<Case> {
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
