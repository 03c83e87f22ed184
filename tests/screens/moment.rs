//! A moment in words: a lock pile-up on a busy server with a slow standby and a thrashing cache, or a healthy one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dbtriage::app::{App, Columns, Keymap, Limits, Msg, Options};
use dbtriage::engine::{Baseline, Observer, Thresholds};
use dbtriage::model::action::Operator;
use dbtriage::model::postgres::{
    Archiver, Checkpoints, DatabaseCounters, FreezeAge, Lock, LockTable, LockTag, LockUsage, Names, Rights,
    Sample as PgSample, Server, Session, SessionId, Setting, Slot, State, Statement, StatementKey,
    Statements, Upkeep, Wal, WalSender,
};
use dbtriage::model::redis::{Sample as RedisSample, Upkeep as RedisUpkeep};
use dbtriage::model::{Body, Kind, Reading, Sample, Target, TargetId};
use dbtriage::terminal::Input;
use dbtriage::ui;
use jiff::{SignedDuration, Timestamp};
use ratatui::layout::Rect;

const BACKEND_START: i64 = 1_793_600_000;

pub(crate) fn start() -> Timestamp {
    "2026-11-02T16:02:10Z".parse().unwrap()
}

pub(crate) fn ago(now: Timestamp, seconds: i64) -> Option<Timestamp> {
    Some(now.checked_sub(SignedDuration::from_secs(seconds)).unwrap())
}

pub(crate) fn session(
    now: Timestamp,
    pid: i32,
    application: &str,
    state: State,
    age: i64,
    query: &str,
) -> Session {
    Session {
        id: SessionId {
            pid,
            backend_start: Some(Timestamp::from_second(BACKEND_START + i64::from(pid)).unwrap()),
        },
        leader_pid: None,
        datid: Some(5),
        usesysid: Some(10),
        application_name: application.into(),
        client_addr: Some("10.0.3.17".parse().unwrap()),
        client_port: Some(40_000 + pid),
        backend_type: Some("client backend".into()),
        state: Some(state),
        wait_event_type: None,
        wait_event: None,
        xact_start: (state != State::Idle).then(|| ago(now, age).unwrap()),
        query_start: ago(now, age),
        state_change: ago(now, age),
        backend_xid: None,
        backend_xmin: None,
        query_id: None,
        query: query.into(),
    }
}

pub(crate) fn tag(locktype: &str, relation: Option<u32>, xid: Option<u32>) -> LockTag {
    LockTag {
        locktype: locktype.into(),
        database: relation.map(|_| 5),
        relation,
        page: (locktype == "tuple").then_some(1),
        tuple: (locktype == "tuple").then_some(9),
        virtualxid: None,
        transactionid: xid,
        classid: None,
        objid: None,
        objsubid: None,
    }
}

pub(crate) fn lock(pid: i32, tag: &LockTag, mode: &str, waits_since: Option<Timestamp>) -> Lock {
    Lock {
        tag: tag.clone(),
        virtualtransaction: format!("{pid}/1").into(),
        pid: Some(pid),
        mode: mode.into(),
        granted: waits_since.is_none(),
        waitstart: waits_since,
    }
}

