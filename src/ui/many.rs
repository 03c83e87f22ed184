//! The window for acting on many: who is meant, who is left out, the number to type, and each outcome. And the menu of
//! ready-made selections.

use ratatui::layout::Rect;

use super::canvas::{Canvas, below, row};
use super::header::mark;
use super::layout::{BELOW_LIST as BELOW, Layout};
use super::overlay::window;
use super::panes::wrapped;
use crate::app::{Advisory, App, Entry, Many, Phase, Role, Rule, RuleMenu, Span, chosen_by_rule};
use crate::format::{age_at, counted};
use crate::model::postgres::State;
use crate::text;

/// The widest the window gets.
const COLUMNS: u16 = 110;

/// Draws the window.
pub(super) fn draw(canvas: &mut Canvas<'_>, layout: &Layout, many: &Many) {
    let listed = u16::try_from(many.entries.len() + many.apart.len()).unwrap_or(u16::MAX);
    let rows = listed.saturating_add(BELOW + 4).min(layout.area.height.saturating_sub(2));
    let role = if many.phase == Phase::Asking { Role::Critical } else { Role::Focus };
    let inner = window(canvas, layout, COLUMNS, rows, &many.title(), role);
    canvas.spans(row(inner, 0), &[Span::text(many.summary())]);
    let list = Rect { height: inner.height.saturating_sub(BELOW + 1), ..below(inner, 1) };
    entries(canvas, list, many);
    let foot = below(inner, inner.height.saturating_sub(BELOW));
    let two = Rect { height: foot.height.min(2), ..foot };
    wrapped(canvas, two, 0, Role::Dim, &left_out(many));
    canvas.spans(row(foot, 2), &[apart(many)]);
    canvas.spans(row(foot, 3), &question(many));
}

/// What is done about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Meant,
    /// It was stopped before its turn.
    Spared,
    Apart,
}

/// The entries that fit, from the one scrolled to; the last line says how many more there are.
fn entries(canvas: &mut Canvas<'_>, area: Rect, many: &Many) {
    let meant = many
        .entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry, if many.is_spared(place) { Fate::Spared } else { Fate::Meant }));
    let all: Vec<(&Entry, Fate)> = meant.chain(many.apart.iter().map(|entry| (entry, Fate::Apart))).collect();
    let height = usize::from(area.height);
    let fits = all.len() <= height;
    let visible = if fits { height } else { height.saturating_sub(1) };
    let offset = many.offset.min(all.len().saturating_sub(visible));
    for (number, (entry, fate)) in all.iter().skip(offset).take(visible).enumerate() {
        let line = row(area, u16::try_from(number).unwrap_or(u16::MAX));
        entry_line(canvas, line, entry, *fate, many);
    }
    if !fits {
        let more = format!(
            "… {} to {} of {}  (arrows and PgUp, PgDn read them all)",
            offset + 1,
            (offset + visible).min(all.len()),
            all.len()
        );
        canvas.spans(row(area, area.height.saturating_sub(1)), &[Span::new(Role::Dim, more)]);
    }
}

fn entry_line(canvas: &mut Canvas<'_>, line: Rect, entry: &Entry, fate: Fate, many: &Many) {
    let session = &entry.seen;
    let idle = session.state.is_some_and(|state| state != State::Active);
    let since = if idle { session.state_change } else { session.query_start };
    let age = since.map_or_else(|| "?".into(), |since| age_at(since, many.server_time));
    let whom = &entry.whom;
    let who = format!(
        "{:>7}  {:<20} {age:>7}  {:<12} {:<16} {:<15}",
        whom.pid,
        text::fit(session.state.map_or("hidden", State::as_str), 20, true),
        text::fit(&text::line(&whom.user), 12, true),
        text::fit(&text::line(&whom.application), 16, true),
        whom.client
    );
    let role = match (fate, entry.change, &entry.result) {
        (Fate::Apart, ..) | (_, _, Some(_)) => Role::Dim,
        (Fate::Meant | Fate::Spared, None, None) => Role::Text,
        (Fate::Meant | Fate::Spared, Some(_), None) => Role::Gone,
    };
    canvas.spans(line, &[Span::new(role, who)]);
    let note = match (&entry.result, entry.change, entry.holds_advisory_lock) {
        (Some((severity, text)), ..) => Some(Span::new(mark(*severity).0, format!(" {text}"))),
        (None, ..) if entry.is_ordered() => Some(Span::new(Role::Dim, "  ordered …")),
        (None, Some(change), _) => Some(Span::new(Role::Warning, format!(" {change}"))),
        (None, None, _) if fate == Fate::Spared => Some(Span::text("  not signalled")),
        (None, None, true) if fate == Fate::Apart => Some(Span::new(Role::Warning, "  apart: advisory lock")),
        (None, None, true) => Some(Span::new(Role::Warning, "  holds an advisory lock")),
        (None, None, false) => None,
    };
    if let Some(note) = note {
        canvas.right(line, &[note]);
    }
}

