//! Every pane of every version as a role without any right, on the smallest and on a large terminal: whatever
//! there is nothing to show of says so in words, and no key ends the program but the one that shall.

use dbtriage_lab::terminal::{find, rows};
use dbtriage_lab::{Lab, MAJORS, Postgres};
use vt100::Screen;

use super::{PATIENCE, SMALL, WIDE, here, lab, open, quit};

/// The panes: their keys and their names.
const PANES: [(&str, &str); 8] = [
    ("1", "Activity"),
    ("2", "Locks"),
    ("3", "Statements"),
    ("4", "Replication"),
    ("5", "Cache"),
    ("6", "Waits"),
    ("7", "Tables"),
    ("8", "Events"),
];

/// Rows above a pane that has the screen for itself: identity, vitals, two of findings, tabs, its title.
const ABOVE: usize = 6;

fn letters(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphabetic()).count()
}

/// Whether the only pane of the screen holds at least a word below its title.
fn body_speaks(screen: &Screen) -> bool {
    let rows = rows(screen);
    rows[ABOVE..rows.len() - 1].iter().any(|row| letters(row) >= 3)
}

/// Whether a pane among others holds at least a word in the three lines below its title.
fn speaks_below(screen: &Screen, title: &str) -> bool {
    let Some((row, column)) = find(screen, title) else { return false };
    let (first, column) = (usize::from(row) + 1, usize::from(column));
    let under = |line: &String| line.chars().skip(column).take(50).collect::<String>();
    rows(screen)[first..first + 3].iter().map(under).any(|text| letters(&text) >= 3)
}

fn everything_is_opened(server: &Postgres, database: &str, size: (u16, u16)) {
    let mut tty = open(server, "nobody_special", database, size);
    let at = format!("{database} at {size:?} on port {}", server.port);
    tty.wait_for_text("you see ");
    for (key, name) in PANES {
        tty.keys(key);
        if size == WIDE {
            let title = format!("{key} {name}");
            tty.wait_for(&format!("{title} of {at} to speak"), PATIENCE, |it| speaks_below(it, &title));
            tty.keys("z");
        }
        tty.wait_for(&format!("{name} of {at} to speak alone"), PATIENCE, |screen| {
            rows(screen)[ABOVE - 2].starts_with(" 1 Activity") && body_speaks(screen)
        });
        if size == WIDE {
            tty.keys("z");
            tty.wait_for("all panes to be back", PATIENCE, |screen| find(screen, "5 Cache ──").is_some());
        }
    }
    tty.keys("1");
    tty.keys("\r");
    tty.wait_for_text("Esc closes");
    tty.keys("\x7f");
    tty.wait_for_no_text("Esc closes");
    tty.keys("?");
    tty.wait_for_text("Keys");
    tty.keys("?");
    tty.wait_for_no_text("Esc closes");
    tty.keys("!");
    tty.wait_for("an answer to the key of the findings", PATIENCE, |screen| {
        screen.contents().contains("nothing found") || rows(screen)[2].contains("↵ show")
    });
    quit(tty);
}

fn on_every_version(place: impl Fn(&Lab, (u16, u16)) + Sync) {
    for major in here(&MAJORS) {
        let lab = lab(major);
        std::thread::scope(|both| {
            let place = &place;
            let lab = &*lab;
            for size in [SMALL, WIDE] {
                both.spawn(move || place(lab, size));
            }
        });
    }
}

#[test]
fn every_pane_speaks_to_a_role_without_rights() {
    on_every_version(|lab, size| everything_is_opened(lab.primary(), "shop", size));
}

#[test]
fn every_pane_speaks_of_an_empty_database() {
    on_every_version(|lab, size| everything_is_opened(lab.primary(), "empty", size));
}

#[test]
fn every_pane_speaks_of_a_standby() {
    on_every_version(|lab, size| everything_is_opened(lab.standby().unwrap(), "shop", size));
}

/// The last line offers only what works now, and a key that does not work says why.
#[test]
fn enter_answers_in_every_pane() {
    let lab = lab(here(&[18, 15])[0]);
    let mut tty = open(lab.primary(), "nobody_special", "empty", SMALL);
    tty.wait_for_text("you see ");
    let mut silent = Vec::new();
    for (key, name) in PANES.into_iter().filter(|(key, _)| *key != "1") {
        tty.keys(key);
        // What Enter would do here is nothing, so it is not offered.
        tty.wait_for(&format!("{name} to speak"), PATIENCE, |screen| {
            body_speaks(screen) && !rows(screen).last().unwrap().contains("↵ detail")
        });
        tty.keys("\r");
        // Keys are taken in their order: once this one has opened the help, Enter has been taken.
        tty.keys("?");
        tty.wait_for_text("Keys");
        tty.keys("?");
        tty.wait_for_no_text("Esc closes");
        let last = tty.rows().last().unwrap().clone();
        if !last.contains("detail: ") {
            silent.push(format!("{name}: answered {last:?}"));
        }
    }
    quit(tty);
    assert!(silent.is_empty(), "{silent:#?}");
}
