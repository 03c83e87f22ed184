//! What the locks connection has learnt, as the sampler takes it up.
//!
//! It must not know how any of it is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::sql::Extension;
use crate::model::postgres::{LockTable, Names, Rights, StatementKey, Tables, Upkeep};
use crate::model::{Reading, Reason};

/// What this connection has learnt, published for the sampler.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    /// Names read so far.
    pub(super) names: Arc<Names>,
    /// Texts read so far.
    pub(super) texts: Arc<BTreeMap<StatementKey, Arc<str>>>,
    /// The extension, once it was looked for: why it cannot be read, or where it is.
    pub(super) extension: Option<Result<Extension, Reason>>,
    /// What is read seldom, once it was read.
    pub(super) upkeep: Option<Arc<Upkeep>>,
    /// From one reading of it to the next, where that is more than it would be.
    pub(super) upkeep_slowed_to: Option<Duration>,
    /// Tables as they were read last.
    pub(super) tables: Option<TablesRead>,
    /// The newest lock table and when it was read.
    pub(super) locks: Option<(Timestamp, Arc<LockTable>)>,
    /// How many times the lock table has been read, or was tried to be: an order is open until this grows.
    pub(super) locks_reads: u64,
    /// The role's rights, once read again: a GRANT shows within half a minute.
    pub(super) rights: Option<Arc<Rights>>,
    /// Why the last attempt to read the lock table failed.
    pub(super) error: Option<Reason>,
    /// Whether names and extension have been looked for at least once.
    pub(super) ready: bool,
}

/// A reading of tables, and what it took: nothing where it waited for a locked catalog, which costs the server nothing.
#[derive(Debug, Clone)]
pub(super) struct TablesRead {
    pub(super) tables: Arc<Tables>,
    pub(super) began: Instant,
    pub(super) took: Duration,
}

impl Catalog {
    /// The lock table of a tick that began at `now`, by the server's clock: fresh if it was read since, stale if it is
    /// older but of the waits that go on `since`, and otherwise of another story.
    pub(super) fn lock_table(&self, since: Timestamp, now: Timestamp) -> Reading<Arc<LockTable>> {
        match (&self.locks, &self.error) {
            (Some((at, table)), None) if now <= *at => Reading::Fresh(Arc::clone(table)),
            (Some((at, table)), _) if since <= *at => Reading::Stale(Arc::clone(table), *at),
            (_, Some(reason)) => Reading::Unavailable(reason.clone()),
            (_, None) => {
                Reading::Unavailable(Reason::new("lock manager busy: the lock table has not been read yet"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_table_is_fresh_only_if_it_was_read_since_the_tick_began() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let read = |second| Catalog { locks: Some((at(second), Arc::default())), ..Catalog::default() };
        let table = |catalog: &Catalog| catalog.lock_table(at(10), at(20));
        assert_eq!(table(&read(20)), Reading::Fresh(Arc::default()));
        // Ordered by an earlier tick and answered in this one: it shows the locks of then.
        assert_eq!(table(&read(17)), Reading::Stale(Arc::default(), at(17)));
        // From before these waits began.
        assert!(matches!(table(&read(9)), Reading::Unavailable(_)));
        let failed = Catalog { error: Some(Reason::new("out of memory")), ..read(15) };
        assert_eq!(table(&failed), Reading::Stale(Arc::default(), at(15)));
    }
}
