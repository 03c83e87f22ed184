//! What can befall a terminal: signals, a shell that takes it back, a connection that is lost or hangs, a size that
//! never rests, no terminal at all, and a bug of our own. The terminal is left as it was found, the server keeps no
//! connection of ours, and what a person has typed is not lost.

use std::fs;
use std::path::Path;

use dbtriage_lab::{Network, Proxy};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

/// How long the end of the program may take, and then the end of its connections.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Servers of their own: what waits here for long would stand in the statistics that other tests look at.
pub(super) static LAB: LazyLock<Lab> =
    LazyLock::new(|| Lab::start(Options { standby: false, ..Options::default() }).expect("a lab"));

pub(super) fn uri() -> String {
    LAB.primary().uri("oncall", "shop")
}

pub(super) fn admin() -> Client {
    LAB.primary().client("postgres", "shop").expect("a second client")
}

/// Opens the screen on the primary and waits until it is live.
fn open(size: (u16, u16), more: &[&str]) -> Tty {
    let uri = uri();
    let mut arguments = vec![uri.as_str()];
    arguments.extend(more);
    let mut tty = Tty::start(PROGRAM, size, &arguments);
    tty.wait_for_text("● live");
    tty
}

/// What the server knows of our connections.
fn connections(client: &Client) -> Vec<String> {
    let own = "SELECT pid FROM pg_stat_get_activity(NULL) WHERE application_name = 'dbtriage'";
    client.rows(own).unwrap().into_iter().flatten().flatten().collect()
}

/// The connections of Redis but the one that asks.
fn connections_to_redis() -> usize {
    let clients = LAB.redis().unwrap().command(&["CLIENT", "LIST"]).unwrap();
    format!("{clients:?}").matches(" fd=").count() - 1
}

/// Opens the screen as the only dbtriage on the server, with all of its connections.
fn open_alone(second: &Client, size: (u16, u16), more: &[&str]) -> Tty {
    until("the connections of earlier tests to be gone", PATIENCE, || connections(second).is_empty());
    let tty = open(size, more);
    until("three connections", PATIENCE, || connections(second).len() == 3);
    tty
}

/// All connections of ours are gone soon after a moment.
fn assert_disconnected(second: &Client, since: std::time::Instant, when: &str) {
    until(&format!("no connection of ours to be left {when}"), PATIENCE, || connections(second).is_empty());
    let time = now() - since;
    println!("{when}: no connection after {time:?}");
    assert!(time <= END_LIMIT, "{when}: the connections are gone after {time:?}");
}

/// A field of `/proc/PID/stat` after the name of the program: 0 is the state, 1 the parent.
fn stat(pid: i32, field: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(field).map(str::to_owned)
}

/// Whether a process is there and not only waits for its parent to take note of its end.
fn runs(pid: i32) -> bool {
    stat(pid, 0).is_some_and(|state| state != "Z" && state != "X")
}

/// The processor time that a process has used, in hundredths of a second.
fn processor_time(pid: i32) -> Option<u64> {
    Some(stat(pid, 11)?.parse::<u64>().ok()? + stat(pid, 12)?.parse::<u64>().ok()?)
}

/// The memory of a process, in kilobytes.
fn resident_kilobytes(pid: i32) -> u64 {
    status(pid, "VmRSS:")
}

/// How often a process has left a processor of itself.
fn turns_on_a_processor(pid: i32) -> u64 {
    status(pid, "voluntary_ctxt_switches:")
}

/// A figure of `/proc/PID/status`.
fn status(pid: i32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The program that a shell has started, which ends with the test.
struct Started(i32);

impl Started {
    fn by(shell: i32) -> Self {
        let mut found = None;
        until("the shell to start the program", PATIENCE, || {
            let all =
                fs::read_dir("/proc").unwrap().filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
            found = all.into_iter().find(|pid: &i32| {
                stat(*pid, 1).is_some_and(|parent| parent == shell.to_string())
                    && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(PROGRAM))
            });
            found.is_some()
        });
        Self(found.unwrap())
    }

    fn is_stopped(&self) -> bool {
        stat(self.0, 0).is_some_and(|state| state == "T")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Only while it is what was started: a number may be given to another process.
        if fs::read_link(format!("/proc/{}/exe", self.0)).is_ok_and(|exe| exe == Path::new(PROGRAM)) {
            kill(Pid::from_raw(self.0), Signal::SIGKILL).ok();
        }
    }
}

