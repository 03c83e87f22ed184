//! What the active sessions waited for, over the last hour: the average active sessions by wait class, and down to the
//! event, the statement and the session while there is room for that.
//!
//! Every sample is a look at who is active: the average of the looks is the average of active sessions. It must not know
//! how a chart is drawn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use strum::{EnumCount as _, IntoEnumIterator as _};

use super::findings::sees_all;
use super::vitals::is_own;
use crate::model::postgres::{Sample, Session, SessionId, State};
use crate::text;

/// Seconds that one bin spans.
pub const BIN_SECONDS: i64 = 5;
/// Samples kept: an hour at one a second.
const MOMENTS_MAX: usize = 3600;
/// Sessions of samples that are kept: half an hour of fifty active sessions.
const ENTRIES_MAX: usize = 100_000;
/// Statements that are remembered by their text.
const LABELS_MAX: usize = 2_000;
/// Texts whose masked form is remembered.
const MASKED_MAX: usize = 20_000;
/// As much of a statement's text is remembered.
const LABEL_COLUMNS_MAX: usize = 240;
/// While no moment is chosen, what is told is of the last minute.
const MINUTE_BINS: i64 = 60 / BIN_SECONDS;

/// The classes of PostgreSQL's wait events (manual, "Wait Events"), from the bottom of the chart to its top.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    strum::EnumCount,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
#[expect(missing_docs, reason = "the names are the server's")]
pub enum Class {
    /// Active without a wait; the star because not every path is instrumented.
    #[strum(serialize = "CPU*")]
    Cpu,
    #[strum(serialize = "IO")]
    Io,
    #[strum(serialize = "IPC")]
    Ipc,
    LWLock,
    Lock,
    BufferPin,
    Client,
    Timeout,
    Extension,
    Activity,
    /// A class of a later version.
    #[strum(serialize = "other")]
    Other,
}

impl Class {
    /// The class of the wait of an active session.
    pub fn of(session: &Session) -> Self {
        let Some(name) = session.wait_event_type.as_deref() else { return Self::Cpu };
        Self::iter().find(|class| class.name() == name).unwrap_or(Self::Other)
    }

    /// The server's word for it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// A letter that tells it from the others without colour.
    pub const fn letter(self) -> char {
        match self {
            Self::Cpu => 'C',
            Self::Io => 'I',
            Self::Ipc => 'P',
            Self::LWLock => 'W',
            Self::Lock => 'L',
            Self::BufferPin => 'B',
            Self::Client => 'N',
            Self::Timeout => 'T',
            Self::Extension => 'E',
            Self::Activity => 'A',
            Self::Other => 'o',
        }
    }
}

/// How far one has gone into the waits: a class, an event of it, a statement that waited so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    /// The class; `None`: all of them.
    pub class: Option<Class>,
    /// The event; empty for `CPU*`, which has none.
    pub event: Option<Arc<str>>,
    /// The statement.
    pub statement: Option<i64>,
}

/// What a row of the breakdown stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A class.
    Class(Class),
    /// An event of the chosen class.
    Event(Arc<str>),
    /// A statement, by its `query_id`, or by its text where the server gives none.
    Statement(i64),
    /// A session.
    Session(SessionId),
}

/// A row of the breakdown.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitRow {
    /// What it stands for.
    pub part: Part,
    /// Average active sessions.
    pub average: f64,
    /// The most in one sample.
    pub peak: u32,
    /// Share of all active sessions of the path.
    pub share: f64,
}

/// Some seconds of the chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    /// Its number: seconds since the epoch, divided by [`BIN_SECONDS`].
    pub number: i64,
    /// Average active sessions by class, in the order of [`Class`]; `None` where there is no sample.
    pub averages: Option<[f64; Class::COUNT]>,
    /// Average of sessions idle in a transaction; `None` where there is no sample.
    pub idle_in_transaction: Option<f64>,
}

/// One active session in one sample.
#[derive(Debug, Clone, Copy)]
struct Entry {
    session: SessionId,
    statement: i64,
    event: u16,
    class: Class,
}

#[derive(Debug)]
struct Moment {
    bin: i64,
    counts: [u32; Class::COUNT],
    idle_in_transaction: u32,
    /// Who was active; `None` once there is no room for it any more.
    entries: Option<Box<[Entry]>>,
}

