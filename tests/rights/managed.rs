//! Servers that lack what PostgreSQL has: functions that a managed service refuses, that a fork has not, or
//! whose rows lack a column. What needs them goes dark with the reason; everything else lives, and no
//! connection is opened anew.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use dbtriage_lab::terminal::{Tty, now, rows, until};
use dbtriage_lab::{Lab, Postgres};
use serde_json::Value;

use super::fork::{Fork, refusal};
use super::{PATIENCE, SMALL, WIDE, dark, here, is_there, lab, missing, open, quit, snapshot, superuser};

const VERSIONS: [u32; 2] = [13, 18];

/// Functions that a managed service refuses, with the part that needs them on a primary and on a standby.
const REFUSED: [(&str, Option<&str>, Option<&str>); 6] = [
    ("pg_last_wal_receive_lsn", None, Some("wal")),
    ("pg_last_wal_replay_lsn", None, Some("wal")),
    ("pg_last_xact_replay_timestamp", None, Some("wal")),
    ("pg_stat_get_wal_receiver", None, Some("walreceiver")),
    ("pg_current_wal_lsn", Some("wal"), None),
    ("pg_stat_get_wal_senders", Some("standbys"), Some("standbys")),
];

fn all_refused() -> Vec<&'static str> {
    REFUSED.iter().map(|(name, ..)| *name).collect()
}

/// Waits until the standby's catalogs are the primary's: a table made now comes after what was done to them.
fn follow(lab: &Lab) {
    let primary = superuser(lab.primary());
    primary
        .execute("DROP TABLE IF EXISTS followed; CREATE TABLE followed AS SELECT pg_backend_pid() AS by")
        .unwrap();
    let standby = superuser(lab.standby().unwrap());
    let replayed = format!("SELECT FROM followed WHERE by = {}", primary.pid());
    until("the standby to follow", PATIENCE, || standby.rows(&replayed).is_ok_and(|rows| !rows.is_empty()));
}

/// Everything that has nothing to do with replication.
fn the_rest_lives(target: &Value, what: &str) {
    assert!(target["sessions"].as_array().is_some_and(|it| it.len() > 5), "sessions, {what}");
    assert_eq!(target["locks"]["blocked_sessions"], 0, "locks, {what}");
    assert!(target["statements"].is_array(), "statements, {what}");
    assert!(target["cache"]["blocks_hit_per_second"].is_number(), "cache, {what}");
    assert!(target["vitals"]["transactions_per_second"].is_number(), "vitals, {what}");
    assert!(target["waits"].is_array(), "waits, {what}");
    assert!(target["error"].is_null(), "{what}");
}

#[test]
fn a_refused_function_darkens_what_needs_it_and_nothing_else() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        for (name, on_primary, on_standby) in REFUSED {
            let fork = Fork::of(lab.primary()).unsupported(&[name]);
            follow(&lab);
            for (server, part) in [(lab.primary(), on_primary), (lab.standby().unwrap(), on_standby)] {
                let target = snapshot(server, "oncall", "shop");
                let what = format!("{name} on {major}, {}", target["server"]["role"]);
                assert_eq!(dark(&target), Vec::from_iter(part), "{what}");
                if let Some(part) = part {
                    assert_eq!(missing(&target, part).unwrap().0, refusal(name), "{what}");
                }
                the_rest_lives(&target, &what);
            }
            drop(fork);
        }
    }
}

/// Each position is its own: the one that is refused takes no other with it.
#[test]
fn a_refused_position_leaves_the_other_positions() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let _fork = Fork::of(lab.primary()).unsupported(&["pg_last_xact_replay_timestamp"]);
        follow(&lab);
        let recovery = snapshot(lab.standby().unwrap(), "oncall", "shop")["replication"]["recovery"].take();
        assert_eq!(recovery["last_replayed_at"], Value::Null, "on {major}");
        assert!(recovery["replayed_lsn"].is_string(), "on {major}: {recovery}");
        assert_eq!(recovery["replay_lag_bytes"], 0, "on {major}: {recovery}");
    }
}

/// The processes of our connections.
fn ours(server: &Postgres) -> BTreeSet<String> {
    let sql = "SELECT pid || ' ' || backend_start FROM pg_stat_activity WHERE application_name = 'dbtriage'";
    superuser(server).rows(sql).unwrap().into_iter().filter_map(|row| row[0].clone()).collect()
}

