//! Reads tables, indexes, constraints and the progress of commands, for the pane that shows them.
//!
//! These are catalogs, which somebody may have locked: they are read on the locks connection, under its limits. Sizes are
//! estimates from `relpages`; a function that tells a size opens the relation and would wait for its lock. It must not
//! know when it is asked.

use tokio_postgres::{Client, Error, Row};

use super::read;
use super::upkeep::{each, has_waited, reading};
use crate::model::postgres::{Constraint, Counted, Index, Progress, Table, Tables};

/// A name as it stands in SQL.
macro_rules! named {
    ($class:literal) => {
        concat!(
            "CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(",
            $class,
            ".relname)"
        )
    };
}

/// Schemas of the system are left out.
const OURS: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

fn count() -> String {
    format!(
        "/* dbtriage:tablecount */ SELECT /* dbtriage */ clock_timestamp(), count(*),
    (SELECT pg_stat_get_db_stat_reset_time(oid) FROM pg_catalog.pg_database WHERE datname = current_database())
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE relkind IN ('r', 'm') AND {OURS}"
    )
}

/// The largest tables; their counters are looked up only for these.
fn tables() -> String {
    format!(
        "/* dbtriage:tables */ SELECT /* dbtriage */ c.oid, c.name, c.relkind = 'm',
    c.relpages::int8 * current_setting('block_size')::int8,
    pg_stat_get_numscans(c.oid), pg_stat_get_tuples_returned(c.oid),
    pg_stat_get_live_tuples(c.oid), pg_stat_get_dead_tuples(c.oid), pg_stat_get_mod_since_analyze(c.oid),
    greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)),
    greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)),
    pg_stat_get_blocks_fetched(c.oid), pg_stat_get_blocks_hit(c.oid), i.fetched, i.hit, i.scans
    FROM (SELECT c.oid, {} AS name, relkind, relpages
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE relkind IN ('r', 'm') AND {OURS} ORDER BY relpages DESC, c.oid LIMIT 500) c
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(pg_stat_get_blocks_fetched(indexrelid)), 0)::int8 AS fetched,
               coalesce(sum(pg_stat_get_blocks_hit(indexrelid)), 0)::int8 AS hit,
               coalesce(sum(pg_stat_get_numscans(indexrelid)), 0)::int8 AS scans
        FROM pg_catalog.pg_index WHERE indrelid = c.oid) i",
        named!("c")
    )
}

/// Indexes that are invalid, or were scanned less than a hundred times since the counters were reset.
fn indexes() -> String {
    format!(
        "/* dbtriage:indexes */ SELECT /* dbtriage */ c.oid, {}, {}, i.indisvalid, i.indisunique,
    pg_stat_get_numscans(c.oid), c.relpages::int8 * current_setting('block_size')::int8,
    pg_get_indexdef(c.oid)
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE {OURS} AND c.relkind = 'i'
        AND (NOT i.indisvalid OR (NOT i.indisunique AND pg_stat_get_numscans(c.oid) < 100))
    ORDER BY i.indisvalid, c.relpages DESC, c.oid LIMIT 200",
        named!("c"),
        named!("t"),
    )
}

fn constraints() -> String {
    format!(
        "/* dbtriage:constraints */ SELECT /* dbtriage */ k.oid, quote_ident(k.conname), {}, pg_get_constraintdef(k.oid)
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT k.convalidated AND {OURS} ORDER BY c.relpages DESC, k.oid LIMIT 200",
        named!("c")
    )
}

/// Every command that tells its progress; COPY does since 14.
fn progress(major_num: u32) -> String {
    const RELATION: &str = "(SELECT CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(c.relname)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = p.relid AND p.datname = current_database())";
    let one = |command: &str, view: &str, done: &str, total: &str, waits: &str| {
        format!(
            "SELECT pid, {command}, datid, {RELATION}, phase, {done}, {total}, {waits} \
             FROM pg_catalog.pg_stat_progress_{view} p"
        )
    };
    let mut parts = vec![
        one(
            "'VACUUM'",
            "vacuum",
            "CASE phase WHEN 'scanning heap' THEN heap_blks_scanned WHEN 'vacuuming heap' THEN heap_blks_vacuumed END",
            "heap_blks_total",
            "NULL::int4",
        ),
        one("'ANALYZE'", "analyze", "sample_blks_scanned", "sample_blks_total", "NULL::int4"),
        one("command", "cluster", "heap_blks_scanned", "heap_blks_total", "NULL::int4"),
        one(
            "command",
            "create_index",
            "CASE WHEN phase LIKE 'waiting for%' THEN lockers_done WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END",
            "CASE WHEN phase LIKE 'waiting for%' THEN lockers_total WHEN blocks_total > 0 THEN blocks_total ELSE tuples_total END",
            "nullif(current_locker_pid, 0)::int4",
        ),
        "SELECT pid, 'base backup', NULL::oid, NULL::text, phase, backup_streamed, backup_total, NULL::int4 \
         FROM pg_catalog.pg_stat_progress_basebackup"
            .to_owned(),
    ];
    if major_num >= 140_000 {
        parts.push(format!(
            "SELECT pid, command, datid, {RELATION}, 'copying', \
             CASE WHEN bytes_total > 0 THEN bytes_processed ELSE tuples_processed END, \
             nullif(bytes_total, 0), NULL::int4 FROM pg_catalog.pg_stat_progress_copy p"
        ));
    }
    format!(
        "/* dbtriage:progress */ SELECT /* dbtriage */ * FROM ({}) AS progress",
        parts.join(" UNION ALL ")
    )
}

