//! Sessions whose client is silent inside a transaction: they hold locks and keep vacuum from cleaning up.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, sees_all, who};
use crate::engine::vitals::is_own;
use crate::format;
use crate::model::Kind;
use crate::model::postgres::State;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "idle-in-transaction", "sessions idle in a transaction for long", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let sample = &tick.sample;
    let Some(sessions) = sample.sessions.value() else { return Verdict::NotYet("sessions cannot be read") };
    if !sees_all(sample) {
        return Verdict::NotYet("needs pg_read_all_stats (part of pg_monitor)");
    }
    let mut found: Vec<(f64, Found)> = sessions
        .iter()
        .filter(|session| {
            session.state.is_some_and(State::is_idle_in_transaction) && !is_own(sample, session)
        })
        .filter_map(|session| {
            let seconds = format::seconds_between(session.state_change?, sample.server_time);
            let (severity, threshold) =
                situation.thresholds.idle_in_transaction_seconds.judge(seconds, None)?;
            let found = Found {
                severity,
                summary: format!(
                    "{}, {} {}",
                    who(session),
                    session.state.map_or("", State::as_str),
                    format::age(seconds)
                ),
                subject: Subject::Session(session.id),
                help: "K terminates it and rolls its transaction back; a cancel would do nothing".into(),
                evidence: Evidence { value: seconds, threshold, unit: "seconds" },
            };
            Some((seconds, found))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    if found.is_empty() {
        Verdict::Quiet
    } else {
        Verdict::Found(found.into_iter().map(|(_, it)| it).collect())
    }
}
