//! Pane 7: tables, the indexes and constraints that need somebody, and what works on relations now.

mod sheets;

use std::sync::Arc;

pub(super) use sheets::{cure, sheet};

use super::list::{ListState, RowKey};
use super::table::{Align, Cell, Column, Role, Sort, Sql, Value, Width};
use crate::engine::PgTick;
use crate::engine::filter::Filter;
use crate::engine::tables::{TableRow, TableRows};
use crate::format::seconds_between;
use crate::model::postgres::{Constraint, Index, Oid};

/// Which of its lists the pane shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::EnumIter)]
pub enum Shown {
    /// The largest tables.
    #[default]
    Tables,
    /// Indexes that are invalid or hardly used.
    Indexes,
    /// Constraints that are not validated.
    Constraints,
}

impl Shown {
    /// The list after this one.
    const fn next(self) -> Self {
        match self {
            Self::Tables => Self::Indexes,
            Self::Indexes => Self::Constraints,
            Self::Constraints => Self::Tables,
        }
    }
}

/// State of the pane.
#[derive(Debug)]
pub struct TablesView {
    /// Rows and selection.
    pub list: ListState,
    /// Which list is shown.
    pub shown: Shown,
    /// The order of the tables.
    pub sort: Sort,
    /// The text filter as typed.
    pub filter_text: String,
    /// Rows that the filter leaves out.
    pub hidden: usize,
    /// A relation that a finding is about: selected as soon as it has been read.
    pub(super) wanted: Option<Oid>,
}

impl Default for TablesView {
    fn default() -> Self {
        Self {
            list: ListState::default(),
            shown: Shown::default(),
            sort: Sort { column: "rows-read", descending: true },
            filter_text: String::new(),
            hidden: 0,
            wanted: None,
        }
    }
}

/// A table and the tick it is seen in.
#[derive(Debug, Clone, Copy)]
pub struct TableLine<'a> {
    /// The table.
    pub row: &'a TableRow,
    /// For the server's clock.
    pub tick: &'a PgTick,
}

impl TableLine<'_> {
    fn age(&self, at: Option<jiff::Timestamp>) -> Value {
        at.map_or_else(
            || Value::Text("never".into()),
            |at| Value::Age(seconds_between(at, self.tick.sample.server_time)),
        )
    }
}

