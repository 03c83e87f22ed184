//! A thousand sessions in queues: what the lock graph costs. The bound is that of a release build, in which `.ci/run`
//! runs this file too; a debug build is some twenty times slower.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, and this one measures"
)]

use std::time::{Duration, Instant};

use dbtriage::engine::locks::{Context, Forest};
use dbtriage::model::postgres::{Lock, LockTable, LockTag, Names};
use jiff::Timestamp;

/// What the graph of a thousand waiters may cost, and one with a thousand holders besides: a million edges.
const LIMIT: Duration = Duration::from_millis(20);
const LIMIT_OF_A_MILLION_EDGES: Duration = Duration::from_millis(60);
/// How much slower a debug build is.
const SLOWER: u32 = if cfg!(debug_assertions) { 25 } else { 1 };

fn lock(pid: i32, locktype: &str, object: u32, mode: &str, waits_since: Option<i64>) -> Lock {
    let xid = (locktype == "transactionid").then_some(object);
    Lock {
        tag: LockTag {
            locktype: locktype.into(),
            database: Some(5),
            relation: if xid.is_some() { None } else { Some(object) },
            transactionid: xid,
            ..LockTag::default()
        },
        virtualtransaction: "1/1".into(),
        pid: Some(pid),
        mode: mode.into(),
        granted: waits_since.is_none(),
        waitstart: waits_since.map(|second| Timestamp::from_second(second).unwrap()),
    }
}

/// A thousand updates of one row: one waits for the transaction, the others for the row.
fn one_row() -> Vec<Lock> {
    let first = [
        lock(1, "transactionid", 7, "ExclusiveLock", None),
        lock(2, "transactionid", 7, "ShareLock", Some(1)),
        lock(2, "tuple", 100, "ExclusiveLock", None),
    ];
    let queue = (3..1003).map(|pid| lock(pid, "tuple", 100, "ExclusiveLock", Some(pid.into())));
    first.into_iter().chain(queue).collect()
}

/// A thousand sessions that wait for twenty transactions.
fn twenty_transactions() -> Vec<Lock> {
    let pair = |pid: i32| {
        let root = pid % 20;
        let xid = root.unsigned_abs();
        [
            lock(2000 + root, "transactionid", xid, "ExclusiveLock", None),
            lock(pid, "transactionid", xid, "ShareLock", Some(pid.into())),
        ]
    };
    (100..1100).flat_map(pair).collect()
}

/// A thousand sessions that write to a table, and a thousand that want to lock it against writes: a million edges.
fn writers_and_lockers() -> Vec<Lock> {
    let pair = |pid: i32| {
        [
            lock(5000 + pid, "relation", 100, "RowExclusiveLock", None),
            lock(pid, "relation", 100, "ShareLock", Some(pid.into())),
        ]
    };
    (1..1001).flat_map(pair).collect()
}

/// A thousand LOCK TABLE behind one that waits for a reader: nobody holds what they want, each waits for the one before.
fn lockers_in_a_row() -> Vec<Lock> {
    let first = [
        lock(1, "relation", 100, "AccessShareLock", None),
        lock(2, "relation", 100, "AccessExclusiveLock", Some(2)),
    ];
    let queue = (3..1003).map(|pid| lock(pid, "relation", 100, "ExclusiveLock", Some(pid.into())));
    first.into_iter().chain(queue).collect()
}

#[test]
fn a_queue_hangs_side_by_side_however_long_it_is() {
    let names = Names::default();
    let now = Timestamp::from_second(2000).unwrap();
    let context =
        Context { sessions: &[], prepared: &[], names: &names, own_pids: &[], now, queue_is_exact: true };
    let table = LockTable { rows: lockers_in_a_row(), safe_snapshot_waits: Vec::new() };
    let forest = Forest::build(&table, &context);
    let root = forest.roots().next().unwrap();
    let first = forest.children(root).next().unwrap();
    assert_eq!((first.pid, first.behind), (Some(2), 1000));
    assert_eq!(forest.children(first).count(), 1000);
    assert!(forest.children(first).all(|waiter| forest.children(waiter).next().is_none()));
}

#[test]
fn the_graph_of_a_thousand_waiters_is_built_in_time() {
    let names = Names::default();
    let now = Timestamp::from_second(2000).unwrap();
    let context =
        Context { sessions: &[], prepared: &[], names: &names, own_pids: &[], now, queue_is_exact: true };
    for (shape, rows, limit) in [
        ("a thousand updates of one row", one_row(), LIMIT),
        ("twenty transactions", twenty_transactions(), LIMIT),
        ("a thousand LOCK TABLE in a row", lockers_in_a_row(), LIMIT),
        ("a thousand writers, a thousand LOCK TABLE", writers_and_lockers(), LIMIT_OF_A_MILLION_EDGES),
    ] {
        let table = LockTable { rows, safe_snapshot_waits: Vec::new() };
        let limit = limit * SLOWER;
        // The best of several: what else runs on the machine is not what is measured, and may go on for seconds.
        let mut best = Duration::MAX;
        for round in 0..100 {
            if 7 <= round && best < limit {
                break;
            }
            let started = Instant::now();
            let forest = Forest::build(&table, &context);
            best = best.min(started.elapsed());
            assert!(forest.blocked_sessions >= 1000, "{shape}");
        }
        println!("{shape}: {best:?}, bound {limit:?}");
        assert!(best < limit, "{shape}: {best:?} against {limit:?}");
    }
}
