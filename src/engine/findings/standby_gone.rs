//! A standby that was there while we watched and is not any more.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check = Check::of(
    Kind::Postgres,
    "standby-gone",
    "a standby that was connected while it was watched has gone",
    rule,
);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    if tick.replication.standbys.value().is_none() {
        return Verdict::NotYet("standbys cannot be read");
    }
    let limits = &situation.thresholds.standby_gone_seconds;
    let ages = situation.changes.standbys.iter();
    let ages = ages.map(|(name, seen)| (name, format::seconds_between(*seen, situation.now)));
    let gone = ages.filter_map(|(name, seconds)| {
        limits.judge(seconds, None).map(|(severity, threshold)| (name, seconds, severity, threshold))
    });
    let gone: Vec<_> = gone.collect();
    let Some((name, seconds, severity, threshold)) = gone.iter().max_by_key(|(_, _, it, _)| *it).copied()
    else {
        return Verdict::Quiet;
    };
    let more = match gone.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!("standby {name} has gone {} ago{more}", format::age(seconds)),
        subject: Subject::Replication,
        help: "is it up, and can it reach this server? its slot keeps log meanwhile (pane 4)".into(),
        evidence: Evidence { value: seconds, threshold, unit: "seconds" },
    }])
}