/// Looks for a while: the screen stays live, over the same three connections.
fn nothing_is_connected_anew(tty: &Tty, server: &Postgres) {
    until("three connections", PATIENCE, || ours(server).len() == 3);
    let before = ours(server);
    let began = now();
    while now() - began < Duration::from_secs(3) {
        assert_eq!(ours(server), before, "{}", tty.contents());
        let first = tty.rows()[0].clone();
        assert!(first.contains("● live"), "{first}");
        sleep(Duration::from_millis(100));
    }
}

/// A session of the shop is found and terminated by keys.
fn a_session_can_be_terminated(tty: &mut Tty, server: &Postgres) {
    let victim = server.client_as("shop_owner", "shop", "victim").unwrap();
    let pid = victim.pid();
    tty.keys("1");
    tty.keys("/victim\r");
    tty.wait_for("the session to be selected", PATIENCE, |screen| {
        rows(screen).iter().any(|row| row.contains("> ") && row.contains(&format!("{pid} ")))
    });
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {pid} ?"));
    sleep(Duration::from_millis(260));
    tty.keys("y");
    tty.wait_for_text(&format!("terminated {pid} victim: gone after"));
    assert!(!is_there(&superuser(server), pid));
}

#[test]
fn with_all_of_them_refused_the_primary_says_so_and_lives() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let _fork = Fork::of(lab.primary()).unsupported(&all_refused());
        let target = snapshot(lab.primary(), "oncall", "shop");
        // A primary has no walreceiver, and is not asked for one.
        assert_eq!(dark(&target), ["wal", "standbys"], "on {major}");
        the_rest_lives(&target, &format!("all refused on {major}"));
        let mut tty = open(lab.primary(), "oncall", "shop", WIDE);
        tty.wait_for_text(&refusal("pg_stat_get_wal_senders"));
        // The slot is not refused.
        tty.wait_for_text("physical");
        tty.wait_for_text("time/s");
        tty.wait_for_text("no session waits for a lock");
        tty.wait_for_text("PostgreSQL  hit");
        nothing_is_connected_anew(&tty, lab.primary());
        a_session_can_be_terminated(&mut tty, lab.primary());
        quit(tty);
    }
}

#[test]
fn with_all_of_them_refused_the_standby_says_so_and_lives() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let _fork = Fork::of(lab.primary()).unsupported(&all_refused());
        follow(&lab);
        let standby = lab.standby().unwrap();
        let target = snapshot(standby, "oncall", "shop");
        assert_eq!(dark(&target), ["wal", "standbys", "walreceiver"], "on {major}");
        the_rest_lives(&target, &format!("all refused on the standby of {major}"));
        let recovery = &target["replication"]["recovery"];
        for figure in ["received_lsn", "replayed_lsn", "replay_lag_bytes", "replay_lag_seconds"] {
            assert!(recovery[figure].is_null(), "{figure} on {major}: {recovery}");
        }
        let mut tty = open(standby, "oncall", "shop", WIDE);
        tty.wait_for_text(&refusal("pg_stat_get_wal_senders"));
        tty.wait_for_text(&refusal("pg_stat_get_wal_receiver"));
        nothing_is_connected_anew(&tty, standby);
        a_session_can_be_terminated(&mut tty, standby);
        quit(tty);
    }
}

/// A question mark in the pane is no reason: the positions that are refused are told like the rest.
#[test]
fn refused_positions_are_told_in_the_replication_pane() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let _fork = Fork::of(lab.primary()).unsupported(&["pg_current_wal_lsn", "pg_last_wal_replay_lsn"]);
        follow(&lab);
        let places =
            [(lab.primary(), "pg_current_wal_lsn"), (lab.standby().unwrap(), "pg_last_wal_replay_lsn")];
        for (server, name) in places {
            for size in [WIDE, SMALL] {
                let mut tty = open(server, "oncall", "shop", size);
                tty.keys("4");
                tty.wait_for_text(&refusal(name));
                quit(tty);
            }
        }
    }
}

/// Functions that a fork may not have, with their arguments and the part that needs them on a primary.
const ABSENT: [(&str, &str, &str); 5] = [
    ("pg_stat_get_wal_senders", "", "standbys"),
    ("pg_get_replication_slots", "", "slots"),
    ("pg_prepared_xact", "", "prepared"),
    ("pg_stat_get_db_temp_files", "oid", "databases"),
    ("pg_stat_get_activity", "integer", "sessions"),
];

