//! Somebody runs MONITOR, which makes Redis send every command of everybody to them.

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict, redis_upkeep};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-monitor", "somebody runs MONITOR, which slows Redis down", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let monitors = match redis_upkeep(situation, |upkeep| &upkeep.monitors) {
        Ok(monitors) => monitors,
        Err(verdict) => return verdict,
    };
    let Some(first) = monitors.first() else { return Verdict::Quiet };
    let more = if monitors.len() > 1 { format!(" and {} more", monitors.len() - 1) } else { String::new() };
    Verdict::Found(vec![Found {
        severity: Severity::Warning,
        summary: format!(
            "{first}{more} runs MONITOR: it is sent every command, which halves what Redis can do"
        ),
        subject: Subject::Cache,
        help: "CLIENT KILL ADDR with that address ends it".into(),
        evidence: Evidence {
            value: f64::from(u32::try_from(monitors.len()).unwrap_or(u32::MAX)),
            threshold: 1.0,
            unit: "clients",
        },
    }])
}
