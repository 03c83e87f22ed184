//! Samples that were never read: what takes too long on a server, and any order of samples, outages and baselines.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbtriage::engine::findings::{Evidence, Subject};
use dbtriage::engine::recovery::{Figure, Mean, Now, Recovery, Verdict, Watch};
use dbtriage::engine::{Baseline, Finding, Observer, Severity, Thresholds, Tick};
use dbtriage::format::seconds_between;
use dbtriage::model::postgres::{
    DatabaseCounters, Lock, LockTable, LockTag, Names, Rights, Sample as PgSample, Server, Session,
    SessionId, State, Statement, StatementKey, Statements, Wal,
};
use dbtriage::model::{Body, Kind, Outage, OutageKind, Reading, Reason, Sample, Target, TargetId};
use jiff::{SignedDuration, Timestamp};
use pretty_assertions::assert_eq;
use proptest::prelude::*;

/// The statement that is followed.
const KEY: StatementKey = StatementKey { userid: 10, dbid: 5, toplevel: true, queryid: 7 };
/// The first of those who wait.
const WAITER: i32 = 200;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_secs_f64(seconds)
}

/// How a part of a sample was read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Read {
    Fresh,
    Stale,
    Not,
}

impl Read {
    fn reading<T>(self, value: T, since: Timestamp) -> Reading<T> {
        match self {
            Self::Fresh => Reading::Fresh(value),
            Self::Stale => Reading::Stale(value, since),
            Self::Not => Reading::Unavailable(Reason::new("not now")),
        }
    }
}

/// What one sample shows.
#[derive(Debug, Clone)]
struct Moment {
    /// Who blocks, since when: 0 is a prepared transaction.
    root: Option<(i32, f64)>,
    waiters: i32,
    relation: u32,
    commits: i64,
    calls: i64,
    tells_query_ids: bool,
    sessions: Read,
    locks: Read,
    counters: Read,
}

const QUIET: Moment = Moment {
    root: None,
    waiters: 0,
    relation: 20_000,
    commits: 0,
    calls: 1,
    tells_query_ids: true,
    sessions: Read::Fresh,
    locks: Read::Fresh,
    counters: Read::Fresh,
};

fn id(pid: i32) -> SessionId {
    SessionId { pid, backend_start: Some(at(-1000.0)) }
}

fn session(pid: i32, state: State, since: Timestamp, query_id: Option<i64>) -> Session {
    let waits = state == State::Active;
    Session {
        id: id(pid),
        leader_pid: None,
        datid: Some(5),
        usesysid: Some(10),
        application_name: "web".into(),
        client_addr: None,
        client_port: None,
        backend_type: Some("client backend".into()),
        state: Some(state),
        wait_event_type: waits.then(|| "Lock".into()),
        wait_event: waits.then(|| "transactionid".into()),
        xact_start: (state != State::Idle).then_some(since),
        query_start: Some(since),
        state_change: Some(since),
        backend_xid: None,
        backend_xmin: None,
        query_id,
        query: format!("UPDATE table_{} SET done = 1", pid % 3).into(),
    }
}

fn locks(moment: &Moment) -> Vec<Lock> {
    let Some((root, since)) = moment.root else { return Vec::new() };
    let xid = LockTag { locktype: "transactionid".into(), transactionid: Some(77), ..LockTag::default() };
    let row = LockTag {
        locktype: "tuple".into(),
        database: Some(5),
        relation: Some(moment.relation),
        page: Some(1),
        tuple: Some(1),
        ..LockTag::default()
    };
    let lock = |pid: i32, tag: &LockTag, mode: &str, granted: bool| Lock {
        tag: tag.clone(),
        virtualtransaction: format!("{pid}/1").into(),
        pid: Some(pid).filter(|pid| *pid != 0),
        mode: mode.into(),
        granted,
        waitstart: (!granted).then(|| at(since)),
    };
    let mut rows = vec![lock(root, &xid, "ExclusiveLock", true)];
    for pid in WAITER..WAITER + moment.waiters {
        rows.push(lock(pid, &row, "ExclusiveLock", pid == WAITER));
        if pid == WAITER {
            rows.push(lock(pid, &xid, "ShareLock", false));
        }
    }
    rows
}

fn database(commits: i64) -> DatabaseCounters {
    DatabaseCounters {
        datid: 5,
        numbackends: 1,
        xact_commit: commits,
        xact_rollback: 0,
        blks_read: 0,
        blks_hit: 0,
        temp_bytes: 0,
        temp_files: 0,
        deadlocks: 0,
        conflicts: 0,
        checksum_failures: None,
        stats_reset: None,
    }
}

