//! Pane 3: which statements cost most now.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::list::{ListState, RowKey};
use super::table::{Align, Cell, Column, Role, Sort, Sql, Value, Width};
use crate::engine::PgTick;
use crate::engine::filter::Filter;
use crate::engine::statements::StatementRow;

/// State of the pane.
#[derive(Debug)]
pub struct StatementsView {
    /// Rows and selection.
    pub list: ListState,
    /// The order of the rows.
    pub sort: Sort,
    /// The text filter as typed.
    pub filter_text: String,
    /// Only these statements are shown: those that waited as is looked at in Waits.
    pub only: Option<BTreeSet<i64>>,
    /// Statements that the filter leaves out.
    pub hidden: usize,
}

impl Default for StatementsView {
    fn default() -> Self {
        Self {
            list: ListState::default(),
            sort: Sort { column: "time", descending: true },
            filter_text: String::new(),
            only: None,
            hidden: 0,
        }
    }
}

/// A column of the pane.
pub(super) type StatementColumn = Column<fn(&StatementRow) -> Cell>;

const fn column(
    name: &'static str,
    title: &'static str,
    width: u16,
    priority: u8,
    cell: fn(&StatementRow) -> Cell,
) -> StatementColumn {
    Column { name, title, width: Width::Fixed(width), align: Align::Right, priority, cell }
}

/// How many times slower a statement must be to be marked, and from which mean on.
const SLOWDOWN_MARKED: f64 = 3.0;
const SLOW_MEAN_MS: f64 = 100.0;

/// Every column, in the default order.
pub(super) const COLUMNS: &[StatementColumn] = &[
    column("time", "time/s", 7, 1, |row| {
        Value::known(row.exec_ms_per_second, |ms| Value::Count(ms / 1000.0)).into()
    }),
    column("trend", "trend", 8, 6, |row| {
        let value = if row.trend.is_empty() { Value::None } else { Value::Trend(row.trend.clone()) };
        Cell { value, role: Role::Dim }
    }),
    column("share", "share", 6, 5, |row| Value::some(row.share, Value::Share).into()),
    column("calls", "calls/s", 8, 1, |row| Value::known(row.calls_per_second, Value::Count).into()),
    column("mean", "mean now", 9, 1, |row| Value::some(row.mean_ms, Value::DurationMs).into()),
    column("before", "before", 8, 3, |row| {
        Value::some(
            row.mean_ms_before.or_else(|| row.mean_ms_since_reset.filter(|_| row.calls_per_second.is_none())),
            Value::DurationMs,
        )
        .into()
    }),
    column("slower", "slower", 7, 2, |row| {
        let marked = row.slowdown.is_some_and(|factor| SLOWDOWN_MARKED <= factor)
            && row.mean_ms.is_some_and(|ms| SLOW_MEAN_MS <= ms);
        Cell {
            value: Value::some(row.slowdown, Value::Factor),
            role: if marked { Role::Warning } else { Role::Text },
        }
    }),
    column("rows", "rows/call", 9, 4, |row| Value::some(row.rows_per_call, Value::Count).into()),
    column("hit", "hit", 6, 4, |row| Value::some(row.hit_ratio, Value::Share).into()),
    column("temp", "temp blk/s", 10, 7, |row| Value::known(row.temp_blocks_per_second, Value::Count).into()),
    column("wal", "wal/s", 8, 8, |row| Value::known(row.wal_bytes_per_second, Value::Bytes).into()),
    column("plan", "plan", 6, 9, |row| Value::some(row.plan_share, Value::Share).into()),
    column("max", "max", 8, 8, |row| Value::DurationMs(row.max_ms_since_reset).into()),
    column("stddev", "stddev", 8, 10, |row| Value::DurationMs(row.stddev_ms_since_reset).into()),
    Column {
        name: "query",
        title: "query",
        width: Width::Rest,
        align: Align::Left,
        priority: 0,
        cell: |row| match &row.query {
            Some(query) => Value::Sql(Sql { text: Arc::clone(query), ..Sql::default() }).into(),
            None => Cell {
                value: Value::Text(format!("(text not read yet, query id {})", row.key.queryid)),
                role: Role::Dim,
            },
        },
    },
];

impl StatementsView {
    /// Lists the rows anew.
    pub(super) fn refresh(&mut self, tick: &PgTick, columns: &[StatementColumn]) {
        let filter = Filter::parse(&self.filter_text);
        let Some(table) = tick.statements.value() else {
            self.list.set_rows(Vec::new());
            return;
        };
        // What has no text yet and was not called tells nobody anything.
        let tells =
            |row: &&StatementRow| row.query.is_some() || row.calls_per_second.is_none_or(|calls| calls > 0.0);
        let passes = |row: &&StatementRow| {
            self.only.as_ref().is_none_or(|only| only.contains(&row.key.queryid))
                && (filter.is_empty() || row.query.as_deref().is_some_and(|query| filter.passes(query)))
        };
        let told: Vec<&StatementRow> = table.rows.iter().filter(tells).collect();
        let shown: Vec<&StatementRow> = told.iter().copied().filter(passes).collect();
        self.hidden = told.len() - shown.len();
        let mut rows = shown;
        if let Some(by) = columns.iter().find(|column| column.name == self.sort.column) {
            let mut values: Vec<(Value, &StatementRow)> =
                rows.iter().map(|row| ((by.cell)(row).value, *row)).collect();
            // Stable: equals keep the engine's order, costliest first.
            values.sort_by(|a, b| a.0.compare(&b.0, self.sort.descending));
            rows = values.into_iter().map(|(_, row)| row).collect();
        }
        self.list.set_rows(rows.into_iter().map(|row| RowKey::Statement(row.key)).collect());
    }
}

/// The statement of a key.
pub(super) fn find<'a>(tick: &'a PgTick, key: &RowKey) -> Option<&'a StatementRow> {
    let RowKey::Statement(key) = key else { return None };
    tick.statements.value()?.rows.iter().find(|row| row.key == *key)
}
