//! Clients of Redis near their limit.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-clients", "clients of Redis near their limit", rule).twice();

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.redis() else { return NO_SAMPLE };
    let sample = &tick.sample;
    let Some((clients, limit)) = sample.connected_clients.zip(sample.maxclients.filter(|limit| *limit > 0))
    else {
        return Verdict::NotYet("the server does not tell its limit");
    };
    #[expect(clippy::cast_precision_loss, reason = "clients are few")]
    let percent = 100.0 * clients as f64 / limit as f64;
    let limits = &situation.thresholds.redis_clients_percent;
    let Some((severity, threshold)) = limits.judge(percent, severity_told(told, Subject::Cache)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!("{clients} of {limit} clients are connected"),
        subject: Subject::Cache,
        help: "CLIENT LIST tells who they are; raise maxclients, or find who does not close".into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}
