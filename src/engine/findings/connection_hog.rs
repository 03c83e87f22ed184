//! One application, or one client, that holds most of the connections.

use super::connections::{largest, percent_used};
use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::model::Kind;
use crate::model::postgres::Session;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "connection-hog",
    "one application or one client that holds most of the connections",
    rule,
)
.twice();

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(sessions) = tick.sample.sessions.value() else {
        return Verdict::NotYet("sessions cannot be read");
    };
    // Near the limit that is told with who holds them.
    let used = percent_used(tick).unwrap_or_default();
    if situation.thresholds.connections_percent.judge(used, None).is_some() {
        return Verdict::Quiet;
    }
    let usable = f64::from(tick.sample.server.usable_connections.max(1));
    let clients = || sessions.iter().filter(|session| session.is_client());
    let limits = &situation.thresholds.connection_hog_percent;
    let told = severity_told(told, Subject::Activity);
    let judged = |(name, held): (String, usize)| {
        let percent = 100.0 * f64::from(u32::try_from(held).unwrap_or(u32::MAX)) / usable;
        limits.judge(percent, told).map(|judged| (name, held, percent, judged))
    };
    // The application says more than the machine that it runs on.
    let application =
        || largest(clients().filter_map(application)).map(|(name, held)| (name.to_owned(), held));
    let client = || {
        let (address, held) = largest(clients().filter_map(|session| session.client_addr))?;
        Some((format!("client {address}"), held))
    };
    let Some((name, held, percent, (severity, threshold))) =
        application().and_then(judged).or_else(|| client().and_then(judged))
    else {
        return Verdict::Quiet;
    };
    let summary = format!("{name} holds {held} of {usable} usable connections");
    Verdict::Found(vec![Found {
        severity,
        summary,
        subject: Subject::Activity,
        help: "group by application (g); a pool of fewer connections, or PgBouncer, serves as many requests"
            .into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}

fn application(session: &Session) -> Option<&str> {
    Some(&*session.application_name).filter(|name| !name.is_empty())
}
