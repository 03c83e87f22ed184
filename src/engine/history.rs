//! The last minutes of the vitals, one slot a sample, gaps included: what the inline trends are drawn from.
//!
//! It must not know how a trend is drawn.

use std::collections::VecDeque;

use jiff::Timestamp;
use strum::EnumCount as _;

use super::Tick;

/// How far back it reaches, milliseconds: an hour.
const REACH_MILLIS: i64 = 3_600_000;
/// Slots kept at most: an hour at two a second, with some to spare.
const SLOTS_MAX: usize = 7300;

/// A figure that is followed over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumCount, strum::EnumIter)]
pub enum Metric {
    /// Client connections.
    Connections,
    /// Active sessions.
    Active,
    /// Sessions that wait for a lock.
    Blocked,
    /// Sessions idle in a transaction.
    IdleInTransaction,
    /// Transactions per second.
    Transactions,
    /// Share of blocks found in PostgreSQL's buffer cache.
    BufferHitRatio,
    /// Blocks read into PostgreSQL's buffer cache per second.
    BlocksRead,
    /// Blocks found there per second.
    BlocksHit,
    /// Transactions rolled back per second.
    Rollbacks,
    /// Deadlocks per second.
    Deadlocks,
    /// Temporary files written, bytes per second.
    TempBytes,
    /// Temporary files created per second.
    TempFiles,
    /// Statements cancelled by replay per second.
    Conflicts,
    /// Bytes that the worst standby, or this standby, has not replayed.
    ReplayLagBytes,
    /// Log written per second, bytes.
    WalBytes,
    /// Share of keys found in Redis.
    RedisHitRatio,
    /// Keys evicted from Redis per second.
    RedisEvictions,
    /// Commands per second in Redis.
    RedisCommands,
    /// Look-ups that found their key per second.
    RedisHits,
    /// Look-ups that did not.
    RedisMisses,
}

impl Metric {
    /// Whether it is a rate that in a report spans the time since the first sample. The others are of a moment, or of a
    /// time of their own.
    pub const fn spans_report(self) -> bool {
        match self {
            Self::Connections
            | Self::Active
            | Self::Blocked
            | Self::IdleInTransaction
            | Self::ReplayLagBytes
            | Self::WalBytes => false,
            Self::Transactions
            | Self::BufferHitRatio
            | Self::BlocksRead
            | Self::BlocksHit
            | Self::Rollbacks
            | Self::Deadlocks
            | Self::TempBytes
            | Self::TempFiles
            | Self::Conflicts
            | Self::RedisHitRatio
            | Self::RedisEvictions
            | Self::RedisCommands
            | Self::RedisHits
            | Self::RedisMisses => true,
        }
    }
}

/// Values over time, oldest first; `None` is a gap: not known at that moment.
pub type Series = Vec<Option<f64>>;

/// Not a number where nothing is known; a trend needs no more than seven digits.
type Slot = [f32; Metric::COUNT];

const UNKNOWN: Slot = [f32::NAN; Metric::COUNT];

/// The ring of slots.
#[derive(Debug, Default)]
pub struct History {
    /// The first moment of all.
    origin: Option<Timestamp>,
    /// The sample that the rates of a report are taken against: milliseconds since the first moment.
    first_sample: Option<i64>,
    /// With the milliseconds since then.
    slots: VecDeque<(i64, Slot)>,
}

impl History {
    /// Adds what a tick knows.
    pub fn push(&mut self, tick: &Tick) {
        let mut slot = UNKNOWN;
        #[expect(clippy::cast_possible_truncation, reason = "digits are lost, which no trend shows")]
        let mut set = |metric: Metric, value: Option<f64>| {
            if let (Some(place), Some(value)) = (slot.get_mut(metric as usize), value) {
                *place = value as f32;
            }
        };
        if let Some(tick) = tick.postgres() {
            let vitals = &tick.vitals;
            set(Metric::Connections, vitals.connections.map(count));
            set(Metric::Active, vitals.active.map(count));
            set(Metric::Blocked, vitals.blocked.map(count));
            set(Metric::IdleInTransaction, vitals.idle_in_transaction.map(count));
            set(Metric::Transactions, vitals.transactions_per_second);
            set(Metric::BufferHitRatio, vitals.buffer_hit_ratio);
            set(Metric::Rollbacks, vitals.rollbacks_per_second);
            set(Metric::BlocksRead, tick.cache.blocks_read_per_second);
            set(Metric::BlocksHit, tick.cache.blocks_hit_per_second);
            set(Metric::Deadlocks, tick.cache.deadlocks_per_second);
            set(Metric::TempBytes, tick.cache.temp_bytes_per_second);
            set(Metric::TempFiles, tick.cache.temp_files_per_second);
            set(Metric::Conflicts, tick.cache.conflicts_per_second);
            set(Metric::ReplayLagBytes, worst_lag_bytes(tick));
            set(Metric::WalBytes, tick.replication.wal_bytes_per_second);
        }
        if let Some(tick) = tick.redis() {
            set(Metric::RedisHitRatio, tick.rates.hit_ratio);
            set(Metric::RedisEvictions, tick.rates.evictions_per_second);
            set(Metric::RedisCommands, tick.rates.commands_per_second);
            set(Metric::RedisHits, tick.rates.hits_per_second);
            set(Metric::RedisMisses, tick.rates.misses_per_second);
        }
        self.push_slot(tick.taken_at, slot);
        if tick.interval_seconds.is_none() {
            self.first_sample = self.slots.back().map(|(millis, _)| *millis);
        }
    }

