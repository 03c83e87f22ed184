//! The cases that tools get wrong, one by one: who is the root, who stands under whom, and what helps.

use std::time::Duration;

use dbtriage::engine::locks::{AdvisedAction, Forest, Node, NodeKind, RootSituation};
use dbtriage::model::action::{Action, ActionReply};
use dbtriage::model::postgres::State;
use dbtriage_lab::{Client, Running};
use pretty_assertions::assert_eq;

use crate::server::{
    PATIENCE, Stage, Watch, children, forest, on_every_major, only_root, session_of, start_waiting, until,
    waits,
};
use crate::truth::{at_rest, blockers};

fn sorted(pids: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let mut pids: Vec<i32> = pids.into_iter().collect();
    pids.sort_unstable();
    pids
}

/// Whether a statement has not ended.
fn goes_on(client: &Client, pid: i32) -> bool {
    client.cell(&format!("SELECT state FROM pg_stat_get_activity({pid})")).unwrap() == "active"
}

/// Waits until a session executes a statement that sleeps.
fn start_sleeping(client: &Client, sleeper: &Client, sql: &str) -> Running {
    let running = sleeper.spawn(sql);
    let event = format!("SELECT coalesce(wait_event, '') FROM pg_stat_get_activity({})", sleeper.pid());
    until("the statement to sleep", || client.cell(&event).unwrap() == "PgSleep");
    running
}

#[test]
fn an_idle_session_that_holds_an_advisory_lock_is_a_root() {
    on_every_major(|stage| {
        let (client, holder, waiter) = (stage.client(), stage.session(), stage.session());
        holder.execute("SELECT pg_advisory_lock(4711)").unwrap();
        let waiting = start_waiting(&client, &waiter, "SELECT pg_advisory_lock(4711)");
        let mut watch = Watch::start(stage.primary());
        let tick = watch.look(&client);
        let forest = forest(&tick);

        let root = only_root(forest);
        assert_eq!((root.kind, root.pid, root.behind), (NodeKind::Session, Some(holder.pid()), 1));
        assert_eq!(root.situation, RootSituation::Idle);
        assert_eq!(session_of(&tick, holder.pid()).state, Some(State::Idle));
        assert_eq!(forest.blocked_by(waiter.pid()), [holder.pid()]);
        let wait = forest.find(waiter.pid()).unwrap().waits_for.clone().unwrap();
        assert_eq!(&*wait.object, "advisory 4711");
        assert_eq!(forest.held_by(forest.find(waiter.pid()).unwrap()), [holder.pid()]);
        let advice = forest.advice(root);
        assert_eq!((advice.action, advice.pid), (AdvisedAction::Terminate, Some(holder.pid())));

        // And it helps.
        let seen = session_of(&tick, holder.pid());
        let terminate = Action::Terminate { session: seen.id, xact_start: seen.xact_start };
        assert_eq!(watch.act(terminate), Ok(ActionReply::Signalled));
        waiting.wait(PATIENCE).unwrap();
    });
}

/// A long SELECT, an ALTER TABLE that waits for it, and SELECTs that queue behind that one. The sessions of the
/// queue are older than the one that alters, so that no order of process ids is the order of the queue.
struct Chain {
    root: Client,
    alter: Client,
    altering: Running,
    queue: Vec<(Client, Running)>,
    _reading: Running,
}

impl Chain {
    fn build(stage: &Stage, client: &Client, length: usize) -> Self {
        let queue: Vec<Client> = (0..length).map(|_| stage.session()).collect();
        let (root, alter) = (stage.session(), stage.session());
        let reading =
            start_sleeping(client, &root, "SELECT pg_sleep(600) FROM (SELECT 1 FROM orders LIMIT 1) AS one");
        let altering = start_waiting(client, &alter, "ALTER TABLE orders ADD COLUMN note text");
        let queue = queue
            .into_iter()
            .map(|session| {
                let running = start_waiting(client, &session, "SELECT count(*) FROM orders WHERE id < 10");
                (session, running)
            })
            .collect();
        Self { root, alter, altering, queue, _reading: reading }
    }

