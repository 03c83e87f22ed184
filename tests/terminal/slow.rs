//! A terminal at the end of a slow line, and one on which nothing changes.

use super::faults::{LAB, uri};
use super::*;

/// 9,600 baud: ten bits a byte.
const BYTES_PER_SECOND: u32 = 960;
const WATCHED: Duration = Duration::from_secs(20);
/// Linux holds some 12 kB of such a line by itself, which nobody can call back; then the frame that answers the key.
const KEY_LIMIT: Duration = Duration::from_secs(25);

fn frames(bytes: &[u8]) -> usize {
    const BEGIN: &[u8] = b"\x1b[?2026h";
    bytes.windows(BEGIN.len()).filter(|window| *window == BEGIN).count()
}

#[test]
fn on_a_line_of_9600_baud_frames_are_dropped_and_keys_are_answered() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let mut tty = Tty::start(PROGRAM, WIDE, &[&uri(), "--interval", "0.5s"]);
    tty.wait_for_text("● live");
    tty.wait_for_text("helps: ");
    tty.slow_down(BYTES_PER_SECOND);
    let (began, before) = (now(), tty.written().0);
    let mut views = 0;
    while now() - began < WATCHED {
        // Each brings another view, which is more than the line can carry.
        tty.keys("g");
        views += 1;
        sleep(Duration::from_millis(250));
    }
    let shown = frames(&tty.raw()[before..]);
    println!("{shown} frames of {views} views in {WATCHED:?}, {} bytes", tty.written().0 - before);
    assert!(shown * 2 < views, "{shown} frames of {views} views were written, however slow the line");
    let asked = tty.keys("?");
    let answered = tty.wait_for("the help", KEY_LIMIT, |screen| find(screen, "Esc closes").is_some());
    println!("the help after {:?}", answered - asked);
    tty.keys("\x1b");
    tty.wait_for("the help to be closed", KEY_LIMIT, |screen| find(screen, "Esc closes").is_none());
    let quit = tty.keys("q");
    let (ended, code) = tty.ended_at(PATIENCE);
    assert_eq!(code, Some(0));
    assert!(ended - quit < Duration::from_secs(2), "q took {:?}", ended - quit);
    drop(load);
}

#[test]
fn a_screen_on_which_nothing_changes_writes_nothing() {
    let _turn = turn();
    let mut tty = Tty::start(PROGRAM, WIDE, &[&uri(), "--interval", "20s"]);
    tty.wait_for_text("● live");
    let is_calm = |tty: &Tty| now() - tty.written().1 > Duration::from_secs(2);
    until("all that is read at the beginning to be shown", PATIENCE, || is_calm(&tty));
    let (bytes, _) = tty.written();
    sleep(Duration::from_secs(5));
    assert_eq!(tty.written().0, bytes, "bytes of a screen on which nothing has changed");
}
