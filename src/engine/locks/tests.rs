//! Lock tables in a few words, and the forest that follows.

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;
use crate::model::postgres::{SessionId, State};

/// `4242 holds RowExclusiveLock reports` or `4311 wants ShareLock tx7 @2`: one lock a line; `@2` = waiting since
/// second 2. A holder `p7` is a prepared transaction with the number 7.
fn rows(text: &str) -> Vec<Lock> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(row).collect()
}

fn row(line: &str) -> Lock {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [who, verb, mode, object, ..] = words[..] else { panic!("{line}") };
    let since = words.get(4).map(|word| word.trim_start_matches('@').parse().unwrap());
    Lock {
        tag: tag(object),
        virtualtransaction: who.into(),
        pid: who.parse().ok(),
        mode: mode.into(),
        granted: verb == "holds",
        waitstart: since.map(|s| Timestamp::from_second(s).unwrap()),
    }
}

fn tag(object: &str) -> LockTag {
    let xid: Option<u32> = object.strip_prefix("tx").and_then(|digits| digits.parse().ok());
    LockTag {
        locktype: if xid.is_some() { "transactionid" } else { "relation" }.into(),
        database: Some(5),
        relation: xid.is_none().then(|| object.bytes().map(u32::from).sum()),
        page: None,
        tuple: None,
        virtualxid: None,
        transactionid: xid,
        classid: None,
        objid: None,
        objsubid: None,
    }
}

fn idle_in_transaction(pid: i32) -> Session {
    Session {
        id: SessionId { pid, backend_start: Some(Timestamp::UNIX_EPOCH) },
        leader_pid: None,
        datid: Some(5),
        usesysid: Some(10),
        application_name: "reports-worker".into(),
        client_addr: None,
        client_port: None,
        backend_type: Some("client backend".into()),
        state: Some(State::IdleInTransaction),
        wait_event_type: Some("Client".into()),
        wait_event: Some("ClientRead".into()),
        xact_start: Some(Timestamp::UNIX_EPOCH),
        query_start: Some(Timestamp::UNIX_EPOCH),
        state_change: Some(Timestamp::UNIX_EPOCH),
        backend_xid: Some(7),
        backend_xmin: None,
        query_id: None,
        query: "UPDATE reports".into(),
    }
}

fn forest_with(text: &str, sessions: &[Session], prepared: &[Prepared]) -> Forest {
    let names = Names::default();
    let now = Timestamp::from_second(100).unwrap();
    let context = Context { sessions, prepared, names: &names, own_pids: &[], now, queue_is_exact: true };
    Forest::build(&rows(text), &context)
}

fn forest(text: &str) -> Forest {
    forest_with(text, &[], &[])
}

/// The forest in lines: indentation, pid, and `behind/directly/frees`.
fn drawn(forest: &Forest) -> String {
    fn line(forest: &Forest, node: &Node, depth: usize, out: &mut String) {
        let name =
            node.pid.map_or_else(|| format!("{:?}{:?}", node.kind, node.members), |pid| pid.to_string());
        let also =
            if node.also_behind.is_empty() { String::new() } else { format!(" also {:?}", node.also_behind) };
        *out += &format!(
            "{}{name} {}/{}/{}{also}\n",
            "  ".repeat(depth),
            node.behind,
            node.behind_directly,
            node.frees_now
        );
        for child in forest.children(node) {
            line(forest, child, depth + 1, out);
        }
    }
    let mut out = String::new();
    for root in forest.roots() {
        line(forest, root, 0, &mut out);
    }
    out
}

#[test]
fn a_star_hangs_on_its_holder() {
    let forest = forest("1 holds ExclusiveLock tx7\n2 wants ShareLock tx7 @1\n3 wants ShareLock tx7 @2");
    assert_eq!(drawn(&forest), "1 2/2/2\n  2 0/0/0\n  3 0/0/0\n");
    assert_eq!(forest.blocked_sessions, 2);
    assert_eq!(forest.roots().next().and_then(|root| root.longest_wait_seconds), Some(99.0));
}

#[test]
fn updates_of_one_row_queue_on_the_tuple_and_drain_one_by_one() {
    // 2 holds the tuple lock and waits for the transaction; 3 and 4 wait for the tuple.
    let forest = forest(
        "1 holds ExclusiveLock tx7\n2 wants ShareLock tx7 @1\n2 holds ExclusiveLock row\n\
         3 wants ExclusiveLock row @2\n4 wants ExclusiveLock row @3",
    );
    assert_eq!(drawn(&forest), "1 3/1/1\n  2 2/2/1\n    3 1/1/0\n    4 0/0/0 also [3]\n");
    assert_eq!(forest.blocked_by(4), [2, 3]);
}

#[test]
fn a_waiting_alter_table_is_what_blocks_the_readers() {
    let select = |state| Session { state: Some(state), ..idle_in_transaction(1) };
    let table = "1 holds AccessShareLock t\n2 wants AccessExclusiveLock t @1\n3 wants AccessShareLock t @2\n4 wants AccessShareLock t @3";
    let forest = forest_with(table, &[select(State::Active)], &[]);
    assert_eq!(drawn(&forest), "1 3/1/1\n  2 2/2/2\n    3 0/0/0\n    4 0/0/0\n");
    let root = forest.roots().next().unwrap();
    let advice = forest.advice(root);
    assert_eq!((advice.action, advice.pid), (AdvisedAction::Cancel, Some(2)));
}

