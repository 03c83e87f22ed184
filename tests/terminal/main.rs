//! The real program in a pseudo-terminal, against real servers: what a person presses, what the screen then shows,
//! what happens on the server, and in which state the terminal is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "what was measured is part of the result")]

mod faults;
mod many;
mod slow;
mod storm;
mod tmux;

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use dbtriage_lab::terminal::{Ended, PATIENCE, Tty, find, now, rows, starts_with, until};
use dbtriage_lab::{Client, Lab, Load, Options, Postgres, Scenario, Stopped};
use nix::sys::signal::Signal;
use vt100::Screen;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");

/// The size at which all panes are shown.
const WIDE: (u16, u16) = (200, 50);

/// The titles of the panes.
const TITLES: [&str; 5] = ["1 Activity", "2 Locks", "3 Statements", "4 Replication", "5 Cache"];

/// Longer than a question is deaf after it has been drawn, by as much as the program may take to learn that it was.
const DEAF: Duration = Duration::from_millis(400);

/// The servers of all tests that leave them as they are.
static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(Options::default()).expect("a lab"));

/// One test at a time: they measure time, and they share servers.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn uri() -> String {
    LAB.primary().uri("oncall", "shop")
}

fn admin() -> Client {
    LAB.primary().client("postgres", "shop").expect("a second client")
}

fn is_there(client: &Client, pid: i32) -> bool {
    !client.rows(&format!("SELECT FROM pg_stat_activity WHERE pid = {pid}")).expect("the sessions").is_empty()
}

/// Opens the screen on the lab's primary and waits until it is live.
fn open(size: (u16, u16), more: &[&str]) -> Tty {
    let uri = uri();
    let mut arguments = vec![uri.as_str()];
    arguments.extend(more);
    let mut tty = Tty::start(PROGRAM, size, &arguments);
    tty.wait_for_text("● live");
    tty
}

/// A pile-up, shown: the root is selected in Locks.
fn open_on_root(load: &Load) -> (Tty, i32) {
    let root = load.facts.root_pid.expect("a root");
    let mut tty = open(WIDE, &[]);
    tty.wait_for("the finding to name the root", PATIENCE, |screen| {
        rows(screen)[2].contains(&format!("{root} reports-worker, idle in transaction"))
            && rows(screen)[2].contains("blocks 36 sessions")
    });
    tty.keys("!");
    tty.wait_for("the finding to be chosen", PATIENCE, |screen| rows(screen)[2].contains("↵ show"));
    tty.keys("\r");
    tty.wait_for("the root to be selected in Locks", PATIENCE, |screen| root_is_selected(screen, root));
    (tty, root)
}

fn root_is_selected(screen: &Screen, root: i32) -> bool {
    !rows(screen)[2].contains("↵ show") && find(screen, &format!(">▼ {root}")).is_some()
}

/// Presses K and waits until the question takes keys.
fn ask(tty: &mut Tty, pid: i32) {
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {pid} ?"));
    sleep(DEAF);
}

/// Presses a key, again while the question may still have been deaf to it, until the screen is as wanted.
fn press_until(tty: &Tty, key: &str, what: &str, look: impl Fn(&Screen) -> bool) {
    let mut pressed = None;
    until(what, PATIENCE, || {
        let done = tty.look(&look);
        if !done && pressed.is_none_or(|at| DEAF * 2 < now() - at) {
            pressed = Some(tty.keys(key));
        }
        done
    });
}

fn quit(tty: Tty) -> Ended {
    tty.keys("q");
    let ended = tty.end();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    ended
}

