//! The question before an action: one session by identity, shown live, disarmed as soon as it is no longer what
//! was seen.

use std::sync::Arc;

use jiff::Timestamp;

use super::activity::ActivityRow;
use super::hearing::Hearing;
use super::table::{Role, Span, Sql};
use crate::engine::PgTick;
use crate::engine::locks::{RootSituation, describe, strength};
use crate::engine::missing::grant;
use crate::engine::vitals::is_own;
use crate::format::{age, age_at, counted, seconds_between};
use crate::model::action::{Action, Holdings};
use crate::model::postgres::{Lock, Session, State};
use crate::model::{Reason, TargetId};
use crate::terminal::{Chord, Key};

/// Locks that are named in the question.
const LOCKS_NAMED: usize = 3;

/// An open question about one session.
#[derive(Debug)]
pub struct Confirm {
    /// The target it is on.
    pub target: TargetId,
    /// The session as it was when the question was asked.
    pub session: Session,
    /// Whether to cancel its statement; else to terminate it.
    pub cancel: bool,
    /// Whether the session is meant whatever it runs, not only in the transaction that was seen.
    pub whatever_it_runs: bool,
    /// How the session has changed since.
    pub change: Change,
    /// All locks of the session, once read; or why they cannot be read.
    pub holdings: Option<Result<Holdings, Reason>>,
    /// Sessions behind it, and how many would run at once; `None` when the lock table is not known.
    pub behind: Option<(usize, usize)>,
    /// What it waits for itself, in words; absent when it does not wait.
    waits: Option<String>,
    /// The first of those who wait for it directly: the server is asked whom it waits for.
    pub(super) waiter: Option<i32>,
    /// What should be thought of before answering; absent when nothing speaks against it.
    caution: Option<String>,
    /// How old the lock table is that this comes from, when it is not of this sample, seconds.
    behind_age_seconds: Option<f64>,
    /// The session as it is now, as far as it is still the one that was asked about.
    seen: Session,
    /// Its user, database and client in words.
    who: [String; 3],
    server_time: Timestamp,
    /// When it takes answers.
    pub(super) hearing: Hearing,
    short_transactions: bool,
}

/// How a session differs from what the question was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is what was seen.
    Same,
    /// Another statement of the same transaction: marked, but it does not disarm a terminate.
    Statement,
    /// Another statement or transaction, so the question no longer fits.
    Moved,
    /// It has gone.
    Gone,
    /// A process of this number is there, and which session it is this role may not see any more.
    Hidden,
    /// Nothing is known of it at the moment.
    Unknown,
}

/// What a key answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing yet.
    Stay,
    /// No.
    No,
    /// Yes: do this.
    Yes(Action),
}

/// Why a session can never be acted on; `None` when it can.
pub(super) fn refusal(session: &Session, tick: &PgTick) -> Option<String> {
    let pid = session.id.pid;
    if is_own(&tick.sample, session) {
        return Some(format!("{pid} is one of our own connections"));
    }
    if !session.is_client() {
        let kind = session.backend_type.as_deref().unwrap_or("process without a role");
        return Some(format!("{pid} is a process of the server ({kind}), not a client's session"));
    }
    if session.id.backend_start.is_none() {
        let cure = grant("pg_read_all_stats", &tick.sample.rights.user);
        return Some(format!("{cure} (backend_start of {pid} is hidden: it could not be told from another)"));
    }
    None
}

/// Whether a process is there without the time at which its session began.
fn is_hidden(tick: &PgTick, pid: i32) -> bool {
    let sessions = tick.sample.sessions.value().into_iter().flatten();
    sessions.filter(|session| session.id.pid == pid).any(|session| session.id.backend_start.is_none())
}

/// The one who has waited longest for a process directly, as far as the lock forest shows.
fn first_waiter(tick: &PgTick, pid: i32) -> Option<i32> {
    let forest = tick.forest.value()?;
    // Of the startup process the server says that it waits for nobody, also while it does (measured).
    let waiters = forest.children(forest.find(pid)?).filter(|it| it.situation != RootSituation::Startup);
    waiters.filter_map(|waiter| waiter.pid).find(|waiter| forest.blocked_by(*waiter).contains(&pid))
}

