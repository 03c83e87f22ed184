//! The timeline of an incident: what happened, what was done, whether it helped. Markdown for the report after it, JSON
//! for programs.

use jiff::Timestamp;
use serde::Serialize;
use strum::IntoEnumIterator as _;

use crate::app::{App, Event, What, shown_figure};
use crate::engine::changes::SeenKind;
use crate::engine::recovery::{Figure, Mean, Recovery, StatementLine};
use crate::engine::{Observer, Severity};
use crate::format::{age_at, clock, counted, duration_ms, rfc3339};
use crate::model::action::Record;
use crate::model::{Kind, TargetId};
use crate::text;

/// What was gone through.
#[derive(Debug, Clone)]
pub struct Span {
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// Where something is missing.
    pub cuts: Vec<Timestamp>,
    /// The files.
    pub files: Vec<String>,
    /// Whether the literals of statements were left out.
    pub redacted: bool,
}

/// Events in the order of time.
fn events(app: &App) -> Vec<&Event> {
    let mut events: Vec<&Event> = app.events.all().collect();
    events.sort_by_key(|event| event.at);
    events
}

fn recoveries(app: &App) -> impl Iterator<Item = (&Observer, &Recovery)> {
    let of = |observer| {
        let watch = app.recovery_watch(target_of(observer))?;
        Some(watch.all().iter().map(move |recovery| (observer, recovery)))
    };
    app.observers.iter().filter_map(of).flatten()
}

const fn target_of(observer: &Observer) -> TargetId {
    observer.target.id
}

