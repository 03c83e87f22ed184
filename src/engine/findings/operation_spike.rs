//! Many more transactions than usual for five minutes, in total and by statement.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, named, severity_told};
use crate::engine::rates::{float, ratio};
use crate::engine::statements::{StatementRow, Usual};
use crate::engine::{Metric, PgTick};
use crate::format;
use crate::model::Kind;
use crate::model::postgres::DatabaseCounters;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "operation-spike",
    "many more transactions, or calls of a statement, than usual for five minutes",
    rule,
);

const WINDOW_SECONDS: f64 = 300.0;
const HOUR_SECONDS: f64 = 3600.0;
/// Fewer transactions are no spike, however few there were: some twenty a second are our own.
const TRANSACTIONS_MIN_PER_SECOND: f64 = 100.0;
/// What was watched of it in a report, at the least: one batch makes a thousand within a second.
const WATCHED_MIN_SECONDS: f64 = 2.5;
/// Fewer calls of one statement are none either.
const CALLS_MIN_PER_SECOND: f64 = 10.0;
/// The share of all transactions of which it must be known since when they are counted.
const KNOWN_SHARE_MIN: f64 = 0.9;
/// Statements that are told at most.
const STATEMENTS_TOLD_MAX: usize = 3;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let statements = by_statement(situation, told);
    match in_total(situation, told) {
        Verdict::Found(total) => Verdict::Found(total.into_iter().chain(statements).collect()),
        verdict if statements.is_empty() => verdict,
        Verdict::Quiet | Verdict::NotYet(_) => Verdict::Found(statements),
    }
}

/// The statements whose calls have risen most.
fn by_statement(situation: &Situation<'_>, told: &Told) -> Vec<Found> {
    let Some(table) = situation.postgres().and_then(|tick| tick.statements.value()) else {
        return Vec::new();
    };
    let (limits, of_what) = match table.usual {
        Usual::LastHour => (situation.thresholds.operation_spike_factor, "the last hour"),
        Usual::SinceReset => {
            (situation.thresholds.operation_spike_since_reset_factor, "the time since the reset")
        }
    };
    let judge = |row: &StatementRow| {
        let recent = row.calls_per_second_recent.filter(|calls| CALLS_MIN_PER_SECOND <= *calls)?;
        let factor = ratio(recent, row.calls_per_second_before?)?;
        let subject = Subject::Statement(row.key);
        let (severity, threshold) = limits.judge(factor, severity_told(told, subject))?;
        Some(Found {
            severity,
            summary: format!(
                "{} is called {} times/s over the last 5m00s, {}x the average of {of_what}",
                named(row),
                format::count(recent),
                format::count(factor)
            ),
            subject,
            help: "does the work rise, or is it retries and loops? rows per call tell (3)".into(),
            evidence: Evidence { value: factor, threshold, unit: "times" },
        })
    };
    let mut found: Vec<Found> = table.rows.iter().filter_map(judge).collect();
    found.sort_by(|a, b| b.evidence.value.total_cmp(&a.evidence.value));
    found.truncate(STATEMENTS_TOLD_MAX);
    found
}

fn in_total(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(now) = situation.mean(Metric::Transactions, WINDOW_SECONDS) else {
        return Verdict::NotYet("judged over five minutes");
    };
    if now.value < TRANSACTIONS_MIN_PER_SECOND {
        return Verdict::Quiet;
    }
    if now.seconds < WATCHED_MIN_SECONDS {
        return Verdict::NotYet("judged over more than two seconds");
    }
    let hour = situation.history.mean(Metric::Transactions, HOUR_SECONDS);
    let thresholds = situation.thresholds;
    // Until an hour was watched what the counters hold from before we came stands for it, with more distance.
    let (usual, of_what, limits) = match hour.filter(|hour| HOUR_SECONDS <= hour.seconds) {
        Some(hour) => (hour.value, "the last hour", thresholds.operation_spike_factor),
        None => match since_reset(tick) {
            Some(usual) => (usual, "the time since the reset", thresholds.operation_spike_since_reset_factor),
            None => return Verdict::NotYet("judged against an hour, which was not watched yet"),
        },
    };
    if usual <= 0.0 {
        return Verdict::Quiet;
    }
    let factor = now.value / usual;
    let Some((severity, threshold)) = limits.judge(factor, severity_told(told, Subject::Server)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{} transactions/s over the last {}, {}x the average of {of_what}",
            format::count(now.value),
            format::age(now.seconds.round()),
            format::count(factor)
        ),
        subject: Subject::Server,
        help: "is there more to do, or is it retries and loops? pane 3 sorted by calls tells which statements rise".into(),
        evidence: Evidence { value: factor, threshold, unit: "times" },
    }])
}

/// Transactions per second since the counters were last reset; `None` where that is not known.
fn since_reset(tick: &PgTick) -> Option<f64> {
    let databases = tick.sample.databases.value()?;
    // Of those that were never reset nothing is known; they must not weigh much.
    let all = |it: &DatabaseCounters| float(it.xact_commit + it.xact_rollback);
    let known: f64 = databases.iter().filter(|it| it.stats_reset.is_some()).map(all).sum();
    if known < KNOWN_SHARE_MIN * databases.iter().map(all).sum::<f64>() {
        return None;
    }
    let rates = databases.iter().filter_map(|it| {
        let seconds = format::seconds_between(it.stats_reset?, tick.sample.server_time);
        (seconds > 0.0).then(|| all(it) / seconds)
    });
    rates.reduce(|sum, rate| sum + rate)
}
