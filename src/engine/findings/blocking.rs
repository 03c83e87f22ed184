//! Sessions that wait for a lock, told by the root that they wait for.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict};
use crate::engine::locks::{Forest, Node, NodeKind};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "blocking", "sessions that block others, by root", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(forest) = tick.forest.value() else {
        return Verdict::NotYet("the lock table has not been read yet");
    };
    let stale = tick.forest.stale_since().map(|since| format::age_at(since, tick.sample.server_time));
    let found: Vec<_> =
        forest.roots().filter_map(|root| judge(root, forest, situation, stale.clone())).collect();
    if found.is_empty() { Verdict::Quiet } else { Verdict::Found(found) }
}

fn judge(root: &Node, forest: &Forest, situation: &Situation<'_>, stale: Option<String>) -> Option<Found> {
    let thresholds = situation.thresholds;
    let seconds = root.longest_wait_seconds.unwrap_or_default();
    let behind = f64::from(u32::try_from(root.behind).unwrap_or(u32::MAX));
    let (severity, evidence) = match thresholds.blocking_seconds.judge(seconds, None) {
        Some((severity, threshold)) => (severity, Evidence { value: seconds, threshold, unit: "seconds" }),
        None if thresholds.blocking_sessions <= behind => {
            let evidence =
                Evidence { value: behind, threshold: thresholds.blocking_sessions, unit: "sessions" };
            (Severity::Warning, evidence)
        }
        None => return None,
    };
    let old = stale.map(|age| format!(", as of {age} ago")).unwrap_or_default();
    let (behind, longest) = (format::counted(root.behind, "session"), format::age(seconds));
    let summary = match root.kind {
        NodeKind::Deadlock if root.behind == 0 => format!("{} for {longest}{old}", deadlock(root)),
        NodeKind::Deadlock => format!("{}, blocks {behind} (longest {longest}{old})", deadlock(root)),
        NodeKind::Session | NodeKind::Prepared | NodeKind::Unknown => {
            format!("{}, blocks {behind} (longest {longest}{old})", root.title())
        }
    };
    let subject = Subject::Root(root.pid.unwrap_or_default());
    Some(Found { severity, summary, subject, help: forest.advice(root).reason, evidence })
}

/// Who is in a deadlock: a few by their process ids.
fn deadlock(root: &Node) -> String {
    const NAMED_MAX: usize = 4;
    let pids: Vec<String> = root.members.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if root.members.len() > NAMED_MAX { ", ..." } else { "" };
    format!("deadlock of {} ({}{more})", format::counted(root.members.len(), "session"), pids.join(", "))
}