/// The terminal is as it was found.
fn assert_restored(ended: &Ended) {
    let (before, after) = &ended.termios;
    assert_eq!(before, after, "the settings of the terminal device");
    assert!(!ended.screen.alternate_screen(), "the alternate screen is left");
    assert!(!ended.screen.hide_cursor(), "the cursor is shown");
    assert!(!ended.screen.bracketed_paste(), "bracketed paste is off");
    let raw = &ended.raw;
    let entered = position(raw, b"\x1b[?1049h").expect("the alternate screen was entered");
    for off in [&b"\x1b[?1049l"[..], b"\x1b[?25h", b"\x1b[?2004l"] {
        let last = position(raw, off);
        assert!(last.is_some_and(|last| entered < last), "{} comes last", off.escape_ascii());
    }
    let begun = raw.windows(8).filter(|it| it == b"\x1b[?2026h").count();
    let finished = raw.windows(8).filter(|it| it == b"\x1b[?2026l").count();
    assert!(begun <= finished, "synchronized output is ended as often as begun");
}

/// Where a sequence begins for the last time.
fn position(raw: &[u8], sequence: &[u8]) -> Option<usize> {
    raw.windows(sequence.len()).rposition(|it| it == sequence)
}

#[test]
fn a_root_is_found_and_terminated_by_keys_alone() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let second = admin();
    let (mut tty, root) = open_on_root(&load);

    ask(&mut tty, root);
    tty.keys("\r");
    tty.wait_for_no_text("Terminate");
    assert!(is_there(&second, root), "Enter is No");

    // Typed ahead: both keys arrive together, long before anybody could have read the question.
    tty.keys("Ky");
    tty.wait_for_text(&format!("Terminate {root} ?"));
    sleep(DEAF);
    assert!(tty.contents().contains(&format!("Terminate {root} ?")), "the question is still open");
    assert!(is_there(&second, root), "a key typed ahead confirms nothing");

    tty.keys("y");
    tty.wait_for_text(&format!("terminated {root} reports-worker: gone after"));
    assert!(!is_there(&second, root));
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("nobody to be blocked", PATIENCE, || second.cell(blocked).unwrap() == "0");
    tty.wait_for_text("no session waits for a lock");
    assert_restored(&quit(tty));
}

#[test]
fn the_first_screen_is_complete_within_300_ms() {
    let _turn = turn();
    let bystander = admin();
    // What earlier tests made wait has means of whole seconds; here the first row shall tell milliseconds.
    bystander.execute("SELECT pg_stat_statements_reset()").unwrap();
    bystander.execute("SELECT pg_sleep(0.01)").unwrap();
    let (uri, redis) = (uri(), LAB.redis().unwrap().url());
    let complete = |screen: &Screen| {
        let below = |title: &str, text: &str| {
            find(screen, title).is_some_and(|(row, _)| rows(screen)[usize::from(row) + 1].contains(text))
        };
        TITLES.iter().all(|title| find(screen, title).is_some())
            && rows(screen).iter().any(|row| row.contains(&format!("{} lab ", bystander.pid())))
            && find(screen, "no session waits for a lock").is_some()
            && below("time/s▼", "ms")
            && find(screen, "streaming").is_some()
            && find(screen, "physical").is_some()
            && find(screen, "PostgreSQL  hit").is_some()
            && find(screen, "of 20 MB allkeys-lru").is_some()
    };
    let times: Vec<Duration> = (0..5)
        .map(|_| {
            let mut tty = Tty::start(PROGRAM, WIDE, &[&uri, "--redis", &redis]);
            let at = tty.wait_for("the first complete screen", PATIENCE, complete);
            let time = at - tty.spawned_at();
            quit(tty);
            time
        })
        .collect();
    println!("first complete screen after {times:?}");
    assert!(times.iter().min().unwrap() <= &Duration::from_millis(300), "{times:?}");
}

