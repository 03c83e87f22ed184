//! Two hundred sessions of an application, all of them changing: they come, run statements that nobody has run before,
//! wait for locks, idle in transactions, go, and come again under another name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use dbtriage_lab::{Client, Postgres};

use crate::random::Random;

/// How many sessions there are.
pub(crate) const SESSIONS: usize = 200;

/// How many statements the server keeps; it has as many when the load begins, and then evicts some all the time.
pub(crate) const STATEMENTS: usize = 1000;

/// The pause between two changes: twenty a second.
const PAUSE: Duration = Duration::from_millis(50);

/// How many more sessions log in within a pause while some are missing.
const LOGINS: usize = 5;

/// The rows for which sessions wait.
const HOT_ROWS: usize = 8;

/// The load, until it is ended.
pub(crate) struct Load {
    changes: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts the load and waits until all sessions are there.
    pub(crate) fn start(server: &Postgres, seed: u64) -> Self {
        let mut crowd = Crowd::new(server, seed);
        crowd.fill_statements();
        for place in 0..SESSIONS {
            assert!(crowd.log_in(place), "the server lets {SESSIONS} sessions in");
        }
        let (changes, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&changes), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                count.fetch_add(usize::from(crowd.change()), Ordering::Relaxed);
                sleep(PAUSE);
            }
        });
        Self { changes, ended, thread: Some(thread) }
    }

    /// How many changes have been made.
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::Relaxed)
    }

    /// Ends the load; statements that run may still do so.
    pub(crate) fn end(mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().expect("the load");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// One session of the load.
struct Session {
    client: Client,
    in_transaction: bool,
}

struct Crowd {
    server: Postgres,
    sessions: Vec<Option<Session>>,
    random: Random,
    /// How many texts and names have been made up.
    made_up: usize,
}

impl Crowd {
    fn new(server: &Postgres, seed: u64) -> Self {
        let sessions = (0..SESSIONS).map(|_| None).collect();
        Self { server: server.clone(), sessions, random: Random::new(seed), made_up: 0 }
    }

    fn fill_statements(&mut self) {
        let client = self.server.client("shop_owner", "shop").unwrap();
        let texts: Vec<String> = (0..STATEMENTS + STATEMENTS / 10).map(|_| self.new_text()).collect();
        client.execute(&texts.join("; ")).unwrap();
    }

    /// A statement which differs from all others in more than its constants.
    fn new_text(&mut self) -> String {
        self.made_up += 1;
        let sum: String =
            (0..20).map(|bit| if self.made_up >> bit & 1 == 0 { " + id" } else { " - id" }).collect();
        format!("SELECT max(0{sum}) AS sum_{} FROM orders WHERE id < 10", self.made_up)
    }

    /// Some names are those of a service, and some are of this session only, as those of containers are.
    fn new_name(&mut self) -> String {
        self.made_up += 1;
        match self.random.below(3) {
            0 => "web".to_owned(),
            1 => format!("api-{}", self.random.below(20)),
            _ => format!("pod-{}", self.made_up),
        }
    }

    /// Whether the server lets one more in: one that is away or full does not, which is what is played.
    fn log_in(&mut self, place: usize) -> bool {
        let name = self.new_name();
        let Ok(client) = self.server.client_as("shop_owner", "shop", &name) else { return false };
        let is_ready = client.execute("SET lock_timeout = '4s'").is_ok();
        self.sessions[place] = is_ready.then_some(Session { client, in_transaction: false });
        is_ready
    }

    /// Changes one session, and replaces some that were lost; whether there was one to change.
    fn change(&mut self) -> bool {
        for session in &mut self.sessions {
            *session = session.take().filter(|session| !session.client.is_closed());
        }
        let missing: Vec<usize> = (0..SESSIONS).filter(|place| self.sessions[*place].is_none()).collect();
        for place in missing.into_iter().take(LOGINS) {
            if !self.log_in(place) {
                break;
            }
        }
        let place = self.random.below(SESSIONS);
        let Some(session) = &self.sessions[place] else { return false };
        if session.in_transaction {
            self.go_on_in_transaction(place);
        } else {
            self.begin_something(place);
        }
        true
    }

    fn begin_something(&mut self, place: usize) {
        let (sql, in_transaction) = match self.random.below(10) {
            0..4 => (self.new_text(), false),
            4 => (format!("SELECT pg_sleep({}.5)", self.random.below(4)), false),
            5 | 6 => (format!("BEGIN; {}", self.write()), true),
            7 => ("BEGIN; CREATE TEMP TABLE draft (id int) ON COMMIT DROP".to_owned(), true),
            _ => {
                self.sessions[place] = None;
                return;
            }
        };
        self.run(place, &sql, in_transaction);
    }

    fn go_on_in_transaction(&mut self, place: usize) {
        match self.random.below(4) {
            0 => {
                let sql = self.write();
                self.run(place, &sql, true);
            }
            1 => self.run(place, "ROLLBACK", false),
            _ => self.run(place, "COMMIT", false),
        }
    }

    fn write(&mut self) -> String {
        format!("UPDATE orders SET status = 'new' WHERE id = {}", 1 + self.random.below(HOT_ROWS))
    }

    /// Nobody waits for the end: errors such as a lock timeout or a deadlock are part of the load.
    fn run(&mut self, place: usize, sql: &str, in_transaction: bool) {
        if let Some(session) = &mut self.sessions[place] {
            drop(session.client.spawn(sql));
            session.in_transaction = in_transaction;
        }
    }
}
