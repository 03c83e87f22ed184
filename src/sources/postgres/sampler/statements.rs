//! The counters of statements: on a slower beat than the sessions, by what reading them costs.
//!
//! It must not know how they are asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::super::Pace;
use super::super::batch::{Clock, StatementsRead};
use super::super::locks::Want;
use super::super::sparing::{self, Pause};
use super::Sampler;
use crate::model::Reading;
use crate::model::postgres::{Statement, StatementKey, Statements};

/// While there are no counters the extension is looked for this often.
const EXTENSION_EVERY: Duration = Duration::from_secs(3);
/// Statements whose text is wanted: this many by growth, and as many by total.
const TEXTS_WANTED: usize = 100;

/// The texts of so many readings of the counters are asked for at once: the first screen is to be whole, and so is the
/// second, the first that tells what is called.
const EARLY_READINGS: u8 = 2;
/// How long a sample waits for those, and each of a report.
const EARLY_TEXTS_LIMIT: Duration = Duration::from_millis(200);
const REPORT_TEXTS_LIMIT: Duration = Duration::from_secs(1);

/// When statements were read and what they were, between two readings.
#[derive(Debug, Default)]
pub(super) struct StatementBeat {
    pub(super) due: Option<Instant>,
    /// From the last reading to the next, where that is more than it would be.
    pub(super) slowed_to: Option<Duration>,
    pub(super) last: Option<Reading<Arc<Statements>>>,
    /// What that reading has cost.
    cost: Duration,
    totals: BTreeMap<StatementKey, f64>,
    texts_asked: Option<Instant>,
    /// When the counters were read that were looked through for texts last, and how many readings were until now.
    looked_through: Option<(Timestamp, u8)>,
    /// When the extension was looked for again.
    looked: Option<Instant>,
}

impl Sampler {
    /// Keeps what was read, and decides when to read again.
    pub(super) fn keep_statements(
        &mut self,
        read: Option<StatementsRead>,
        pace: Pace,
        elapsed: Duration,
        clock: &Clock,
    ) {
        let Some(read) = read else {
            if matches!(self.wires.catalog.borrow().extension, Some(Err(_))) {
                // Dropped meanwhile, or never there: once it is there it is read at once.
                self.statements.last = None;
                self.statements.slowed_to = None;
                self.statements.due = None;
            }
            return;
        };
        let cost = elapsed.saturating_sub(self.best_round_trip);
        let is_first = is_first(self.statements.last.as_ref(), &read.rows);
        // One that was slow is chance: the cheaper of two counts.
        let before = std::mem::replace(&mut self.statements.cost, cost);
        let Pause { every, slowed_to } = sparing::pause(pace.statements_every, cost.min(before));
        let pause = pause(is_first, every, pace.interval);
        self.statements.slowed_to = slowed_to.filter(|_| !is_first);
        self.statements.due = Some(Instant::now() + pause);
        self.statements.last = Some(match read.rows {
            Reading::Fresh(rows) => {
                let hidden_rows = rows.iter().filter(|row| row.is_none()).count();
                let statements = Statements {
                    read_at: clock.now,
                    extension_version: read.extension_version,
                    hidden_rows: u64::try_from(hidden_rows).unwrap_or_default(),
                    rows: rows.into_iter().flatten().collect(),
                    dealloc: read.info.and_then(|(dealloc, _)| dealloc),
                    stats_reset: read.info.and_then(|(_, reset)| reset),
                };
                Reading::Fresh(Arc::new(statements))
            }
            Reading::Stale(..) => return,
            Reading::Unavailable(reason) => Reading::Unavailable(reason),
        });
    }

    /// Has the extension looked for again while there are no counters: somebody may create, drop or move it.
    pub(super) fn look_for_extension(&mut self) {
        let is_dark = matches!(self.statements.last, Some(Reading::Unavailable(_)))
            || matches!(self.wires.catalog.borrow().extension, Some(Err(_)));
        let is_due = self.statements.looked.is_none_or(|at| EXTENSION_EVERY <= at.elapsed());
        if is_dark && is_due && self.wires.wants.try_send(Want::Extension).is_ok() {
            self.statements.looked = Some(Instant::now());
        }
    }

