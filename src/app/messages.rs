//! What the application is told, and what it asks for: closed lists, so that nothing happens beside them.

use std::sync::Arc;
use std::time::Duration;

use super::{Export, ReplayNews, ReplayOrder};
use crate::engine::Severity;
use crate::model::action::{Action, Holdings, Outcome, Record};
use crate::model::{Reason, Sample, TargetId};
use crate::recording::Note;
use crate::terminal::Input;

/// Everything that can happen.
#[derive(Debug)]
pub enum Msg {
    /// A key, a paste, a new size.
    Input(Input),
    /// A source has read its target.
    Sample(Box<Sample>),
    /// The action of a record is over, as far as it was watched.
    Outcome(u64, Box<Outcome>),
    /// The locks of a process have been read.
    Holdings(TargetId, i32, Result<Holdings, Reason>),
    /// It has been read who holds advisory locks.
    AdvisoryHolders(TargetId, Result<Vec<i32>, Reason>),
    /// The plan of a statement, or why there is none.
    Plan(TargetId, Arc<str>, Result<Vec<String>, Reason>),
    /// What the person did, as it was recorded.
    Note(Box<Note>),
    /// What is told of the recording that is looked at.
    Replay(ReplayNews),
    /// Something to tell the person.
    Notice(Severity, String),
    /// Time has passed.
    Timer,
}

/// Everything the runtime is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Act on a session of a target; the record is kept before the signal is sent.
    Act(Box<Order>),
    /// Keep what came of an action on this server, and how it is meant.
    Keep(Box<Record>, TargetId, Severity),
    /// Keep what the person did, where it is recorded.
    Note(Box<Note>),
    /// Do not send what has been ordered under these records and has not been sent yet.
    Withdraw(Vec<u64>),
    /// Read every lock of a process, and whom one of its waiters waits for.
    ReadHoldings(TargetId, i32, Option<i32>),
    /// Read who holds advisory locks.
    ReadAdvisoryHolders(TargetId),
    /// Ask for the plan of a statement of a database.
    Explain(TargetId, Arc<str>, Arc<str>),
    /// Begin to keep everything in a file, or end that.
    Record(bool),
    /// Do something with the recording that is looked at.
    Replay(ReplayOrder),
    /// Write down what is shown.
    Export(Export),
    /// Copy a text to the clipboard.
    Copy(String),
    /// Sample at this interval from now on.
    SetInterval(Duration),
    /// Draw everything anew.
    Redraw,
    /// Give the terminal back to the shell.
    Suspend,
    /// End the program; true: leave the last screen in the scrollback.
    Quit(bool),
}

/// An action to carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The server.
    pub target: TargetId,
    /// What to do.
    pub action: Action,
    /// What is kept of it.
    pub record: Record,
    /// Whether it is one of many.
    pub one_of_many: bool,
}
