//! A small blocking client of PostgreSQL, for tests which are plain functions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::engine::{Engine, Pending};

/// How long a statement may take which nobody asked to wait for otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a login may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(10);

/// The rows of a statement, as text; `None` is NULL.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// A session of PostgreSQL; it ends when the client is dropped and no statement runs any more.
#[derive(Debug)]
pub struct Client {
    engine: Arc<Engine>,
    session: Arc<tokio_postgres::Client>,
    pid: i32,
}

impl Client {
    /// Logs in.
    pub(crate) fn connect(engine: &Arc<Engine>, config: Config) -> Result<Self> {
        let (session, pid) = engine.run(LOGIN_LIMIT, login(config))?;
        Ok(Self { engine: Arc::clone(engine), session: Arc::new(session), pid })
    }

    /// The process id of the session's backend.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the session has ended, by whomever.
    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Runs one or more statements and waits for their end.
    pub fn execute(&self, sql: &str) -> Result<()> {
        self.rows(sql).map(drop)
    }

    /// Runs a statement and returns its rows as text; `None` is NULL.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.spawn(sql).wait(LIMIT)
    }

    /// Runs a statement and returns the first column of its first row; NULL is an error.
    pub fn cell(&self, sql: &str) -> Result<String> {
        let row = self.rows(sql)?.into_iter().next();
        let value = row.and_then(|it| it.into_iter().next()).flatten();
        value.with_context(|| format!("expected a value, found no row or NULL: {sql}"))
    }

    /// Starts a statement and does not wait for its end: for statements which shall block.
    /// Statements started later on the same client run after it.
    pub fn spawn(&self, sql: &str) -> Running {
        let session = Arc::clone(&self.session);
        let text = sql.to_owned();
        let pending = self.engine.start(async move { rows(&session, &text).await });
        Running { pending, sql: sql.to_owned() }
    }
}

/// A statement that runs in the background.
#[derive(Debug)]
pub struct Running {
    pending: Pending<Rows>,
    sql: String,
}

impl Running {
    /// Waits for the end of the statement and returns its rows; an error when it failed or did not
    /// end within `limit`. After an end was returned there is nothing more to wait for.
    pub fn wait(&self, limit: Duration) -> Result<Vec<Vec<Option<String>>>> {
        self.pending.wait(limit).with_context(|| format!("could not run: {}", self.sql))
    }
}

/// Logs in and returns the session with the process id of its backend.
pub(crate) async fn login(config: Config) -> Result<(tokio_postgres::Client, i32)> {
    let what = format!(
        "could not log in as {} to database {}",
        config.get_user().unwrap_or_default(),
        config.get_dbname().unwrap_or_default()
    );
    let connected = async {
        let (client, connection) = config.connect(NoTls).await?;
        // The end of the connection shows in the errors of its client.
        tokio::spawn(async move { connection.await.ok() });
        let found = rows(&client, "SELECT pg_backend_pid()").await?;
        let text = found.into_iter().flatten().flatten().next().unwrap_or_default();
        let pid = text.parse().context("the server told no process id")?;
        Ok::<_, anyhow::Error>((client, pid))
    };
    let limited = tokio::time::timeout(LOGIN_LIMIT, connected).await;
    limited.context("no answer in time").and_then(|it| it).context(what)
}

/// Runs a statement by the simple protocol and returns its rows as text.
pub(crate) async fn rows(client: &tokio_postgres::Client, sql: &str) -> Result<Rows> {
    let messages = client.simple_query(sql).await.map_err(in_full)?;
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|it| row.get(it).map(str::to_owned)).collect());
        }
    }
    Ok(rows)
}

/// The driver's own text is "db error"; the server's sentence says more.
fn in_full(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(server) => {
            let text = format!("{}: {}", server.code().code(), server.message());
            anyhow::Error::new(error).context(text)
        }
        None => anyhow::Error::new(error),
    }
}
