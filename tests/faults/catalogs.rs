//! Somebody holds ACCESS EXCLUSIVE on a system catalog: the screen stays live, shows who, and ends it.

use dbtriage_lab::terminal::{PATIENCE, rows};
use dbtriage_lab::{Client, Postgres};

use super::{Pair, Watched, admin, is_live, is_there, lab, own_pids, select_root, terminate, uri};

#[test]
fn a_lock_on_a_catalog_that_logins_need_leaves_the_screen_live_and_is_ended_by_keys() {
    work_under_locks_on(&["pg_authid", "pg_database", "pg_db_role_setting", "pg_auth_members"]);
}

#[test]
fn a_lock_on_a_catalog_of_relations_leaves_the_screen_live_and_is_ended_by_keys() {
    work_under_locks_on(&["pg_class", "pg_attribute", "pg_index", "pg_tablespace"]);
}

#[test]
fn a_lock_on_a_catalog_of_functions_leaves_the_screen_live_and_is_ended_by_keys() {
    work_under_locks_on(&["pg_proc", "pg_namespace", "pg_type"]);
}

fn work_under_locks_on(catalogs: &[&str]) {
    let lab = lab(&[]);
    let server = lab.primary();
    let second = admin(server);
    for catalog in catalogs {
        second.execute(&format!("GRANT ALL ON pg_catalog.{catalog} TO shop_owner")).unwrap();
    }
    let mut watched = Watched::start(server, &[&uri("oncall", server.port), "--interval", "500ms"], &[]);
    watched.wait_until_complete();
    let before = own_pids(&second);
    let pairs: Vec<(Client, Client)> = catalogs.iter().map(|_| sessions(server)).collect();
    for (catalog, (holder, waiter)) in catalogs.iter().zip(pairs) {
        let pid = holder.pid();
        holder
            .execute(&format!("BEGIN; LOCK TABLE pg_catalog.{catalog} IN ACCESS EXCLUSIVE MODE"))
            .unwrap_or_else(|error| panic!("{catalog}: {error:#}"));
        let waiting = waiter.spawn(&format!("SELECT count(*) FROM pg_catalog.{catalog}"));
        let pair = Pair { holder, _waiter: waiter, _waiting: waiting };
        select_root(&mut watched.tty, pid);
        for _ in 0..3 {
            let first = watched.tty.rows()[0].clone();
            watched.tty.wait_for(&format!("another sample under {catalog}"), PATIENCE, |screen| {
                rows(screen)[0] != first
            });
            assert!(watched.tty.look(is_live), "{catalog}: {}", watched.tty.rows()[0]);
        }
        assert!(!watched.tty.contents().contains(" old"), "{catalog}: {}", watched.tty.contents());
        terminate(&mut watched.tty, pid);
        watched.tty.wait_for_text(&format!("terminated {pid} holder: gone after"));
        assert!(!is_there(&second, pid), "{catalog}");
        watched.tty.wait_for_text("no session waits for a lock");
        drop(pair);
    }
    assert_eq!(own_pids(&second), before, "the same connections");
    watched.quit();
}

/// Two sessions that have looked at the catalogs before any of them is locked.
fn sessions(server: &Postgres) -> (Client, Client) {
    let login = |application: &str| {
        let client = server.client_as("shop_owner", "shop", application).unwrap();
        client.execute("SELECT count(*) FROM pg_catalog.pg_class; BEGIN; ROLLBACK").unwrap();
        client
    };
    (login("holder"), login("waiter"))
}
