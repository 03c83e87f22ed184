//! What can be done to a session, and what came of it: plain data between the floor that decides and the floor
//! that does.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Reason;
use super::postgres::{Lock, Names, SessionId, State};

/// One thing to do to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Cancel the statement that began at `query_start`.
    Cancel {
        /// The session.
        session: SessionId,
        /// Which of its statements.
        query_start: Option<Timestamp>,
    },
    /// Terminate the session while it is in the transaction that began at `xact_start` (absent: in none).
    Terminate {
        /// The session.
        session: SessionId,
        /// Which of its transactions.
        xact_start: Option<Timestamp>,
    },
    /// Terminate the session whatever it runs.
    TerminateAny {
        /// The session.
        session: SessionId,
    },
    /// Terminate the session if it is still what it was chosen for.
    TerminateIf {
        /// The session.
        session: SessionId,
        /// What it was chosen for.
        still: Still,
    },
}

/// What a session was chosen for by a rule: the server looks again in the statement that acts, so that one which
/// became busy since is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Still {
    /// Idle without a break since this moment.
    Idle {
        /// When its state last changed.
        state_change: Option<Timestamp>,
    },
    /// Idle in the same transaction since this moment.
    IdleInTransaction {
        /// When its state last changed.
        state_change: Option<Timestamp>,
    },
    /// Running the statement that began at this moment.
    Active {
        /// When its statement began.
        query_start: Option<Timestamp>,
    },
    /// Of this application.
    Application(Arc<str>),
}

impl Action {
    /// The session that is meant.
    pub const fn session(&self) -> SessionId {
        match self {
            Self::Cancel { session, .. }
            | Self::Terminate { session, .. }
            | Self::TerminateAny { session }
            | Self::TerminateIf { session, .. } => *session,
        }
    }

    /// Whether it is a cancel, which leaves the session alive.
    pub const fn is_cancel(&self) -> bool {
        matches!(self, Self::Cancel { .. })
    }
}

/// What the server answered to an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionReply {
    /// The guard matched and the signal was sent; nothing is known of its effect yet.
    Signalled,
    /// It was withdrawn before it was sent.
    Withdrawn,
    /// There was no such process any more.
    Gone,
    /// The process is there, but it is not what was seen: nothing was signalled.
    Changed(Seen),
    /// The role may not signal this session; the text is the server's.
    NotPermitted(Arc<str>),
    /// The server answered with another error.
    Failed(Reason),
}

/// What a process was at the moment of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Start of the process's session.
    pub backend_start: Option<Timestamp>,
    /// Start of its transaction.
    pub xact_start: Option<Timestamp>,
    /// Start of its statement.
    pub query_start: Option<Timestamp>,
    /// Its state.
    pub state: Option<State>,
}

/// An action, the server's answer and what was observed afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What was done.
    pub action: Action,
    /// The statement that was sent, its arguments filled in.
    pub sql: String,
    /// What the server answered, or why there was no answer.
    pub reply: Result<ActionReply, Reason>,
    /// When the effect was seen, seconds after the signal; `None` when it was not seen in time.
    pub effect_after_seconds: Option<f64>,
    /// What the process was when last looked at; `None` when it had gone.
    pub seen: Option<Seen>,
}

/// Every lock of one process, as it was when read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// The process.
    pub pid: i32,
    /// Its locks, held and waited for, predicate locks too.
    pub locks: Vec<Lock>,
    /// Names of the relations among them.
    pub names: Arc<Names>,
    /// One of those who wait for it, and whom it waits for by the server's own word (`pg_blocking_pids`, or
    /// `pg_safe_snapshot_blocking_pids`); absent when nobody was asked about.
    pub waiter: Option<(i32, Vec<i32>)>,
}

/// What is kept of an action: who did what to whom, and what came of it. Times are of the client's clock, and no text
/// of a statement of others is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Tells the records of one run apart.
    pub id: u64,
    /// When it was ordered.
    pub at: Timestamp,
    /// Who ordered it.
    pub by: Operator,
    /// The server.
    pub target: String,
    /// What was ordered.
    pub action: Verb,
    /// Whom it meant.
    pub session: Whom,
    /// The statement that was sent, its arguments filled in; empty until it is known.
    pub sql: String,
    /// How the server was before.
    pub before: Counts,
    /// What came of it, in a sentence; absent until it is known.
    pub outcome: Option<String>,
    /// How the server was in the first sample after it; absent until there is one.
    pub after: Option<Counts>,
}

/// The kinds of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Verb {
    /// The end of a statement.
    Cancel,
    /// The end of a session.
    Terminate,
}

/// The person at the keyboard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The account on this machine.
    pub os_user: String,
    /// Where they came from, by `SSH_CONNECTION`; absent on the machine itself.
    pub from: Option<String>,
    /// Name of this machine.
    pub host: String,
}

/// A session in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whom {
    /// Process id.
    pub pid: i32,
    /// Start of its session.
    pub backend_start: Option<Timestamp>,
    /// Its role.
    pub user: String,
    /// Its database.
    pub database: String,
    /// `application_name`.
    pub application: String,
    /// Where it came from.
    pub client: String,
    /// Its state when it was ordered.
    pub state: String,
}

/// Figures of the server around an action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Client connections.
    pub connections: Option<usize>,
    /// Active sessions.
    pub active: Option<usize>,
    /// Sessions that wait for a lock.
    pub blocked: Option<usize>,
    /// Sessions behind the one that is meant.
    pub behind: Option<usize>,
}
