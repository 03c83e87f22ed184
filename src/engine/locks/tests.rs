//! Lock tables in a few words, and the forest that follows.

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;
use crate::model::postgres::{Lock, SafeSnapshotWait, SessionId, State};

/// `4242 holds RowExclusiveLock reports` or `4311 wants ShareLock tx7 @2`: one lock a line; `@2` = waiting since
/// second 2. A holder `p7` is a prepared transaction with the number 7.
fn rows(text: &str) -> Vec<Lock> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(row).collect()
}

fn table(rows: Vec<Lock>) -> LockTable {
    LockTable { rows, safe_snapshot_waits: Vec::new() }
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
        locktype: match (xid, object) {
            (Some(_), _) => "transactionid",
            (None, "row") => "tuple",
            (None, _) => "relation",
        }
        .into(),
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

fn in_state(pid: i32, state: State) -> Session {
    let wait_event = if state == State::Active { None } else { Some("ClientRead".into()) };
    Session { state: Some(state), wait_event, ..idle_in_transaction(pid) }
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
    Forest::build(&table(rows(text)), &context)
}

fn forest(text: &str) -> Forest {
    forest_with(text, &[], &[])
}

/// The forest in lines: indentation, pid, and `behind/directly/frees`.
fn drawn(forest: &Forest) -> String {
    fn line(forest: &Forest, node: &Node, depth: usize, out: &mut String) {
        let name =
            node.pid.map_or_else(|| format!("{:?}{:?}", node.kind, node.members), |pid| pid.to_string());
        let also = forest.also_behind(node);
        let also = if also.is_empty() { String::new() } else { format!(" also {also:?}") };
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
    assert_eq!(drawn(&forest), "1 3/1/1\n  2 2/2/0\n    3 1/1/0\n    4 0/0/0 also [3]\n");
    assert_eq!(forest.blocked_by(4), [2, 3]);
}

#[test]
fn a_waiting_alter_table_is_what_blocks_the_readers() {
    let forest = forest_with(CHAIN, &[in_state(1, State::Active), in_state(2, State::Active)], &[]);
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
    assert_eq!(forest.advice(root).statement.as_deref(), Some("ROLLBACK PREPARED 'two''s';"));
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
    // Only 2 waits for the row, and cancelling it would help nobody: 3 would wait for the same transaction next.
    let table = "1 holds ExclusiveLock tx7\n2 wants ShareLock tx7 @1\n2 holds ExclusiveLock row\n3 wants ExclusiveLock row @2";
    let forest =
        forest_with(table, &[in_state(1, State::IdleInTransaction), in_state(2, State::Active)], &[]);
    let root = forest.roots().next().unwrap();
    let advice = forest.advice(root);
    assert_eq!((advice.action, advice.pid), (AdvisedAction::Terminate, Some(1)));
    assert_eq!(forest.alternative(root), None);
    assert_eq!(root.title(), "1 reports-worker, idle in transaction 1m40s");
}

/// The waiting ALTER TABLE of the classic chain, under a root.
const CHAIN: &str = "1 holds AccessShareLock t\n2 wants AccessExclusiveLock t @1\n3 wants AccessShareLock t @2\n4 wants AccessShareLock t @3";

#[test]
fn the_one_waiter_that_all_others_queue_behind_is_cancelled_whatever_the_root_does() {
    for state in [State::Active, State::Idle, State::IdleInTransaction] {
        let forest = forest_with(CHAIN, &[in_state(1, state), in_state(2, State::Active)], &[]);
        let root = forest.roots().next().unwrap();
        assert_eq!(forest.advice(root).reason, "cancel 2 frees 2 now; its DDL fails, 1 stays");
        let own = forest.alternative(root).unwrap();
        assert_eq!((own.pid, own.action == AdvisedAction::Cancel), (Some(1), state == State::Active));
    }
}

#[test]
fn a_schema_change_among_other_waiters_is_the_alternative_to_ending_an_idle_transaction() {
    let table = format!("{CHAIN}\n1 holds ExclusiveLock tx7\n5 wants ShareLock tx7 @0");
    let forest =
        forest_with(&table, &[in_state(1, State::IdleInTransaction), in_state(2, State::Active)], &[]);
    let root = forest.roots().next().unwrap();
    assert_eq!(
        forest.advice(root).reason,
        "terminate 1 frees 2 now, then 2 in turn; its transaction rolls back"
    );
    assert_eq!(forest.alternative(root).unwrap().reason, "cancel 2 frees 2 now; its DDL fails, 1 stays");
    // While the root works, the schema change comes first.
    let forest = forest_with(&table, &[in_state(1, State::Active), in_state(2, State::Active)], &[]);
    let root = forest.roots().next().unwrap();
    assert_eq!(forest.advice(root).pid, Some(2));
}

#[test]
fn what_helps_follows_the_state_of_the_root() {
    let table = "1 holds ExclusiveLock tx7\n2 wants ShareLock tx7 @1";
    let of_kind =
        |kind: &str| Session { backend_type: Some(kind.into()), state: None, ..in_state(1, State::Active) };
    let in_wait = |event: &str| Session { wait_event: Some(event.into()), ..in_state(1, State::Active) };
    let wraparound = Session {
        query: "autovacuum: VACUUM public.t (to prevent wraparound)".into(),
        ..of_kind("autovacuum worker")
    };
    for (session, action, words) in [
        (in_state(1, State::Active), AdvisedAction::Cancel, "cancel 1 first"),
        (in_state(1, State::IdleInTransactionAborted), AdvisedAction::Terminate, "frees 1 now"),
        (in_state(1, State::Idle), AdvisedAction::Terminate, "leader lock"),
        (in_wait("ClientRead"), AdvisedAction::Terminate, "client's data"),
        (in_wait("SyncRep"), AdvisedAction::None, "synchronous_standby_names"),
        (of_kind("autovacuum worker"), AdvisedAction::Wait, "yields"),
        (wraparound, AdvisedAction::Wait, "does not yield"),
        (of_kind("startup"), AdvisedAction::None, "primary"),
        (of_kind("walsender"), AdvisedAction::None, "replication"),
        (of_kind("checkpointer"), AdvisedAction::None, "must not be ended"),
        (Session { state: None, ..in_state(1, State::Active) }, AdvisedAction::None, "pg_monitor"),
    ] {
        let forest = forest_with(table, &[session], &[]);
        let advice = forest.advice(forest.roots().next().unwrap());
        assert_eq!(advice.action, action, "{}", advice.reason);
        assert!(advice.reason.contains(words), "{}", advice.reason);
    }
}

#[test]
fn a_wait_for_a_safe_snapshot_stands_under_the_transactions_it_waits_for() {
    let names = Names::default();
    let sessions =
        [in_state(1, State::IdleInTransaction), in_state(2, State::Active), in_state(3, State::Active)];
    let context = Context {
        sessions: &sessions,
        prepared: &[],
        names: &names,
        own_pids: &[],
        now: Timestamp::from_second(100).unwrap(),
        queue_is_exact: true,
    };
    let waits = vec![SafeSnapshotWait { pid: 3, blocked_by: vec![1, 2] }];
    let forest = Forest::build(&LockTable { rows: Vec::new(), safe_snapshot_waits: waits }, &context);
    assert_eq!(forest.blocked_by(3), [1, 2]);
    // Either of the two holds it up, so neither alone would free it.
    assert_eq!(drawn(&forest), "1 1/1/0\n  3 0/0/0 also [2]\n2 1/1/0\n");
    let waiter = forest.find(3).unwrap();
    assert_eq!(waiter.waits_for.as_ref().unwrap().mode.as_ref(), "SafeSnapshot");
    assert_eq!(waiter.wait_seconds, Some(100.0));
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

fn any_table() -> impl Strategy<Value = LockTable> {
    let wait = (1..12_i32, prop::collection::vec(1..12_i32, 0..4));
    let waits =
        prop::collection::vec(wait.prop_map(|(pid, blocked_by)| SafeSnapshotWait { pid, blocked_by }), 0..3);
    (prop::collection::vec(any_lock(), 0..60), waits)
        .prop_map(|(rows, safe_snapshot_waits)| LockTable { rows, safe_snapshot_waits })
}

/// Sessions of which some are parallel workers of others, or claim to be.
fn any_sessions() -> impl Strategy<Value = Vec<Session>> {
    let session = (1..12_i32, prop::option::of(1..12_i32), prop::sample::select(State::ALL.to_vec()));
    prop::collection::vec(
        session.prop_map(|(pid, leader_pid, state)| Session { leader_pid, ..in_state(pid, state) }),
        0..8,
    )
}

/// Walks a tree; nobody stands under itself.
fn walk(forest: &Forest, node: &Node, above: &[*const Node], seen: &mut Vec<i32>) {
    assert!(!above.contains(&std::ptr::from_ref(node)), "a node stands under itself");
    seen.extend(node.pid.iter().chain(&node.members));
    let above = [above, &[std::ptr::from_ref(node)]].concat();
    for child in forest.children(node) {
        assert!(child.behind < node.behind, "more wait behind a waiter than behind the one it waits for");
        walk(forest, child, &above, seen);
    }
}

proptest! {
    #[test]
    fn any_rows_give_a_finite_forest_that_loses_nobody(table in any_table(), sessions in any_sessions()) {
        let names = Names::default();
        let context = Context { sessions: &sessions, prepared: &[], names: &names, own_pids: &[], now: Timestamp::UNIX_EPOCH, queue_is_exact: true };
        let forest = Forest::build(&table, &context);
        let mut seen = Vec::new();
        for root in forest.roots() {
            walk(&forest, root, &[], &mut seen);
            prop_assert!(root.frees_now <= root.behind, "more promised than wait");
            prop_assert!(!forest.advice(root).reason.is_empty());
        }
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), seen.len(), "somebody stands twice");
        for pid in 0..12 {
            let blockers = forest.blocked_by(pid);
            prop_assert!(!blockers.contains(&pid) || pid == 0);
            if !blockers.is_empty() {
                let node = forest.find(pid);
                let shown = node.is_some_and(|node| node.pid.iter().chain(&node.members).any(|it| seen.contains(it)));
                prop_assert!(shown, "{} is lost", pid);
            }
            let ahead = forest.pids_ahead([pid]);
            for other in (1..12).filter(|other| *other != pid && forest.find(pid).is_some()) {
                let is_behind = forest.pids_behind(other).contains(&forest.find(pid).and_then(|node| node.pid).unwrap_or(pid));
                prop_assert!(!is_behind || ahead.contains(&other) || forest.find(other).is_none_or(|node| node.pid != Some(other)), "{} ahead of {}", other, pid);
            }
            if let Some(node) = forest.find(pid) {
                // In a circle the others of the circle wait behind each.
                let others = node.members.len().saturating_sub(1);
                prop_assert_eq!(forest.pids_behind(pid).len(), node.behind + others, "behind {}", pid);
            }
        }
    }
}