    /// Asks the locks connection for the texts of the statements that matter and have none yet.
    pub(super) async fn ask_for_texts(&mut self, pace: Pace) {
        let Some(Reading::Fresh(statements)) = &self.statements.last else { return };
        let (looked_at, looks) = self.statements.looked_through.unzip();
        let looks = looks.unwrap_or_default();
        let is_early = looks < EARLY_READINGS;
        let is_due =
            is_early || self.statements.texts_asked.is_none_or(|asked| pace.texts_every <= asked.elapsed());
        // Between two readings there is nothing new; but what a report still lacks it asks for with each sample.
        let is_known = looked_at == Some(statements.read_at) && !pace.is_report();
        if is_known || !is_due {
            return;
        }
        self.statements.looked_through = Some((statements.read_at, looks.saturating_add(1)));
        let known = Arc::clone(&self.wires.catalog.borrow().texts);
        let growth = |row: &Statement| {
            row.total_exec_ms - self.statements.totals.get(&row.key).copied().unwrap_or_default()
        };
        let mut matter: BTreeSet<StatementKey> = most(&statements.rows, growth).into_iter().collect();
        matter.extend(most(&statements.rows, |row| row.total_exec_ms));
        let wanted: Vec<i64> =
            matter.iter().filter(|key| !known.contains_key(key)).map(|key| key.queryid).collect();
        self.statements.totals = statements.rows.iter().map(|row| (row.key, row.total_exec_ms)).collect();
        if wanted.is_empty() {
            return;
        }
        self.statements.texts_asked = Some(Instant::now());
        // A report has no later tick to show them in.
        let limit = match (pace.is_report(), is_early) {
            (true, _) => REPORT_TEXTS_LIMIT,
            (false, true) => EARLY_TEXTS_LIMIT,
            (false, false) => Duration::ZERO,
        };
        if self.wires.wants.try_send(Want::Texts(wanted, matter)).is_ok() && !limit.is_zero() {
            let wait = self.wires.catalog.wait_for(|catalog| catalog.texts.len() > known.len());
            drop(timeout(limit, wait).await);
        }
    }
}

/// Whether these are the first rows, which rates need a second of soon. A reading that has failed has none, and cost as much.
fn is_first<T, U>(before: Option<&Reading<T>>, read: &Reading<U>) -> bool {
    read.value().is_some() && before.is_none_or(|before| before.value().is_none())
}

/// Until the counters are read again: after the first reading with the next tick, of which a report may have only one; then
/// with the tick that is nearest.
fn pause(is_first: bool, every: Duration, interval: Duration) -> Duration {
    if is_first { Duration::ZERO } else { every.saturating_sub(interval / 2) }
}

/// The statements that weigh most.
fn most(rows: &[Statement], weight: impl Fn(&Statement) -> f64) -> Vec<StatementKey> {
    let mut ranked: Vec<_> = rows.iter().map(|row| (weight(row), row.key)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(Reverse(a.1).cmp(&Reverse(b.1))));
    ranked.into_iter().take(TEXTS_WANTED).map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    #[test]
    fn the_second_reading_comes_with_the_next_tick_however_early_that_is() {
        let (every, interval) = (Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(pause(true, every, interval), Duration::ZERO);
        assert_eq!(pause(false, every, interval), Duration::from_millis(1500));
    }

    #[test]
    fn counters_that_cannot_be_read_keep_their_beat() {
        let (failed, came) = (Reading::<()>::Unavailable(Reason::new("cancelled")), Reading::Fresh(()));
        for (before, read, expected) in [
            (None, &failed, false),
            (Some(&failed), &failed, false),
            (None, &came, true),
            (Some(&failed), &came, true),
            (Some(&came), &came, false),
        ] {
            assert_eq!(is_first(before, read), expected, "{read:?} after {before:?}");
        }
    }
}
