//! Situations of PostgreSQL.

use std::sync::Arc;

use dbtriage::engine::Severity;
use dbtriage::model::postgres::{Sample, Session, State, Statements};
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
    // Since when statements are counted is not known here.
    sample.statements =
        sample.statements.map(|it| Arc::new(Statements { stats_reset: None, ..(**it).clone() }));
    counters(&mut sample, |statements| {
        statements[0].total_exec_ms = 41_000.0 + 160.0 * float(second);
    });
    sample
}

/// The same, changed in one respect.
pub(crate) fn changed(second: i64, change: impl FnOnce(&mut Sample)) -> Body {
    let mut sample = calm(second);
    change(&mut sample);
    Body::Postgres(Arc::new(sample))
}

pub(crate) fn healthy(second: i64) -> Body {
    changed(second, |_| ())
}

pub(crate) fn float(second: i64) -> f64 {
    f64::from(i32::try_from(second).unwrap())
}

pub(crate) fn counters(
    sample: &mut Sample,
    change: impl FnOnce(&mut Vec<dbtriage::model::postgres::Statement>),
) {
    sample.statements = sample.statements.map(|statements| {
        let mut statements = (**statements).clone();
        change(&mut statements.rows);
        Arc::new(statements)
    });
}

pub(crate) fn database(
    sample: &mut Sample,
    change: impl FnOnce(&mut dbtriage::model::postgres::DatabaseCounters),
) {
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

pub(crate) fn unread<T>() -> Reading<T> {
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
pub(crate) const NO_SAMPLE: &str = "no sample yet";

pub(crate) fn cases() -> Vec<Case> {
    let mut all = of_sessions();
    all.extend(of_transactions());
    all.extend(of_statements());
    all.extend(of_changes());
    all.extend(super::resources::cases());
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
        // As much as `connections` still tells once it has begun to.
        Case {
            check: "connection-hog",
            seconds: 3,
            sample: |second| changed(second, |it| sessions(it, 75, "web", State::Idle, 1, "COMMIT")),
            severity: Severity::Warning,
            says: "web holds 75 of 97 usable connections",
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
            sample: |second| Body::Postgres(Arc::new(moment::postgres(second, true))),
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
