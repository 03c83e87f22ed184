//! What each statement cost since the sample before: deltas of `pg_stat_statements`.
//!
//! Entries are told apart by (userid, dbid, toplevel, queryid). One that is new began at zero, so its value is its
//! growth; one that went down was evicted or reset, and its value is the part of the growth that is known.

mod past;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use self::past::{Counted, HOUR_SECONDS, Past, RISE_SECONDS};
use super::rates::{float, ratio};
use super::{Baseline, Series};
use crate::format::seconds_between;
use crate::model::Reading;
use crate::model::postgres::{Oid, Sample, Statement, StatementKey, Statements};

/// All statements of one reading, costliest now first.
#[derive(Debug, Clone)]
pub struct StatementTable {
    /// Seconds that the rates span; `None` before a second reading.
    pub interval_seconds: Option<f64>,
    /// The statements.
    pub rows: Vec<StatementRow>,
    /// Entries of other roles that ours may not see into.
    pub hidden_rows: u64,
    /// Entries evicted since the reading before; `None` when unknown.
    pub evicted: Option<i64>,
    /// When the counters were last reset; `None` before 14.
    pub stats_reset: Option<Timestamp>,
    /// Where what is usual comes from.
    pub usual: Usual,
}

/// Where the figures of before come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Usual {
    /// What the counters hold from before: since their reset, or since the entry was made.
    #[default]
    SinceReset,
    /// The hour before, which we have watched.
    LastHour,
}

/// One statement. Rates are `None` before a second reading, means where it was not called.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementRow {
    /// Which statement.
    pub key: StatementKey,
    /// Completed executions per second.
    pub calls_per_second: Option<f64>,
    /// Milliseconds of execution per second: a thousandth of the sessions it keeps busy.
    pub exec_ms_per_second: Option<f64>,
    /// Share of all execution time of the interval.
    pub share: Option<f64>,
    /// Mean execution time over the interval, milliseconds.
    pub mean_ms: Option<f64>,
    /// Mean execution time before the interval, milliseconds: over the last hour once that was watched, else of
    /// everything that was counted.
    pub mean_ms_before: Option<f64>,
    /// Executions per second over the same time; `None` where since when they are counted is not known.
    pub calls_per_second_before: Option<f64>,
    /// Executions per second over the last five minutes; `None` until they were watched.
    pub calls_per_second_recent: Option<f64>,
    /// Execution time over the last readings, milliseconds per second; empty for one that costs little.
    pub trend: Series,
    /// Mean execution time since the entry was made, milliseconds.
    pub mean_ms_since_reset: Option<f64>,
    /// How many times slower it is than before.
    pub slowdown: Option<f64>,
    /// Rows per call over the interval.
    pub rows_per_call: Option<f64>,
    /// Share of shared blocks found in the buffer cache, over the interval.
    pub hit_ratio: Option<f64>,
    /// Temporary blocks read and written per second.
    pub temp_blocks_per_second: Option<f64>,
    /// Write-ahead log generated per second, bytes.
    pub wal_bytes_per_second: Option<f64>,
    /// Share of its time that went into planning; `None` where planning is not counted.
    pub plan_share: Option<f64>,
    /// The longest execution since the entry was made, milliseconds.
    pub max_ms_since_reset: f64,
    /// One standard deviation of its executions since the entry was made, milliseconds.
    pub stddev_ms_since_reset: f64,
    /// Total execution time since the entry was made, milliseconds.
    pub total_exec_ms: f64,
    /// Whether part of the growth is unknown because the entry was evicted or reset meanwhile.
    pub partial: bool,
    /// The normalised text, once read.
    pub query: Option<Arc<str>>,
}

type Texts = BTreeMap<StatementKey, Arc<str>>;
type Own = BTreeSet<(Oid, i64)>;

/// The reading that the next one is compared with.
#[derive(Debug, Default)]
pub struct StatementBaseline {
    before: Option<Arc<Statements>>,
    /// What our own sessions were seen to run, by role and statement.
    own: BTreeSet<(Oid, i64)>,
    past: Past,
    table: Option<(Timestamp, usize, Arc<StatementTable>)>,
}

