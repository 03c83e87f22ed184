//! How much memory a running program has taken at most.

use std::fs;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dbtriage_lab::imitation::{Crowd, Imitation, Script};
use dbtriage_lab::terminal::{PATIENCE, Tty, now, until};
use vt100::Screen;

use crate::{PROGRAM, WIDE};

/// One test that measures at a time.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mebibyte.
pub(crate) const MB: u64 = 1024 * 1024;

/// The peak of a program that watches a server with ten sessions.
pub(crate) static AT_REST: LazyLock<u64> = LazyLock::new(|| {
    let server = imitation(Crowd::default());
    let (mut tty, pid) = open(&server);
    tty.wait_for_text("1 Activity");
    until("a few ticks", PATIENCE, || server.ticks() > 3);
    let peak = peak_bytes(pid).expect("the program runs");
    tty.keys("q");
    tty.end();
    println!("at rest: {} MB", peak / MB);
    peak
});

pub(crate) fn imitation(crowd: Crowd) -> Imitation {
    Imitation::start(Script::Postgres(crowd.into(), [].into())).expect("an imitation")
}

/// Opens the screen on an imitation and waits until it is live.
pub(crate) fn open(server: &Imitation) -> (Tty, i32) {
    let uri = server.postgres_uri();
    let mut tty = Tty::start(PROGRAM, WIDE, &[&uri]);
    let pid = process_with(&uri);
    tty.wait_for_text("● live");
    (tty, pid)
}

/// The program that was started with this argument, which nobody else has.
pub(crate) fn process_with(argument: &str) -> i32 {
    let mut found = None;
    until("the program to run", Duration::from_secs(5), || {
        found = running_with(argument);
        found.is_some()
    });
    found.expect("a process")
}

/// The same; `None` before its beginning and after its end.
pub(crate) fn running_with(argument: &str) -> Option<i32> {
    let has_it = |pid: i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(PROGRAM.as_bytes())
            && words.split(|byte| *byte == 0).any(|it| it == argument.as_bytes())
    };
    let processes = fs::read_dir("/proc").expect("processes");
    processes.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok()).find(|pid| has_it(*pid))
}

/// The most memory that a process has had so far; `None` once it has gone.
pub(crate) fn peak_bytes(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// Waits for the end of the program; it must not open the screen.
pub(crate) fn ending(tty: &mut Tty, limit: Duration, what: &str) {
    let deadline = now() + limit;
    while tty.is_running() {
        assert!(
            !tty.look(Screen::alternate_screen),
            "waited for {what}; it has opened the screen\n{}",
            tty.contents()
        );
        assert!(now() < deadline, "waited {limit:?} for {what}; nothing is said");
        std::thread::sleep(Duration::from_millis(2));
    }
}
