//! From which figure on something is told, and that nothing flickers: what is told keeps its beginning, and goes with
//! some distance from its limit only.

use std::sync::Arc;

use dbtriage::engine::{Baseline, Finding, Observer, Severity, Thresholds};
use dbtriage::model::postgres::{Rights, Sample as PgSample, Server, Session, State};
use dbtriage::model::{Body, Kind, Outage, OutageKind, Reading, Reason, Sample, Target, TargetId};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;

use crate::moment::{at, postgres, session};
use crate::postgres::calm;

fn observed(bodies: Vec<Body>) -> Observer {
    let target = Target { id: TargetId(0), name: "shop-db:5432/reports".into(), kind: Kind::Postgres };
    let mut observer = Observer::new(target, Baseline::Previous, Thresholds::default());
    for (second, body) in (0..).zip(bodies) {
        observer.observe(&Sample { target: TargetId(0), asked_at: at(second), taken_at: at(second), body });
    }
    observer
}

/// What is found in a sample, when the next is the same.
fn found(sample: &PgSample) -> Vec<Finding> {
    let body = || Body::Postgres(Arc::new(sample.clone()));
    observed(vec![body(), body()]).findings().to_vec()
}

fn told(findings: &[Finding]) -> Vec<(&str, Severity, &str)> {
    findings.iter().map(|it| (it.check, it.severity, it.summary.as_str())).collect()
}

fn with_sessions(count: i32) -> PgSample {
    let mut sample = calm(0);
    if let Reading::Fresh(sessions) = &mut sample.sessions {
        let application = |n| ["web", "reports-worker", "billing"][usize::try_from(n).unwrap() % 3];
        let all = (0..count).map(|n| session(at(0), 5000 + n, application(n), State::Idle, 5, "COMMIT"));
        // Each from a machine of its own.
        sessions.extend(all.map(|session| Session { client_addr: None, ..session }));
    }
    sample
}

#[test]
fn a_healthy_server_is_quiet() {
    assert_eq!(told(&found(&calm(0))), []);
    assert_eq!(told(&found(&with_sessions(76))), [], "77 of 97 are less than 80 %");
}

#[test]
fn connections_near_the_limit_name_their_holder() {
    let warned = found(&with_sessions(77));
    assert_eq!(
        told(&warned),
        [("connections", Severity::Warning, "78 of 97 usable connections in use: web holds 26")]
    );
    assert!((warned[0].evidence.threshold - 80.0).abs() < 1e-9);
    assert_eq!(told(&found(&with_sessions(92)))[0].1, Severity::Critical, "93 of 97 are more than 95 %");
}

/// What is told with each of these counts of sessions, one a second.
fn over_time(counts: &[i32]) -> Vec<Option<Severity>> {
    let mut observer = observed(Vec::new());
    let each = (0..).zip(counts).map(|(second, count)| {
        let body = Body::Postgres(Arc::new(with_sessions(*count)));
        observer.observe(&Sample { target: TargetId(0), asked_at: at(second), taken_at: at(second), body });
        observer.findings().first().map(|finding| finding.severity)
    });
    each.collect()
}

#[test]
fn a_figure_that_wavers_about_its_limit_does_not_flicker() {
    let (quiet, warning, critical) = (None, Some(Severity::Warning), Some(Severity::Critical));
    // 77 of these and ours are 80 %, 92 are 95 %.
    assert_eq!(over_time(&[77, 70, 77, 70]), [quiet, quiet, quiet, quiet], "one tick is nothing");
    assert_eq!(over_time(&[77, 77, 75, 77, 75]), [quiet, warning, warning, warning, warning]);
    assert_eq!(over_time(&[77, 77, 72, 72]), [quiet, warning, quiet, quiet], "well below it is over at once");
    assert_eq!(
        over_time(&[80, 80, 92, 92]),
        [quiet, warning, warning, critical],
        "worse with the second tick"
    );
    assert_eq!(over_time(&[92, 92, 90, 85]), [quiet, critical, critical, warning]);
}