impl Confirm {
    /// Asks about a session of the last tick.
    pub(super) fn new(
        target: TargetId,
        session: Session,
        tick: &PgTick,
        cancel: bool,
        protected: bool,
    ) -> Self {
        let row = ActivityRow::present(&session, tick);
        let who = [row.user(), row.database(), row.client()];
        let mut confirm = Self {
            target,
            cancel,
            whatever_it_runs: false,
            change: Change::Same,
            holdings: None,
            behind: None,
            waits: None,
            waiter: first_waiter(tick, session.id.pid),
            caution: protected
                .then(|| format!("{} is protected: left out when many are ended.", session.application_name)),
            behind_age_seconds: None,
            seen: session.clone(),
            who,
            server_time: tick.sample.server_time,
            hearing: Hearing::default(),
            short_transactions: false,
            session,
        };
        confirm.look(tick);
        confirm
    }

    /// Compares the session with what it is now.
    pub(super) fn watch(&mut self, tick: &PgTick, outage: bool) {
        self.look(tick);
        if outage || tick.sample.sessions.value().is_none() {
            // Once disarmed, a question stays so: it must be asked anew.
            self.change = if self.is_armed() { Change::Unknown } else { self.change };
            return;
        }
        let now = super::activity::find(tick, self.session.id);
        let change = match now {
            Some(now) => self.compare(now),
            None if is_hidden(tick, self.session.id.pid) => Change::Hidden,
            None => Change::Gone,
        };
        if let (Change::Same | Change::Statement, Some(now)) = (change, now) {
            self.seen = now.clone();
        }
        let armed = self.is_armed() || self.change == Change::Unknown;
        if armed {
            self.change = change;
        }
    }

    fn look(&mut self, tick: &PgTick) {
        self.server_time = tick.sample.server_time;
        let pid = self.session.id.pid;
        let forest = tick.forest.value();
        self.behind =
            forest.map(|forest| forest.find(pid).map_or((0, 0), |node| (node.behind, node.frees_now)));
        let node = forest.and_then(|forest| forest.find(pid));
        self.waits = node.and_then(|node| {
            let wait = node.waits_for.as_ref()?;
            let since = node.wait_seconds.map_or_else(|| "<1s".into(), age);
            Some(format!("waits {since} for {} on {}", wait.mode, wait.object))
        });
        let read_at = tick.forest.stale_since();
        self.behind_age_seconds = read_at.map(|read_at| seconds_between(read_at, self.server_time));
    }

    fn compare(&mut self, now: &Session) -> Change {
        let same_statement = now.query_start == self.session.query_start && now.state == self.session.state;
        let same_transaction = now.xact_start == self.session.xact_start;
        match (self.cancel, same_transaction, same_statement) {
            (_, true, true) => Change::Same,
            (true, ..) => Change::Moved,
            (false, ..) if self.whatever_it_runs => Change::Statement,
            (false, true, false) => Change::Statement,
            (false, false, _) => {
                self.short_transactions = self.blocks_nobody();
                Change::Moved
            }
        }
    }

    /// Whether it is known that nobody waits behind it.
    fn blocks_nobody(&self) -> bool {
        self.behind == Some((0, 0)) && self.behind_age_seconds.is_none()
    }

    /// Whether `y` would act.
    pub fn is_armed(&self) -> bool {
        matches!(self.change, Change::Same | Change::Statement)
    }

    /// Takes a key.
    pub(super) fn answer(&mut self, chord: Chord, now: Timestamp) -> Answer {
        let listens = self.hearing.listens(now);
        match (chord.key, chord.character()) {
            (Key::Esc | Key::Enter, _) | (_, Some('n' | 'q')) if listens => Answer::No,
            (Key::Char('c'), _) if chord.ctrl => Answer::No,
            (_, Some('y')) if listens && self.is_armed() => Answer::Yes(self.action()),
            (Key::Esc | Key::Enter, _) | (_, Some('n' | 'q' | 'y')) => Answer::Stay,
            (_, Some('a')) if listens && self.offers_whatever_it_runs() => {
                self.whatever_it_runs = true;
                self.change = Change::Statement;
                self.hearing.disturb(now);
                Answer::Stay
            }
            _ => {
                // A person's answer comes alone. A key that is none may be the beginning of something else: a
                // terminal's late answer that spells a y further on.
                self.hearing.disturb(now);
                Answer::Stay
            }
        }
    }

