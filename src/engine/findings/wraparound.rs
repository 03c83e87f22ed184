//! Databases whose oldest rows near the end of the transaction counter, at which the server refuses to write.

use super::{Check, Evidence, Found, Situation, Subject, Told, Verdict, severity_told, upkeep};
use crate::engine::rates::float;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "wraparound", "databases that near the end of the transaction counter", rule);

/// Half of the counter of 32 bits can be told from the other half.
const COUNTER: f64 = 2_147_483_648.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let (tick, ages) = match upkeep(situation, |upkeep| &upkeep.freeze_ages) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    let Some(oldest) = ages.iter().max_by_key(|it| it.xids.max(it.multixacts)) else { return Verdict::Quiet };
    let (age, noun) = if oldest.xids < oldest.multixacts {
        (oldest.multixacts, "multixacts")
    } else {
        (oldest.xids, "transactions")
    };
    let percent = 100.0 * float(age) / COUNTER;
    let limits = &situation.thresholds.wraparound_percent;
    let Some((severity, threshold)) = limits.judge(percent, severity_told(told, Subject::Server)) else {
        return Verdict::Quiet;
    };
    let names = &tick.sample.names.databases;
    let name =
        names.get(&oldest.datid).map_or_else(|| format!("with OID {}", oldest.datid), ToString::to_string);
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "database {name} has not been frozen for {} {noun}, {} of what there are",
            format::count(float(age)),
            format::share(percent / 100.0)
        ),
        subject: Subject::Server,
        help: "VACUUM (FREEZE) its oldest tables; what holds vacuum back: long transactions, prepared ones, slots".into(),
        evidence: Evidence { value: percent, threshold, unit: "percent" },
    }])
}