fn counters(calls: i64, read_at: Timestamp) -> Statements {
    let row = Statement {
        key: KEY,
        calls,
        total_exec_ms: f64::from(i32::try_from(calls).unwrap()),
        rows: calls,
        shared_blks_hit: 0,
        shared_blks_read: 0,
        temp_blks: 0,
        stats_since: None,
        total_plan_ms: 0.0,
        max_exec_ms: 1.0,
        stddev_exec_ms: 0.0,
        wal_bytes: 0.0,
    };
    Statements { rows: vec![row], ..Statements::empty(read_at) }
}

fn sample(moment: &Moment, now: Timestamp, before: Timestamp) -> PgSample {
    let mut sessions = vec![session(1, State::Idle, at(0.0), None)];
    if let Some((root, since)) = moment.root {
        sessions.extend((root != 0).then(|| session(root, State::IdleInTransaction, at(since), None)));
        let query_id = moment.tells_query_ids.then_some(KEY.queryid);
        let waiters = WAITER..WAITER + moment.waiters;
        sessions.extend(waiters.map(|pid| session(pid, State::Active, at(since), query_id)));
    }
    PgSample {
        server_time: now,
        server: Arc::new(Server {
            version: "15.18".into(),
            version_num: 150_018,
            started_at: at(-1_000_000.0),
            in_recovery: false,
            max_connections: 100,
            usable_connections: 97,
            own_pids: Vec::new(),
            pooled: false,
            endpoint: None,
        }),
        rights: Arc::new(Rights {
            user: "oncall".into(),
            superuser: false,
            read_all_stats: true,
            signal_backend: true,
            reserved_connections: None,
            signal_autovacuum_worker: None,
        }),
        names: Arc::new(Names::default()),
        sessions: moment.sessions.reading(sessions, before),
        locks: moment
            .locks
            .reading(Arc::new(LockTable { rows: locks(moment), safe_snapshot_waits: Vec::new() }), before),
        prepared: Reading::Fresh(Vec::new()),
        databases: moment.counters.reading(vec![database(moment.commits)], before),
        statements: moment.counters.reading(Arc::new(counters(moment.calls, now)), before),
        statement_texts: Arc::new(BTreeMap::new()),
        wal: Reading::Fresh(Wal::default()),
        senders: Reading::Fresh(Vec::new()),
        slots: Reading::Fresh(Vec::new()),
        receiver: Reading::Fresh(None),
        upkeep: None,
        tables: None,
        slowed: Vec::new(),
    }
}

/// What follows on written samples.
struct Story {
    observer: Observer,
    watch: Watch,
    now: f64,
}

impl Story {
    fn new() -> Self {
        let target = Target { id: TargetId(0), name: "shop".into(), kind: Kind::Postgres };
        let observer = Observer::new(target, Baseline::Previous, Thresholds::default());
        Self { observer, watch: Watch::default(), now: 0.0 }
    }

    fn take(&mut self, body: Body) {
        let taken_at = at(self.now);
        self.observer.observe(&Sample { target: TargetId(0), asked_at: taken_at, taken_at, body });
    }

    /// A sample after so many seconds, with what is found or with other findings.
    fn sample(&mut self, seconds: f64, moment: &Moment, found: Option<&[&Finding]>) {
        let before = at(self.now);
        self.now += seconds;
        self.take(Body::Postgres(Arc::new(sample(moment, at(self.now), before))));
        self.look(found, |watch, now| {
            watch.observe(now);
        });
    }

