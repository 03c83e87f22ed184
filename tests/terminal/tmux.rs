//! Two people in one tmux session, on terminals of different size: the size follows whoever typed last, the screen is
//! right for both, and what one has opened or selected is still there after a key of the other.

use std::process::Command;

use super::faults::{LAB, admin, uri};
use super::*;

/// A tmux server of our own, with the program in its only window; it ends with the test.
struct Shared {
    folder: tempfile::TempDir,
}

impl Shared {
    fn start() -> Self {
        let found = Command::new("tmux").arg("-V").output().is_ok_and(|it| it.status.success());
        assert!(found, "tmux is not here; run: sh tests/lab/setup.sh");
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> String {
        self.folder.path().join("tmux").display().to_string()
    }

    /// One more person, with a terminal of this size.
    fn join(&self, size: (u16, u16), command: &[&str]) -> Tty {
        let socket = self.socket();
        let mut arguments = vec!["-S", &socket, "-f", "/dev/null"];
        arguments.extend(command);
        Tty::start("tmux", size, &arguments)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-S", &self.socket()]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(Command::new("tmux").args(["-S", &self.socket(), "kill-server"]).output());
    }
}

/// Whether the program's screen for this many columns is shown: its clock ends the first line.
fn is_drawn_for(screen: &Screen, columns: u16) -> bool {
    starts_with(screen, (0, columns - 2), "Z") && find(screen, "● live").is_some()
}

fn is_whole(screen: &Screen) -> bool {
    is_drawn_for(screen, WIDE.0) && TITLES.iter().all(|title| find(screen, title).is_some())
}

fn is_compact(screen: &Screen) -> bool {
    is_drawn_for(screen, 80) && find(screen, "1 Activity 2 Locks").is_some()
}

#[test]
fn two_people_on_terminals_of_different_size_share_one_right_screen() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let root = load.facts.root_pid.unwrap();
    let second = admin();
    let shared = Shared::start();
    let uri = uri();
    let mut wide = shared.join(WIDE, &["new-session", "-s", "triage", PROGRAM, &uri]);
    wide.wait_for("all panes", PATIENCE, is_whole);
    wide.wait_for_text(&format!("{root} reports-worker, idle in transaction"));
    wide.keys("!");
    wide.wait_for_text("↵ show");
    wide.keys("\r");
    let selected = format!(">▼ {root}");
    wide.wait_for_text(&selected);

    // The partner's terminal is the smaller one, and the screen becomes as small with the first key.
    let mut small = shared.join((80, 24), &["attach", "-t", "triage"]);
    small.wait_for("the partner's screen", PATIENCE, is_compact);
    small.wait_for_text(&selected);
    for _ in 0..3 {
        wide.keys("\x0c");
        wide.wait_for("the whole screen again", PATIENCE, is_whole);
        wide.wait_for_text(&selected);
        small.keys("\x0c");
        small.wait_for("the compact screen again", PATIENCE, is_compact);
        small.wait_for_text(&selected);
        wide.wait_for("the compact screen, for the other too", PATIENCE, is_compact);
    }

    // A question of one is seen by the other, at the other's size, and neither is shown half of it.
    let question = format!("Terminate {root} ?");
    let asked = |screen: &Screen| find(screen, &question).is_some() && find(screen, "[ No ]").is_some();
    wide.keys("\x0c");
    wide.wait_for("the whole screen again", PATIENCE, is_whole);
    wide.keys("K");
    wide.wait_for("the question", PATIENCE, asked);
    sleep(DEAF);
    for _ in 0..2 {
        small.keys("\x0c");
        small.wait_for("the question at 80x23", PATIENCE, |screen| asked(screen) && is_drawn_for(screen, 80));
        wide.wait_for("the same for the other", PATIENCE, |screen| asked(screen) && is_drawn_for(screen, 80));
        wide.keys("\x0c");
        wide.wait_for("the question at 200x49", PATIENCE, |screen| asked(screen) && is_whole_under(screen));
    }
    assert!(is_there(&second, root));

    // Too small for it: withdrawn, and not there again when there is room.
    small.resize(38, 9);
    small.keys("\x0c");
    small.wait_for_text("dbtriage needs 40x10");
    small.keys("y");
    // Whose key tmux reads first is not known: again, until the other's was the earlier one.
    press_until(&wide, "\x0c", "the whole screen without the question", |screen| {
        is_whole(screen) && find(screen, "Terminate").is_none() && find(screen, &selected).is_some()
    });
    wide.keys("y");
    wide.keys("?");
    wide.wait_for_text("Esc closes");
    assert!(is_there(&second, root), "nobody has confirmed");

    // One leaves, the other goes on; then the program ends for both.
    assert_eq!(shared.tell(&["list-clients", "-F", "x"]).lines().count(), 2);
    drop(small);
    until("one to be left", PATIENCE, || shared.tell(&["list-clients", "-F", "x"]).lines().count() == 1);
    wide.keys("?");
    wide.wait_for("the whole screen for who is left", PATIENCE, is_whole);
    wide.keys("q");
    let (_, code) = wide.ended_at(PATIENCE);
    assert_eq!(code, Some(0));
}

/// Below a question the panes may be covered; what frames the screen is there.
fn is_whole_under(screen: &Screen) -> bool {
    is_drawn_for(screen, WIDE.0) && find(screen, "1 Activity").is_some()
}

#[test]
fn inside_tmux_a_copy_goes_to_its_buffer() {
    let _turn = turn();
    let victim = LAB.primary().client_as("oncall", "shop", "copied").unwrap();
    victim.execute("BEGIN; SELECT 'copied \x1b]0;owned\x07 text' AS what").unwrap();
    let shared = Shared::start();
    let uri = uri();
    let mut tty = shared.join(WIDE, &["new-session", "-s", "triage", PROGRAM, &uri]);
    tty.wait_for("all panes", PATIENCE, is_whole);
    tty.keys("/copied\r");
    tty.wait_for("the session, selected", PATIENCE, |screen| {
        find(screen, &format!("> {:>6} copied", victim.pid())).is_some()
    });
    tty.keys("c");
    tty.wait_for_text("copied to the tmux buffer");
    let held = shared.tell(&["show-buffer"]);
    assert!(
        held.starts_with("BEGIN; SELECT 'copied ") && held.contains("owned"),
        "what was asked for: {held:?}"
    );
    let acts = |c: &char| c.is_control() && !"\n\t".contains(*c);
    assert_eq!(held.chars().find(acts), None, "nothing that acts on whoever pastes it: {held:?}");
    tty.keys("q");
    assert_eq!(tty.ended_at(PATIENCE).1, Some(0));
}
