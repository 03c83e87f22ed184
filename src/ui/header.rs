//! Everything that is not a pane: identity, vitals, findings, tabs, footer.

use ratatui::layout::Rect;
use strum::IntoEnumIterator as _;

use super::canvas::{Canvas, row};
use super::layout::{Class, Layout};
use super::widgets::trend;
use crate::app::{
    App, COMMANDS, Group, Pane, Past, Replay, Role, Span, Typing, Vital, redis_vital, vitals as app_vitals,
};
use crate::engine::findings::checks_of;
use crate::engine::{Observer, Severity};
use crate::format;
use crate::model::TargetId;
use crate::model::postgres::Server;
use crate::model::postgres::Slowed;
use crate::text;

/// From here on it is said how late samples are.
const LATE_SECONDS: f64 = 1.5;
/// How many connections to a server we want: reading, locks, control.
const OWN_CONNECTIONS: usize = 3;

/// The role and mark of a severity: never colour alone.
pub(super) const fn mark(severity: Severity) -> (Role, &'static str) {
    match severity {
        Severity::Critical => (Role::Critical, "■"),
        Severity::Warning => (Role::Warning, "▲"),
        Severity::Notice => (Role::Notice, "·"),
    }
}

/// Target, version, role, uptime; at the right: state, mode, time.
pub(super) fn identity(canvas: &mut Canvas<'_>, layout: &Layout, app: &App) {
    let area = layout.identity;
    let observer = app.pg_observer().or_else(|| app.redis_observer());
    let endpoint = app.pg().and_then(|tick| tick.sample.server.endpoint.as_deref());
    let name = observer.map_or("no target", |observer| endpoint.unwrap_or(&observer.target.name));
    let state = state(app, observer, layout.class);
    let state_width: usize = state.iter().map(|span| text::width(&span.text)).sum();
    let room = area.width.saturating_sub(u16::try_from(state_width).unwrap_or(u16::MAX).saturating_add(1));
    let mut spans = vec![Span::new(Role::Title, format!(" {}", shortened(name, layout.class)))];
    if let Some(tick) = app.pg() {
        let server: &Server = &tick.sample.server;
        let role = if server.in_recovery { "standby" } else { "primary" };
        let up = format::age_at(server.started_at, tick.sample.server_time);
        let version = &server.version;
        spans.push(Span::text(match layout.class {
            Class::Wide | Class::Standard => {
                format!("  PG {version} {role}  up {up}  as {}", tick.sample.rights.user)
            }
            Class::Compact => format!("  PG {version} {role}"),
            Class::Tiny | Class::TooSmall => format!(" {role}"),
        }));
    }
    canvas.spans(Rect { width: room, ..area }, &spans);
    canvas.right(area, &state);
}

/// A socket folder says little and takes much room: on a small screen the database is what matters.
fn shortened(name: &str, class: Class) -> String {
    match (class, name.strip_prefix('/').and_then(|path| path.rsplit_once('/'))) {
        (Class::Compact | Class::Tiny, Some((folder, database))) => {
            let port = folder.rsplit_once(':').map_or("", |(_, port)| port);
            format!("socket:{port}/{database}")
        }
        _ => name.to_owned(),
    }
}