#[test]
fn keys_answer_within_50_ms_while_the_server_is_stopped() {
    let _turn = turn();
    let mut tty = open(WIDE, &[]);
    tty.wait_for_text("no session waits for a lock");
    let stopped = Stopped::all_of(LAB.primary()).unwrap();
    assert!(stopped.count() > 5, "the postmaster and its children are stopped");
    tty.wait_for("the server to be called blocked, with an age", PATIENCE, |screen| {
        // A second may be left out: when is drawn depends on when the answer was due.
        rows(screen)[0].contains("blocked for ") && !rows(screen)[0].contains("blocked for 0s")
    });
    for title in TITLES.iter().take(4) {
        tty.look(|screen| {
            let (row, column) = find(screen, title).unwrap();
            // Two panes may share a line; the age of each stands at its right end.
            let line: Vec<char> = rows(screen)[usize::from(row)].chars().collect();
            let own: String =
                line[usize::from(column)..].iter().take_while(|c| !"┬┤┼├│".contains(**c)).collect();
            assert!(own.contains("s old"), "{title} tells how old it is: {own}");
        });
    }

    // What to press, what then appears, and what goes.
    let keys = [
        ("?", "Esc closes", ""),
        ("?", "", "Esc closes"),
        ("z", "1 Activity  2 Locks  3 Statements", ""),
        ("2", "no session waits for a lock", "application"),
        ("3", "time/s", "no session waits for a lock"),
        ("4", "unreplayed", "time/s"),
        ("5", "no Redis is watched", "unreplayed"),
        ("1", "application", "no Redis is watched"),
        ("\r", "Esc closes", ""),
        ("\x7f", "", "Esc closes"),
        ("g", "by application", ""),
        ("K", "terminate: the server gives no data now", ""),
        ("2", "no session waits for a lock", "by application"),
        ("3", "time/s", "no session waits for a lock"),
        ("s", "trend▼", "time/s▼"),
        ("S", "trend▲", "trend▼"),
        ("/", "↵ keeps it", ""),
        ("xyzzy", "no statement to show", ""),
        ("\r", "", "↵ keeps it"),
        ("z", "", "1 Activity  2 Locks  3 Statements"),
    ];
    let mut times = Vec::new();
    for (key, appears, goes) in keys {
        let done = |screen: &Screen| {
            let contents = screen.contents();
            contents.contains(appears) && (goes.is_empty() || !contents.contains(goes))
        };
        assert!(!tty.look(done), "{key:?} has something to change");
        let pressed = tty.keys(key);
        let shown = tty.wait_for(&format!("what {key:?} shows"), PATIENCE, done);
        times.push(shown - pressed);
    }
    println!("keys shown after {times:?}");
    times.sort();
    println!("median {:?}, longest {:?}", times[times.len() / 2], times[times.len() - 1]);
    assert_eq!(times.len(), 20);
    assert!(times.iter().all(|time| *time <= Duration::from_millis(50)), "{times:?}");

    drop(stopped);
    tty.wait_for_text("● live");
    quit(tty);
}

#[test]
fn a_restarted_server_is_live_again_by_itself() {
    let _turn = turn();
    let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap();
    let server = lab.primary();
    let mut tty = Tty::start(PROGRAM, WIDE, &[&server.uri("oncall", "shop")]);
    tty.wait_for_text("● live");
    let server_pid = server.postmaster_pid().unwrap();
    server.stop("fast").unwrap();
    tty.wait_for("the server to be called unreachable", PATIENCE, |screen| {
        rows(screen)[0].contains("unreachable for") && rows(screen)[2].contains("CRIT")
    });
    server.start().unwrap();
    let returned = now();
    assert_ne!(server.postmaster_pid().unwrap(), server_pid);
    let live = tty.wait_for("the server to be live again", PATIENCE, |screen| {
        rows(screen)[0].contains("● live") && !rows(screen)[2].contains("CRIT")
    });
    let time = live.saturating_duration_since(returned);
    println!("live {time:?} after the server's return");
    assert!(time <= Duration::from_secs(2), "{time:?}");
    quit(tty);
}