    /// Adds a moment at which nothing was known.
    pub fn push_gap(&mut self, at: Timestamp) {
        self.push_slot(at, UNKNOWN);
    }

    fn push_slot(&mut self, at: Timestamp, slot: Slot) {
        let millis = millis_since(*self.origin.get_or_insert(at), at);
        // What the first slot says of the hour, it says of the time until the second.
        let is_left = |(second, _): &(i64, Slot)| REACH_MILLIS <= millis - second;
        while SLOTS_MAX <= self.slots.len() || self.slots.get(1).is_some_and(is_left) {
            self.slots.pop_front();
        }
        self.slots.push_back((millis, slot));
    }

    /// The last `length` values of a metric, oldest first; shorter while there are fewer.
    pub fn series(&self, metric: Metric, length: usize) -> Series {
        let skipped = self.slots.len().saturating_sub(length);
        self.slots.iter().skip(skipped).map(|(_, slot)| value(slot, metric)).collect()
    }

    /// `length` values around a moment, oldest first, up to a third of them after it; and its place among them.
    pub fn around(&self, metric: Metric, length: usize, at: Timestamp) -> (Series, Option<usize>) {
        let Some(origin) = self.origin else { return (Series::new(), None) };
        let millis = millis_since(origin, at);
        let until = self.slots.partition_point(|(slot, _)| *slot <= millis);
        let end = (until + length / 3).min(self.slots.len());
        let first = end.saturating_sub(length);
        let series = self.slots.range(first..end).map(|(_, slot)| value(slot, metric)).collect();
        (series, until.checked_sub(first + 1))
    }

    /// The largest known value of a metric over the last seconds; `None` where none is known.
    pub fn max(&self, metric: Metric, seconds: f64) -> Option<f64> {
        let (now, _) = self.slots.back()?;
        let recent = self.slots.iter().rev().take_while(|(millis, _)| seconds_from(*millis, *now) < seconds);
        recent.filter_map(|(_, slot)| value(slot, metric)).max_by(f64::total_cmp)
    }

    /// The mean of a rate over the last seconds, or over what was watched of them, in a report, whose rates each span the
    /// time since the first sample: what they had grown to by now, less what they had before. `None` without a second
    /// sample.
    pub fn mean_of_report(&self, metric: Metric, window_seconds: f64) -> Option<Mean> {
        let first = self.first_sample?;
        let known = |(millis, slot): &(i64, Slot)| Some((*millis, value(slot, metric)?));
        let (now, rate) = self.slots.iter().rev().find_map(known)?;
        let grown = rate * seconds_from(first, now);
        let before = self
            .slots
            .iter()
            .rev()
            .filter_map(known)
            .find(|(millis, _)| window_seconds <= seconds_from(*millis, now));
        let (then, grown_before) =
            before.map_or((first, 0.0), |(millis, rate)| (millis, rate * seconds_from(first, millis)));
        let watched = seconds_from(then, now);
        // Counters that were reset in between began again.
        (watched > 0.0).then(|| Mean { value: ((grown - grown_before) / watched).max(0.0), seconds: watched })
    }

    /// The mean of what is known of a metric over the last seconds, or over what was watched of them; `None` where less
    /// than half of that is known.
    pub fn mean(&self, metric: Metric, seconds: f64) -> Option<Mean> {
        let (now, _) = self.slots.back()?;
        let mut mean = Mean::default();
        let (mut known, mut slots) = (0.0, 0.0);
        for (millis, slot) in self.slots.iter().rev() {
            // A rate spans the time since the slot before it.
            mean.seconds = seconds_from(*millis, *now).min(seconds);
            if seconds <= mean.seconds {
                break;
            }
            slots += 1.0;
            if let Some(value) = value(slot, metric) {
                mean.value += value;
                known += 1.0;
            }
        }
        mean.value /= known;
        (mean.seconds > 0.0 && slots <= 2.0 * known).then_some(mean)
    }
}

