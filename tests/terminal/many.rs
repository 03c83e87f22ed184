//! Acting on many from the keyboard: what is marked is listed, what is left out is said, the number is typed, every
//! outcome is told and kept, and nobody else is touched.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread::sleep;

use dbtriage_lab::{Client, Lab, Options};
use serde_json::Value;

use super::{DEAF, PROGRAM, WIDE, press_until, quit, turn};
use dbtriage_lab::terminal::{PATIENCE, Tty, now, rows, until};

/// The sessions of a server, by process and application.
fn sessions(client: &Client) -> BTreeSet<(i32, String)> {
    let sql = "SELECT pid, application_name FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'dbtriage' AND pid <> pg_backend_pid()";
    let row = |row: Vec<Option<String>>| (row[0].as_ref().unwrap().parse().unwrap(), row[1].clone().unwrap());
    client.rows(sql).unwrap().into_iter().map(row).collect()
}

fn of<'a>(all: &'a BTreeSet<(i32, String)>, application: &'a str) -> impl Iterator<Item = i32> + 'a {
    all.iter().filter(move |(_, name)| name == application).map(|(pid, _)| *pid)
}

fn lab(max_connections: u32) -> Lab {
    Lab::start(Options { standby: false, redis: false, max_connections, ..Options::default() }).unwrap()
}

fn open_on(lab: &Lab, more: &[&str]) -> Tty {
    let uri = lab.primary().uri("oncall", "shop");
    let mut arguments = vec![uri.as_str()];
    arguments.extend(more);
    let mut tty = Tty::start(PROGRAM, WIDE, &arguments);
    tty.wait_for_text("● live");
    tty
}

/// Filters by a word and marks everything that is shown.
fn mark_all(tty: &mut Tty, word: &str, count: usize) {
    tty.keys(&format!("/{word}\r"));
    tty.wait_for_text(&format!("/{word}"));
    press_until(tty, "a", "the sessions to be marked", |screen| {
        rows(screen).iter().any(|row| row.contains(&format!("{count} marked")))
    });
}

/// Opens the question, types a number and confirms it.
fn confirm(tty: &mut Tty, question: &str, number: usize) {
    tty.keys("K");
    tty.wait_for_text(question);
    tty.wait_for_no_text("looking who holds advisory locks");
    sleep(DEAF);
    for digit in number.to_string().chars() {
        tty.keys(&digit.to_string());
    }
    tty.wait_for_text(&format!("Enter: {number}"));
    tty.keys("\r");
}

/// Closes the window; the next key must not arrive together with the Esc, which would make one key of the two.
fn close(tty: &mut Tty) {
    tty.keys("\x1b");
    tty.wait_for_no_text("ordered, ");
}

#[test]
fn two_hundred_marked_sessions_are_terminated_and_nobody_else() {
    let _turn = turn();
    let lab = lab(300);
    let primary = lab.primary();
    let second = primary.client("postgres", "shop").unwrap();
    let open = |application: &str| primary.client_as("shop_owner", "shop", application).unwrap();
    let billers: Vec<Client> = (0..200).map(|_| open("biller")).collect();
    let others = ["web", "web", "biller-admin", "pg_dump biller"].map(open);
    let superuser = primary.client_as("postgres", "shop", "biller").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("actions.log");
    let mut tty = open_on(&lab, &["--log", log.to_str().unwrap()]);

    // The filter shows more than the two hundred: what is not meant is unmarked or left out.
    mark_all(&mut tty, "biller !admin", 202);
    let before = sessions(&second);
    confirm(&mut tty, "Terminate 200 sessions ?", 200);
    let started = now();
    tty.wait_for("two hundred outcomes", PATIENCE * 3, |screen| {
        screen.contents().contains("200 sessions ordered, 200 outcomes")
    });
    let seconds = (now() - started).as_secs_f64();
    assert!(seconds > 8.0, "twenty a second, not all at once: {seconds}");
    assert!(tty.contents().contains("200 gone"), "{}", tty.contents());
    let screen = tty.contents();
    assert!(screen.contains("1 of superusers, which you may not signal"), "{screen}");
    assert!(screen.contains("1 pg_dump biller (protected)"), "{screen}");

    let after = sessions(&second);
    let gone: BTreeSet<i32> = before.difference(&after).map(|(pid, _)| *pid).collect();
    let meant: BTreeSet<i32> = billers.iter().map(Client::pid).collect();
    assert_eq!(gone, meant, "exactly those that were listed are gone");
    for other in others.iter().chain([&superuser]) {
        other.execute("SELECT 1").unwrap();
    }
    close(&mut tty);
    tty.keys("8");
    tty.wait_for_text(" events");
    tty.wait_for("every outcome to be told", PATIENCE, |screen| !screen.contents().contains(" …\n"));
    assert_logged(&log, &meant);
    quit(tty);
}

