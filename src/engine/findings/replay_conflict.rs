//! Replay on a standby that waits for a query there.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict, who};
use crate::engine::vitals::is_own;
use crate::format::{self, seconds_between};
use crate::model::Kind;
use crate::model::postgres::{Sample, Session, State};

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "replay-conflict", "replay on a standby that waits for a query there", rule)
        .twice();

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    if !tick.sample.server.in_recovery {
        return Verdict::Quiet;
    }
    let Some(sessions) = tick.sample.sessions.value() else {
        return Verdict::NotYet("sessions cannot be read");
    };
    let startup = sessions.iter().find(|it| it.backend_type.as_deref() == Some("startup"));
    let Some(startup) = startup else { return Verdict::NotYet("the startup process cannot be seen") };
    let Some(wait) = startup.wait_event.as_deref().filter(|_| is_in_the_way(startup)) else {
        return Verdict::Quiet;
    };
    let suspect = oldest_snapshot(&tick.sample);
    let suspected = suspect.map_or_else(String::new, |session| {
        let age = session.xact_start.map_or_else(String::new, |at| {
            format!(", for {}", format::age(seconds_between(at, tick.sample.server_time)))
        });
        format!("; the oldest snapshot is that of {}{age}", who(session))
    });
    let help = match suspect.and_then(|session| session.state) {
        Some(State::Active) => {
            "C cancels that query and lets replay go on; max_standby_streaming_delay ends such waits by itself"
        }
        Some(_) | None => {
            "K ends that session and lets replay go on; max_standby_streaming_delay ends such waits by itself"
        }
    };
    Verdict::Found(vec![Found {
        severity: Severity::Warning,
        summary: format!("replay waits for a query on this standby ({wait}){suspected}"),
        subject: suspect.map_or(Subject::Replication, |session| Subject::Session(session.id)),
        help: help.into(),
        evidence: Evidence { value: 1.0, threshold: 1.0, unit: "waits" },
    }])
}

/// Whether replay waits for a lock, for a page that somebody has pinned, or for a snapshot to go.
fn is_in_the_way(startup: &Session) -> bool {
    let event = startup.wait_event.as_deref().unwrap_or_default();
    matches!(startup.wait_event_type.as_deref(), Some("Lock" | "BufferPin"))
        || event.starts_with("RecoveryConflict")
}

/// The session of a client that has held its snapshot for longest.
fn oldest_snapshot(sample: &Sample) -> Option<&Session> {
    let sessions = sample.sessions.value().into_iter().flatten();
    let holders = sessions.filter(|it| it.is_client() && it.backend_xmin.is_some() && !is_own(sample, it));
    holders.min_by_key(|session| session.xact_start)
}
