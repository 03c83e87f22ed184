//! The truth at the end: some sessions whose states are known, and a screen that shows them and nothing else.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use dbtriage_lab::terminal::{PATIENCE, Tty, now, rows, until};
use dbtriage_lab::{Client, Postgres, Running};
use vt100::Screen;

use crate::faults::{admin, escape};

/// Longer than a row stays struck through after its session has left and another row was selected.
const SETTLED: Duration = Duration::from_millis(2500);

/// A session as pane 1 shows it: process id, application, state.
type Row = (i32, String, String);

/// Sessions that stay as they are.
pub(crate) struct Truth {
    sessions: BTreeSet<Row>,
    root: i32,
    waiter: i32,
    clients: Vec<Client>,
    running: Vec<Running>,
}

impl Truth {
    /// Makes twelve sessions: idle, asleep, idle in transactions, one of them aborted, and one that waits.
    pub(crate) fn make(server: &Postgres) -> Self {
        let mut truth =
            Self { sessions: BTreeSet::new(), root: 0, waiter: 0, clients: Vec::new(), running: Vec::new() };
        for n in 0..4 {
            truth.add(server, &format!("resting-{n}"), "idle");
        }
        for n in 0..3 {
            let client = truth.add(server, &format!("sleeping-{n}"), "active");
            let sleeping = client.spawn("SELECT pg_sleep(600)");
            truth.running.push(sleeping);
        }
        for n in 0..2 {
            truth.add(server, &format!("pausing-{n}"), "idle in tx").execute("BEGIN; SELECT 1").unwrap();
        }
        let aborted = truth.add(server, "failing", "idle abort");
        aborted.execute("BEGIN").unwrap();
        aborted.execute("SELECT 1 / 0").unwrap_err();
        let holder = truth.add(server, "holding", "idle in tx");
        holder.execute("BEGIN; UPDATE orders SET status = 'held' WHERE id = 1").unwrap();
        truth.root = holder.pid();
        let waiter = truth.add(server, "waiting", "active");
        let (pid, waiting) = (waiter.pid(), waiter.spawn("UPDATE orders SET status = 'new' WHERE id = 1"));
        truth.waiter = pid;
        truth.running.push(waiting);
        assert_eq!(truth.sessions.len(), 12);
        truth
    }

    fn add(&mut self, server: &Postgres, application: &str, state: &str) -> &Client {
        let client = server.client_as("shop_owner", "shop", application).unwrap();
        self.sessions.insert((client.pid(), application.to_owned(), state.to_owned()));
        self.clients.push(client);
        self.clients.last().unwrap()
    }

    /// The last screen shows these sessions with their states, this one wait, and Redis.
    pub(crate) fn assert_shown(&self, tty: &mut Tty) {
        escape(tty);
        tty.keys("1");
        bring_back(tty, &["z"], "all panes", |screen| is_titled(screen, "─ 1 Activity "));
        bring_back(tty, &["g"], "single sessions", |screen| {
            !title_of(screen, "1 Activity").contains(" · by ")
        });
        bring_back(tty, &["i"], "idle sessions", |screen| {
            !title_of(screen, "1 Activity").contains(" hidden")
        });
        // A row whose session has left stays selected, until somebody moves on; it may be the first or the last.
        let move_on = ["\x1b[H", "\x1b[F"];
        tty.keys("2");
        bring_back(tty, &move_on, &format!("{} and {} in Locks only", self.root, self.waiter), |screen| {
            title_of(screen, "2 Locks").contains("1 root · 1 blocked")
                && shown_in_locks(screen) == [self.root, self.waiter]
        });
        tty.keys("1");
        bring_back(tty, &move_on, &format!("{:#?} only", self.sessions), |screen| {
            shown_sessions(screen) == self.sessions
        });
        tty.wait_for("a standby and Redis", PATIENCE, |screen| {
            let text = screen.contents();
            text.contains("streaming") && text.contains("ping ") && text.contains("● live")
        });
    }

    /// Ends all of them.
    pub(crate) fn end(self, server: &Postgres) {
        drop(self.clients);
        end_all_but_ours(server);
    }
}

/// Ends every session of a client but ours.
pub(crate) fn end_all_but_ours(server: &Postgres) {
    let admin = admin(server);
    let all = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'dbtriage' \
               AND pid <> pg_backend_pid() AND usename = 'shop_owner'";
    until("the others to leave", PATIENCE, || admin.rows(all).unwrap().is_empty());
}

/// Presses keys in turn until the screen is as wanted, each when the one before has had time to show.
fn bring_back(tty: &mut Tty, keys: &[&str], what: &str, look: impl Fn(&Screen) -> bool) {
    for key in keys.iter().cycle().take(8) {
        let deadline = now() + SETTLED;
        while now() < deadline {
            if tty.look(&look) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        tty.keys(key);
    }
    panic!("{keys:?} do not bring back {what}:\n{}", tty.contents());
}

fn is_titled(screen: &Screen, title: &str) -> bool {
    rows(screen).iter().any(|row| row.contains(title))
}

/// The title of a pane, up to the line that follows it.
fn title_of(screen: &Screen, pane: &str) -> String {
    let lines = rows(screen);
    let after = lines.iter().find_map(|row| row.split(pane).nth(1)).unwrap_or_default();
    after.split('─').next().unwrap_or_default().to_owned()
}

/// Pane 1 lies left of the line, from below its head to the next title.
fn shown_sessions(screen: &Screen) -> BTreeSet<Row> {
    let lines = rows(screen);
    let left = lines.iter().filter_map(|row| row.split(['│', '├']).next());
    let body = left.skip_while(|row| !row.contains("1 Activity")).skip(2);
    let body = body.take_while(|row| !row.contains("3 Statements")).filter(|row| !row.trim().is_empty());
    // A row that cannot be read is no session of the truth.
    body.filter(|row| !row.contains("(ours)"))
        .map(|row| session(row).unwrap_or_else(|| (0, row.to_owned(), String::new())))
        .collect()
}

fn session(row: &str) -> Option<Row> {
    let mut words = row.trim_start_matches('>').split_whitespace();
    let (pid, application) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    let state = match words.next()? {
        "idle" => match words.next()? {
            "in" => "idle in tx",
            "abort" => "idle abort",
            _ => "idle",
        },
        word => word,
    };
    Some((pid, application, state.to_owned()))
}

/// The process ids in the tree of pane 2, from above.
fn shown_in_locks(screen: &Screen) -> Vec<i32> {
    let lines = rows(screen);
    let right = lines.iter().filter_map(|row| row.split_once('│').map(|(_, right)| right));
    let body = right.take_while(|row| !row.contains("helps:") && !row.contains("4 Replication"));
    let trees = body.map(|row| row.trim_start_matches(['>', '▼', '▶', '├', '└', '│', '─', ' ']));
    trees.filter_map(|row| row.split_whitespace().next()?.parse().ok()).collect()
}