/// Milliseconds from the first moment to another; negative where the clock was set back.
fn millis_since(origin: Timestamp, at: Timestamp) -> i64 {
    at.as_millisecond() - origin.as_millisecond()
}

/// Seconds from one slot to another, none where the clock was set back between them.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of centuries are exact in an f64")]
fn seconds_from(from: i64, to: i64) -> f64 {
    (to - from).max(0) as f64 / 1000.0
}

/// The mean of a figure over some time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    /// The mean of what is known.
    pub value: f64,
    /// Over how many seconds.
    pub seconds: f64,
}

fn value(slot: &Slot, metric: Metric) -> Option<f64> {
    slot.get(metric as usize).map(|it| f64::from(*it)).filter(|it| !it.is_nan())
}

#[expect(clippy::cast_precision_loss, reason = "session counts are small")]
const fn count(n: usize) -> f64 {
    n as f64
}

/// Bytes not replayed yet: of the worst standby on a primary, of the server itself on a standby.
pub fn worst_lag_bytes(tick: &super::PgTick) -> Option<f64> {
    let own = tick.replication.recovery.as_ref().and_then(|recovery| recovery.replay_lag_bytes);
    let standbys = tick.replication.standbys.value().into_iter().flatten();
    own.into_iter()
        .chain(standbys.filter_map(|standby| standby.replay_lag_bytes))
        .max()
        .map(super::rates::float)
}

/// Seconds behind: of the worst standby on a primary, of the server itself on a standby; `None` when unknown.
pub fn worst_lag_seconds(tick: &super::PgTick) -> Option<f64> {
    let own = tick.replication.recovery.as_ref().and_then(|recovery| recovery.replay_lag_seconds);
    let standbys = tick.replication.standbys.value().into_iter().flatten();
    own.into_iter().chain(standbys.filter_map(|standby| standby.replay_lag_seconds)).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// A history of one figure a second; `None` is a gap.
    fn history(values: &[Option<f32>]) -> History {
        let mut history = History::default();
        for (second, value) in (0..).zip(values) {
            let mut slot = UNKNOWN;
            slot[Metric::Active as usize] = value.unwrap_or(f32::NAN);
            history.push_slot(Timestamp::from_second(second).unwrap(), slot);
        }
        history
    }

    #[test]
    fn a_mean_is_of_the_last_seconds_once_it_was_watched_for_as_long() {
        let mean = |values: &[Option<f32>]| history(values).mean(Metric::Active, 3.0);
        let over = |value, seconds| Some(Mean { value, seconds });
        let all = [Some(100.0), Some(1.0), Some(2.0), Some(3.0)];
        assert_eq!(mean(&all), over(2.0, 3.0));
        assert_eq!(mean(&all[1..]), over(2.0, 2.0), "not watched for as long");
        assert_eq!(mean(&[Some(0.0), None, Some(4.0), Some(2.0)]), over(3.0, 3.0), "a gap is no zero");
        assert_eq!(mean(&[Some(0.0), None, None, Some(2.0)]), None, "one in three tells nothing");
        assert_eq!(mean(&[Some(1.0)]), None, "a moment is no time");
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn an_hour_is_reached_at_any_interval_and_after_any_time() {
        for (every_ms, begun_ms) in [(1000, 0), (1000, 1_000), (500, 0), (999, 0), (1000, 60 * 86_400_000)] {
            let mut history = History::default();
            history.push_gap(Timestamp::UNIX_EPOCH);
            let moments = (1..=3_700_000 / every_ms).map(|n| begun_ms + n * every_ms);
            for millis in moments {
                let mut slot = UNKNOWN;
                slot[Metric::Transactions as usize] = 100.0;
                history.push_slot(Timestamp::from_millisecond(millis).unwrap(), slot);
            }
            let hour = Some(Mean { value: 100.0, seconds: 3600.0 });
            assert_eq!(history.mean(Metric::Transactions, 3600.0), hour, "every {every_ms} ms");
            assert!(history.slots.len() <= usize::try_from(3_600_000 / every_ms).unwrap() + 2);
        }
    }

    #[test]
    fn a_mean_of_a_report_counts_what_has_grown_once() {
        // Three deadlocks in the first second and none after: by the second the rate since the first sample falls.
        let mut report = history(&[None, Some(3.0), Some(1.5), Some(1.0), Some(0.75)]);
        report.first_sample = Some(0);
        let over = |value, seconds| Some(Mean { value, seconds });
        assert_eq!(report.mean_of_report(Metric::Active, 60.0), over(0.75, 4.0));
        assert_eq!(report.mean_of_report(Metric::Active, 2.0), over(0.0, 2.0), "none within the last two");
        assert_eq!(history(&[None]).mean_of_report(Metric::Active, 60.0), None);
    }
}
