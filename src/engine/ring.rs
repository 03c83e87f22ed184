//! The last minutes in full, so that one can look back: every sample, packed, and what was found in it.
//!
//! What most samples have in common stays shared; sessions and locks are packed, and counters of statements are kept as
//! what has changed. It must not know how a moment is shown.

mod packed;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use self::packed::{Kept, Packer};
use super::{Finding, Findings};
use crate::format::seconds_between;
use crate::model::postgres::{Oid, Sample as PgSample, Statement, StatementKey, Statements, StatementsDelta};
use crate::model::redis::Sample as RedisSample;
use crate::model::{Body, Outage, Reading, Sample};

/// How far back one can look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Seconds.
    pub seconds: u32,
    /// Bytes of memory.
    pub bytes: usize,
}

impl Default for Reach {
    fn default() -> Self {
        Self { seconds: 15 * 60, bytes: 64 << 20 }
    }
}

/// Samples that are gone through again before the one that is looked at, for what is derived from several: the trend of
/// a statement, which is read every other sample, has eight readings.
const LEAD: usize = 20;
/// What a sample takes beside its parts that are counted, measured with a handful of databases and senders.
const SLOT_BYTES: usize = 3_000;
/// What a finding takes.
const FINDING_BYTES: usize = 500;
/// Counters are kept in full again once a larger share of them differs: three of four.
const DIFFERENT_MAX: (usize, usize) = (3, 4);

/// What was found in a sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Found {
    pub(super) list: Vec<Finding>,
    pub(super) not_yet: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug)]
struct Slot {
    asked_at: Timestamp,
    taken_at: Timestamp,
    read: Read,
    found: Arc<Found>,
    bytes: usize,
}

#[derive(Debug)]
enum Read {
    Postgres(Box<PgRead>),
    Redis(Arc<RedisSample>),
    Outage(Outage),
}

/// A sample without what is large, and that apart.
#[derive(Debug)]
struct PgRead {
    rest: PgSample,
    statements: Reading<Counters>,
    /// Sessions and locks; `None` where they could not be kept.
    kept: Option<Kept>,
}

/// A reading of the counters as what differs from an earlier one.
#[derive(Debug, Clone)]
struct Counters {
    base: Arc<Statements>,
    delta: Arc<StatementsDelta>,
}

impl Counters {
    fn reading(&self) -> Arc<Statements> {
        Arc::new(self.delta.applied_to(&self.base))
    }
}

/// The samples of one target, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    reach: Reach,
    slots: VecDeque<Slot>,
    packer: Packer,
    counters: Option<(Arc<Statements>, Counters)>,
}

/// What was read until some moment.
pub(super) struct Past<'a> {
    /// Good samples before the last, oldest first, without sessions and locks.
    pub(super) lead: Vec<Sample>,
    /// The last good sample; absent where there was none.
    pub(super) last: Option<Sample>,
    /// Why there were no data at that moment.
    pub(super) outage: Option<&'a Outage>,
    /// What was found then.
    pub(super) found: &'a Arc<Found>,
}

impl Ring {
    pub(super) fn of(reach: Reach) -> Self {
        Self { reach, ..Self::default() }
    }

    pub(super) const fn reach(&self) -> Reach {
        self.reach
    }

    /// Keeps a sample and what was found in it, and forgets what is too old or for which there is no room.
    pub(super) fn push(&mut self, sample: &Sample, findings: &Findings) {
        let found = Found { list: findings.list().to_vec(), not_yet: findings.not_yet().clone() };
        let found = match self.slots.back() {
            Some(last) if *last.found == found => Arc::clone(&last.found),
            Some(_) | None => Arc::new(found),
        };
        let (read, bytes) = self.read(&sample.body);
        let bytes = bytes + SLOT_BYTES + found.list.len() * FINDING_BYTES;
        let (asked_at, taken_at) = (sample.asked_at, sample.taken_at);
        self.slots.push_back(Slot { asked_at, taken_at, read, found, bytes });
        let too_old =
            |slot: &Slot| f64::from(self.reach.seconds) < seconds_between(slot.taken_at, sample.taken_at);
        // What waits to be packed becomes less: it is counted anew each time.
        let mut bytes: usize = self.slots.iter().map(Slot::bytes).sum();
        while self.slots.front().is_some_and(|oldest| self.reach.bytes < bytes || too_old(oldest))
            && let Some(oldest) = self.slots.pop_front()
        {
            bytes -= oldest.bytes();
        }
    }

    fn read(&mut self, body: &Body) -> (Read, usize) {
        match body {
            Body::Postgres(sample) => {
                let (statements, statements_bytes) = self.counters(&sample.statements);
                let kept = self.packer.keep(sample);
                let before = match self.slots.back().map(|slot| &slot.read) {
                    Some(Read::Postgres(read)) => Some(&read.rest),
                    Some(Read::Redis(_) | Read::Outage(_)) | None => None,
                };
                let bytes = statements_bytes + rest_bytes(sample, before);
                (Read::Postgres(Box::new(PgRead { rest: without_large(sample), statements, kept })), bytes)
            }
            Body::Redis(sample) => (Read::Redis(Arc::clone(sample)), 0),
            Body::Outage(outage) => (Read::Outage(outage.clone()), 0),
        }
    }

