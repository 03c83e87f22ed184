//! Connections near their limit, and who holds most of them.

use std::collections::BTreeMap;

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::model::Kind;
use crate::model::postgres::Session;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "connections", "connections near their limit, and who holds them", rule)
        .twice();

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(connections) = tick.vitals.connections else {
        return Verdict::NotYet("sessions cannot be read");
    };
    let usable = tick.sample.server.usable_connections;
    let percent = percent_used(tick).unwrap_or_default();
    let Some((severity, threshold)) =
        situation.thresholds.connections_percent.judge(percent, severity_told(told, Subject::Activity))
    else {
        return Verdict::Quiet;
    };
    let holder =
        largest_holder(tick).map(|(name, held)| format!(": {name} holds {held}")).unwrap_or_default();
    Verdict::Found(vec![Found {
        severity,
        summary: format!("{connections} of {usable} usable connections in use{holder}"),
        subject: Subject::Activity,
        help: "group by application (g) to see who holds them; terminate what is idle (K)".into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}

/// Connections in use, per cent of those open to ordinary roles; `None` where sessions cannot be read.
pub(super) fn percent_used(tick: &super::PgTick) -> Option<f64> {
    let used = f64::from(u32::try_from(tick.vitals.connections?).unwrap_or(u32::MAX));
    Some(100.0 * used / f64::from(tick.sample.server.usable_connections.max(1)))
}

/// The application with the most connections, or the role where no application is named.
fn largest_holder(tick: &super::PgTick) -> Option<(String, usize)> {
    let clients = tick.sample.sessions.value()?.iter().filter(|session| session.is_client());
    let (named, nameless): (Vec<&Session>, Vec<&Session>) =
        clients.partition(|session| !session.application_name.is_empty());
    let application = largest(named.into_iter().map(|session| &*session.application_name));
    let application = application.map(|(name, held)| (name.to_owned(), held));
    let role = largest(nameless.into_iter().map(|session| session.usesysid)).map(|(role, held)| {
        let role = role.map_or_else(|| "?".into(), |oid| tick.sample.names.role(oid));
        (format!("role {role}"), held)
    });
    application.into_iter().chain(role).max_by(|(a, a_held), (b, b_held)| (a_held, a).cmp(&(b_held, b)))
}

/// What occurs most often, and how often.
pub(super) fn largest<T: Ord>(all: impl Iterator<Item = T>) -> Option<(T, usize)> {
    let mut held: BTreeMap<T, usize> = BTreeMap::new();
    for one in all {
        *held.entry(one).or_default() += 1;
    }
    held.into_iter().max_by_key(|(_, count)| *count)
}
