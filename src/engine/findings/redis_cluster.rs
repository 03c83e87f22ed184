//! A Redis cluster that does not serve every slot.

use super::{Check, Evidence, Found, NO_SAMPLE, Severity, Situation, Subject, Told, Verdict};
use crate::engine::rates::float;
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Redis, "redis-cluster", "a Redis cluster that does not serve every slot", rule).twice();

/// Slots of every cluster.
const CLUSTER_SLOTS: u64 = 16_384;

fn rule(situation: &Situation<'_>, _: &Told) -> Verdict {
    let Some(tick) = situation.redis() else { return NO_SAMPLE };
    let Some(upkeep) = tick.sample.upkeep.as_deref() else { return Verdict::NotYet("not read yet") };
    let Some(cluster) = &upkeep.cluster else { return Verdict::Quiet };
    let Some(cluster) = cluster.value() else { return Verdict::NotYet("the server does not let us read it") };
    let failing = cluster.slots_fail + cluster.slots_pfail;
    if &*cluster.state == "ok" && failing == 0 {
        return Verdict::Quiet;
    }
    let without_node = CLUSTER_SLOTS.saturating_sub(cluster.slots_assigned) + failing;
    let is_down = &*cluster.state != "ok";
    let state = if is_down { "is down" } else { "serves, but nodes do not answer" };
    Verdict::Found(vec![Found {
        severity: if is_down { Severity::Critical } else { Severity::Warning },
        summary: format!(
            "the cluster {state}: {} of 16384 slots assigned, {failing} on nodes that do not answer, {} known",
            cluster.slots_assigned,
            format::counted(usize::try_from(cluster.known_nodes).unwrap_or(usize::MAX), "node")
        ),
        subject: Subject::Cache,
        help: "CLUSTER NODES tells which node; a replica takes over if the majority of masters is up".into(),
        evidence: Evidence {
            value: float(i64::try_from(without_node).unwrap_or(i64::MAX)),
            threshold: 1.0,
            unit: "slots",
        },
    }])
}
