//! Housekeeping: what is read every half minute, against what a second client knows.

use std::time::Duration;

use dbtriage::engine::{Baseline, Observer, Severity, Thresholds};
use dbtriage::model::postgres::{LockUsage, XminKind};
use dbtriage::model::{Kind, Target, TargetId};
use pretty_assertions::assert_eq;

use crate::{Watching, lab};

/// Longer than the pause between two readings.
const NEXT_READING: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_settings_are_shown_and_a_change_is_an_event() {
    let lab = lab(&[("statement_timeout", "90s"), ("idle_in_transaction_session_timeout", "0")]);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    let mut watching = Watching::start(lab.primary(), "oncall").await;
    let target = Target { id: TargetId(0), name: "shop".into(), kind: Kind::Postgres };
    let mut observer = Observer::new(target, Baseline::Previous, Thresholds::default());
    let settings =
        watching.wait_for("the settings", |it| it.upkeep.as_ref()?.settings.value().cloned()).await;
    let value = |name: &str| settings.iter().find(|setting| &*setting.name == name).map(|it| &*it.value);
    // Ours are others: a statement of ours may take three seconds.
    assert_eq!(value("statement_timeout"), Some("1m30s"));
    assert_eq!(value("idle_in_transaction_session_timeout"), Some("0"));
    assert_eq!(value("max_connections"), Some("100"));
    assert_eq!(value("deadlock_timeout"), Some("1s"));

    lab.primary().configure("work_mem", "77MB").unwrap();
    admin.execute("SELECT pg_reload_conf()").unwrap();
    let seen = tokio::time::timeout(NEXT_READING, async {
        loop {
            observer.observe(&watching.next().await);
            if let Some(seen) = observer.take_seen().pop() {
                return seen;
            }
        }
    });
    let seen = seen.await.expect("the change is seen with the next reading");
    assert_eq!((seen.severity, seen.what.as_str()), (Severity::Notice, "work_mem changed from 4MB to 77MB"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_xmin_horizon_and_how_full_the_lock_table_is() {
    let lab = lab(&[("max_prepared_transactions", "10")]);
    let server = lab.primary();
    let (holder, admin) =
        (server.client("shop_owner", "shop").unwrap(), server.client("postgres", "shop").unwrap());
    holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM reports LIMIT 1").unwrap();
    for _ in 0..20 {
        admin
            .execute("SELECT pg_current_xact_id()")
            .or_else(|_| admin.execute("SELECT txid_current()"))
            .unwrap();
    }
    let mut watching = Watching::start(server, "oncall").await;
    let upkeep = watching.wait_for("the housekeeping", |sample| sample.upkeep.clone()).await;
    let held = upkeep.xmin_holder.value().unwrap().clone().unwrap();
    assert_eq!((held.kind, held.name.to_string()), (XminKind::Session, holder.pid().to_string()));
    assert!(held.xids >= 20, "{held:?}");
    let LockUsage { locked, room, stuck_pids } = upkeep.lock_usage.value().unwrap().clone();
    let setting = |name: &str| admin.cell(&format!("SHOW {name}")).unwrap().parse::<i64>().unwrap();
    assert!(room > setting("max_locks_per_transaction") * setting("max_connections"), "{room}");
    assert!(stuck_pids.is_empty());
    // Many objects in one transaction.
    let many = admin.spawn(
        "DO $$ BEGIN FOR n IN 1..800 LOOP EXECUTE format('CREATE TABLE many_%s ()', n); END LOOP; PERFORM pg_sleep(25); END $$",
    );
    let fuller = watching
        .wait_within(Duration::from_secs(20), "the lock table to fill", |sample| {
            let usage = sample.upkeep.as_ref()?.lock_usage.value()?.clone();
            (locked + 800 <= usage.locked).then_some(usage)
        })
        .await;
    assert_eq!(fuller.room, room);
    let canceller = server.client("postgres", "shop").unwrap();
    canceller.execute(&format!("SELECT pg_cancel_backend({})", admin.pid())).unwrap();
    assert!(many.wait(crate::PATIENCE).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_waits_for_a_lock_is_seen_and_whom_it_waits_for() {
    let lab = lab(&[]);
    let server = lab.primary();
    let holder = server.client("postgres", "shop").unwrap();
    let mut watching = Watching::start(server, "oncall").await;
    watching.wait_for("the housekeeping", |sample| sample.upkeep.clone()).await;
    holder.execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE").unwrap();
    let uri = server.uri("shop_owner", "shop");
    let login = std::thread::spawn(move || {
        let config: tokio_postgres::Config = uri.parse().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { config.connect(tokio_postgres::NoTls).await.map(drop) })
    });
    // 18 lists a session while it logs in, and then it is no secret.
    let stuck = watching
        .wait_for("the login", |sample| {
            let usage = sample.upkeep.as_ref()?.lock_usage.value()?;
            let listed = sample.sessions.value()?.iter().find(|it| it.waits_for_lock()).map(|it| it.id.pid);
            usage.stuck_pids.first().copied().or(listed)
        })
        .await;
    let waits_for = watching
        .wait_for("the lock table", |sample| {
            let table = sample.locks.value()?;
            let waits = table.rows.iter().any(|row| row.pid == Some(stuck) && !row.granted);
            let holds =
                |row: &&dbtriage::model::postgres::Lock| row.granted && &*row.mode == "AccessExclusiveLock";
            waits.then(|| table.rows.iter().find(holds).and_then(|row| row.pid))
        })
        .await;
    assert_eq!(waits_for, Some(holder.pid()));
    holder.execute("ROLLBACK").unwrap();
    login.join().unwrap().unwrap();
}