    fn queue_pids(&self) -> Vec<i32> {
        sorted(self.queue.iter().map(|(session, _)| session.pid()))
    }
}

#[test]
fn selects_queue_behind_an_alter_that_waits_for_a_long_select() {
    on_every_major(|stage| {
        let client = stage.client();
        let chain = Chain::build(stage, &client, 2);
        let (truth, tick) = at_rest(&client, &mut Watch::start(stage.primary()));
        let forest = forest(&tick);

        let root = only_root(forest);
        assert_eq!((root.pid, root.situation), (Some(chain.root.pid()), RootSituation::Active));
        assert_eq!((root.behind, root.behind_directly, root.frees_now), (3, 1, 1));
        assert_eq!(children(forest, root), [chain.alter.pid()]);
        let alter = forest.find(chain.alter.pid()).unwrap();
        assert_eq!((alter.behind, alter.behind_directly, alter.frees_now), (2, 2, 2));
        assert_eq!(children(forest, alter), chain.queue_pids());
        for pid in chain.queue_pids() {
            assert_eq!(forest.blocked_by(pid), [chain.alter.pid()]);
            assert_eq!(truth[&pid], [chain.alter.pid()].into());
            let node = forest.find(pid).unwrap();
            assert_eq!(node.waits_for.as_ref().unwrap().object.as_ref(), "orders");
            // Nobody holds it in a mode that keeps a SELECT out.
            assert_eq!(forest.held_by(node), [0; 0]);
        }
    });
}

#[test]
fn cancelling_the_alter_lets_the_queue_behind_it_go_on() {
    on_every_major(|stage| {
        let client = stage.client();
        let chain = Chain::build(stage, &client, 20);
        let mut watch = Watch::start(stage.primary());
        let tick = watch.look(&client);
        let forest = forest(&tick);
        let root = only_root(forest);
        assert_eq!((root.pid, root.behind), (Some(chain.root.pid()), 21));
        let advice = forest.advice(root);
        assert_eq!((advice.action, advice.pid), (AdvisedAction::Cancel, Some(chain.alter.pid())));
        assert!(advice.reason.contains("frees 20 now"), "{}", advice.reason);

        let seen = session_of(&tick, advice.pid.unwrap());
        let cancel = Action::Cancel { session: seen.id, query_start: seen.query_start };
        assert_eq!(watch.act(cancel), Ok(ActionReply::Signalled));
        let error = chain.altering.wait(PATIENCE).unwrap_err();
        assert!(format!("{error:#}").contains("57014"), "{error:#}");
        for (_, running) in &chain.queue {
            running.wait(PATIENCE).unwrap();
        }
        assert!(goes_on(&client, chain.root.pid()));
        assert_eq!(watch.look(&client).forest.value().unwrap().blocked_sessions, 0);
    });
}

#[test]
fn a_cancel_does_nothing_to_a_session_idle_in_transaction() {
    on_every_major(|stage| {
        let (client, holder, waiter) = (stage.client(), stage.session(), stage.session());
        holder.execute("BEGIN; UPDATE orders SET status = 'held' WHERE id = 1").unwrap();
        let waiting = start_waiting(&client, &waiter, "UPDATE orders SET status = 'wanted' WHERE id = 1");
        let mut watch = Watch::start(stage.primary());
        let before = watch.look(&client);
        let root = only_root(forest(&before));
        assert_eq!((root.pid, root.situation), (Some(holder.pid()), RootSituation::IdleInTransaction));
        let advice = forest(&before).advice(root);
        assert_eq!((advice.action, advice.pid), (AdvisedAction::Terminate, Some(holder.pid())));

        let seen = session_of(&before, holder.pid());
        let cancel = Action::Cancel { session: seen.id, query_start: seen.query_start };
        let Ok(ActionReply::Changed(now)) = watch.act(cancel) else { panic!("signalled") };
        assert_eq!((now.state, now.xact_start), (Some(State::IdleInTransaction), seen.xact_start));
        let after = watch.look(&client);
        assert_eq!(session_of(&after, holder.pid()), seen);
        assert_eq!(forest(&after).blocked_by(waiter.pid()), [holder.pid()]);

        holder.execute("ROLLBACK").unwrap();
        waiting.wait(PATIENCE).unwrap();
    });
}

