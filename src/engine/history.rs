//! The last minutes of the vitals, one slot a sample, gaps included: what the inline trends are drawn from.
//!
//! It must not know how a trend is drawn.

use std::collections::VecDeque;

use strum::EnumCount as _;

use super::Tick;

/// Slots kept: an hour at one a second.
const SLOTS_MAX: usize = 3600;

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
}

/// Values over time, oldest first; `None` is a gap: not known at that moment.
pub type Series = Vec<Option<f64>>;

/// Not a number where nothing is known; a trend needs no more than seven digits.
type Slot = [f32; Metric::COUNT];

const UNKNOWN: Slot = [f32::NAN; Metric::COUNT];

/// The ring of slots.
#[derive(Debug, Default)]
pub struct History {
    slots: VecDeque<Slot>,
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
            set(Metric::BlocksRead, tick.cache.blocks_read_per_second);
            set(Metric::ReplayLagBytes, worst_lag_bytes(tick));
            set(Metric::WalBytes, tick.replication.wal_bytes_per_second);
        }
        if let Some(tick) = tick.redis() {
            set(Metric::RedisHitRatio, tick.rates.hit_ratio);
            set(Metric::RedisEvictions, tick.rates.evictions_per_second);
            set(Metric::RedisCommands, tick.rates.commands_per_second);
        }
        self.push_slot(slot);
    }

    /// Adds a moment at which nothing was known.
    pub fn push_gap(&mut self) {
        self.push_slot(UNKNOWN);
    }

    fn push_slot(&mut self, slot: Slot) {
        if self.slots.len() >= SLOTS_MAX {
            self.slots.pop_front();
        }
        self.slots.push_back(slot);
    }

    /// The last `length` values of a metric, oldest first; shorter while there are fewer.
    pub fn series(&self, metric: Metric, length: usize) -> Series {
        let skipped = self.slots.len().saturating_sub(length);
        let value =
            |slot: &Slot| slot.get(metric as usize).map(|it| f64::from(*it)).filter(|it| !it.is_nan());
        self.slots.iter().skip(skipped).map(value).collect()
    }
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
