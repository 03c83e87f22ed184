//! The loads under which is measured: how many sessions there are, and what they do.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dbtriage_lab::terminal::until;
use dbtriage_lab::{Client, Lab, Options, Postgres};

/// How long all sessions may take to be where they shall be.
const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds that a statement of an active session takes.
const BUSY_SECONDS: f64 = 1.5;
/// Connections beside those of the load.
const SPARE: usize = 60;

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) idle: usize,
    pub(crate) idle_in_transaction: usize,
    pub(crate) active: usize,
    /// Whether 300 wait for locks: 60 in a chain, 100 for a row, 60 for a relation, 80 in a tree of threes.
    pub(crate) blocked: bool,
    pub(crate) statements: usize,
}

/// The loads of the table, in its order.
pub(crate) const SIZES: [Size; 4] = [
    Size { name: "10", idle: 10, idle_in_transaction: 0, active: 0, blocked: false, statements: 0 },
    Size { name: "500", idle: 430, idle_in_transaction: 20, active: 50, blocked: false, statements: 0 },
    Size { name: "2000", idle: 1700, idle_in_transaction: 0, active: 0, blocked: true, statements: 0 },
    Size {
        name: "statements",
        idle: 10,
        idle_in_transaction: 0,
        active: 0,
        blocked: false,
        statements: 5000,
    },
];

/// The waiters of each kind.
const CHAIN: usize = 60;
const ON_ROW: usize = 100;
const ON_RELATION: usize = 60;
const TREE: usize = 80;

/// A running load; it ends with its lab.
pub(crate) struct Crowd {
    pub(crate) lab: Lab,
    ended: Arc<AtomicBool>,
    busy: Option<JoinHandle<()>>,
    _sessions: Vec<Session>,
}

