//! What several checks need: parts of a sample or why they cannot be judged, and words for sessions and statements.

use super::{Found, MINUTE_SECONDS, NO_SAMPLE, Situation, Verdict};
use crate::engine::statements::StatementRow;
use crate::engine::{Metric, PgTick};
use crate::model::Reading;
use crate::model::postgres::{Sample, Session, Upkeep};
use crate::{format, text};

/// The statements of the last reading, while their means tell how they run: who was freed carries the wait for a lock
/// into the mean, and would make the cure look like a fault.
pub(super) fn rows_of_statements<'a>(
    tick: &'a PgTick,
    situation: &Situation<'_>,
) -> Result<&'a [StatementRow], Verdict> {
    let Some(table) = tick.statements.value() else {
        return Err(Verdict::NotYet("needs pg_stat_statements"));
    };
    let most_blocked = situation.history.max(Metric::Blocked, MINUTE_SECONDS);
    if most_blocked.is_some_and(|most| situation.thresholds.blocking_sessions <= most) {
        return Err(Verdict::NotYet(
            "sessions waited for locks within the last minute, which is in the means",
        ));
    }
    Ok(&table.rows)
}

/// A part of what is read seldom, or why it cannot be judged.
pub(super) fn upkeep<'a, T>(
    situation: &Situation<'a>,
    part: impl Fn(&'a Upkeep) -> &'a Reading<T>,
) -> Result<(&'a PgTick, &'a T), Verdict> {
    let tick = situation.postgres().ok_or(NO_SAMPLE)?;
    let upkeep = tick.sample.upkeep.as_deref().ok_or(Verdict::NotYet("not read yet"))?;
    let value = part(upkeep).value().ok_or(Verdict::NotYet("the server does not let us read it"))?;
    Ok((tick, value))
}

/// The same of Redis.
pub(super) fn redis_upkeep<'a, T>(
    situation: &Situation<'a>,
    part: impl Fn(&'a crate::model::redis::Upkeep) -> &'a Reading<T>,
) -> Result<&'a T, Verdict> {
    let tick = situation.redis().ok_or(NO_SAMPLE)?;
    let upkeep = tick.sample.upkeep.as_deref().ok_or(Verdict::NotYet("not read yet"))?;
    part(upkeep).value().ok_or(Verdict::NotYet("the server does not let us read it"))
}

/// A statement as a sentence names it: how it begins, without its literals.
pub(super) fn named(row: &StatementRow) -> String {
    const COLUMNS_MAX: usize = 44;
    match row.query.as_deref() {
        Some(query) => text::fit(&text::line(&text::masked(query)), COLUMNS_MAX, false).into_owned(),
        None => format!("statement {}", row.key.queryid),
    }
}

/// What a statement takes, and how much slower that is than it was.
pub(super) fn takes(row: &StatementRow, mean_ms: f64) -> String {
    /// From here on a difference is worth words.
    const SLOWER: f64 = 2.0;
    let mean = format::duration_ms(mean_ms);
    let against = match row.slowdown.zip(row.mean_ms_before) {
        Some((factor, before)) if SLOWER <= factor => {
            format!(", {}x its average of {}", format::count(factor), format::duration_ms(before))
        }
        Some(_) | None => " on average".into(),
    };
    let share = format::share(row.share.unwrap_or_default());
    format!("{} takes {mean}{against}; {share} of all execution time", named(row))
}

/// Whether our role sees the states of all sessions.
pub fn sees_all(sample: &Sample) -> bool {
    sample.rights.read_all_stats || sample.rights.superuser
}

/// A session by its process id and application.
pub(super) fn who(session: &Session) -> String {
    match &*session.application_name {
        "" => session.id.pid.to_string(),
        name => format!("{} {name}", session.id.pid),
    }
}

/// So many of what was found, by the figure that was judged, the largest first; nothing found is quiet.
pub(super) fn largest_first(mut found: Vec<Found>, most: usize) -> Verdict {
    found.sort_by(|a, b| b.evidence.value.total_cmp(&a.evidence.value));
    found.truncate(most);
    if found.is_empty() { Verdict::Quiet } else { Verdict::Found(found) }
}