fn state(app: &App, observer: Option<&Observer>, class: Class) -> Vec<Span> {
    if let Some(past) = &app.past {
        return past_state(app, past, class);
    }
    let mut spans = Vec::new();
    let recording = recording(app);
    if !recording.is_empty() && class != Class::Tiny {
        spans.push(Span::new(Role::Dim, format!("{recording} ")));
    }
    match (observer.and_then(Observer::outage), observer.and_then(Observer::tick)) {
        (Some(outage), _) => {
            let since = format::age_at(outage.since, app.clock());
            let next = outage.retry_at.map_or_else(String::new, |at| {
                let seconds = format::seconds_between(app.clock(), at);
                if seconds >= 1.0 {
                    format!("; trying again in {}", format::age(seconds))
                } else {
                    "; trying again".into()
                }
            });
            let next = if matches!(class, Class::Tiny) { String::new() } else { next };
            spans.push(Span::new(Role::Critical, format!("○ {} for {since}{next} ", outage.kind)));
        }
        (None, Some(_)) if app.replay.is_some() => spans.extend(app.replay.iter().flat_map(replay_state)),
        (None, Some(tick)) if is_silent(tick.taken_at, app) => {
            let age = format::age_at(tick.taken_at, app.clock());
            spans.push(Span::new(Role::Critical, format!("○ no sample for {age} ")));
        }
        (None, Some(tick)) => {
            let interval = format::count(app.options.interval.as_secs_f64());
            spans.push(Span::new(Role::Good, "● "));
            spans.push(Span::text(format!("live {interval}s")));
            // A slow network: what is shown was so when it was asked for.
            let took = format::seconds_between(tick.asked_at, tick.taken_at);
            let silent = format::seconds_between(tick.taken_at, app.clock());
            let late = took.max(silent - app.options.interval.as_secs_f64());
            if late >= LATE_SECONDS {
                spans.push(Span::new(Role::Warning, format!(", {} late", format::age(late))));
            }
            spans.push(Span::text(" "));
        }
        (None, None) => spans.push(Span::new(Role::Dim, "○ connecting ")),
    }
    let verdict = verdict(app).filter(|_| class != Class::Tiny);
    if let Some(since) = app.incident_since().filter(|_| class != Class::Tiny) {
        // On a small screen the name of the server is worth more than the word.
        let word = if class == Class::Compact && verdict.is_some() { "" } else { "incident " };
        spans.push(Span::new(Role::Critical, format!(" ■ {word}{} ", format::age_at(since, app.clock()))));
    }
    spans.extend(verdict);
    let own = app.pg().map_or(OWN_CONNECTIONS, |tick| tick.sample.server.own_pids.len());
    let pooled = app.pg().is_some_and(|tick| tick.sample.server.pooled);
    if own < OWN_CONNECTIONS && !pooled && class != Class::Tiny {
        spans.push(Span::new(Role::Warning, format!(" {own} of {OWN_CONNECTIONS} connections")));
    }
    if app.private {
        spans.push(Span::new(Role::Notice, " masked "));
    }
    if app.replay.is_some() {
        // What is looked at is over: nothing can be done to it, and the first words say why.
    } else if app.options.read_only {
        spans.push(Span::new(Role::Warning, " READ ONLY "));
    } else if !matches!(class, Class::Tiny) {
        spans.push(Span::new(Role::Dim, " RW "));
    }
    if !matches!(class, Class::Tiny) {
        // The server's clock, so that it agrees with the logs; whole minutes would hide a frozen screen.
        let clock = app.pg().map_or_else(|| app.clock(), |tick| tick.sample.server_time);
        spans.push(Span::text(format!(" {} ", format::clock(clock))));
    }
    spans
}

/// Whether this is recorded: the last hours, or all of it in a file.
const fn recording(app: &App) -> &'static str {
    match (&app.recording.file, app.recording.is_rolling) {
        (Some(_), _) => "● REC",
        (None, true) => "REC",
        (None, false) => "",
    }
}

/// The verdict on what was done last, and how long ago that was.
fn verdict(app: &App) -> Option<Span> {
    let recovery = app.recovery()?;
    let (word, since) = (recovery.verdict().word(), format::age_at(recovery.at, app.clock()));
    let role = match recovery.verdict().severity() {
        Severity::Critical => Role::Critical,
        Severity::Warning => Role::Warning,
        Severity::Notice => Role::Good,
    };
    Some(Span::new(role, format!(" {word} {since} ")))
}

/// How a recording is played.
fn replay_state(replay: &Replay) -> Vec<Span> {
    let what = match (replay.is_playing, replay.is_over) {
        (true, _) => format!("▶ replay {}x", replay.speed),
        (false, true) => "‖ end of the recording".to_owned(),
        (false, false) => "‖ replay".to_owned(),
    };
    vec![Span::new(Role::Selected, format!(" {what} ")), Span::text(" ")]
}

