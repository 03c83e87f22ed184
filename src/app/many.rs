//! The question before acting on many sessions, and the acting itself: every target listed, what is left out and why,
//! the number typed, one signal after the other at a bounded pace, each outcome told. `Esc` stops it midway.
//!
//! It must not know how a signal is sent: it says which one is due, and is told what came of it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::activity::{ActivityRow, find};
use super::hearing::Hearing;
use super::limits::Limits;
use super::marks::{Marks, Rule};
use super::outcome;
use crate::engine::{PgTick, Severity};
use crate::format::{age_at, counted};
use crate::model::action::{Action, Outcome, Whom};
use crate::model::postgres::{Session, SessionId, State};
use crate::model::{Reason, TargetId};
use crate::terminal::{Chord, Key};

/// Signals that may be made up for after the program was held up, so that a stall does not end in a burst.
const CATCH_UP_MAX: i64 = 2;

/// Orders without an outcome, at most: a server that is slow to answer slows the pace, and nothing piles up before it.
const ON_THEIR_WAY_MAX: usize = 40;

/// Digits that can be typed: more sessions than any server has.
const DIGITS_MAX: usize = 6;

/// One session that is meant.
#[derive(Debug)]
pub struct Entry {
    /// The session as it was when the question was asked.
    pub session: Session,
    /// The session as it was last seen.
    pub seen: Session,
    /// Who it is, in words.
    pub whom: Whom,
    /// What would be done.
    pub action: Action,
    /// Whether it has left, or is no longer what it was chosen for.
    pub change: Option<&'static str>,
    /// What came of it.
    pub result: Option<(Severity, String)>,
    /// Whether it holds an advisory lock.
    pub holds_advisory_lock: bool,
    rule: Rule,
    /// The record under which it was ordered; absent before its turn.
    record: Option<u64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The number has not been typed yet.
    Asking,
    /// So many signals have been ordered.
    Sending {
        /// The place of the next entry.
        next: usize,
        /// When its turn is.
        at: Timestamp,
    },
    /// Nothing more is sent.
    Over {
        /// How many have been ordered.
        sent: usize,
    },
}

/// Whether it is known who holds advisory locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advisory {
    /// It is being read.
    Reading,
    /// It is known.
    Known,
    /// It cannot be read.
    Unknown(Reason),
}

/// What a key answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ManyAnswer {
    /// Nothing that concerns others.
    Stay,
    /// It is over, or was never begun.
    Close,
}

/// An open question about many sessions, or its carrying out.
#[derive(Debug)]
pub struct Many {
    /// The target they are on.
    pub target: TargetId,
    /// Whether to cancel statements; else to terminate sessions.
    pub cancel: bool,
    /// Who is meant.
    pub entries: Vec<Entry>,
    /// Who was chosen by a rule and holds an advisory lock: not meant, and listed apart.
    pub apart: Vec<Entry>,
    /// Who is left out: why, and how many.
    pub left_out: BTreeMap<String, usize>,
    /// What has been typed of the number.
    pub typed: String,
    /// A number that was confirmed and is not the right one.
    pub refused: Option<String>,
    /// Signals a second.
    pub signals_per_second: u32,
    /// How far it is.
    pub phase: Phase,
    /// Whether it is known who holds advisory locks.
    pub advisory: Advisory,
    /// The first line of the list on the screen.
    pub offset: usize,
    /// The server's clock.
    pub server_time: Timestamp,
    /// Whether it was stopped, and what is on its way has not been called back yet.
    is_stopped: bool,
    /// Whether the server gives no data now, so that what is listed may have gone.
    pub blind: bool,
    pause: SignedDuration,
    /// When it takes answers.
    pub(super) hearing: Hearing,
}

impl Many {
    /// Asks about the marked sessions.
    pub(super) fn new(target: TargetId, marks: &Marks, tick: &PgTick, cancel: bool, limits: &Limits) -> Self {
        let mut entries = Vec::new();
        let mut left_out = BTreeMap::new();
        for (session, rule) in marks.sessions(tick) {
            match limits.excludes(session, tick, cancel) {
                Some(why) => *left_out.entry(why).or_default() += 1,
                None => entries.push(Entry::new(session, rule, tick, cancel)),
            }
        }
        // Whoever has been at it longest comes first, as in the list of sessions.
        entries.sort_by_key(|entry| {
            (entry.session.xact_start.is_none(), entry.session.xact_start, entry.session.id)
        });
        Self {
            target,
            cancel,
            entries,
            apart: Vec::new(),
            left_out,
            typed: String::new(),
            refused: None,
            signals_per_second: limits.signals_per_second,
            phase: Phase::Asking,
            advisory: if cancel { Advisory::Known } else { Advisory::Reading },
            offset: 0,
            server_time: tick.sample.server_time,
            is_stopped: false,
            blind: false,
            pause: SignedDuration::from_secs(1)
                / i32::try_from(limits.signals_per_second.max(1)).unwrap_or(i32::MAX),
            hearing: Hearing::default(),
        }
    }

