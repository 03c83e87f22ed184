//! The limits of the checks, and when a figure has reached one.
//!
//! It must not know what a figure means.

use serde::{Deserialize, Serialize};

use super::Severity;

/// What was told goes only when the figure is this much below the limit, so that nothing flickers at the limit.
const RELEASE: f64 = 0.95;

/// The same for a figure that is to be high, in its own unit.
const RELEASE_ABOVE: f64 = 1.0;

/// The limits of one figure; one that is left out is not checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From here on worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<f64>,
    /// From here on a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// From here on critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
}

impl Limits {
    const fn notice(notice: f64) -> Self {
        Self { notice: Some(notice), warning: None, critical: None }
    }

    const fn warning(warning: f64) -> Self {
        Self { notice: None, warning: Some(warning), critical: None }
    }

    const fn two(warning: f64, critical: f64) -> Self {
        Self { notice: None, warning: Some(warning), critical: Some(critical) }
    }

    const fn three(notice: f64, warning: f64, critical: f64) -> Self {
        Self { notice: Some(notice), warning: Some(warning), critical: Some(critical) }
    }

    /// Which limit a figure that is to be low has reached, and that limit; `told` is what was told before.
    pub(super) fn judge(&self, value: f64, told: Option<Severity>) -> Option<(Severity, f64)> {
        self.worst_first().find(|(severity, limit)| {
            let is_told = told >= Some(*severity);
            (if is_told { limit * RELEASE } else { *limit }) <= value
        })
    }

    /// The same for a figure that is to be high: which limit it has fallen below.
    pub(super) fn judge_below(&self, value: f64, told: Option<Severity>) -> Option<(Severity, f64)> {
        self.worst_first().find(|(severity, limit)| {
            let is_told = told >= Some(*severity);
            value < (if is_told { limit + RELEASE_ABOVE } else { *limit })
        })
    }

    /// The same for an age up to which something is told.
    pub(super) fn judge_until(&self, seconds: f64) -> Option<(Severity, f64)> {
        self.worst_first().find(|(_, limit)| seconds < *limit)
    }

    fn worst_first(&self) -> impl Iterator<Item = (Severity, f64)> {
        let limits = [
            (Severity::Critical, self.critical),
            (Severity::Warning, self.warning),
            (Severity::Notice, self.notice),
        ];
        limits.into_iter().filter_map(|(severity, limit)| Some((severity, limit?)))
    }
}

