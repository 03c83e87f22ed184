//! Cancel and terminate as each role: what it may do happens, what it may not do is told with the server's
//! own words and what would help, and nobody is signalled by accident.

use std::thread::sleep;
use std::time::{Duration, Instant};

use dbtriage_lab::terminal::{Tty, now, rows, until};
use dbtriage_lab::{Client, Lab, Postgres, Running};

use super::privileges::VERSIONS;
use super::{PATIENCE, SMALL, WIDE, here, is_there, lab, open, quit, superuser};

/// How long a question is deaf after it has opened, with a little more for the program to read the key.
const DEAF: Duration = Duration::from_millis(400);

/// A session at work, which ends with the test.
struct Victim {
    system: Client,
    client: Client,
    name: String,
    _running: Running,
}

impl Victim {
    fn start(server: &Postgres, user: &str, name: String) -> Self {
        let client = server.client_as(user, "shop", &name).unwrap();
        let running = client.spawn("SELECT pg_sleep(600)");
        Self { system: superuser(server), client, name, _running: running }
    }

    fn is_working(&self) -> bool {
        let sql = "SELECT FROM pg_stat_activity WHERE state = 'active' AND pid =";
        !self.system.rows(&format!("{sql} {}", self.client.pid())).unwrap().is_empty()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.system.execute(&format!("SELECT pg_terminate_backend({})", self.client.pid())).ok();
    }
}

/// Shows a session and nothing else, selected.
fn select(tty: &mut Tty, victim: &Victim) {
    tty.keys("/");
    tty.wait_for_text("↵ keeps it");
    tty.keys(&format!("{} {}\r", victim.name, victim.client.pid()));
    tty.wait_for_no_text("↵ keeps it");
    tty.wait_for("the session to be selected", PATIENCE, |screen| {
        let selected = format!("{}", victim.client.pid());
        rows(screen).iter().any(|row| row.contains("> ") && row.contains(&selected))
    });
}

/// Presses `C` or `K` on the selected session, and confirms.
fn act(tty: &mut Tty, key: &str, victim: &Victim) {
    let pid = victim.client.pid();
    tty.keys(key);
    let question =
        if key == "C" { format!("Cancel the statement of {pid} ?") } else { format!("Terminate {pid} ?") };
    tty.wait_for_text(&question);
    // Again while the question may still have been deaf to it.
    let mut pressed: Option<Instant> = None;
    until("the question to be answered", PATIENCE, || {
        let done = !tty.contents().contains(&question);
        if !done && pressed.is_none_or(|at| DEAF * 2 < now() - at) {
            pressed = Some(tty.keys("y"));
        }
        done
    });
}

/// Presses `C` or `K` on the selected session, which is refused without a question.
fn refused(tty: &mut Tty, key: &str, because: &str) {
    tty.keys(key);
    tty.wait_for_text(because);
    assert!(!tty.contents().contains("[ No ]"), "{key} opens no question:\n{}", tty.contents());
}

/// What came of the last action, once it is told: as the events have it in full, its lines joined.
fn newest_outcome(tty: &mut Tty, begins: &str) -> String {
    tty.wait_for_text(begins);
    tty.keys("8");
    tty.wait_for_text("8 Events");
    // Findings and verdicts are events, too.
    tty.keys(&format!("/\x15{begins}\r"));
    tty.wait_for("the filter to be taken", PATIENCE, |screen| !screen.contents().contains("↵ keeps it"));
    tty.keys("\x1b[H");
    tty.keys("l");
    tty.wait_for_text("Esc closes");
    let joined = tty.contents().replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(joined.contains(begins), "{joined}");
    tty.keys("\x7f");
    tty.wait_for_no_text("Esc closes");
    tty.keys("1");
    joined
}

/// What a role may do to a session.
#[derive(Clone, Copy)]
enum May {
    /// Nothing, because it cannot tell the session from another.
    NotTell,
    /// Nothing, because it lacks a right.
    NotSignal,
    /// Nothing, because only superusers may.
    OnlySuperusers,
    Act,
}