    /// Whether the dialog offers to mean the session whatever it runs: it commits too fast to be caught in one
    /// transaction, and nobody waits for it.
    pub fn offers_whatever_it_runs(&self) -> bool {
        !self.cancel
            && !self.whatever_it_runs
            && self.short_transactions
            && self.blocks_nobody()
            && self.change == Change::Moved
    }

    const fn action(&self) -> Action {
        let session = self.session.id;
        if self.cancel {
            Action::Cancel { session, query_start: self.session.query_start }
        } else if self.whatever_it_runs {
            Action::TerminateAny { session }
        } else {
            Action::Terminate { session, xact_start: self.session.xact_start }
        }
    }

    /// The title of the question.
    pub fn title(&self) -> String {
        let pid = self.session.id.pid;
        match self.change {
            Change::Same | Change::Statement => {
                format!("{} {pid} ?", if self.cancel { "Cancel the statement of" } else { "Terminate" })
            }
            Change::Moved => format!("{pid} has changed: look again"),
            Change::Gone => format!("{pid} has gone"),
            Change::Hidden => format!("{pid} is hidden from this role now"),
            Change::Unknown => format!("{pid}: no data at the moment"),
        }
    }

    /// What has been sent, for the toast.
    pub(super) fn sent(&self) -> String {
        format!(
            "{} {}",
            if self.cancel { "cancelling the statement of" } else { "terminating" },
            self.session.id.pid
        )
    }

    /// The lines of the dialog; where the screen is private, without literals of statements.
    pub fn lines(&self, private: bool) -> Vec<Vec<Span>> {
        let session = &self.session;
        let [user, database, client] = &self.who;
        let mut lines = self.change_lines();
        lines.extend([
            vec![Span::text(format!(
                "{}   user {user}   db {database}   from {client}",
                session.application_name
            ))],
            vec![Span::text(self.situation())],
        ]);
        lines.extend(self.waits.iter().map(|text| vec![Span::new(Role::Warning, text.clone())]));
        lines.extend([
            vec![Span::text(self.query().show(private))],
            vec![self.locks()],
            vec![self.behind_line()],
        ]);
        lines.extend(self.server_word().map(|span| vec![span]));
        lines.extend(self.caution.iter().map(|text| vec![Span::new(Role::Warning, text.clone())]));
        lines.extend([Vec::new(), vec![Span::text(self.consequence())]]);
        if !self.cancel && session.state.is_some_and(|state| state != State::Active) {
            lines.push(vec![Span::new(Role::Dim, "Cancel would do nothing here: no statement is running.")]);
        }
        lines
    }

    /// The line of answers.
    pub fn answers(&self) -> Vec<Span> {
        let mut spans = vec![Span::new(Role::Selected, "[ No ]"), Span::text("     ")];
        if self.is_armed() {
            spans.push(Span::new(Role::Key, "y"));
            spans.push(Span::text(if self.cancel { "  yes, cancel it" } else { "  yes, terminate it" }));
        } else if self.offers_whatever_it_runs() {
            spans.push(Span::new(Role::Key, "a"));
            spans.push(Span::text("  this session, whatever it runs"));
        } else {
            spans.push(Span::new(Role::Dim, "y does nothing now: close and look again"));
        }
        spans
    }

    fn change_lines(&self) -> Vec<Vec<Span>> {
        let text = match self.change {
            Change::Same => return Vec::new(),
            Change::Statement if self.whatever_it_runs => {
                "Meant is the session, whatever it runs when the signal arrives."
            }
            Change::Statement if self.session.xact_start.is_none() => {
                "It has run something since, and is in no transaction."
            }
            Change::Statement => "It runs another statement of the same transaction now.",
            Change::Moved if self.cancel => "The statement that you saw is over.",
            Change::Moved => "The transaction that you saw is over; it is in another one or in none.",
            Change::Gone => "The session has ended by itself.",
            Change::Hidden => "A right was taken away: GRANT pg_read_all_stats TO this role.",
            Change::Unknown => "The server gives no data: what is shown may be gone.",
        };
        vec![vec![Span::new(Role::Warning, text)]]
    }

