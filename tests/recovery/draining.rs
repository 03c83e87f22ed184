//! Means of statements: the wait of those who were freed is not taken for their time.

use std::time::Duration;

use dbtriage::engine::locks::Forest;
use dbtriage::engine::recovery::{Mean, StatementLine};
use dbtriage::format::seconds_between;
use dbtriage_lab::terminal::until;
use jiff::Timestamp;
use pretty_assertions::assert_eq;

use super::stage::{PATIENCE, ROW, Stage, Traffic, Waiters, hold, work};

/// A mean that only those who waited can have, milliseconds.
const LONG_MS: f64 = 100.0;
/// The row of which one waits for longer than the others.
const OTHER_ROW: u32 = 12;

fn line(stage: &Stage) -> &StatementLine {
    stage.recovery().statements.first().expect("the statement that waits is followed")
}

/// The mean of the followed statement over the last interval of the counters.
fn mean_read(stage: &Stage) -> Option<f64> {
    let table = stage.tick().statements.value()?;
    table.rows.iter().find(|row| row.key == line(stage).key)?.mean_ms
}

fn read_at(stage: &Stage) -> Timestamp {
    stage.tick().sample.statements.value().unwrap().read_at
}

#[test]
fn a_mean_is_draining_until_all_that_waited_have_ended_and_were_counted() {
    let mut stage = Stage::new();
    let _traffic = Traffic::start(&stage, 1, |_| vec![work(100), "SELECT pg_sleep(0.08)".into()]);
    stage.see_calm();
    let root = stage.session("reports-worker");
    root.execute(&hold("held")).unwrap();
    let other = stage.session("payroll");
    other.execute(&format!("BEGIN; SELECT 1 FROM orders WHERE id = {OTHER_ROW} FOR UPDATE")).unwrap();
    let waiters = Waiters::start(&stage, 5, &work(ROW));
    stage.until("a wait of five seconds", PATIENCE, |stage| {
        let roots = stage.tick().forest.value().into_iter().flat_map(Forest::roots);
        roots.filter_map(|root| root.longest_wait_seconds).any(|seconds| seconds > 5.0)
    });
    // It begins after the last sample and before the baseline.
    let straggler = Waiters::start(&stage, 1, &work(OTHER_ROW));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("the last one to wait", PATIENCE, || stage.admin.cell(waits).unwrap() == "6");
    stage.terminate(&root);
    waiters.end();
    assert_eq!(line(&stage).query.as_deref().map(|it| it.contains("UPDATE orders")), Some(true));

    // Several intervals of the counters: the mean of the freed is read, and one from before runs on.
    let mut worst = 0.0_f64;
    stage.always_until(7.0, "one from before runs still", |stage| {
        worst = worst.max(mean_read(stage).unwrap_or_default());
        line(stage).now == Mean::Draining
    });
    assert!(worst > LONG_MS, "those who were freed are counted with their wait: {worst} ms");
    other.execute("ROLLBACK").unwrap();
    straggler.end();
    let ended = stage.tick().sample.server_time;
    let mut drained_ms = 0.0_f64;
    stage.until("a mean of new executions only", Duration::from_secs(10), |stage| {
        let is_draining = line(stage).now == Mean::Draining;
        if is_draining {
            drained_ms = drained_ms.max(mean_read(stage).unwrap_or_default());
        }
        !is_draining
    });
    assert!(drained_ms > LONG_MS, "the last of them is counted while it drains: {drained_ms} ms");
    // What is counted now began after the last of them had ended.
    let interval = stage.tick().statements.value().unwrap().interval_seconds.unwrap();
    assert!(interval <= seconds_between(ended, read_at(&stage)), "{interval}");
    for _ in 0..6 {
        let now = line(&stage).now;
        let Mean::Of(Some(mean)) = now else { panic!("{now:?}") };
        assert!(mean < LONG_MS, "{mean} ms");
        stage.next();
    }
    let worst = line(&stage).worst_ms;
    assert!(worst.is_some_and(|worst| worst < LONG_MS), "{worst:?}");
}
