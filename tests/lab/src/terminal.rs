//! The real program in a pseudo-terminal: what a person types, what a terminal shows, and every byte in between.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use tempfile::TempDir;
use vt100::{Parser, Screen};

/// How long anything may take that has no bound of its own, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Begins the marks of synchronized output; `h` or `l` follows.
const MARK: &[u8] = b"\x1b[?2026";

/// Lines of scrollback that the terminal keeps.
const SCROLLBACK: usize = 500;

/// The time.
#[expect(clippy::disallowed_methods, reason = "a test measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks at a condition until it holds.
pub fn until(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    let deadline = now() + limit;
    while !look() {
        assert!(now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the terminal has been sent so far.
struct Shown {
    parser: Parser,
    raw: Vec<u8>,
    /// Between the marks of synchronized output: a terminal shows such a frame when it is whole.
    inside_frame: bool,
    changed_at: Instant,
}

type Shared = Arc<(Mutex<Shown>, Condvar)>;

/// What the other end of the terminal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attention {
    Reads,
    /// It reads so many bytes a second, as at the end of a slow line.
    Slow(u32),
    /// It is there and takes nothing: a hanging connection.
    Stalled,
    /// It is gone.
    Gone,
}

type Gate = Arc<(Mutex<Attention>, Condvar)>;

/// The program, running in a terminal of its own.
#[allow(missing_debug_implementations, reason = "nobody prints a terminal")]
pub struct Tty {
    pty: Option<Arc<Pty>>,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    slave: Option<OwnedFd>,
    child: Child,
    shared: Shared,
    gate: Gate,
    reader: Option<JoinHandle<()>>,
    before: Termios,
    spawned_at: Instant,
    home: TempDir,
}

/// How the program ended, and what it left behind.
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Every byte it wrote.
    pub raw: Vec<u8>,
    /// What the terminal shows, scrollback first.
    pub text: String,
    /// What the terminal is left in.
    pub screen: Screen,
    /// The settings of the terminal device before and after.
    pub termios: (Termios, Termios),
}

impl Tty {
    /// Starts the program in a terminal of `columns` x `rows`.
    pub fn start(program: &str, size: (u16, u16), arguments: &[&str]) -> Self {
        Self::start_with(program, size, arguments, &[])
    }

    /// Starts the program with more in its environment, which else has only what every login has.
    pub fn start_with(
        program: &str,
        (columns, rows): (u16, u16),
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let home = TempDir::new().expect("a home");
        let (pty, slave) = open().expect("a pseudo-terminal");
        pty.resize(Size::new(rows, columns)).expect("a size");
        let kept = slave.as_fd().try_clone_to_owned().expect("a second handle of the terminal");
        let before = tcgetattr(&kept).expect("the settings of the terminal");
        let command = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home.path())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .envs(environment.iter().copied())
            .current_dir(home.path());
        let parser = Parser::new(at_least_one(rows), at_least_one(columns), SCROLLBACK);
        let spawned_at = now();
        let shared: Shared = Arc::new((
            Mutex::new(Shown { parser, raw: Vec::new(), inside_frame: false, changed_at: spawned_at }),
            Condvar::new(),
        ));
        let pty = Arc::new(pty);
        let gate: Gate = Arc::new((Mutex::new(Attention::Reads), Condvar::new()));
        let reader = std::thread::spawn({
            let (pty, shared, gate) = (Arc::clone(&pty), Arc::clone(&shared), Arc::clone(&gate));
            move || read(&pty, &shared, &gate)
        });
        let child = command.spawn(slave).expect("the program");
        Self {
            pty: Some(pty),
            slave: Some(kept),
            child,
            shared,
            gate,
            reader: Some(reader),
            before,
            spawned_at,
            home,
        }
    }

    /// The process id of what was started in the terminal.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The program's home and working directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Whether the settings of the terminal device are those it was found with.
    pub fn has_its_first_settings(&self) -> bool {
        let slave = self.slave.as_ref().expect("the terminal is still open");
        tcgetattr(slave).expect("the settings of the terminal") == self.before
    }

    /// From now on nobody takes what the program writes, and there is room for none of it: the first byte waits.
    pub fn stall(&self) {
        self.set(Attention::Stalled);
        let slave = self.slave.as_ref().expect("the terminal is still open");
        // Opened anew: a handle that shares its flags with the program's would make the program's not wait either.
        let mut filler = OpenOptions::new()
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", slave.as_raw_fd()))
            .expect("another handle of the terminal");
        // A reader that waits at the moment still takes what comes first; then nobody does.
        let mut full_since = now();
        while now() - full_since < Duration::from_millis(100) {
            // A terminal shows nothing for NUL.
            match filler.write(&[0; 256]) {
                Ok(_) => full_since = now(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("the terminal cannot be filled: {error}"),
            }
        }
    }

    /// From now on what the program writes is taken at so many bytes a second.
    pub fn slow_down(&self, bytes_per_second: u32) {
        self.set(Attention::Slow(bytes_per_second));
    }

    /// What the program writes is taken again, from the first byte that waits.
    pub fn go_on(&self) -> Instant {
        let at = now();
        self.set(Attention::Reads);
        at
    }

    /// The terminal goes away, as when its window is closed or the connection is lost.
    pub fn hang_up(&mut self) -> Instant {
        self.set(Attention::Gone);
        let slave = self.slave.take().expect("the terminal is still open");
        // A reader that waits for output is woken by some; when it does not wait, nobody needs this to end.
        let waker = std::thread::spawn(move || File::from(slave).write_all(b"\0").ok());
        self.reader.take().expect("a reader").join().expect("the reader");
        let at = now();
        // The last handle of the other end.
        drop(self.pty.take());
        waker.join().expect("the waker");
        at
    }

    /// Waits for the end of the program, and says when it was and with which exit code.
    pub fn ended_at(&mut self, limit: Duration) -> (Instant, Option<i32>) {
        let mut status = None;
        until("the program to end", limit, || {
            status = self.child.try_wait().expect("the program's state");
            status.is_some()
        });
        (now(), status.and_then(|status| status.code()))
    }

    fn set(&self, attention: Attention) {
        *self.gate.0.lock().unwrap_or_else(PoisonError::into_inner) = attention;
        self.gate.1.notify_all();
    }

    fn pty(&self) -> &Pty {
        self.pty.as_ref().expect("the terminal is still there")
    }

    /// When the program was started.
    pub fn spawned_at(&self) -> Instant {
        self.spawned_at
    }

    /// Types.
    pub fn keys(&self, keys: &str) -> Instant {
        let at = now();
        self.pty().write_all(keys.as_bytes()).expect("the program reads its keys");
        at
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.lock().parser.set_size(at_least_one(rows), at_least_one(columns));
        self.pty().resize(Size::new(rows, columns)).expect("a size");
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the program takes a signal");
    }

    /// Waits until the screen is as wanted, and says when its last byte came.
    pub fn wait_for(&mut self, what: &str, limit: Duration, look: impl Fn(&Screen) -> bool) -> Instant {
        let deadline = now() + limit;
        let shared = Arc::clone(&self.shared);
        let mut shown = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if !shown.inside_frame && look(shown.parser.screen()) {
                return shown.changed_at;
            }
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                let contents = shown.parser.screen().contents();
                drop(shown);
                let ended = self.child.try_wait().expect("the program's state");
                panic!("waited {limit:?} in vain for {what}; exit: {ended:?}; the screen is\n{contents}");
            }
            // Woken by every byte; a look from time to time in between costs nothing.
            let pause = left.min(Duration::from_millis(50));
            shown = shared.1.wait_timeout(shown, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the screen holds a text.
    pub fn wait_for_text(&mut self, text: &str) -> Instant {
        self.wait_for(&format!("{text:?}"), PATIENCE, |screen| screen.contents().contains(text))
    }

    /// Waits until the screen holds a text no more.
    pub fn wait_for_no_text(&mut self, text: &str) -> Instant {
        self.wait_for(&format!("{text:?} to go"), PATIENCE, |screen| !screen.contents().contains(text))
    }

    /// What the screen shows.
    pub fn contents(&self) -> String {
        self.look(Screen::contents)
    }

    /// The lines of the screen.
    pub fn rows(&self) -> Vec<String> {
        self.look(rows)
    }

    /// Looks at the screen, between two frames.
    pub fn look<T>(&self, look: impl FnOnce(&Screen) -> T) -> T {
        let whole = self.shared.1.wait_timeout_while(self.lock(), PATIENCE, |shown| shown.inside_frame);
        let (shown, late) = whole.unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "a frame was begun and never finished");
        look(shown.parser.screen())
    }

    /// Every byte that the program has written.
    pub fn raw(&self) -> Vec<u8> {
        self.lock().raw.clone()
    }

    /// How many bytes the program has written, and when the last of them came.
    pub fn written(&self) -> (usize, Instant) {
        let shown = self.lock();
        (shown.raw.len(), shown.changed_at)
    }

    /// Whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the program's state").is_none()
    }

    /// Waits for the end of the program.
    pub fn end(mut self) -> Ended {
        let deadline = now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the program's state") {
                break status;
            }
            assert!(
                now() < deadline,
                "the program does not end; the screen is\n{}",
                self.lock().parser.screen().contents()
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        let after = {
            let slave = self.slave.as_ref().expect("the terminal is still open");
            tcgetattr(slave).expect("the settings of the terminal")
        };
        self.set(Attention::Reads);
        // With the last handle closed the reader gets what is left and comes to its end.
        drop(self.slave.take());
        self.reader.take().expect("a reader").join().expect("the reader");
        let mut shown = self.lock();
        let text = whole_text(&mut shown.parser);
        Ended {
            code: status.code(),
            raw: shown.raw.clone(),
            text,
            screen: shown.parser.screen().clone(),
            termios: (self.before.clone(), after),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // Both do nothing after an end that was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
        self.set(Attention::Gone);
    }
}

/// The lines of a screen, every cell of them.
pub fn rows(screen: &Screen) -> Vec<String> {
    screen.rows(0, screen.size().1.get()).collect()
}

/// Where a text begins on the screen: row and column, in cells.
pub fn find(screen: &Screen, text: &str) -> Option<(u16, u16)> {
    let (rows, columns) = (screen.size().0.get(), screen.size().1.get());
    (0..rows).find_map(|row| {
        (0..columns).find(|column| starts_with(screen, (row, *column), text)).map(|column| (row, column))
    })
}

/// Whether the cells from a place on hold a text.
pub fn starts_with(screen: &Screen, (row, column): (u16, u16), text: &str) -> bool {
    let mut rest = text;
    let mut column = column;
    while !rest.is_empty() {
        let Some(cell) = screen.cell(row, column) else { return false };
        if !cell.is_wide_continuation() {
            let held = if cell.has_contents() { cell.contents() } else { " " };
            match rest.strip_prefix(held) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        column += 1;
    }
    true
}

fn whole_text(parser: &mut Parser) -> String {
    let screen = parser.screen_mut();
    let mut text = Vec::new();
    let height = usize::from(screen.size().0.get());
    let mut back = screen.scrollback_len();
    while back > 0 {
        screen.set_scrollback(back);
        let take = back.min(height);
        text.extend(rows(screen).into_iter().take(take));
        back -= take;
    }
    screen.set_scrollback(0);
    text.extend(rows(screen));
    text.join("\n")
}

/// A slow line is imitated in so many pieces a second.
const PIECES: usize = 20;

fn read(pty: &Pty, shared: &Shared, gate: &Gate) {
    let mut buffer = vec![0; 64 * 1024];
    // EIO is how Linux says that nobody has the terminal open any more.
    let mut room = buffer.len();
    while let Ok(count @ 1..) = (&*pty).read(buffer.get_mut(..room).unwrap_or_default()) {
        let attention = gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = |attention: &mut Attention| *attention == Attention::Stalled;
        let attention = gate.1.wait_while(attention, stalled).unwrap_or_else(PoisonError::into_inner);
        if *attention == Attention::Gone {
            return;
        }
        let slow =
            if let Attention::Slow(bytes_per_second) = *attention { Some(bytes_per_second) } else { None };
        drop(attention);
        room = slow.map_or(buffer.len(), |bytes_per_second| bytes_per_second as usize / PIECES);
        if let Some(bytes_per_second) = slow {
            std::thread::sleep(
                Duration::from_secs(1) * u32::try_from(count).unwrap_or(u32::MAX) / bytes_per_second,
            );
        }
        let at = now();
        let mut shown = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = buffer.get(..count).unwrap_or_default();
        // A mark may be cut in two by the end of a chunk.
        let from = shown.raw.len().saturating_sub(MARK.len());
        shown.raw.extend_from_slice(bytes);
        let recent = shown.raw.get(from..).unwrap_or_default();
        let mark = recent.windows(MARK.len() + 1).rfind(|it| it.starts_with(MARK)).and_then(|it| it.last());
        shown.inside_frame = mark.map_or(shown.inside_frame, |last| *last == b'h');
        shown.parser.process(bytes);
        shown.changed_at = at;
        drop(shown);
        shared.1.notify_all();
    }
}

fn at_least_one(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN)
}
