//! All input and output with servers: PostgreSQL and Redis, each with its own connections, pace and deadlines.
//!
//! Speaks only `model` to the floors above. It must not know what a sample means or how it is shown.

#![expect(clippy::disallowed_methods, reason = "sources read a clock: deadlines, back-off, stamps")]

mod backoff;
pub mod postgres;
pub mod recording;
pub mod redis;

use std::time::Duration;

use crate::model::TargetId;

/// How often a source reads, settable while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between samples.
    pub interval: Duration,
    /// The least time between two readings of statement counters.
    pub statements_every: Duration,
    /// The least time between two readings of statement texts.
    pub texts_every: Duration,
    /// The server whose tables somebody looks at.
    pub tables_of: Option<TargetId>,
}

/// How long a report waits for locks and names.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

impl Pace {
    /// The pace of the screen: statements every 2 s at most, their texts every 10 s at most.
    pub fn screen(interval: Duration) -> Self {
        Self {
            interval,
            statements_every: interval.max(Duration::from_secs(2)),
            texts_every: Duration::from_secs(10),
            tables_of: None,
        }
    }

    /// The pace of a report: everything with each sample, because there are only a few.
    pub const fn report(interval: Duration) -> Self {
        Self { interval, statements_every: Duration::ZERO, texts_every: Duration::ZERO, tables_of: None }
    }

    /// How long a tick waits for what the other connections read: a report has no later tick to show it in.
    pub(in crate::sources) fn patience(&self, on_screen: Duration) -> Duration {
        if self.is_report() { REPORT_PATIENCE } else { on_screen }
    }

    /// Whether it is a report, of which each sample may be the last.
    pub(in crate::sources) const fn is_report(&self) -> bool {
        self.texts_every.is_zero()
    }

    /// The limit of one tick: shorter than its period, so that a late answer is noticed before the next is due.
    fn deadline(&self) -> Duration {
        (self.interval * 4 / 5).clamp(Duration::from_millis(400), Duration::from_secs(3))
    }
}
