//! A statement that has become much slower than it was, and costs much.

use super::{
    Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, largest_first, rows_of_statements,
    severity_told, takes,
};
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "statement-regression",
    "a statement that is much slower than it was and costs much",
    rule,
)
.twice();

/// From here on a slow-down matters to somebody, milliseconds.
const MEAN_MIN_MS: f64 = 100.0;
/// The least share of all execution time.
const SHARE_MIN: f64 = 0.05;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let rows = match rows_of_statements(tick, situation) {
        Ok(rows) => rows,
        Err(verdict) => return verdict,
    };
    let limits = &situation.thresholds.statement_regression_factor;
    let found: Vec<_> = rows
        .iter()
        .filter(|row| row.share.is_some_and(|share| SHARE_MIN <= share))
        .filter_map(|row| {
            let mean = row.mean_ms.filter(|mean| MEAN_MIN_MS <= *mean)?;
            let factor = row.slowdown?;
            let subject = Subject::Statement(row.key);
            let (severity, threshold) = limits.judge(factor, severity_told(told, subject))?;
            Some(Found {
                severity,
                summary: takes(row, mean),
                subject,
                help: "Enter goes to it; look at its plan, at dead tuples, and at what changed".into(),
                evidence: Evidence { value: factor, threshold, unit: "times" },
            })
        })
        .collect();
    largest_first(found, usize::MAX)
}
