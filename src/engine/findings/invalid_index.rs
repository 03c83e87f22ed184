//! Indexes that answer no query and still cost every write.

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict, upkeep};
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "invalid-index",
    "indexes that are invalid: they answer no query and cost every write",
    rule,
);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let indexes = match upkeep(situation, |upkeep| &upkeep.invalid_indexes) {
        Ok((_, indexes)) => indexes,
        Err(verdict) => return verdict,
    };
    let Some((oid, name)) = indexes.first() else { return Verdict::Quiet };
    let more = if indexes.len() > 1 { format!(", and {} more", indexes.len() - 1) } else { String::new() };
    Verdict::Found(vec![Found {
        severity: Severity::Warning,
        summary: format!("index {name} is invalid{more}: it answers no query and costs every write"),
        subject: Subject::Relation(*oid),
        help: "left by a CREATE INDEX CONCURRENTLY that failed; Enter shows it, c copies REINDEX or DROP"
            .into(),
        evidence: Evidence {
            value: f64::from(u32::try_from(indexes.len()).unwrap_or(u32::MAX)),
            threshold: 1.0,
            unit: "indexes",
        },
    }])
}
