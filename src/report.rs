//! What was seen, for programs and for people: the snapshot as JSON and as text.
//!
//! Reads observers, draws nothing. It must not know the terminal.

mod check;
mod json;
mod text;

use jiff::Timestamp;

use crate::engine::{Observer, Severity};

/// The contract `dbtriage.snapshot/1` as one JSON document; `interval_seconds` is what the rates span, `None` for
/// a single sample.
pub fn json(
    observers: &[Observer],
    taken_at: Timestamp,
    interval_seconds: Option<f64>,
) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(&json::Snapshot::of(observers, taken_at, interval_seconds))?;
    Ok(crate::text::terminal_safe_json(&json))
}

/// The same for a ticket: what one would type up by hand.
pub fn text(observers: &[Observer], taken_at: Timestamp) -> String {
    text::render(observers, taken_at)
}

/// The findings as one JSON document, the contract `dbtriage.check/1`; `for_seconds` is how long was watched.
pub fn check_json(
    observers: &[Observer],
    taken_at: Timestamp,
    for_seconds: f64,
) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(&check::Document::of(observers, taken_at, for_seconds))?;
    Ok(crate::text::terminal_safe_json(&json))
}

/// The findings, one a line, worst first.
pub fn check_text(observers: &[Observer]) -> String {
    check::render(observers)
}

/// How bad the worst finding of all targets is; `None` where nothing was found.
pub fn worst(observers: &[Observer]) -> Option<Severity> {
    check::worst(observers)
}