/// A session idle in its transaction, ten updates of its row behind it, a schema change behind those, eight readers
/// behind the change.
pub(crate) fn pile_up(now: Timestamp) -> (Vec<Session>, Vec<Lock>) {
    let waits = |mut session: Session, event: &str| {
        (session.wait_event_type, session.wait_event) = (Some("Lock".into()), Some(event.into()));
        session
    };
    let root = Session {
        backend_xid: Some(7745),
        wait_event_type: Some("Client".into()),
        wait_event: Some("ClientRead".into()),
        ..session(
            now,
            4242,
            "reports-worker",
            State::IdleInTransaction,
            492,
            "UPDATE reports SET status = $1 WHERE id = $2",
        )
    };
    let (xid, row, table) = (
        tag("transactionid", None, Some(7745)),
        tag("tuple", Some(100), None),
        tag("relation", Some(100), None),
    );
    let mut sessions = vec![root];
    let mut locks =
        vec![lock(4242, &xid, "ExclusiveLock", None), lock(4242, &table, "RowExclusiveLock", None)];
    for n in 0..10 {
        let (pid, age) = (4311 + n, 482 - 10 * i64::from(n));
        let query = "UPDATE reports\n   SET status = 'queued'\n WHERE id = 42";
        sessions.push(waits(
            session(now, pid, "reports-worker", State::Active, age, query),
            if n == 0 { "transactionid" } else { "tuple" },
        ));
        locks.push(lock(pid, &table, "RowExclusiveLock", None));
        if n == 0 {
            locks.extend([
                lock(pid, &row, "ExclusiveLock", None),
                lock(pid, &xid, "ShareLock", ago(now, age)),
            ]);
        } else {
            locks.push(lock(pid, &row, "ExclusiveLock", ago(now, age)));
        }
    }
    sessions.push(waits(
        session(now, 4330, "migrate", State::Active, 300, "ALTER TABLE reports ADD COLUMN checksum text"),
        "relation",
    ));
    locks.push(lock(4330, &table, "AccessExclusiveLock", ago(now, 300)));
    for n in 0..8 {
        let (pid, age) = (4340 + n, 290 - i64::from(n));
        sessions.push(waits(
            session(now, pid, "web", State::Active, age, "SELECT id, status FROM reports WHERE owner = $1"),
            "relation",
        ));
        locks.push(lock(pid, &table, "AccessShareLock", ago(now, age)));
    }
    for n in 0..6 {
        sessions.push(session(
            now,
            4400 + n,
            "web",
            State::Idle,
            12 + i64::from(n),
            "SELECT * FROM sessions WHERE token = $1",
        ));
    }
    (sessions, locks)
}

pub(crate) fn statement(queryid: i64, calls: i64, total_exec_ms: f64) -> Statement {
    Statement {
        key: StatementKey { userid: 10, dbid: 5, toplevel: true, queryid },
        calls,
        total_exec_ms,
        rows: calls * 2,
        shared_blks_hit: calls * 90,
        shared_blks_read: calls * 10,
        temp_blks: 0,
        stats_since: None,
        total_plan_ms: 0.0,
        max_exec_ms: total_exec_ms / 40.0,
        stddev_exec_ms: 12.0,
        wal_bytes: 0.0,
    }
}

pub(crate) fn names() -> Names {
    let named = |list: &[(u32, &str)]| list.iter().map(|(oid, name)| (*oid, Arc::from(*name))).collect();
    Names {
        superusers: std::collections::BTreeSet::new(),
        roles: named(&[(10, "reports"), (11, "oncall")]),
        databases: named(&[(5, "reports"), (6, "shop")]),
        relations: named(&[(100, "reports")]),
        connected_database: 5,
    }
}

/// Housekeeping that is done.
pub(crate) fn upkeep() -> Upkeep {
    Upkeep {
        archiver: Reading::Fresh(Archiver {
            is_on: true,
            archived_at: ago(start(), 20),
            failed_count: 0,
            failed_at: None,
            failed_file: None,
        }),
        checkpoints: Reading::Fresh(Checkpoints { timed: 900, requested: 4 }),
        freeze_ages: Reading::Fresh(vec![FreezeAge { datid: 5, xids: 90_000_000, multixacts: 12_000 }]),
        pending_restart: Reading::Fresh(Vec::new()),
        settings: Reading::Fresh(
            [("deadlock_timeout", "1s"), ("shared_buffers", "8GB"), ("max_wal_size", "16GB")]
                .map(|(name, value)| Setting { name: name.into(), value: value.into() })
                .to_vec(),
        ),
        lock_usage: Reading::Fresh(LockUsage { locked: 40, room: 15_000, stuck_pids: Vec::new() }),
        xmin_holder: Reading::Fresh(None),
        invalid_indexes: Reading::Fresh(Vec::new()),
        neglected: Reading::Fresh(Vec::new()),
        subscriptions: Reading::Fresh(Vec::new()),
    }
}