impl Crowd {
    /// Starts the servers and the load, and waits until all of it is there.
    pub(crate) fn start(size: Size) -> Result<Self> {
        let waiters = if size.blocked { CHAIN + ON_ROW + ON_RELATION + TREE } else { 0 };
        let sessions = size.idle + size.idle_in_transaction + size.active + waiters;
        let max_connections = u32::try_from(sessions + SPARE)?;
        let settings = [("pg_stat_statements.max", "60000"), ("shared_buffers", "128MB")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let lab = Lab::start(Options { max_connections, settings, ..Options::default() })?;
        let admin = lab.primary().client("postgres", "shop")?;
        fill(&admin, size.statements)?;
        let server = lab.primary();
        let mut all = Vec::new();
        for _ in 0..size.idle {
            all.push(Session::open(server, "pool")?);
        }
        for _ in 0..size.idle_in_transaction {
            let mut session = Session::open(server, "worker")?;
            session.run("BEGIN; SELECT count(*) FROM bench")?;
            all.push(session);
        }
        if size.blocked {
            block(server, &mut all)?;
            let waiting = "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE wait_event_type = 'Lock'";
            let wanted = waiters.to_string();
            until("all to wait", PATIENCE, || admin.cell(waiting).is_ok_and(|count| count == wanted));
        }
        let active = (0..size.active).map(|_| Session::open(server, "web")).collect::<Result<Vec<_>>>()?;
        let ended = Arc::new(AtomicBool::new(false));
        let busy = keep_busy(active, Arc::clone(&ended));
        Ok(Self { lab, ended, busy: Some(busy), _sessions: all })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(busy) = self.busy.take() {
            drop(busy.join());
        }
    }
}

/// The tables of the load, and the statements that the server has counted.
fn fill(admin: &Client, statements: usize) -> Result<()> {
    admin.execute(
        "CREATE TABLE bench (id int PRIMARY KEY, value int); CREATE TABLE bench_relation (id int); \
         INSERT INTO bench SELECT n, 0 FROM generate_series(0, 999) n; GRANT ALL ON bench, bench_relation TO shop_owner",
    )?;
    for first in (0..statements).step_by(100) {
        let texts: Vec<String> = (first..(first + 100).min(statements)).map(distinct).collect();
        admin.execute(&texts.join("; "))?;
    }
    Ok(())
}

/// A statement that differs from all others in more than its constants, of 0.3 to 1.5 kB.
fn distinct(number: usize) -> String {
    let sum: String = (0..17).map(|bit| if number >> bit & 1 == 0 { " + id" } else { " - id" }).collect();
    let columns = "x".repeat(200 + number * 7 % 1200);
    format!("SELECT max(0{sum}) AS total /* {columns} */ FROM bench WHERE id < 10")
}

fn block(server: &Postgres, all: &mut Vec<Session>) -> Result<()> {
    let hold = |row: usize| -> Result<Session> {
        let mut session = Session::open(server, "batch")?;
        session.run(&format!("BEGIN; UPDATE bench SET value = 1 WHERE id = {row}"))?;
        Ok(session)
    };
    let wait_for = |row: usize| format!("UPDATE bench SET value = 1 WHERE id = {row}");
    // In the chain each holds a row and waits for that of the one before; the first only holds.
    let mut chain = (0..=CHAIN).map(hold).collect::<Result<Vec<_>>>()?;
    for (before, session) in chain.iter_mut().skip(1).enumerate() {
        session.send(&wait_for(before))?;
    }
    all.append(&mut chain);
    let row = 200;
    all.push(hold(row)?);
    for _ in 0..ON_ROW {
        let mut session = Session::open(server, "web")?;
        session.send(&wait_for(row))?;
        all.push(session);
    }
    let mut holder = Session::open(server, "migrate")?;
    holder.run("BEGIN; LOCK TABLE bench_relation IN ACCESS EXCLUSIVE MODE")?;
    all.push(holder);
    for _ in 0..ON_RELATION {
        let mut session = Session::open(server, "report")?;
        session.send("SELECT count(*) FROM bench_relation")?;
        all.push(session);
    }
    let first = 300;
    let mut tree = (0..=TREE).map(|node| hold(first + node)).collect::<Result<Vec<_>>>()?;
    for (node, session) in tree.iter_mut().enumerate().skip(1) {
        session.send(&wait_for(first + (node - 1) / 3))?;
    }
    all.append(&mut tree);
    Ok(())
}

/// Each session runs one statement after the other; nobody waits for the answers, which are short.
fn keep_busy(mut sessions: Vec<Session>, ended: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let pause = match u32::try_from(sessions.len()) {
            Ok(count @ 1..) => Duration::from_secs_f64(BUSY_SECONDS) / count,
            Ok(0) | Err(_) => return,
        };
        for turn in 0_usize.. {
            for (place, session) in sessions.iter_mut().enumerate() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let sql = format!(
                    "SELECT pg_sleep({BUSY_SECONDS}), id FROM bench WHERE id = {}",
                    (turn + place) % 100
                );
                if session.send(&sql).is_err() {
                    return;
                }
                sleep(pause);
            }
        }
    })
}

/// A session without a client library around it.
struct Session(UnixStream);

impl Session {
    fn open(server: &Postgres, application: &str) -> Result<Self> {
        let path = server.socket_directory.join(format!(".s.PGSQL.{}", server.port));
        let mut stream = UnixStream::connect(path).context("could not connect to the server's socket")?;
        let body = format!("\0\x03\0\0user\0shop_owner\0database\0shop\0application_name\0{application}\0\0");
        let length = u32::try_from(body.len() + 4)?.to_be_bytes();
        stream.write_all(&[&length[..], body.as_bytes()].concat())?;
        let mut session = Self(stream);
        session.hear()?;
        Ok(session)
    }

    /// Runs a statement and waits for its end.
    fn run(&mut self, sql: &str) -> Result<()> {
        self.send(sql)?;
        self.hear()
    }

    fn send(&mut self, sql: &str) -> Result<()> {
        let length = u32::try_from(sql.len() + 5)?.to_be_bytes();
        Ok(self.0.write_all(&[b"Q", &length[..], sql.as_bytes(), b"\0"].concat())?)
    }

    /// Waits until the server is ready for more.
    fn hear(&mut self) -> Result<()> {
        let mut heard = Vec::new();
        let is_ready = |heard: &[u8]| heard.ends_with(b"Z\0\0\0\x05I") || heard.ends_with(b"Z\0\0\0\x05T");
        while !is_ready(&heard) {
            let mut buffer = [0; 4096];
            let count = self.0.read(&mut buffer)?;
            ensure!(0 < count, "the server hangs up: {}", heard.escape_ascii());
            heard.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        Ok(())
    }
}
