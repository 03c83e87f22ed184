//! Pure analysis: from samples to what they mean. Rates, the lock forest, replication lag, findings, history.
//!
//! Time is an argument. It must not know tokio, files, SQL or the terminal: the same samples give the same ticks,
//! live or replayed.

pub mod changes;
pub mod filter;
pub mod findings;
pub mod history;
pub mod locks;
pub mod missing;
pub mod privacy;
pub mod rates;
pub mod recovery;
pub mod replication;
mod ring;
pub mod statements;
pub mod tables;
pub mod vitals;
pub mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

pub use findings::{Finding, Findings, Severity, Thresholds};
pub use history::{History, Metric, Series};
pub use ring::Reach;

use crate::model::postgres::{Sample as PgSample, Session};
use crate::model::redis::Sample as RedisSample;
use crate::model::{Body, Outage, Reading, Sample, Target};

/// One good sample and everything derived from it.
#[derive(Debug, Clone)]
pub struct Tick {
    /// When the sample was asked for, by the client's clock: nothing in it is older, where it is fresh.
    pub asked_at: Timestamp,
    /// When the sample was complete, by the client's clock.
    pub taken_at: Timestamp,
    /// Seconds that the rates span; `None` while there is no sample to take them against.
    pub interval_seconds: Option<f64>,
    /// What was derived, by the kind of server.
    pub body: TickBody,
}

/// What was derived from a sample.
#[derive(Debug, Clone)]
pub enum TickBody {
    /// From a PostgreSQL server.
    Postgres(Box<PgTick>),
    /// From a Redis server.
    Redis(Box<RedisTick>),
}

/// What a PostgreSQL sample means.
#[derive(Debug, Clone)]
pub struct PgTick {
    /// The sample itself.
    pub sample: Arc<PgSample>,
    /// The figures of the vitals line.
    pub vitals: vitals::PgVitals,
    /// Who waits for whom.
    pub forest: Reading<locks::Forest>,
    /// Statements with their rates.
    pub statements: Reading<Arc<statements::StatementTable>>,
    /// Standbys, slots and the server's own recovery.
    pub replication: replication::Replication,
    /// Buffer cache and temporary files.
    pub cache: rates::PgCache,
    /// Average active sessions by class and event.
    pub waits: Vec<vitals::Wait>,
    /// Tables with their rates; `None` while nobody looks at them.
    pub tables: Option<Arc<tables::TableRows>>,
    /// The places of the sessions, by process id.
    by_pid: Vec<(i32, usize)>,
}

impl PgTick {
    /// The sessions with a process id: one, unless it was used again while they were read.
    pub fn sessions_of(&self, pid: i32) -> impl Iterator<Item = &Session> {
        let all = self.sample.sessions.value().map(Vec::as_slice).unwrap_or_default();
        let first = self.by_pid.partition_point(|(known, _)| *known < pid);
        let places = self.by_pid.iter().skip(first).take_while(move |(known, _)| *known == pid);
        places.filter_map(|(_, place)| all.get(*place))
    }
}

fn places_by_pid(sample: &PgSample) -> Vec<(i32, usize)> {
    let sessions = sample.sessions.value().into_iter().flatten().enumerate();
    let mut places: Vec<_> = sessions.map(|(place, session)| (session.id.pid, place)).collect();
    places.sort_unstable();
    places
}

/// What a Redis sample means.
#[derive(Debug, Clone)]
pub struct RedisTick {
    /// The sample itself.
    pub sample: Arc<RedisSample>,
    /// Rates over the interval.
    pub rates: rates::RedisRates,
}

impl Tick {
    /// The tick of a PostgreSQL server.
    pub fn postgres(&self) -> Option<&PgTick> {
        match &self.body {
            TickBody::Postgres(tick) => Some(tick),
            TickBody::Redis(_) => None,
        }
    }

    /// The tick of a Redis server.
    pub fn redis(&self) -> Option<&RedisTick> {
        match &self.body {
            TickBody::Redis(tick) => Some(tick),
            TickBody::Postgres(_) => None,
        }
    }
}

/// What rates are taken against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// The sample before: what the screen shows.
    Previous,
    /// The first sample that can be one: what a report shows.
    First,
}

/// Follows one target: takes its samples in order and keeps what the last of them means.
#[derive(Debug)]
pub struct Observer {
    /// The target.
    pub target: Target,
    baseline: Baseline,
    thresholds: Thresholds,
    postgres: PgBaseline,
    redis: Option<(Timestamp, Arc<RedisSample>)>,
    tick: Option<Tick>,
    outage: Option<Outage>,
    history: History,
    changes: changes::Changes,
    findings: Findings,
    waits: waits::WaitHistory,
    ring: ring::Ring,
}

