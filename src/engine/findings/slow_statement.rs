//! A statement whose executions take long, slower than before or not.

use super::{
    Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict, largest_first,
    rows_of_statements, severity_told, takes,
};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "slow-statement", "a statement whose executions take long", rule).twice();

/// Fewer calls in an interval are worth a notice.
const CALLS_MIN: f64 = 3.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let rows = match rows_of_statements(tick, situation) {
        Ok(rows) => rows,
        Err(verdict) => return verdict,
    };
    let limits = &situation.thresholds.slow_statement_ms;
    let seconds = tick.statements.value().and_then(|table| table.interval_seconds);
    let found: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let mean = row.mean_ms?;
            let subject = Subject::Statement(row.key);
            let (severity, threshold) = limits.judge(mean, severity_told(told, subject))?;
            // One report that takes long is no outage.
            let is_rare =
                row.calls_per_second.zip(seconds).is_none_or(|(calls, over)| calls * over < CALLS_MIN);
            let severity = if is_rare { Severity::Notice } else { severity };
            Some(Found {
                severity,
                summary: takes(row, mean),
                subject,
                help: "Enter goes to it; sessions that run it now are in pane 1".into(),
                evidence: Evidence { value: mean, threshold, unit: "ms" },
            })
        })
        .collect();
    largest_first(found, usize::MAX)
}