fn try_both(lab: &Lab, role: &str, victim: &Victim, may: May) {
    let system = superuser(lab.primary());
    let pid = victim.client.pid();
    let whom = format!("{pid} {}", victim.name);
    let mut tty = open(lab.primary(), role, "shop", WIDE);
    tty.wait_for_text(&format!(" {} ", victim.name));
    select(&mut tty, victim);
    for (key, verb) in [("C", "cancel"), ("K", "terminate")] {
        match may {
            May::NotTell => {
                let why =
                    format!("{verb}: GRANT pg_read_all_stats TO {role}; (backend_start of {pid} is hidden");
                refused(&mut tty, key, &why);
            }
            May::NotSignal => {
                act(&mut tty, key, victim);
                let outcome = newest_outcome(&mut tty, &format!("{verb} {whom} not permitted: "));
                assert!(outcome.contains("GRANT pg_signal_backend TO "), "{role}: {outcome}");
            }
            May::OnlySuperusers => {
                act(&mut tty, key, victim);
                let outcome = newest_outcome(&mut tty, &format!("{verb} {whom} not permitted: "));
                assert!(outcome.contains("only a superuser may"), "{role}: {outcome}");
                assert!(!outcome.contains("GRANT pg_signal_backend"), "{role}: {outcome}");
            }
            May::Act if key == "C" => {
                act(&mut tty, key, victim);
                tty.wait_for_text(&format!("cancelled {whom}: statement ended after "));
            }
            May::Act => {
                act(&mut tty, key, victim);
                tty.wait_for_text(&format!("terminated {whom}: gone after "));
            }
        }
        let untouched = !matches!(may, May::Act);
        assert_eq!(victim.is_working(), untouched, "{role} {verb}: {whom}");
    }
    assert_eq!(is_there(&system, pid), !matches!(may, May::Act), "{role}: {whom}");
    quit(tty);
}

#[test]
fn each_role_does_what_it_may_and_is_told_what_it_lacks() {
    let cases = [
        ("nobody_special", May::NotTell, May::NotTell),
        ("signaller", May::NotTell, May::NotTell),
        ("watcher", May::NotSignal, May::OnlySuperusers),
        ("oncall", May::Act, May::OnlySuperusers),
        // As a managed service gives it to its customer, whose own sessions are superusers'.
        ("master", May::Act, May::OnlySuperusers),
        ("member", May::Act, May::NotTell),
        ("postgres", May::Act, May::Act),
    ];
    for major in here(&VERSIONS) {
        let lab = &*lab(major);
        std::thread::scope(|all| {
            for (number, (role, ordinary, superuser)) in cases.into_iter().enumerate() {
                all.spawn(move || {
                    let victim = Victim::start(lab.primary(), "shop_owner", format!("plain{number}"));
                    try_both(lab, role, &victim, ordinary);
                    let victim = Victim::start(lab.primary(), "postgres", format!("super{number}"));
                    try_both(lab, role, &victim, superuser);
                });
            }
        });
    }
}

/// From 16 on the server's own words are so long that what helps would stand outside of the screen.
#[test]
fn what_helps_after_a_refused_signal_is_read_where_it_is_told() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        for (owner, helps) in
            [("shop_owner", "GRANT pg_signal_backend"), ("postgres", "only a superuser may")]
        {
            let victim = Victim::start(lab.primary(), owner, "plain".into());
            for size in [WIDE, SMALL] {
                let mut tty = open(lab.primary(), "watcher", "shop", size);
                tty.wait_for_text(" plain ");
                select(&mut tty, &victim);
                act(&mut tty, "K", &victim);
                tty.wait_for_text("not permitted");
                assert!(tty.contents().contains(helps), "on {major} at {size:?}:\n{}", tty.contents());
                quit(tty);
            }
        }
    }
}

