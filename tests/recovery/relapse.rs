//! RELAPSED: the same statement or the same relation blocks again, and nothing else does.

use std::time::Duration;

use dbtriage::engine::recovery::Verdict;
use pretty_assertions::assert_eq;

use super::side_by_side;
use super::stage::{PATIENCE, ROW, Stage, Traffic, Waiters, hold, work};

/// An incident on a row that is over and gets better.
fn recovering() -> Stage {
    let mut stage = Stage::new();
    let root = stage.session("reports-worker");
    root.execute(&hold("held")).unwrap();
    let waiters = Waiters::start(&stage, 5, &work(ROW));
    stage.see_waiting(5);
    stage.terminate(&root);
    waiters.end();
    stage.until("RECOVERING", PATIENCE, |stage| stage.verdict() == Verdict::Recovering);
    stage
}

fn relapses(mut stage: Stage, again: &str, waits: &str) {
    let root = stage.session("reports-worker");
    root.execute(again).unwrap();
    let waiters = Waiters::start(&stage, 3, waits);
    stage.until("RELAPSED", Duration::from_secs(10), |stage| stage.verdict() == Verdict::Relapsed);
    for _ in 0..4 {
        stage.next();
    }
    assert_eq!((stage.verdict(), stage.recovery().relapses), (Verdict::Relapsed, 1));
    root.execute("ROLLBACK").unwrap();
    waiters.end();
    stage.until("RECOVERING", PATIENCE, |stage| stage.verdict() == Verdict::Recovering);
}

fn by_the_same_statement() {
    relapses(recovering(), &hold("again"), &work(ROW));
}

fn by_the_same_relation() {
    relapses(
        recovering(),
        "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE",
        "SELECT count(*) FROM orders",
    );
}

fn not_by_another_table() {
    let mut stage = recovering();
    let root = stage.session("payroll");
    root.execute("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE").unwrap();
    let waiters = Waiters::start(&stage, 5, "SELECT count(*) FROM reports");
    stage.see_waiting(5);
    let until = stage.seconds().max(10.0) + 6.0;
    stage.always_until(until, "another table has nothing to do with it", |stage| {
        !stage.has_said(Verdict::Relapsed) && !stage.has_said(Verdict::NoEffect)
    });
    assert_eq!(stage.recovery().relapses, 0);
    root.execute("ROLLBACK").unwrap();
    waiters.end();
}

/// A row that several update all the time: somebody waits for a moment in nearly every sample.
fn not_by_a_busy_row() {
    let mut stage = Stage::new();
    let busy = format!("BEGIN; {}; SELECT pg_sleep(0.02); COMMIT", work(ROW));
    let _traffic = Traffic::start(&stage, 3, |_| vec![busy.clone()]);
    stage.see_calm();
    let root = stage.session("web");
    root.execute(&format!("BEGIN; {}", work(ROW))).unwrap();
    let waiters = Waiters::start(&stage, 4, &work(ROW));
    stage.see_waiting(7);
    stage.terminate(&root);
    waiters.end();
    let mut contended = 0;
    stage.always_until(25.0, "who waits for a moment is usual there", |stage| {
        contended += usize::from(stage.tick().vitals.blocked > Some(0));
        !stage.has_said(Verdict::Relapsed) && !stage.has_said(Verdict::NoEffect)
    });
    assert!(contended > 10, "somebody waited in {contended} samples");
    assert!(stage.has_said(Verdict::Recovering), "{:?}", stage.verdicts());
}

/// It has no process and no statement.
fn by_a_prepared_transaction() {
    let mut stage = Stage::new();
    let prepare = |stage: &Stage, gid: &str| {
        let session = stage.session("transfer");
        session.execute(&format!("{}; PREPARE TRANSACTION '{gid}'", hold(gid))).unwrap();
    };
    prepare(&stage, "transfer-1");
    let waiters = Waiters::start(&stage, 5, &work(ROW));
    stage.see_waiting(5);
    stage.set(None);
    stage.admin.execute("ROLLBACK PREPARED 'transfer-1'").unwrap();
    waiters.end();
    stage.until("RECOVERING", PATIENCE, |stage| stage.verdict() == Verdict::Recovering);
    prepare(&stage, "transfer-2");
    let waiters = Waiters::start(&stage, 3, &work(ROW));
    stage.until("RELAPSED", Duration::from_secs(10), |stage| stage.verdict() == Verdict::Relapsed);
    stage.admin.execute("ROLLBACK PREPARED 'transfer-2'").unwrap();
    waiters.end();
}

#[test]
fn what_blocks_again_has_relapsed() {
    side_by_side(&[by_the_same_statement, by_the_same_relation, by_a_prepared_transaction]);
}

#[test]
fn what_is_another_matter_or_usual_has_not_relapsed() {
    side_by_side(&[not_by_another_table, not_by_a_busy_row]);
}