#[test]
fn a_resize_storm_leaves_the_right_screen() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let second = admin();
    let (mut tty, root) = open_on_root(&load);
    let sizes =
        [(200, 50), (120, 40), (80, 24), (60, 18), (40, 10), (39, 9), (20, 5), (3, 2), (1, 1), (240, 67)];
    for (columns, rows) in sizes.into_iter().cycle().take(60) {
        tty.resize(columns, rows);
    }
    tty.resize(1, 1);
    tty.resize(WIDE.0, WIDE.1);
    tty.wait_for("the whole screen to be back, the root still selected", PATIENCE, |screen| {
        TITLES.iter().all(|title| find(screen, title).is_some()) && root_is_selected(screen, root)
    });

    // Every size for itself, each left only when it is drawn.
    for (columns, height) in sizes {
        tty.resize(columns, height);
        let expected = match (columns, height) {
            (160.., 45..) => "4 Replication",
            (100.., 30..) => "3 Statements",
            (40.., 10..) => "● live",
            (20.., _) => "dbtriage needs 40x10",
            (3, _) => "db",
            _ => "…",
        };
        tty.wait_for(&format!("{columns}x{height} to be drawn"), PATIENCE, |screen| {
            screen.size().1.get() == columns && screen.contents().contains(expected)
        });
    }
    tty.resize(WIDE.0, WIDE.1);
    tty.wait_for("the root to be selected again", PATIENCE, |screen| root_is_selected(screen, root));

    // A question that cannot be read is withdrawn, not hidden.
    ask(&mut tty, root);
    tty.resize(39, 9);
    tty.wait_for_text("dbtriage needs 40x10");
    tty.keys("y");
    tty.resize(WIDE.0, WIDE.1);
    tty.wait_for("the screen without the question", PATIENCE, |screen| {
        root_is_selected(screen, root) && !screen.contents().contains("Terminate")
    });
    tty.keys("y");
    tty.keys("?");
    tty.wait_for_text("Esc closes");
    assert!(is_there(&second, root), "nobody confirmed");
    tty.keys("?");
    tty.wait_for_no_text("Esc closes");
    assert_restored(&quit(tty));
}

#[test]
fn signals_end_the_program_and_restore_the_terminal() {
    let _turn = turn();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let tty = open((80, 24), &[]);
        tty.signal(signal);
        let ended = tty.end();
        assert_eq!(ended.code, Some(code), "{signal}");
        assert_restored(&ended);
        assert!(!ended.text.contains("live"), "nothing is left of the screen: {}", ended.text);
    }
}

#[test]
fn quitting_with_a_capital_leaves_the_last_screen() {
    let _turn = turn();
    let mut tty = open((80, 24), &["--interval", "60s"]);
    tty.wait_for_text("(ours)");
    let last = tty.rows();
    tty.keys("Q");
    let ended = tty.end();
    assert_eq!(ended.code, Some(0));
    assert_restored(&ended);
    let left: Vec<&str> = ended.text.lines().map(str::trim_end).collect();
    let last: Vec<&str> = last.iter().map(|row| row.trim_end()).collect();
    assert!(left.windows(last.len()).any(|it| it == last), "{left:#?} holds {last:#?}");
}

#[test]
fn nothing_can_be_ended_when_started_read_only() {
    let _turn = turn();
    let load = LAB.play(Scenario::IdleInTransaction).unwrap();
    let second = admin();
    let mut tty = open(WIDE, &["--read-only"]);
    tty.wait_for("the mode", PATIENCE, |screen| rows(screen)[0].contains("READ ONLY"));
    tty.wait_for_text(&format!("> {:>6} billing", load.facts.pids[0]));
    for key in ["K", "C"] {
        tty.keys(key);
        let word = if key == "K" { "terminate" } else { "cancel" };
        tty.wait_for_text(&format!("{word}: started with --read-only"));
        assert!(!tty.contents().contains("[ No ]"), "no question opens");
        tty.keys("y");
    }
    tty.keys("?");
    tty.wait_for_text("not now: started with --read-only");
    for pid in &load.facts.pids {
        assert!(is_there(&second, *pid));
    }
    tty.keys("?");
    tty.wait_for_no_text("Esc closes");
    quit(tty);
}