/// How a row becomes a cell.
pub type CellOf<T> = fn(&T) -> Cell;
/// A column of the list of tables.
pub(super) type TableColumn = Column<fn(&TableLine<'_>) -> Cell>;
/// A column of the list of indexes.
pub(super) type IndexColumn = Column<CellOf<Index>>;
/// A column of the list of constraints.
pub(super) type ConstraintColumn = Column<CellOf<Constraint>>;

const fn column<F>(name: &'static str, title: &'static str, width: u16, priority: u8, cell: F) -> Column<F> {
    Column { name, title, width: Width::Fixed(width), align: Align::Right, priority, cell }
}

const fn text_column<F>(
    name: &'static str,
    title: &'static str,
    width: Width,
    priority: u8,
    cell: F,
) -> Column<F> {
    Column { name, title, width, align: Align::Left, priority, cell }
}

/// From here on dead rows are worth a mark: so many, and such a share (public alert rules).
const DEAD_ROWS_MARKED: i64 = 10_000;
const DEAD_RATIO_MARKED: f64 = 0.1;

#[expect(clippy::cast_precision_loss, reason = "sizes and counts are shown with three digits")]
const fn float(number: i64) -> f64 {
    number as f64
}

/// Every column of the tables, in the default order.
pub(super) const COLUMNS: &[TableColumn] = &[
    column("size", "size ~", 7, 2, |line| Value::Bytes(float(line.row.table.size_bytes)).into()),
    column("rows", "rows ~", 7, 5, |line| Value::Count(float(line.row.table.live_rows)).into()),
    column("seq", "seq/s", 6, 2, |line| Value::known(line.row.seq_scans_per_second, Value::Count).into()),
    column("rows-read", "seq rows/s", 11, 1, |line| {
        Value::known(line.row.seq_rows_read_per_second, Value::Count).into()
    }),
    column("idx", "idx/s", 6, 6, |line| Value::known(line.row.index_scans_per_second, Value::Count).into()),
    column("dead", "dead", 7, 1, |line| {
        let table = &line.row.table;
        let is_marked = DEAD_ROWS_MARKED <= table.dead_rows
            && line.row.dead_ratio.is_some_and(|ratio| DEAD_RATIO_MARKED <= ratio);
        Cell {
            value: Value::Count(float(table.dead_rows)),
            role: if is_marked { Role::Warning } else { Role::Text },
        }
    }),
    column("dead-share", "dead %", 6, 3, |line| Value::some(line.row.dead_ratio, Value::Share).into()),
    column("changed", "changed", 7, 4, |line| {
        Value::Count(float(line.row.table.changed_since_analyze)).into()
    }),
    column("vacuumed", "vacuumed", 8, 3, |line| line.age(line.row.table.vacuumed_at).into()),
    column("analyzed", "analyzed", 8, 4, |line| line.age(line.row.table.analyzed_at).into()),
    column("hit", "hit", 6, 7, |line| Value::some(line.row.heap_hit_ratio, Value::Share).into()),
    column("idx-hit", "idx hit", 7, 5, |line| Value::some(line.row.index_hit_ratio, Value::Share).into()),
    text_column("table", "table", Width::Rest, 0, |line| {
        let kind = if line.row.table.is_materialized_view { " (materialized view)" } else { "" };
        Value::Text(format!("{}{kind}", line.row.table.name)).into()
    }),
];

/// The columns of the indexes.
pub const INDEX_COLUMNS: &[IndexColumn] = &[
    text_column("state", "state", Width::Fixed(8), 0, |index| {
        if index.is_valid {
            Value::Text("unused".into()).into()
        } else {
            Cell { value: Value::Text("INVALID".into()), role: Role::Warning }
        }
    }),
    column("scans", "scans", 6, 1, |index| Value::Integer(index.scans).into()),
    column("size", "size ~", 8, 1, |index| Value::Bytes(float(index.size_bytes)).into()),
    text_column("table", "table", Width::Fixed(20), 2, |index| Value::Text(index.table.to_string()).into()),
    text_column("index", "index", Width::Fixed(28), 1, |index| Value::Text(index.name.to_string()).into()),
    text_column("definition", "definition", Width::Rest, 3, |index| sql(&index.definition)),
];

/// The columns of the constraints.
pub const CONSTRAINT_COLUMNS: &[ConstraintColumn] = &[
    text_column("table", "table", Width::Fixed(20), 1, |it| Value::Text(it.table.to_string()).into()),
    text_column("constraint", "constraint", Width::Fixed(28), 0, |it| {
        Value::Text(it.name.to_string()).into()
    }),
    text_column("definition", "definition", Width::Rest, 2, |it| sql(&it.definition)),
];

fn sql(text: &Arc<str>) -> Cell {
    Value::Sql(Sql { text: Arc::clone(text), ..Sql::default() }).into()
}

impl TablesView {
    /// Shows the next list.
    pub(super) fn show_next(&mut self) {
        self.shown = self.shown.next();
        self.list = ListState::default();
    }

    /// Lists the rows anew.
    pub(super) fn refresh(&mut self, tick: &PgTick, columns: &[TableColumn]) {
        let Some(read) = tick.tables.as_deref() else { return };
        self.turn_to_wanted(read);
        let filter = Filter::parse(&self.filter_text);
        let (all, shown) = match self.shown {
            Shown::Tables => self.tables(read, tick, columns, &filter),
            Shown::Indexes => {
                let all = read.read.indexes.value().map(Vec::as_slice).unwrap_or_default();
                let passes =
                    |it: &&Index| filter.passes(&format!("{} {} {}", it.table, it.name, it.definition));
                (all.len(), all.iter().filter(passes).map(|it| it.oid).collect())
            }
            Shown::Constraints => {
                let all = read.read.constraints.value().map(Vec::as_slice).unwrap_or_default();
                let passes =
                    |it: &&Constraint| filter.passes(&format!("{} {} {}", it.table, it.name, it.definition));
                (all.len(), all.iter().filter(passes).map(|it| it.oid).collect())
            }
        };
        self.hidden = all - shown.len();
        self.list.set_rows(shown.into_iter().map(RowKey::Relation).collect());
        if let Some(oid) = self.wanted.take() {
            self.list.select(RowKey::Relation(oid));
        }
    }

    /// Shows the list that holds the relation that is wanted.
    fn turn_to_wanted(&mut self, read: &TableRows) {
        let Some(oid) = self.wanted else { return };
        let is_index = read.read.indexes.value().into_iter().flatten().any(|index| index.oid == oid);
        let shown = if is_index { Shown::Indexes } else { Shown::Tables };
        if shown != self.shown {
            self.shown = shown;
            self.list = ListState::default();
        }
    }

    /// How many tables there are, and those that pass, sorted.
    fn tables(
        &self,
        read: &TableRows,
        tick: &PgTick,
        columns: &[TableColumn],
        filter: &Filter,
    ) -> (usize, Vec<Oid>) {
        let all = read.rows.value().map(Vec::as_slice).unwrap_or_default();
        let by = columns.iter().find(|column| column.name == self.sort.column);
        let value = |row: &TableRow| by.map_or(Value::None, |by| (by.cell)(&TableLine { row, tick }).value);
        let mut passing: Vec<(Value, Oid)> = all
            .iter()
            .filter(|row| filter.passes(&row.table.name))
            .map(|row| (value(row), row.table.oid))
            .collect();
        // Stable: equals keep the order of the reading, the largest first.
        passing.sort_by(|a, b| a.0.compare(&b.0, self.sort.descending));
        (all.len(), passing.into_iter().map(|(_, oid)| oid).collect())
    }
}

/// The table of a key.
pub fn table<'a>(tick: &'a PgTick, key: &RowKey) -> Option<&'a TableRow> {
    let RowKey::Relation(oid) = key else { return None };
    tick.tables.as_deref()?.rows.value()?.iter().find(|row| row.table.oid == *oid)
}

/// The index of a key.
pub fn index<'a>(tick: &'a PgTick, key: &RowKey) -> Option<&'a Index> {
    let RowKey::Relation(oid) = key else { return None };
    tick.tables.as_deref()?.read.indexes.value()?.iter().find(|index| index.oid == *oid)
}

/// The constraint of a key.
pub fn constraint<'a>(tick: &'a PgTick, key: &RowKey) -> Option<&'a Constraint> {
    let RowKey::Relation(oid) = key else { return None };
    tick.tables.as_deref()?.read.constraints.value()?.iter().find(|it| it.oid == *oid)
}
