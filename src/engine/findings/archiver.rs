//! Write-ahead log that cannot be archived: it fills the disk, and no backup can be restored to this moment.

use super::{Check, Evidence, Found, Situation, Subject, Told, Verdict, upkeep};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "archiver", "write-ahead log that cannot be archived", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let (tick, archiver) = match upkeep(situation, |upkeep| &upkeep.archiver) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    let Some(failed_at) =
        archiver.failed_at.filter(|failed| archiver.archived_at.is_none_or(|it| it < *failed))
    else {
        return Verdict::Quiet;
    };
    let seconds = format::seconds_between(failed_at, tick.sample.server_time);
    let Some((severity, threshold)) = situation.thresholds.archiver_failed_seconds.judge_until(seconds)
    else {
        return Verdict::Quiet;
    };
    let file = archiver.failed_file.as_deref().unwrap_or("a file");
    let last = archiver.archived_at.map_or_else(
        || "none was archived".to_owned(),
        |at| format!("the last was archived {} ago", format::age_at(at, tick.sample.server_time)),
    );
    Verdict::Found(vec![Found {
        severity,
        summary: format!("archiving fails: {file} {} ago; {last}", format::age(seconds)),
        subject: Subject::Server,
        help: "the server's log has the error of archive_command; until then pg_wal grows".into(),
        evidence: Evidence { value: seconds, threshold, unit: "seconds" },
    }])
}
