//! Sessions that idle for long while connections are short.

use super::connections::percent_used;
use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict};
use crate::engine::vitals::is_own;
use crate::format;
use crate::model::Kind;
use crate::model::postgres::State;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "idle-sessions",
    "sessions that idle for long while connections are near their limit",
    rule,
);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(percent) = percent_used(tick) else { return Verdict::NotYet("sessions cannot be read") };
    if situation.thresholds.connections_percent.judge(percent, None).is_none() {
        return Verdict::Quiet;
    }
    let sample = &tick.sample;
    let limits = &situation.thresholds.idle_sessions_seconds;
    let idle = sample.sessions.value().into_iter().flatten().filter(|session| {
        session.state == Some(State::Idle) && session.is_client() && !is_own(sample, session)
    });
    let ages = idle.filter_map(|session| {
        let seconds = format::seconds_between(session.state_change?, sample.server_time);
        limits.judge(seconds, None).map(|(severity, threshold)| (seconds, severity, threshold))
    });
    let ages: Vec<_> = ages.collect();
    let Some((oldest, severity, threshold)) = ages.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return Verdict::Quiet;
    };
    let summary = format!(
        "{} idle for more than {}, the longest for {}",
        format::counted(ages.len(), "session"),
        format::age(threshold),
        format::age(oldest)
    );
    Verdict::Found(vec![Found {
        severity,
        summary,
        subject: Subject::Activity,
        help: "M and 1 mark those that idle for more than 5 minutes; K then ends them after a question"
            .into(),
        evidence: Evidence { value: oldest, threshold, unit: "seconds" },
    }])
}
