//! The statements that act, with the guard inside: the server itself compares the session with what was seen, in the
//! statement that signals it.
//!
//! It must not know when one is sent or what comes of it.

use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};

use crate::format::rfc3339_micros;
use crate::model::action::{Action, Still};
use crate::model::postgres::SessionId;

/// What the process `$1` is now; no row once it has gone.
pub(super) const OBSERVE: &str = "/* dbtriage:observe */ SELECT /* dbtriage */ backend_start, xact_start, query_start, state, \
     NULL::bool FROM pg_stat_get_activity($1)";

/// An argument of a statement, with its type.
pub(super) type Argument = (Box<dyn ToSql + Sync + Send>, Type);

/// A statement with its arguments.
pub(super) struct Guarded {
    pub(super) sql: String,
    pub(super) arguments: Vec<Argument>,
}

/// What the third argument of a guard is.
enum Third {
    Time(Option<Timestamp>),
    Text(String),
    None,
}

/// What is compared beside `backend_start`, and with what.
fn condition(action: &Action) -> (&'static str, Third) {
    match action {
        Action::Cancel { query_start, .. }
        | Action::TerminateIf { still: Still::Active { query_start }, .. } => {
            ("query_start IS NOT DISTINCT FROM $3 AND state = 'active'", Third::Time(*query_start))
        }
        Action::Terminate { xact_start, .. } => {
            ("xact_start IS NOT DISTINCT FROM $3", Third::Time(*xact_start))
        }
        Action::TerminateAny { .. } => ("true", Third::None),
        Action::TerminateIf { still: Still::Idle { state_change }, .. } => {
            ("state_change = $3 AND state = 'idle'", Third::Time(*state_change))
        }
        Action::TerminateIf { still: Still::IdleInTransaction { state_change }, .. } => {
            ("state_change = $3 AND state LIKE 'idle in transaction%'", Third::Time(*state_change))
        }
        Action::TerminateIf { still: Still::Application(name), .. } => {
            ("application_name = $3", Third::Text(name.to_string()))
        }
    }
}

/// The statement of an action. It answers with one row if the process exists: what it was at that moment, and whether
/// it was signalled (absent: the guard did not match).
fn statement(action: &Action) -> String {
    let (name, function) = if action.is_cancel() {
        ("cancel", "pg_cancel_backend")
    } else {
        ("terminate", "pg_terminate_backend")
    };
    let (condition, _) = condition(action);
    format!(
        "/* dbtriage:{name} */ SELECT /* dbtriage */ backend_start, xact_start, query_start, state, \
         CASE WHEN backend_start = $2 AND {condition} THEN {function}(pid) END FROM pg_stat_get_activity($1)"
    )
}

/// The statement of an action, and what to send with it.
pub(super) fn guarded(action: &Action) -> Guarded {
    let SessionId { pid, backend_start } = action.session();
    let mut arguments: Vec<Argument> =
        vec![(Box::new(pid), Type::INT4), (Box::new(backend_start), Type::TIMESTAMPTZ)];
    match condition(action).1 {
        Third::Time(at) => arguments.push((Box::new(at), Type::TIMESTAMPTZ)),
        Third::Text(text) => arguments.push((Box::new(text), Type::TEXT)),
        Third::None => {}
    }
    Guarded { sql: statement(action), arguments }
}

/// The statement as it is told: its arguments filled in.
pub(super) fn told(action: &Action) -> String {
    let SessionId { pid, backend_start } = action.session();
    let time =
        |at: Option<Timestamp>| at.map_or_else(|| "NULL".into(), |at| format!("'{}'", rfc3339_micros(at)));
    let third = match condition(action).1 {
        Third::Time(at) => time(at),
        Third::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Third::None => String::new(),
    };
    // The third goes in last: it may hold any text at all.
    statement(action)
        .replace("$1", &pid.to_string())
        .replace("$2", &time(backend_start))
        .replace("$3", &third)
}

/// One action of every shape, on pid 1, which is never a backend: a session that has run each once is not stopped by
/// locks on catalogs.
pub(super) fn harmless() -> [Action; 7] {
    let session = SessionId { pid: 1, backend_start: None };
    let still = |still| Action::TerminateIf { session, still };
    [
        Action::Cancel { session, query_start: None },
        Action::Terminate { session, xact_start: None },
        Action::TerminateAny { session },
        still(Still::Idle { state_change: None }),
        still(Still::IdleInTransaction { state_change: None }),
        still(Still::Active { query_start: None }),
        still(Still::Application("".into())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn what_is_told_is_what_was_sent() {
        let session =
            SessionId { pid: 4242, backend_start: Some("2026-11-02T16:00:00.000001Z".parse().unwrap()) };
        let still = Still::Application("o'brien $1".into());
        assert_eq!(
            told(&Action::TerminateIf { session, still }),
            "/* dbtriage:terminate */ SELECT /* dbtriage */ backend_start, xact_start, query_start, state, CASE WHEN backend_start = \
             '2026-11-02T16:00:00.000001Z' AND application_name = 'o''brien $1' THEN pg_terminate_backend(pid) END \
             FROM pg_stat_get_activity(4242)"
        );
    }

    #[test]
    fn every_statement_names_what_it_was_given() {
        for action in harmless() {
            let Guarded { sql, arguments } = guarded(&action);
            for number in 1..=3 {
                assert_eq!(sql.contains(&format!("${number}")), number <= arguments.len(), "{sql}");
            }
        }
    }
}
