//! What statements cost over the last hour: a reading a minute of those that cost most, and a short trend of each.
//!
//! It must not know what is told of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::StatementRow;
use crate::engine::rates::{float, ratio};
use crate::format::seconds_between;
use crate::model::postgres::{Statement, StatementKey, Statements};

/// One reading of the counters is kept each minute, for an hour.
const MINUTE_SECONDS: f64 = 60.0;
/// The time whose mean stands for what is usual.
pub(super) const HOUR_SECONDS: f64 = 3600.0;
/// The time over which a rise in calls is judged.
pub(super) const RISE_SECONDS: f64 = 300.0;
/// Readings kept: an hour, the minute that is going on, and a quarter of an hour for who looks back as far.
const READINGS_MAX: usize = 77;
/// Statements kept of each reading: so many with the most calls, and with the most time.
const KEPT_OF_READING: usize = 500;
/// Statements with a trend.
const TRENDS_MAX: usize = 200;
/// Readings in a trend.
const TREND_LENGTH: usize = 8;

/// What was counted of a statement, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) at: Timestamp,
    pub(super) calls: i64,
    pub(super) total_exec_ms: f64,
}

impl Counted {
    pub(super) const fn of(row: &Statement, at: Timestamp) -> Self {
        Self { at, calls: row.calls, total_exec_ms: row.total_exec_ms }
    }
}

#[derive(Debug, Clone)]
struct Reading {
    at: Timestamp,
    counted: Arc<BTreeMap<StatementKey, Counted>>,
}

/// The last hour of the counters of one server.
#[derive(Debug, Default)]
pub(super) struct Past {
    reset: Option<Timestamp>,
    readings: VecDeque<Reading>,
    trends: BTreeMap<StatementKey, VecDeque<f32>>,
}

/// What a statement did over some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    /// Executions per second.
    pub(super) calls_per_second: f64,
    /// Mean execution time, milliseconds; `None` where it was not called.
    pub(super) mean_ms: Option<f64>,
}

impl Past {
    /// Keeps a reading, if a minute is over since the last one that was kept.
    pub(super) fn keep(&mut self, now: &Statements) {
        if self.reset != now.stats_reset {
            *self = Self { reset: now.stats_reset, ..Self::default() };
        }
        let is_due = |last: &Reading| MINUTE_SECONDS <= seconds_between(last.at, now.read_at);
        if !self.readings.back().is_none_or(is_due) {
            return;
        }
        let kept = most(&now.rows, |row| float(row.calls)).chain(most(&now.rows, |row| row.total_exec_ms));
        let counted = kept.map(|row| (row.key, Counted::of(row, now.read_at))).collect::<BTreeMap<_, _>>();
        let counted = Arc::new(counted);
        self.readings.push_back(Reading { at: now.read_at, counted });
        if self.readings.len() > READINGS_MAX {
            self.readings.pop_front();
        }
    }

    /// What was kept before a reading; nothing where the counters were reset since.
    pub(super) fn before(&self, now: &Statements) -> Self {
        let is_before = |reading: &&Reading| reading.at < now.read_at;
        let readings = self.readings.iter().take_while(is_before).cloned().collect();
        if self.reset == now.stats_reset {
            Self { reset: self.reset, readings, trends: BTreeMap::new() }
        } else {
            Self::default()
        }
    }

    /// How long it has been watched, up to a reading.
    pub(super) fn watched_seconds(&self, now: Timestamp) -> f64 {
        self.readings.front().map_or(0.0, |first| seconds_between(first.at, now))
    }

    /// What a statement did from so many seconds ago until now; `None` where it was not watched for as long, or was not
    /// among those that are kept.
    pub(super) fn span(&self, key: StatementKey, now: Counted, seconds: f64) -> Option<Span> {
        // The newest reading that is old enough.
        let then = self.readings.iter().rev().find(|it| seconds <= seconds_between(it.at, now.at))?;
        let before = then.counted.get(&key)?;
        let calls = float(now.calls - before.calls);
        (calls >= 0.0).then(|| Span {
            calls_per_second: calls / seconds_between(then.at, now.at),
            mean_ms: ratio((now.total_exec_ms - before.total_exec_ms).max(0.0), calls),
        })
    }

    /// Adds a reading to the trends of the statements that cost most, and gives each its own.
    pub(super) fn trend(&mut self, rows: &mut [StatementRow]) {
        let mut kept = BTreeMap::new();
        for row in rows.iter_mut().take(TRENDS_MAX) {
            let Some(cost) = row.exec_ms_per_second else { continue };
            let mut trend = self.trends.remove(&row.key).unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, reason = "digits are lost, which no trend shows")]
            trend.push_back(cost as f32);
            if trend.len() > TREND_LENGTH {
                trend.pop_front();
            }
            row.trend = trend.iter().map(|cost| Some(f64::from(*cost))).collect();
            kept.insert(row.key, trend);
        }
        self.trends = kept;
    }
}

/// The statements that weigh most.
fn most(rows: &[Statement], weight: fn(&Statement) -> f64) -> impl Iterator<Item = &Statement> {
    let mut ranked: Vec<&Statement> = rows.iter().collect();
    ranked.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    ranked.into_iter().take(KEPT_OF_READING)
}