/// Every node of a forest with the number of nodes above it, each visit counted.
fn walk(forest: &Forest) -> Vec<(usize, &Node)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, &Node)> = forest.roots().map(|root| (0, root)).collect();
    while let Some((depth, node)) = open.pop() {
        found.push((depth, node));
        assert!(found.len() <= 100, "the walk has no end");
        open.extend(forest.children(node).map(|child| (depth + 1, child)));
    }
    found
}

#[test]
fn sessions_that_wait_for_each_other_are_one_root() {
    for size in [2, 3] {
        on_every_major(|stage| {
            let client = stage.client();
            let circle: Vec<Client> = (0..size).map(|_| stage.session()).collect();
            for (place, session) in circle.iter().enumerate() {
                let id = place + 1;
                session.execute(&format!("BEGIN; UPDATE orders SET status = 'x' WHERE id = {id}")).unwrap();
            }
            let mut running = Vec::new();
            for (place, session) in circle.iter().enumerate() {
                let next = (place + 1) % size + 1;
                let sql = format!("UPDATE orders SET status = 'y' WHERE id = {next}");
                running.push(start_waiting(&client, session, &sql));
            }
            let outside = stage.session();
            running.push(start_waiting(&client, &outside, "UPDATE orders SET status = 'z' WHERE id = 1"));
            let mut watch = Watch::start(stage.primary());
            let (truth, tick) = at_rest(&client, &mut watch);
            let forest = forest(&tick);

            let root = only_root(forest);
            assert_eq!((root.kind, root.pid), (NodeKind::Deadlock, None));
            assert_eq!(sorted(root.members.clone()), sorted(circle.iter().map(Client::pid)));
            for (place, session) in circle.iter().enumerate() {
                let next = circle[(place + 1) % size].pid();
                assert_eq!(forest.blocked_by(session.pid()), [next]);
                assert!(truth[&session.pid()].contains(&next));
                assert_eq!(forest.find(session.pid()), Some(root));
            }
            let found: Vec<_> = walk(forest).iter().map(|(depth, node)| (*depth, node.pid)).collect();
            assert_eq!(found, [(0, None), (1, Some(outside.pid()))]);
            let advice = forest.advice(root);
            assert_eq!((advice.action, advice.pid), (AdvisedAction::Wait, None));
        });
    }
}

#[test]
fn of_three_who_update_a_row_each_stands_once() {
    on_every_major(|stage| {
        let (client, root) = (stage.client(), stage.session());
        root.execute("BEGIN; UPDATE orders SET status = 'x' WHERE id = 1").unwrap();
        // The first is the youngest session and so on: no order of process ids is the order of the queue.
        let mut updaters: Vec<Client> = (0..3).map(|_| stage.session()).collect();
        updaters.reverse();
        let sql = "UPDATE orders SET status = 'y' WHERE id = 1";
        let _running: Vec<Running> =
            updaters.iter().map(|session| start_waiting(&client, session, sql)).collect();
        let (truth, tick) = at_rest(&client, &mut Watch::start(stage.primary()));
        let forest = forest(&tick);
        let [first, second, third] = [0, 1, 2].map(|place: usize| updaters[place].pid());

        assert_eq!(truth[&third], [first, second].into());
        assert_eq!(forest.blocked_by(first), [root.pid()]);
        assert_eq!(forest.blocked_by(second), [first]);
        assert_eq!(forest.blocked_by(third), sorted([first, second]));
        let mut places: Vec<_> = walk(forest).into_iter().map(|(depth, node)| (depth, node.pid)).collect();
        places.sort_unstable();
        let mut expected = vec![(0, Some(root.pid())), (1, Some(first)), (2, Some(second)), (2, Some(third))];
        expected.sort_unstable();
        assert_eq!(places, expected);
        assert_eq!(forest.also_behind(forest.find(third).unwrap()), [second]);
        assert_eq!(forest.also_behind(forest.find(second).unwrap()), [0; 0]);
        let object = |pid: i32| forest.find(pid).unwrap().waits_for.as_ref().unwrap().object.clone();
        assert!(object(first).starts_with("tx "), "{}", object(first));
        let place = client.cell("SELECT ctid FROM orders WHERE id = 1").unwrap();
        assert_eq!(*object(second), *format!("tuple {place} of orders"));
        assert_eq!(object(third), object(second));
        assert_eq!(forest.find(root.pid()).unwrap().behind, 3);
    });
}

