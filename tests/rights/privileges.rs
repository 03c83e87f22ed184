//! What each role sees: in the snapshot null with a reason and the statement that helps, on the screen the
//! same.

use dbtriage_lab::{Client, Postgres};
use serde_json::Value;

use super::{SMALL, WIDE, here, lab, missing, open, quit, snapshot};

/// The versions whose texts differ.
pub(crate) const VERSIONS: [u32; 4] = [13, 15, 16, 18];

fn entry(target: &Value, pid: i32) -> Value {
    let all = target["sessions"].as_array().unwrap();
    all.iter().find(|it| it["pid"] == pid).unwrap_or_else(|| panic!("{pid} in {target}")).clone()
}

/// A session of an ordinary role, in a transaction.
fn working(server: &Postgres) -> Client {
    let client = server.client_as("shop_owner", "shop", "working").unwrap();
    client.execute("BEGIN; SELECT 'in a transaction'").unwrap();
    client
}

#[test]
fn what_a_role_may_not_see_is_null_and_never_a_guess() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let session = working(lab.primary());
        for user in ["nobody_special", "signaller"] {
            let target = snapshot(lab.primary(), user, "shop");
            let (reason, hint) = missing(&target, "session details").expect("a reason");
            assert_eq!(reason, format!("\"{user}\" sees only its own sessions in full"));
            assert_eq!(hint, format!("GRANT pg_monitor TO {user};"));
            let other = entry(&target, session.pid());
            assert_eq!((&other["user"], &other["application"]), (&"shop_owner".into(), &"working".into()));
            for field in ["backend_start", "backend_type", "client", "state", "wait_event", "xact_start"] {
                assert!(other[field].is_null(), "{field} for {user} on {major}: {other}");
            }
            for figure in ["active", "idle_in_transaction", "oldest_transaction_seconds"] {
                assert!(target["vitals"][figure].is_null(), "{figure} for {user} on {major}");
            }
            assert!(target["waits"].is_null(), "on {major}");
            assert_eq!(target["status"], "degraded");
            // What it may see is there.
            assert!(target["vitals"]["transactions_per_second"].is_number(), "on {major}");
            assert_eq!(target["locks"]["blocked_sessions"], 0);
            assert_eq!(target["replication"]["slots"][0]["name"], "standby");
        }
    }
}

#[test]
fn a_role_that_may_see_everything_misses_nothing() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let session = working(lab.primary());
        for user in ["watcher", "oncall", "postgres"] {
            let target = snapshot(lab.primary(), user, "shop");
            assert_eq!(target["unavailable"], Value::Array(Vec::new()), "{user} on {major}");
            assert_eq!(target["status"], "ok");
            let other = entry(&target, session.pid());
            assert_eq!(other["state"], "idle in transaction", "{user} on {major}");
            assert!(other["xact_start"].is_string(), "{user} on {major}");
            assert_eq!(target["replication"]["standbys"][0]["state"], "streaming");
        }
    }
}

#[test]
fn a_member_of_a_role_sees_the_sessions_of_that_role() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let session = working(lab.primary());
        let hidden = lab.primary().client_as("postgres", "shop", "hidden").unwrap();
        let target = snapshot(lab.primary(), "member", "shop");
        assert_eq!(entry(&target, session.pid())["state"], "idle in transaction", "on {major}");
        assert!(entry(&target, hidden.pid())["state"].is_null(), "on {major}");
        assert!(missing(&target, "session details").is_some(), "on {major}");
    }
}

#[test]
fn statements_of_other_roles_that_are_hidden_are_counted() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let mut tty = open(lab.primary(), "nobody_special", "shop", WIDE);
        tty.keys("3");
        tty.keys("z");
        tty.wait_for_text(" of other roles not visible");
        quit(tty);
        let target = snapshot(lab.primary(), "nobody_special", "shop");
        let (reason, hint) = missing(&target, "statements").expect("the snapshot says it as well");
        assert!(reason.contains("other roles"), "on {major}: {reason}");
        assert!(hint.contains("GRANT pg_monitor TO nobody_special;"), "on {major}: {hint}");
    }
}

#[test]
fn who_sees_little_is_told_what_would_help() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let _session = working(lab.primary());
        for size in [SMALL, WIDE] {
            for (user, sees_all) in
                [("nobody_special", false), ("signaller", false), ("watcher", true), ("postgres", true)]
            {
                let mut tty = open(lab.primary(), user, "shop", size);
                tty.wait_for_text(" working ");
                let shown = tty.contents().contains(&format!("GRANT pg_monitor TO {user};"));
                assert_eq!(shown, !sees_all, "{user} on {major} at {size:?}:\n{}", tty.contents());
                quit(tty);
            }
        }
    }
}

#[test]
fn the_replication_that_a_role_may_not_see_says_what_would_help() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        for (server, shown) in [(lab.primary(), "unreplayed"), (lab.standby().unwrap(), "this standby")] {
            let mut tty = open(server, "nobody_special", "shop", SMALL);
            tty.keys("4");
            tty.wait_for_text(shown);
            // Figures that are hidden stand as question marks: the pane says why.
            tty.wait_for_text("GRANT pg_monitor TO nobody_special;");
            quit(tty);
        }
    }
}
