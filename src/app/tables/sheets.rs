//! A table, an index or a constraint in full, with the statement that helps: to be copied and run by somebody who has
//! thought about it, never by us.

use super::{Shown, constraint, index, table};
use crate::app::App;
use crate::app::detail::Sheet;
use crate::app::list::RowKey;
use crate::app::table::{Role, Span};
use crate::engine::PgTick;
use crate::engine::tables::TableRow;
use crate::format::{age_at, bytes, count, rfc3339, share};
use crate::model::postgres::{Constraint, Index};

/// What the sheet of a row says; `None` once the row has gone.
pub(in crate::app) fn sheet(app: &App, tick: &PgTick, key: &RowKey) -> Option<Sheet> {
    match app.tables.shown {
        Shown::Tables => table(tick, key).map(|row| of_table(row, tick)),
        Shown::Indexes => index(tick, key).map(|index| of_index(index, tick, app)),
        Shown::Constraints => constraint(tick, key).map(|constraint| of_constraint(constraint, app)),
    }
}

/// The statement that would help a row; `None` once it has gone.
pub(in crate::app) fn cure(tick: &PgTick, shown: Shown, key: &RowKey) -> Option<String> {
    match shown {
        Shown::Tables => table(tick, key).map(cure_of_table),
        Shown::Indexes => index(tick, key).map(cure_of_index),
        Shown::Constraints => constraint(tick, key).map(cure_of_constraint),
    }
}

fn cure_of_table(row: &TableRow) -> String {
    let verb = if row.table.is_materialized_view {
        "REFRESH MATERIALIZED VIEW CONCURRENTLY"
    } else {
        "VACUUM (ANALYZE)"
    };
    format!("{verb} {};", row.table.name)
}

fn cure_of_index(index: &Index) -> String {
    let verb = if index.is_valid { "DROP" } else { "REINDEX" };
    format!("{verb} INDEX CONCURRENTLY {};", index.name)
}

fn cure_of_constraint(constraint: &Constraint) -> String {
    format!("ALTER TABLE {} VALIDATE CONSTRAINT {};", constraint.table, constraint.name)
}

/// Since when the counters count.
fn since(tick: &PgTick) -> String {
    let reset =
        tick.tables.as_deref().and_then(|rows| rows.read.counted.value()).and_then(|it| it.stats_reset);
    reset.map_or_else(|| "since the counters began".into(), |at| format!("since {}", rfc3339(at)))
}

fn number(value: i64) -> String {
    count(super::float(value))
}

fn of_table(row: &TableRow, tick: &PgTick) -> Sheet {
    let table = &row.table;
    let now = tick.sample.server_time;
    let time = |at: Option<jiff::Timestamp>| {
        Span::text(
            at.map_or_else(|| "never".into(), |at| format!("{}  {} ago", rfc3339(at), age_at(at, now))),
        )
    };
    let rate = |per_second: Option<f64>, total: i64| {
        let now = per_second.map_or_else(|| "?".into(), count);
        Span::text(format!("{now}/s, {} {}", number(total), since(tick)))
    };
    let ratio = |ratio: Option<f64>| Span::text(ratio.map_or_else(|| "-".into(), share));
    let size = format!(
        "{} as of the last VACUUM or ANALYZE, without indexes",
        bytes(super::float(table.size_bytes))
    );
    let fields = vec![
        ("size", Span::text(size)),
        ("live rows", Span::text(format!("{} estimated", number(table.live_rows)))),
        (
            "dead rows",
            Span::text(format!("{} estimated, {}", number(table.dead_rows), ratio(row.dead_ratio).text)),
        ),
        (
            "changed",
            Span::text(format!("{} rows since the last ANALYZE", number(table.changed_since_analyze))),
        ),
        ("last vacuum", time(table.vacuumed_at)),
        ("last analyze", time(table.analyzed_at)),
        ("seq scans", rate(row.seq_scans_per_second, table.seq_scans)),
        ("seq rows read", rate(row.seq_rows_read_per_second, table.seq_rows_read)),
        ("index scans", rate(row.index_scans_per_second, table.index_scans)),
        ("table hits", ratio(row.heap_hit_ratio)),
        ("index hits", ratio(row.index_hit_ratio)),
    ];
    let kind = if table.is_materialized_view { "Materialized view" } else { "Table" };
    Sheet {
        title: format!("{kind} {}", table.name),
        fields,
        heading: "to copy, if it is behind (c)",
        text: cure_of_table(row),
    }
}

fn of_index(index: &Index, tick: &PgTick, app: &App) -> Sheet {
    let state = if index.is_valid {
        Span::text("valid")
    } else {
        Span::new(
            Role::Warning,
            "invalid: it answers no query and still costs every write; left by a CREATE INDEX CONCURRENTLY that failed, or one runs",
        )
    };
    let scans = format!("{} on this server {}; a standby may use it", number(index.scans), since(tick));
    Sheet {
        title: format!("Index {}", index.name),
        fields: vec![
            ("table", Span::text(index.table.to_string())),
            ("state", state),
            ("unique", Span::text(if index.is_unique { "yes" } else { "no" })),
            ("scans", Span::text(scans)),
            ("size", Span::text(bytes(super::float(index.size_bytes)))),
            ("definition", Span::text(app.shown_sql(&index.definition))),
        ],
        heading: "to copy, after thought (c)",
        text: cure_of_index(index),
    }
}

fn of_constraint(constraint: &Constraint, app: &App) -> Sheet {
    Sheet {
        title: format!("Constraint {}", constraint.name),
        fields: vec![
            ("table", Span::text(constraint.table.to_string())),
            (
                "state",
                Span::text("not validated: holds for new rows only, and the planner does not rely on it"),
            ),
            ("definition", Span::text(app.shown_sql(&constraint.definition))),
        ],
        heading: "to copy (c); it reads the whole table and lets writers go on",
        text: cure_of_constraint(constraint),
    }
}
