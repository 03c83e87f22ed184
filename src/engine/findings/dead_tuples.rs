//! Tables of which much is dead rows: every scan reads them, and VACUUM does not keep up or is kept from it.

use super::{
    Check, Evidence, Found, Situation, Subject, TABLES_TOLD_MAX, Told, Verdict, largest_first, severity_told,
    upkeep,
};
use crate::engine::rates::{float, ratio};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "dead-tuples", "tables of which much is dead rows", rule);

/// Fewer dead rows cost nothing that anybody notices (public alert rules).
const ROWS_MIN: i64 = 10_000;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let (tick, tables) = match upkeep(situation, |upkeep| &upkeep.neglected) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    let limits = &situation.thresholds.dead_rows_percent;
    let found: Vec<Found> = tables
        .iter()
        .filter(|table| ROWS_MIN <= table.dead_rows)
        .filter_map(|table| {
            let dead = ratio(float(table.dead_rows), float(table.live_rows + table.dead_rows))?;
            let subject = Subject::Relation(table.oid);
            let (severity, threshold) = limits.judge(100.0 * dead, severity_told(told, subject))?;
            let vacuumed = table.vacuumed_at.map_or_else(
                || "never vacuumed".to_owned(),
                |at| format!("vacuumed {} ago", format::age_at(at, tick.sample.server_time)),
            );
            Some(Found {
                severity,
                summary: format!(
                    "{} of the rows of {} are dead ({}), {vacuumed}",
                    format::share(dead),
                    table.name,
                    format::count(float(table.dead_rows))
                ),
                subject,
                help: "VACUUM it; where that removes nothing an old snapshot holds the rows".into(),
                evidence: Evidence { value: 100.0 * dead, threshold, unit: "percent" },
            })
        })
        .collect();
    largest_first(found, TABLES_TOLD_MAX)
}
