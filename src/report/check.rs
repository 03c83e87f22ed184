//! What `dbtriage check` prints: the findings of every target, worst first, and what could not be told.
//!
//! For a person, a cron mail and a monitor that reads the first line (Nagios) or JSON alike.

use jiff::Timestamp;
use serde::Serialize;

use super::json::FindingEntry;
use crate::engine::findings::checks_of;
use crate::engine::{Observer, Severity};
use crate::format;
use crate::model::Kind;
use crate::text;

/// The contract `dbtriage.check/1`. Field names are the contract; unknown is `null`.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema: &'static str,
    taken_at: String,
    for_seconds: f64,
    /// The worst finding of all.
    severity: Option<Severity>,
    targets: Vec<Target<'a>>,
}

#[derive(Serialize)]
struct Target<'a> {
    name: &'a str,
    kind: Kind,
    error: Option<String>,
    findings: Vec<FindingEntry>,
    not_yet: Vec<NotYet>,
}

#[derive(Serialize)]
struct NotYet {
    check: &'static str,
    reason: &'static str,
}

impl<'a> Document<'a> {
    pub(super) fn of(observers: &'a [Observer], taken_at: Timestamp, for_seconds: f64) -> Self {
        let target = |observer: &'a Observer| Target {
            name: &observer.target.name,
            kind: observer.target.kind,
            error: observer.outage().map(|outage| outage.reason.to_string()),
            findings: observer.findings().iter().map(FindingEntry::of).collect(),
            not_yet: observer.not_yet().iter().map(|(check, reason)| NotYet { check, reason }).collect(),
        };
        Self {
            schema: "dbtriage.check/1",
            taken_at: format::rfc3339(taken_at),
            for_seconds,
            severity: worst(observers),
            targets: observers.iter().map(target).collect(),
        }
    }
}

/// How bad the worst finding of all targets is.
pub(super) fn worst(observers: &[Observer]) -> Option<Severity> {
    observers.iter().flat_map(Observer::findings).map(|finding| finding.severity).max()
}

/// One line for each finding, worst first; then one for each target that is well, and one for each check that could not
/// tell.
pub(super) fn render(observers: &[Observer]) -> String {
    let mut findings: Vec<_> = observers
        .iter()
        .flat_map(|observer| observer.findings().iter().map(|finding| (&observer.target.name, finding)))
        .collect();
    findings.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
    let mut lines: Vec<String> = findings
        .iter()
        .map(|(name, finding)| {
            let severity = format!("{:?}", finding.severity).to_uppercase();
            format!("{severity} {name}: {} [{}] -> {}", finding.summary, finding.check, finding.help)
        })
        .collect();
    for observer in observers.iter().filter(|observer| observer.findings().is_empty()) {
        let count = checks_of(observer.target.kind).count();
        lines.push(format!("OK {}: nothing found by {count} checks", observer.target.name));
    }
    for observer in observers {
        let name = &observer.target.name;
        lines.extend(
            observer.not_yet().iter().map(|(check, why)| format!("NOT KNOWN {name}: {why} [{check}]")),
        );
    }
    lines.iter().map(|line| text::line(line).into_owned() + "\n").collect()
}
