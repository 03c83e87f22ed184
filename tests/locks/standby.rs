//! A standby: the process that replays the log holds locks of the primary's sessions, and waits for readers.

use dbtriage::engine::locks::{AdvisedAction, NodeKind, RootSituation};
use dbtriage_lab::{Client, Postgres, Running};
use pretty_assertions::assert_eq;

use crate::server::{
    PATIENCE, Stage, Watch, children, flush, forest, on_every_major, only_root, session, session_of,
    start_waiting, until, waits,
};
use crate::truth::at_rest;

/// The process that replays the log.
fn startup(client: &Client) -> i32 {
    let sql = "SELECT pid FROM pg_stat_get_activity(NULL) WHERE backend_type = 'startup'";
    client.cell(sql).unwrap().parse().unwrap()
}

fn eyes(standby: &Postgres) -> Client {
    standby.client("postgres", "shop").unwrap()
}

/// Locks a table on the primary in a transaction that stays open, and lets the standby know.
fn lock_on_the_primary(stage: &Stage) -> Client {
    let locker = stage.session();
    locker.execute("BEGIN; LOCK TABLE customers IN ACCESS EXCLUSIVE MODE").unwrap();
    flush(&stage.client());
    locker
}

#[test]
fn a_reader_of_a_standby_waits_for_the_process_that_replays() {
    on_every_major(|stage| {
        let client = eyes(stage.standby());
        let startup = startup(&client);
        let locker = lock_on_the_primary(stage);
        let held = format!(
            "SELECT * FROM pg_locks WHERE pid = {startup} AND mode = 'AccessExclusiveLock' AND granted"
        );
        until("the standby to replay the lock", || !client.rows(&held).unwrap().is_empty());
        let reader = session(stage.standby());
        let reading: Running = start_waiting(&client, &reader, "SELECT count(*) FROM customers");
        let mut watch = Watch::start(stage.standby());
        let (truth, tick) = at_rest(&client, &mut watch);
        let forest = forest(&tick);

        assert_eq!(truth, [(reader.pid(), [startup].into())].into());
        let root = only_root(forest);
        assert_eq!((root.kind, root.pid, root.behind), (NodeKind::Session, Some(startup), 1));
        assert_eq!(root.situation, RootSituation::Startup);
        assert_eq!(session_of(&tick, startup).backend_type.as_deref(), Some("startup"));
        assert_eq!(children(forest, root), [reader.pid()]);
        assert_eq!(forest.blocked_by(reader.pid()), [startup]);
        assert_eq!(forest.advice(root).action, AdvisedAction::None);
        assert_eq!(
            forest.find(reader.pid()).unwrap().waits_for.as_ref().unwrap().object.as_ref(),
            "customers"
        );

        locker.execute("ROLLBACK").unwrap();
        flush(&stage.client());
        reading.wait(PATIENCE).unwrap();
    });
}

#[test]
fn the_process_that_replays_waits_for_a_reader_of_the_standby() {
    on_every_major(|stage| {
        let client = eyes(stage.standby());
        let startup = startup(&client);
        let reader = session(stage.standby());
        reader.execute("BEGIN; SELECT count(*) FROM customers").unwrap();
        let locker = lock_on_the_primary(stage);
        until("the replay to wait", || waits(&client, startup));
        // Who reads now queues behind the replay.
        let late = session(stage.standby());
        let reading = start_waiting(&client, &late, "SELECT count(*) FROM customers");
        let mut watch = Watch::start(stage.standby());
        let tick = watch.look(&client);
        let forest = forest(&tick);

        let root = only_root(forest);
        assert_eq!((root.pid, root.behind), (Some(reader.pid()), 2));
        assert_eq!(root.situation, RootSituation::IdleInTransaction);
        assert_eq!(children(forest, root), [startup]);
        assert_eq!(forest.blocked_by(startup), [reader.pid()]);
        let replay = forest.find(startup).unwrap();
        assert_eq!(children(forest, replay), [late.pid()]);
        assert_eq!(forest.blocked_by(late.pid()), [startup]);
        let wait = replay.waits_for.as_ref().unwrap();
        assert_eq!((&*wait.object, &*wait.mode), ("customers", "AccessExclusiveLock"));
        // Nobody is told to end the replay.
        let advice = forest.advice(root);
        assert_eq!((advice.action, advice.pid), (AdvisedAction::Terminate, Some(reader.pid())));

        locker.execute("ROLLBACK").unwrap();
        flush(&stage.client());
        reader.execute("ROLLBACK").unwrap();
        reading.wait(PATIENCE).unwrap();
    });
}
