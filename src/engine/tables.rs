//! What each table was read since the reading before, and how far it is behind with VACUUM and ANALYZE.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rates::{float, ratio};
use crate::format::seconds_between;
use crate::model::Reading;
use crate::model::postgres::{Oid, Table, Tables};

/// The tables of one reading, in its order: the largest first.
#[derive(Debug, Clone)]
pub struct TableRows {
    /// The reading itself.
    pub read: Arc<Tables>,
    /// Seconds that the rates span; `None` before a second reading.
    pub interval_seconds: Option<f64>,
    /// The tables.
    pub rows: Reading<Vec<TableRow>>,
}

/// One table. Rates are `None` before a second reading.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// The table as it was read.
    pub table: Table,
    /// Sequential scans begun per second.
    pub seq_scans_per_second: Option<f64>,
    /// Rows read by sequential scans per second.
    pub seq_rows_read_per_second: Option<f64>,
    /// Scans of its indexes per second.
    pub index_scans_per_second: Option<f64>,
    /// Share of its rows that are dead; `None` where it has no rows.
    pub dead_ratio: Option<f64>,
    /// Share of its blocks found in the buffer cache, over the interval, or since the reset before a second reading.
    pub heap_hit_ratio: Option<f64>,
    /// The same of its indexes.
    pub index_hit_ratio: Option<f64>,
}

/// The reading that the next one is compared with.
#[derive(Debug, Default)]
pub struct TablesBaseline {
    before: Option<Arc<Tables>>,
    rows: Option<Arc<TableRows>>,
}

impl TablesBaseline {
    /// Derives the rows of a reading; between two readings they stay the same.
    pub fn derive(&mut self, read: Option<&Arc<Tables>>) -> Option<Arc<TableRows>> {
        let Some(now) = read else {
            *self = Self::default();
            return None;
        };
        if let Some(rows) = self.rows.as_ref().filter(|rows| Arc::ptr_eq(&rows.read, now)) {
            return Some(Arc::clone(rows));
        }
        let rows = Arc::new(rows(self.before.as_deref(), now));
        self.before = Some(Arc::clone(now));
        self.rows = Some(Arc::clone(&rows));
        Some(rows)
    }
}

fn rows(before: Option<&Tables>, now: &Arc<Tables>) -> TableRows {
    // Of counters that were reset in between nothing can be subtracted.
    let before = before.filter(|before| {
        before.counted.value().map(|it| it.stats_reset) == now.counted.value().map(|it| it.stats_reset)
    });
    let times =
        before.and_then(|before| Some((before.counted.value()?.read_at, now.counted.value()?.read_at)));
    let seconds = times.map(|(before, now)| seconds_between(before, now)).filter(|seconds| *seconds > 0.0);
    let earlier: BTreeMap<Oid, &Table> = before
        .and_then(|it| it.tables.value())
        .into_iter()
        .flatten()
        .map(|table| (table.oid, table))
        .collect();
    let rows = now.tables.map(|tables| {
        tables.iter().map(|table| row(table, earlier.get(&table.oid).copied(), seconds)).collect()
    });
    TableRows { read: Arc::clone(now), interval_seconds: seconds, rows }
}

fn row(now: &Table, before: Option<&Table>, seconds: Option<f64>) -> TableRow {
    let grown = |field: fn(&Table) -> i64| before.map(|before| float((field(now) - field(before)).max(0)));
    let per_second = |field| grown(field).zip(seconds).map(|(grown, seconds)| grown / seconds);
    let share = |hit: fn(&Table) -> i64, fetched: fn(&Table) -> i64| match (grown(hit), grown(fetched)) {
        (Some(hit), Some(fetched)) => ratio(hit, fetched),
        _ => ratio(float(hit(now)), float(fetched(now))),
    };
    TableRow {
        seq_scans_per_second: per_second(|it| it.seq_scans),
        seq_rows_read_per_second: per_second(|it| it.seq_rows_read),
        index_scans_per_second: per_second(|it| it.index_scans),
        dead_ratio: ratio(float(now.dead_rows), float(now.live_rows + now.dead_rows)),
        heap_hit_ratio: share(|it| it.heap_blks_hit, |it| it.heap_blks_fetched),
        index_hit_ratio: share(|it| it.index_blks_hit, |it| it.index_blks_fetched),
        table: now.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::postgres::Counted;
    use jiff::Timestamp;
    use pretty_assertions::assert_eq;

    fn table(oid: Oid, seq_scans: i64, dead_rows: i64) -> Table {
        Table {
            oid,
            name: "orders".into(),
            is_materialized_view: false,
            size_bytes: 8192,
            seq_scans,
            seq_rows_read: seq_scans * 100,
            live_rows: 100,
            dead_rows,
            changed_since_analyze: 0,
            vacuumed_at: None,
            analyzed_at: None,
            heap_blks_fetched: seq_scans * 10,
            heap_blks_hit: seq_scans * 9,
            index_blks_fetched: 0,
            index_blks_hit: 0,
            index_scans: 0,
        }
    }

    fn reading(second: i64, tables: Vec<Table>) -> Arc<Tables> {
        let read_at = Timestamp::from_second(second).unwrap();
        Arc::new(Tables {
            counted: Reading::Fresh(Counted { read_at, tables: 1, stats_reset: None }),
            tables: Reading::Fresh(tables),
            indexes: Reading::Fresh(Vec::new()),
            constraints: Reading::Fresh(Vec::new()),
            progress: Reading::Fresh(Vec::new()),
        })
    }

    #[test]
    fn rates_are_of_the_last_interval_and_ratios_of_what_was_asked_in_it() {
        let mut baseline = TablesBaseline::default();
        let first = baseline.derive(Some(&reading(0, vec![table(1, 10, 100)]))).unwrap();
        let row = |rows: &TableRows, place: usize| rows.rows.value().unwrap()[place].clone();
        assert_eq!((row(&first, 0).seq_scans_per_second, row(&first, 0).dead_ratio), (None, Some(0.5)));
        assert_eq!(row(&first, 0).heap_hit_ratio, Some(0.9), "since the reset, until there is more");
        let second = baseline.derive(Some(&reading(5, vec![table(1, 20, 0), table(2, 7, 0)]))).unwrap();
        assert_eq!(row(&second, 0).seq_scans_per_second, Some(2.0));
        assert_eq!(row(&second, 0).seq_rows_read_per_second, Some(200.0));
        assert_eq!(row(&second, 1).seq_scans_per_second, None, "not among the largest before");
        assert!(baseline.derive(None).is_none());
        let again = baseline.derive(Some(&reading(500, vec![table(1, 20, 0)]))).unwrap();
        assert_eq!(again.interval_seconds, None, "nobody looked in between");
    }
}
