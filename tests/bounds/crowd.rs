//! Ten thousand sessions, five thousand of them waiting, ten thousand databases, a hundred thousand relations: imitated,
//! because no machine of a test holds them. The program is the real one; it reads all of it every second.

use std::time::Duration;

use dbtriage_lab::imitation::{Crowd, Shape};
use dbtriage_lab::terminal::{PATIENCE, Tty, now, rows, until};

use crate::SLOWER;
use crate::process::{AT_REST, MB, imitation, open, peak_bytes, turn};

const CROWD: Crowd = Crowd {
    sessions: 10_000,
    waiters: 5_000,
    shape: Shape::Queue,
    databases: 10_000,
    relations: 100_000,
    statement_bytes: 1000,
};

/// A key may take as long to show as in a small server. With waiters it may take as long as their graph, whose bound is
/// in `frames`: a bound by the clock would be one of the machine.
const KEY_LIMIT: Duration = Duration::from_millis(50).saturating_mul(SLOWER);

/// Everything is 25 MB on the wire and some 60 MB decoded. While the screen is behind, as a debug build is, four samples
/// are alive: the shown one, the one being taken, one that waits and one being read; and the graph has 30 MB. It must
/// not be more the longer that lasts.
const MEMORY_LIMIT: u64 = 400 * MB;

/// What is kept to look back may take as much by itself, whatever it is that is watched.
const LOOKING_BACK: u64 = 64 * MB;

/// Ten thousand sessions alone are 11 MB on the wire.
const MEMORY_LIMIT_OF_SESSIONS: u64 = 110 * MB + LOOKING_BACK;

/// Presses a key and waits for what it shows.
fn press(tty: &mut Tty, key: &str, appears: &str) -> Duration {
    let pressed = tty.keys(key);
    let shown = tty.wait_for(&format!("{appears:?} after {key:?}"), PATIENCE, |screen| {
        screen.contents().contains(appears)
    });
    shown - pressed
}

/// Looks at everything; each key must show soon, and the memory stay bounded.
fn assert_usable(crowd: &Crowd, memory_limit: u64) {
    let _turn = turn();
    let rest = *AT_REST;
    let server = imitation(crowd.clone());
    let (mut tty, pid) = open(&server);
    tty.wait_for("everybody to be shown", PATIENCE, |screen| {
        let text = screen.contents();
        text.contains(&format!("■{}/", crowd.sessions))
            && (crowd.waiters == 0 || text.contains(&format!("blocked ■{}", crowd.waiters)))
    });
    let ticks = server.ticks();
    // Zoomed, the panes follow each other.
    let mut times = vec![press(&mut tty, "z", "client          ")];
    times.push(press(&mut tty, "2", if crowd.waiters == 0 { "no session waits" } else { "state · wants" }));
    times.push(press(&mut tty, "1", "xact▼"));
    until("a few more samples", PATIENCE, || ticks + 3 < server.ticks());
    let kept = peak_bytes(pid).unwrap().saturating_sub(rest);
    println!("{crowd:?}: keys {times:?}, {} MB above a start with nothing", kept / MB);
    let header = rows_of(&tty)[0].clone();
    tty.keys("q");
    let quit = now();
    assert_eq!(tty.end().code, Some(0));
    let limit = if crowd.waiters == 0 { KEY_LIMIT } else { PATIENCE };
    times.push(now() - quit);
    assert!(times.iter().all(|time| *time < limit), "{times:?} against {limit:?}");
    assert!(kept < memory_limit, "{} MB, bound {} MB; {header}", kept / MB, memory_limit / MB);
}

fn rows_of(tty: &Tty) -> Vec<String> {
    tty.look(rows)
}

#[test]
fn ten_thousand_databases_leave_the_screen_usable() {
    assert_usable(&Crowd { waiters: 0, relations: 1, ..CROWD }, MEMORY_LIMIT_OF_SESSIONS);
}

#[test]
fn all_of_it_together_leaves_the_screen_usable() {
    assert_usable(&CROWD, MEMORY_LIMIT);
}

#[test]
fn the_holdings_of_a_session_with_a_hundred_thousand_locks_are_shown() {
    let _turn = turn();
    let rest = *AT_REST;
    let server = imitation(Crowd { sessions: 10, waiters: 3, databases: 2, ..CROWD });
    let (mut tty, pid) = open(&server);
    tty.wait_for_text("blocked ■3");
    // The question names what the session holds.
    tty.keys("2");
    tty.keys("K");
    tty.wait_for_text("Terminate 20000 ?");
    tty.wait_for_text("orders_of_a_long_past_partition");
    tty.keys("n");
    tty.wait_for_no_text("Terminate 20000 ?");
    let kept = peak_bytes(pid).unwrap().saturating_sub(rest);
    println!("{} MB above a start with nothing", kept / MB);
    assert!(kept < MEMORY_LIMIT, "{} MB", kept / MB);
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}