/// The moment, `second` seconds after it was first seen.
pub(crate) fn postgres(second: i64, incident: bool) -> PgSample {
    let now = start().checked_add(SignedDuration::from_secs(second)).unwrap();
    let (mut sessions, locks) = if incident { pile_up(now) } else { (Vec::new(), Vec::new()) };
    let mut own = session(now, 4900, "dbtriage", State::Active, 0, "/* dbtriage:activity */ SELECT pid");
    own.usesysid = Some(11);
    sessions.push(own);
    sessions.push(Session {
        backend_type: Some("walsender".into()),
        application_name: "shop-db-2".into(),
        ..session(now, 900, "shop-db-2", State::Active, 86_400, "START_REPLICATION")
    });
    let grown = second * 1200;
    let database = DatabaseCounters {
        datid: 5,
        numbackends: 28,
        xact_commit: 1_000_000 + grown,
        xact_rollback: 500 + second,
        blks_read: 50_000 + second * 81,
        blks_hit: 9_000_000 + second * 9000,
        temp_bytes: 0,
        temp_files: 0,
        deadlocks: 0,
        conflicts: 0,
        checksum_failures: Some(0),
        stats_reset: None,
    };
    let texts = [
        (1, "SELECT … FROM reports.reports WHERE report_type = $1 AND hash = $2"),
        (2, "SELECT * FROM sessions WHERE token = $1"),
    ];
    let key = |queryid| StatementKey { userid: 10, dbid: 5, toplevel: true, queryid };
    let statements = Statements {
        read_at: now,
        extension_version: "1.10".into(),
        rows: vec![
            statement(1, 1000 + second * 4, 41_000.0 + 32_000.0 * f64::from(i32::try_from(second).unwrap())),
            statement(
                2,
                90_000 + second * 412,
                171_000.0 + 780.0 * f64::from(i32::try_from(second).unwrap()),
            ),
        ],
        hidden_rows: 0,
        dealloc: Some(0),
        stats_reset: Some("2026-11-01T00:00:00Z".parse().unwrap()),
    };
    let end = 100_000_000_000 + u64::try_from(second).unwrap() * 4_200_000;
    PgSample {
        server_time: now,
        server: Arc::new(Server {
            version: "15.18".into(),
            version_num: 150_018,
            started_at: ago(start(), 41 * 86_400).unwrap(),
            in_recovery: false,
            max_connections: 100,
            usable_connections: 97,
            own_pids: vec![4900, 4901, 4902],
            pooled: false,
            endpoint: None,
        }),
        rights: Arc::new(Rights {
            user: "oncall".into(),
            superuser: false,
            read_all_stats: true,
            signal_backend: true,
            reserved_connections: None,
            signal_autovacuum_worker: None,
        }),
        names: Arc::new(names()),
        sessions: Reading::Fresh(sessions),
        locks: Reading::Fresh(Arc::new(LockTable { rows: locks, safe_snapshot_waits: Vec::new() })),
        prepared: Reading::Fresh(Vec::new()),
        databases: Reading::Fresh(vec![database]),
        statements: Reading::Fresh(Arc::new(statements)),
        statement_texts: Arc::new(
            texts.iter().map(|(id, text)| (key(*id), Arc::from(*text))).collect::<BTreeMap<_, _>>(),
        ),
        wal: Reading::Fresh(Wal { current_lsn: Some(end), ..Wal::default() }),
        senders: Reading::Fresh(vec![WalSender {
            pid: 900,
            state: Some("streaming".into()),
            sent_lsn: Some(end),
            write_lsn: Some(end),
            flush_lsn: Some(end),
            replay_lsn: Some(end - 412_000_000 + u64::try_from(second).unwrap() * 3_000_000),
            write_lag_seconds: None,
            flush_lag_seconds: None,
            replay_lag_seconds: Some(31.0),
            sync_state: Some("async".into()),
        }]),
        slots: Reading::Fresh(vec![Slot {
            name: "debezium".into(),
            kind: "logical".into(),
            datoid: Some(5),
            active: false,
            active_pid: None,
            restart_lsn: Some(end - 18_200_000_000),
            wal_status: Some("extended".into()),
            safe_wal_bytes: None,
            inactive_since: None,
        }]),
        receiver: Reading::Fresh(None),
        upkeep: Some(Arc::new(upkeep())),
        tables: None,
        slowed: Vec::new(),
    }
}