/// Limits of every check. The sources of the defaults: the runbooks, and public alert rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Connections in use, per cent of those open to ordinary roles.
    pub connections_percent: Limits,
    /// Connections that one application or one client holds, per cent of those open to ordinary roles.
    pub connection_hog_percent: Limits,
    /// Time that a session idles, seconds; it is told only while connections are near their limit.
    pub idle_sessions_seconds: Limits,
    /// Sessions blocked by one root before it is a finding at all, whatever they wait.
    pub blocking_sessions: f64,
    /// Longest wait for a lock, seconds.
    pub blocking_seconds: Limits,
    /// Time idle in a transaction, seconds.
    pub idle_in_transaction_seconds: Limits,
    /// Age of a transaction that does not idle, seconds.
    pub long_transaction_seconds: Limits,
    /// Time that a statement runs without waiting for a lock, seconds.
    pub slow_active_seconds: Limits,
    /// Sessions that must run one statement for so long before it is critical.
    pub slow_active_sessions: f64,
    /// Mean of all executions of the last interval, milliseconds.
    pub query_latency_ms: Limits,
    /// Mean of one statement over the last interval, milliseconds.
    pub slow_statement_ms: Limits,
    /// Mean of one statement as a multiple of its mean before.
    pub statement_regression_factor: Limits,
    /// Transactions per second over five minutes, as a multiple of those of the last hour.
    pub operation_spike_factor: Limits,
    /// The same as a multiple of the average since the counters were reset, until an hour was watched.
    pub operation_spike_since_reset_factor: Limits,
    /// Commits that wait for a synchronous standby, seconds.
    pub sync_rep_seconds: Limits,
    /// Replay behind the primary, seconds.
    pub replication_lag_seconds: Limits,
    /// Replay behind the primary, bytes.
    pub replication_lag_bytes: Limits,
    /// Log that a slot keeps, bytes.
    pub slot_retention_bytes: Limits,
    /// Transactions rolled back, per cent, over a minute.
    pub rollback_percent: Limits,
    /// Deadlocks in a minute.
    pub deadlocks_per_minute: Limits,
    /// Temporary files written, bytes per second, over a minute.
    pub temp_bytes_per_second: Limits,
    /// Blocks found in the buffer cache, per cent, over five minutes with traffic.
    pub buffer_hit_percent: Limits,
    /// Keys found in Redis, per cent, over a minute with traffic.
    pub redis_hit_percent: Limits,
    /// Memory of Redis, per cent of its limit, where nothing is evicted.
    pub redis_memory_percent: Limits,
    /// Keys evicted from Redis per second, over a minute.
    pub redis_evictions_per_second: Limits,
    /// Clients of Redis, per cent of `maxclients`.
    pub redis_clients_percent: Limits,
    /// How long a restart is told, seconds.
    pub restart_told_seconds: Limits,
    /// How long a change of role is told, seconds.
    pub role_change_told_seconds: Limits,
    /// How long a standby has been gone, seconds.
    pub standby_gone_seconds: Limits,
    /// How long a failure to archive is told, seconds; the archiver tries again every minute.
    pub archiver_failed_seconds: Limits,
    /// Checkpoints that came before their time, while it was watched.
    pub checkpoints_requested: Limits,
    /// Transactions since a database was frozen, per cent of what there are.
    pub wraparound_percent: Limits,
    /// Objects in the lock table, per cent of those that fit.
    pub locks_percent: Limits,
    /// Transactions since the oldest snapshot that holds back VACUUM.
    pub xmin_age_xids: Limits,
    /// Write-ahead log, bytes per second, over five minutes.
    pub wal_bytes_per_second: Limits,
    /// Time that nobody has used a slot, seconds.
    pub slot_inactive_seconds: Limits,
    /// Queries on a standby cancelled because of replay, in a minute.
    pub conflicts_per_minute: Limits,
    /// Temporary files created, per second, over a minute.
    pub temp_files_per_second: Limits,
    /// Dead rows, per cent of a table's rows, from ten thousand on.
    pub dead_rows_percent: Limits,
    /// Rows changed since the last ANALYZE, per cent of a table's rows, from a hundred thousand on.
    pub stale_statistics_percent: Limits,
    /// The slowest command of the last minute in Redis, seconds.
    pub redis_slow_seconds: Limits,
    /// Checks that stay silent, by name.
    pub silenced: Vec<String>,
    /// Applications whose statements may take long, by the beginning of their name: those that are protected from acting
    /// on many.
    #[serde(skip)]
    pub protected: Vec<String>,
}