/// The waits of the last hour.
#[derive(Debug, Default)]
pub struct WaitHistory {
    moments: VecDeque<Moment>,
    entries_kept: usize,
    events: Vec<Arc<str>>,
    labels: BTreeMap<i64, Arc<str>>,
    /// Texts by their hash, and the hash of each without its literals.
    masked: BTreeMap<i64, i64>,
}

impl WaitHistory {
    /// Adds who is active in a sample; nothing where sessions or their states cannot be seen.
    pub(super) fn observe(&mut self, sample: &Sample, taken_at: Timestamp) {
        let Some(sessions) = sample.sessions.value().filter(|_| sees_all(sample)) else { return };
        let is_meant = |session: &&Session| {
            session.state != Some(State::Idle) && session.is_client() && !is_own(sample, session)
        };
        let mut counts = [0; Class::COUNT];
        let mut entries = Vec::new();
        let mut idle_in_transaction = 0;
        for session in sessions.iter().filter(is_meant) {
            match session.state {
                Some(State::Active) => {
                    let entry = self.entry(session);
                    if let Some(count) = counts.get_mut(entry.class as usize) {
                        *count += 1;
                    }
                    entries.push(entry);
                }
                Some(state) if state.is_idle_in_transaction() => idle_in_transaction += 1,
                Some(_) | None => {}
            }
        }
        let bin = taken_at.as_second().div_euclid(BIN_SECONDS);
        self.entries_kept += entries.len();
        self.moments.push_back(Moment { bin, counts, idle_in_transaction, entries: Some(entries.into()) });
        self.forget_oldest();
    }

    fn entry(&mut self, session: &Session) -> Entry {
        let class = Class::of(session);
        let event = session.wait_event.as_deref().filter(|_| class != Class::Cpu).unwrap_or_default();
        let place = self.events.iter().position(|known| **known == *event).unwrap_or_else(|| {
            self.events.push(event.into());
            self.events.len() - 1
        });
        let statement = session.query_id.unwrap_or_else(|| self.statement_of(&session.query));
        self.labels.entry(statement).or_insert_with(|| {
            let masked = text::masked(&session.query);
            text::fit(&text::folded(&masked), LABEL_COLUMNS_MAX, false).into_owned().into()
        });
        Entry { session: session.id, statement, event: u16::try_from(place).unwrap_or(u16::MAX), class }
    }

