//! What a rule has chosen is looked at again by the server in the statement that acts.

use dbtriage::model::action::{Action, ActionReply, Still};
use dbtriage::model::postgres::{Session, State};
use dbtriage_lab::Client;

use crate::server::{Stage, Watch, on_every_major, session_of, until};

fn seen(stage: &Stage, watch: &mut Watch, pid: i32) -> Session {
    session_of(&watch.look(&stage.client()), pid).clone()
}

fn is_there(client: &Client, pid: i32) -> bool {
    !client.rows(&format!("SELECT pid FROM pg_stat_get_activity({pid})")).unwrap().is_empty()
}

/// Acts, and says whether the session was signalled; a signalled one must go.
fn is_signalled(stage: &Stage, watch: &Watch, action: Action) -> bool {
    let client = stage.client();
    let pid = action.session().pid;
    match watch.act(action) {
        Ok(ActionReply::Signalled) => {
            until("the session to be gone", || !is_there(&client, pid));
            true
        }
        Ok(ActionReply::Changed(_)) => {
            assert!(is_there(&client, pid), "{pid} was left alone");
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_idle_session_that_worked_since_is_left_alone() {
    on_every_major(|stage| {
        let victim = stage.session();
        let mut watch = Watch::start(stage.primary());
        let before = seen(stage, &mut watch, victim.pid());
        assert_eq!(before.state, Some(State::Idle));
        let idle =
            |state_change| Action::TerminateIf { session: before.id, still: Still::Idle { state_change } };
        victim.execute("SELECT 1").unwrap();
        assert!(!is_signalled(stage, &watch, idle(before.state_change)), "it has worked since");
        let now = seen(stage, &mut watch, victim.pid());
        victim.execute("BEGIN").unwrap();
        assert!(!is_signalled(stage, &watch, idle(now.state_change)), "it is in a transaction");
        victim.execute("COMMIT").unwrap();
        let now = seen(stage, &mut watch, victim.pid());
        assert!(is_signalled(stage, &watch, idle(now.state_change)));
    });
}

#[test]
fn a_session_idle_in_transaction_that_went_on_is_left_alone() {
    on_every_major(|stage| {
        let victim = stage.session();
        victim.execute("BEGIN; SELECT 1").unwrap();
        let mut watch = Watch::start(stage.primary());
        let before = seen(stage, &mut watch, victim.pid());
        let idle = |state_change| Action::TerminateIf {
            session: before.id,
            still: Still::IdleInTransaction { state_change },
        };
        victim.execute("SELECT 2").unwrap();
        assert!(!is_signalled(stage, &watch, idle(before.state_change)), "another statement has run");
        let now = seen(stage, &mut watch, victim.pid());
        victim.execute("COMMIT").unwrap();
        assert!(!is_signalled(stage, &watch, idle(now.state_change)), "the transaction is over");
        victim.execute("BEGIN").unwrap();
        let now = seen(stage, &mut watch, victim.pid());
        assert!(is_signalled(stage, &watch, idle(now.state_change)));
    });
}

#[test]
fn a_session_that_runs_another_statement_is_left_alone() {
    on_every_major(|stage| {
        let victim = stage.session();
        let mut watch = Watch::start(stage.primary());
        let before = seen(stage, &mut watch, victim.pid());
        let active =
            |query_start| Action::TerminateIf { session: before.id, still: Still::Active { query_start } };
        assert!(!is_signalled(stage, &watch, active(before.query_start)), "it is idle");
        let running = victim.spawn("SELECT pg_sleep(60)");
        let client = stage.client();
        let runs = format!("SELECT pid FROM pg_stat_get_activity({}) WHERE state = 'active'", victim.pid());
        until("the statement to run", || !client.rows(&runs).unwrap().is_empty());
        let now = seen(stage, &mut watch, victim.pid());
        assert!(is_signalled(stage, &watch, active(now.query_start)));
        assert!(running.wait(crate::server::PATIENCE).is_err());
    });
}

#[test]
fn a_session_that_took_another_name_is_left_alone() {
    on_every_major(|stage| {
        let victim = stage.session();
        let mut watch = Watch::start(stage.primary());
        let before = seen(stage, &mut watch, victim.pid());
        let of =
            |name: &str| Action::TerminateIf { session: before.id, still: Still::Application(name.into()) };
        assert!(!is_signalled(stage, &watch, of("another")));
        assert!(is_signalled(stage, &watch, of(&before.application_name)));
    });
}
