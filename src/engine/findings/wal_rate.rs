//! Much write-ahead log for minutes: standbys, archive and disk must take it all.

use super::{Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, severity_told};
use crate::engine::Metric;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "wal-rate", "much write-ahead log, over five minutes", rule);

const WINDOW_SECONDS: f64 = 300.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    if tick.sample.server.in_recovery {
        // A standby writes what it is sent.
        return Verdict::Quiet;
    }
    let Some(mean) = situation.mean(Metric::WalBytes, WINDOW_SECONDS) else {
        return Verdict::NotYet("judged over five minutes");
    };
    let limits = &situation.thresholds.wal_bytes_per_second;
    let Some((severity, threshold)) = limits.judge(mean.value, severity_told(told, Subject::Replication))
    else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "{}/s of write-ahead log over the last {}",
            format::bytes(mean.value),
            format::age(mean.seconds.round())
        ),
        subject: Subject::Replication,
        help: "pane 3 sorted by wal/s tells which statements; standbys and archiving must keep up with it"
            .into(),
        evidence: Evidence { value: mean.value, threshold, unit: "bytes per second" },
    }])
}
