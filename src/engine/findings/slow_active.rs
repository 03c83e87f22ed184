//! Statements that run for long without waiting for a lock, told once for all sessions that run the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict, largest_first, sees_all,
    who,
};
use crate::engine::vitals::{is_own, is_protected};
use crate::format;
use crate::model::Kind;
use crate::model::postgres::{Session, State};

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "slow-active", "statements that run for long without waiting for a lock", rule);

/// Statements that are expected to take long, by their first word.
const MAINTENANCE: [&str; 8] =
    ["VACUUM", "ANALYZE", "CREATE", "REINDEX", "CLUSTER", "COPY", "REFRESH", "ALTER"];

/// What tells one statement from another: its id, or its text where sessions tell no id.
type Statement = (Option<i64>, Option<Arc<str>>);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let sample = &tick.sample;
    let Some(sessions) = sample.sessions.value() else { return Verdict::NotYet("sessions cannot be read") };
    if !sees_all(sample) {
        return Verdict::NotYet("needs pg_read_all_stats (part of pg_monitor)");
    }
    let is_meant = |session: &&Session| {
        session.state == Some(State::Active)
            && session.is_client()
            && session.leader_pid.is_none()
            && !is_own(sample, session)
            && !session.waits_for_sessions()
            && !is_maintenance(&session.query)
            && !is_protected(&session.application_name, &situation.thresholds.protected)
    };
    let mut alike: BTreeMap<Statement, Vec<(f64, &Session)>> = BTreeMap::new();
    for session in sessions.iter().filter(is_meant) {
        let Some(start) = session.query_start else { continue };
        let seconds = format::seconds_between(start, sample.server_time);
        // Without an id (13, or compute_query_id off) only the same text is known to be the same statement.
        let text = session.query_id.is_none().then(|| Arc::clone(&session.query));
        alike.entry((session.query_id, text)).or_default().push((seconds, session));
    }
    let found: Vec<Found> = alike.values().filter_map(|group| judge(group, situation)).collect();
    largest_first(found, usize::MAX)
}

fn judge(group: &[(f64, &Session)], situation: &Situation<'_>) -> Option<Found> {
    let limits = &situation.thresholds.slow_active_seconds;
    let (seconds, longest) = group.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let (severity, threshold) = limits.judge(seconds, None)?;
    let slow = group.iter().filter(|(seconds, _)| limits.judge(*seconds, None).is_some()).count();
    let is_crowd =
        situation.thresholds.slow_active_sessions <= f64::from(u32::try_from(slow).unwrap_or(u32::MAX));
    // One report that takes long is no outage.
    let severity = if is_crowd { severity } else { severity.min(Severity::Warning) };
    let summary = if slow > 1 {
        format!(
            "{slow} sessions run one statement, the longest for {}: {}",
            format::age(seconds),
            who(longest)
        )
    } else {
        format!("{} runs one statement for {}", who(longest), format::age(seconds))
    };
    Some(Found {
        severity,
        summary,
        subject: Subject::Session(longest.id),
        help: "look at it (Enter) and at its figures (3); C cancels a statement and keeps its session".into(),
        evidence: Evidence { value: seconds, threshold, unit: "seconds" },
    })
}

fn is_maintenance(query: &str) -> bool {
    let first = query.split_whitespace().next().unwrap_or_default();
    MAINTENANCE.iter().any(|word| first.eq_ignore_ascii_case(word))
}
