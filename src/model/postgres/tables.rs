//! Tables, indexes and constraints of the connected database, and the commands that work on them now.
//!
//! Read from catalogs, so only while somebody looks, and never with the tick. It must not know how it is asked.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Oid;
use crate::model::Reading;

/// One reading of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tables {
    /// When it was read, and of how much.
    pub counted: Reading<Counted>,
    /// The largest of them.
    pub tables: Reading<Vec<Table>>,
    /// Indexes that are invalid, or hardly used.
    pub indexes: Reading<Vec<Index>>,
    /// Constraints that are not validated.
    pub constraints: Reading<Vec<Constraint>>,
    /// What works on relations now, in every database.
    pub progress: Reading<Vec<Progress>>,
}

/// What the readings of a database are seen against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// When it was read, by the server's clock.
    pub read_at: Timestamp,
    /// How many tables and materialized views the database has; only the largest are read.
    pub tables: i64,
    /// When the counters of the database were last reset.
    pub stats_reset: Option<Timestamp>,
}

/// A table or a materialized view. Counters are since `stats_reset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its identifier.
    pub oid: Oid,
    /// Its name as it stands in SQL, with its schema unless that is `public`.
    pub name: Arc<str>,
    /// Whether it is a materialized view.
    pub is_materialized_view: bool,
    /// Size of its main fork as of the last VACUUM or ANALYZE, bytes: `relpages`.
    pub size_bytes: i64,
    /// Sequential scans begun.
    pub seq_scans: i64,
    /// Rows read by them.
    pub seq_rows_read: i64,
    /// Live rows, estimated.
    pub live_rows: i64,
    /// Dead rows, estimated.
    pub dead_rows: i64,
    /// Rows changed since the last ANALYZE, estimated.
    pub changed_since_analyze: i64,
    /// When it was last vacuumed, by hand or by autovacuum; `None`: never.
    pub vacuumed_at: Option<Timestamp>,
    /// When it was last analyzed, by hand or by autovacuum; `None`: never.
    pub analyzed_at: Option<Timestamp>,
    /// Blocks of the table asked of the buffer cache.
    pub heap_blks_fetched: i64,
    /// Blocks of the table found there.
    pub heap_blks_hit: i64,
    /// Blocks of its indexes asked of the buffer cache.
    pub index_blks_fetched: i64,
    /// Blocks of its indexes found there.
    pub index_blks_hit: i64,
    /// Scans of its indexes.
    pub index_scans: i64,
}

/// An index that costs and does not help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its identifier.
    pub oid: Oid,
    /// Its name as it stands in SQL, with its schema unless that is `public`.
    pub name: Arc<str>,
    /// The table.
    pub table: Arc<str>,
    /// Whether it may answer queries: false after a failed CREATE INDEX CONCURRENTLY, and while one runs.
    pub is_valid: bool,
    /// Whether it enforces uniqueness, which it does without being scanned.
    pub is_unique: bool,
    /// Scans begun.
    pub scans: i64,
    /// Size as of the last VACUUM or ANALYZE, bytes.
    pub size_bytes: i64,
    /// `pg_get_indexdef`.
    pub definition: Arc<str>,
}

/// A constraint that existing rows have not been held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Its identifier.
    pub oid: Oid,
    /// Its name as it stands in SQL.
    pub name: Arc<str>,
    /// The table, with its schema unless that is `public`.
    pub table: Arc<str>,
    /// `pg_get_constraintdef`.
    pub definition: Arc<str>,
}

/// A command that tells how far it is (manual, "Progress Reporting").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The process.
    pub pid: i32,
    /// `VACUUM`, `ANALYZE`, `CREATE INDEX CONCURRENTLY` and so on.
    pub command: Arc<str>,
    /// The database; absent for a base backup.
    pub datid: Option<Oid>,
    /// The relation's name, where it is of this database; absent for a base backup, or for a copy of a query.
    pub relation: Option<Arc<str>>,
    /// The server's word for what it does now.
    pub phase: Arc<str>,
    /// Units of this phase that are done.
    pub done: Option<i64>,
    /// Units of this phase; absent or 0 where the server does not say.
    pub total: Option<i64>,
    /// The process that it waits for, which only the building of an index tells.
    pub waits_for_pid: Option<i32>,
}