#[test]
fn a_screen_on_which_nothing_changes_writes_nothing() {
    let _turn = turn();
    let mut tty = open(WIDE, &["--interval", "60s"]);
    tty.wait_for_text("(ours)");
    // Settled: nothing came for longer than from the first reading to the second, which comes early.
    until("the first screen to settle", PATIENCE, || {
        now().saturating_duration_since(tty.written().1) > Duration::from_millis(1500)
    });
    let before = tty.written().0;
    let watched = now();
    while now() - watched < Duration::from_secs(2) {
        assert_eq!(tty.written().0, before, "bytes for a screen that has not changed");
        sleep(Duration::from_millis(20));
    }
    // It is not that it had stopped.
    tty.keys("?");
    tty.wait_for_text("Esc closes");
    assert!(before < tty.written().0);
    tty.keys("?");
    tty.wait_for_no_text("Esc closes");
    quit(tty);
}

/// Everything that an application can try on whoever looks at it.
const HOSTILE: &str = "日本語\x1b]52;c;UFdORUQ=\x07\x1b]0;owned\x07\x1b[2J\x1b[6n\x1b[c\x1b[?2026$p\x1bP$q\"p\x1b\\\x1b_apc\x1b\\\u{9b}2J\u{9d}0;x\u{9c}\
    \u{202e}\u{2066}\u{200b}\u{200d}\u{200f}\u{feff}e\u{301}\t\r\n\x08\x7f\u{85}\u{2028}end";

/// The same in the 63 bytes of a name.
const HOSTILE_NAME: &str = "日\x1b]0;n\x07\u{9b}2J\u{202e}\u{200b}e\u{301}\t\r\n";

/// A cluster with hostile names everywhere, and two sessions of them in a queue.
struct Hostile {
    root: Client,
    _waiter: (Client, dbtriage_lab::Running),
    _elsewhere: Client,
    names: [String; 3],
}