#[test]
fn a_root_that_has_left_meanwhile_is_gone() {
    on_every_major(|stage| {
        let (client, holder, waiter) = (stage.client(), stage.session(), stage.session());
        holder.execute("BEGIN; LOCK TABLE orders").unwrap();
        let waiting = start_waiting(&client, &waiter, "SELECT count(*) FROM orders WHERE id < 10");
        let mut watch = Watch::start(stage.primary());
        let tick = watch.look(&client);
        assert_eq!(only_root(forest(&tick)).pid, Some(holder.pid()));
        let seen = session_of(&tick, holder.pid());
        drop(holder);
        waiting.wait(PATIENCE).unwrap();
        let there = format!("SELECT pid FROM pg_stat_get_activity({})", seen.id.pid);
        until("the session to leave", || client.rows(&there).unwrap().is_empty());
        for action in [
            Action::Terminate { session: seen.id, xact_start: seen.xact_start },
            Action::TerminateAny { session: seen.id },
            Action::Cancel { session: seen.id, query_start: seen.query_start },
        ] {
            assert_eq!(watch.act(action.clone()), Ok(ActionReply::Gone), "{action:?}");
        }
    });
}

#[test]
fn an_index_built_concurrently_waits_for_an_open_transaction() {
    on_every_major(|stage| {
        let (client, writer, builder) = (stage.client(), stage.session(), stage.session());
        writer.execute("BEGIN; UPDATE orders SET status = 'x' WHERE id = 1").unwrap();
        let building =
            start_waiting(&client, &builder, "CREATE INDEX CONCURRENTLY by_status ON orders (status)");
        let (truth, tick) = at_rest(&client, &mut Watch::start(stage.primary()));
        let forest = forest(&tick);

        let locker = "SELECT current_locker_pid FROM pg_stat_progress_create_index";
        assert_eq!(client.cell(locker).unwrap(), writer.pid().to_string());
        assert_eq!(truth, [(builder.pid(), [writer.pid()].into())].into());
        let root = only_root(forest);
        assert_eq!((root.pid, root.situation), (Some(writer.pid()), RootSituation::IdleInTransaction));
        assert_eq!(children(forest, root), [builder.pid()]);
        assert_eq!(forest.blocked_by(builder.pid()), [writer.pid()]);
        let wait = forest.find(builder.pid()).unwrap().waits_for.as_ref().unwrap();
        let of_writer = format!(
            "SELECT virtualxid FROM pg_lock_status() WHERE pid = {} AND virtualxid IS NOT NULL AND granted",
            writer.pid()
        );
        assert_eq!(&*wait.tag.locktype, "virtualxid");
        assert_eq!(*wait.object, *format!("virtual tx {}", client.cell(&of_writer).unwrap()));
        assert_eq!(forest.held_by(forest.find(builder.pid()).unwrap()), [writer.pid()]);

        writer.execute("ROLLBACK").unwrap();
        building.wait(PATIENCE).unwrap();
        client.execute("DROP INDEX by_status").unwrap();
    });
}

