//! The server does not let us in: another password, or a lock that every login needs.

use std::time::Duration;

use dbtriage_lab::terminal::{PATIENCE, now, rows, until};
use dbtriage_lab::{Client, Lab};

use super::{SOON, Watched, admin, lab, own_pids, uri};

#[test]
fn a_changed_password_is_told_with_the_role_and_put_back_it_lets_us_in_again() {
    let lab = lab(&[]);
    let (mut watched, second) = refused(&lab);
    watched.assert_ages_grow("error");
    watched.tty.wait_for("some seconds without a way in", PATIENCE, |screen| {
        rows(screen)[0].contains("○ error for 6s")
    });
    set_password(&second, "right");
    watched.assert_live_soon_after("the password was put back", now());
    watched.quit();
}

#[test]
fn the_finding_of_a_changed_password_names_the_cure() {
    let lab = lab(&[]);
    let (mut watched, second) = refused(&lab);
    watched.tty.keys("!");
    watched.tty.wait_for("the finding to be chosen", PATIENCE, |screen| rows(screen)[2].contains("↵ show"));
    watched.tty.keys("\r");
    watched.tty.wait_for_text("check the password of \"pager\" (-W asks for it, PGPASSWORD, ~/.pgpass)");
    // What is open goes with this key, the program with the next.
    watched.tty.keys("q");
    watched.tty.wait_for_no_text("Esc closes");
    set_password(&second, "right");
    watched.quit();
}

fn set_password(client: &Client, word: &str) {
    let role = format!("ALTER ROLE pager PASSWORD '{word}'");
    client.execute(&format!("SET password_encryption = 'scram-sha-256'; {role}")).unwrap();
}

/// A program whose password was changed while it was connected, and whose server was restarted then.
fn refused(lab: &Lab) -> (Watched, Client) {
    let server = lab.primary();
    let second = admin(server);
    second.execute("CREATE ROLE pager LOGIN IN ROLE pg_monitor, pg_signal_backend").unwrap();
    set_password(&second, "right");
    server.let_in("host all pager 127.0.0.1/32 scram-sha-256").unwrap();
    let mut watched = Watched::start(server, &[&uri("pager", server.port)], &[("PGPASSWORD", "right")]);
    watched.wait_until_complete();
    set_password(&second, "wrong");
    drop(second);
    server.restart().unwrap();
    watched.wait_for_outage("error", "answered: password authentication failed for user \"pager\"");
    (watched, admin(server))
}

/// How soon a person must be told something.
const TOLD: Duration = Duration::from_secs(2);

#[test]
fn a_login_that_hangs_is_told_at_once() {
    let lab = lab(&[]);
    let locker = admin(lab.primary());
    locker.execute("BEGIN; LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE").unwrap();
    let mut tty = dbtriage_lab::terminal::Tty::start(
        super::PROGRAM,
        super::WIDE,
        &[&uri("oncall", lab.primary().port)],
    );
    let told = tty.wait_for("something to be said", PATIENCE, |screen| !screen.contents().trim().is_empty());
    let time = told - tty.spawned_at();
    println!("a login that hangs is told after {time:?}");
    assert!(time <= TOLD, "nothing was said for {time:?}");
    locker.execute("ROLLBACK").unwrap();
    tty.wait_for_text("● live");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

#[test]
fn a_screen_whose_login_hangs_gets_in_when_the_lock_goes() {
    let lab = lab(&[]);
    let server = lab.primary();
    let locker = admin(server);
    // Counted from before the lock, because nobody can log in under it.
    let mut watched = Watched::start(server, &[&uri("oncall", server.port)], &[]);
    watched.wait_until_complete();
    watched.tty.keys("q");
    until("no session to be left", PATIENCE, || own_pids(&locker).is_empty());
    locker.execute("BEGIN; LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE").unwrap();
    watched.tty =
        dbtriage_lab::terminal::Tty::start(super::PROGRAM, super::WIDE, &[&uri("oncall", server.port)]);
    watched.wait_for_outage("blocked", &format!("127.0.0.1:{} did not let us in within 5s", server.port));
    watched.tty.wait_for_text("the network, the server, or a lock on a system catalog that logins need");
    locker.execute("ROLLBACK").unwrap();
    let returned = now();
    watched.assert_live_soon_after("a lock on pg_authid", returned);
    until("three sessions", PATIENCE, || own_pids(&locker).len() == 3);
    let time = now() - returned;
    assert!(time <= SOON, "three connections only {time:?} after the lock went");
    watched.quit();
}
