//! Settings that were changed and wait for a restart.

use std::sync::Arc;

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict, upkeep};
use crate::engine::rates::float;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "pending-restart", "settings that were changed and wait for a restart", rule);

/// So many are named.
const NAMES_MAX: usize = 3;

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let (_, waiting) = match upkeep(situation, |upkeep| &upkeep.pending_restart) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    if waiting.is_empty() {
        return Verdict::Quiet;
    }
    let mut named: Vec<&str> = waiting.iter().take(NAMES_MAX).map(Arc::as_ref).collect();
    if waiting.len() > NAMES_MAX {
        named.push("...");
    }
    let count = waiting.len();
    Verdict::Found(vec![Found {
        severity: Severity::Notice,
        summary: format!("changed and waiting for a restart: {}", named.join(", ")),
        subject: Subject::Server,
        help: "they take effect with the next restart, planned or not".into(),
        evidence: Evidence {
            value: float(i64::try_from(count).unwrap_or(i64::MAX)),
            threshold: 1.0,
            unit: "settings",
        },
    }])
}
