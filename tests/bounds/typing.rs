//! Anything on the keyboard: a paste of rubbish, a terminal that answers questions nobody asked, sequences cut in two.

use dbtriage_lab::imitation::Crowd;
use dbtriage_lab::terminal::{PATIENCE, until};
use nix::sys::signal::Signal;

use crate::process::{MB, imitation, open, peak_bytes};

/// What terminals send, whole, cut and mixed up.
const SEQUENCES: [&str; 15] = [
    "\x1b[<0;0;0M",
    "\x1b[",
    "\x1b[200~",
    "\x1b[201~",
    "\x1b[<0;999999999;1M",
    "\x1b[M\x7f\x7f\x7f",
    "\x1b[1;5A",
    "\x1b[99999999999999999999~",
    "\x1b[?62;c",
    "\x1b]11;rgb:ffff/ffff/ffff\x07",
    "\x1bP1$r0m\x1b\\",
    "\x1bO",
    "\x1b[I",
    "\x1b[0;0R",
    "日本\u{301}",
];

/// What ends or suspends the program by right: q, Q, Ctrl-C, Ctrl-Z, Ctrl-backslash; and the u of a key report.
const MEANT: [char; 6] = ['q', 'Q', '\x03', '\x1a', '\x1c', 'u'];

#[test]
fn anything_typed_leaves_the_program_alive() {
    // Nobody is hurt by what the keys may order here.
    let server = imitation(Crowd { waiters: 3, ..Crowd::default() });
    let (mut tty, pid) = open(&server);
    let before = peak_bytes(pid).unwrap();
    let mut state = 0x1234_5678_9abc_def1_u64;
    // Less than a terminal keeps for a program that has ended: a write to it would block for ever.
    for round in 0..12 {
        let mut keys = String::new();
        for _ in 0..32 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [kind, which, byte, ..] = state.to_le_bytes();
            if kind < 64 {
                keys += SEQUENCES[usize::from(which) % SEQUENCES.len()];
            } else if !MEANT.contains(&char::from(byte)) {
                // Two bytes long above 127.
                keys.push(char::from(byte));
            }
        }
        tty.keys(&keys);
        let ticks = server.ticks();
        until("another sample, or the end", PATIENCE, || ticks < server.ticks() || !tty.is_running());
        if !tty.is_running() {
            let ended = tty.end();
            panic!("round {round} ends it with {:?}: {keys:?}\n{}", ended.code, ended.text);
        }
    }
    // Whatever is open, a paste that was begun too, comes to its end, and the sessions are there again.
    tty.keys("\x1b[201~");
    let ticks = server.ticks();
    until("more samples", PATIENCE, || ticks + 2 < server.ticks());
    let kept = peak_bytes(pid).unwrap().saturating_sub(before);
    assert!(kept < 16 * MB, "{} MB", kept / MB);
    tty.signal(Signal::SIGTERM);
    let ended = tty.end();
    assert_eq!(ended.code, Some(143), "{}", ended.text);
    assert!(!ended.text.contains("panicked"), "{}", ended.text);
}