/// Which earlier moment is looked at, and the way back; in reverse, because nothing on the screen moves then.
fn past_state(app: &App, past: &Past, class: Class) -> Vec<Span> {
    let (at, age) = (format::clock(past.at), format::age_at(past.at, app.present()));
    let live = app.options.keymap.hint("live");
    let text = match class {
        Class::Wide | Class::Standard => {
            let since = format::counted(past.samples_since, "sample");
            format!(" ‖ PAUSED at {at}, {age} ago; {since} since   {live} live ")
        }
        Class::Compact => format!(" ‖ PAUSED at {at}, {age} ago   {live} live "),
        Class::Tiny | Class::TooSmall => format!(" ‖ {at} "),
    };
    vec![Span::new(Role::Selected, text)]
}

/// Nothing has come for three intervals, and nobody has said why.
fn is_silent(taken_at: jiff::Timestamp, app: &App) -> bool {
    3.0 * app.options.interval.as_secs_f64() + 2.0 < format::seconds_between(taken_at, app.clock())
}

/// The figures, each with its trend where there is room.
pub(super) fn vitals(canvas: &mut Canvas<'_>, layout: &Layout, app: &App) {
    let area = layout.vitals;
    if area.is_empty() {
        return;
    }
    let mut all: Vec<(Vital, Option<TargetId>)> =
        app_vitals(app).into_iter().map(|vital| (vital, app.postgres)).collect();
    all.extend(redis_vital(app).map(|vital| (vital, app.redis)));
    let small = matches!(layout.class, Class::Compact | Class::Tiny);
    // No figure is left out for the sake of a trend.
    let widths: &[usize] = if small { &[4, 3, 2, 0] } else { &[12, 9, 6, 4, 2, 0] };
    let ascii = canvas.glyphs().ascii;
    let mut lines = widths.iter().map(|trend_width| vitals_line(app, &all, small, *trend_width, ascii));
    let fits = |line: &Vec<Span>| {
        line.iter().map(|span| text::width(&span.text)).sum::<usize>() <= area.width.into()
    };
    let line = lines.clone().find(fits).or_else(|| lines.next_back()).unwrap_or_default();
    canvas.spans(area, &line);
}

fn vitals_line(
    app: &App,
    all: &[(Vital, Option<TargetId>)],
    small: bool,
    trend_width: usize,
    ascii: bool,
) -> Vec<Span> {
    let mut line = vec![Span::text(" ")];
    for (vital, target) in all {
        let (role, mark) = vital.severity.map_or((Role::Text, ""), mark);
        let (label, value) =
            if small { (vital.short, &vital.short_value) } else { (vital.label, &vital.value) };
        // Fixed room for each figure, so that nothing to its right moves when it grows.
        let room = if small { 0 } else { value_room(vital.label) };
        let with_trend = vital.trend.filter(|_| !small || matches!(vital.label, "conns" | "blocked"));
        let trend = with_trend.zip(*target).map(|((metric, scale), target)| {
            trend::spans(app.trend(target, metric, trend_width), trend_width, scale, ascii)
        });
        line.push(Span::new(Role::Label, format!("{label} ")));
        line.push(Span::new(role, format!("{:<room$}", format!("{mark}{value}"))));
        line.extend(trend.into_iter().flatten());
        line.push(Span::text(if small { " " } else { "  " }));
    }
    line
}

fn value_room(label: &str) -> usize {
    match label {
        "conns" => 8,
        "idle-tx" => 9,
        "lag" => 11,
        "hit" | "redis" => 6,
        "tps" => 4,
        _ => 3,
    }
}