    /// Between two readings the counters are those of the sample before.
    fn counters(&mut self, read: &Reading<Arc<Statements>>) -> (Reading<Counters>, usize) {
        let Some(now) = read.value() else {
            self.counters = None;
            return (read.map(Counters::whole), 0);
        };
        let mut bytes = 0;
        let known = self.counters.take();
        let counters = match known {
            Some((known, counters)) if Arc::ptr_eq(&known, now) => counters,
            Some((_, before)) => {
                let delta = StatementsDelta::between(&before.base, now);
                if delta.changed.rows.len() * DIFFERENT_MAX.1 > now.rows.len() * DIFFERENT_MAX.0 {
                    bytes += in_full(now);
                    Counters::whole(now)
                } else {
                    bytes += delta.changed.rows.len() * size_of::<Statement>();
                    Counters { base: before.base, delta: Arc::new(delta) }
                }
            }
            None => {
                bytes += in_full(now);
                Counters::whole(now)
            }
        };
        self.counters = Some((Arc::clone(now), counters.clone()));
        (read.map(|_| counters), bytes)
    }

    /// The times of the samples, oldest first.
    pub(super) fn times(&self) -> impl DoubleEndedIterator<Item = Timestamp> + '_ {
        self.slots.iter().map(|slot| slot.taken_at)
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.slots.iter().map(Slot::bytes).sum()
    }

    /// What was read until a moment; `None` where that is too long ago.
    pub(super) fn until(&self, at: Timestamp) -> Option<Past<'_>> {
        let end = self.slots.partition_point(|slot| slot.taken_at <= at);
        let now = self.slots.get(end.checked_sub(1)?)?;
        let good: Vec<&Slot> =
            self.slots.iter().take(end).rev().filter(|slot| slot.is_good()).take(LEAD + 1).collect();
        let mut oldest_first = good.into_iter().rev();
        let last = oldest_first.next_back();
        Some(Past {
            lead: oldest_first.filter_map(|slot| slot.sample(false)).collect(),
            last: last.and_then(|slot| slot.sample(true)),
            outage: match &now.read {
                Read::Outage(outage) => Some(outage),
                Read::Postgres(_) | Read::Redis(_) => None,
            },
            found: &now.found,
        })
    }
}

impl Counters {
    fn whole(now: &Arc<Statements>) -> Self {
        let nothing = StatementsDelta::between(now, now);
        Self { base: Arc::clone(now), delta: Arc::new(nothing) }
    }
}

const fn in_full(statements: &Statements) -> usize {
    statements.rows.len() * size_of::<Statement>()
}

impl Slot {
    /// Bytes of memory, about.
    fn bytes(&self) -> usize {
        let kept = match &self.read {
            Read::Postgres(read) => read.kept.as_ref().map_or(0, Kept::bytes),
            Read::Redis(_) | Read::Outage(_) => 0,
        };
        self.bytes + kept
    }

    const fn is_good(&self) -> bool {
        !matches!(self.read, Read::Outage(_))
    }

    /// The sample as it was read; sessions and locks only if asked for. `None` for an outage.
    fn sample(&self, in_full: bool) -> Option<Sample> {
        let body = match &self.read {
            Read::Postgres(read) => {
                let mut sample = read.rest.clone();
                sample.statements = read.statements.map(Counters::reading);
                if in_full {
                    (sample.sessions, sample.locks) = read.kept.as_ref()?.unpack()?;
                }
                Body::Postgres(Arc::new(sample))
            }
            Read::Redis(sample) => Body::Redis(Arc::clone(sample)),
            Read::Outage(_) => return None,
        };
        // The target is that of the observer.
        Some(Sample {
            target: crate::model::TargetId(0),
            asked_at: self.asked_at,
            taken_at: self.taken_at,
            body,
        })
    }
}

/// Bytes of what there are seldom many of; what is shared with the sample before takes none.
fn rest_bytes(sample: &PgSample, before: Option<&PgSample>) -> usize {
    fn of<T>(read: &Reading<Vec<T>>) -> usize {
        read.value().map_or(0, Vec::len) * size_of::<T>()
    }
    let own = of(&sample.prepared) + of(&sample.databases) + of(&sample.senders) + of(&sample.slots);
    let names = &sample.names;
    let names_bytes =
        (names.roles.len() + names.databases.len() + names.relations.len()) * size_of::<(Oid, Arc<str>)>();
    let texts_bytes = sample.statement_texts.len() * size_of::<(StatementKey, Arc<str>)>();
    let tables_bytes = sample.tables.as_ref().map_or(0, |tables| {
        of(&tables.tables) + of(&tables.indexes) + of(&tables.constraints) + of(&tables.progress)
    });
    let is_new =
        |shared: fn(&PgSample, &PgSample) -> bool| !before.is_some_and(|before| shared(before, sample));
    let new = |is_new: bool, bytes: usize| if is_new { bytes } else { 0 };
    own + new(is_new(|one, other| Arc::ptr_eq(&one.names, &other.names)), names_bytes)
        + new(is_new(|one, other| Arc::ptr_eq(&one.statement_texts, &other.statement_texts)), texts_bytes)
        + new(
            is_new(|one, other| match (&one.tables, &other.tables) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (Some(_) | None, None) | (None, Some(_)) => false,
            }),
            tables_bytes,
        )
}

/// The sample with its sessions, locks and counters of statements left out.
fn without_large(sample: &PgSample) -> PgSample {
    PgSample {
        server_time: sample.server_time,
        server: Arc::clone(&sample.server),
        rights: Arc::clone(&sample.rights),
        names: Arc::clone(&sample.names),
        sessions: Reading::Fresh(Vec::new()),
        locks: Reading::Fresh(Arc::default()),
        prepared: sample.prepared.clone(),
        databases: sample.databases.clone(),
        statements: Reading::Fresh(Statements::nothing()),
        statement_texts: Arc::clone(&sample.statement_texts),
        wal: sample.wal.clone(),
        senders: sample.senders.clone(),
        slots: sample.slots.clone(),
        receiver: sample.receiver.clone(),
        upkeep: sample.upkeep.clone(),
        tables: sample.tables.clone(),
        slowed: sample.slowed.clone(),
    }
}
