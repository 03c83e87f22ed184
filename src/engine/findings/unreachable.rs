//! A target gives no data: refused, silent, or answering with an error.

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict};
use crate::format;

pub(super) const CHECK: Check =
    Check { id: "unreachable", doc: "a server that gives no data", kind: None, ticks: 1, rule };

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(outage) = situation.outage else { return Verdict::Quiet };
    let seconds = format::seconds_between(outage.since, situation.now).max(0.0);
    let summary = format!("{} for {}: {}", outage.kind, format::age(seconds), outage.reason.text);
    let help = outage.reason.hint.as_deref().unwrap_or("trying again by itself").to_owned();
    Verdict::Found(vec![Found {
        severity: Severity::Critical,
        summary,
        subject: Subject::Server,
        help,
        evidence: Evidence { value: seconds, threshold: 0.0, unit: "seconds" },
    }])
}