/// The findings, worst first; the last line says how many more there are.
pub(super) fn findings(canvas: &mut Canvas<'_>, layout: &Layout, app: &App) {
    let area = layout.findings;
    let all = app.findings();
    let rows = usize::from(area.height);
    if all.is_empty() {
        canvas.spans(area, &[Span::new(Role::Dim, nothing_found(app))]);
        return;
    }
    let chosen = app.finding_place();
    let first = chosen.map_or(0, |chosen| chosen.saturating_sub(rows.saturating_sub(1)));
    for (number, (target, finding)) in all.iter().enumerate().skip(first).take(rows) {
        let line = row(area, u16::try_from(number - first).unwrap_or_default());
        let hint = if chosen == Some(number) {
            "↵ show ".to_owned()
        } else if number == first && chosen.is_none() {
            let word = if matches!(layout.class, Class::Wide | Class::Standard) { " findings" } else { "" };
            format!("{}{word} ", app.options.keymap.hint("findings"))
        } else if number + 1 == first + rows && all.len() > first + rows {
            format!("+{} more ", all.len() - first - rows)
        } else {
            String::new()
        };
        let hint_width = u16::try_from(text::width(&hint)).unwrap_or_default();
        let (role, mark) = mark(finding.severity);
        let word = match (layout.class, finding.severity) {
            (Class::Compact | Class::Tiny | Class::TooSmall, _) => "",
            (Class::Wide | Class::Standard, Severity::Critical) => " CRIT",
            (Class::Wide | Class::Standard, Severity::Warning) => " WARN",
            (Class::Wide | Class::Standard, Severity::Notice) => " NOTE",
        };
        let is_of_another = app.observers.len() > 1 && app.postgres != Some(target.id);
        let whose = if is_of_another {
            format!("{}: ", shortened(&target.name, layout.class))
        } else {
            String::new()
        };
        let room = Rect { width: line.width.saturating_sub(hint_width + 1), ..line };
        canvas.spans(
            room,
            &[
                Span::new(role, format!(" {mark}{word} ")),
                Span::new(role, format!("{whose}{}", finding.summary)),
            ],
        );
        canvas.right(line, &[Span::new(Role::Dim, hint)]);
        if chosen == Some(number) {
            canvas.tint(line, Role::Selected);
        }
    }
}

fn nothing_found(app: &App) -> String {
    let kinds = app.shown().iter().map(|observer| observer.target.kind);
    let checks: usize = kinds.map(|kind| checks_of(kind).count()).sum();
    let unknown: Vec<&str> =
        app.shown().iter().flat_map(|observer| observer.not_yet().values()).copied().collect();
    match unknown.first() {
        Some(why) => {
            format!(" · nothing found by {checks} checks ({} cannot tell yet: {why})", unknown.len())
        }
        None => format!(" · nothing found by {checks} checks"),
    }
}

/// The tab bar: numbers, titles and the counts that matter.
pub(super) fn tabs(canvas: &mut Canvas<'_>, layout: &Layout, app: &App) {
    if layout.tabs.is_empty() {
        return;
    }
    let wide = |pane: Pane| pane.title();
    let short = |pane: Pane| pane.short_title();
    let number = |pane: Pane| if pane == app.focus { pane.title() } else { "" };
    let lines = match layout.class {
        Class::Tiny => vec![tab_line(app, number, "  "), tab_line(app, number, " ")],
        Class::Wide | Class::Standard | Class::Compact | Class::TooSmall => {
            vec![tab_line(app, wide, "  "), tab_line(app, wide, " "), tab_line(app, short, " ")]
        }
    };
    let fits = |line: &&Vec<Span>| {
        line.iter().map(|span| text::width(&span.text)).sum::<usize>() <= layout.tabs.width.into()
    };
    if let Some(line) = lines.iter().find(fits).or_else(|| lines.last()) {
        canvas.spans(layout.tabs, line);
    }
}