impl Hostile {
    fn start(server: &Postgres) -> Self {
        let names = ["role", "db", "table"].map(|kind| format!("{kind}{HOSTILE_NAME}"));
        let [role, database, table] = &names;
        let system = server.client("postgres", "postgres").unwrap();
        system.execute(&format!("CREATE ROLE \"{role}\" LOGIN SUPERUSER")).unwrap();
        system.execute(&format!("CREATE DATABASE \"{database}\" OWNER \"{role}\"")).unwrap();
        let login = |database: &str| {
            server.client_as(role, database, &format!("app{HOSTILE_NAME}")).expect("a hostile session")
        };
        let elsewhere = login(database);
        elsewhere.execute(&format!("SELECT 'elsewhere{HOSTILE}'")).unwrap();
        let root = login("shop");
        root.execute(&format!("CREATE TABLE \"{table}\" (n int)")).unwrap();
        root.execute("BEGIN").unwrap();
        root.execute(&format!("LOCK TABLE \"{table}\"; SELECT 'root{HOSTILE}'")).unwrap();
        let waiter = login("shop");
        let running = waiter.spawn(&format!("SELECT 'wait{HOSTILE}'; LOCK TABLE \"{table}\""));
        Self { root, _waiter: (waiter, running), _elsewhere: elsewhere, names }
    }
}
/// Everything but what the program itself has a use for is refused.
fn assert_harmless(raw: &[u8]) {
    let modes: BTreeSet<&[u8]> = [&b"?1049"[..], b"?25", b"?2004", b"?2026"].into();
    let mut rest = raw;
    while let Some(place) = rest.iter().position(|byte| *byte == 0x1b) {
        let sequence = &rest[place..rest.len().min(place + 24)];
        let told = sequence.escape_ascii();
        assert_eq!(sequence.get(1), Some(&b'['), "only CSI sequences are written: {told}");
        let end = sequence[2..].iter().position(|byte| (0x40..=0x7e).contains(byte));
        let end = 2 + end.unwrap_or_else(|| panic!("an endless sequence: {told}"));
        let parameters = &sequence[2..end];
        let plain = parameters.iter().all(|byte| byte.is_ascii_digit() || b";:".contains(byte));
        let known = match sequence[end] {
            b'm' | b'H' | b'C' | b'J' | b'K' => plain,
            b'h' | b'l' => modes.contains(parameters),
            _ => false,
        };
        assert!(known, "not a sequence of ours: {told}");
        rest = &rest[place + end + 1..];
    }
    let text = String::from_utf8(raw.to_vec()).expect("what is written is UTF-8");
    let bad = |c: char| {
        matches!(c, '\u{0}'..='\u{1a}' | '\u{1c}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{300}'..='\u{36f}')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let found: BTreeSet<char> = text.chars().filter(|c| bad(*c)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn hostile_text_reaches_nobodys_terminal() {
    let _turn = turn();
    let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap();
    let harmless = lab.primary().client_as("oncall", "shop", "harmless").unwrap();
    harmless.execute("SELECT 'harmless'").unwrap();
    let hostile = Hostile::start(lab.primary());
    let mut tty = Tty::start(PROGRAM, WIDE, &[&lab.primary().uri("postgres", "shop")]);
    tty.wait_for_text("1 root · 1 blocked");
    // The whole width for each pane, so that no column is left out.
    tty.keys("z");
    tty.wait_for_text("1 Activity  2 Locks 1  3 Statements");
    assert!(hostile.names.iter().all(|name| name.len() <= 63), "no name was cut");
    tty.look(|screen| {
        let (_, query) = find(screen, " query").expect("the title of the column");
        let begins = |row: u16, text: &str| starts_with(screen, (row, query), &format!(" {text}"));
        let (of_root, _) = find(screen, &format!("{} role日", hostile.root.pid())).expect("the root");
        let (of_harmless, _) = find(screen, &format!("{} ", harmless.pid())).expect("the harmless session");
        assert!(begins(of_root, "last: LOCK TABLE"), "{}", screen.contents());
        assert!(begins(of_harmless, "last: SELECT 'harmless'"), "{}", screen.contents());
        for shown in ["db日", "SELECT 'elsewhere日本語·]52;c;UFdORUQ="] {
            assert!(
                find(screen, shown).is_some(),
                "{shown} is shown, without its power: {}",
                screen.contents()
            );
        }
    });
    // In full, in Activity and in Locks; then the terminal's own scrollback.
    for pane in ["1", "2"] {
        tty.keys(pane);
        tty.keys("\r");
        tty.wait_for_text("Esc closes");
        tty.wait_for_text("日本語");
        tty.wait_for_text("end");
        tty.keys("\x7f");
        tty.wait_for_no_text("Esc closes");
    }
    tty.wait_for_text("AccessExclusiveLock on table日");
    ask(&mut tty, hostile.root.pid());
    tty.keys("n");
    tty.wait_for_no_text("Terminate");
    tty.keys("3");
    tty.wait_for_text("time/s");
    tty.wait_for_text("SELECT $1");
    tty.keys("1");
    tty.wait_for_text("日本語");
    assert_harmless(&tty.raw());
    tty.keys("Q");
    let ended = tty.end();
    assert!(
        ended.text.contains("SELECT 'elsewhere日本語·]52"),
        "wide characters keep their columns: {}",
        ended.text
    );
    let after = position(&ended.raw, b"\x1b[?25h").unwrap();
    let left: Vec<u8> = ended.raw[after..].iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    assert_harmless(&left);
}

#[test]
fn a_session_in_another_encoding_darkens_nothing() {
    let _turn = turn();
    let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap();
    let system = lab.primary().client("postgres", "postgres").unwrap();
    system
        .execute("CREATE DATABASE western TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
        .unwrap();
    let western = lab.primary().client_as("postgres", "western", "western").unwrap();
    // Shared catalogs hold names in the encoding of whoever wrote them.
    western.execute("CREATE ROLE \"bjørn\" LOGIN").unwrap();
    western.execute("SELECT 'café'").unwrap();
    let mut tty = Tty::start(PROGRAM, WIDE, &[&lab.primary().uri("oncall", "shop")]);
    tty.wait_for_text("● live");
    tty.wait_for_text(&format!("{} western", western.pid()));
    tty.wait_for_text("SELECT 'caf");
    quit(tty);
}

#[test]
fn what_a_terminal_answers_confirms_nothing_and_quits_nothing() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let second = admin();
    let (mut tty, root) = open_on_root(&load);
    let answers = [
        "\x1b]52;c;eQ==\x07",
        "\x1b[?62;c",
        "\x1bP1$r0m\x1b\\",
        "\x1b[12;40R",
        "\x1b]11;rgb:0000/0000/0000\x1b\\",
    ];
    for answer in answers {
        ask(&mut tty, root);
        tty.keys(answer);
        sleep(DEAF);
        assert!(tty.contents().contains(&format!("Terminate {root} ?")), "{answer:?} answers nothing");
        // Keys are taken in their order: when this one is answered, all of the answer has been read.
        press_until(&tty, "n", &format!("the question to close after {answer:?}"), |screen| {
            !screen.contents().contains("[ No ]")
        });
        assert!(tty.is_running(), "{answer:?} quits nothing");
        assert!(!tty.contents().contains("terminating"), "{answer:?} confirms nothing");
        assert!(is_there(&second, root), "{answer:?} confirms nothing");
    }
    quit(tty);
}

#[test]
fn a_size_that_comes_with_a_key_is_not_lost() {
    let _turn = turn();
    let mut tty = open((80, 24), &["--interval", "60s"]);
    tty.wait_for_text("(ours)");
    for (key, columns) in ["j", "k"].into_iter().cycle().zip(81..91) {
        // Stopped, so that it finds both at once when it goes on: as when tmux follows whoever pressed a key.
        tty.signal(Signal::SIGSTOP);
        tty.keys(key);
        tty.resize(columns, 24);
        tty.signal(Signal::SIGCONT);
        tty.wait_for(&format!("{columns} columns to be drawn"), Duration::from_secs(2), |screen| {
            // The clock ends the first line, with one blank behind it.
            starts_with(screen, (0, columns - 2), "Z")
        });
    }
    quit(tty);
}

#[test]
fn the_name_of_a_terminal_confirms_nothing() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let second = admin();
    let (mut tty, root) = open_on_root(&load);
    ask(&mut tty, root);
    // What a terminal answers to XTVERSION, late: the name holds the letter that confirms.
    tty.keys("\x1bP>|kitty(0.35.2)\x1b\\");
    sleep(DEAF);
    assert!(tty.contents().contains(&format!("Terminate {root} ?")), "the question is still open");
    assert!(is_there(&second, root));
    // A person's own y still acts.
    let gone = format!("terminated {root} reports-worker: gone after");
    press_until(&tty, "y", &gone, |screen| screen.contents().contains(&gone));
    assert!(!is_there(&second, root));
    quit(tty);
}

#[test]
fn right_after_a_restart_a_session_can_be_terminated() {
    let _turn = turn();
    let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap();
    let server = lab.primary();
    let mut tty = Tty::start(PROGRAM, WIDE, &[&server.uri("oncall", "shop")]);
    tty.wait_for_text("● live");
    server.restart().unwrap();
    let second = server.client("postgres", "shop").unwrap();
    let victim = server.client_as("oncall", "shop", "victim").unwrap();
    victim.execute("BEGIN").unwrap();
    let row = format!("> {:>6} victim", victim.pid());
    tty.wait_for("the new session", PATIENCE, |screen| {
        rows(screen)[0].contains("● live") && screen.contents().contains(" victim ")
    });
    while !tty.contents().contains(&row) {
        let before = tty.rows();
        tty.keys("j");
        tty.wait_for("another row to be selected", PATIENCE, |screen| rows(screen) != before);
    }
    ask(&mut tty, victim.pid());
    tty.keys("y");
    tty.wait_for_text(&format!("terminated {} victim: gone after", victim.pid()));
    assert!(!is_there(&second, victim.pid()));
    quit(tty);
}
