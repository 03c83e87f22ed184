//! The command line of the real program: what it prints, and how it refuses. A refusal is one clear sentence on
//! standard error with the next step, the exit code of the contract, and a terminal that was not touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dbtriage_lab::{Client, Lab, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use pretty_assertions::assert_eq;
use pty_process::Size;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");
const PATIENCE: Duration = Duration::from_secs(20);

/// What every login has; a test adds to it what it is about.
const ENVIRONMENT: [(&str, &str); 3] =
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("TERM", "xterm-256color"), ("LANG", "C.UTF-8")];

/// A password that occurs nowhere else.
const PASSWORD: &str = "n0t-to-be-s33n";

/// A server on which the role `locked` needs that password.
static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).expect("a lab");
    let file = lab.primary().data.join("pg_hba.conf");
    let before = fs::read_to_string(&file).expect("pg_hba.conf");
    let own = "local all locked scram-sha-256\nhost all locked 127.0.0.1/32 scram-sha-256\n";
    fs::write(&file, format!("{own}{before}")).expect("pg_hba.conf takes two lines");
    let client = lab.primary().client("postgres", "postgres").expect("a client");
    client
        .execute(&format!("CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor"))
        .expect("the role");
    client.execute("SELECT pg_reload_conf()").expect("the new rules");
    // The postmaster takes them up when it gets the signal: not at once.
    until("the new rules to be in force", || lab.primary().client("locked", "postgres").is_err());
    lab
});

