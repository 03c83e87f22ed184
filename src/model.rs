//! What a sample is: plain data that a source has read from a server, and nothing derived from it.
//!
//! Knows serde, jiff, strum and foldhash only. It must not know how a sample is read, judged or shown.

pub mod action;
mod delta;
pub mod postgres;
pub mod redis;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use delta::Delta;

/// Identifies one monitored server for the life of the program: its place in the order of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId(pub usize);

/// What is fixed about a target from the moment it is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The place of the target in the order it was given.
    pub id: TargetId,
    /// `host:port/database` or `host:port`; never holds a password.
    pub name: String,
    /// Which kind of server it is.
    pub kind: Kind,
}

/// The kinds of server that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// PostgreSQL 13 or later.
    Postgres,
    /// Redis, or a server that speaks its protocol and answers INFO.
    Redis,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Needs attention.
    Warning,
    /// Needs action.
    Critical,
}

/// One reading of one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The target that was read.
    pub target: TargetId,
    /// When the reading was asked for, by the client's clock: nothing in it is older.
    pub asked_at: Timestamp,
    /// When the reading was complete, by the client's clock.
    pub taken_at: Timestamp,
    /// What was read.
    pub body: Body,
}

/// What a reading brought back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Body {
    /// A PostgreSQL server answered.
    Postgres(Arc<postgres::Sample>),
    /// A Redis server answered.
    Redis(Arc<redis::Sample>),
    /// The server did not answer, or refused.
    Outage(Outage),
}

/// A time during which a target gives no data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// How the target fails.
    pub kind: OutageKind,
    /// What was attempted, on what, why it failed, and what to do next.
    pub reason: Reason,
    /// When the outage was first seen, by the client's clock.
    pub since: Timestamp,
    /// When the next attempt is due; absent while an answer is still awaited.
    pub retry_at: Option<Timestamp>,
}

/// How a target fails to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageKind {
    /// The connection is open, but the answer is overdue.
    Blocked,
    /// There is no connection.
    Unreachable,
    /// The server answered with an error, which the reason holds word for word.
    Error,
}

impl fmt::Display for OutageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked",
            Self::Unreachable => "unreachable",
            Self::Error => "error",
        })
    }
}

/// One part of a sample: read just now, read some time ago, or not to be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reading<T> {
    /// Read in this sample.
    Fresh(T),
    /// Kept from an earlier sample; the time says when it was read, by the server's clock.
    Stale(T, Timestamp),
    /// Cannot be read; the reason says why and what would help.
    Unavailable(Reason),
}

impl<T> Reading<T> {
    /// The value, fresh or stale; `None` when unavailable.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Fresh(value) | Self::Stale(value, _) => Some(value),
            Self::Unavailable(_) => None,
        }
    }

    /// Why there is no value; `None` when there is one.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Fresh(_) | Self::Stale(..) => None,
            Self::Unavailable(reason) => Some(reason),
        }
    }

    /// When the value was read, if it is not of this sample.
    pub fn stale_since(&self) -> Option<Timestamp> {
        match self {
            Self::Stale(_, since) => Some(*since),
            Self::Fresh(_) | Self::Unavailable(_) => None,
        }
    }

    /// The same reading of a derived value.
    pub fn map<U>(&self, derive: impl FnOnce(&T) -> U) -> Reading<U> {
        match self {
            Self::Fresh(value) => Reading::Fresh(derive(value)),
            Self::Stale(value, since) => Reading::Stale(derive(value), *since),
            Self::Unavailable(reason) => Reading::Unavailable(reason.clone()),
        }
    }
}

/// Why something is missing, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What was attempted and why it failed, one sentence without a full stop.
    pub text: Arc<str>,
    /// The next step: a statement to run, a setting to change; absent when nothing helps.
    pub hint: Option<Arc<str>>,
}

impl Reason {
    /// A reason without a remedy.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// The same reason with its next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Arc<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}