#[test]
fn the_grant_of_a_refused_signal_names_the_role() {
    for major in here(&[15, 18]) {
        let lab = lab(major);
        let victim = Victim::start(lab.primary(), "shop_owner", "plain".into());
        for size in [WIDE, SMALL] {
            let mut tty = open(lab.primary(), "watcher", "shop", size);
            tty.wait_for_text(" plain ");
            select(&mut tty, &victim);
            act(&mut tty, "K", &victim);
            tty.wait_for_text("not permitted");
            // On a small screen the message may not fit: then it stands in Events.
            let shown = |tty: &Tty| tty.contents().contains("GRANT pg_signal_backend TO watcher");
            if !shown(&tty) {
                tty.keys("8");
                tty.keys("/permitted\r");
                tty.wait_for_text("/permitted");
                tty.keys("l");
                tty.wait_for_text("Esc closes");
            }
            assert!(shown(&tty), "on {major} at {size:?}:\n{}", tty.contents());
            tty.keys("\x7f");
            quit(tty);
        }
    }
}

#[test]
fn why_a_hidden_session_cannot_be_ended_is_read_to_its_end_on_a_small_screen() {
    let lab = lab(here(&[18, 15])[0]);
    let victim = Victim::start(lab.primary(), "shop_owner", "plain".into());
    let mut tty = open(lab.primary(), "nobody_special", "shop", SMALL);
    tty.wait_for_text(" plain ");
    select(&mut tty, &victim);
    tty.keys("K");
    tty.wait_for_text("terminate: GRANT pg_read_all_stats");
    let shown = tty.contents();
    quit(tty);
    assert!(shown.contains("GRANT pg_read_all_stats TO nobody_special;"), "{shown}");
}

#[test]
fn a_right_given_meanwhile_is_used_without_a_restart() {
    let lab = lab(here(&[18, 15])[0]);
    let system = superuser(lab.primary());
    system.execute("DROP ROLE IF EXISTS newcomer; CREATE ROLE newcomer LOGIN IN ROLE pg_monitor").unwrap();
    let victim = Victim::start(lab.primary(), "shop_owner", "plain".into());
    let mut tty = open(lab.primary(), "newcomer", "shop", WIDE);
    tty.wait_for_text(" plain ");
    select(&mut tty, &victim);
    act(&mut tty, "K", &victim);
    tty.wait_for_text("not permitted");
    system.execute("GRANT pg_signal_backend TO newcomer").unwrap();
    act(&mut tty, "K", &victim);
    tty.wait_for_text(&format!("terminated {} plain: gone after ", victim.client.pid()));
    quit(tty);
    system.execute("DROP ROLE newcomer").unwrap();
}

#[test]
fn a_right_taken_away_meanwhile_is_no_session_that_has_gone() {
    let lab = lab(here(&[18, 15])[0]);
    let system = superuser(lab.primary());
    system
        .execute("DROP ROLE IF EXISTS leaver; CREATE ROLE leaver LOGIN IN ROLE pg_monitor, pg_signal_backend")
        .unwrap();
    let victim = Victim::start(lab.primary(), "shop_owner", "plain".into());
    let pid = victim.client.pid();
    let mut tty = open(lab.primary(), "leaver", "shop", WIDE);
    tty.wait_for_text(" plain ");
    select(&mut tty, &victim);
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {pid} ?"));
    system.execute("REVOKE pg_monitor FROM leaver").unwrap();
    tty.wait_for_no_text(&format!("Terminate {pid} ?"));
    let shown = tty.contents();
    sleep(DEAF);
    tty.keys("y");
    tty.keys("n");
    tty.wait_for_no_text("[ No ]");
    quit(tty);
    system.execute("DROP ROLE leaver").unwrap();
    assert!(victim.is_working(), "nothing was signalled");
    assert!(!shown.contains(&format!("{pid} has gone")), "it is there, and hidden:\n{shown}");
}
