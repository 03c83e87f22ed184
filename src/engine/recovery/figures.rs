//! The figures by which one sees whether it got better, each with the checks that say what is within limits.

use strum::EnumCount as _;

use crate::engine::rates::{float, ratio};
use crate::engine::{PgTick, RedisTick, history};

/// A figure of the recovery.
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
pub enum Figure {
    /// Roots of the lock forest.
    #[strum(serialize = "roots")]
    Roots,
    /// Sessions that wait for a lock.
    #[strum(serialize = "blocked sessions")]
    Blocked,
    /// The longest wait for a lock, seconds.
    #[strum(serialize = "longest wait")]
    LongestWait,
    /// Sessions that run a statement.
    #[strum(serialize = "active sessions")]
    Active,
    /// Share of those that wait for a lock.
    #[strum(serialize = "lock share of active")]
    LockShare,
    /// Client connections.
    #[strum(serialize = "connections")]
    Connections,
    /// Transactions per second.
    #[strum(serialize = "transactions/s")]
    Transactions,
    /// Share of transactions that rolled back.
    #[strum(serialize = "rolled back")]
    Rollbacks,
    /// Age of the oldest transaction of a client, seconds.
    #[strum(serialize = "oldest transaction")]
    OldestTransaction,
    /// Transactions begun since the oldest snapshot.
    #[strum(serialize = "xmin age")]
    XminAge,
    /// Bytes that the worst standby, or this one, has not replayed.
    #[strum(serialize = "replication lag")]
    ReplicationLag,
    /// Share of blocks found in PostgreSQL's buffer cache.
    #[strum(serialize = "buffer hit")]
    BufferHit,
    /// Share of keys found in Redis.
    #[strum(serialize = "redis hit")]
    RedisHit,
    /// Temporary files written, bytes per second.
    #[strum(serialize = "temp files/s")]
    TempBytes,
}

/// A value for each figure, in their order; `None` where it is not known.
pub type Figures = [Option<f64>; Figure::COUNT];

impl Figure {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The checks that tell when it is outside its limits.
    pub const fn checks(self) -> &'static [&'static str] {
        match self {
            Self::Roots | Self::Blocked | Self::LongestWait => {
                &["blocking", "deadlocks", "sync-rep-stalled", "logins-stuck"]
            }
            Self::Active | Self::LockShare => &["slow-active", "query-latency"],
            Self::Connections => &["connections", "connection-hog"],
            Self::Transactions => &[],
            Self::Rollbacks => &["rollback-ratio"],
            Self::OldestTransaction => &["idle-in-transaction", "long-transaction"],
            Self::XminAge => &["xmin-horizon"],
            Self::ReplicationLag => &["replication-lag", "standby-gone"],
            Self::BufferHit => &["buffer-hit-rate"],
            Self::RedisHit => &["redis-hit-rate", "redis-evictions", "redis-memory"],
            Self::TempBytes => &["temp-files"],
        }
    }

    /// Whether less of it is better.
    pub const fn less_is_better(self) -> bool {
        !matches!(self, Self::Transactions | Self::BufferHit | Self::RedisHit)
    }

    /// Whether what it was before is its mean over a minute; else it is its last value.
    pub const fn is_over_time(self) -> bool {
        matches!(
            self,
            Self::Active
                | Self::LockShare
                | Self::Transactions
                | Self::Rollbacks
                | Self::BufferHit
                | Self::RedisHit
                | Self::TempBytes
        )
    }

    /// Whether it can tell that it gets better: it is not the best that it can be, and it is not the number of roots,
    /// which stays while a queue behind one gets shorter.
    pub(super) fn leads(self, before: &Figures) -> bool {
        let value = self.of(before);
        self != Self::Roots && value.is_some_and(|value| !self.less_is_better() || 0.0 < value)
    }

    /// The worse of two values.
    pub(super) fn worse(self, one: Option<f64>, other: Option<f64>) -> Option<f64> {
        let (Some(a), Some(b)) = (one, other) else { return one.or(other) };
        Some(if self.less_is_better() { a.max(b) } else { a.min(b) })
    }

    /// Its value in a set of figures.
    pub fn of(self, figures: &Figures) -> Option<f64> {
        figures.get(self as usize).copied().flatten()
    }
}

/// The figures of a sample.
pub(super) fn read(tick: &PgTick, redis: Option<&RedisTick>) -> Figures {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let forest = tick.forest.value();
    let vitals = &tick.vitals;
    let waits = |class: &str| -> f64 {
        let of_class = tick.waits.iter().filter(|wait| wait.class == class);
        of_class.map(|wait| wait.average_active_sessions).sum()
    };
    let upkeep = tick.sample.upkeep.as_ref();
    let holder = upkeep.and_then(|upkeep| upkeep.xmin_holder.value()?.as_ref());
    let value = |figure: Figure| match figure {
        Figure::Roots => forest.map(|forest| count(forest.roots().count())),
        Figure::Blocked => vitals.blocked.map(count),
        Figure::LongestWait => forest.map(|forest| {
            let waits = forest.roots().filter_map(|root| root.longest_wait_seconds);
            waits.fold(0.0, f64::max)
        }),
        Figure::Active => vitals.active.map(count),
        Figure::LockShare => vitals.active.and_then(|active| ratio(waits("Lock"), count(active))),
        Figure::Connections => vitals.connections.map(count),
        Figure::Transactions => vitals.transactions_per_second,
        Figure::Rollbacks => vitals.rollback_ratio,
        Figure::OldestTransaction => vitals.oldest_transaction_seconds,
        Figure::XminAge => holder.map(|holder| float(holder.xids)),
        Figure::ReplicationLag => history::worst_lag_bytes(tick),
        Figure::BufferHit => vitals.buffer_hit_ratio,
        Figure::RedisHit => redis.and_then(|redis| redis.rates.hit_ratio),
        Figure::TempBytes => tick.cache.temp_bytes_per_second,
    };
    let mut figures = [None; Figure::COUNT];
    for (place, figure) in figures.iter_mut().zip(<Figure as strum::IntoEnumIterator>::iter()) {
        *place = value(figure);
    }
    figures
}