/// The earlier samples that PostgreSQL's rates are taken against.
#[derive(Debug, Default)]
struct PgBaseline {
    sample: Option<Arc<PgSample>>,
    statements: statements::StatementBaseline,
    lag: replication::LagHistory,
    waits: vitals::WaitCounts,
    tables: tables::TablesBaseline,
}

impl Observer {
    /// An observer that has seen nothing yet.
    pub fn new(target: Target, baseline: Baseline, thresholds: Thresholds) -> Self {
        Self {
            target,
            baseline,
            thresholds,
            postgres: PgBaseline::default(),
            redis: None,
            tick: None,
            outage: None,
            history: History::default(),
            changes: changes::Changes::default(),
            findings: Findings::default(),
            waits: waits::WaitHistory::default(),
            ring: ring::Ring::default(),
        }
    }

    /// The same observer, which can look so far back.
    #[must_use]
    pub fn reaching(self, reach: Reach) -> Self {
        Self { ring: ring::Ring::of(reach), ..self }
    }

    /// Takes the next sample.
    pub fn observe(&mut self, sample: &Sample) {
        let taken_at = sample.taken_at;
        let outage_before = self.outage.take();
        self.derive(sample);
        self.note_outage(outage_before.as_ref(), taken_at);
        if let Some(tick) = self.tick.as_ref().filter(|_| self.outage.is_none()).and_then(Tick::postgres) {
            self.changes.observe(&tick.sample, &tick.replication, taken_at);
            self.waits.observe(&tick.sample, taken_at);
        }
        match &self.tick {
            Some(tick) if self.outage.is_none() => self.history.push(tick),
            Some(_) | None => self.history.push_gap(taken_at),
        }
        let situation = findings::Situation {
            kind: self.target.kind,
            is_report: self.baseline == Baseline::First,
            tick: self.tick.as_ref(),
            outage: self.outage.as_ref(),
            changes: &self.changes,
            history: &self.history,
            thresholds: &self.thresholds,
            now: taken_at,
        };
        let seen = self.findings.update(&situation);
        for seen in seen {
            self.changes.note(seen);
        }
        // A report is over before anybody could look back.
        if self.baseline == Baseline::Previous {
            self.ring.push(sample, &self.findings);
        }
    }

    fn note_outage(&mut self, before: Option<&Outage>, at: Timestamp) {
        let (severity, what) = match (before, &self.outage) {
            (None, Some(outage)) => (Severity::Critical, format!("no data: {}", outage.reason)),
            (Some(outage), None) => {
                (Severity::Notice, format!("data again after {}", crate::format::age_at(outage.since, at)))
            }
            (None, None) | (Some(_), Some(_)) => return,
        };
        self.changes.note(changes::Seen { at, kind: changes::SeenKind::Outage, severity, what });
    }

    fn derive(&mut self, sample: &Sample) {
        let (asked_at, taken_at) = (sample.asked_at, sample.taken_at);
        match &sample.body {
            Body::Postgres(body) => {
                self.outage = None;
                self.tick = Some(self.observe_postgres(Arc::clone(body), asked_at, taken_at));
            }
            Body::Redis(body) => {
                self.outage = None;
                self.tick = Some(self.observe_redis(Arc::clone(body), asked_at, taken_at));
            }
            Body::Outage(outage) => self.outage = Some(outage.clone()),
        }
    }

    /// What was known at an earlier moment: its tick, its outage and what was found. The figures of the last hour stay
    /// with the observer itself. `None` where that is too long ago.
    pub fn as_of(&self, at: Timestamp) -> Option<Self> {
        let read = self.ring.until(at)?;
        let mut past = self.without_samples();
        if let Some(first) = read.lead.first().or(read.last.as_ref())
            && let Body::Postgres(sample) = &first.body
        {
            past.postgres.lag = self.postgres.lag.before(sample.server_time);
            past.postgres.statements = self.postgres.statements.before(sample);
        }
        read.lead.iter().chain(&read.last).for_each(|sample| past.derive(sample));
        past.outage = read.outage.cloned();
        past.findings = Findings::of(read.found);
        Some(past)
    }

    /// An observer of the same target that has seen nothing.
    #[must_use]
    pub fn without_samples(&self) -> Self {
        let reach = self.ring.reach();
        Self::new(self.target.clone(), self.baseline, self.thresholds.clone()).reaching(reach)
    }

    /// What is known now, for a report: without what is kept of before.
    #[must_use]
    pub fn as_shown(&self) -> Self {
        let mut shown = self.without_samples();
        shown.tick.clone_from(&self.tick);
        shown.outage.clone_from(&self.outage);
        shown.findings = self.findings.as_told();
        shown
    }