/// Every action stands in the log before its outcome, with what was sent; nobody but the owner may read it.
fn assert_logged(log: &std::path::Path, meant: &BTreeSet<i32>) {
    assert_eq!(fs::metadata(log).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(log).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line"));
        lines.filter(|line: &Value| line["kind"] == "action").collect()
    };
    until("every outcome to be in the log", PATIENCE, || lines().len() == 2 * meant.len());
    let mut ordered = BTreeSet::new();
    let mut told = BTreeSet::new();
    for line in lines() {
        let pid = i32::try_from(line["session"]["pid"].as_i64().unwrap()).unwrap();
        let sql = line["sql"].as_str().unwrap();
        assert!(sql.contains("pg_terminate_backend(pid)") && sql.contains(&format!("({pid})")), "{sql}");
        assert!(line["by"]["os_user"].as_str().is_some_and(|user| !user.is_empty()), "{line}");
        assert_eq!(line["session"]["application"], "biller");
        assert!(line["before"]["connections"].as_u64().is_some(), "{line}");
        match line["outcome"].as_str() {
            None => assert!(ordered.insert(pid), "{pid} was ordered twice"),
            Some(outcome) => {
                assert!(ordered.contains(&pid), "the outcome of {pid} stands before its order");
                assert!(outcome.starts_with(&format!("terminated {pid} biller: gone after")), "{outcome}");
                assert!(line["after"]["connections"].as_u64().is_some(), "{line}");
                told.insert(pid);
            }
        }
    }
    assert_eq!((&ordered, &told), (meant, meant));
}

#[test]
fn a_wrong_number_does_nothing_and_escape_stops_midway() {
    let _turn = turn();
    let lab = lab(60);
    let primary = lab.primary();
    let second = primary.client("postgres", "shop").unwrap();
    let billers: Vec<Client> =
        (0..30).map(|_| primary.client_as("shop_owner", "shop", "biller").unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(&config, "signals_per_second = 2\n").unwrap();
    let mut tty = open_on(&lab, &["--config", config.to_str().unwrap()]);
    mark_all(&mut tty, "biller", 30);
    let before = sessions(&second);

    confirm(&mut tty, "Terminate 30 sessions ?", 3);
    tty.wait_for_no_text("Enter: 3");
    assert_eq!(sessions(&second), before, "three is not thirty");

    for digit in ["3", "0", "\r"] {
        tty.keys(digit);
    }
    tty.wait_for("some to be gone", PATIENCE, |screen| screen.contents().contains(" 3 gone"));
    tty.keys("\x1b");
    tty.wait_for_text("stopped:");
    let stopped = tty.contents();
    let sent: usize = stopped.split("stopped: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((3..30).contains(&sent), "{stopped}");
    tty.wait_for_text(&format!("stopped: {sent} of 30 sessions ordered, {sent} outcomes"));
    let left = sessions(&second);
    assert_eq!(of(&left, "biller").count(), 30 - sent);

    // Those that were not reached stay marked, and nothing more is sent.
    close(&mut tty);
    tty.wait_for_text(&format!("{} marked", 30 - sent));
    for _ in 0..2 {
        let shown = tty.rows()[0].clone();
        tty.wait_for("another second", PATIENCE, |screen| rows(screen)[0] != shown);
    }
    assert_eq!(sessions(&second), left, "nothing is sent after the stop");
    drop(billers);
    quit(tty);
}

#[test]
fn an_advisory_lock_sets_a_session_apart_that_a_rule_has_chosen() {
    let _turn = turn();
    let lab = lab(60);
    let primary = lab.primary();
    let [leader, one, two] = [(); 3].map(|()| primary.client_as("shop_owner", "shop", "biller").unwrap());
    leader.execute("SELECT pg_advisory_lock(4711)").unwrap();
    let second = primary.client("postgres", "shop").unwrap();
    let mut tty = open_on(&lab, &[]);
    tty.keys("/biller\r");
    tty.wait_for("a biller to be selected", PATIENCE, |screen| {
        rows(screen).iter().any(|row| row.starts_with('>') && row.contains("biller"))
    });
    tty.keys("M");
    tty.wait_for_text("all sessions of biller");
    tty.keys("4");
    tty.wait_for_text("3 marked");
    tty.keys("K");
    tty.wait_for_text("Terminate 2 sessions ?");
    tty.wait_for_text("apart, not meant: 1 with an advisory lock");
    press_until(&tty, "2", "the number to be typed", |screen| screen.contents().contains("Enter: 2"));
    tty.keys("\r");
    tty.wait_for_text("2 sessions ordered, 2 outcomes");
    let left = sessions(&second);
    assert_eq!(of(&left, "biller").collect::<Vec<_>>(), [leader.pid()]);
    leader.execute("SELECT pg_advisory_unlock(4711)").unwrap();
    drop((one, two));
    close(&mut tty);
    quit(tty);
}
