//! Every check in three situations: one in which it finds what it looks for, with its sentence; one that is healthy; and
//! one in which it cannot tell, with its reason. The situations are samples; what servers make of them is tested live.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod limits;
#[allow(
    dead_code,
    clippy::unnecessary_wraps,
    clippy::too_many_lines,
    reason = "the moments of the screens are more, and told in words"
)]
#[path = "../screens/moment.rs"]
mod moment;
mod postgres;
mod redis;
mod resources;

use std::collections::BTreeSet;

use dbtriage::engine::findings::CHECKS;
use dbtriage::engine::{Baseline, Observer, Severity, Thresholds};
use dbtriage::model::{Body, Kind, OutageKind, Reason, Sample, Target, TargetId};
use pretty_assertions::assert_eq;

/// Longer than any check looks back.
const LONG_SECONDS: i64 = 320;

/// What a check is shown and must say.
pub(crate) struct Case {
    check: &'static str,
    /// For how many seconds it is shown.
    seconds: i64,
    /// The sample of a second.
    sample: fn(i64) -> Body,
    severity: Severity,
    says: &'static str,
    /// A sample that it cannot judge, and why not.
    blind: (fn(i64) -> Body, &'static str),
}

fn observer(kind: Kind) -> Observer {
    let target = Target { id: TargetId(0), name: "shop".into(), kind };
    Observer::new(target, Baseline::Previous, Thresholds::default())
}

/// Shows one sample a second.
fn watched(kind: Kind, seconds: i64, sample: fn(i64) -> Body) -> Observer {
    let mut observer = observer(kind);
    for second in 0..seconds {
        let at = moment::at(second);
        observer.observe(Sample { target: TargetId(0), asked_at: at, taken_at: at, body: sample(second) });
    }
    observer
}

/// The sentence of a check, and how bad it is.
fn told(observer: &Observer, check: &str) -> Option<(Severity, String)> {
    let found = observer.findings().iter().find(|finding| finding.check == check)?;
    Some((found.severity, found.summary.clone()))
}

fn check_all(kind: Kind, cases: &[Case], healthy: fn(i64) -> Body) {
    let mut said = Vec::new();
    let mut expected = Vec::new();
    for case in cases {
        let found = told(&watched(kind, case.seconds, case.sample), case.check);
        let (blind, why) = case.blind;
        let observer = watched(kind, 3, blind);
        said.push((case.check, found, observer.not_yet().get(case.check).copied()));
        expected.push((case.check, Some((case.severity, case.says.to_owned())), Some(why)));
    }
    assert_eq!(said, expected);
    let observer = watched(kind, LONG_SECONDS, healthy);
    assert_eq!(observer.findings(), [], "a healthy server");
    assert!(observer.not_yet().is_empty(), "{:?}", observer.not_yet());
    let shown: BTreeSet<&str> = cases.iter().map(|case| case.check).collect();
    let all: BTreeSet<&str> =
        CHECKS.iter().filter(|check| check.kind == Some(kind)).map(|check| check.id).collect();
    assert_eq!(shown, all, "every check has a case");
}

/// No answer at all.
pub(crate) fn silence(second: i64) -> Body {
    Body::Outage(dbtriage::model::Outage {
        kind: OutageKind::Blocked,
        reason: Reason::new("the server does not answer"),
        since: moment::at(second),
        retry_at: None,
    })
}

#[test]
fn every_check_of_postgresql_finds_what_it_looks_for_and_nothing_else() {
    check_all(Kind::Postgres, &postgres::cases(), postgres::healthy);
}

#[test]
fn every_check_of_redis_finds_what_it_looks_for_and_nothing_else() {
    check_all(Kind::Redis, &redis::cases(), redis::healthy);
}
