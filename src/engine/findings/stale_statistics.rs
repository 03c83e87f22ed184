//! Tables that have changed so much since their last ANALYZE that plans are made for other tables.

use super::{
    Check, Evidence, Found, Situation, Subject, TABLES_TOLD_MAX, Told, Verdict, largest_first, severity_told,
    upkeep,
};
use crate::engine::rates::{float, ratio};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "stale-statistics",
    "tables that have changed much since their last ANALYZE",
    rule,
);

/// Fewer changed rows lead no plan astray that anybody notices.
const ROWS_MIN: i64 = 100_000;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let (tick, tables) = match upkeep(situation, |upkeep| &upkeep.neglected) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    let limits = &situation.thresholds.stale_statistics_percent;
    let found: Vec<Found> = tables
        .iter()
        .filter(|table| ROWS_MIN <= table.changed_since_analyze)
        .filter_map(|table| {
            let changed = ratio(float(table.changed_since_analyze), float(table.live_rows.max(1)))?;
            let subject = Subject::Relation(table.oid);
            let (severity, threshold) = limits.judge(100.0 * changed, severity_told(told, subject))?;
            let analyzed = table.analyzed_at.map_or_else(
                || "it was never analyzed".to_owned(),
                |at| format!("its last ANALYZE, {} ago", format::age_at(at, tick.sample.server_time)),
            );
            let since = if table.analyzed_at.is_some() { "since" } else { "and" };
            Some(Found {
                severity,
                summary: format!(
                    "{} rows of {} have changed {since} {analyzed}: plans may be wrong",
                    format::count(float(table.changed_since_analyze)),
                    table.name
                ),
                subject,
                help: "ANALYZE it; see whether autovacuum keeps up".into(),
                evidence: Evidence { value: 100.0 * changed, threshold, unit: "percent" },
            })
        })
        .collect();
    largest_first(found, TABLES_TOLD_MAX)
}
