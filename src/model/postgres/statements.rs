//! The counters of `pg_stat_statements`, in full and as what differs from an earlier reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Oid;

/// What `pg_stat_statements` counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Statements {
    /// When it was read, by the server's clock.
    pub read_at: Timestamp,
    /// Version of the extension, such as `1.10`.
    pub extension_version: String,
    /// The entries, numbers only.
    pub rows: Vec<Statement>,
    /// Entries of other roles that our role may not see into.
    pub hidden_rows: u64,
    /// Entries evicted since the last reset (14 and later).
    pub dealloc: Option<i64>,
    /// When all counters were last reset (14 and later).
    pub stats_reset: Option<Timestamp>,
}

/// What tells two entries of `pg_stat_statements` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StatementKey {
    /// Role that ran it.
    pub userid: Oid,
    /// Database it ran in.
    pub dbid: Oid,
    /// Whether it was sent by a client rather than run inside a function; true before extension 1.9.
    pub toplevel: bool,
    /// Identifier of the normalised statement.
    pub queryid: i64,
}

/// Cumulative counters of one statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Which statement.
    pub key: StatementKey,
    /// Completed executions.
    pub calls: i64,
    /// Time spent executing, milliseconds.
    pub total_exec_ms: f64,
    /// Rows returned or changed.
    pub rows: i64,
    /// Shared blocks found in the buffer cache.
    pub shared_blks_hit: i64,
    /// Shared blocks read.
    pub shared_blks_read: i64,
    /// Temporary blocks read and written.
    pub temp_blks: i64,
    /// When this entry was made (extension 1.11 and later).
    pub stats_since: Option<Timestamp>,
    /// Time spent planning, milliseconds; 0 unless `track_planning` is on.
    pub total_plan_ms: f64,
    /// The longest execution since the entry was made, milliseconds.
    pub max_exec_ms: f64,
    /// How much executions differ since the entry was made: one standard deviation, milliseconds.
    pub stddev_exec_ms: f64,
    /// Write-ahead log that it has generated, bytes.
    pub wal_bytes: f64,
}

impl Statements {
    /// A reading without entries.
    pub const fn empty(read_at: Timestamp) -> Self {
        Self {
            read_at,
            extension_version: String::new(),
            rows: Vec::new(),
            hidden_rows: 0,
            dealloc: None,
            stats_reset: None,
        }
    }

    /// The same for where there is no reading.
    pub fn nothing() -> Arc<Self> {
        Arc::new(Self::empty(Timestamp::UNIX_EPOCH))
    }
}

/// What differs in a reading from an earlier one: most entries are not called every second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatementsDelta {
    /// The reading; its rows are only those that are new or differ.
    pub changed: Statements,
    /// Entries that are not there any more.
    pub gone: Vec<StatementKey>,
}

impl StatementsDelta {
    /// What differs in `now` from `base`.
    pub fn between(base: &Statements, now: &Statements) -> Self {
        let mut before: BTreeMap<StatementKey, &Statement> =
            base.rows.iter().map(|row| (row.key, row)).collect();
        let differs = |row: &&Statement| before.remove(&row.key) != Some(*row);
        let rows = now.rows.iter().filter(differs).cloned().collect();
        let gone = before.into_keys().collect();
        let extension_version = now.extension_version.clone();
        Self { changed: Statements { extension_version, rows, ..*now }, gone }
    }

    /// The reading, its rows in an order of their own.
    pub fn applied_to(&self, base: &Statements) -> Statements {
        let mut rows: BTreeMap<StatementKey, &Statement> =
            base.rows.iter().map(|row| (row.key, row)).collect();
        for key in &self.gone {
            rows.remove(key);
        }
        rows.extend(self.changed.rows.iter().map(|row| (row.key, row)));
        let extension_version = self.changed.extension_version.clone();
        Statements { rows: rows.into_values().cloned().collect(), extension_version, ..self.changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn reading(counts: &BTreeMap<i64, i64>) -> Statements {
        let row = |(queryid, calls): (&i64, &i64)| Statement {
            key: StatementKey { userid: 10, dbid: 5, toplevel: true, queryid: *queryid },
            calls: *calls,
            total_exec_ms: 0.0,
            rows: 0,
            shared_blks_hit: 0,
            shared_blks_read: 0,
            temp_blks: 0,
            stats_since: None,
            total_plan_ms: 0.0,
            max_exec_ms: 0.0,
            stddev_exec_ms: 0.0,
            wal_bytes: 0.0,
        };
        Statements { rows: counts.iter().map(row).collect(), ..Statements::empty(Timestamp::UNIX_EPOCH) }
    }

    proptest! {
        #[test]
        fn what_differs_gives_the_reading_again(
            base in prop::collection::btree_map(0..20_i64, 0..3_i64, 0..20),
            now in prop::collection::btree_map(0..20_i64, 0..3_i64, 0..20),
        ) {
            let (base, now) = (reading(&base), reading(&now));
            let delta = StatementsDelta::between(&base, &now);
            prop_assert_eq!(&delta.applied_to(&base).rows, &now.rows);
            prop_assert!(delta.changed.rows.len() <= now.rows.len());
        }
    }

    #[test]
    fn a_reading_that_is_the_same_differs_in_nothing() {
        let base = reading(&BTreeMap::from([(1, 1), (2, 5)]));
        let delta = StatementsDelta::between(&base, &base);
        assert_eq!((delta.changed.rows.len(), delta.gone.len()), (0, 0));
    }
}
