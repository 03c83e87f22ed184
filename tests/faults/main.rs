//! Servers and networks that fail under the real program: what its screen says meanwhile, that what is old carries its
//! age, how soon it is live again by itself, and that no connection is left behind on the server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "what was measured is part of the result")]

mod catalogs;
mod clocks;
mod connections;
mod logins;
mod network;
mod resources;
mod server;
mod statements;
mod stopped;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use dbtriage_lab::terminal::{PATIENCE, Tty, now, rows, until};
use dbtriage_lab::{Client, Lab, Options, Postgres, Running};
use vt100::Screen;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");

/// The size at which all panes are shown.
const WIDE: (u16, u16) = (200, 50);

/// How soon the screen must be live again after the server takes connections again.
const SOON: Duration = Duration::from_secs(2);

/// How long a question is deaf after it has opened, with a little more for the program to read the key.
const DEAF: Duration = Duration::from_millis(400);

/// The line of the first row in Activity and in Locks.
const FIRST_ROW: usize = 6;

/// The panes whose titles tell how old their data are.
const AGEING_PANES: usize = 4;

/// One primary, and nothing else.
fn lab(settings: &[(&str, &str)]) -> Lab {
    lab_of(40, settings)
}

fn lab_of(max_connections: u32, settings: &[(&str, &str)]) -> Lab {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Lab::start(Options { standby: false, redis: false, max_connections, settings, ..Options::default() })
        .unwrap()
}

fn admin(server: &Postgres) -> Client {
    server.client("postgres", "shop").unwrap()
}

fn uri(user: &str, port: u16) -> String {
    format!("postgres://{user}@127.0.0.1:{port}/shop")
}

/// The process ids of the program's sessions; a function only, so that it answers under locks on catalogs.
fn own_pids(client: &Client) -> BTreeSet<i32> {
    let sql = "SELECT pid FROM pg_stat_get_activity(NULL) WHERE application_name = 'dbtriage'";
    client.rows(sql).unwrap().iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
}

fn is_there(client: &Client, pid: i32) -> bool {
    !client.rows(&format!("SELECT FROM pg_stat_get_activity(NULL) WHERE pid = {pid}")).unwrap().is_empty()
}

/// Counts the program's sessions, again and again, as long as the server answers.
struct Census {
    ended: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Census {
    fn start(server: &Postgres) -> Self {
        let (ended, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (server, end, found) = (server.clone(), Arc::clone(&ended), Arc::clone(&most));
        let count = "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE application_name = 'dbtriage'";
        // Logged in before anything fails.
        let mut client = server.client("postgres", "postgres").ok();
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                client = client.take().or_else(|| server.client("postgres", "postgres").ok());
                match client.as_ref().map(|client: &Client| client.cell(count)) {
                    Some(Ok(count)) => drop(found.fetch_max(count.parse().unwrap(), Ordering::Relaxed)),
                    Some(Err(_)) => client = None,
                    None => {}
                }
                sleep(Duration::from_millis(25));
            }
        });
        Self { ended, most, thread: Some(thread) }
    }

    /// The most sessions that there were at one moment.
    fn end(mut self) -> usize {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The program in its terminal, and who counts its sessions.
struct Watched {
    tty: Tty,
    server: Postgres,
    census: Census,
}

impl Watched {
    /// Starts the program, and does not wait for anything.
    fn start(server: &Postgres, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_counted(server, Census::start(server), arguments, environment)
    }

    /// The same, where the counting had to begin earlier.
    fn start_counted(
        server: &Postgres,
        census: Census,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let tty = Tty::start_with(PROGRAM, WIDE, arguments, environment);
        Self { tty, server: server.clone(), census }
    }

    /// Opens the screen by TCP on a port, and waits until it is live over three connections.
    fn open(server: &Postgres, port: u16) -> Self {
        let mut watched = Self::start(server, &[&uri("oncall", port)], &[]);
        watched.wait_until_complete();
        watched
    }

    /// Waits until the screen is live over three connections.
    fn wait_until_complete(&mut self) {
        self.tty.wait_for("a live screen over three connections", PATIENCE, |screen| {
            is_live(screen) && !rows(screen)[0].contains(" of 3 connections")
        });
        let second = self.server.client("postgres", "postgres").unwrap();
        until("three sessions", PATIENCE, || own_pids(&second).len() == 3);
    }

    /// Waits until the first line tells of an outage, and the first finding why.
    fn wait_for_outage(&mut self, kind: &str, why: &str) {
        self.tty.wait_for(&format!("{kind}: {why}"), PATIENCE, |screen| {
            rows(screen)[0].contains(&format!("○ {kind} for "))
                && rows(screen)[2].starts_with(" ■ CRIT ")
                && rows(screen)[2].contains(&format!(" {kind} for "))
                && rows(screen)[2].contains(why)
        });
    }

    /// The first line and the title of every pane with data tell an age of some seconds, and all of them grow.
    fn assert_ages_grow(&mut self, kind: &str) {
        self.tty.wait_for("an age in the first line and in every title", PATIENCE, |screen| {
            ages(screen, kind).is_some_and(|ages| ages.iter().all(|age| *age > 0))
        });
        let before = self.tty.look(|screen| ages(screen, kind)).expect("an age everywhere");
        self.tty.wait_for("every age to grow", PATIENCE, |screen| {
            ages(screen, kind).is_some_and(|ages| ages.iter().zip(&before).all(|(now, then)| now > then))
        });
    }

    /// Live again by itself, soon after the server takes connections again.
    fn assert_live_soon_after(&mut self, what: &str, returned: Instant) {
        let live = self.tty.wait_for(&format!("a live screen after {what}"), PATIENCE * 2, is_live);
        let time = live.saturating_duration_since(returned);
        println!("after {what}: live {time:?} after the server's return");
        assert!(time <= SOON, "after {what}: live only {time:?} after the server's return");
    }

    /// Three sessions at the end as at the beginning, never more than one above, and none after quitting.
    fn quit(self) {
        let second = self.server.client("postgres", "postgres").unwrap();
        until("three sessions again", PATIENCE * 2, || own_pids(&second).len() == 3);
        self.tty.keys("q");
        let ended = self.tty.end();
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        until("no session to be left", PATIENCE, || own_pids(&second).is_empty());
        let most = self.census.end();
        assert!(most <= 4, "{most} sessions at one moment");
    }
}

fn is_live(screen: &Screen) -> bool {
    rows(screen)[0].contains("● live")
}

/// The age of the outage in the first line, then that of each pane, in seconds; `None` while one is missing.
fn ages(screen: &Screen, kind: &str) -> Option<Vec<u64>> {
    let lines = rows(screen);
    let outage = seconds(lines[0].split(&format!("{kind} for ")).nth(1)?.split('s').next()?)?;
    let contents = lines.join("\n");
    let mut before: Vec<&str> = contents.split("s old ").collect();
    before.pop();
    let titles = before.into_iter().map(|text| text.rsplit(' ').next().and_then(seconds));
    let titles: Vec<u64> = titles.collect::<Option<_>>()?;
    (titles.len() == AGEING_PANES).then(|| [vec![outage], titles].concat())
}

/// `12` or `1m02` as seconds.
fn seconds(text: &str) -> Option<u64> {
    match text.split_once('m') {
        Some((minutes, seconds)) => Some(minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?),
        None => text.parse().ok(),
    }
}

/// A session that holds a table, and one that waits for it.
struct Pair {
    holder: Client,
    _waiter: Client,
    _waiting: Running,
}

impl Pair {
    fn start(server: &Postgres, table: &str) -> Self {
        let holder = server.client_as("shop_owner", "shop", "holder").unwrap();
        let waiter = server.client_as("shop_owner", "shop", "waiter").unwrap();
        holder.execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).unwrap();
        let waiting = waiter.spawn(&format!("SELECT count(*) FROM {table}"));
        Self { holder, _waiter: waiter, _waiting: waiting }
    }
}