/// A shell in a terminal that runs a script; `"$1"` is the program and `"$2"` the server.
fn shell(flags: &str, script: &str, environment: &[(&str, &str)]) -> Tty {
    Tty::start_with("/bin/sh", WIDE, &[flags, script, "sh", PROGRAM, &uri()], environment)
}

// === Signals ===

/// The states in which a signal may come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    Watching,
    Asked,
    ServerStopped,
}

#[test]
fn a_signal_ends_the_program_at_any_moment_and_leaves_nothing_behind() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let root = load.facts.root_pid.unwrap();
    let second = admin();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        for moment in [Moment::Watching, Moment::Asked, Moment::ServerStopped] {
            let when = format!("{signal} while {moment:?}");
            let mut tty = open_alone(&second, WIDE, &["--redis", &LAB.redis().unwrap().url()]);
            assert_eq!(connections_to_redis(), 1, "{when}");
            if moment != Moment::Watching {
                select_root(&mut tty, root);
                ask(&mut tty, root);
            }
            let stopped = (moment == Moment::ServerStopped).then(|| {
                let stopped = Stopped::all_of(LAB.primary()).unwrap();
                tty.wait_for_text("blocked for ");
                stopped
            });
            let sent = now();
            tty.signal(signal);
            let (ended, got) = tty.ended_at(PATIENCE);
            assert_eq!(got, Some(code), "{when}");
            assert!(ended - sent <= END_LIMIT, "{when}: it ended after {:?}", ended - sent);
            let server_goes_on = now();
            drop(stopped);
            let since = if moment == Moment::ServerStopped { server_goes_on } else { ended };
            assert_disconnected(&second, since, &when);
            until("no connection to Redis to be left", END_LIMIT, || connections_to_redis() == 0);
            let left = tty.end();
            assert_restored(&left);
            assert!(!left.text.contains("live"), "{when}: nothing is left of the screen: {}", left.text);
        }
    }
    assert!(is_there(&second, root), "nobody has confirmed anything");
}

fn select_root(tty: &mut Tty, root: i32) {
    tty.wait_for_text(&format!("{root} reports-worker, idle in transaction"));
    press_until(tty, "!", "the finding to be chosen", |screen| rows(screen)[2].contains("↵ show"));
    tty.keys("\r");
    tty.wait_for("the root to be selected in Locks", PATIENCE, |screen| root_is_selected(screen, root));
}

// === A shell takes the terminal back, and gives it again ===

/// With job control, as at a prompt: what stops gives the terminal back, `fg` lets it go on.
const WITH_JOB_CONTROL: &str = r#""$1" "$2"; echo "stopped with $?"; read answer; fg; echo "ended with $?""#;

fn stops_and_goes_on(stop: impl FnOnce(&Tty, &Started)) {
    let second = admin();
    let mut tty = shell("-ic", WITH_JOB_CONTROL, &[]);
    tty.wait_for_text("● live");
    let program = Started::by(tty.pid());
    tty.wait_for("all panes", PATIENCE, |screen| TITLES.iter().all(|title| find(screen, title).is_some()));
    stop(&tty, &program);
    tty.wait_for_text("stopped with 1");
    assert!(program.is_stopped());
    assert!(tty.has_its_first_settings(), "the settings of the terminal device while it is stopped");
    tty.look(|screen| {
        assert!(!screen.alternate_screen(), "the alternate screen is left");
        assert!(!screen.hide_cursor(), "the cursor is shown");
        assert!(!screen.bracketed_paste(), "bracketed paste is off");
        assert!(find(screen, "● live").is_none(), "nothing is left of the screen: {}", screen.contents());
    });

    // The world goes on meanwhile.
    let newcomer = LAB.primary().client_as("oncall", "shop", "newcomer").unwrap();
    newcomer.execute("BEGIN").unwrap();
    tty.keys("\n");
    tty.wait_for("the whole screen, with fresh data", PATIENCE, |screen| {
        screen.alternate_screen()
            && screen.hide_cursor()
            && TITLES.iter().all(|title| find(screen, title).is_some())
            && rows(screen)[0].contains("● live")
            && find(screen, &format!("{} newcomer", newcomer.pid())).is_some()
            && find(screen, "stopped with").is_none()
    });
    assert!(is_there(&second, newcomer.pid()));
    // Keys are read as before.
    tty.keys("?");
    tty.wait_for_text("Esc closes");
    tty.keys("?");
    tty.wait_for_no_text("Esc closes");
    tty.keys("q");
    tty.wait_for_text("ended with 0");
    assert_restored(&tty.end());
}

