//! What can be done to a session, and what came of it: plain data between the floor that decides and the floor
//! that does.

use std::sync::Arc;

use jiff::Timestamp;

use super::Reason;
use super::postgres::{Lock, Names, SessionId, State};

/// One thing to do to one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl Action {
    /// The session that is meant.
    pub const fn session(&self) -> SessionId {
        match self {
            Self::Cancel { session, .. }
            | Self::Terminate { session, .. }
            | Self::TerminateAny { session } => *session,
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
}