    /// Takes who holds advisory locks: of those chosen by a rule they are set apart.
    pub(super) fn advisory_holders(&mut self, holders: Result<Vec<i32>, Reason>, now: Timestamp) {
        if self.phase != Phase::Asking {
            return;
        }
        match holders {
            Ok(pids) => {
                for entry in &mut self.entries {
                    entry.holds_advisory_lock = pids.contains(&entry.session.id.pid);
                }
                let is_apart = |entry: &mut Entry| entry.holds_advisory_lock && entry.rule != Rule::Picked;
                self.apart = self.entries.extract_if(.., is_apart).collect();
                self.advisory = Advisory::Known;
                // What was typed until now was about another list, and so is what is being typed.
                self.typed.clear();
                if !self.apart.is_empty() {
                    self.hearing.disturb(now);
                }
            }
            Err(reason) => self.advisory = Advisory::Unknown(reason),
        }
    }

    /// Compares the entries with what they are now.
    pub(super) fn watch(&mut self, tick: &PgTick, outage: bool) {
        self.server_time = tick.sample.server_time;
        self.blind = outage || tick.sample.sessions.value().is_none();
        if self.blind {
            // What cannot be seen any more is not acted on any further.
            self.stop();
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.result.is_none()) {
            let now = find(tick, entry.session.id);
            entry.change = match now {
                None => Some("gone"),
                Some(now) if entry.is_still_meant(now) => None,
                Some(_) => Some("changed"),
            };
            if let Some(now) = now {
                entry.seen = now.clone();
            }
        }
    }

    /// Takes a key.
    pub(super) fn answer(&mut self, chord: Chord, now: Timestamp, page: isize) -> ManyAnswer {
        // A stop is heard at any time.
        if closes(chord) && matches!(self.phase, Phase::Sending { .. }) {
            self.stop();
            return ManyAnswer::Stay;
        }
        if !self.hearing.listens(now) {
            return ManyAnswer::Stay;
        }
        self.scroll(chord.key, page);
        let digit = chord.character().filter(char::is_ascii_digit);
        match (self.phase, chord.key) {
            (Phase::Asking | Phase::Over { .. }, _) if closes(chord) => return ManyAnswer::Close,
            (Phase::Over { .. }, Key::Enter) => return ManyAnswer::Close,
            (Phase::Sending { .. } | Phase::Over { .. }, _) => {}
            (Phase::Asking, Key::Enter) => self.begin(now),
            (Phase::Asking, Key::Backspace) => drop(self.typed.pop()),
            (Phase::Asking, _) => self.typed.extend(digit.filter(|_| self.typed.len() < DIGITS_MAX)),
        }
        ManyAnswer::Stay
    }

    fn scroll(&mut self, key: Key, page: isize) {
        let moved = match key {
            Key::Up => -1,
            Key::Down => 1,
            Key::PageUp => -page,
            Key::PageDown => page,
            Key::Home => isize::MIN,
            Key::End => isize::MAX,
            Key::Char(_)
            | Key::Enter
            | Key::Esc
            | Key::Tab
            | Key::Backspace
            | Key::Delete
            | Key::Left
            | Key::Right
            | Key::F(_) => 0,
        };
        let page = usize::try_from(page).unwrap_or(1);
        let last = (self.entries.len() + self.apart.len()).saturating_sub(page);
        self.offset = self.offset.saturating_add_signed(moved).min(last);
    }

    /// Sends nothing more.
    pub(super) const fn stop(&mut self) {
        if let Phase::Sending { next, .. } = self.phase {
            self.phase = Phase::Over { sent: next };
            self.is_stopped = true;
        }
    }

    /// The records of what was ordered before a stop and is not answered yet; each once.
    pub(super) fn take_withdrawn(&mut self) -> Vec<u64> {
        if !std::mem::take(&mut self.is_stopped) {
            return Vec::new();
        }
        let open = self.entries.iter().filter(|entry| entry.result.is_none());
        open.filter_map(|entry| entry.record).collect()
    }

    /// The sessions that have had their turn.
    pub(super) fn ordered(&self) -> impl Iterator<Item = SessionId> {
        self.entries.iter().filter(|entry| entry.record.is_some()).map(|entry| entry.session.id)
    }

    /// Whether the number that was typed is that of the sessions meant, and everything is known that should be.
    pub fn is_armed(&self) -> bool {
        !self.entries.is_empty()
            && !self.blind
            && self.advisory != Advisory::Reading
            && self.typed.parse() == Ok(self.entries.len())
    }

    fn begin(&mut self, now: Timestamp) {
        if self.is_armed() {
            self.phase = Phase::Sending { next: 0, at: now };
            self.offset = 0;
        } else {
            self.refused = Some(std::mem::take(&mut self.typed)).filter(|typed| !typed.is_empty());
        }
    }

