//! Somebody holds ACCESS EXCLUSIVE on a system catalog: the screen stays live, shows who, and ends it.

use dbtriage_lab::terminal::{PATIENCE, rows};
use dbtriage_lab::{Client, Postgres};

use super::{
    Pair, Watched, admin, end_holder, is_live, is_there, lab, lab_of, own_pids, select, select_root,
    terminate, uri,
};

/// The catalogs of the measured table: what logins need, what names need, what functions need.
const CATALOGS: [&[&str]; 2] = [
    &["pg_authid", "pg_database", "pg_db_role_setting", "pg_auth_members", "pg_tablespace", "pg_index"],
    &["pg_class", "pg_attribute", "pg_proc", "pg_namespace", "pg_type"],
];

#[test]
fn a_lock_on_a_catalog_that_logins_need_is_shown_and_ended_by_keys() {
    work_under_locks_on(CATALOGS[0]);
}

#[test]
fn a_lock_on_a_catalog_that_names_need_is_shown_and_ended_by_keys() {
    work_under_locks_on(CATALOGS[1]);
}

/// A superuser's own screen: PostgreSQL lets nobody else lock a catalog, nor end the session that does.
fn work_under_locks_on(catalogs: &[&str]) {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = open_as("postgres", lab.primary());
    let before = own_pids(&second);
    let pairs: Vec<(Client, Client)> = catalogs.iter().map(|_| sessions(lab.primary())).collect();
    for (catalog, pair) in catalogs.iter().zip(pairs) {
        let pair = lock(catalog, pair);
        let holder = pair.holder.pid();
        assert_live_under(&mut watched, catalog, holder);
        end_holder(&mut watched.tty, holder);
        assert!(!is_there(&second, holder), "{catalog}");
        watched.tty.wait_for_text("no session waits for a lock");
    }
    assert_eq!(own_pids(&second), before, "the same connections");
    watched.quit();
}

#[test]
fn a_lock_on_a_catalog_is_shown_to_a_monitoring_role_and_other_sessions_can_be_ended() {
    let lab = lab_of(60, &[]);
    let second = admin(lab.primary());
    let mut watched = open_as("oncall", lab.primary());
    let before = own_pids(&second);
    let catalogs: Vec<&str> = CATALOGS.concat();
    let pairs: Vec<(Client, Client)> = catalogs.iter().map(|_| sessions(lab.primary())).collect();
    let victims: Vec<Client> = catalogs.iter().map(|_| victim(lab.primary())).collect();
    for ((catalog, pair), victim) in catalogs.iter().zip(pairs).zip(victims) {
        let pair = lock(catalog, pair);
        assert_live_under(&mut watched, catalog, pair.holder.pid());
        // Only a superuser may end the holder; somebody else's session ends although roles cannot be read.
        watched.tty.keys("1");
        select(&mut watched.tty, &format!("> {:>6} victim", victim.pid()));
        terminate(&mut watched.tty, victim.pid());
        watched.tty.wait_for_text(&format!("terminated {} victim: gone after", victim.pid()));
        assert!(!is_there(&second, victim.pid()), "{catalog}");
        pair.holder.execute("ROLLBACK").unwrap();
        watched.tty.wait_for_text("no session waits for a lock");
        watched.tty.keys("1");
    }
    assert_eq!(own_pids(&second), before, "the same connections");
    watched.quit();
}

fn open_as(user: &str, server: &Postgres) -> Watched {
    let mut watched = Watched::start(server, &[&uri(user, server.port), "--interval", "500ms"], &[]);
    watched.wait_until_complete();
    watched
}

/// Two sessions that have looked at the catalogs before any of them is locked.
fn sessions(server: &Postgres) -> (Client, Client) {
    let login = |application: &str| {
        let client = server.client_as("postgres", "shop", application).unwrap();
        client.execute("SELECT count(*) FROM pg_catalog.pg_class; BEGIN; ROLLBACK").unwrap();
        client
    };
    (login("holder"), login("waiter"))
}

fn victim(server: &Postgres) -> Client {
    let victim = server.client_as("shop_owner", "shop", "victim").unwrap();
    victim.execute("SELECT count(*) FROM pg_catalog.pg_class").unwrap();
    victim
}

fn lock(catalog: &str, (holder, waiter): (Client, Client)) -> Pair {
    holder.execute(&format!("BEGIN; LOCK TABLE pg_catalog.{catalog} IN ACCESS EXCLUSIVE MODE")).unwrap();
    let waiting = waiter.spawn(&format!("SELECT count(*) FROM pg_catalog.{catalog}"));
    Pair { holder, _waiter: waiter, _waiting: waiting }
}

/// The holder is shown as the root with its waiter, and sample after sample comes.
fn assert_live_under(watched: &mut Watched, catalog: &str, holder: i32) {
    select_root(&mut watched.tty, holder);
    for _ in 0..2 {
        let first = watched.tty.rows()[0].clone();
        watched.tty.wait_for(&format!("another sample under {catalog}"), PATIENCE, |screen| {
            rows(screen)[0] != first
        });
        assert!(watched.tty.look(is_live), "{catalog}: {}", watched.tty.rows()[0]);
    }
    assert!(!watched.tty.contents().contains(" old"), "{catalog}: {}", watched.tty.contents());
}