fn left_out(many: &Many) -> String {
    let parts: Vec<String> = many.left_out.iter().map(|(why, count)| format!("{count} {why}")).collect();
    if parts.is_empty() { "nobody is left out".into() } else { format!("left out: {}", parts.join(", ")) }
}

fn apart(many: &Many) -> Span {
    match (&many.advisory, many.apart.len()) {
        (Advisory::Reading, _) => Span::new(Role::Dim, "looking who holds advisory locks …"),
        (Advisory::Unknown(reason), _) => {
            Span::new(Role::Warning, format!("who holds advisory locks is not known: {}", reason.text))
        }
        (Advisory::Known, 0) => Span::text(""),
        (Advisory::Known, count) => Span::new(
            Role::Warning,
            format!("apart, not meant: {count} with an advisory lock (Esc, then Space picks one)"),
        ),
    }
}

fn question(many: &Many) -> Vec<Span> {
    let count = many.entries.len();
    match many.phase {
        Phase::Asking if count == 0 => vec![Span::new(Role::Dim, "nobody is left to act on; Esc closes")],
        Phase::Asking if many.blind => {
            vec![Span::new(
                Role::Critical,
                "the server gives no data now: what is listed may have gone; Esc closes",
            )]
        }
        Phase::Asking => vec![
            Span::text("Type "),
            Span::new(Role::Key, count.to_string()),
            Span::text(" and Enter: "),
            Span::new(if many.is_armed() { Role::Critical } else { Role::Text }, many.typed.clone()),
            Span::new(Role::Input, " "),
            match &many.refused {
                Some(typed) => {
                    Span::new(Role::Warning, format!("   {typed} is not {count}: nothing was done"))
                }
                None => Span::new(Role::Dim, format!("   {} a second, Esc stops", many.signals_per_second)),
            },
        ],
        Phase::Sending { .. } => {
            vec![Span::new(Role::Key, "Esc"), Span::text(format!(" stops   {}", tally(many)))]
        }
        Phase::Over { .. } => {
            vec![Span::new(Role::Key, "Esc"), Span::text(format!(" closes   {}", tally(many)))]
        }
    }
}

fn tally(many: &Many) -> String {
    let parts: Vec<String> =
        many.tally().into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    parts.join(", ")
}

/// Draws the menu of ready-made selections, each with how many it chooses now.
pub(super) fn rules(canvas: &mut Canvas<'_>, layout: &Layout, app: &App, menu: RuleMenu) {
    let rows = u16::try_from(Rule::READY_MADE.len()).unwrap_or(u16::MAX).saturating_add(4);
    let inner = window(canvas, layout, 72, rows, "Mark", Role::Focus);
    let at_hand = app.session_at_hand();
    for (number, rule) in Rule::READY_MADE.into_iter().enumerate() {
        let line = row(inner, u16::try_from(number).unwrap_or(u16::MAX));
        let count = app.pg().map_or(0, |tick| chosen_by_rule(rule, at_hand, tick).len());
        let key = Span::new(Role::Key, format!("{}  ", number + 1));
        canvas.spans(line, &[key, Span::text(rule.label(at_hand))]);
        canvas.right(line, &[Span::text(counted(count, "session"))]);
        if number == menu.selected {
            canvas.tint(line, Role::Selected);
        }
    }
    let last = row(inner, inner.height.saturating_sub(1));
    canvas.spans(last, &[Span::new(Role::Dim, "marking does nothing to a session; K asks first")]);
}