    /// When the next signal is due; `None` when nothing is being sent.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Sending { at, .. } if self.on_their_way() < ON_THEIR_WAY_MAX => Some(at),
            Phase::Sending { .. } | Phase::Asking | Phase::Over { .. } => None,
        }
    }

    /// Orders whose outcome is not known yet.
    fn on_their_way(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_ordered() && entry.result.is_none()).count()
    }

    /// The entry whose turn has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<&mut Entry> {
        let Phase::Sending { next, at } = self.phase else { return None };
        if now < at || self.due().is_none() {
            return None;
        }
        let earliest = now.checked_sub(self.pause * i32::try_from(CATCH_UP_MAX).unwrap_or(0)).unwrap_or(at);
        let following = at.max(earliest).checked_add(self.pause).unwrap_or(now);
        self.phase = if next + 1 < self.entries.len() {
            Phase::Sending { next: next + 1, at: following }
        } else {
            Phase::Over { sent: next + 1 }
        };
        self.entries.get_mut(next)
    }

    /// Whether the entry at a place was not reached before the end.
    pub const fn is_spared(&self, place: usize) -> bool {
        matches!(self.phase, Phase::Over { sent } if sent <= place)
    }

    /// Takes what came of one signal.
    pub(super) fn arrived(&mut self, id: u64, outcome: &Outcome) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.record == Some(id)) {
            entry.result = Some(outcome::in_short(outcome));
        }
    }

    /// How many entries came to what: gone, left alone, and so on; only those whose outcome is known.
    pub fn tally(&self) -> BTreeMap<&str, usize> {
        let mut tally = BTreeMap::new();
        for (_, text) in self.entries.iter().filter_map(|entry| entry.result.as_ref()) {
            // `gone after 2ms` and `gone after 31ms` are the same for this purpose.
            let kind = text.split([':', ',']).next().unwrap_or(text);
            let kind = kind.split(" after ").next().unwrap_or(kind);
            *tally.entry(kind).or_default() += 1;
        }
        tally
    }

    /// The title of the window.
    pub fn title(&self) -> String {
        let sessions = counted(self.entries.len(), "session");
        let known = self.entries.iter().filter(|entry| entry.result.is_some()).count();
        let known = counted(known, "outcome");
        match self.phase {
            Phase::Asking if self.cancel => format!("Cancel the statements of {sessions} ?"),
            Phase::Asking => format!("Terminate {sessions} ?"),
            Phase::Sending { next, .. } => format!("{next} of {sessions} ordered, {known}"),
            Phase::Over { sent } if sent < self.entries.len() => {
                format!("stopped: {sent} of {sessions} ordered, {known}")
            }
            Phase::Over { .. } => format!("{sessions} ordered, {known}"),
        }
    }

    /// What is meant, in figures.
    pub fn summary(&self) -> String {
        let count =
            |wanted: fn(&Session) -> bool| self.entries.iter().filter(|it| wanted(&it.session)).count();
        let in_transaction = count(|session| session.xact_start.is_some());
        let written = count(|session| session.backend_xid.is_some());
        let oldest = self.entries.iter().filter_map(|entry| entry.session.id.backend_start).min();
        let oldest = oldest.map(|at| format!(", oldest session {}", age_at(at, self.server_time)));
        format!("{in_transaction} in a transaction, {written} may have written{}", oldest.unwrap_or_default())
    }
}

impl Entry {
    fn new(session: &Session, rule: Rule, tick: &PgTick, cancel: bool) -> Self {
        let id = session.id;
        let action = match rule.still(session) {
            _ if cancel => Action::Cancel { session: id, query_start: session.query_start },
            Some(still) => Action::TerminateIf { session: id, still },
            None => Action::TerminateAny { session: id },
        };
        Self {
            whom: whom(session, tick),
            session: session.clone(),
            seen: session.clone(),
            action,
            change: None,
            result: None,
            holds_advisory_lock: false,
            rule,
            record: None,
        }
    }

    /// Whether it has had its turn.
    pub const fn is_ordered(&self) -> bool {
        self.record.is_some()
    }

    pub(super) const fn mark_ordered(&mut self, record: u64) {
        self.record = Some(record);
    }

    fn is_still_meant(&self, now: &Session) -> bool {
        match self.action {
            Action::Cancel { query_start, .. } => {
                now.query_start == query_start && now.state == Some(State::Active)
            }
            Action::Terminate { .. } | Action::TerminateAny { .. } | Action::TerminateIf { .. } => {
                self.rule.still(now) == self.rule.still(&self.session) && self.has_kept_state(now)
            }
        }
    }

    fn has_kept_state(&self, now: &Session) -> bool {
        match self.rule {
            Rule::Picked | Rule::Application => true,
            Rule::Idle | Rule::IdleInTransaction | Rule::Active => now.state == self.session.state,
        }
    }
}

/// Whether a key says that it shall not be, or that it has been read.
const fn closes(chord: Chord) -> bool {
    match (chord.key, chord.character()) {
        (Key::Esc, _) | (_, Some('q' | 'n')) => true,
        (key, _) => chord.ctrl && matches!(key, Key::Char('c')),
    }
}

/// A session in words, for the list and the record.
pub(super) fn whom(session: &Session, tick: &PgTick) -> Whom {
    let row = ActivityRow::present(session, tick);
    Whom {
        pid: session.id.pid,
        backend_start: session.id.backend_start,
        user: row.user(),
        database: row.database(),
        application: session.application_name.to_string(),
        client: row.client(),
        state: session.state.map_or("hidden", State::as_str).to_owned(),
    }
}
