//! When tables are read: only while somebody looks at them, and seldom where that costs the server much.
//!
//! It must not know how they are read.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Pace;
use super::super::locks::Want;
use super::super::sparing;
use super::Sampler;
use crate::model::postgres::Tables;

/// The least time between two readings.
const TABLES_EVERY: Duration = Duration::from_secs(5);

/// Since when somebody looks, and when the last reading was ordered.
#[derive(Debug, Default)]
pub(super) struct TablesBeat {
    opened: Option<Instant>,
    ordered: Option<Instant>,
    /// From the last reading to the next, where that is more than it would be.
    pub(super) slowed_to: Option<Duration>,
}

impl Sampler {
    /// The newest reading since somebody began to look; orders the next one when it is due.
    pub(super) fn tables(&mut self, pace: Pace) -> Option<Arc<Tables>> {
        if pace.tables_of != Some(self.target) {
            self.tables = TablesBeat::default();
            return None;
        }
        let now = Instant::now();
        let opened = *self.tables.opened.get_or_insert(now);
        let read = self.wires.catalog.borrow().tables.clone().filter(|read| opened <= read.began);
        let cost =
            read.as_ref().map_or(Duration::ZERO, |read| read.took.saturating_sub(self.best_round_trip));
        let pause = sparing::pause(TABLES_EVERY.max(pace.interval), cost);
        self.tables.slowed_to = pause.slowed_to;
        // Ticks come a little early or late; half of one is no reason to wait for another.
        let is_due =
            |ordered: Instant| pause.every.saturating_sub(pace.interval / 2) <= now.duration_since(ordered);
        if self.tables.ordered.is_none_or(is_due) && self.wires.wants.try_send(Want::Tables).is_ok() {
            self.tables.ordered = Some(now);
        }
        read.map(|read| read.tables)
    }
}
