//! All input and output with servers: PostgreSQL and Redis, each with its own connections, pace and deadlines.
//!
//! Speaks only `model` to the floors above. It must not know what a sample means or how it is shown.

#![expect(clippy::disallowed_methods, reason = "sources read a clock: deadlines, back-off, stamps")]

mod backoff;
pub mod postgres;
pub mod recording;
pub mod redis;

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::TargetId;

/// How often a source reads, settable while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between samples.
    pub interval: Duration,
    /// The least time between two readings of statement counters.
    pub statements_every: Duration,
    /// The least time between two readings of statement texts, after those of the first two readings of the counters.
    pub texts_every: Duration,
    /// The server whose tables somebody looks at.
    pub tables_of: Option<TargetId>,
    /// The beat of the screen is counted from here, the same for all sources.
    begun: Instant,
}

/// The time by the clock that people read.
fn now() -> Timestamp {
    Timestamp::now()
}

/// How long each sample of a report waits for locks.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// How soon after the first reading the second comes.
const SECOND: Duration = Duration::from_secs(1);

impl Pace {
    /// The pace of the screen: statements every 2 s at most, their texts every 10 s at most.
    pub fn screen(interval: Duration) -> Self {
        Self {
            interval,
            statements_every: interval.max(Duration::from_secs(2)),
            texts_every: Duration::from_secs(10),
            tables_of: None,
            begun: Instant::now(),
        }
    }

    /// The pace of the screen at another interval.
    #[must_use]
    pub fn changed_to(&self, interval: Duration) -> Self {
        Self { tables_of: self.tables_of, ..Self::screen(interval) }
    }

    /// The pace of a report: everything with each sample, because there are only a few.
    pub fn report(interval: Duration) -> Self {
        let (statements_every, texts_every) = (Duration::ZERO, Duration::ZERO);
        Self { interval, statements_every, texts_every, tables_of: None, begun: Instant::now() }
    }

    /// When to read again after a reading that was due at a time and began at another: on the beat that all sources share,
    /// so that one frame shows what they have read, and not sooner than half an interval, of which rates would say little.
    /// A report has no frames, and watches as long as was asked for: a reading that is on the beat sooner would shorten
    /// that, and readings that begin late would add up.
    pub(in crate::sources) fn next(&self, due: Instant, at: Instant) -> Instant {
        let interval = self.interval.max(Duration::from_millis(1));
        if self.is_report() {
            return (due + interval).max(at + interval / 2);
        }
        let least = at.saturating_duration_since(self.begun) + interval / 2;
        let beats = least.as_nanos().div_ceil(interval.as_nanos());
        self.begun + interval * u32::try_from(beats).unwrap_or(u32::MAX)
    }

    /// When to read for the second time after a first reading that was complete at a time, with the next due at another:
    /// soon on the screen, however long the interval, because rates need two readings, and what the first did not wait
    /// for has come by then. Only where there is time for one more. The time of a report begins when the first reading
    /// is complete.
    pub(in crate::sources) fn second(&self, complete: Instant, next: Instant) -> Instant {
        if self.is_report() {
            return self.next(complete, complete);
        }
        let soon = complete + SECOND;
        let is_extra = soon < next && self.next(soon, soon) == next;
        if is_extra { soon } else { next }
    }

    /// How long a tick waits for what the other connections read: a report has no later tick to show it in.
    pub(in crate::sources) fn patience(&self, on_screen: Duration) -> Duration {
        if self.is_report() { REPORT_PATIENCE } else { on_screen }
    }

    /// Whether it is a report, of which each sample may be the last.
    pub(in crate::sources) const fn is_report(&self) -> bool {
        self.texts_every.is_zero()
    }

    /// What a server may take for one tick: less than its period. The way there and back comes on top.
    fn deadline(&self) -> Duration {
        (self.interval * 4 / 5).clamp(Duration::from_millis(400), Duration::from_secs(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sources_read_on_one_beat_and_none_twice_within_half_an_interval() {
        let pace = Pace::screen(Duration::from_secs(2));
        let next = |ms: u64| {
            let at = pace.begun + Duration::from_millis(ms);
            (pace.next(at, at) - pace.begun).as_millis()
        };
        for (began_ms, next_ms) in
            [(0, 2000), (3, 2000), (990, 2000), (1001, 4000), (2002, 4000), (7300, 10_000)]
        {
            assert_eq!(next(began_ms), next_ms, "after {began_ms}");
        }
    }

    #[test]
    fn the_second_reading_does_not_wait_for_a_long_interval() {
        let second = |pace: Pace| {
            let next = pace.next(pace.begun, pace.begun);
            (pace.second(pace.begun + Duration::from_millis(5), next) - pace.begun).as_millis()
        };
        assert_eq!(second(Pace::screen(Duration::from_secs(5))), 1005);
        // A reading less than half an interval before the next would only take its place.
        assert_eq!(second(Pace::screen(Duration::from_secs(2))), 2000);
        assert_eq!(second(Pace::screen(Duration::from_millis(500))), 500);
    }

    #[test]
    fn a_report_spans_the_time_that_was_asked_for_however_slow_its_first_reading_was() {
        let pace = Pace::report(Duration::from_secs(1));
        let after = |ms: u64| pace.begun + Duration::from_millis(ms);
        // Asked after 400 ms, answered after 700.
        let second = pace.second(after(700), pace.next(after(400), after(400)));
        assert_eq!((second - pace.begun).as_millis(), 1700);
        // Begun late by 300 ms, and by 800 ms.
        assert_eq!((pace.next(second, after(2000)) - pace.begun).as_millis(), 2700);
        assert_eq!((pace.next(second, after(2500)) - pace.begun).as_millis(), 3000);
    }
}