impl StatementBaseline {
    /// Derives the table of a sample; between two readings of the counters the table stays the same.
    pub fn derive(&mut self, sample: &Sample, baseline: Baseline) -> Reading<Arc<StatementTable>> {
        let Some(now) = sample.statements.value() else {
            *self = Self::default();
            return sample.statements.map(|_| {
                let nothing = Statements::empty(sample.server_time);
                Arc::new(table(None, &nothing, &self.past, &BTreeMap::new(), &BTreeSet::new()))
            });
        };
        self.note_own(sample);
        let texts = &sample.statement_texts;
        if let Some((read_at, known_texts, table)) = &self.table
            && *read_at == now.read_at
            && *known_texts == texts.len()
        {
            return sample.statements.map(|_| Arc::clone(table));
        }
        let compared = match &self.table {
            // Only texts have come since: the rates still span the reading before.
            Some((read_at, _, old)) if *read_at == now.read_at => Arc::new(with_texts(old, texts, &self.own)),
            Some(_) | None => Arc::new(self.compare(now, texts)),
        };
        self.table = Some((now.read_at, texts.len(), Arc::clone(&compared)));
        if baseline == Baseline::Previous || self.before.is_none() {
            self.before = Some(Arc::clone(now));
        }
        sample.statements.map(|_| compared)
    }

    /// What was known before a sample, but for the reading before it.
    pub(super) fn before(&self, sample: &Sample) -> Self {
        let past = sample.statements.value().map(|now| self.past.before(now)).unwrap_or_default();
        Self { own: self.own.clone(), past, ..Self::default() }
    }

    /// Compares a reading with the one before, and with the hour before.
    fn compare(&mut self, now: &Statements, texts: &Texts) -> StatementTable {
        let mut table = table(self.before.as_deref(), now, &self.past, texts, &self.own);
        self.past.keep(now);
        self.past.trend(&mut table.rows);
        table
    }

    fn note_own(&mut self, sample: &Sample) {
        let sessions = sample.sessions.value().into_iter().flatten();
        let own = sessions.filter(|session| sample.server.own_pids.contains(&session.id.pid));
        self.own.extend(own.filter_map(|session| Some((session.usesysid?, session.query_id?))));
    }
}

fn with_texts(table: &StatementTable, texts: &Texts, own: &Own) -> StatementTable {
    let mut table = table.clone();
    for row in &mut table.rows {
        row.query = row.query.take().or_else(|| texts.get(&row.key).cloned());
    }
    table.rows.retain(|row| !is_ours(row, own));
    table
}

fn table(
    before: Option<&Statements>,
    now: &Statements,
    past: &Past,
    texts: &Texts,
    own: &Own,
) -> StatementTable {
    // Entries that have become visible by a GRANT would read as if they had just begun, and entries that were all
    // reset as if they had gone on.
    let before = before
        .filter(|before| before.hidden_rows <= now.hidden_rows && before.stats_reset == now.stats_reset);
    let seconds = before.map(|before| seconds_between(before.read_at, now.read_at)).filter(|s| *s > 0.0);
    let earlier: BTreeMap<StatementKey, &Statement> =
        before.map(|before| before.rows.iter().map(|row| (row.key, row)).collect()).unwrap_or_default();
    let is_hour_known = HOUR_SECONDS <= past.watched_seconds(now.read_at);
    let derive = |statement: &Statement| {
        let earlier = earlier.get(&statement.key).copied();
        let mut row = statement_row(statement, earlier, seconds, texts.get(&statement.key).cloned());
        let counted_before =
            before.zip(earlier).map(|(before, statement)| Counted::of(statement, before.read_at));
        let since = statement.stats_since.or(now.stats_reset);
        row.calls_per_second_before = counted_before.zip(since).and_then(|(counted, since)| {
            ratio(float(counted.calls), seconds_between(since, counted.at).max(0.0))
        });
        if let Some(hour) = counted_before
            .filter(|_| is_hour_known)
            .and_then(|counted| past.span(row.key, counted, HOUR_SECONDS))
        {
            row.compare_with(hour);
        }
        let recent = past.span(row.key, Counted::of(statement, now.read_at), RISE_SECONDS);
        row.calls_per_second_recent = recent.map(|it| it.calls_per_second);
        row
    };
    let mut rows: Vec<StatementRow> = now.rows.iter().map(derive).filter(|row| !is_ours(row, own)).collect();
    let total: f64 = rows.iter().filter_map(|row| row.exec_ms_per_second).sum();
    for row in &mut rows {
        row.share = row.exec_ms_per_second.and_then(|ms| ratio(ms, total));
    }
    let cost = |row: &StatementRow| row.exec_ms_per_second.unwrap_or_default();
    rows.sort_by(|a, b| {
        cost(b).total_cmp(&cost(a)).then(b.total_exec_ms.total_cmp(&a.total_exec_ms)).then(a.key.cmp(&b.key))
    });
    let evicted = before.and_then(|before| Some(now.dealloc? - before.dealloc?)).filter(|grown| *grown >= 0);
    StatementTable {
        interval_seconds: seconds,
        rows,
        hidden_rows: now.hidden_rows,
        evicted,
        stats_reset: now.stats_reset,
        usual: if is_hour_known { Usual::LastHour } else { Usual::SinceReset },
    }
}

