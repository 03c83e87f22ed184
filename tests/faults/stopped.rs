//! One backend is stopped, as by a debugger or a disk that hangs: one of an application, or one of ours.

use dbtriage_lab::terminal::{PATIENCE, now, rows, until};
use dbtriage_lab::{Client, Stopped};
use vt100::Screen;

use super::{Pair, Watched, admin, end_holder, is_live, is_there, lab, own_pids, select_root, terminate};

/// The backend of ours whose last statement has one of these names.
fn own_backend(client: &Client, names: &str) -> i32 {
    let sql = format!(
        "SELECT pid FROM pg_stat_get_activity(NULL) WHERE application_name = 'dbtriage' \
         AND state = 'idle' AND query ~ '^/[*] dbtriage:({names}) '"
    );
    let mut found = None;
    until(&format!("a connection that does {names}"), PATIENCE, || {
        found = client.rows(&sql).unwrap().first().and_then(|row| row[0].as_ref()?.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

/// Without the counters of statements, which another connection reads once as well.
const SAMPLER: &str = "clock|activity|databases|wal|walsenders|slots|walreceiver|prepared";
const LOCKS: &str = "locks|holdings|advisory|blockingpids|relations|texts";
const CONTROL: &str = "warm|observe|cancel|terminate";

#[test]
fn a_stopped_holder_is_still_shown_and_a_signal_has_no_effect_yet() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let pair = Pair::start(lab.primary(), "reports");
    let holder = pair.holder.pid();
    let stopped = Stopped::one(holder);
    select_root(&mut watched.tty, holder);
    terminate(&mut watched.tty, holder);
    watched.tty.wait_for_text(&format!(
        "{holder} holder: signal sent, still there; it ends when it next checks for interrupts"
    ));
    assert!(is_there(&second, holder));
    assert!(
        watched
            .tty
            .look(|screen| { is_live(screen) && screen.contents().contains(&format!("▼ {holder}")) })
    );
    drop(stopped);
    watched.tty.wait_for_text("no session waits for a lock");
    assert!(!is_there(&second, holder));
    watched.quit();
}

#[test]
fn while_the_sampler_is_stopped_the_screen_tells_its_age() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let before = own_pids(&second);
    let stopped = Stopped::one(own_backend(&second, SAMPLER));
    watched.wait_for_outage("blocked", "the server accepts the connection and does not answer");
    watched.assert_ages_grow("blocked");
    watched.tty.keys("K");
    watched.tty.wait_for_text("terminate: the server gives no data now");
    drop(stopped);
    watched.assert_live_soon_after("a stopped sampler", now());
    assert_eq!(own_pids(&second), before, "the same connections");
    watched.quit();
}

/// The title of Locks.
fn title_of_locks(screen: &Screen) -> String {
    rows(screen).into_iter().find(|row| row.contains("2 Locks")).unwrap_or_default()
}

#[test]
fn while_the_locks_connection_is_stopped_the_graph_tells_its_age_and_a_kill_works() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let pair = Pair::start(lab.primary(), "reports");
    let holder = pair.holder.pid();
    select_root(&mut watched.tty, holder);
    let stopped = Stopped::one(own_backend(&second, LOCKS));
    let age = |screen: &Screen| {
        let title = title_of_locks(screen);
        let old = title.split("graph ").nth(1)?.split("s old, lock manager busy").next()?;
        old.parse::<u64>().ok()
    };
    watched.tty.wait_for("the graph to tell its age", PATIENCE, |screen| {
        is_live(screen) && age(screen).is_some_and(|age| age >= 1)
    });
    let before = watched.tty.look(age).unwrap();
    watched.tty.wait_for("the age to grow", PATIENCE, |screen| age(screen).is_some_and(|age| age > before));
    end_holder(&mut watched.tty, holder);
    assert!(!is_there(&second, holder));
    drop(stopped);
    watched.tty.wait_for("a graph without an age", PATIENCE, |screen| {
        age(screen).is_none() && screen.contents().contains("no session waits for a lock")
    });
    watched.quit();
}

#[test]
fn while_the_control_connection_is_stopped_a_kill_says_so_and_the_next_goes_through() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let pair = Pair::start(lab.primary(), "reports");
    let holder = pair.holder.pid();
    select_root(&mut watched.tty, holder);
    let stopped = Stopped::one(own_backend(&second, CONTROL));
    terminate(&mut watched.tty, holder);
    watched.tty.wait_for_text(&format!(
        "terminate {holder} holder: the server has not answered on the control connection for 3s"
    ));
    assert!(watched.tty.look(is_live), "the rest of the screen goes on");
    assert!(is_there(&second, holder));
    // The second try goes over another connection.
    end_holder(&mut watched.tty, holder);
    assert!(!is_there(&second, holder));
    watched.tty.wait_for_text("no session waits for a lock");
    drop(stopped);
    watched.quit();
}
