//! Rates from cumulative counters: what grew, over how many seconds.
//!
//! A counter that went down was reset: then the growth is unknown, not negative and not zero.

use std::collections::BTreeMap;

use crate::model::postgres::{DatabaseCounters, Oid, Sample as PgSample};
use crate::model::redis::Sample as RedisSample;

/// Growth of a database's counters between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseDeltas {
    /// Transactions committed.
    pub commits: i64,
    /// Transactions rolled back.
    pub rollbacks: i64,
    /// Blocks read into the buffer cache.
    pub blocks_read: i64,
    /// Blocks found in the buffer cache.
    pub blocks_hit: i64,
    /// Bytes written to temporary files.
    pub temp_bytes: i64,
    /// Deadlocks detected.
    pub deadlocks: i64,
    /// Temporary files created.
    pub temp_files: i64,
    /// Statements cancelled by replay.
    pub conflicts: i64,
}

/// Growth by database. `None` before a second sample and when the counters of one were reset in between.
pub type Deltas = Option<BTreeMap<Oid, DatabaseDeltas>>;

/// Compares the counters of two samples of one server.
pub fn database_deltas(before: Option<&PgSample>, now: &PgSample) -> Deltas {
    let earlier = before?.databases.value()?;
    let current = now.databases.value()?;
    let earlier: BTreeMap<Oid, &DatabaseCounters> = earlier.iter().map(|row| (row.datid, row)).collect();
    let both = current.iter().filter_map(|row| Some((row, *earlier.get(&row.datid)?)));
    let deltas: BTreeMap<Oid, DatabaseDeltas> =
        both.map(|(row, before)| Some((row.datid, delta(before, row)?))).collect::<Option<_>>()?;
    // Nothing to sum up is not a sum of zero.
    (!deltas.is_empty()).then_some(deltas)
}

fn delta(before: &DatabaseCounters, now: &DatabaseCounters) -> Option<DatabaseDeltas> {
    let deltas = DatabaseDeltas {
        commits: now.xact_commit - before.xact_commit,
        rollbacks: now.xact_rollback - before.xact_rollback,
        blocks_read: now.blks_read - before.blks_read,
        blocks_hit: now.blks_hit - before.blks_hit,
        temp_bytes: now.temp_bytes - before.temp_bytes,
        deadlocks: now.deadlocks - before.deadlocks,
        temp_files: now.temp_files - before.temp_files,
        conflicts: now.conflicts - before.conflicts,
    };
    let parts = [deltas.commits, deltas.rollbacks, deltas.blocks_hit, deltas.temp_bytes, deltas.deadlocks];
    let reset = before.stats_reset != now.stats_reset || parts.iter().any(|part| *part < 0);
    // `blocks_read` is a difference of two counters read one after the other and may step back by a few.
    (!reset).then_some(DatabaseDeltas { blocks_read: deltas.blocks_read.max(0), ..deltas })
}

/// `part / whole`; `None` when the whole is zero.
pub fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// A count as a float; counters stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
pub const fn float(count: i64) -> f64 {
    count as f64
}

/// Buffer cache and temporary files over the interval; `None` before a second sample or after a reset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PgCache {
    /// Blocks found of blocks asked for; `None` also when none was asked for.
    pub buffer_hit_ratio: Option<f64>,
    /// Blocks found per second.
    pub blocks_hit_per_second: Option<f64>,
    /// Blocks read per second.
    pub blocks_read_per_second: Option<f64>,
    /// Bytes written to temporary files per second.
    pub temp_bytes_per_second: Option<f64>,
    /// Deadlocks per second.
    pub deadlocks_per_second: Option<f64>,
    /// Temporary files created per second.
    pub temp_files_per_second: Option<f64>,
    /// Statements cancelled by replay per second.
    pub conflicts_per_second: Option<f64>,
    /// Hit ratio of each database that asked for blocks, busiest first.
    pub by_database: Vec<(Oid, f64)>,
}

