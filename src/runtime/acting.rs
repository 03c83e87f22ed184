//! Carrying out what the application asks of a session, and watching what comes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::opening::Handles;
use crate::app::Msg;
use crate::model::action::{Action, ActionReply, Outcome, Seen};
use crate::model::postgres::State;
use crate::model::{Reason, TargetId};
use crate::sources::postgres::Handle;

/// How long the effect of a signal is watched for.
const WATCH: Duration = Duration::from_secs(5);
/// How often it is looked for: most sessions are gone after a few milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Acts in a task of its own; the outcome comes back as a message.
pub(super) fn act(handles: Arc<Handles>, target: TargetId, action: Action, messages: mpsc::Sender<Msg>) {
    tokio::spawn(async move {
        let outcome = match handles.postgres.get(&target) {
            Some(handle) => carry_out(handle, action).await,
            None => unanswered(action, Reason::new("this server takes no actions")),
        };
        tracing::info!(target = target.0, ?outcome, "action");
        drop(messages.send(Msg::Outcome(target, Box::new(outcome))).await);
    });
}

/// Reads the locks of a process in a task of its own.
pub(super) fn read_holdings(handles: Arc<Handles>, target: TargetId, pid: i32, messages: mpsc::Sender<Msg>) {
    tokio::spawn(async move {
        if let Some(handle) = handles.postgres.get(&target) {
            let holdings = handle.holdings(pid).await;
            drop(messages.send(Msg::Holdings(target, pid, holdings)).await);
        }
    });
}

const fn unanswered(action: Action, reason: Reason) -> Outcome {
    Outcome { action, reply: Err(reason), effect_after_seconds: None, seen: None }
}

async fn carry_out(handle: &Handle, action: Action) -> Outcome {
    let reply = match handle.act(action).await {
        Ok(reply) => reply,
        Err(reason) => return unanswered(action, reason),
    };
    let mut outcome = Outcome { action, reply: Ok(reply), effect_after_seconds: None, seen: None };
    if outcome.reply == Ok(ActionReply::Signalled) {
        watch_effect(handle, &mut outcome).await;
    }
    outcome
}

#[expect(clippy::disallowed_methods, reason = "the runtime owns the clock")]
async fn watch_effect(handle: &Handle, outcome: &mut Outcome) {
    let sent = Instant::now();
    while sent.elapsed() < WATCH {
        match handle.observe(outcome.action.session().pid).await {
            Ok(seen) => {
                outcome.seen = seen;
                if has_taken_effect(outcome.action, seen) {
                    outcome.effect_after_seconds = Some(sent.elapsed().as_secs_f64());
                    return;
                }
            }
            // What was seen before is no longer known to hold.
            Err(_) => outcome.seen = None,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A terminated session is gone; a cancelled statement is over.
fn has_taken_effect(action: Action, seen: Option<Seen>) -> bool {
    let Some(seen) = seen else { return true };
    match action {
        Action::Cancel { session, query_start } => {
            seen.backend_start != session.backend_start
                || seen.query_start != query_start
                || seen.state != Some(State::Active)
        }
        Action::Terminate { session, .. } | Action::TerminateAny { session } => {
            seen.backend_start != session.backend_start
        }
    }
}
