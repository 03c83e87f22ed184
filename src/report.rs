//! What was seen, for programs and for people: the snapshot as JSON and as text.
//!
//! Reads observers, and the application where it is told what was done; draws nothing. It must not know the terminal.

mod check;
mod json;
mod text;
mod timeline;

use jiff::Timestamp;

pub use self::timeline::Span;
use crate::app::App;

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

/// The same as Markdown.
pub fn markdown(observers: &[Observer], taken_at: Timestamp) -> String {
    let text = text::render(observers, taken_at);
    let title = text.lines().next().unwrap_or_default().to_owned();
    let mut out = format!("## {title}\n\n");
    for finding in observers.iter().flat_map(Observer::findings) {
        let mark = format!("{:?}", finding.severity).to_lowercase();
        out += &crate::text::line(&format!("- **{mark}** {}", finding.summary));
        out.push('\n');
    }
    // A fence longer than any run of backticks within.
    out + &format!("\n`````text\n{text}`````\n")
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

/// The timeline of a recording that an application has gone through, as Markdown.
pub fn timeline(app: &App, span: &Span) -> String {
    crate::text::terminal_safe_json(&timeline::markdown(app, span))
}

/// The same as one JSON document, the contract `dbtriage.timeline/1`.
pub fn timeline_json(app: &App, span: &Span) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(&timeline::Document::of(app, span))?;
    Ok(crate::text::terminal_safe_json(&json))
}

/// What has been made of the samples so far, as one line of JSON: the report of a target, all events, and each verdict.
/// For the test that a replay makes the same of them.
#[cfg(debug_assertions)]
pub fn trace(app: &App, target: crate::model::TargetId) -> serde_json::Result<String> {
    let observer: Vec<Observer> = app.observers.get(target.0).map(Observer::as_shown).into_iter().collect();
    let at = observer.first().and_then(Observer::tick).map_or(app.began, |tick| tick.taken_at);
    let report = json::Snapshot::of(&observer, at, None);
    let span = Span { begins: app.began, ends: at, cuts: Vec::new(), files: Vec::new(), redacted: false };
    let mut timeline = timeline::Document::of(app, &span);
    timeline.forget_beginning();
    serde_json::to_string(&(report, timeline))
}
