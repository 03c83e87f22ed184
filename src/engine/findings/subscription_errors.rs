//! Subscriptions whose changes cannot be applied.

use super::{Check, Evidence, Found, Severity, Situation, Subject, Told, Verdict, upkeep};
use crate::engine::rates::float;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "subscription-errors", "subscriptions whose changes cannot be applied", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let subscriptions = match upkeep(situation, |upkeep| &upkeep.subscriptions) {
        Ok((_, subscriptions)) => subscriptions,
        Err(verdict) => return verdict,
    };
    if subscriptions.iter().any(|it| it.errors.is_none()) {
        return Verdict::NotYet("errors of subscriptions are counted by PostgreSQL 15 and later");
    }
    let first = &situation.changes.subscription_errors;
    let grown = subscriptions.iter().filter_map(|it| {
        let errors = it.errors? - first.get(&it.name).copied().unwrap_or_default();
        (errors > 0).then_some((it, errors))
    });
    let Some((subscription, errors)) = grown.max_by_key(|(_, errors)| *errors) else { return Verdict::Quiet };
    Verdict::Found(vec![Found {
        severity: Severity::Warning,
        summary: format!("subscription {} failed {errors} times since we watch", subscription.name),
        subject: Subject::Replication,
        help: "the log of this server says which row or table; the publisher keeps its log meanwhile".into(),
        evidence: Evidence { value: float(errors), threshold: 1.0, unit: "errors" },
    }])
}