#[test]
fn suspended_by_its_key_the_shell_has_the_terminal_and_going_on_brings_the_screen_back() {
    let _turn = turn();
    stops_and_goes_on(|tty, _| {
        tty.keys("\x1a");
    });
}

#[test]
fn suspended_by_a_signal_the_shell_has_the_terminal_and_going_on_brings_the_screen_back() {
    let _turn = turn();
    stops_and_goes_on(|_, program| kill(Pid::from_raw(program.0), Signal::SIGTSTP).unwrap());
}

#[test]
fn before_there_is_a_screen_its_key_gives_the_shell_its_terminal_too() {
    let _turn = turn();
    let network = Proxy::start(LAB.primary().port).unwrap();
    network.set(Network::BlackHole);
    let uri = format!("postgres://oncall@127.0.0.1:{}/shop", network.port);
    let mut tty = Tty::start_with("/bin/sh", WIDE, &["-ic", WITH_JOB_CONTROL, "sh", PROGRAM, &uri], &[]);
    tty.wait_for_text("connecting to");
    tty.keys("\x1a");
    tty.wait_for_text("stopped with 1");
    tty.keys("\n");
    network.set(Network::Open);
    tty.wait_for_text("● live");
    tty.keys("q");
    tty.wait_for_text("ended with 0");
    assert_restored(&tty.end());
}

#[test]
fn sent_to_the_background_it_leaves_the_terminal_to_the_shell() {
    let _turn = turn();
    let script =
        r#""$1" "$2"; echo "stopped with $?"; read answer; bg; read answer; fg; echo "ended with $?""#;
    let mut tty = shell("-ic", script, &[]);
    tty.wait_for_text("● live");
    let program = Started::by(tty.pid());
    tty.keys("\x1a");
    tty.wait_for_text("stopped with 1");
    let (before, turns) = (tty.written().0, turns_on_a_processor(program.0));
    tty.keys("\n");
    until("it to go on, and to be stopped again, for it may not have the terminal", PATIENCE, || {
        turns_on_a_processor(program.0) > turns && program.is_stopped()
    });
    assert_eq!(
        position(&tty.raw()[before..], b"\x1b"),
        None,
        "nothing of a screen is written over the shell's"
    );
    assert!(tty.has_its_first_settings(), "the settings of the terminal device");
    tty.keys("\n");
    tty.wait_for("the whole screen again", PATIENCE, |screen| {
        TITLES.iter().all(|title| find(screen, title).is_some()) && rows(screen)[0].contains("● live")
    });
    assert_answers(&mut tty);
    tty.keys("q");
    tty.wait_for_text("ended with 0");
    assert_restored(&tty.end());
}

#[test]
fn a_shell_that_is_gone_takes_a_suspended_program_with_it() {
    let _turn = turn();
    let second = admin();
    until("the connections of earlier tests to be gone", PATIENCE, || connections(&second).is_empty());
    let mut tty = shell("-ic", WITH_JOB_CONTROL, &[]);
    tty.wait_for_text("● live");
    let program = Started::by(tty.pid());
    until("three connections", PATIENCE, || connections(&second).len() == 3);
    tty.keys("\x1a");
    tty.wait_for_text("stopped with 1");
    let gone = tty.hang_up();
    until("the program to end", END_LIMIT, || !runs(program.0));
    assert_disconnected(&second, gone, "after the end of the shell of a suspended program");
}

/// What is said where stopping would be for ever.
const NO_SHELL: &str = "there is no shell to return to";

