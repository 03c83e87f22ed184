//! The server in full, opened with `I`: what works for the role in use, what does not, and what would help.

use dbtriage_lab::terminal::rows;

use super::{PATIENCE, here, lab, open, quit, superuser};

/// What the detail of the server shows to a role.
fn detail(lab: &dbtriage_lab::Lab, user: &str) -> String {
    let version = superuser(lab.primary()).cell("SHOW server_version").unwrap();
    let version = version.split(' ').next().unwrap().to_owned();
    let mut tty = open(lab.primary(), user, "shop", (120, 40));
    tty.keys("I");
    tty.wait_for(&format!("the server in full, as {user}"), PATIENCE, |screen| {
        // The identity of the first line holds the version too.
        let below = rows(screen)[1..].join("\n");
        below.contains("Esc closes") && below.contains(user) && below.contains(&version)
    });
    let contents = tty.contents();
    tty.keys("\x7f");
    tty.wait_for_no_text("Esc closes");
    quit(tty);
    contents
}

fn grant(right: &str, role: &str) -> String {
    format!("GRANT {right} TO {role};")
}

#[test]
fn a_role_with_nothing_reads_what_would_help() {
    for major in here(&[13, 15, 16, 18]) {
        let shown = detail(&lab(major), "nobody_special");
        for right in ["pg_monitor", "pg_signal_backend"] {
            assert!(shown.contains(&grant(right, "nobody_special")), "{right} on {major}:\n{shown}");
        }
        let reserved = shown.contains(&grant("pg_use_reserved_connections", "nobody_special"));
        assert_eq!(reserved, major >= 16, "on {major}:\n{shown}");
    }
}

#[test]
fn a_role_that_has_a_right_is_not_told_to_get_it() {
    for major in here(&[13, 15, 16, 18]) {
        let lab = lab(major);
        let shown = detail(&lab, "oncall");
        for right in ["pg_monitor", "pg_signal_backend"] {
            assert!(!shown.contains(&grant(right, "oncall")), "{right} on {major}:\n{shown}");
        }
        let reserved = shown.contains(&grant("pg_use_reserved_connections", "oncall"));
        assert_eq!(reserved, major >= 16, "on {major}:\n{shown}");
        let shown = detail(&lab, "watcher");
        assert!(!shown.contains(&grant("pg_monitor", "watcher")), "on {major}:\n{shown}");
        assert!(shown.contains(&grant("pg_signal_backend", "watcher")), "on {major}:\n{shown}");
        let shown = detail(&lab, "signaller");
        assert!(shown.contains(&grant("pg_monitor", "signaller")), "on {major}:\n{shown}");
        assert!(!shown.contains(&grant("pg_signal_backend", "signaller")), "on {major}:\n{shown}");
    }
}

#[test]
fn who_may_use_the_reserved_connections_is_not_told_to_ask_for_them() {
    for major in here(&[16, 18]) {
        let lab = lab(major);
        let system = superuser(lab.primary());
        system.execute("DROP ROLE IF EXISTS reserved; CREATE ROLE reserved LOGIN").unwrap();
        system.execute("GRANT pg_monitor, pg_use_reserved_connections TO reserved").unwrap();
        let shown = detail(&lab, "reserved");
        system.execute("DROP ROLE reserved").unwrap();
        assert!(!shown.contains(&grant("pg_use_reserved_connections", "reserved")), "on {major}:\n{shown}");
    }
}

#[test]
fn a_superuser_is_told_so_and_needs_no_grant() {
    for major in here(&[13, 18]) {
        let shown = detail(&lab(major), "postgres");
        assert!(shown.contains("superuser"), "on {major}:\n{shown}");
        assert!(!shown.contains("GRANT "), "on {major}:\n{shown}");
    }
}