pub(crate) fn redis(second: u64) -> RedisSample {
    RedisSample {
        version: Some("7.0.15".into()),
        role: Some("master".into()),
        mode: Some("standalone".into()),
        run_id: Some("a".into()),
        started_at: None,
        keyspace_hits: Some(10_000 + second * 71),
        keyspace_misses: Some(400 + second * 29),
        evicted_keys: Some(second * 512),
        expired_keys: Some(0),
        used_memory_bytes: Some(4_273_000_000),
        maxmemory_bytes: Some(4_294_967_296),
        maxmemory_policy: Some("allkeys-lru".into()),
        mem_fragmentation_ratio: Some(1.1),
        connected_clients: Some(212),
        blocked_clients: Some(0),
        maxclients: Some(10_000),
        rejected_connections: Some(0),
        total_commands_processed: Some(1_000_000 + second * 18_000),
        main_thread_cpu_seconds: Some(100.0 + 0.4 * f64::from(u32::try_from(second).unwrap())),
        master_link_status: None,
        master_repl_offset: Some(0),
        slave_repl_offset: None,
        replicas: Vec::new(),
        ping_seconds: 0.0003,
        rdb_last_bgsave_status: Some("ok".into()),
        aof_last_write_status: Some("ok".into()),
        aof_last_bgrewrite_status: Some("ok".into()),
        cluster_enabled: Some(0),
        upkeep: Some(Arc::new(RedisUpkeep {
            monitors: Reading::Fresh(Vec::new()),
            slow_log: Reading::Fresh(Vec::new()),
            cluster: None,
        })),
    }
}

pub(crate) fn empty_app(read_only: bool) -> App {
    let target = |id, name: &str, kind| Target { id: TargetId(id), name: name.into(), kind };
    let observers = [target(0, "shop-db:5432/reports", Kind::Postgres), target(1, "cache:6379", Kind::Redis)]
        .map(|target| Observer::new(target, Baseline::Previous, Thresholds::default()));
    let options = Options {
        keymap: Keymap::default(),
        columns: Columns::default(),
        read_only,
        redact: false,
        cpus: None,
        interval: Duration::from_secs(1),
        limits: Limits::default(),
        operator: Operator { os_user: "alice".into(), from: Some("10.0.3.4".into()), host: "bastion".into() },
    };
    App::new(observers.into(), options, start())
}

pub(crate) fn sample(second: i64, body: Body) -> Msg {
    let taken_at = start().checked_add(SignedDuration::from_secs(second)).unwrap();
    let target = if matches!(body, Body::Redis(_)) { TargetId(1) } else { TargetId(0) };
    Msg::Sample(Box::new(Sample { target, asked_at: taken_at, taken_at, body }))
}

pub(crate) fn at(second: i64) -> Timestamp {
    start().checked_add(SignedDuration::from_secs(second)).unwrap()
}

/// The program after four seconds of the moment.
pub(crate) fn app(incident: bool) -> App {
    let mut app = empty_app(false);
    for second in 0..4 {
        app.update(at(second), sample(second, Body::Postgres(Arc::new(postgres(second, incident)))));
        app.update(at(second), sample(second, Body::Redis(Arc::new(redis(u64::try_from(second).unwrap())))));
    }
    app
}

/// The frame with what the program has now is on the screen.
pub(crate) fn shown(app: &mut App, now: Timestamp) {
    app.framed();
    app.drawn(now);
}

/// Types keys into the program; each frame between them is laid out, as in the real loop.
pub(crate) fn press(app: &mut App, width: u16, height: u16, keys: &[&str]) {
    for key in keys {
        let layout = ui::layout(Rect::new(0, 0, width, height), app);
        app.resized(layout.viewport());
        app.update(at(4), Msg::Input(Input::Key(key.parse().unwrap())));
    }
}
