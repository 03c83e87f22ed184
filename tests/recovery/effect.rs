//! NO EFFECT: the root stays, or another one of the same statement takes its place; and what is an effect although
//! somebody waits.

use std::time::Duration;

use dbtriage::engine::recovery::Verdict;

use super::side_by_side;
use super::stage::{PATIENCE, ROW, Stage, Traffic, Waiters, hold, work};

/// No sooner and no later is it said that nothing has changed.
fn says_no_effect_in_time(stage: &mut Stage) {
    stage.until("NO EFFECT", Duration::from_secs(14), |stage| stage.verdict() == Verdict::NoEffect);
    let verdicts = stage.verdicts();
    assert!((10.0..13.0).contains(&verdicts.last().unwrap().1), "{verdicts:?}");
    assert_eq!(verdicts.len(), 2, "{verdicts:?}");
}

/// A cancel does nothing to a session that is idle in a transaction.
fn the_root_stays() {
    let mut stage = Stage::new();
    let _traffic = Traffic::light(&stage);
    stage.see_calm();
    let root = stage.session("reports-worker");
    root.execute(&hold("held")).unwrap();
    let waiters = Waiters::start(&stage, 5, &work(ROW));
    stage.see_waiting(5);
    stage.set(Some(&root));
    stage.admin.execute(&format!("SELECT pg_cancel_backend({})", root.pid())).unwrap();
    says_no_effect_in_time(&mut stage);
    assert_eq!(stage.recovery().gone_at, None);

    // It was of use after all, only later.
    root.execute("ROLLBACK").unwrap();
    waiters.end();
    stage.until("RECOVERING", PATIENCE, |stage| stage.verdict() == Verdict::Recovering);
}

fn another_takes_its_place() {
    let mut stage = Stage::new();
    let root = stage.session("reports-worker");
    root.execute(&hold("held")).unwrap();
    let next = stage.session("reports-worker");
    let taking = next.spawn(&hold("kept"));
    stage.see_waiting(1);
    let waiters = Waiters::start(&stage, 5, &work(ROW));
    stage.see_waiting(6);
    stage.terminate(&root);
    drop(taking.wait(PATIENCE).unwrap());
    says_no_effect_in_time(&mut stage);
    assert!(stage.recovery().gone_at.is_some());
    assert_eq!(stage.recovery().relapses, 0);
    next.execute("ROLLBACK").unwrap();
    waiters.end();
}

/// Those who were freed hold the lock one after another, and each has a statement of its own.
fn the_queue_gets_shorter() {
    let mut stage = Stage::new();
    let root = stage.session("reports-worker");
    root.execute(&hold("held")).unwrap();
    let queue: Vec<_> = (0..8)
        .map(|number| {
            let session = stage.session("checkout");
            // The name tells one statement from another.
            let update = format!("UPDATE orders AS order_{number} SET status = 'paid' WHERE id = {ROW}");
            let running = session.spawn(&format!("{update}; SELECT pg_sleep(2)"));
            stage.see_waiting(number + 1);
            (session, running)
        })
        .collect();
    stage.terminate(&root);
    stage.until("the queue to end", Duration::from_secs(40), |stage| {
        assert!(!stage.has_said(Verdict::NoEffect), "{:?}", stage.verdicts());
        stage.tick().vitals.blocked == Some(0)
    });
    assert!(stage.has_said(Verdict::Recovering), "{:?}", stage.verdicts());
    for (_session, running) in queue {
        drop(running.wait(PATIENCE).unwrap());
    }
}

#[test]
fn where_the_root_stays_or_is_replaced_there_was_no_effect() {
    side_by_side(&[the_root_stays, another_takes_its_place, the_queue_gets_shorter]);
}
