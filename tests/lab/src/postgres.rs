//! One PostgreSQL server of the lab.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::Config;

use crate::client::Client;
use crate::engine::Engine;
use crate::programs::Programs;

/// A PostgreSQL server, running unless a test stopped it.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// The directory of its unix socket.
    pub socket_directory: PathBuf,
    /// The file it logs to.
    pub log: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    pub(crate) programs: Programs,
    pub(crate) engine: Arc<Engine>,
}

impl Postgres {
    /// The keyword string of a connection by the unix socket.
    pub fn conninfo(&self, user: &str, database: &str) -> String {
        let directory = self.socket_directory.display();
        format!("host={directory} port={} user={user} dbname={database}", self.port)
    }

    /// The URI of a connection by TCP.
    pub fn uri(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The process id of the postmaster.
    pub fn postmaster_pid(&self) -> Result<i32> {
        pid_in(&self.data.join("postmaster.pid"))
    }

    /// Logs in by the unix socket, under the application name `lab`.
    pub fn client(&self, user: &str, database: &str) -> Result<Client> {
        self.client_as(user, database, "lab")
    }

    /// Logs in by the unix socket under an application name.
    pub fn client_as(&self, user: &str, database: &str, application: &str) -> Result<Client> {
        Client::connect(&self.engine, self.config(user, database, application))
    }

    /// Stops the server; `mode` is `smart`, `fast` or `immediate`.
    pub fn stop(&self, mode: &str) -> Result<()> {
        self.pg_ctl(&["-m", mode, "-t", "20", "stop"])
    }

    /// Starts the server after a stop and waits until it takes connections.
    pub fn start(&self) -> Result<()> {
        let log = self.log.display().to_string();
        self.pg_ctl(&["-l", &log, "-t", "20", "start"])
    }

    /// Starts the server after a stop and does not wait: it may not take connections for long.
    pub fn begin_start(&self) -> Result<()> {
        let log = self.log.display().to_string();
        self.pg_ctl(&["-l", &log, "-W", "start"])
    }

    /// Adds a line to `postgresql.conf`; the last line with a name holds, from the next start or reload on.
    pub fn configure(&self, name: &str, value: &str) -> Result<()> {
        let path = self.data.join("postgresql.conf");
        let line = format!("{name} = '{}'\n", value.replace('\'', "''"));
        let file = fs::OpenOptions::new().append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.with_context(|| format!("could not write {}", path.display()))
    }

    /// Puts a line before all others of `pg_hba.conf`, and has the server read it.
    pub fn let_in(&self, line: &str) -> Result<()> {
        let path = self.data.join("pg_hba.conf");
        let rules = fs::read_to_string(&path);
        // Written in place: the file goes on belonging to the servers' account.
        let written = rules.and_then(|rules| fs::write(&path, format!("{line}\n{rules}")));
        written.with_context(|| format!("could not write {}", path.display()))?;
        self.pg_ctl(&["reload"])
    }

    /// Stops the server in mode `fast` and starts it again.
    pub fn restart(&self) -> Result<()> {
        self.stop("fast")?;
        self.start()
    }

    /// Makes a standby the primary of its own history, and waits until it is.
    pub fn promote(&self) -> Result<()> {
        self.pg_ctl(&["-t", "20", "promote"])
    }

    /// Kills one backend as the out-of-memory killer does: the server ends every session and recovers.
    pub fn crash(&self) -> Result<()> {
        let victim = self.client("postgres", "postgres")?;
        kill(Pid::from_raw(victim.pid()), Signal::SIGKILL).context("could not kill a backend")
    }

    /// The parameters of a connection by the unix socket.
    pub(crate) fn config(&self, user: &str, database: &str, application: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket_directory).port(self.port);
        config.user(user).dbname(database).application_name(application);
        config
    }

    /// The parameters of a connection by TCP, as an application on another machine would use.
    pub(crate) fn tcp_config(&self, user: &str, database: &str, application: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port);
        config.user(user).dbname(database).application_name(application);
        config
    }

    /// Runs `pg_ctl` as the servers' account. Its output goes to a file: a pipe would be inherited
    /// by the server and stay open.
    fn pg_ctl(&self, arguments: &[&str]) -> Result<()> {
        let told = self.log.with_extension("pg_ctl");
        let output =
            fs::File::create(&told).with_context(|| format!("could not create {}", told.display()))?;
        let errors = output.try_clone().context("could not share the output of pg_ctl")?;
        let status = self
            .programs
            .command(self.programs.postgres.join("pg_ctl"))
            .arg("-D")
            .arg(&self.data)
            .arg("-w")
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .status()
            .context("could not run pg_ctl")?;
        if !status.success() {
            bail!(
                "pg_ctl {} on {} failed: {}\n{}\n{}",
                arguments.join(" "),
                self.data.display(),
                status,
                tail(&told),
                tail(&self.log)
            );
        }
        Ok(())
    }
}

/// Reads the process id in the first line of a file.
pub(crate) fn pid_in(path: &Path) -> Result<i32> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("could not read {}: is the server running", path.display()))?;
    let first = text.lines().next().unwrap_or_default();
    first.trim().parse().with_context(|| format!("{} holds no process id", path.display()))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(12);
    lines.get(start..).unwrap_or_default().join("\n")
}