/// Text that may stand in a cell of a table: on one line, and no cell of its own.
fn cell(raw: &str) -> String {
    text::line(raw).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// A statement between backticks, in which nothing but the end of a cell has a meaning.
fn code(raw: &str) -> String {
    format!("`{}`", text::line(&text::folded(raw)).replace('`', "'"))
}

/// The same in a cell of a table.
fn code_cell(raw: &str) -> String {
    code(raw).replace('|', "\\|")
}

/// A statement that was counted; texts of utility statements hold their literals before PostgreSQL 16.
fn counted_statement(line: &StatementLine) -> Option<String> {
    line.query.as_deref().map(|query| text::masked(query).into_owned())
}

pub(super) fn markdown(app: &App, span: &Span) -> String {
    let names: Vec<&str> = app.observers.iter().map(|observer| observer.target.name.as_str()).collect();
    let mut out = format!("# Incident timeline: {}\n\n", cell(&names.join(", ")));
    out += &format!(
        "{} to {} ({}), from {}. All times are UTC{}.\n\n",
        rfc3339(span.begins),
        rfc3339(span.ends),
        age_at(span.begins, span.ends),
        cell(&span.files.join(", ")),
        if span.redacted { "; literals of statements were left out" } else { "" }
    );
    for at in &span.cuts {
        out += &format!("The recording is damaged at {}: samples after that are missing.\n\n", clock(*at));
    }
    summary(&mut out, app);
    table_of_events(&mut out, app);
    peaks(&mut out, app);
    statements(&mut out, app);
    actions(&mut out, app);
    before_and_after(&mut out, app, span.ends);
    out.truncate(out.trim_end().len());
    out + "\n"
}

fn summary(out: &mut String, app: &App) {
    let events = events(app);
    *out += "## Summary\n\n";
    let is_bad = |event: &&&Event| event.severity >= Some(Severity::Warning) && is_finding(event);
    match events.iter().find(is_bad) {
        Some(first) => {
            *out += &format!("- It began at {}: {}.\n", clock(first.at), cell(&first.sentence()));
        }
        None => *out += "- Nothing was found that needs attention.\n",
    }
    let over = events.iter().rev().find(|event| matches!(event.what, What::Seen(SeenKind::Over, _)));
    let is_bad_now = |observer: &Observer| {
        observer.outage().is_some() || observer.findings().iter().any(|it| it.severity >= Severity::Warning)
    };
    let is_open = app.observers.iter().any(is_bad_now);
    if let Some(over) = over.filter(|_| !is_open) {
        *out += &format!("- Nothing of it was found any more from {} on.\n", clock(over.at));
    }
    let found = events.iter().filter(is_bad).count();
    let done: Vec<&Record> = events.iter().filter_map(|event| event.record()).collect();
    *out += &format!("- {}, {}.\n", counted(found, "finding"), counted(done.len(), "action"));
    for (observer, recovery) in recoveries(app) {
        let (since, verdict) = (recovery.verdicts.last().map_or(recovery.at, |it| it.0), recovery.verdict());
        *out += &format!(
            "- {}, {} {}: {} ({} after).\n",
            cell(&observer.target.name),
            clock(recovery.at),
            cell(&recovery.cause),
            verdict.word(),
            age_at(recovery.at, since)
        );
    }
    *out += "\n";
}

const fn is_finding(event: &Event) -> bool {
    matches!(event.what, What::Seen(SeenKind::Began | SeenKind::Outage, _))
}

fn table_of_events(out: &mut String, app: &App) {
    *out += "## Timeline\n\n| time | server | by | what |\n|---|---|---|---|\n";
    for event in events(app) {
        let word = match event.severity {
            Some(Severity::Critical) => "**critical** ",
            Some(Severity::Warning) => "**warning** ",
            Some(Severity::Notice) | None => "",
        };
        *out += &format!(
            "| {} | {} | {} | {word}{} |\n",
            clock(event.at),
            cell(&event.target),
            cell(&event.by()),
            cell(&event.sentence())
        );
    }
    *out += "\n";
}

fn peaks(out: &mut String, app: &App) {
    *out += "## Peak figures\n\n| figure | server | worst | at |\n|---|---|---|---|\n";
    // Nothing of what should be little is no peak.
    let is_told = |figure: &Figure, value: f64| !figure.less_is_better() || value > 0.0;
    for observer in app.observers.iter().filter(|observer| observer.target.kind == Kind::Postgres) {
        let Some(watch) = app.recovery_watch(target_of(observer)) else { continue };
        let peaks = Figure::iter().filter_map(|it| Some((it, watch.peak(it)?)));
        for (figure, (value, at)) in peaks.filter(|(figure, (value, _))| is_told(figure, *value)) {
            let (name, value) = (cell(&observer.target.name), shown_figure(figure, Some(value)));
            *out += &format!("| {} | {name} | {value} | {} |\n", figure.name(), clock(at));
        }
    }
    *out += "\n";
}

fn statements(out: &mut String, app: &App) {
    let mut lines = String::new();
    for (_, recovery) in recoveries(app) {
        for statement in recovery.blockers() {
            lines += &format!("- blocked others: {}\n", code(&text::masked(statement)));
        }
        for line in &recovery.statements {
            let ms = |value: Option<f64>| value.map_or_else(|| "?".into(), duration_ms);
            let query = counted_statement(line);
            let query = query.map_or_else(|| format!("query id {}", line.key.queryid), |query| code(&query));
            lines += &format!(
                "- {query}: mean {} usually, {} at the baseline, {} at worst\n",
                ms(line.usual_ms),
                ms(line.before_ms),
                ms(line.worst_ms)
            );
        }
    }
    if !lines.is_empty() {
        *out += &format!("## Statements involved\n\n{lines}\n");
    }
}

fn actions(out: &mut String, app: &App) {
    let events = events(app);
    let records: Vec<&Record> = events.iter().filter_map(|event| event.record()).collect();
    if records.is_empty() {
        return;
    }
    *out += "## Actions\n\n";
    for record in records {
        let whom = &record.session;
        *out += &format!(
            "### {} {} {} {}\n\n",
            clock(record.at),
            record.action,
            whom.pid,
            cell(&whom.application)
        );
        let from = record.by.from.as_deref().map_or_else(String::new, |from| format!(" from {from}"));
        *out += &format!("- by {}{} on {}\n", cell(&record.by.os_user), cell(&from), cell(&record.by.host));
        *out += &format!(
            "- session {} of {} in {}, {}, {}\n",
            whom.pid,
            cell(&whom.user),
            cell(&whom.database),
            cell(&whom.client),
            cell(&whom.state)
        );
        *out += &format!("- SQL: {}\n", code(&record.sql));
        *out +=
            &format!("- outcome: {}\n", record.outcome.as_deref().map_or_else(|| "not known".into(), cell));
        for (when, counts) in [("before", Some(&record.before)), ("after", record.after.as_ref())] {
            let Some(counts) = counts else { continue };
            let number = |value: Option<usize>| value.map_or_else(|| "?".into(), |value| value.to_string());
            *out += &format!(
                "- {when}: {} connections, {} active, {} waiting for a lock, {} behind it\n",
                number(counts.connections),
                number(counts.active),
                number(counts.blocked),
                number(counts.behind)
            );
        }
        *out += "\n";
    }
}

fn before_and_after(out: &mut String, app: &App, ends: Timestamp) {
    for (observer, recovery) in recoveries(app) {
        *out += &format!(
            "## Before and after: {} {}\n\n{}: {}, {} after.\n\n| figure | before | worst | at the end |\n|---|---|---|---|\n",
            clock(recovery.at),
            cell(&recovery.cause),
            cell(&observer.target.name),
            recovery.verdict().word(),
            age_at(recovery.at, ends)
        );
        for figure in Figure::iter() {
            let now = recovery.figures_at(ends).and_then(|figures| figure.of(figures));
            let (before, worst) = (figure.of(&recovery.before), figure.of(&recovery.worst));
            if before.or(worst).or(now).is_none() {
                continue;
            }
            *out += &format!(
                "| {} | {} | {} | {} |\n",
                figure.name(),
                shown_figure(figure, before),
                shown_figure(figure, worst),
                shown_figure(figure, now)
            );
        }
        for line in &recovery.statements {
            let ms = |value: Option<f64>| value.map_or_else(|| "-".into(), duration_ms);
            let now = match line.now {
                Mean::Draining => "draining".to_owned(),
                Mean::Of(mean) => ms(mean),
            };
            let query = counted_statement(line);
            let query = query.map_or_else(|| line.key.queryid.to_string(), |query| code_cell(&query));
            *out +=
                &format!("| mean of {query} | {} | {} | {now} |\n", ms(line.before_ms), ms(line.worst_ms));
        }
        *out += "\n";
    }
}

/// The contract `dbtriage.timeline/1`.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    schema: &'static str,
    begins: String,
    ends: String,
    files: &'a [String],
    redacted: bool,
    missing: Vec<String>,
    events: Vec<EventLine>,
    actions: Vec<&'a Record>,
    peaks: Vec<Peak>,
    recoveries: Vec<RecoveryLine<'a>>,
}