    /// What stands for a statement where the server gives it no id: its text without literals. Masking takes time, so
    /// each text is masked once.
    fn statement_of(&mut self, query: &str) -> i64 {
        let hashed = |text: &str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish().cast_signed()
        };
        if self.masked.len() > MASKED_MAX {
            self.masked.clear();
        }
        *self.masked.entry(hashed(query)).or_insert_with(|| hashed(&text::masked(query)))
    }

    fn forget_oldest(&mut self) {
        if self.moments.len() > MOMENTS_MAX
            && let Some(oldest) = self.moments.pop_front()
        {
            self.entries_kept -= oldest.entries.map_or(0, |entries| entries.len());
        }
        for moment in &mut self.moments {
            if self.entries_kept <= ENTRIES_MAX {
                break;
            }
            self.entries_kept -= moment.entries.take().map_or(0, |entries| entries.len());
        }
        if self.labels.len() > LABELS_MAX {
            let kept = self.moments.iter().filter_map(|moment| moment.entries.as_deref()).flatten();
            let named: BTreeSet<i64> = kept.map(|entry| entry.statement).collect();
            self.labels.retain(|statement, _| named.contains(statement));
        }
    }

    /// The last bins up to the newest sample, oldest first.
    pub fn bins(&self, length: usize) -> Vec<Bin> {
        let Some(newest) = self.moments.back().map(|moment| moment.bin) else { return Vec::new() };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let mut moments = self.moments.iter().rev().peekable();
        let mut bins: Vec<Bin> = (0..length)
            .map(|back| {
                let number = newest - back;
                let mut of_bin = Vec::new();
                while let Some(moment) = moments.next_if(|moment| number <= moment.bin) {
                    of_bin.push(moment);
                }
                bin(number, &of_bin)
            })
            .collect();
        bins.reverse();
        bins
    }

    /// The bins that a breakdown is of: that of the moment, or those of the last minute.
    fn span(&self, moment: Option<i64>) -> std::ops::RangeInclusive<i64> {
        let newest = self.moments.back().map_or(0, |moment| moment.bin);
        moment.map_or(newest - MINUTE_BINS + 1..=newest, |chosen| chosen..=chosen)
    }

    /// The parts of what a path leads to, largest first: at a moment, or over the last minute. `None` where who was
    /// active then is not kept any more.
    pub fn breakdown(&self, path: &Path, moment: Option<i64>) -> Option<Vec<WaitRow>> {
        let span = self.span(moment);
        let mut samples = 0_u32;
        let mut sums: BTreeMap<Part, (u32, u32)> = BTreeMap::new();
        for moment in self.moments.iter().rev().skip_while(|it| span.end() < &it.bin) {
            if !span.contains(&moment.bin) {
                break;
            }
            samples += 1;
            let mut here: BTreeMap<Part, u32> = BTreeMap::new();
            for entry in moment.entries.as_deref()? {
                if let Some(part) = self.part(path, entry) {
                    *here.entry(part).or_default() += 1;
                }
            }
            for (part, count) in here {
                let (sum, peak) = sums.entry(part).or_default();
                *sum += count;
                *peak = count.max(*peak);
            }
        }
        let all: u32 = sums.values().map(|(sum, _)| sum).sum();
        let row = |(part, (sum, peak)): (Part, (u32, u32))| WaitRow {
            part,
            average: f64::from(sum) / f64::from(samples.max(1)),
            peak,
            share: f64::from(sum) / f64::from(all.max(1)),
        };
        let mut rows: Vec<WaitRow> = sums.into_iter().map(row).collect();
        rows.sort_by(|a, b| b.average.total_cmp(&a.average));
        Some(rows)
    }

    /// The sessions of a path and what they ran, at a moment, or over the last minute. `None` where who was active then
    /// is not kept any more.
    pub fn who(&self, path: &Path, moment: Option<i64>) -> Option<(BTreeSet<SessionId>, BTreeSet<i64>)> {
        let span = self.span(moment);
        let (mut sessions, mut statements) = (BTreeSet::new(), BTreeSet::new());
        for moment in self.moments.iter().rev().skip_while(|it| span.end() < &it.bin) {
            if !span.contains(&moment.bin) {
                break;
            }
            for entry in moment.entries.as_deref()? {
                if self.part(path, entry).is_some() {
                    sessions.insert(entry.session);
                    statements.insert(entry.statement);
                }
            }
        }
        Some((sessions, statements))
    }

    /// The part of a path that an active session belongs to; `None` where the path leads elsewhere.
    fn part(&self, path: &Path, entry: &Entry) -> Option<Part> {
        let Some(class) = path.class else { return Some(Part::Class(entry.class)) };
        if class != entry.class {
            return None;
        }
        let event = self.events.get(usize::from(entry.event))?;
        match (&path.event, path.statement) {
            (None, _) => Some(Part::Event(Arc::clone(event))),
            (Some(wanted), _) if wanted != event => None,
            (Some(_), None) => Some(Part::Statement(entry.statement)),
            (Some(_), Some(wanted)) => (wanted == entry.statement).then_some(Part::Session(entry.session)),
        }
    }

    /// How a statement begins, without its literals.
    pub fn label(&self, statement: i64) -> Option<&Arc<str>> {
        self.labels.get(&statement)
    }

    /// The bin before or after another one, within what is kept; from the newest where none is chosen.
    pub fn stepped(&self, moment: Option<i64>, by: i64) -> Option<i64> {
        let (first, last) = (self.moments.front()?.bin, self.moments.back()?.bin);
        Some((moment.unwrap_or(last) + by).clamp(first, last))
    }
}

fn bin(number: i64, moments: &[&Moment]) -> Bin {
    let samples = f64::from(u32::try_from(moments.len()).unwrap_or(u32::MAX));
    let mean = |sum: u32| f64::from(sum) / samples;
    let of_class = |class: usize| moments.iter().filter_map(|it| it.counts.get(class)).sum();
    let is_known = !moments.is_empty();
    Bin {
        number,
        averages: is_known.then(|| std::array::from_fn(|class| mean(of_class(class)))),
        idle_in_transaction: is_known.then(|| mean(moments.iter().map(|it| it.idle_in_transaction).sum())),
    }
}
