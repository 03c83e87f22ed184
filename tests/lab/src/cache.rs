//! The Redis server of the lab.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use crate::engine::Engine;
use crate::postgres::{pid_in, tail};
use crate::programs::Programs;
use crate::wait::until;

/// How long the server may take to start or stop.
const LIMIT: Duration = Duration::from_secs(10);

/// A Redis server, running unless a test stopped it.
#[derive(Debug, Clone)]
pub struct Redis {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// The unix socket.
    pub socket: PathBuf,
    /// The file it logs to.
    pub log: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) programs: Programs,
    pub(crate) engine: Arc<Engine>,
}

impl Redis {
    /// The URL of a connection by TCP.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The process id of the server.
    pub fn pid(&self) -> Result<i32> {
        pid_in(&self.directory.join("redis.pid"))
    }

    /// Runs one command, for instance `["SET", "key", "value"]`, and returns its reply.
    pub fn command(&self, words: &[&str]) -> Result<redis::Value> {
        let (this, what) = (self.clone(), words.join(" "));
        let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
        let answer = self.engine.run(LIMIT, async move {
            let mut connection = this.connect().await?;
            let mut command = redis::Cmd::new();
            command.arg(&words);
            Ok(command.query_async(&mut connection).await?)
        });
        answer.with_context(|| format!("could not run {what} on {}", self.url()))
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(&self) -> Result<()> {
        // The reply to SHUTDOWN is the end of the connection, which counts as an error.
        self.command(&["SHUTDOWN", "NOSAVE"]).ok();
        let this = self.clone();
        self.engine.run(LIMIT + LIMIT, async move {
            until("Redis to stop", LIMIT, || async { Ok(this.connect().await.is_err()) }).await
        })
    }

    /// Starts the server after a stop and waits until it answers.
    pub fn start(&self) -> Result<()> {
        let program = self.programs.redis.as_ref().context("the lab was started without Redis")?;
        let status = self
            .programs
            .command(program)
            .arg(self.directory.join("redis.conf"))
            .args(["--daemonize", "yes"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("could not run redis-server")?;
        if !status.success() {
            bail!("redis-server did not start: {status}\n{}", tail(&self.log));
        }
        let this = self.clone();
        self.engine.run(LIMIT + LIMIT, async move { this.ready().await })
    }

    /// Waits until the server answers.
    pub(crate) async fn ready(&self) -> Result<()> {
        let look = || async {
            let mut connection = self.connect().await?;
            Ok(redis::cmd("PING").exec_async(&mut connection).await.is_ok())
        };
        until("Redis to answer", LIMIT, look).await
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        // The limit of the client itself, half a second, is passed where the machine stalls.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LIMIT))
            .set_response_timeout(Some(LIMIT));
        let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
        connection.with_context(|| format!("could not connect to {}", self.url()))
    }
}