/// Derives the cache figures from the growth of the counters.
pub fn postgres_cache(deltas: &Deltas, seconds: Option<f64>) -> PgCache {
    let Some((deltas, seconds)) = deltas.as_ref().zip(seconds) else { return PgCache::default() };
    let sum = |field: fn(&DatabaseDeltas) -> i64| float(deltas.values().map(field).sum());
    let (hit, read) = (sum(|d| d.blocks_hit), sum(|d| d.blocks_read));
    let mut by_database: Vec<_> = deltas
        .iter()
        .filter_map(|(oid, d)| {
            let asked = float(d.blocks_hit + d.blocks_read);
            Some((asked, *oid, ratio(float(d.blocks_hit), asked)?))
        })
        .collect();
    by_database.sort_by(|a, b| b.0.total_cmp(&a.0));
    PgCache {
        buffer_hit_ratio: ratio(hit, hit + read),
        blocks_hit_per_second: Some(hit / seconds),
        blocks_read_per_second: Some(read / seconds),
        temp_bytes_per_second: Some(sum(|d| d.temp_bytes) / seconds),
        deadlocks_per_second: Some(sum(|d| d.deadlocks) / seconds),
        temp_files_per_second: Some(sum(|d| d.temp_files) / seconds),
        conflicts_per_second: Some(sum(|d| d.conflicts) / seconds),
        by_database: by_database.into_iter().map(|(_, oid, ratio)| (oid, ratio)).collect(),
    }
}

/// Rates of a Redis server over the interval; `None` before a second sample or after a reset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RedisRates {
    /// Keys found of keys looked up; `None` also when none was looked up.
    pub hit_ratio: Option<f64>,
    /// Look-ups that found a key, per second.
    pub hits_per_second: Option<f64>,
    /// Look-ups that found none, per second.
    pub misses_per_second: Option<f64>,
    /// Keys evicted for want of memory, per second.
    pub evictions_per_second: Option<f64>,
    /// Keys expired, per second.
    pub expirations_per_second: Option<f64>,
    /// Commands processed per second.
    pub commands_per_second: Option<f64>,
    /// Connections rejected at `maxclients`, per second.
    pub rejected_per_second: Option<f64>,
    /// CPU seconds of the main thread per second: near 1 it is saturated.
    pub main_thread_cpu_ratio: Option<f64>,
}

/// Compares two samples of one Redis server.
pub fn redis(before: Option<&RedisSample>, now: &RedisSample, seconds: Option<f64>) -> RedisRates {
    let Some((before, seconds)) = before.zip(seconds) else { return RedisRates::default() };
    let grown = |field: fn(&RedisSample) -> Option<u64>| {
        let grown = field(now)?.checked_sub(field(before)?)?;
        Some(float(i64::try_from(grown).ok()?))
    };
    let rate = |field: fn(&RedisSample) -> Option<u64>| grown(field).map(|grown| grown / seconds);
    // Of the counts, not of the rates: a quotient of quotients is not exact.
    let look_ups = grown(|s| s.keyspace_hits).zip(grown(|s| s.keyspace_misses));
    let cpu = now
        .main_thread_cpu_seconds
        .zip(before.main_thread_cpu_seconds)
        .map(|(now, before)| (now - before) / seconds);
    RedisRates {
        hit_ratio: look_ups.and_then(|(hits, misses)| ratio(hits, hits + misses)),
        hits_per_second: rate(|s| s.keyspace_hits),
        misses_per_second: rate(|s| s.keyspace_misses),
        evictions_per_second: rate(|s| s.evicted_keys),
        expirations_per_second: rate(|s| s.expired_keys),
        commands_per_second: rate(|s| s.total_commands_processed),
        rejected_per_second: rate(|s| s.rejected_connections),
        main_thread_cpu_ratio: cpu.filter(|ratio| *ratio >= 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counters(commit: i64, hit: i64, read: i64) -> DatabaseCounters {
        DatabaseCounters {
            datid: 5,
            numbackends: 1,
            xact_commit: commit,
            xact_rollback: 0,
            blks_read: read,
            blks_hit: hit,
            temp_bytes: 0,
            temp_files: 0,
            deadlocks: 0,
            conflicts: 0,
            checksum_failures: None,
            stats_reset: None,
        }
    }

    #[test]
    fn a_reset_makes_the_growth_unknown() {
        assert_eq!(delta(&counters(10, 5, 5), &counters(4, 9, 9)), None);
        assert_eq!(delta(&counters(4, 5, 5), &counters(10, 9, 9)).map(|d| d.commits), Some(6));
    }

    #[test]
    fn no_blocks_asked_for_is_no_ratio() {
        let deltas = Some(BTreeMap::from([(5, DatabaseDeltas::default())]));
        assert_eq!(postgres_cache(&deltas, Some(1.0)).buffer_hit_ratio, None);
    }

    proptest! {
        #[test]
        fn growth_is_never_negative(a in 0..1000_i64, b in 0..1000_i64, c in 0..1000_i64, d in 0..1000_i64) {
            if let Some(delta) = delta(&counters(a, b, c), &counters(b, c, d)) {
                prop_assert!(delta.commits >= 0 && delta.blocks_hit >= 0 && delta.blocks_read >= 0);
            }
        }
    }
}
