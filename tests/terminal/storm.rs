//! A thousand sessions that wait: the screen stays usable, and while the lock manager itself is busy the graph is told
//! with its age.

use std::time::Duration;

use dbtriage_lab::{Client, Lab, Options, Running};

use super::{PROGRAM, WIDE, quit, turn};
use dbtriage_lab::terminal::{PATIENCE, Tty, rows, until};

/// How long a key may take to show on a debug build that also draws a forest of a thousand.
const KEY_LIMIT: Duration = Duration::from_millis(500);

fn lab(deadlock_timeout: &str) -> Lab {
    let settings = vec![("deadlock_timeout".to_owned(), deadlock_timeout.to_owned())];
    Lab::start(Options {
        standby: false,
        redis: false,
        max_connections: 1100,
        settings,
        ..Options::default()
    })
    .unwrap()
}

fn sessions(lab: &Lab, count: usize) -> Vec<Client> {
    (0..count).map(|_| lab.primary().client_as("shop_owner", "shop", "web").unwrap()).collect()
}

fn open_on(lab: &Lab) -> Tty {
    let mut tty = Tty::start(PROGRAM, WIDE, &[&lab.primary().uri("oncall", "shop")]);
    tty.wait_for_text("● live");
    tty
}

/// Presses keys that change the screen; each must show soon.
fn assert_usable(tty: &mut Tty) {
    let keys = [("z", "1 Activity  2 Locks"), ("2", "state · wants"), ("3", "time/s"), ("1", "application")];
    let mut times = Vec::new();
    for (key, appears) in keys {
        let pressed = tty.keys(key);
        let shown = tty.wait_for(&format!("what {key:?} shows"), PATIENCE, |screen| {
            screen.contents().contains(appears)
                && (key == "z" || rows(screen)[4].contains("1 Activity  2 Locks"))
        });
        times.push(shown - pressed);
    }
    assert!(times.iter().all(|time| *time < KEY_LIMIT), "{times:?}");
    tty.keys("z");
    tty.wait_for_no_text("1 Activity  2 Locks");
}

#[test]
fn a_thousand_waiters_leave_the_screen_usable() {
    let _turn = turn();
    let lab = lab("10min");
    let second = lab.primary().client("postgres", "shop").unwrap();
    let holders = sessions(&lab, 20);
    for (order, holder) in (1..).zip(&holders) {
        holder.execute(&format!("BEGIN; UPDATE orders SET status = 'held' WHERE id = {order}")).unwrap();
    }
    let waiters = sessions(&lab, 1000);
    let waiting: Vec<Running> = (0..20)
        .cycle()
        .zip(&waiters)
        .map(|(order, waiter)| {
            waiter.spawn(&format!("BEGIN; UPDATE orders SET status = 'new' WHERE id = {}", order + 1))
        })
        .collect();
    let count = "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE wait_event_type = 'Lock'";
    until("a thousand to wait", PATIENCE * 3, || second.cell(count).unwrap() == "1000");

    let mut tty = open_on(&lab);
    tty.wait_for_text("20 roots · 1000 blocked");
    assert_usable(&mut tty);
    assert!(!tty.contents().contains("lock manager busy"), "a server at rest answers in time");

    // Of one queue the first is freed, and only it: the others go on waiting, as `frees` said.
    holders[0].execute("COMMIT").unwrap();
    tty.wait_for_text("999 blocked");
    drop(waiting);
    quit(tty);
}

#[test]
fn while_the_lock_manager_is_busy_the_graph_tells_its_age() {
    let _turn = turn();
    let lab = lab("1s");
    let second = lab.primary().client("postgres", "shop").unwrap();
    let holder = lab.primary().client_as("shop_owner", "shop", "holder").unwrap();
    holder.execute("BEGIN; UPDATE orders SET status = 'held' WHERE id = 1").unwrap();
    let waiters = sessions(&lab, 850);
    let first = waiters[0].spawn("UPDATE orders SET status = 'new' WHERE id = 1");
    let mut tty = open_on(&lab);
    tty.wait_for_text("1 root · 1 blocked");

    // All of them in one queue: after deadlock_timeout each looks for a deadlock, and nobody else gets at the locks.
    let waiting: Vec<Running> = waiters[1..]
        .iter()
        .map(|waiter| waiter.spawn("UPDATE orders SET status = 'new' WHERE id = 1"))
        .collect();
    tty.wait_for("the graph to tell its age", PATIENCE * 3, |screen| {
        let title = rows(screen).into_iter().find(|row| row.contains("2 Locks")).unwrap_or_default();
        title.contains("graph ") && title.contains(" old, lock manager busy")
    });
    assert_usable(&mut tty);

    // The least that helps is one signal, and the storm does not hold it up.
    let holder_pid = holder.pid();
    tty.wait_for("everybody to wait, seen anew", PATIENCE * 6, |screen| {
        let title = rows(screen).into_iter().find(|row| row.contains("2 Locks")).unwrap_or_default();
        title.contains("850 blocked") && !title.contains("lock manager busy")
    });
    assert!(second.cell(&format!("SELECT state FROM pg_stat_get_activity({holder_pid})")).is_ok());
    drop((first, waiting));
    quit(tty);
}