#[derive(Debug, Serialize)]
struct EventLine {
    at: String,
    target: String,
    severity: Option<Severity>,
    by: String,
    what: String,
}

#[derive(Debug, Serialize)]
struct Peak {
    target: String,
    figure: &'static str,
    value: f64,
    at: String,
}

#[derive(Debug, Serialize)]
struct RecoveryLine<'a> {
    target: &'a str,
    at: String,
    cause: &'a str,
    verdict: &'static str,
    verdicts: Vec<(String, &'static str)>,
    relapses: u32,
    figures: Vec<(&'static str, [Option<f64>; 3])>,
}

impl<'a> Document<'a> {
    /// A replay begins with the first sample, the program a moment before.
    #[cfg(debug_assertions)]
    pub(super) fn forget_beginning(&mut self) {
        self.begins.clear();
    }

    pub(super) fn of(app: &'a App, span: &'a Span) -> Self {
        let events = events(app);
        let peaks = app.observers.iter().flat_map(|observer| {
            let watch = app.recovery_watch(target_of(observer));
            Figure::iter().filter_map(move |figure| {
                let (value, at) = watch?.peak(figure)?;
                let target = observer.target.name.clone();
                Some(Peak { target, figure: figure.name(), value, at: rfc3339(at) })
            })
        });
        let recovery = |(observer, recovery): (&'a Observer, &'a Recovery)| RecoveryLine {
            target: &observer.target.name,
            at: rfc3339(recovery.at),
            cause: &recovery.cause,
            verdict: recovery.verdict().word(),
            verdicts: recovery.verdicts.iter().map(|(at, verdict)| (rfc3339(*at), verdict.word())).collect(),
            relapses: recovery.relapses,
            figures: Figure::iter()
                .map(|figure| {
                    let last = recovery.figures_at(span.ends).and_then(|figures| figure.of(figures));
                    (figure.name(), [figure.of(&recovery.before), figure.of(&recovery.worst), last])
                })
                .collect(),
        };
        Self {
            schema: "dbtriage.timeline/1",
            begins: rfc3339(span.begins),
            ends: rfc3339(span.ends),
            files: &span.files,
            redacted: span.redacted,
            missing: span.cuts.iter().map(|at| rfc3339(*at)).collect(),
            events: events
                .iter()
                .map(|event| EventLine {
                    at: rfc3339(event.at),
                    target: event.target.clone(),
                    severity: event.severity,
                    by: event.by(),
                    what: event.sentence(),
                })
                .collect(),
            actions: app.events.all().filter_map(Event::record).collect(),
            peaks: peaks.collect(),
            recoveries: recoveries(app).map(recovery).collect(),
        }
    }
}