#[test]
fn what_is_told_keeps_its_beginning_while_its_check_cannot_tell() {
    let blind = || {
        let mut sample = with_sessions(80);
        sample.sessions = Reading::Unavailable(Reason::new("canceled"));
        sample
    };
    let samples = [with_sessions(80), with_sessions(80), blind(), with_sessions(80)];
    let observer = observed(samples.into_iter().map(|sample| Body::Postgres(Arc::new(sample))).collect());
    assert_eq!(observer.findings()[0].since, at(0));
}

#[test]
fn a_pile_up_is_told_by_its_root_and_the_root_only_once() {
    let findings = found(&postgres(0, true));
    let of_root = findings.iter().filter(|it| it.summary.contains("4242"));
    assert_eq!(
        of_root.map(|it| (it.check, it.severity, it.summary.as_str())).collect::<Vec<_>>(),
        [(
            "blocking",
            Severity::Critical,
            "4242 reports-worker, idle in transaction 8m12s, blocks 19 sessions (longest 8m02s)"
        )]
    );
    assert!(findings[0].help.starts_with("terminate 4242"), "{}", findings[0].help);
}

#[test]
fn an_idle_transaction_is_told_from_its_limit_on() {
    let aged = |seconds| {
        let mut sample = calm(0);
        if let Reading::Fresh(sessions) = &mut sample.sessions {
            sessions.push(session(at(0), 5000, "billing", State::IdleInTransaction, seconds, "UPDATE"));
        }
        found(&sample)
    };
    assert_eq!(told(&aged(299)), []);
    assert_eq!(
        told(&aged(300)),
        [("idle-in-transaction", Severity::Warning, "5000 billing, idle in transaction 5m00s")]
    );
    assert_eq!(told(&aged(900))[0].1, Severity::Critical);
}

#[test]
fn a_role_that_sees_no_states_cannot_tell() {
    let mut sample = postgres(0, false);
    let rights = Rights {
        user: "nobody".into(),
        superuser: false,
        read_all_stats: false,
        signal_backend: false,
        reserved_connections: None,
        signal_autovacuum_worker: None,
    };
    sample.rights = Arc::new(rights);
    let observer = observed(vec![Body::Postgres(Arc::new(sample))]);
    assert_eq!(
        observer.not_yet().get("idle-in-transaction"),
        Some(&"needs pg_read_all_stats (part of pg_monitor)")
    );
}

#[test]
fn an_outage_is_critical_keeps_its_beginning_and_judges_nothing_old() {
    let outage = |since| {
        let reason = Reason::new("connection lost").with_hint("is it running?");
        Body::Outage(Outage { kind: OutageKind::Unreachable, reason, since: at(since), retry_at: None })
    };
    let observer =
        observed(vec![Body::Postgres(Arc::new(postgres(0, true))), outage(1), outage(1), outage(1)]);
    assert_eq!(
        told(observer.findings()),
        [("unreachable", Severity::Critical, "unreachable for 2s: connection lost")]
    );
    assert_eq!(observer.findings()[0].since, at(1));
    assert!(observer.not_yet().contains_key("blocking"), "an old pile-up was judged as if it were now");
}

#[test]
fn a_restart_leaves_a_gap_and_no_negative_rate() {
    let mut restarted = postgres(2, false);
    let started_at = at(1);
    restarted.server = Arc::new(Server { started_at, ..(*restarted.server).clone() });
    if let Reading::Fresh(databases) = &mut restarted.databases {
        databases[0].xact_commit = 10;
    }
    let bodies = vec![postgres(0, false), postgres(1, false), restarted];
    let observer = observed(bodies.into_iter().map(|sample| Body::Postgres(Arc::new(sample))).collect());
    let tick = observer.tick().unwrap();
    assert_eq!(tick.interval_seconds, None);
    assert_eq!(tick.postgres().unwrap().vitals.transactions_per_second, None);
    let before = observed(vec![
        Body::Postgres(Arc::new(postgres(0, false))),
        Body::Postgres(Arc::new(postgres(1, false))),
    ]);
    let rate = before.tick().unwrap().postgres().unwrap().vitals.transactions_per_second.unwrap();
    assert!((rate - 1201.0).abs() < 1e-6, "{rate}");
    assert_eq!(at(1).duration_since(at(0)), SignedDuration::from_secs(1));
}
