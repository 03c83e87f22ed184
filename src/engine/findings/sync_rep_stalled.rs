//! Commits that wait for a synchronous standby: they have happened here, and nobody is told.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "sync-rep-stalled", "commits that wait for a synchronous standby", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let sample = &tick.sample;
    let Some(sessions) = sample.sessions.value() else { return Verdict::NotYet("sessions cannot be read") };
    let waiting = sessions.iter().filter(|session| session.wait_event.as_deref() == Some("SyncRep"));
    let ages: Vec<f64> = waiting
        .filter_map(|session| Some(format::seconds_between(session.query_start?, sample.server_time)))
        .collect();
    let longest = ages.iter().copied().fold(0.0, f64::max);
    let Some((severity, threshold)) = situation.thresholds.sync_rep_seconds.judge(longest, None) else {
        return Verdict::Quiet;
    };
    let summary = format!(
        "{} waits for a synchronous standby to confirm, the longest for {}",
        format::counted(ages.len(), "commit"),
        format::age(longest)
    );
    Verdict::Found(vec![Found {
        severity,
        summary,
        subject: Subject::Replication,
        help: "bring the standby back, or change synchronous_standby_names; a cancel only gives up the wait"
            .into(),
        evidence: Evidence { value: longest, threshold, unit: "seconds" },
    }])
}
