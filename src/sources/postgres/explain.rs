//! The plan of a statement, on a connection of its own that lives for it only. The statement is planned and never run.
//!
//! It is prepared first: that takes one statement and no second one, and its parameters get their types from it. The plan
//! is then the generic one, because nobody knows the values.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::error::statement_reason;
use super::servers::Servers;
use crate::format;
use crate::model::Reason;
use crate::text::explained;

/// How long all of it may take, the login included.
const LIMIT: Duration = Duration::from_secs(5);

const MARK: &str = "/* dbtriage:explain */ ";

/// The plan of a statement of a database, line by line; why there is none, and what would help.
pub(super) async fn explain(servers: &Servers, database: &str, sql: &str) -> Result<Vec<String>, Reason> {
    let (statement, parameters) =
        explained(sql).map_err(|why| Reason::new(format!("it cannot be explained: {why}")))?;
    let planned = async {
        let connection = servers.connect_beside(database).await.map_err(|error| error.reason)?;
        let line = &connection.line;
        let plan = plan(&line.client, statement, parameters).await;
        plan.map_err(|error| reason(&error, &line.user, database))
    };
    let late = || Reason::new(format!("the server has not answered within {}s", LIMIT.as_secs()));
    timeout(LIMIT, planned).await.map_err(|_| late())?
}

async fn plan(client: &Client, statement: &str, parameters: u16) -> Result<Vec<String>, Error> {
    let planned = plan_in_transaction(client, statement, parameters).await;
    if planned.is_err() {
        // A pooler may give the session to somebody else as it is.
        drop(client.batch_execute(&format!("{MARK}ROLLBACK; {MARK}DEALLOCATE dbtriage_explained")).await);
    }
    planned
}

async fn plan_in_transaction(
    client: &Client,
    statement: &str,
    parameters: u16,
) -> Result<Vec<String>, Error> {
    let run = async |sql: &str| client.query_typed(&format!("{MARK}{sql}"), &[]).await;
    // In a transaction, so that a pooler keeps us on one session.
    run("BEGIN READ ONLY").await?;
    run("SET LOCAL plan_cache_mode = force_generic_plan").await?;
    // Behind a pooler no other limit holds on the server.
    run("SET LOCAL lock_timeout = '200ms'").await?;
    run("SET LOCAL statement_timeout = '3s'").await?;
    run("SET LOCAL idle_in_transaction_session_timeout = '10s'").await?;
    run(&format!("PREPARE dbtriage_explained AS {statement}")).await?;
    let values = vec!["NULL"; parameters.into()].join(", ");
    let arguments = if values.is_empty() { String::new() } else { format!(" ({values})") };
    let rows = run(&format!("EXPLAIN EXECUTE dbtriage_explained{arguments}")).await?;
    run("DEALLOCATE dbtriage_explained").await?;
    run("ROLLBACK").await?;
    rows.iter().map(|row| row.try_get::<_, String>(0)).collect()
}

fn reason(error: &Error, user: &str, database: &str) -> Reason {
    let reason = statement_reason(error, user);
    let role = format::identifier(user);
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
            Reason::new("it would wait for a lock: somebody holds one of its tables exclusively")
                .with_hint("pane 2 shows who")
        }
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Reason::new(reason.text).with_hint(
            format!("GRANT pg_read_all_data TO {role};  (14 and later; else SELECT on the table)"),
        ),
        Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_FUNCTION => {
            Reason::new(reason.text).with_hint(format!(
                "the search path of another session is not known: \"{user}\" has its own in {database}"
            ))
        }
        _ => reason,
    }
}
