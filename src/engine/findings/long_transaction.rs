//! Transactions that are open for long: they hold locks and keep vacuum from cleaning up.

use super::{
    Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, largest_first, sees_all, who,
};
use crate::engine::vitals::is_own;
use crate::format;
use crate::model::Kind;
use crate::model::postgres::{Session, State};

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "long-transaction", "transactions that are open for long", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let sample = &tick.sample;
    let Some(sessions) = sample.sessions.value() else { return Verdict::NotYet("sessions cannot be read") };
    if !sees_all(sample) {
        return Verdict::NotYet("needs pg_read_all_stats (part of pg_monitor)");
    }
    // What idles is told by a check of its own, and a waiter by its root.
    let is_meant = |session: &&Session| {
        session.is_client()
            && !is_own(sample, session)
            && !session.waits_for_lock()
            && !session.state.is_some_and(State::is_idle_in_transaction)
    };
    let found: Vec<_> = sessions
        .iter()
        .filter(is_meant)
        .filter_map(|session| {
            let seconds = format::seconds_between(session.xact_start?, sample.server_time);
            let (severity, threshold) = situation.thresholds.long_transaction_seconds.judge(seconds, None)?;
            Some(Found {
                severity,
                summary: format!("{}, transaction open for {}", who(session), format::age(seconds)),
                subject: Subject::Session(session.id),
                help: "look at its statement (Enter); C cancels the statement, K ends the session".into(),
                evidence: Evidence { value: seconds, threshold, unit: "seconds" },
            })
        })
        .collect();
    largest_first(found, usize::MAX)
}