fn assert_answers(tty: &mut Tty) {
    tty.keys("?");
    tty.wait_for_text("Esc closes");
    tty.keys("?");
    tty.wait_for_no_text("Esc closes");
}

#[test]
fn without_a_shell_to_return_to_its_key_stops_nothing() {
    let _turn = turn();
    // As `ssh -t host dbtriage`: the leader of its session.
    let mut tty = open(WIDE, &[]);
    tty.keys("\x1a");
    tty.wait_for_text(NO_SHELL);
    assert_answers(&mut tty);
    assert_restored(&quit(tty));
}

#[test]
fn without_a_shell_to_return_to_a_signal_stops_nothing() {
    let _turn = turn();
    let mut tty = open(WIDE, &[]);
    tty.signal(Signal::SIGTSTP);
    tty.wait_for("the program to say that it stays", Duration::from_secs(5), |screen| {
        find(screen, NO_SHELL).is_some()
    });
    assert_answers(&mut tty);
    assert_restored(&quit(tty));
}

#[test]
fn under_a_shell_without_job_control_its_key_stops_nothing() {
    let _turn = turn();
    // As `ssh -t host '. ./env; dbtriage; ...'`: nobody is there who could wake it again.
    let mut tty = shell("-c", r#""$1" "$2"; echo "ended with $?""#, &[]);
    tty.wait_for_text("● live");
    let program = Started::by(tty.pid());
    tty.keys("\x1a");
    tty.wait_for("the program to say that it stays", Duration::from_secs(5), |screen| {
        assert!(!program.is_stopped(), "it is stopped, and nobody can wake it");
        find(screen, NO_SHELL).is_some()
    });
    assert_answers(&mut tty);
    tty.keys("q");
    tty.wait_for_text("ended with 0");
    assert_restored(&tty.end());
}

// === The terminal is gone ===

#[test]
fn a_terminal_that_is_gone_ends_the_program_and_its_connections() {
    let _turn = turn();
    let second = admin();
    for stop_server in [false, true] {
        let when = if stop_server { "while the server is stopped" } else { "while the server answers" };
        let mut tty = open_alone(&second, WIDE, &["--interval", "60s"]);
        tty.wait_for_text("(ours)");
        let stopped = stop_server.then(|| Stopped::all_of(LAB.primary()).unwrap());
        let gone = tty.hang_up();
        let (ended, code) = tty.ended_at(PATIENCE);
        assert_eq!(code, Some(129), "{when}");
        assert!(ended - gone <= END_LIMIT, "{when}: it ended after {:?}", ended - gone);
        let server_goes_on = now();
        drop(stopped);
        assert_disconnected(&second, if stop_server { server_goes_on } else { gone }, when);
    }
}

#[test]
fn a_terminal_that_is_gone_without_a_signal_ends_the_program_too() {
    let _turn = turn();
    let second = admin();
    until("the connections of earlier tests to be gone", PATIENCE, || connections(&second).is_empty());
    // Only the leader of the session is told, and this one keeps it to itself.
    let mut tty = shell("-c", r#"trap "" HUP; "$1" "$2" --interval 60s; true"#, &[]);
    tty.wait_for_text("(ours)");
    let program = Started::by(tty.pid());
    until("three connections", PATIENCE, || connections(&second).len() == 3);
    let used_before = processor_time(program.0).unwrap();
    let gone = tty.hang_up();
    let mut used = used_before;
    while runs(program.0) {
        used = processor_time(program.0).unwrap_or(used);
        assert!(
            now() - gone <= END_LIMIT,
            "it still runs after {:?} and has used {} ms of processor time since",
            now() - gone,
            (used - used_before) * 10
        );
        sleep(Duration::from_millis(5));
    }
    println!("ended after {:?}, {} ms of processor time", now() - gone, (used - used_before) * 10);
    assert!(used - used_before <= 30, "it has used {} ms to end", (used - used_before) * 10);
    assert_disconnected(&second, gone, "after a terminal that is gone without a signal");
}

// === The connection to the terminal hangs ===

/// How often a whole frame was begun.
fn whole_frames(bytes: &[u8]) -> usize {
    bytes.windows(4).filter(|it| it == b"\x1b[2J").count()
}

/// The lines that frame the screen, which stay where they are from tick to tick.
fn borders(screen: &Screen) -> Vec<String> {
    let frame = |c: char| if "┌┐└┘├┤┬┴┼─│".contains(c) { c } else { ' ' };
    // Cells at the end of a line that were never written are left out of it.
    let line = |row: &String| row.chars().map(frame).collect::<String>().trim_end().to_owned();
    rows(screen).iter().map(line).collect()
}

#[test]
fn while_nobody_takes_the_output_everything_goes_on_and_then_the_newest_screen_is_shown() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let second = admin();
    let root = load.facts.root_pid.unwrap();
    // More samples come in ten seconds than may wait for the screen.
    let mut tty = open(WIDE, &["--interval", "0.5s"]);
    select_root(&mut tty, root);
    let before = tty.written().0;
    tty.keys("\x0c");
    until("a whole frame", PATIENCE, || whole_frames(&tty.raw()[before..]) == 1);
    tty.wait_for("the root to be selected", PATIENCE, |screen| root_is_selected(screen, root));
    let frame_size = tty.written().0 - before;

    tty.stall();
    let stalled = now();
    let memory_before = resident_kilobytes(tty.pid());
    let started =
        "SELECT max(query_start) FROM pg_stat_get_activity(NULL) WHERE application_name = 'dbtriage'";
    let (mut samples, mut newest_at) = (BTreeSet::new(), stalled);
    while now() - stalled < Duration::from_secs(10) {
        // Each of these is a whole frame for whoever would look.
        tty.keys(&"\x0c".repeat(20));
        if samples.insert(second.cell(started).unwrap()) {
            newest_at = now();
        }
        sleep(Duration::from_millis(200));
    }
    let silent = now() - newest_at;
    println!("{} starts of statements seen in 10 s, the last {silent:?} ago", samples.len());
    let grown = resident_kilobytes(tty.pid()).saturating_sub(memory_before);
    println!("grown by {grown} kB; a whole frame has {frame_size} bytes");
    // Typed blindly; it takes effect though nobody sees it.
    tty.keys("?");
    let written = tty.written().0;
    let goes_on = tty.go_on();
    let right = tty.wait_for("the help over a live screen", PATIENCE, |screen| {
        find(screen, "Esc closes").is_some() && rows(screen)[0].contains("● live")
    });
    let stale = tty.raw()[written..].iter().filter(|byte| **byte != 0).count();
    println!("right after {:?}, and {stale} bytes", right.saturating_duration_since(goes_on));
    assert!(silent < Duration::from_millis(1500), "it samples though nobody reads: {silent:?} ago");
    assert!(samples.len() >= 14, "twice a second: {} in 10 s", samples.len());
    assert!(grown < 10_000, "it has grown by {grown} kB");
    assert!(
        right.saturating_duration_since(goes_on) <= Duration::from_secs(1),
        "the newest screen comes soon"
    );
    assert!(stale <= 3 * frame_size + 4096, "two stale frames at most, then the right one: {stale} bytes");

    // Complete: drawn anew, nothing is elsewhere.
    tty.keys("?");
    tty.wait_for_no_text("Esc closes");
    tty.wait_for("the root to be selected still", PATIENCE, |screen| root_is_selected(screen, root));
    let shown = tty.look(borders);
    let before = tty.written().0;
    tty.keys("\x0c");
    until("a whole frame", PATIENCE, || whole_frames(&tty.raw()[before..]) == 1);
    assert_eq!(shown, tty.look(borders));
    assert_restored(&quit(tty));
}

#[test]
fn the_program_ends_though_nobody_takes_its_output() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let second = admin();
    for (way, code) in [("q", 0), ("SIGTERM", 143), ("SIGHUP", 129)] {
        let mut tty = open_alone(&second, WIDE, &[]);
        tty.wait_for_text(&format!("{} reports-worker, idle", load.facts.root_pid.unwrap()));
        tty.stall();
        // It has something to write by now.
        tty.keys("\x0c\x0c");
        sleep(Duration::from_millis(1500));
        let asked = now();
        match way {
            "SIGTERM" => tty.signal(Signal::SIGTERM),
            "SIGHUP" => tty.signal(Signal::SIGHUP),
            key => {
                tty.keys(key);
            }
        }
        let (ended, got) = tty.ended_at(PATIENCE);
        println!("{way}: ended after {:?}", ended - asked);
        assert!(ended - asked <= Duration::from_secs(2), "{way}: it ended after {:?}", ended - asked);
        assert_eq!(got, Some(code), "{way}");
        assert!(tty.has_its_first_settings(), "{way}: the settings of the terminal device");
        assert_disconnected(&second, ended, way);
    }
}