/// Reads all of it; each part fails by itself. And whether a part had to wait for a locked catalog, so that the time it took
/// says nothing of what it has cost.
pub(super) async fn read(client: &Client, major_num: u32, user: &str) -> (Tables, bool) {
    let (count, tables, indexes, constraints, progress) =
        (count(), tables(), indexes(), constraints(), progress(major_num));
    let (count, tables, indexes, constraints, progress) = futures::join!(
        client.query_typed_one(&count, &[]),
        client.query_typed(&tables, &[]),
        client.query_typed(&indexes, &[]),
        client.query_typed(&constraints, &[]),
        client.query_typed(&progress, &[]),
    );
    let failed = [
        count.as_ref().err(),
        tables.as_ref().err(),
        indexes.as_ref().err(),
        constraints.as_ref().err(),
        progress.as_ref().err(),
    ];
    let has_waited = has_waited(&failed);
    let tables = Tables {
        counted: reading(count.and_then(|row| counted(&row)), user),
        tables: each(tables, table, user),
        indexes: each(indexes, index, user),
        constraints: each(constraints, constraint, user),
        progress: each(progress, step, user),
    };
    (tables, has_waited)
}

fn counted(row: &Row) -> Result<Counted, Error> {
    Ok(Counted { read_at: read::get(row, 0)?, tables: read::get(row, 1)?, stats_reset: read::get(row, 2)? })
}

fn table(row: &Row) -> Result<Table, Error> {
    Ok(Table {
        oid: read::get(row, 0)?,
        name: read::text(row, 1)?.unwrap_or_default(),
        is_materialized_view: read::get(row, 2)?,
        size_bytes: read::get(row, 3)?,
        seq_scans: read::get(row, 4)?,
        seq_rows_read: read::get(row, 5)?,
        live_rows: read::get(row, 6)?,
        dead_rows: read::get(row, 7)?,
        changed_since_analyze: read::get(row, 8)?,
        vacuumed_at: read::get(row, 9)?,
        analyzed_at: read::get(row, 10)?,
        heap_blks_fetched: read::get(row, 11)?,
        heap_blks_hit: read::get(row, 12)?,
        index_blks_fetched: read::get(row, 13)?,
        index_blks_hit: read::get(row, 14)?,
        index_scans: read::get(row, 15)?,
    })
}

fn index(row: &Row) -> Result<Index, Error> {
    Ok(Index {
        oid: read::get(row, 0)?,
        name: read::text(row, 1)?.unwrap_or_default(),
        table: read::text(row, 2)?.unwrap_or_default(),
        is_valid: read::get(row, 3)?,
        is_unique: read::get(row, 4)?,
        scans: read::get(row, 5)?,
        size_bytes: read::get(row, 6)?,
        definition: read::text(row, 7)?.unwrap_or_default(),
    })
}

fn constraint(row: &Row) -> Result<Constraint, Error> {
    let text = |column| Ok(read::text(row, column)?.unwrap_or_default());
    Ok(Constraint { oid: read::get(row, 0)?, name: text(1)?, table: text(2)?, definition: text(3)? })
}

fn step(row: &Row) -> Result<Progress, Error> {
    Ok(Progress {
        pid: read::get(row, 0)?,
        command: read::text(row, 1)?.unwrap_or_default(),
        datid: read::get(row, 2)?,
        relation: read::text(row, 3)?,
        phase: read::text(row, 4)?.unwrap_or_default(),
        done: read::get(row, 5)?,
        total: read::get(row, 6)?,
        waits_for_pid: read::get(row, 7)?,
    })
}
