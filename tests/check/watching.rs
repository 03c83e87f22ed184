//! Runs `dbtriage check` beside what a test does to a server, and reads its report.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use dbtriage_lab::Client;
use dbtriage_lab::terminal::{PATIENCE, until};
use pretty_assertions::assert_eq;
use serde::Deserialize;
use tempfile::NamedTempFile;

use super::PROGRAM;

/// A running `dbtriage check`.
pub(crate) struct Watch {
    child: Child,
    _config: NamedTempFile,
}

/// Starts to watch for some time, with these lines as the limits.
pub(crate) fn watch(time: &str, limits: &str, targets: &[&str]) -> Watch {
    let mut config = NamedTempFile::new().unwrap();
    write!(config, "[thresholds]\n{limits}\n").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["check", "--for", time, "--format", "json", "--config"]).arg(config.path()).args(targets);
    Watch { child: command.stdout(Stdio::piped()).spawn().unwrap(), _config: config }
}

/// The same, and returns when the first sample has been taken of the servers of these clients.
pub(crate) fn watch_from_now(time: &str, limits: &str, targets: &[&str], admins: &[&Client]) -> Watch {
    let of_the_program = "FROM pg_stat_activity WHERE application_name = 'dbtriage'";
    // What an earlier watch has left behind would look like a first sample.
    for admin in admins {
        wait_for(admin, "the end of a watch", &format!("SELECT count(*) = 0 {of_the_program}"));
    }
    let watch = watch(time, limits, targets);
    for admin in admins {
        wait_for_first_sample(admin);
    }
    watch
}

/// Waits until the program has read its first sample of a server. The counters of statements come last of it, and are
/// read before it on another connection: of the program's, the sampler's is opened first.
fn wait_for_first_sample(admin: &Client) {
    let first = "SELECT state, query FROM pg_stat_activity WHERE application_name = 'dbtriage' ORDER BY backend_start LIMIT 1";
    let sampled = "count(*) = 1 AND bool_and(state = 'idle' AND query LIKE '%dbtriage:statements%')";
    wait_for(admin, "the first sample", &format!("SELECT {sampled} FROM ({first}) AS sampler"));
}

/// Waits until a statement answers with true.
pub(crate) fn wait_for(client: &Client, what: &str, sql: &str) {
    until(what, PATIENCE, || client.cell(sql).unwrap() == "t");
}

/// What a client reads, as a number.
pub(crate) fn number(client: &Client, sql: &str) -> f64 {
    client.cell(sql).unwrap().parse().unwrap_or_else(|_| panic!("no number: {sql}"))
}

impl Watch {
    /// Waits for the end and reads the report.
    pub(crate) fn end(self) -> Report {
        let output = self.child.wait_with_output().unwrap();
        let report: Report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
        let code = match report.severity.as_deref() {
            _ if report.targets.iter().any(|target| target.error.is_some()) => None,
            Some("critical") => Some(2),
            Some("warning") => Some(1),
            Some(_) | None => Some(0),
        };
        if let Some(code) = code {
            assert_eq!(output.status.code(), Some(code), "the exit code is the worst finding: {report:?}");
        }
        report
    }
}

/// What is told of all targets.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    severity: Option<String>,
    targets: Vec<Target>,
}

/// What is told of one target.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    name: String,
    error: Option<String>,
    findings: Vec<Found>,
    not_yet: Vec<NotYet>,
}

/// A check that cannot tell.
#[derive(Debug, Deserialize)]
struct NotYet {
    check: String,
    reason: String,
}

/// A finding.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Found {
    check: String,
    severity: String,
    pub(crate) summary: String,
    pub(crate) pid: Option<i32>,
    pub(crate) help: String,
    pub(crate) evidence: Evidence,
}

/// The number that was judged.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Evidence {
    pub(crate) value: f64,
    threshold: f64,
    unit: String,
}

impl Report {
    /// What these checks have found of the only target, one finding each; nothing else may have been found.
    pub(crate) fn found<const N: usize>(&self, checks: [&str; N]) -> [&Found; N] {
        assert_eq!(self.targets.len(), 1);
        self.targets[0].found(checks)
    }

    /// What is told of a target by its place on the command line.
    pub(crate) fn target(&self, place: usize) -> &Target {
        &self.targets[place]
    }
}

impl Target {
    /// What these checks have found, one finding each; nothing else may have been found.
    pub(crate) fn found<const N: usize>(&self, checks: [&str; N]) -> [&Found; N] {
        let told: Vec<&str> = self.findings.iter().map(|found| found.check.as_str()).collect();
        let distinct: BTreeSet<&str> = told.iter().copied().collect();
        assert_eq!(distinct, BTreeSet::from(checks), "of {}: {self:#?}", self.name);
        assert_eq!(told.len(), checks.len(), "of {}: {self:#?}", self.name);
        checks.map(|check| self.findings.iter().find(|found| found.check == check).unwrap())
    }

    /// What one check has found, all of it; nothing else may have been found.
    pub(crate) fn all_found(&self, check: &str) -> Vec<&Found> {
        assert!(self.findings.iter().all(|found| found.check == check), "{:#?}", self.findings);
        self.findings.iter().collect()
    }

    /// Why a check cannot tell; `None` where it could.
    pub(crate) fn not_yet(&self, check: &str) -> Option<&str> {
        self.not_yet.iter().find(|it| it.check == check).map(|it| it.reason.as_str())
    }
}

impl Found {
    /// Fails unless it is as bad as that, past this limit.
    pub(crate) fn assert_judged(&self, severity: &str, threshold: f64, unit: &str) {
        let judged = (self.severity.as_str(), self.evidence.threshold, self.evidence.unit.as_str());
        assert_eq!(judged, (severity, threshold, unit), "{self:#?}");
    }

    /// Fails unless the sentence holds all of these.
    pub(crate) fn assert_says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.summary.contains(part), "{part:?} is not in {:?}", self.summary);
        }
    }

    /// Fails unless the number lies between what was read before and what was read after.
    pub(crate) fn assert_within(&self, before: f64, after: f64) {
        let value = self.evidence.value;
        // What a report prints has been rounded.
        assert!(
            (before - 0.001..=after + 0.001).contains(&value),
            "{value} of {before} to {after}: {self:#?}"
        );
    }

    /// Fails unless the number is this one, with so much of it to spare.
    pub(crate) fn assert_near(&self, expected: f64, spare: f64) {
        let value = self.evidence.value;
        assert!((value - expected).abs() <= spare * expected, "{value} for {expected}: {self:#?}");
    }
}

/// Work that is done again and again until this is dropped.
pub(crate) struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to do something again and again.
pub(crate) fn busy_with(mut round: impl FnMut() + Send + 'static) -> Busy {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            round();
        }
    });
    Busy { stop, thread: Some(thread) }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the work failed");
    }
}
