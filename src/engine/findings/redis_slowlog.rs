//! Commands that Redis took long for: it does one thing at a time, so everybody waited.

use super::{Check, Evidence, Found, Situation, Subject, Told, Verdict, redis_upkeep, severity_told};
use crate::format::{self, seconds_between};
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-slowlog", "commands that Redis took long for, within a minute", rule);

const RECENT_SECONDS: f64 = 60.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let entries = match redis_upkeep(situation, |upkeep| &upkeep.slow_log) {
        Ok(entries) => entries,
        Err(verdict) => return verdict,
    };
    // By its clock, which need not be ours: as old as the newest entry says, and new only if it came while we watched
    // or lies within the last minute.
    let recent: Vec<_> =
        entries.iter().filter(|it| seconds_between(it.at, situation.now) < RECENT_SECONDS).collect();
    let Some(slowest) = recent.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)) else {
        return Verdict::Quiet;
    };
    let limits = &situation.thresholds.redis_slow_seconds;
    let Some((severity, threshold)) = limits.judge(slowest.seconds, severity_told(told, Subject::Cache))
    else {
        return Verdict::Quiet;
    };
    let more =
        if recent.len() > 1 { format!(", one of {} within a minute", recent.len()) } else { String::new() };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} took {}{more}: everybody waited",
            slowest.name,
            format::duration_ms(slowest.seconds * 1000.0)
        ),
        subject: Subject::Cache,
        help: "SLOWLOG GET tells who sent it and what; KEYS, large ranges and Lua scripts are the usual ones"
            .into(),
        evidence: Evidence { value: slowest.seconds, threshold, unit: "seconds" },
    }])
}