    /// The same without the literals of statements.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mut shown = self.as_shown();
        if let Some(tick) = &mut shown.tick {
            privacy::mask_tick(tick);
        }
        shown
    }

    /// When the samples that one can look back to were taken, oldest first.
    pub fn times(&self) -> impl DoubleEndedIterator<Item = Timestamp> + '_ {
        self.ring.times()
    }

    /// Bytes of memory that looking back takes, about.
    pub fn ring_bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// What the last good sample means; `None` before the first.
    pub const fn tick(&self) -> Option<&Tick> {
        self.tick.as_ref()
    }

    /// Why there are no data now; `None` while they come.
    pub const fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }

    /// Vitals of the last minutes.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// What was seen to change since this was asked last.
    pub fn take_seen(&mut self) -> Vec<changes::Seen> {
        std::mem::take(&mut self.changes.seen)
    }

    /// What active sessions waited for over the last hour.
    pub const fn waits(&self) -> &waits::WaitHistory {
        &self.waits
    }

    /// What was found, worst first.
    pub fn findings(&self) -> &[Finding] {
        self.findings.list()
    }

    /// The checks that could not answer.
    pub fn not_yet(&self) -> &BTreeMap<&'static str, &'static str> {
        self.findings.not_yet()
    }

    fn observe_postgres(&mut self, sample: Arc<PgSample>, asked_at: Timestamp, taken_at: Timestamp) -> Tick {
        let state = &mut self.postgres;
        // Counters start again with the server: nothing before a restart can be subtracted.
        if state.sample.as_ref().is_some_and(|before| before.server.started_at != sample.server.started_at) {
            *state = PgBaseline::default();
        }
        // A report without the counters of databases to begin with would have no rates at all.
        let is_base =
            |sample: &&PgSample| self.baseline == Baseline::Previous || sample.databases.value().is_some();
        let before = state.sample.as_deref().filter(is_base);
        let seconds = before
            .map(|before| crate::format::seconds_between(before.server_time, sample.server_time))
            .filter(|s| *s > 0.0);
        let counters = rates::database_deltas(before, &sample);
        let is_first = before.is_none();
        let forest = locks_reading(&sample);
        state.lag.push(&sample);
        let replication = replication::derive(&sample, &state.lag);
        let statements = state.statements.derive(&sample, self.baseline);
        if self.baseline == Baseline::Previous {
            state.waits = vitals::WaitCounts::default();
        }
        state.waits.add(&sample);
        let tick = PgTick {
            vitals: vitals::postgres(&sample, forest.value(), &counters, seconds),
            cache: rates::postgres_cache(&counters, seconds),
            waits: state.waits.averages(),
            tables: state.tables.derive(sample.tables.as_ref()),
            by_pid: places_by_pid(&sample),
            forest,
            statements,
            replication,
            sample: Arc::clone(&sample),
        };
        if self.baseline == Baseline::Previous || is_first {
            state.sample = Some(sample);
        }
        Tick { asked_at, taken_at, interval_seconds: seconds, body: TickBody::Postgres(Box::new(tick)) }
    }

    fn observe_redis(&mut self, sample: Arc<RedisSample>, asked_at: Timestamp, taken_at: Timestamp) -> Tick {
        let before = self.redis.as_ref().filter(|(_, before)| before.run_id == sample.run_id);
        let seconds =
            before.map(|(at, _)| crate::format::seconds_between(*at, taken_at)).filter(|s| *s > 0.0);
        let rates = rates::redis(before.map(|(_, before)| &**before), &sample, seconds);
        if self.baseline == Baseline::Previous || before.is_none() {
            self.redis = Some((taken_at, Arc::clone(&sample)));
        }
        Tick {
            asked_at,
            taken_at,
            interval_seconds: seconds,
            body: TickBody::Redis(Box::new(RedisTick { sample, rates })),
        }
    }
}

fn locks_reading(sample: &PgSample) -> Reading<locks::Forest> {
    let sessions = sample.sessions.value().map(Vec::as_slice).unwrap_or_default();
    // A table that was read some time ago knows nothing of sessions that began since, though a pid may be the same.
    let since = sample.locks.stale_since();
    let known: Vec<_> = match since {
        Some(_) => sessions.iter().filter(|session| was_there(session, since)).cloned().collect(),
        None => Vec::new(),
    };
    let prepared = sample.prepared.value().map(Vec::as_slice).unwrap_or_default();
    let context = locks::Context {
        sessions: if since.is_some() { &known } else { sessions },
        prepared,
        names: &sample.names,
        own_pids: &sample.server.own_pids,
        now: since.unwrap_or(sample.server_time),
        queue_is_exact: sample.server.version_num >= 140_000,
    };
    sample.locks.map(|table| locks::Forest::build(table, &context))
}

/// Whether the session was there when a lock table of that time was read; a fresh one knows them all.
pub fn was_there(session: &Session, read_at: Option<Timestamp>) -> bool {
    read_at.is_none_or(|read_at| session.id.backend_start.is_some_and(|start| start <= read_at))
}
