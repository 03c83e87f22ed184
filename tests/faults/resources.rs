//! The server runs out of something: room for locks.

use dbtriage_lab::Client;
use dbtriage_lab::terminal::{PATIENCE, now, until};

use super::{
    Census, Pair, Watched, admin, end_holder, is_live, is_there, lab_of, own_pids, select_root, uri,
};

/// Takes what room there is in the lock table: locks of the session outlive the transaction that fails for want of it. Who
/// ran meanwhile leaves some when it is done, and calling this again takes that too.
fn fill_locks(hog: &Client) {
    let failed = hog.execute("SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) n").unwrap_err();
    assert!(format!("{failed:#}").contains("53200: out of shared memory"), "{failed:#}");
}

#[test]
fn with_a_full_lock_table_sessions_and_locks_are_shown_and_a_kill_works() {
    let lab = lab_of(20, &[("max_locks_per_transaction", "10"), ("max_prepared_transactions", "0")]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let before = own_pids(&second);
    let pair = Pair::start(lab.primary(), "reports");
    let hog = lab.primary().client_as("shop_owner", "shop", "hog").unwrap();
    until("a full lock table", PATIENCE, || {
        fill_locks(&hog);
        let refused = second.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").err();
        second.execute("ROLLBACK").unwrap();
        refused.is_some_and(|refused| {
            assert!(format!("{refused:#}").contains("53200"), "{refused:#}");
            true
        })
    });

    // Nobody logs in any more, and who is in goes on.
    second.execute("SET application_name = 'newcomer'").unwrap();
    watched.tty.wait_for("the sessions of now", PATIENCE, |screen| {
        is_live(screen) && screen.contents().contains(&format!("{} newcomer", second.pid()))
    });
    let holder = pair.holder.pid();
    select_root(&mut watched.tty, holder);
    assert!(!watched.tty.contents().contains("lock manager busy"));
    end_holder(&mut watched.tty, holder);
    assert!(!is_there(&second, holder));
    assert!(watched.tty.look(is_live));
    assert_eq!(own_pids(&second), before, "the same connections");
    drop(hog);
    watched.quit();
}

#[test]
fn a_screen_that_no_lock_is_left_for_opens_and_gets_in_when_there_is_room() {
    let lab = lab_of(20, &[("max_locks_per_transaction", "10"), ("max_prepared_transactions", "0")]);
    let server = lab.primary();
    let census = Census::start(server);
    let hog = server.client_as("shop_owner", "shop", "hog").unwrap();
    until("nobody to get in", PATIENCE, || {
        fill_locks(&hog);
        server.client("oncall", "shop").is_err()
    });
    let mut watched = Watched::start_counted(server, census, &[&uri("oncall", server.port)], &[]);
    watched.wait_for_outage("error", "answered: out of shared memory");
    watched.tty.wait_for_text("the server is out of a resource; still trying");
    drop(hog);
    until("the server to let somebody in", PATIENCE, || server.client("oncall", "shop").is_ok());
    watched.assert_live_soon_after("a full lock table", now());
    watched.quit();
}
