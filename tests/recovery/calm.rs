//! RECOVERED and NO TRAFFIC: a minute within limits, with the traffic of before and without any.

use std::time::Duration;

use dbtriage::engine::recovery::{Figure, Verdict};
use pretty_assertions::assert_eq;

use super::side_by_side;
use super::stage::{ROW, Stage, Traffic, Waiters, hold, work};

/// The longest that a verdict of a minute may take.
const LONGEST: Duration = Duration::from_secs(75);

fn order(stage: &Stage) -> Vec<Verdict> {
    stage.verdicts().into_iter().map(|(verdict, _)| verdict).collect()
}

/// Traffic, an incident of six that wait, and its cure.
fn cured() -> (Stage, Traffic) {
    let mut stage = Stage::new();
    let traffic = Traffic::light(&stage);
    stage.see_calm();
    let root = stage.session("reports-worker");
    root.execute(&hold("held")).unwrap();
    let waiters = Waiters::start(&stage, 6, &work(ROW));
    stage.see_waiting(6);
    stage.terminate(&root);
    assert_eq!(Figure::Blocked.of(&stage.recovery().before), Some(6.0));
    waiters.end();
    (stage, traffic)
}

fn with_traffic() {
    let (mut stage, _traffic) = cured();
    stage.until("RECOVERED", LONGEST, |stage| stage.verdict() == Verdict::Recovered);
    assert_eq!(order(&stage), [Verdict::Watching, Verdict::Recovering, Verdict::Recovered]);
    let verdicts = stage.verdicts();
    assert!((3.0..10.0).contains(&verdicts[1].1), "{verdicts:?}");
    assert!((60.0..70.0).contains(&verdicts[2].1), "{verdicts:?}");
    let recovery = stage.recovery();
    assert!(recovery.gone_at.is_some_and(|at| recovery.at <= at), "{recovery:#?}");
    assert_eq!(stage.figure(Figure::Blocked), Some(0.0));
    assert!(Figure::Blocked.of(&recovery.worst) >= Some(6.0));
    assert!(recovery.usual_transactions_per_second.is_some_and(|usual| (20.0..200.0).contains(&usual)));

    // What comes then and has nothing to do with it is no news about it.
    let other = stage.session("payroll");
    other.execute("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE").unwrap();
    let waiters = Waiters::start(&stage, 6, "SELECT count(*) FROM reports");
    stage.see_waiting(6);
    for _ in 0..4 {
        stage.next();
    }
    let news = [Verdict::Relapsed, Verdict::NoEffect];
    assert!(!news.iter().any(|verdict| stage.has_said(*verdict)), "{:?}", stage.verdicts());
    other.execute("ROLLBACK").unwrap();
    waiters.end();
}

fn without_traffic() {
    let (mut stage, traffic) = cured();
    drop(traffic);
    stage.until("NO TRAFFIC", LONGEST, |stage| stage.verdict() == Verdict::NoTraffic);
    assert_eq!(order(&stage), [Verdict::Watching, Verdict::Recovering, Verdict::NoTraffic]);
    assert!(stage.verdicts()[2].1 >= 60.0, "{:?}", stage.verdicts());

    // What is usual is not what followed on the incident.
    let usual = stage.recovery().usual_transactions_per_second.unwrap();
    stage.set(None);
    let again = stage.recovery().usual_transactions_per_second.unwrap();
    assert!(usual * 0.9 < again, "{usual} before, {again} after a minute without traffic");
}

#[test]
fn a_calm_minute_is_recovered_with_the_traffic_of_before_and_no_traffic_without() {
    side_by_side(&[with_traffic, without_traffic]);
}