#[test]
fn an_absent_function_darkens_what_needs_it_and_nothing_else() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        for (name, arguments, part) in ABSENT {
            let _fork = Fork::of(lab.primary()).without(name, arguments);
            let target = snapshot(lab.primary(), "oncall", "shop");
            let what = format!("{name} on {major}");
            assert!(target["error"].is_null(), "{what}: {}", target["error"]);
            let (reason, _) = missing(&target, part).unwrap_or_else(|| panic!("{what}: {target}"));
            let expected = format!("function {name}(");
            assert!(reason.starts_with(&expected) && reason.ends_with("does not exist"), "{what}: {reason}");
            // Without the sessions nobody knows who waits, and so the lock table is read all the time.
            assert_eq!(dark(&target), [part], "{what}");
            assert!(target["statements"].is_array(), "{what}");
            assert_eq!(target["sessions"].is_null(), part == "sessions", "{what}");
            assert_eq!(target["vitals"]["transactions_per_second"].is_null(), part == "databases", "{what}");
        }
    }
}

#[test]
fn a_standby_without_a_walreceiver_function_misses_nothing_else() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let _fork = Fork::of(lab.primary()).without("pg_stat_get_wal_receiver", "");
        follow(&lab);
        let target = snapshot(lab.standby().unwrap(), "oncall", "shop");
        assert_eq!(dark(&target), ["walreceiver"], "on {major}");
        let (reason, _) = missing(&target, "walreceiver").unwrap();
        let expected = "function pg_stat_get_wal_receiver(";
        assert!(reason.starts_with(expected) && reason.ends_with("does not exist"), "on {major}: {reason}");
        the_rest_lives(&target, &format!("no walreceiver function on the standby of {major}"));
    }
}

#[test]
fn rows_without_a_column_darken_what_needs_them_and_nothing_else() {
    for major in here(&[18]) {
        let lab = lab(major);
        let cases = [
            ("pg_stat_get_activity", "integer", "query_id", "sessions"),
            ("pg_stat_get_wal_senders", "", "replay_lag", "standbys"),
            ("pg_get_replication_slots", "", "wal_status", "slots"),
        ];
        for (name, arguments, column, part) in cases {
            let _fork = Fork::of(lab.primary()).without_column(name, arguments, column);
            let target = snapshot(lab.primary(), "oncall", "shop");
            let what = format!("{name} without {column} on {major}");
            assert!(target["error"].is_null(), "{what}: {}", target["error"]);
            assert_eq!(dark(&target), [part], "{what}");
            let (reason, _) = missing(&target, part).unwrap();
            assert_eq!(reason, format!("column \"{column}\" does not exist"), "{what}");
        }
    }
}

#[test]
fn without_sessions_the_screen_lives_over_the_same_connections() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let _fork = Fork::of(lab.primary()).without("pg_stat_get_activity", "integer");
        let mut tty = open(lab.primary(), "oncall", "shop", WIDE);
        tty.wait_for_text("function pg_stat_get_activity(");
        tty.wait_for_text("PostgreSQL  hit");
        tty.wait_for_text("time/s");
        tty.wait_for_text("physical");
        for key in ["K", "C"] {
            tty.keys(key);
            tty.wait_for_text("select a session in Activity (1) or Locks (2)");
        }
        nothing_is_connected_anew(&tty, lab.primary());
        quit(tty);
    }
}

#[test]
fn a_lock_table_without_a_column_says_so_and_the_waiters_are_still_counted() {
    let lab = lab(here(&[18, 15])[0]);
    let holder = lab.primary().client_as("shop_owner", "shop", "holder").unwrap();
    let waiter = lab.primary().client_as("shop_owner", "shop", "waiter").unwrap();
    holder.execute("BEGIN").unwrap();
    holder.execute("LOCK TABLE reports").unwrap();
    let waiting = waiter.spawn("SELECT count(*) FROM reports");
    let fork = Fork::of(lab.primary()).without_column("pg_lock_status", "", "waitstart");
    let mut tty = open(lab.primary(), "oncall", "shop", WIDE);
    tty.wait_for_text("column \"waitstart\" does not exist");
    tty.wait_for_text("1 session waiting (from activity)");
    tty.wait_for_text("Lock:relation");
    tty.wait_for_text("PostgreSQL  hit");
    nothing_is_connected_anew(&tty, lab.primary());
    quit(tty);
    drop(fork);
    holder.execute("COMMIT").unwrap();
    waiting.wait(PATIENCE).unwrap();
}