impl Default for Thresholds {
    fn default() -> Self {
        const MB: f64 = 1_000_000.0;
        const MIB: f64 = 1_048_576.0;
        Self {
            connections_percent: Limits::two(80.0, 95.0),
            connection_hog_percent: Limits::warning(50.0),
            idle_sessions_seconds: Limits::notice(300.0),
            blocking_sessions: 3.0,
            blocking_seconds: Limits::two(30.0, 60.0),
            idle_in_transaction_seconds: Limits::two(300.0, 900.0),
            long_transaction_seconds: Limits::two(120.0, 900.0),
            slow_active_seconds: Limits::three(5.0, 60.0, 300.0),
            slow_active_sessions: 3.0,
            query_latency_ms: Limits::warning(100.0),
            slow_statement_ms: Limits::two(1_000.0, 5_000.0),
            statement_regression_factor: Limits::warning(3.0),
            operation_spike_factor: Limits::notice(2.0),
            operation_spike_since_reset_factor: Limits::notice(5.0),
            sync_rep_seconds: Limits { notice: None, warning: None, critical: Some(5.0) },
            replication_lag_seconds: Limits::three(2.0, 5.0, 30.0),
            replication_lag_bytes: Limits::two(100.0 * MB, 1_000.0 * MB),
            slot_retention_bytes: Limits::two(1_000.0 * MB, 5_000.0 * MB),
            rollback_percent: Limits::warning(10.0),
            deadlocks_per_minute: Limits::warning(5.0),
            temp_bytes_per_second: Limits::warning(10.0 * MB),
            buffer_hit_percent: Limits::warning(95.0),
            redis_hit_percent: Limits::two(70.0, 30.0),
            redis_memory_percent: Limits::two(90.0, 100.0),
            redis_evictions_per_second: Limits::notice(10.0),
            redis_clients_percent: Limits::two(80.0, 95.0),
            restart_told_seconds: Limits::warning(300.0),
            role_change_told_seconds: Limits::warning(300.0),
            standby_gone_seconds: Limits::two(5.0, 60.0),
            archiver_failed_seconds: Limits::warning(300.0),
            checkpoints_requested: Limits::warning(3.0),
            wraparound_percent: Limits::two(50.0, 75.0),
            locks_percent: Limits::two(20.0, 60.0),
            xmin_age_xids: Limits { notice: Some(300_000.0), warning: Some(1_000_000.0), critical: None },
            wal_bytes_per_second: Limits::warning(35.0 * MIB),
            slot_inactive_seconds: Limits::two(600.0, 1800.0),
            conflicts_per_minute: Limits { notice: Some(1.0), warning: Some(5.0), critical: None },
            temp_files_per_second: Limits::warning(1.0),
            // By default autovacuum begins at 20 per cent dead and 10 per cent changed.
            dead_rows_percent: Limits { notice: Some(30.0), warning: Some(60.0), critical: None },
            stale_statistics_percent: Limits::notice(50.0),
            redis_slow_seconds: Limits { notice: Some(0.1), warning: Some(1.0), critical: None },
            silenced: Vec::new(),
            protected: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const LIMITS: Limits = Limits::two(80.0, 95.0);

    #[test]
    fn limits_are_reached_not_passed() {
        assert_eq!(LIMITS.judge(79.9, None), None);
        assert_eq!(LIMITS.judge(80.0, None), Some((Severity::Warning, 80.0)));
        assert_eq!(LIMITS.judge(95.0, None), Some((Severity::Critical, 95.0)));
        let high = Limits::two(70.0, 30.0);
        assert_eq!(high.judge_below(70.0, None), None);
        assert_eq!(high.judge_below(69.9, None), Some((Severity::Warning, 70.0)));
        assert_eq!(high.judge_below(29.9, None), Some((Severity::Critical, 30.0)));
    }

    #[test]
    fn what_was_told_goes_with_some_distance_only() {
        let told = Some(Severity::Critical);
        assert_eq!(LIMITS.judge(91.0, told), Some((Severity::Critical, 95.0)));
        assert_eq!(LIMITS.judge(90.0, told), Some((Severity::Warning, 80.0)));
        assert_eq!(LIMITS.judge(77.0, Some(Severity::Warning)), Some((Severity::Warning, 80.0)));
        assert_eq!(LIMITS.judge(75.0, Some(Severity::Warning)), None);
        assert_eq!(
            LIMITS.judge(94.0, Some(Severity::Warning)),
            Some((Severity::Warning, 80.0)),
            "not yet critical"
        );
        let high = Limits::two(70.0, 30.0);
        assert_eq!(high.judge_below(70.5, Some(Severity::Warning)), Some((Severity::Warning, 70.0)));
        assert_eq!(high.judge_below(71.0, Some(Severity::Warning)), None);
    }
}