    fn look(&mut self, found: Option<&[&Finding]>, look: impl FnOnce(&mut Watch, &Now<'_>)) {
        let own: Vec<&Finding> = self.observer.findings().iter().collect();
        if let Some(tick) = self.observer.tick().and_then(Tick::postgres) {
            let findings = found.unwrap_or(&own);
            look(&mut self.watch, &Now { tick, redis: None, findings, at: at(self.now) });
        }
    }

    fn outage(&mut self, seconds: f64) {
        self.now += seconds;
        let kind = OutageKind::Unreachable;
        let outage = Outage { kind, reason: Reason::new("refused"), since: at(self.now), retry_at: None };
        self.take(Body::Outage(outage));
        self.watch.interrupt();
    }

    fn set(&mut self, session: Option<SessionId>, found: Option<&[&Finding]>) {
        self.look(found, |watch, now| watch.set(now, "the test".into(), session));
    }

    fn recovery(&self) -> &Recovery {
        self.watch.last().unwrap()
    }

    /// An incident of ten seconds on which a baseline was set.
    fn incident(root: i32) -> Self {
        let mut story = Self::new();
        for second in 0..10_i32 {
            let waiters = if second > 2 { 5 } else { 0 };
            story.sample(1.0, &Moment { root: Some((root, 3.0)), waiters, ..QUIET }, None);
        }
        story.set(Some(id(root)).filter(|id| id.pid != 0), None);
        story
    }

    fn quiet(&mut self, seconds: i32) {
        (0..seconds).for_each(|_| self.sample(1.0, &QUIET, None));
    }
}

fn found(check: &'static str, subject: Subject) -> Finding {
    Finding {
        check,
        severity: Severity::Warning,
        summary: String::new(),
        since: at(0.0),
        subject,
        help: String::new(),
        evidence: Evidence { value: 1.0, threshold: 1.0, unit: "" },
    }
}

#[test]
fn a_time_without_data_is_no_calm_time() {
    let mut story = Story::incident(100);
    story.quiet(20);
    story.outage(1.0);
    story.outage(60.0);
    story.quiet(60);
    assert_eq!(story.recovery().verdict(), Verdict::Recovering);
    story.quiet(2);
    assert_eq!(story.recovery().verdict(), Verdict::Recovered);
}

#[test]
fn where_no_figure_can_get_better_nothing_is_said_of_an_effect() {
    let mut story = Story::new();
    let deadlocks = found("deadlocks", Subject::Server);
    story.sample(1.0, &QUIET, Some(&[&deadlocks]));
    story.set(None, Some(&[&deadlocks]));
    for _ in 0..30 {
        story.sample(1.0, &QUIET, Some(&[&deadlocks]));
        assert_eq!(story.recovery().verdict(), Verdict::Watching);
    }
}

#[test]
fn a_baseline_on_a_healthy_server_is_watched_and_then_recovered() {
    let mut story = Story::new();
    story.quiet(10);
    story.set(None, None);
    story.quiet(70);
    let verdicts: Vec<Verdict> = story.recovery().verdicts.iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(verdicts, [Verdict::Watching, Verdict::Recovered]);
}

#[test]
fn what_else_is_found_later_does_not_say_that_it_gets_better_again() {
    let mut story = Story::incident(100);
    story.quiet(70);
    assert_eq!(story.recovery().verdict(), Verdict::Recovered);
    let rollbacks = found("rollback-ratio", Subject::Activity);
    for _ in 0..20 {
        story.sample(1.0, &QUIET, Some(&[&rollbacks]));
    }
    story.quiet(70);
    let verdicts: Vec<Verdict> = story.recovery().verdicts.iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(verdicts, [Verdict::Watching, Verdict::Recovering, Verdict::Recovered]);
}

#[test]
fn in_a_replay_that_goes_back_what_had_not_ended_by_then_is_told_anew() {
    let mut story = Story::incident(100);
    let first = story.recovery().at;
    story.quiet(20);
    story.set(None, None);
    let second = story.recovery().at;
    story.quiet(20);
    let kept = |story: &Story| story.watch.all().iter().map(|it| it.at).collect::<Vec<_>>();
    let peak = story.watch.peak(Figure::Blocked);
    assert!(peak.is_some_and(|(most, taken_at)| most >= 5.0 && taken_at < second), "{peak:?}");
    story.watch.forget_from(at(story.now));
    assert_eq!(kept(&story), [first], "the second goes on");
    assert_eq!(story.watch.peak(Figure::Blocked), peak);
    story.watch.forget_from(second);
    assert_eq!(kept(&story), [], "the first had not ended by then");
}

#[test]
fn what_blocks_later_than_five_minutes_is_another_incident() {
    for (minutes, expected) in [(4, Verdict::Relapsed), (6, Verdict::Recovering)] {
        let mut story = Story::incident(100);
        story.quiet(minutes * 60);
        assert_eq!(story.recovery().verdict(), Verdict::Recovered);
        let since = story.now;
        for _ in 0..5 {
            story.sample(1.0, &Moment { root: Some((103, since)), waiters: 5, ..QUIET }, None);
        }
        // Five wait again: what was worst is as bad as before, but that is no verdict on an action of minutes ago.
        let verdict = story.recovery().verdict();
        if expected == Verdict::Relapsed {
            assert_eq!((verdict, story.recovery().relapses), (expected, 1));
        } else {
            assert!(![Verdict::Relapsed, Verdict::NoEffect].contains(&verdict), "{verdict:?}");
        }
    }
}

/// The lock table is slow in an incident, and then it is read only now and then.
#[test]
fn a_lock_table_that_is_old_does_not_end_a_relapse() {
    let mut story = Story::incident(100);
    story.quiet(12);
    let since = story.now;
    let blocks = Moment { root: Some((103, since)), waiters: 5, ..QUIET };
    for _ in 0..5 {
        story.sample(1.0, &blocks, None);
    }
    assert_eq!(story.recovery().verdict(), Verdict::Relapsed);
    for locks in [Read::Stale, Read::Not, Read::Fresh] {
        story.sample(1.0, &Moment { locks, ..blocks.clone() }, None);
        assert_eq!(
            (story.recovery().verdict(), story.recovery().relapses),
            (Verdict::Relapsed, 1),
            "{locks:?}"
        );
    }
}

/// Servers before 14 tell no ids, and a role may see no sessions for a while.
#[test]
fn a_mean_drains_also_where_sessions_tell_no_statement_or_cannot_be_read() {
    let slow = found("statement-regression", Subject::Statement(KEY));
    for (tells_query_ids, sessions) in [(false, Read::Fresh), (true, Read::Not), (true, Read::Stale)] {
        let mut story = Story::new();
        let mut moment = Moment { root: Some((100, 0.0)), waiters: 5, tells_query_ids, ..QUIET };
        for calls in 1..10 {
            moment.calls = calls;
            story.sample(1.0, &moment, Some(&[&slow]));
        }
        story.set(Some(id(100)), Some(&[&slow]));
        moment.sessions = sessions;
        for calls in 10..20 {
            moment.calls = calls;
            story.sample(1.0, &moment, Some(&[&slow]));
            let line = story.recovery().statements.first().expect("a statement that was found is followed");
            assert_eq!(line.now, Mean::Draining, "{tells_query_ids} {sessions:?}");
        }
        for calls in 20..24 {
            story.sample(1.0, &Moment { calls, ..QUIET }, None);
        }
        let line = story.recovery().statements.first().unwrap();
        assert_eq!(line.now, Mean::Of(Some(1.0)), "{tells_query_ids} {sessions:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Sample(f64, Moment),
    Outage(f64),
    Set(Option<i32>),
}

fn reads() -> impl Strategy<Value = Read> {
    prop_oneof![8 => Just(Read::Fresh), 1 => Just(Read::Stale), 1 => Just(Read::Not)]
}

/// Time goes on, mostly: a clock may be set back.
fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.5..2.0, 2 => 0.0..90.0, 1 => -5.0..0.0]
}

fn moments() -> impl Strategy<Value = Moment> {
    let root = prop_oneof![3 => Just(None), 3 => (100..104_i32, 0.0..50.0).prop_map(Some), 1 => (Just(0), 0.0..50.0).prop_map(Some)];
    (root, 0..6_i32, 20_000..20_003_u32, 0..1000_i64, 0..1000_i64, any::<bool>(), reads(), reads(), reads())
        .prop_map(|(root, waiters, relation, commits, calls, tells_query_ids, sessions, locks, counters)| {
            Moment { root, waiters, relation, commits, calls, tells_query_ids, sessions, locks, counters }
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (seconds(), moments()).prop_map(|(seconds, moment)| Step::Sample(seconds, moment)),
        1 => seconds().prop_map(Step::Outage),
        2 => proptest::option::of(100..104_i32).prop_map(Step::Set),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What holds of every recovery, and all that a screen asks of it.
fn is_sound(recovery: &Recovery, now: Timestamp, time_goes_on: bool) -> Result<(), TestCaseError> {
    let said = |verdict| recovery.verdicts.iter().filter(|(_, it)| *it == verdict).count();
    prop_assert_eq!(recovery.verdicts[0], (recovery.at, Verdict::Watching));
    prop_assert!(recovery.verdicts.windows(2).all(|two| two[0].1 != two[1].1));
    let relapses = usize::try_from(recovery.relapses).unwrap();
    prop_assert!(said(Verdict::Relapsed) <= relapses);
    for (since, verdict) in &recovery.verdicts {
        let seconds = seconds_between(recovery.at, *since);
        let least = match verdict {
            Verdict::Watching | Verdict::Relapsed => f64::MIN,
            Verdict::Recovering => 0.0,
            Verdict::NoEffect => 10.0,
            Verdict::Recovered | Verdict::NoTraffic => 60.0,
        };
        prop_assert!(least <= seconds || !time_goes_on, "{verdict:?} after {seconds} s");
    }
    for figure in [Figure::Blocked, Figure::Transactions, Figure::LongestWait] {
        prop_assert!(recovery.trend(figure, now, 12).len() <= 12);
        prop_assert!(recovery.slope(figure, now).is_none_or(f64::is_finite));
    }
    let _ = (recovery.figures_at(now), recovery.verdict_at(now), recovery.blockers().count());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_samples_outages_and_baselines_is_followed(steps in steps()) {
        let mut story = Story::new();
        let mut time_goes_on = true;
        for step in &steps {
            if let Step::Sample(seconds, _) | Step::Outage(seconds) = step {
                time_goes_on &= 0.0 <= *seconds;
            }
            match step {
                Step::Sample(seconds, moment) => story.sample(*seconds, moment, None),
                Step::Outage(seconds) => story.outage(*seconds),
                Step::Set(session) => story.set(session.map(id), None),
            }
            if let Some(recovery) = story.watch.last() {
                is_sound(recovery, at(story.now), time_goes_on)?;
            }
        }
        prop_assert!(story.watch.all().len() <= 50);
    }
}