#[test]
fn a_terminal_that_hangs_and_then_is_gone_ends_the_program() {
    let _turn = turn();
    let second = admin();
    let mut tty = open_alone(&second, WIDE, &[]);
    tty.stall();
    tty.keys("\x0c\x0c");
    sleep(Duration::from_millis(1500));
    let gone = tty.hang_up();
    let (ended, code) = tty.ended_at(PATIENCE);
    assert!(ended - gone <= END_LIMIT, "it ended after {:?}", ended - gone);
    assert_eq!(code, Some(129));
    assert_disconnected(&second, gone, "after a terminal that hung and is gone");
}

// === A size that never rests ===

#[test]
fn a_resize_storm_keeps_the_question_and_what_is_typed() {
    let _turn = turn();
    let load = LAB.play(Scenario::LockPileup).unwrap();
    let second = admin();
    let root = load.facts.root_pid.unwrap();
    let mut tty = open(WIDE, &[]);
    select_root(&mut tty, root);
    let question = format!("Terminate {root} ?");
    let is_open = |screen: &Screen| find(screen, &question).is_some() && find(screen, "[ No ]").is_some();

    ask(&mut tty, root);
    let large_enough = [(200, 50), (120, 40), (80, 24), (160, 45), (100, 30), (240, 67)];
    for (columns, rows) in large_enough.into_iter().cycle().take(60) {
        tty.resize(columns, rows);
    }
    for (columns, height) in large_enough {
        tty.resize(columns, height);
        tty.wait_for(&format!("the question at {columns}x{height}"), PATIENCE, |screen| {
            screen.size().1.get() == columns && is_open(screen) && drawn_to_its_edge(screen)
        });
    }
    // Where it cannot be read it is withdrawn; it never waits out of sight for a key.
    for (columns, height) in [(60, 18), (40, 10), (39, 9), (20, 5), (1, 1)] {
        tty.resize(WIDE.0, WIDE.1);
        tty.wait_for("the root to be selected", PATIENCE, drawn_to_its_edge);
        if !tty.look(is_open) {
            ask(&mut tty, root);
        }
        let before = tty.written().0;
        tty.resize(columns, height);
        until("the size to be drawn", PATIENCE, || {
            whole_frames(&tty.raw()[before..]) > 0 && tty.look(|_| true)
        });
        let seen = tty.look(|screen| screen.contents().contains(&question));
        tty.resize(WIDE.0, WIDE.1);
        tty.wait_for("the wide screen", PATIENCE, drawn_to_its_edge);
        assert_eq!(tty.look(is_open), seen, "{columns}x{height}: open as it was seen there, and only then");
    }
    assert!(!tty.look(is_open), "on one cell nobody reads a question");
    assert!(is_there(&second, root));

    tty.wait_for("the root to be selected", PATIENCE, |screen| root_is_selected(screen, root));
    tty.keys("/");
    tty.wait_for_text("↵ keeps it");
    tty.keys("report");
    tty.wait_for_text("report");
    for (columns, rows) in [(200, 50), (80, 24), (20, 5), (1, 1), (120, 40)].into_iter().cycle().take(60) {
        tty.resize(columns, rows);
    }
    tty.keys("s-w");
    tty.resize(WIDE.0, WIDE.1);
    tty.wait_for("the text that was typed on either side of the storm", PATIENCE, |screen| {
        drawn_to_its_edge(screen)
            && rows(screen).iter().any(|row| row.contains("reports-w") && row.contains("↵ keeps it"))
    });
    tty.keys("\r");
    tty.wait_for_no_text("↵ keeps it");
    tty.wait_for("the root to be selected", PATIENCE, |screen| root_is_selected(screen, root));
    assert_restored(&quit(tty));
}