    fn situation(&self) -> String {
        let session = &self.seen;
        let age = |since: Option<Timestamp>| {
            since.map_or_else(|| "?".into(), |since| age_at(since, self.server_time))
        };
        let state = session.state.map_or("state hidden", State::as_str);
        let since =
            if session.state == Some(State::Active) { session.query_start } else { session.state_change };
        let transaction = session
            .xact_start
            .map(|start| format!(", transaction open {}", age(Some(start))))
            .unwrap_or_default();
        // A waiter has its transaction id before it has written anything.
        let written = match (session.backend_xid, session.waits_for_lock()) {
            (None, _) => "",
            (Some(_), true) => ", may have written",
            (Some(_), false) => ", has written",
        };
        format!("{state} {}{transaction}{written}", age(since))
    }

    fn query(&self) -> Sql {
        let over = self.seen.state.is_some_and(|state| state != State::Active);
        Sql { before: if over { "last: " } else { "" }.into(), text: Arc::clone(&self.seen.query) }
    }

    fn locks(&self) -> Span {
        let holdings = match &self.holdings {
            None => return Span::new(Role::Dim, "holds: reading its locks …"),
            Some(Err(reason)) => return Span::new(Role::Dim, format!("holds: not known, {}", reason.text)),
            Some(Ok(holdings)) => holdings,
        };
        // Its own virtual transaction says nothing about it.
        let is_told = |lock: &&Lock| lock.granted && &*lock.tag.locktype != "virtualxid";
        let mut held: Vec<&Lock> = holdings.locks.iter().filter(is_told).collect();
        held.sort_by_cached_key(|lock| {
            (std::cmp::Reverse(strength(&lock.mode)), describe(&lock.tag, &holdings.names))
        });
        let name = |lock: &&&Lock| {
            let object = describe(&lock.tag, &holdings.names);
            if &*lock.tag.locktype == "transactionid" { object } else { format!("{} on {object}", lock.mode) }
        };
        let named: Vec<String> = held.iter().take(LOCKS_NAMED).map(|lock| name(&lock)).collect();
        let more = held.len().saturating_sub(named.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        Span::text(if named.is_empty() {
            "holds no lock".into()
        } else {
            format!("holds {}{rest}", named.join(", "))
        })
    }

    fn behind_line(&self) -> Span {
        let age =
            self.behind_age_seconds.map(|seconds| format!(" ({} ago)", age(seconds))).unwrap_or_default();
        match self.behind {
            None => {
                Span::new(Role::Warning, "who waits behind it is not known: the lock table has not been read")
            }
            Some((0, _)) => Span::text(format!("nobody waits behind it{age}")),
            Some((behind, frees)) => {
                let sessions = counted(behind, "session");
                Span::new(Role::Warning, format!("{sessions} wait behind it, {frees} would run at once{age}"))
            }
        }
    }

    /// Whether the server agrees that the first waiter waits for it.
    fn server_word(&self) -> Option<Span> {
        let waiter = self.waiter?;
        let pid = self.session.id.pid;
        Some(match &self.holdings {
            None => Span::new(Role::Dim, format!("asking the server whom {waiter} waits for …")),
            Some(Err(reason)) => {
                Span::new(Role::Warning, format!("not confirmed that {waiter} waits for it: {}", reason.text))
            }
            Some(Ok(holdings)) => match &holdings.waiter {
                // The answer to an earlier question says nothing about this one.
                Some((asked, _)) if *asked != waiter => return None,
                Some((_, blockers)) if blockers.contains(&pid) => {
                    Span::new(Role::Dim, format!("the server confirms: {waiter} waits for it"))
                }
                Some((_, blockers)) if blockers.is_empty() => Span::new(
                    Role::Critical,
                    format!("the server says that {waiter} waits for nobody now: look again"),
                ),
                Some((_, blockers)) => {
                    let name = |pid: &i32| {
                        if *pid == 0 { "a prepared transaction".to_owned() } else { pid.to_string() }
                    };
                    let others: Vec<String> = blockers.iter().map(name).collect();
                    let others = others.join(", ");
                    Span::new(
                        Role::Critical,
                        format!("the server says that {waiter} waits for {others}, not for it: look again"),
                    )
                }
                None => return None,
            },
        })
    }

    fn consequence(&self) -> String {
        if self.cancel {
            "Its statement fails, its transaction is aborted; the session stays.".into()
        } else if self.session.xact_start.is_some() {
            "Its transaction rolls back; the client sees a lost connection.".into()
        } else {
            "The client sees a lost connection.".into()
        }
    }
}
