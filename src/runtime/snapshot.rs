//! A few samples of every target, one report, the end.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::opening;
use super::{Failure, SAMPLES_MAX, logging, now, observers, start_tokio};
use crate::cli::{CheckFormat, SnapshotFormat};
use crate::config::ReportConfig;
use crate::engine::{Baseline, Observer, Severity, privacy};
use crate::format::seconds_between;
use crate::model::{Body, Sample, TargetId};
use crate::report;
use crate::sources::Pace;
use crate::sources::postgres::Cure;

/// How long a target may be behind before the report is printed without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints a report over `ticks` samples. Without a sample from any target the report is printed too, the reason
/// goes to standard error, and the exit code is 3.
pub fn snapshot(config: ReportConfig, format: SnapshotFormat, ticks: u32) -> Result<ExitCode, Failure> {
    drop(logging::start(config.log.as_deref())?);
    for warning in &config.targets.warnings {
        logging::warn(warning);
    }
    let observers = start_tokio()?.block_on(collect(config, ticks))?;
    let interval = observers
        .iter()
        .filter_map(|observer| observer.tick().and_then(|tick| tick.interval_seconds))
        .reduce(f64::max);
    let text = match format {
        SnapshotFormat::Json => {
            report::json(&observers, now(), interval).map_err(|error| Failure::usage(error.to_string()))?
                + "\n"
        }
        SnapshotFormat::Text => report::text(&observers, now()),
        SnapshotFormat::Markdown => report::markdown(&observers, now()),
    };
    print(&text)?;
    if observers.iter().any(|observer| observer.tick().is_some()) {
        return Ok(ExitCode::SUCCESS);
    }
    let reasons: Vec<String> = observers
        .iter()
        .filter_map(|observer| observer.outage())
        .map(|outage| outage.reason.to_string())
        .collect();
    Err(Failure::unreachable(reasons.join(" | ")))
}

/// The exit codes of `check`, as monitors know them.
const WARNING: u8 = 1;
const CRITICAL: u8 = 2;
const UNKNOWN: u8 = 3;

/// Prints what is wrong, seen over some time. The exit code is that of the worst finding; 3 where a target gave no
/// sample, or, if `strict`, where a check could not tell.
pub fn check(
    config: ReportConfig,
    format: CheckFormat,
    watch: Duration,
    strict: bool,
) -> Result<ExitCode, Failure> {
    drop(logging::start(config.log.as_deref())?);
    for warning in &config.targets.warnings {
        logging::warn(warning);
    }
    // A short watch still takes three samples: what is told must be seen twice.
    let mut config = config;
    config.interval = config.interval.min(watch / 2);
    let samples = watch.as_millis().div_ceil(config.interval.as_millis().max(1));
    let ticks = u32::try_from(samples).unwrap_or(u32::MAX).saturating_add(1);
    let observers = start_tokio()?.block_on(collect(config, ticks))?;
    print(&match format {
        CheckFormat::Json => {
            report::check_json(&observers, now(), watch.as_secs_f64())
                .map_err(|error| Failure::usage(error.to_string()))?
                + "\n"
        }
        CheckFormat::Text => report::check_text(&observers),
    })?;
    let is_blind = observers.iter().any(|observer| observer.tick().is_none());
    let is_unsure = strict && observers.iter().any(|observer| !observer.not_yet().is_empty());
    Ok(match report::worst(&observers) {
        _ if is_blind => ExitCode::from(UNKNOWN),
        Some(Severity::Critical) => ExitCode::from(CRITICAL),
        Some(Severity::Warning) => ExitCode::from(WARNING),
        _ if is_unsure => ExitCode::from(UNKNOWN),
        Some(Severity::Notice) | None => ExitCode::SUCCESS,
    })
}

/// A reader that has seen enough closes the pipe, which is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::usage(format!("cannot write the report: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn collect(config: ReportConfig, ticks: u32) -> Result<Vec<Observer>, Failure> {
    let opened = opening::open(config.targets, true).await?;
    let mut observers = observers(&opened, Baseline::First, &config.thresholds);
    let (sender, mut samples) = mpsc::channel(SAMPLES_MAX);
    let (_keep_pace, pace) = watch::channel(Pace::report(config.interval));
    let mut left: BTreeMap<TargetId, u32> = BTreeMap::new();
    let mut startable = Vec::new();
    for it in opened {
        // Of one that waiting does not cure nothing will change within the time of a report.
        if it.failure().is_none_or(|error| error.cure == Cure::Wait) {
            left.insert(it.target().id, ticks);
            startable.push(it);
        }
    }
    let handles = opening::start(startable, &pace, &sender);
    let limit = config.interval * ticks + PATIENCE;
    let (began, watched) = (now(), config.interval * ticks.saturating_sub(1));
    let all_in = async {
        while left.values().any(|left| *left > 0) {
            let Some(sample) = samples.recv().await else { return };
            // A target that is ready early is read on, so that all of them span the same time.
            if let Some(left) = left.get_mut(&sample.target) {
                // An outage is told every second, whatever the interval: it lasts as long as is watched.
                match sample.body {
                    Body::Outage(_) if watched.as_secs_f64() <= seconds_between(began, sample.taken_at) => {
                        *left = 0;
                    }
                    Body::Outage(_) => {}
                    Body::Postgres(_) | Body::Redis(_) => *left = left.saturating_sub(1),
                }
            }
            observe(&mut observers, sample, config.redact);
        }
    };
    // A target that stays silent is reported as what it is.
    drop(timeout(limit, all_in).await);
    drop(handles);
    Ok(observers)
}

fn observe(observers: &mut [Observer], mut sample: Sample, redact: bool) {
    if redact {
        privacy::mask(&mut sample);
    }
    if let Some(observer) = observers.get_mut(sample.target.0) {
        observer.observe(&sample);
    }
}