#[test]
fn a_session_waits_where_its_parallel_worker_waits() {
    on_every_major(|stage| {
        let (client, holder) = (stage.client(), stage.session());
        let (leader, follower) = (stage.session(), stage.session());
        client
            .execute(
                "CREATE OR REPLACE FUNCTION count_orders() RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS
                 'BEGIN RETURN (SELECT count(*) FROM orders WHERE id < 10); END'",
            )
            .unwrap();
        holder.execute("BEGIN; LOCK TABLE orders").unwrap();
        let parallel = if stage.major >= 16 { "debug_parallel_query" } else { "force_parallel_mode" };
        leader.execute(&format!("SET {parallel} = on")).unwrap();
        leader.execute("SELECT pg_advisory_lock(12)").unwrap();
        let counting = leader.spawn("SELECT count_orders()");
        let worker =
            format!("SELECT pid FROM pg_stat_get_activity(NULL) WHERE leader_pid = {}", leader.pid());
        until("the worker to wait", || {
            client.cell(&worker).is_ok_and(|pid| waits(&client, pid.parse().unwrap()))
        });
        let worker: i32 = client.cell(&worker).unwrap().parse().unwrap();
        assert!(!waits(&client, leader.pid()));
        let _following = start_waiting(&client, &follower, "SELECT pg_advisory_lock(12)");
        let (truth, tick) = at_rest(&client, &mut Watch::start(stage.primary()));
        let forest = forest(&tick);

        let root = only_root(forest);
        assert_eq!((root.pid, root.behind), (Some(holder.pid()), 2));
        assert_eq!(children(forest, root), [leader.pid()]);
        assert_eq!(children(forest, forest.find(leader.pid()).unwrap()), [follower.pid()]);
        assert!(forest.pids_behind(holder.pid()).contains(&follower.pid()));
        for pid in [worker, leader.pid()] {
            assert_eq!(truth[&pid], [holder.pid()].into());
            assert_eq!(forest.blocked_by(pid), [holder.pid()], "of {pid}, led by {}", leader.pid());
        }
        holder.execute("ROLLBACK").unwrap();
        counting.wait(PATIENCE).unwrap();
    });
}

#[test]
fn a_queue_keeps_its_order_when_somebody_has_left_it() {
    on_every_major(|stage| {
        let client = stage.client();
        let [reader, indexer, ddl, late, jumper] = [(); 5].map(|()| stage.session());
        reader.execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE").unwrap();
        indexer.execute("BEGIN; LOCK TABLE orders IN SHARE MODE").unwrap();
        jumper.execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE").unwrap();
        for session in [&ddl, &late] {
            session.execute("BEGIN").unwrap();
        }
        let altering = start_waiting(&client, &ddl, "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE");
        let _late = start_waiting(&client, &late, "LOCK TABLE orders IN SHARE MODE");
        // It holds what keeps the DDL waiting, so it goes before it, and before the late one too.
        let _jump = start_waiting(&client, &jumper, "LOCK TABLE orders IN ROW EXCLUSIVE MODE");
        let mut watch = Watch::start(stage.primary());
        assert_eq!(blockers(&client)[&late.pid()], [ddl.pid(), jumper.pid()].into());
        if stage.major >= 14 {
            assert_eq!(
                forest(&watch.look(&client)).blocked_by(late.pid()),
                sorted([ddl.pid(), jumper.pid()])
            );
        }

        client.execute(&format!("SELECT pg_cancel_backend({})", ddl.pid())).unwrap();
        assert!(altering.wait(Duration::from_secs(10)).is_err());
        let (truth, tick) = at_rest(&client, &mut watch);
        assert_eq!(truth[&late.pid()], [jumper.pid()].into());
        assert_eq!(truth[&jumper.pid()], [indexer.pid()].into());
        assert_eq!(forest(&tick).blocked_by(jumper.pid()), [indexer.pid()]);
        assert_eq!(forest(&tick).blocked_by(late.pid()), [jumper.pid()]);
    });
}