impl StatementRow {
    /// Takes what it did over the last hour for what is usual.
    fn compare_with(&mut self, hour: past::Span) {
        self.calls_per_second_before = Some(hour.calls_per_second);
        if let Some(mean_ms) = hour.mean_ms {
            self.mean_ms_before = Some(mean_ms);
            self.slowdown = self.mean_ms.and_then(|now| ratio(now, mean_ms));
        }
    }
}

/// Our own readings are in there too; they would only distract. Most are known by their mark, which from 18 on is the
/// one inside (the comment before a statement is left out), the newest by what our sessions ran.
fn is_ours(row: &StatementRow, own: &Own) -> bool {
    row.query.as_deref().map_or_else(
        || own.contains(&(row.key.userid, row.key.queryid)),
        |text| text.starts_with("/* dbtriage:") || text.starts_with("SELECT /* dbtriage */"),
    )
}

fn statement_row(
    now: &Statement,
    before: Option<&Statement>,
    seconds: Option<f64>,
    query: Option<Arc<str>>,
) -> StatementRow {
    let restarted =
        before.is_some_and(|before| now.calls < before.calls || now.stats_since != before.stats_since);
    let base = before.filter(|_| !restarted);
    let grown = |field: fn(&Statement) -> f64| (field(now) - base.map_or(0.0, field)).max(0.0);
    let per_second = |growth: f64| seconds.map(|seconds| growth / seconds);
    let calls = grown(|s| float(s.calls));
    let exec_ms = grown(|s| s.total_exec_ms);
    let hit = grown(|s| float(s.shared_blks_hit));
    let read = grown(|s| float(s.shared_blks_read));
    let per_call = |growth: f64| seconds.and_then(|_| ratio(growth, calls));
    let mean_ms = per_call(exec_ms);
    let mean_ms_before = base.and_then(|before| ratio(before.total_exec_ms, float(before.calls)));
    StatementRow {
        key: now.key,
        calls_per_second: per_second(calls),
        exec_ms_per_second: per_second(exec_ms),
        share: None,
        mean_ms,
        mean_ms_before,
        calls_per_second_before: None,
        calls_per_second_recent: None,
        trend: Series::new(),
        mean_ms_since_reset: ratio(now.total_exec_ms, float(now.calls)),
        slowdown: mean_ms.zip(mean_ms_before).and_then(|(now, before)| ratio(now, before)),
        rows_per_call: per_call(grown(|s| float(s.rows))),
        hit_ratio: seconds.and_then(|_| ratio(hit, hit + read)),
        temp_blocks_per_second: per_second(grown(|s| float(s.temp_blks))),
        wal_bytes_per_second: per_second(grown(|s| s.wal_bytes)),
        plan_share: seconds
            .filter(|_| now.total_plan_ms > 0.0)
            .and_then(|_| ratio(grown(|s| s.total_plan_ms), grown(|s| s.total_plan_ms) + exec_ms)),
        max_ms_since_reset: now.max_exec_ms,
        stddev_ms_since_reset: now.stddev_exec_ms,
        total_exec_ms: now.total_exec_ms,
        partial: restarted,
        query,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn statement(queryid: i64, calls: i64, total_exec_ms: f64) -> Statement {
        Statement {
            key: StatementKey { userid: 10, dbid: 5, toplevel: true, queryid },
            calls,
            total_exec_ms,
            rows: calls,
            shared_blks_hit: 0,
            shared_blks_read: 0,
            temp_blks: 0,
            stats_since: None,
            total_plan_ms: 0.0,
            max_exec_ms: 90.0,
            stddev_exec_ms: 3.0,
            wal_bytes: float(calls) * 100.0,
        }
    }

    fn reading(second: i64, rows: Vec<Statement>) -> Statements {
        let read_at = Timestamp::from_second(second).unwrap();
        Statements { rows, ..Statements::empty(read_at) }
    }

    #[test]
    fn growth_is_told_from_history() {
        let before = reading(0, vec![statement(1, 100, 4100.0), statement(2, 50, 10.0)]);
        let now = reading(2, vec![statement(1, 108, 68_100.0), statement(2, 20, 5.0), statement(3, 4, 8.0)]);
        let table = table(Some(&before), &now, &Past::default(), &BTreeMap::new(), &BTreeSet::new());
        let slow = &table.rows[0];
        assert_eq!(slow.key.queryid, 1);
        assert_eq!(slow.calls_per_second, Some(4.0));
        assert_eq!(slow.exec_ms_per_second, Some(32_000.0));
        assert_eq!(slow.mean_ms, Some(8000.0));
        assert_eq!(slow.mean_ms_before, Some(41.0));
        assert_eq!(slow.slowdown.map(f64::round), Some(195.0));
        let find = |id| table.rows.iter().find(|row| row.key.queryid == id).unwrap();
        // Evicted and made again: what it counts now is what is known.
        assert_eq!((find(2).calls_per_second, find(2).partial, find(2).slowdown), (Some(10.0), true, None));
        // New since the reading before: it began at zero.
        assert_eq!((find(3).calls_per_second, find(3).partial), (Some(2.0), false));
    }

    #[test]
    fn the_first_reading_has_no_rates() {
        let first = reading(0, vec![statement(1, 100, 4100.0)]);
        let table = table(None, &first, &Past::default(), &BTreeMap::new(), &BTreeSet::new());
        assert_eq!(table.interval_seconds, None);
        assert_eq!((table.rows[0].calls_per_second, table.rows[0].mean_ms_since_reset), (None, Some(41.0)));
    }

    /// Every second for some time a statement is called so often and takes so long, and after that otherwise.
    fn watched(seconds: i64, usual: (i64, f64), now: (i64, f64)) -> StatementRow {
        let mut baseline = StatementBaseline::default();
        let (mut calls, mut total) = (0, 0.0);
        let mut last = None;
        for second in 0..=seconds {
            let (each, mean) = if second + 330 < seconds { usual } else { now };
            calls += each;
            total += float(each) * mean;
            let read = Arc::new(reading(second, vec![statement(1, calls, total)]));
            last = Some(baseline.compare(&read, &BTreeMap::new()));
            baseline.before = Some(read);
        }
        last.unwrap().rows[0].clone()
    }

    #[test]
    fn once_an_hour_was_watched_it_stands_for_what_is_usual() {
        // Counted for ages at 1 ms, the last hour at 10 ms, now at 40 ms: the slow-down is against the hour.
        let row = watched(4200, (5, 10.0), (20, 40.0));
        assert_eq!(row.calls_per_second_recent.map(f64::round), Some(20.0));
        let before = row.calls_per_second_before.unwrap();
        assert!((5.0..7.0).contains(&before), "{before}");
        assert!(row.slowdown.is_some_and(|factor| (1.5..4.0).contains(&factor)), "{row:?}");
        let short = watched(600, (5, 10.0), (20, 40.0));
        assert_eq!(short.calls_per_second_before, None, "neither an hour nor a reset is known");
        assert_eq!(short.trend.len(), 8);
    }
}