/// The panes in a line, each in the colour of the worst that was found there.
fn tab_line(app: &App, title: impl Fn(Pane) -> &'static str, gap: &'static str) -> Vec<Span> {
    let mut spans = vec![Span::text(" ")];
    let findings = app.findings();
    // Without a baseline there is nothing to go to.
    let is_there = |pane: &Pane| *pane != Pane::Recovery || pane == &app.focus || app.recovery().is_some();
    for pane in Pane::iter().filter(is_there) {
        let here = findings.iter().filter(|(target, it)| Pane::of(target.kind, it.subject) == pane);
        let worst = here.map(|(_, it)| it.severity).max();
        let role = match worst {
            _ if pane == app.focus => Role::Selected,
            Some(Severity::Critical) => Role::Critical,
            Some(Severity::Warning) => Role::Warning,
            Some(Severity::Notice) | None => Role::Text,
        };
        spans.push(Span::new(role, format!("{} {}", pane as u8, title(pane)).trim_end().to_owned()));
        let blocked = app
            .pg()
            .and_then(|tick| tick.vitals.blocked)
            .filter(|blocked| pane == Pane::Locks && *blocked > 0);
        if let Some(blocked) = blocked {
            spans.push(Span::new(Role::Critical, format!(" {blocked}")));
        }
        spans.push(Span::text(gap));
    }
    spans
}

/// From this width on the bottom line has room for why something is read seldom.
const WHY_WIDTH: u16 = 120;

/// The filter being typed, else a message, else the keys that work now.
pub(super) fn footer(canvas: &mut Canvas<'_>, layout: &Layout, app: &App) {
    let area = layout.footer;
    if let Some(Typing { input, is_time }) = &app.typing {
        let (before, after) = input.value().split_at_checked(byte_of(input)).unwrap_or_default();
        let under = after.chars().next().map_or_else(|| " ".into(), |c| c.to_string());
        let rest: String = after.chars().skip(1).collect();
        let (mark, hint) = if *is_time {
            (" go to ", "   16:15, 16:15:30, -5m")
        } else {
            (" / ", "   ↵ keeps it, a second Esc takes it away")
        };
        let spans = [
            Span::new(Role::Key, mark),
            Span::text(before.to_owned()),
            Span::new(Role::Input, under),
            Span::text(rest),
            Span::new(Role::Dim, hint),
        ];
        canvas.spans(area, &spans);
        return;
    }
    if let Some(toast) = &app.toast {
        let (role, mark) = mark(toast.severity);
        canvas.spans(area, &[Span::new(role, format!(" {mark} ")), Span::new(role, toast.text.clone())]);
        return;
    }
    let works =
        |command: &&crate::app::Command| command.label.is_some() && (command.disabled_reason)(app).is_none();
    let keys = |command: &crate::app::Command| {
        let key = app.options.keymap.hint(command.name);
        [Span::new(Role::Key, key), Span::text(format!(" {}  ", command.label.unwrap_or_default()))]
    };
    let bound = |command: &&crate::app::Command| !app.options.keymap.hint(command.name).is_empty();
    let (always, now): (Vec<_>, Vec<_>) =
        COMMANDS.iter().filter(works).filter(bound).partition(|command| command.group == Group::Program);
    let right: Vec<Span> = always.into_iter().flat_map(keys).collect();
    let used = canvas.right(area, &right);
    let mut left = Rect { x: area.x + 1, width: area.width.saturating_sub(used + 1), ..area };
    let slowed = app.pg().map(|tick| tick.sample.slowed.as_slice()).unwrap_or_default();
    for Slowed { part, every_seconds } in slowed {
        let (part, every) = (<&str>::from(part), format::age(*every_seconds));
        let why = if layout.area.width < WHY_WIDTH { "" } else { ", to spare the server" };
        let text = format!("{part} every {every}{why}  ");
        let used = canvas.text(left, Role::Notice, &text);
        left = Rect { x: left.x + used, width: left.width - used, ..left };
    }
    for command in now {
        let spans = keys(command);
        let width: usize = spans.iter().map(|span| text::width(&span.text)).sum();
        // A key without its word would be a riddle: what does not fit whole is left to the help.
        if usize::from(left.width) < width {
            break;
        }
        let used = canvas.spans(left, &spans);
        left = Rect { x: left.x + used, width: left.width - used, ..left };
    }
}

fn byte_of(input: &tui_input::Input) -> usize {
    input.value().chars().take(input.cursor()).map(char::len_utf8).sum()
}