/// The clock ends the first line, with one blank behind it: what is shown was drawn for this size.
fn drawn_to_its_edge(screen: &Screen) -> bool {
    let columns = screen.size().1.get();
    columns > 2 && starts_with(screen, (0, columns - 2), "Z")
}

// === No terminal to be had ===

#[test]
fn without_a_terminal_that_can_show_a_screen_one_sentence_says_so() {
    let _turn = turn();
    let cases = [
        (r#""$1" "$2" </dev/null; echo "ended with $?""#, "xterm", "the screen needs a terminal"),
        (r#"{ "$1" "$2"; echo "ended with $?" >&2; } | cat"#, "xterm", "the screen needs a terminal"),
        (r#""$1" "$2"; echo "ended with $?""#, "dumb", "TERM=dumb cannot show a screen"),
        (r#"unset TERM; "$1" "$2"; echo "ended with $?""#, "", "TERM"),
        (r#"TERM= "$1" "$2"; echo "ended with $?""#, "", "TERM"),
    ];
    for (script, term, sentence) in cases {
        let mut tty = shell("-c", script, &[("TERM", term)]);
        tty.wait_for(&format!("an end of {script}"), Duration::from_secs(5), |screen| {
            find(screen, "ended with").is_some()
        });
        let ended = tty.end();
        assert_eq!(ended.termios.0, ended.termios.1, "{script}");
        assert!(!ended.raw.contains(&b'\x1b'), "{script}: no escape sequence: {}", ended.text);
        let lines: Vec<&str> =
            ended.text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.last(), Some(&"ended with 2"), "{script}");
        assert_eq!(lines.len(), 2, "one sentence: {lines:?}");
        assert!(lines[0].starts_with("dbtriage: ") && lines[0].contains(sentence), "{lines:?}");
        assert!(lines[0].contains("dbtriage snapshot"), "what goes without a screen: {lines:?}");
    }
}

#[test]
fn a_terminal_that_does_not_know_its_size_is_taken_for_80x24() {
    let _turn = turn();
    // A serial line, or `ssh -tt` from a script.
    let mut tty = shell("-c", r#"stty rows 0 cols 0; "$1" "$2"; echo "ended with $?""#, &[]);
    tty.wait_for("a screen of the usual size", Duration::from_secs(5), |screen| {
        find(screen, "● live").is_some() && starts_with(screen, (0, 78), "Z")
    });
    tty.keys("q");
    tty.wait_for_text("ended with 0");
}

// === A bug of our own ===

#[test]
fn a_bug_in_drawing_gives_the_terminal_back_and_leaves_a_report() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("incident.log");
    let log_name = log.to_str().unwrap();
    let environment = [("DBTRIAGE_TEST_PANIC", "draw"), ("PGPASSWORD", "n0t-to-be-s33n")];
    for arguments in [vec![], vec!["--log", log_name]] {
        let uri = uri();
        let mut all = vec![uri.as_str()];
        all.extend(&arguments);
        let mut tty = Tty::start_with(PROGRAM, WIDE, &all, &environment);
        let (_, code) = tty.ended_at(Duration::from_secs(5));
        let ended = tty.end();
        assert_eq!(code, Some(101), "{}", ended.text);
        assert_restored(&ended);
        let said: Vec<&str> = ended.text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        assert!(said[0].starts_with("dbtriage: "), "{said:?}");
        let said = said.join("");
        let names = if arguments.is_empty() { "--log" } else { log_name };
        assert!(said.contains(names), "it names {names}: {said}");
        assert!(!ended.text.contains("n0t-to-be-s33n"));
    }
    let report = fs::read_to_string(&log).unwrap();
    let line = report.lines().find(|line| line.contains("panic")).expect("the panic is in the log");
    assert!(line.contains("DBTRIAGE_TEST_PANIC") || line.contains("draw"), "the message: {line}");
    assert!(line.contains(".rs:"), "the place: {line}");
    assert!(!report.contains("n0t-to-be-s33n"), "{report}");
}
