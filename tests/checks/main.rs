//! Every check in three situations: one in which it finds what it looks for, with its sentence; one that is healthy; and
//! one in which it cannot tell, with its reason. The situations are samples; what servers make of them is tested live.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test fails by panicking; situations are data"
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
use dbtriage::model::{Body, Kind, OutageKind, Reading, Reason, Sample, Target, TargetId};
use pretty_assertions::assert_eq;

/// The checks that tell why there are no data.
const OF_OUTAGES: [&str; 3] = ["unreachable", "redis-unreachable", "redis-blocked"];

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

fn observer(kind: Kind, baseline: Baseline) -> Observer {
    let target = Target { id: TargetId(0), name: "shop".into(), kind };
    Observer::new(target, baseline, Thresholds::default())
}

/// Shows one sample a second.
fn watched(kind: Kind, seconds: i64, sample: fn(i64) -> Body) -> Observer {
    shown(observer(kind, Baseline::Previous), seconds, sample)
}

fn shown(mut observer: Observer, seconds: i64, sample: fn(i64) -> Body) -> Observer {
    for second in 0..seconds {
        let at = moment::at(second);
        observer.observe(&Sample { target: TargetId(0), asked_at: at, taken_at: at, body: sample(second) });
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
    // Whether there are data at all is always known; that is shown apart.
    let all: BTreeSet<&str> = all.into_iter().filter(|id| !OF_OUTAGES.contains(id)).collect();
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

#[test]
fn a_server_that_gives_no_data_is_told_by_how_it_fails() {
    let outage = |kind: OutageKind| -> Body {
        Body::Outage(dbtriage::model::Outage {
            kind,
            reason: Reason::new("connection refused"),
            since: moment::start(),
            retry_at: None,
        })
    };
    let found = |kind: Kind, how: OutageKind| {
        let mut observer = observer(kind, Baseline::Previous);
        let at = moment::at(4);
        observer.observe(&Sample { target: TargetId(0), asked_at: at, taken_at: at, body: outage(how) });
        let all = observer.findings().iter();
        all.map(|finding| (finding.check, finding.summary.clone())).collect::<Vec<_>>()
    };
    let told = |check, how: &str| vec![(check, format!("{how} for 4s: connection refused"))];
    assert_eq!(found(Kind::Postgres, OutageKind::Blocked), told("unreachable", "blocked"));
    assert_eq!(found(Kind::Postgres, OutageKind::Unreachable), told("unreachable", "unreachable"));
    assert_eq!(found(Kind::Redis, OutageKind::Blocked), told("redis-blocked", "blocked"));
    assert_eq!(found(Kind::Redis, OutageKind::Unreachable), told("redis-unreachable", "unreachable"));
    assert_eq!(found(Kind::Redis, OutageKind::Error), told("redis-unreachable", "error"));
    for kind in [Kind::Postgres, Kind::Redis] {
        let healthy = if kind == Kind::Redis { redis::healthy } else { postgres::healthy };
        assert!(watched(kind, 2, healthy).findings().is_empty());
    }
}

#[test]
fn a_statement_that_is_called_more_than_usual_is_told_though_all_together_are_not() {
    // Ten a second since a hundred thousand seconds, and now a hundred and fifty.
    let rising = |second: i64| {
        postgres::changed(second, |it| {
            postgres::counters(it, |statements| {
                statements[0].stats_since = moment::ago(moment::start(), 100_000);
                statements[0].calls = 1_000_000 + second * 150;
            });
        })
    };
    let found = told(&watched(Kind::Postgres, 400, rising), "operation-spike");
    let says = "SELECT … FROM reports.reports WHERE report_… is called 150 times/s over the last 5m00s, 14x the average of the time since the reset";
    assert_eq!(found, Some((Severity::Notice, says.to_owned())));
}

#[test]
fn a_report_of_two_seconds_does_not_say_that_there_is_no_spike() {
    let batch = |second: i64| {
        postgres::changed(second, |it| {
            postgres::database(it, |counters| {
                counters.stats_reset = moment::ago(moment::start(), 100_000);
                counters.xact_commit = 10_000_000 + second * 1200;
            });
        })
    };
    let report = |seconds| shown(observer(Kind::Postgres, Baseline::First), seconds, batch);
    let short = report(3);
    assert_eq!(told(&short, "operation-spike"), None);
    assert_eq!(short.not_yet().get("operation-spike"), Some(&"judged over more than two seconds"));
    let says = "1.2k transactions/s over the last 3s, 12x the average of the time since the reset";
    assert_eq!(told(&report(4), "operation-spike"), Some((Severity::Notice, says.to_owned())));
}

#[test]
fn a_report_whose_first_sample_has_no_databases_takes_its_rates_against_the_next() {
    let batch = |second: i64| {
        postgres::changed(second, |it| {
            postgres::database(it, |counters| counters.temp_bytes = second * 30 * 1_048_576);
            if second == 0 {
                it.databases = Reading::Unavailable(Reason::new("not read yet"));
            }
        })
    };
    let report = |seconds| shown(observer(Kind::Postgres, Baseline::First), seconds, batch);
    assert_eq!(report(2).not_yet().get("temp-files"), Some(&"judged over a minute"), "against nothing");
    let says = "30 MB/s went into 0 temporary files a second over the last 2s";
    assert_eq!(told(&report(4), "temp-files"), Some((Severity::Warning, says.to_owned())));
}