/// Waits until the only root is shown in Locks with its waiter, and selects it.
fn select_root(tty: &mut Tty, root: i32) {
    tty.wait_for("the root with its waiter", PATIENCE, |screen| {
        let text = screen.contents();
        text.contains("1 root · 1 blocked") && text.contains(&format!("▼ {root}"))
    });
    tty.keys("2");
    tty.wait_for_text("state · wants");
    // A row whose session has left stays selected, until somebody moves on.
    select(tty, &format!(">▼ {root}"));
}

/// Goes down from the first row until the screen shows a row as selected.
fn select(tty: &mut Tty, selected: &str) {
    let deadline = now() + PATIENCE;
    // Keys are told apart by what they show: the next is pressed when the one before has been answered.
    let in_locks = selected.starts_with(">▼");
    tty.keys("\x1b[H");
    tty.wait_for("the first row to be selected", PATIENCE, |screen| {
        let first = &rows(screen)[FIRST_ROW];
        if in_locks { first.contains("│>") } else { first.starts_with('>') }
    });
    while !tty.contents().contains(selected) {
        assert!(now() < deadline, "{selected} cannot be selected:\n{}", tty.contents());
        let before = tty.look(selected_rows);
        tty.keys("j");
        tty.wait_for("another row to be selected", PATIENCE, |screen| selected_rows(screen) != before);
    }
}

/// How the selected rows begin, in any pane.
fn selected_rows(screen: &Screen) -> Vec<String> {
    let begins = |text: &str| text.chars().take(10).collect::<String>();
    let marked = |row: String| {
        let beside = row.split("│>").nth(1).map(begins);
        [row.strip_prefix('>').map(begins), beside].into_iter().flatten().collect::<Vec<_>>()
    };
    rows(screen).into_iter().flat_map(marked).collect()
}

/// Ends the selected session, and waits until the screen says that it has gone.
fn end_holder(tty: &mut Tty, pid: i32) {
    terminate(tty, pid);
    let told = |screen: &Screen| {
        let last = rows(screen).pop().unwrap_or_default();
        last.contains(&format!("{pid} holder")).then_some(last)
    };
    tty.wait_for("what came of it", PATIENCE, |screen| {
        told(screen).is_some_and(|it| !it.contains("terminating"))
    });
    let outcome = tty.look(told).unwrap_or_default();
    assert!(outcome.contains(&format!("terminated {pid} holder: gone after")), "{outcome}");
}

/// Orders the end of the selected session.
fn terminate(tty: &mut Tty, pid: i32) {
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {pid} ?"));
    // On a busy machine the question may still be deaf to the first of them.
    let deadline = now() + PATIENCE;
    while tty.contents().contains(&format!("Terminate {pid} ?")) {
        assert!(now() < deadline, "the question stays open:\n{}", tty.contents());
        sleep(DEAF);
        tty.keys("y");
        sleep(DEAF);
    }
}