#[expect(clippy::disallowed_methods, reason = "deadlines need the clock")]
fn now() -> Instant {
    Instant::now()
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !look() {
        assert!(now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the program did without a terminal.
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run_in(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
    let output = Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .env("HOME", home)
        .envs(environment.iter().copied())
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What the program prints, with success and without a word on standard error.
fn printed(arguments: &[&str]) -> String {
    let home = TempDir::new().unwrap();
    let done = run_in(home.path(), arguments, &[]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    done.stdout
}

/// Arguments, environment, and what the refusal says.
type Mistake = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str]);

/// The same where the arguments are known only when the server runs.
type Failure<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>, Vec<&'a str>);

/// A refusal in one sentence.
fn assert_refused(done: &Done, code: i32, says: &[&str]) {
    assert_eq!(done.code, Some(code), "{}", done.stderr);
    assert_eq!(done.stdout, "", "nothing is written to the terminal");
    assert!(!done.stderr.contains('\x1b'), "no escape sequence: {:?}", done.stderr);
    assert!(done.stderr.starts_with("dbtriage: "), "{:?}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "one line: {:?}", done.stderr);
    for part in says {
        assert!(done.stderr.contains(part), "{:?} says {part:?}", done.stderr);
    }
}

/// The program in a terminal of its own, with its standard error in a file.
struct Tty {
    pty: Arc<pty_process::blocking::Pty>,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    slave: Option<OwnedFd>,
    before: Termios,
    child: Child,
    shown: Arc<Mutex<(vt100::Parser, Vec<u8>)>>,
    reader: Option<JoinHandle<()>>,
    home: TempDir,
}

impl Tty {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let home = TempDir::new().unwrap();
        let (pty, slave) = pty_process::blocking::open().unwrap();
        pty.resize(Size::new(40, 120)).unwrap();
        let kept = slave.as_fd().try_clone_to_owned().unwrap();
        let before = tcgetattr(&kept).unwrap();
        let child = pty_process::blocking::Command::new(PROGRAM)
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .env("HOME", home.path())
            .envs(environment.iter().copied())
            .current_dir(home.path())
            .stderr(Stdio::from(File::create(home.path().join("stderr")).unwrap()))
            .spawn(slave)
            .unwrap();
        let size = |n| NonZeroU16::new(n).unwrap();
        let shown = Arc::new(Mutex::new((vt100::Parser::new(size(40), size(120), 0), Vec::new())));
        let pty = Arc::new(pty);
        let reader = std::thread::spawn({
            let (pty, shown) = (Arc::clone(&pty), Arc::clone(&shown));
            move || {
                let mut buffer = vec![0; 64 * 1024];
                // EIO is how Linux says that nobody has the terminal open any more.
                while let Ok(count @ 1..) = (&*pty).read(&mut buffer) {
                    let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    shown.0.process(&buffer[..count]);
                    shown.1.extend_from_slice(&buffer[..count]);
                }
            }
        });
        Self { pty, slave: Some(kept), before, child, shown, reader: Some(reader), home }
    }

    fn shown(&self) -> MutexGuard<'_, (vt100::Parser, Vec<u8>)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    fn contents(&self) -> String {
        self.shown().0.screen().contents()
    }

    fn wait_for_text(&self, text: &str) {
        let deadline = now() + PATIENCE;
        while !self.contents().contains(text) {
            assert!(now() < deadline, "waited in vain for {text:?}; the screen is\n{}", self.contents());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end: the exit code, everything written to the terminal, and to standard error.
    fn end(mut self) -> Done {
        let mut status = None;
        until("the program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let after = tcgetattr(self.slave.as_ref().unwrap()).unwrap();
        assert_eq!(self.before, after, "the terminal's settings are as before");
        drop(self.slave.take());
        self.reader.take().unwrap().join().unwrap();
        let stdout = String::from_utf8(self.shown().1.clone()).unwrap();
        let stderr = fs::read_to_string(self.home.path().join("stderr")).unwrap();
        Done { code: status.unwrap().code(), stdout, stderr }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // Both do nothing after an end that was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

// === What it prints ===

#[test]
fn help_and_lists_are_as_agreed() {
    insta::assert_snapshot!("help", printed(&["--help"]));
    insta::assert_snapshot!("help_of_snapshot", printed(&["snapshot", "--help"]));
    insta::assert_snapshot!("keys", printed(&["keys"]));
    insta::assert_snapshot!("keys_as_markdown", printed(&["keys", "--format", "markdown"]));
    insta::assert_snapshot!("default_config", printed(&["config", "--default"]));
    insta::assert_snapshot!("themes", printed(&["themes"]));
}

#[test]
fn help_is_asked_for_as_in_psql() {
    assert_eq!(printed(&["-?"]).lines().next(), printed(&["--help"]).lines().next());
    assert_eq!(printed(&["--version"]), format!("dbtriage {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn manual_and_completions_are_about_this_program() {
    let man = printed(&["man"]);
    assert!(man.contains(".TH dbtriage") && man.contains("PGHOST"), "{man}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("dbtriage") && script.contains("snapshot"), "{shell}: {script}");
    }
}

#[test]
fn the_default_config_is_a_config() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("config.toml");
    fs::write(&file, printed(&["config", "--default"])).unwrap();
    let done = run_in(home.path(), &["config", "--check", "--config", file.to_str().unwrap()], &[]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(done.stdout, format!("{}: nothing wrong\n", file.display()));
}

// === What was asked for cannot be: 2 ===

#[test]
fn a_mistake_in_what_was_asked_for_is_told_in_one_sentence() {
    let cases: &[Mistake] = &[
        (&["shopp"], &[], &["unknown target \"shopp\"", "give postgres://", "with -d"]),
        (&["--theme", "drak"], &[], &["unknown theme \"drak\"", "did you mean \"dark\"?"]),
        (&["--interval", "0.1s"], &[], &["interval \"0.1s\" is not a time from 0.5s to 60s: write"]),
        (&["--interval", "61s"], &[], &["interval \"61s\" is not a time from 0.5s to 60s: write"]),
        (&["--interval", "often"], &[], &["interval \"often\" is not a time from 0.5s to 60s: write"]),
        (&["-p", "70000"], &[], &["port \"70000\" is not a number from 1 to 65535"]),
        (&["host=a colour=red"], &[], &["unknown connection parameter \"colour\""]),
        (&[], &[("PGSSLMODE", "nonsense")], &["sslmode \"nonsense\" is not known: use one of disable,"]),
        (&["host=a sslmode=nonsense"], &[], &["sslmode \"nonsense\" is not known: use one of disable,"]),
        (&["postgres://a/b?sslmode=nonsense"], &[], &["sslmode \"nonsense\" is not known: use one of"]),
        (&[], &[("PGSERVICE", "shop")], &["service \"shop\" is not defined", "add a section [shop]"]),
        (&["service=shop"], &[], &["service \"shop\" is not defined", "add a section [shop]"]),
        (&["--redis", "http://cache"], &[], &["a Redis URL cannot be read", "write redis://"]),
        (&[], &[("TERM", "dumb")], &["a terminal", "dbtriage snapshot prints a report"]),
    ];
    let home = TempDir::new().unwrap();
    for (arguments, environment, says) in cases {
        assert_refused(&run_in(home.path(), arguments, environment), 2, says);
    }
}

#[test]
fn an_unknown_option_is_answered_with_the_nearest() {
    let home = TempDir::new().unwrap();
    let done = run_in(home.path(), &["--hots", "a"], &[]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.starts_with("error: unexpected argument '--hots' found"), "{}", done.stderr);
    assert!(done.stderr.contains("'--host'") && done.stderr.contains("try '--help'"), "{}", done.stderr);
    assert!(!done.stderr.contains('\x1b'), "no colour where it goes to no terminal");
}

#[test]
fn a_mistake_in_the_config_is_told_with_file_line_and_nearest_name() {
    let cases: &[(&str, &[&str])] = &[
        ("\nintervall = \"1s\"\n", &["line 2", "unknown key \"intervall\"", "did you mean \"interval\"?"]),
        ("interval = 1s", &["line 1"]),
        ("theme = \"drak\"\n", &["unknown theme \"drak\"", "did you mean \"dark\"?"]),
        ("interval = \"1h\"\n", &["interval \"1h\" is not a time from 0.5s to 60s"]),
        ("[keys]\nterminat = [\"T\"]\n", &["no command \"terminat\"", "did you mean \"terminate\"?"]),
        ("[keys]\nterminate = [\"y\"]\n", &["y only ever answers a question"]),
        ("[columns]\nactivity = [\"pdi\"]\n", &["no column \"pdi\"", "did you mean \"pid\"?"]),
    ];
    for (text, says) in cases {
        let home = TempDir::new().unwrap();
        let folder = home.path().join(".config/dbtriage");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), text).unwrap();
        let done = run_in(home.path(), &[], &[]);
        assert_refused(&done, 2, says);
        if text.contains("intervall") {
            assert!(done.stderr.contains(".config/dbtriage/config.toml"), "{}", done.stderr);
        }
    }
    let home = TempDir::new().unwrap();
    let done = run_in(home.path(), &["--config", "/nonexistent/config.toml"], &[]);
    assert_refused(&done, 2, &["cannot read the config file /nonexistent/config.toml"]);
}

#[test]
fn a_profile_is_found_by_name_or_the_nearest_is_named() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("config.toml");
    fs::write(&file, "[profiles.shop]\npostgres = [\"host=a\"]\n").unwrap();
    let done = run_in(home.path(), &["--config", file.to_str().unwrap(), "shpo"], &[]);
    assert_refused(&done, 2, &["unknown target \"shpo\"", "did you mean \"shop\"?"]);
}

#[test]
fn what_is_no_service_file_is_called_so_and_not_repeated() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("services");
    fs::write(&file, format!("[shop]\nhost=a\n{PASSWORD}\n")).unwrap();
    let environment = [("PGSERVICE", "other"), ("PGSERVICEFILE", file.to_str().unwrap())];
    let done = run_in(home.path(), &[], &environment);
    assert_refused(&done, 2, &["services is not a service file: line 3 is neither [name] nor keyword=value"]);
    assert!(!done.stderr.contains(PASSWORD), "a line may hold a password");
    fs::write(&file, [0x7f, b'E', b'L', b'F', 0xff, 0xfe]).unwrap();
    assert_refused(&run_in(home.path(), &[], &environment), 2, &["cannot read the service file"]);
}

#[test]
fn without_a_terminal_the_way_to_a_report_is_told() {
    let home = TempDir::new().unwrap();
    let done = run_in(home.path(), &["-h", "127.0.0.1"], &[]);
    assert_refused(&done, 2, &["the screen needs a terminal; dbtriage snapshot prints a report without one"]);
}

// === No server to be had: 3 ===

#[test]
fn a_server_that_cannot_be_had_is_told_in_one_sentence() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let own = LAB.primary().port.to_string();
    let there: [&str; 4] = ["-h", "127.0.0.1", "-p", &own];
    let with =
        |more: &[&'static str]| -> Vec<&str> { there.iter().copied().chain(more.iter().copied()).collect() };
    let wrong = "wr0ng-and-secret";
    let cases: Vec<Failure<'_>> = vec![
        (
            vec!["-h", "127.0.0.1", "-p", &port],
            vec![],
            vec!["Connection refused", "is the server running there?"],
        ),
        (
            vec!["-h", "/nonexistent"],
            vec![],
            vec!["No such file or directory", "is the server running there?"],
        ),
        (
            vec!["-h", "no-such-host.invalid"],
            vec![],
            vec!["cannot connect to no-such-host.invalid:5432", "check the host name (-h, PGHOST)"],
        ),
        (
            with(&["-U", "locked", "-d", "postgres"]),
            vec![("PGPASSWORD", wrong)],
            vec!["password authentication failed for user \"locked\"", "-W asks for it"],
        ),
        (
            with(&["-U", "locked", "-d", "postgres", "-w"]),
            vec![],
            vec!["asks for the password of \"locked\", and none is known", "leave out -w to be asked"],
        ),
        (
            with(&["-U", "oncall", "-d", "shop"]),
            vec![("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", "system")],
            vec!["does not offer TLS", "use sslmode=prefer"],
        ),
        (
            with(&["-U", "oncall", "-d", "shop"]),
            vec![("PGSSLMODE", "verify-full")],
            vec!["no root certificate is known", "sslrootcert=FILE"],
        ),
        (
            with(&["-U", "oncall", "-d", "nope"]),
            vec![],
            vec!["database \"nope\" does not exist", "-d or PGDATABASE"],
        ),
        (with(&["-U", "nope", "-d", "shop"]), vec![], vec!["role \"nope\" does not exist", "-U, PGUSER"]),
    ];
    for (arguments, environment, says) in cases {
        let done = Tty::start(&arguments, &environment).end();
        assert_refused(&done, 3, &says);
        assert!(!done.stderr.contains(wrong), "{}", done.stderr);
    }
}

#[test]
fn with_wait_the_screen_opens_all_the_same() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let tty = Tty::start(&["-h", "127.0.0.1", "-p", &port, "--wait"], &[]);
    tty.wait_for_text("unreachable for");
    tty.wait_for_text("Connection refused");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

#[test]
fn with_every_connection_taken_the_screen_opens_and_gets_in_later() {
    let options = Options { standby: false, redis: false, max_connections: 10, ..Options::default() };
    let lab = Lab::start(options).unwrap();
    let mut taken: Vec<Client> = Vec::new();
    while let Ok(client) = lab.primary().client("oncall", "shop") {
        taken.push(client);
        assert!(taken.len() <= 10);
    }
    assert!(taken.len() > 4, "only {} connections could be taken", taken.len());
    let tty = Tty::start(&[&lab.primary().uri("oncall", "shop")], &[]);
    tty.wait_for_text("remaining connection slots are reserved");
    tty.wait_for_text("trying again");
    taken.clear();
    tty.wait_for_text("● live");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

// === A password is asked for ===

fn asks(more: &[&str]) -> Tty {
    let port = LAB.primary().port.to_string();
    let mut arguments = vec!["-h", "127.0.0.1", "-p", &port, "-U", "locked", "-d", "postgres"];
    arguments.extend(more);
    let tty = Tty::start(&arguments, &[]);
    tty.wait_for_text("Password for user locked on 127.0.0.1:");
    tty
}

#[test]
fn a_password_is_asked_for_and_shown_nowhere() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let tty = asks(&["--log", log.to_str().unwrap()]);
    tty.keys(&format!("{PASSWORD}\r"));
    tty.wait_for_text("● live");
    tty.wait_for_text("as locked");
    // Thrown out, it comes back by itself: the password is kept, and the log has something to tell.
    let second = LAB.primary().client("postgres", "postgres").unwrap();
    let own = "FROM pg_stat_activity WHERE usename = 'locked'";
    let count = format!("SELECT count(*) {own} AND application_name = 'dbtriage'");
    until("all three connections", || second.cell(&count).unwrap() == "3");
    second.execute(&format!("SELECT pg_terminate_backend(pid) {own}")).unwrap();
    let logged = || fs::read_to_string(&log).unwrap();
    until("the loss to be logged", || logged().contains("connection lost"));
    until("all three connections to be back", || second.cell(&count).unwrap() == "3");
    tty.wait_for_text("● live");
    tty.keys("q");
    let done = tty.end();
    assert_eq!(done.code, Some(0));
    let logged = logged();
    for text in [&done.stdout, &done.stderr, &logged] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read the log");
}

#[test]
fn a_wrong_password_typed_is_refused_and_shown_nowhere() {
    for more in [&[][..], &["-W"]] {
        let tty = asks(more);
        tty.keys("wr0ng-and-secret\r");
        let done = tty.end();
        assert_eq!(done.code, Some(3));
        assert!(
            done.stderr.contains("password authentication failed for user \"locked\""),
            "{}",
            done.stderr
        );
        assert!(!done.stderr.contains("wr0ng") && !done.stdout.contains("wr0ng"), "{}", done.stdout);
        assert!(!done.stdout.contains('\x1b'), "the screen never opened: {:?}", done.stdout);
    }
}

#[test]
fn asking_for_a_password_can_be_interrupted() {
    for more in [&[][..], &["-W"]] {
        let tty = asks(more);
        tty.keys("half\x03");
        let done = tty.end();
        assert_eq!(done.code, Some(130), "Ctrl-C with {more:?}: {}", done.stderr);
        assert!(!done.stdout.contains("half") && !done.stdout.contains('\x1b'), "{:?}", done.stdout);
    }
}

#[test]
fn a_signal_ends_the_program_while_it_asks_for_a_password() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let tty = asks(&[]);
        tty.signal(signal);
        assert_eq!(tty.end().code, Some(code), "{signal}");
    }
}
