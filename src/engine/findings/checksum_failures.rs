//! Pages whose checksum does not match what they hold.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict};
use crate::engine::rates::float;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "checksum-failures", "pages whose checksum does not match", rule);

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let Some(databases) = tick.sample.databases.value() else {
        return Verdict::NotYet("the counters of the databases cannot be read");
    };
    let failed = databases.iter().filter_map(|it| Some((it.datid, it.checksum_failures.filter(|n| *n > 0)?)));
    let Some((datid, failures)) = failed.max_by_key(|(_, failures)| *failures) else { return Verdict::Quiet };
    let grown = situation.changes.checksum_failures.is_some_and(|first| first < failures);
    let name = tick.sample.names.database(datid);
    Verdict::Found(vec![Found {
        // What was counted before we came may be long mended.
        severity: if grown { Severity::Critical } else { Severity::Warning },
        summary: format!("{failures} reads of database {name} met a page that does not match its checksum"),
        subject: Subject::Server,
        help: "the disk or its controller lies: take a backup to another disk, and find the table in the log"
            .into(),
        evidence: Evidence { value: float(failures), threshold: 1.0, unit: "reads" },
    }])
}
