//! Standbys that are behind, told on the primary and on the standby itself.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "replication-lag", "standbys that are behind, in time or in bytes", rule)
        .twice();

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let replication = &tick.replication;
    let standbys = replication.standbys.value().into_iter().flatten();
    let standbys =
        standbys.map(|it| (it.application.to_string(), it.replay_lag_seconds, it.replay_lag_bytes, ""));
    let own = replication.recovery.as_ref();
    // Replay that was paused before we came stands still: then the age of the last replayed commit is how far it is
    // behind, once there is something to replay.
    let own = own.map(|it| {
        let is_paused = it.paused == Some(true) && it.replay_lag_bytes.is_some_and(|bytes| bytes > 0);
        let at_most = it.replay_lag_seconds_at_most.filter(|_| is_paused);
        let name = if is_paused { "this standby, whose replay is paused," } else { "this standby" };
        let bound = if it.replay_lag_seconds.is_none() { "at most " } else { "" };
        (name.to_owned(), it.replay_lag_seconds.or(at_most), it.replay_lag_bytes, bound)
    });
    let told = severity_told(told, Subject::Replication);
    let thresholds = situation.thresholds;
    let mut worst: Option<Found> = None;
    for (who, seconds, bytes, bound) in standbys.chain(own) {
        let bytes = bytes.map(crate::engine::rates::float);
        let by_time = seconds.and_then(|it| {
            let (severity, threshold) = thresholds.replication_lag_seconds.judge(it, told)?;
            Some((severity, Evidence { value: it, threshold, unit: "seconds" }))
        });
        let by_bytes = bytes.and_then(|it| {
            let (severity, threshold) = thresholds.replication_lag_bytes.judge(it, told)?;
            Some((severity, Evidence { value: it, threshold, unit: "bytes" }))
        });
        // Of two that are as bad, time comes first: it is what readers of the standby notice.
        let Some((severity, evidence)) = by_bytes.into_iter().chain(by_time).max_by_key(|(it, _)| *it) else {
            continue;
        };
        let age = |seconds| format!("{bound}{}", format::age(seconds));
        let figures = [seconds.map(age), bytes.map(format::bytes)];
        let figures: Vec<String> = figures.into_iter().flatten().collect();
        let found = Found {
            severity,
            summary: format!("{who} replays {} behind", figures.join(", ")),
            subject: Subject::Replication,
            help: "pane 4 tells which stage is behind, and whether it catches up".into(),
            evidence,
        };
        if worst.as_ref().is_none_or(|before| before.severity < found.severity) {
            worst = Some(found);
        }
    }
    worst.map_or(Verdict::Quiet, |found| Verdict::Found(vec![found]))
}