#[test]
fn one_who_holds_already_jumps_the_queue() {
    // 3 came last, but what it holds conflicts with what 2 wants: 2 must wait for it in any case.
    let forest = forest(
        "1 holds AccessShareLock t\n3 holds AccessShareLock t\n2 wants AccessExclusiveLock t @1\n3 wants RowExclusiveLock t @2",
    );
    assert_eq!(forest.blocked_by(2), [1, 3]);
    assert_eq!(forest.blocked_by(3), Vec::<i32>::new());
}

#[test]
fn a_circle_is_one_node() {
    let forest = forest(
        "1 holds ExclusiveLock tx1\n2 holds ExclusiveLock tx2\n1 wants ShareLock tx2 @1\n2 wants ShareLock tx1 @2\n3 wants ShareLock tx1 @3",
    );
    assert_eq!(drawn(&forest), "Deadlock[1, 2] 1/1/1\n  3 0/0/0\n");
    let root = forest.roots().next().unwrap();
    assert_eq!(forest.advice(root).action, AdvisedAction::Wait);
}

#[test]
fn a_prepared_transaction_is_named_by_its_gid() {
    let prepared = Prepared {
        transaction: 7,
        gid: "two's".into(),
        prepared: Timestamp::UNIX_EPOCH,
        owner: 10,
        database: 5,
    };
    let forest = forest_with("p7 holds ExclusiveLock tx7\n2 wants ShareLock tx7 @1", &[], &[prepared]);
    let root = forest.roots().next().unwrap();
    assert_eq!((root.kind, root.gid.as_deref()), (NodeKind::Prepared, Some("two's")));
    assert_eq!(forest.advice(root).reason, "ROLLBACK PREPARED 'two''s'; in database 5");
    assert_eq!(forest.blocked_by(2), [0]);
}

#[test]
fn a_parallel_worker_stands_for_its_leader() {
    let worker = Session { leader_pid: Some(1), ..idle_in_transaction(9) };
    let forest = forest_with(
        "9 holds AccessShareLock t\n1 wants AccessShareLock t @1\n2 wants AccessExclusiveLock t @2",
        &[idle_in_transaction(1), worker],
        &[],
    );
    assert_eq!(forest.blocked_by(2), [1]);
    assert_eq!(forest.blocked_by(1), Vec::<i32>::new());
}

#[test]
fn an_idle_transaction_is_to_be_terminated() {
    let forest =
        forest_with("1 holds ExclusiveLock tx7\n2 wants ShareLock tx7 @1", &[idle_in_transaction(1)], &[]);
    let root = forest.roots().next().unwrap();
    let advice = forest.advice(root);
    assert_eq!((advice.action, advice.pid), (AdvisedAction::Terminate, Some(1)));
    assert_eq!(root.title(), "1 reports-worker, idle in transaction 1m40s");
}

fn any_lock() -> impl Strategy<Value = Lock> {
    let modes = prop::sample::select(vec![
        "AccessShareLock",
        "RowExclusiveLock",
        "ShareLock",
        "ExclusiveLock",
        "AccessExclusiveLock",
        "?",
    ]);
    (prop::option::of(1..12_i32), 0..5_u32, modes, any::<bool>(), prop::option::of(0..9_i64)).prop_map(
        |(pid, object, mode, granted, since)| {
            let mut lock = row(&format!("{} holds {mode} tx{object}", pid.unwrap_or_default()));
            (lock.pid, lock.granted) = (pid, granted);
            lock.waitstart = since.map(|s| Timestamp::from_second(s).unwrap());
            lock
        },
    )
}

proptest! {
    #[test]
    fn any_rows_give_a_finite_forest_that_loses_nobody(rows in prop::collection::vec(any_lock(), 0..60)) {
        fn walk(forest: &Forest, node: &Node, above: &[*const Node], seen: &mut Vec<i32>) {
            assert!(!above.contains(&std::ptr::from_ref(node)), "a node stands under itself");
            seen.extend(node.pid.iter().chain(&node.members));
            let above = [above, &[std::ptr::from_ref(node)]].concat();
            for child in forest.children(node) {
                walk(forest, child, &above, seen);
            }
        }
        let names = Names::default();
        let context = Context { sessions: &[], prepared: &[], names: &names, own_pids: &[], now: Timestamp::UNIX_EPOCH, queue_is_exact: true };
        let forest = Forest::build(&rows, &context);
        let mut seen = Vec::new();
        for root in forest.roots() {
            walk(&forest, root, &[], &mut seen);
        }
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), seen.len(), "somebody stands twice");
        for row in rows.iter().filter(|row| !row.granted) {
            if let Some(pid) = row.pid.filter(|pid| !forest.blocked_by(*pid).is_empty()) {
                prop_assert!(seen.contains(&pid), "{} is lost", pid);
            }
        }
        for pid in 1..12 {
            prop_assert!(!forest.blocked_by(pid).contains(&pid));
        }
    }
}
