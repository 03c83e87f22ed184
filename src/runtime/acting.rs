//! Carrying out what the application asks of a session, and watching what comes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::logging::Journal;
use super::opening::Handles;
use crate::app::{Msg, Order};
use crate::engine::Severity;
use crate::model::action::{Action, ActionReply, Outcome, Record, Seen};
use crate::model::postgres::State;
use crate::model::{Reason, TargetId};
use crate::sources::postgres::{self, Handle, Withdrawal};

/// How long the effect of a signal is watched for.
const WATCH: Duration = Duration::from_secs(5);
/// When it is first looked for: most sessions are gone after a few milliseconds.
const LOOK_FIRST: Duration = Duration::from_millis(50);
/// The longest pause between two looks, each twice as long as the one before: of many sessions that do not go, the
/// looks must not crowd out the next signal.
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(800);

/// How long a signal waits for the log: a disk that hangs must not keep somebody from ending an incident.
const LOG_LIMIT: Duration = Duration::from_millis(500);

/// Acts in a task of its own; the record is in the log before the signal is sent, and the outcome comes back as a
/// message.
pub(super) fn act(
    handles: Arc<Handles>,
    journal: Journal,
    (order, withdrawal): (Order, Withdrawal),
    messages: mpsc::Sender<Msg>,
) {
    tokio::spawn(async move {
        let Order { target, action, record, .. } = order;
        let id = record.id;
        keep(journal, Record { sql: postgres::statement(&action), ..record }, true, &messages).await;
        let outcome = match handles.postgres.get(&target) {
            Some(handle) => carry_out(handle, action, withdrawal).await,
            None => outcome(action, Err(Reason::new("this server takes no actions"))),
        };
        drop(messages.send(Msg::Outcome(id, Box::new(outcome))).await);
    });
}

/// Asks for a plan in a task of its own.
pub(super) fn explain(
    handles: Arc<Handles>,
    target: TargetId,
    (database, sql): (Arc<str>, Arc<str>),
    messages: mpsc::Sender<Msg>,
) {
    tokio::spawn(async move {
        let Some(handle) = handles.postgres.get(&target) else { return };
        let plan = handle.explain(&database, &sql).await;
        drop(messages.send(Msg::Plan(target, sql, plan)).await);
    });
}

/// Keeps what came of an action in a task of its own.
pub(super) fn keep_outcome(journal: Journal, record: Record, messages: mpsc::Sender<Msg>) {
    tokio::spawn(async move { keep(journal, record, false, &messages).await });
}

/// Writes a record to the log. What cannot be written is told, and stops nothing.
async fn keep(journal: Journal, record: Record, before_signal: bool, messages: &mpsc::Sender<Msg>) {
    let why = match timeout(LOG_LIMIT, journal.keep(&record, before_signal)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the disk does not answer".into(),
    };
    let text = format!("the log could not be written: {why}; what is done is in Events (8) only");
    drop(messages.send(Msg::Notice(Severity::Warning, text)).await);
}

/// Reads who holds advisory locks in a task of its own.
pub(super) fn read_advisory_holders(handles: Arc<Handles>, target: TargetId, messages: mpsc::Sender<Msg>) {
    tokio::spawn(async move {
        if let Some(handle) = handles.postgres.get(&target) {
            let holders = handle.advisory_holders().await;
            drop(messages.send(Msg::AdvisoryHolders(target, holders)).await);
        }
    });
}

/// Reads the locks of a process, and whom one of its waiters waits for, in a task of its own.
pub(super) fn read_holdings(
    handles: Arc<Handles>,
    target: TargetId,
    (pid, waiter): (i32, Option<i32>),
    messages: mpsc::Sender<Msg>,
) {
    tokio::spawn(async move {
        if let Some(handle) = handles.postgres.get(&target) {
            let holdings = handle.holdings(pid, waiter).await;
            drop(messages.send(Msg::Holdings(target, pid, holdings)).await);
        }
    });
}

fn outcome(action: Action, reply: Result<ActionReply, Reason>) -> Outcome {
    Outcome { sql: postgres::statement(&action), action, reply, effect_after_seconds: None, seen: None }
}

async fn carry_out(handle: &Handle, action: Action, withdrawal: Withdrawal) -> Outcome {
    let reply = handle.act_unless(action.clone(), withdrawal).await;
    let mut outcome = outcome(action, reply);
    if outcome.reply == Ok(ActionReply::Signalled) {
        watch_effect(handle, &mut outcome).await;
    }
    outcome
}

#[expect(clippy::disallowed_methods, reason = "the runtime owns the clock")]
async fn watch_effect(handle: &Handle, outcome: &mut Outcome) {
    let sent = Instant::now();
    let mut pause = LOOK_FIRST;
    while sent.elapsed() < WATCH {
        match handle.observe(outcome.action.session().pid).await {
            Ok(seen) => {
                outcome.seen = seen;
                if has_taken_effect(&outcome.action, seen) {
                    outcome.effect_after_seconds = Some(sent.elapsed().as_secs_f64());
                    return;
                }
            }
            // What was seen before is no longer known to hold.
            Err(_) => outcome.seen = None,
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_PAUSE_MAX);
    }
}

/// A terminated session is gone; a cancelled statement is over.
fn has_taken_effect(action: &Action, seen: Option<Seen>) -> bool {
    let Some(seen) = seen else { return true };
    match action {
        Action::Cancel { session, query_start } => {
            seen.backend_start != session.backend_start
                || seen.query_start != *query_start
                || seen.state != Some(State::Active)
        }
        Action::Terminate { session, .. }
        | Action::TerminateAny { session }
        | Action::TerminateIf { session, .. } => seen.backend_start != session.backend_start,
    }
}
