//! A PgBouncer in front of one server of the lab.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio_postgres::{Config, NoTls};

use crate::client::{Client, Rows, rows};
use crate::postgres::{Postgres, tail};
use crate::programs::{CURE, search_path};
use crate::wait::Deadline;

/// How often a pooler starts again with another port when its own was taken.
const ATTEMPTS: u32 = 4;

/// How long the pooler may take to start, to stop or to answer its console.
const LIMIT: Duration = Duration::from_secs(10);

/// When a session of the server goes back into the pool: PgBouncer's `pool_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// After every transaction.
    Transaction,
}

/// A running PgBouncer, until a test stops it; it ends with this value, and with the lab.
#[derive(Debug)]
pub struct Pooler {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// The file it logs to.
    pub log: PathBuf,
    directory: PathBuf,
    server: Postgres,
    program: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Pooler {
    /// Starts a pooler that keeps up to `pool_size` sessions for each role and database.
    pub fn start(server: &Postgres, mode: PoolMode, pool_size: u32) -> Result<Self> {
        let lab = server.data.parent().context("a server's data lie in the directory of its lab")?;
        let program = program()?;
        let mut attempt = 1;
        loop {
            // The keeper of the lab ends every process that works in a directory of the lab.
            let directory = make_directory(lab, server)?;
            let port = free_port()?;
            write_configuration(&directory, server, port, mode, pool_size)?;
            let pooler = Self {
                port,
                log: directory.join("pgbouncer.log"),
                directory,
                server: server.clone(),
                program: program.clone(),
                child: Mutex::new(None),
            };
            match pooler.restart() {
                Err(_) if attempt < ATTEMPTS && tail(&pooler.log).contains("in use") => attempt += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(pooler),
            }
        }
    }

    /// The URI of a connection by TCP through the pooler.
    pub fn uri(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Logs in through the pooler under an application name.
    pub fn client_as(&self, user: &str, database: &str, application: &str) -> Result<Client> {
        Client::connect(&self.server.engine, self.config(user, database, application))
    }

    /// Runs a command of the admin console, for instance `SHOW POOLS`, and returns its rows as text.
    pub fn console(&self, command: &str) -> Result<Vec<Vec<Option<String>>>> {
        let config = self.config("postgres", "pgbouncer", "lab");
        let text = command.to_owned();
        let answer: Result<Rows> = self.server.engine.run(LIMIT, async move {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(async move { connection.await.ok() });
            rows(&client, &text).await
        });
        answer.with_context(|| format!("could not run {command} on the console of the pooler"))
    }

    /// Stops the pooler and waits until it is gone; its clients are cut off.
    pub fn stop(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // Both do nothing after an end of its own.
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Starts the pooler anew, on the same port, and waits until it takes connections.
    pub fn restart(&self) -> Result<()> {
        self.stop();
        let output = fs::File::create(self.directory.join("output"))?;
        let mut child = self
            .server
            .programs
            .command(&self.program)
            .arg(self.directory.join("pgbouncer.ini"))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("could not run pgbouncer")?;
        let deadline = Deadline::after(LIMIT);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("pgbouncer did not start: {status}\n{}", tail(&self.log));
            }
            if deadline.passed() {
                child.kill()?;
                child.wait()?;
                bail!("pgbouncer takes no connections\n{}", tail(&self.log));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    fn config(&self, user: &str, database: &str, application: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port);
        config.user(user).dbname(database).application_name(application);
        config
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a directory in the lab's, which belongs to the servers' account and is readable to all.
fn make_directory(lab: &Path, server: &Postgres) -> Result<PathBuf> {
    let directory = tempfile::Builder::new()
        .prefix("pooler-")
        .tempdir_in(lab)
        .with_context(|| format!("could not create a directory in {}", lab.display()))?
        .keep();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    if let Some(account) = server.programs.account {
        chown(&directory, Some(account.uid), Some(account.gid))
            .with_context(|| format!("could not give {} away", directory.display()))?;
    }
    Ok(directory)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("found no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("could not read a port")?.port())
}

fn write_configuration(
    directory: &Path,
    server: &Postgres,
    port: u16,
    mode: PoolMode,
    pool_size: u32,
) -> Result<()> {
    let here = directory.display();
    let mode = match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    };
    // What Debian's own file has, for clients of JDBC; everything else stays at its default.
    let text = format!(
        "[databases]\n* = host={} port={}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nlogfile = {here}/pgbouncer.log\npidfile = {here}/pgbouncer.pid\n\
         auth_type = trust\nauth_file = {here}/userlist.txt\nadmin_users = postgres\n\
         pool_mode = {mode}\ndefault_pool_size = {pool_size}\nmax_client_conn = 100\n\
         ignore_startup_parameters = extra_float_digits\n",
        server.socket_directory.display(),
        server.port,
    );
    let users = ["postgres", "shop_owner", "oncall", "watcher", "nobody_special"];
    let users: String = users.iter().map(|user| format!("\"{user}\" \"\"\n")).collect();
    for (name, text) in [("pgbouncer.ini", text), ("userlist.txt", users)] {
        let file = directory.join(name);
        fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(())
}

fn program() -> Result<PathBuf> {
    search_path()
        .map(|directory| directory.join("pgbouncer"))
        .find(|it| it.is_file())
        .with_context(|| format!("no pgbouncer was found in PATH; {CURE}"))
}
