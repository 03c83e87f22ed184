//! What must not leave the program, and what must not come in through it: a password is nowhere but where its owner
//! has put it, a literal of a query is in no log and under privacy on no screen, and what a server's text tries on a
//! terminal stays without effect, whatever way it takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use dbtriage_lab::terminal::{Ended, PATIENCE, Tty, rows, until};
use dbtriage_lab::{Client, Lab, Options, Running};
use pretty_assertions::assert_eq;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");
const WIDE: (u16, u16) = (200, 50);

/// How long a question is deaf after it has opened, with a little more for the program to read the key.
const DEAF: Duration = Duration::from_millis(400);

/// A password that occurs nowhere else, and one that is wrong.
const PASSWORD: &str = "n0t-to-be-s33n";
const WRONG: &str = "wr0ng-and-secret";

/// What is said when others can read a password.
const WARNING: &str = "a password on the command line can be read by every user of this machine";

/// Servers on which the role `locked`, and the user `locked` of Redis, need that password.
static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::start(Options { standby: false, ..Options::default() }).expect("a lab");
    let file = lab.primary().data.join("pg_hba.conf");
    let before = fs::read_to_string(&file).expect("pg_hba.conf");
    let own = "local all locked scram-sha-256\nhost all locked 127.0.0.1/32 scram-sha-256\n";
    fs::write(&file, format!("{own}{before}")).expect("pg_hba.conf takes two lines");
    let client = lab.primary().client("postgres", "postgres").expect("a client");
    client
        // Else pg_stat_statements would keep the password in the text of the statement, for everybody to read.
        .execute("SET pg_stat_statements.track_utility = off; SET password_encryption = 'scram-sha-256'")
        .expect("a superuser");
    client
        .execute(&format!("CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor"))
        .expect("the role");
    client.execute("SELECT pg_reload_conf()").expect("the new rules");
    // The postmaster takes them up when it gets the signal: not at once.
    until("the new rules to be in force", PATIENCE, || lab.primary().client("locked", "postgres").is_err());
    let rule = ["ACL", "SETUSER", "locked", "on", &format!(">{PASSWORD}"), "~*", "+@all"];
    lab.redis().expect("Redis").command(&rule).expect("the user of Redis");
    lab
});

/// What a test adds to what every login has.
type Environment = Vec<(String, String)>;

/// One test at a time: they share servers, and end connections by their role.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn admin() -> Client {
    LAB.primary().client("postgres", "shop").expect("a second client")
}

/// The program without a terminal.
fn run(home: &Path, arguments: &[String], environment: &[(String, String)]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", home)
        .envs(environment.iter().cloned())
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn start(arguments: &[String], environment: &[(String, String)]) -> Tty {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Tty::start_with(PROGRAM, WIDE, &arguments, &environment)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A text occurs nowhere in what left the program.
fn assert_nowhere(secret: &str, when: &str, places: &[(&str, &[u8])]) {
    for (place, bytes) in places {
        let found = bytes.windows(secret.len()).position(|it| it == secret.as_bytes());
        let around = found.map(|at| bytes[at.saturating_sub(80)..bytes.len().min(at + 80)].escape_ascii());
        assert!(around.is_none(), "{when}: {secret} is in {place}: {}", around.unwrap());
    }
}

// === Passwords ===

/// The ways in which a password reaches the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Environment,
    PasswordFile,
    Url,
    ConnectionString,
    Typed,
}

const WAYS: [Way; 5] = [Way::Environment, Way::PasswordFile, Way::Url, Way::ConnectionString, Way::Typed];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    WrongPassword,
    Unreachable,
    TlsRefused,
    ConnectionsKilled,
    Panic,
}

/// One start of the program with a password.
struct Attempt {
    way: Way,
    fault: Fault,
    password: &'static str,
    folder: TempDir,
    arguments: Vec<String>,
    environment: Environment,
}

impl Attempt {
    fn new(way: Way, fault: Fault) -> Self {
        let folder = TempDir::new().unwrap();
        let password = if fault == Fault::WrongPassword { WRONG } else { PASSWORD };
        // Nobody listens on port 1.
        let port = if fault == Fault::Unreachable { 1 } else { LAB.primary().port };
        let sslmode = if fault == Fault::TlsRefused { "require" } else { "prefer" };
        let mut arguments = match way {
            Way::Url => vec![format!("postgres://locked:{password}@127.0.0.1:{port}/shop")],
            Way::ConnectionString => {
                vec![format!("host=127.0.0.1 port={port} user=locked dbname=shop password={password}")]
            }
            Way::Environment | Way::PasswordFile | Way::Typed => {
                vec![format!("host=127.0.0.1 port={port} user=locked dbname=shop")]
            }
        };
        if way == Way::Typed {
            arguments.push("-W".into());
        }
        let mut environment = vec![("PGSSLMODE".to_owned(), sslmode.to_owned())];
        if way == Way::Environment {
            environment.push(("PGPASSWORD".into(), password.into()));
        }
        if way == Way::PasswordFile {
            let file = folder.path().join(".pgpass");
            fs::write(&file, format!("127.0.0.1:*:*:locked:{password}\n")).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            environment.push(("HOME".into(), folder.path().display().to_string()));
        }
        if fault == Fault::Panic {
            environment.push(("DBTRIAGE_TEST_PANIC".into(), "draw".into()));
        }
        let mut attempt = Self { way, fault, password, folder, arguments, environment };
        attempt.arguments.extend(["--log".to_owned(), attempt.log_file().display().to_string()]);
        attempt
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("incident.log")
    }

    fn when(&self) -> String {
        format!("{:?} by {:?}", self.fault, self.way)
    }

    fn is_warned_about(&self) -> bool {
        matches!(self.way, Way::Url | Way::ConnectionString)
    }

    /// The screen, from its start to the end that this fault makes.
    fn on_the_screen(&self) {
        let mut tty = start(&self.arguments, &self.environment);
        if self.way == Way::Typed {
            tty.wait_for_text("Password for user locked");
            // What is typed before is thrown away.
            until("the terminal to be silent", PATIENCE, || !tty.has_its_first_settings());
            tty.keys(&format!("{}\r", self.password));
        }
        let expected = match self.fault {
            Fault::ConnectionsKilled => {
                lose_connections(&mut tty, &self.log_file());
                let shown = fs::read_to_string(format!("/proc/{}/cmdline", tty.pid())).unwrap();
                let typed = [&[PROGRAM.to_owned()], self.arguments.as_slice()].concat();
                assert_eq!(shown.split_terminator('\0').collect::<Vec<_>>(), typed, "{}", self.when());
                tty.keys("q");
                0
            }
            Fault::Panic => 101,
            Fault::WrongPassword | Fault::Unreachable | Fault::TlsRefused => 3,
        };
        let (_, code) = tty.ended_at(Duration::from_secs(10));
        let ended = tty.end();
        assert_eq!(code, Some(expected), "{}: {}", self.when(), ended.text);
        let log = fs::read(self.log_file()).unwrap();
        assert_nowhere(self.password, &self.when(), &[("the terminal", &ended.raw), ("the log", &log)]);
        let told = ended.text.replace('\n', "");
        assert_eq!(told.contains(WARNING), self.is_warned_about(), "{}: {}", self.when(), ended.text);
    }

    /// A report of the same.
    fn in_a_report(&self) {
        for format in ["json", "text"] {
            let mut arguments = words(&["snapshot", "--ticks", "1", "--format", format]);
            arguments.extend(self.arguments.clone());
            let output = run(self.folder.path(), &arguments, &self.environment);
            let places: [(&str, &[u8]); 3] = [
                ("standard output", &output.stdout),
                ("standard error", &output.stderr),
                ("the log", &fs::read(self.log_file()).unwrap()),
            ];
            assert_nowhere(self.password, &format!("{} as {format}", self.when()), &places);
            let expected = if self.fault == Fault::ConnectionsKilled { 0 } else { 3 };
            let told = String::from_utf8(output.stderr.clone()).unwrap();
            assert_eq!(output.status.code(), Some(expected), "{}: {told}", self.when());
            assert_eq!(told.contains(WARNING), self.is_warned_about(), "{}: {told}", self.when());
        }
    }
}

/// Ends every connection of the role on the server; all come back by the password that is kept.
fn lose_connections(tty: &mut Tty, log: &Path) {
    let second = admin();
    tty.wait_for_text("● live");
    let own = "FROM pg_stat_get_activity(NULL) AS a, pg_authid AS r WHERE a.usesysid = r.oid AND rolname = 'locked'";
    let there = || {
        let pids = second.rows(&format!("SELECT a.pid {own}")).unwrap();
        pids.into_iter().flatten().flatten().collect::<Vec<String>>()
    };
    until("all three connections", PATIENCE, || there().len() == 3);
    let before = there();
    second.execute(&format!("SELECT pg_terminate_backend(a.pid) {own}")).unwrap();
    until("the loss to be logged", PATIENCE, || fs::read_to_string(log).unwrap().contains("connection lost"));
    until("three other connections", PATIENCE, || {
        let now = there();
        now.len() == 3 && !now.iter().any(|pid| before.contains(pid))
    });
    tty.wait_for_text("● live");
}

#[test]
fn a_password_is_seen_nowhere_whatever_fails() {
    let _turn = turn();
    let faults = [Fault::WrongPassword, Fault::Unreachable, Fault::TlsRefused, Fault::ConnectionsKilled];
    for way in WAYS {
        for fault in faults {
            let attempt = Attempt::new(way, fault);
            attempt.on_the_screen();
            // It asks on the terminal, which a report may lack.
            if way != Way::Typed {
                attempt.in_a_report();
            }
        }
    }
}

#[test]
fn the_terminal_is_silent_before_a_password_is_asked_for() {
    // A password manager types at once: what comes before is shown, and thrown away.
    for _ in 0..40 {
        let arguments = ["host=127.0.0.1 port=1 user=locked dbname=shop", "-W"];
        let mut tty = start(&words(&arguments), &[]);
        tty.wait_for("the question", PATIENCE, |screen| screen.contents().contains("Password for user"));
        assert!(!tty.has_its_first_settings(), "it asks while the terminal still shows what is typed");
        tty.keys("\x03");
        assert_eq!(tty.ended_at(PATIENCE).1, Some(130));
    }
}

#[test]
fn a_password_is_seen_nowhere_when_the_program_fails() {
    let _turn = turn();
    for way in WAYS {
        Attempt::new(way, Fault::Panic).on_the_screen();
    }
}

#[test]
fn a_password_of_redis_is_seen_nowhere_whatever_fails() {
    let _turn = turn();
    let redis = LAB.redis().unwrap();
    for password in [PASSWORD, WRONG] {
        for port in [redis.port, 1] {
            let folder = TempDir::new().unwrap();
            let (config, log) = (folder.path().join("config.toml"), folder.path().join("incident.log"));
            let without = format!("redis://locked@127.0.0.1:{port}");
            let with = format!("redis://locked:{password}@127.0.0.1:{port}");
            let profile = format!(
                "[profiles.cache]\nredis = [\"{without}\"]\nredis_password = \"{password}\"\n\n[profiles.whole]\nredis = [\"{with}\"]\n"
            );
            fs::write(&config, profile).unwrap();
            let by_environment = vec![("REDISCLI_AUTH".to_owned(), password.to_owned())];
            let ways: [(&str, &str, Environment); 4] = [
                ("a URL", &with, vec![]),
                ("REDISCLI_AUTH", &without, by_environment),
                ("redis_password", "cache", vec![]),
                ("a URL of a profile", "whole", vec![]),
            ];
            for (way, target, environment) in ways {
                let when = format!("{way}, {password} at port {port}");
                let own = [target, "--config", config.to_str().unwrap(), "--log", log.to_str().unwrap()];
                let works = password == PASSWORD && port != 1;
                let mut tty = start(&words(&own), &environment);
                let command_line = fs::read(format!("/proc/{}/cmdline", tty.pid())).unwrap_or_default();
                if works {
                    tty.wait_for_text("● live");
                    redis.command(&["CLIENT", "KILL", "USER", "locked"]).unwrap();
                    tty.wait_for_text("● live");
                    tty.keys("q");
                }
                let (_, code) = tty.ended_at(Duration::from_secs(10));
                let ended = tty.end();
                assert_eq!(code, Some(if works { 0 } else { 3 }), "{when}: {}", ended.text);
                assert_eq!(
                    ended.text.replace('\n', "").contains(WARNING),
                    way == "a URL",
                    "{when}: {}",
                    ended.text
                );
                if way != "a URL" {
                    assert_nowhere(password, &when, &[("the command line", &command_line)]);
                }
                let mut report = words(&["snapshot", "--ticks", "1", "--format", "json"]);
                report.extend(words(&own));
                let output = run(folder.path(), &report, &environment);
                assert_eq!(output.status.code(), Some(if works { 0 } else { 3 }), "{when}");
                let places: [(&str, &[u8]); 4] = [
                    ("the terminal", &ended.raw),
                    ("the log", &fs::read(&log).unwrap()),
                    ("the report", &output.stdout),
                    ("standard error", &output.stderr),
                ];
                assert_nowhere(password, &when, &places);
            }
        }
    }
}

#[test]
fn the_configuration_is_shown_without_its_passwords() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    let text = format!(
        "[profiles.shop]\n\
         postgres = [\"postgres://u:{PASSWORD}@a/d\", \"host=b password={PASSWORD}\", \
         \"host=c PASSWORD = '{PASSWORD}'\", \"postgres://u@d/e?password={PASSWORD}\", \
         \"postgres:///e?host=/run&user=u&password={PASSWORD}\", \"host=plain dbname=seen\"]\n\
         redis = [\"redis://:{PASSWORD}@f\", \"rediss://u:{PASSWORD}@g:1\", \
         \"redis+unix:///run/r?pass={PASSWORD}\", \"unix:///run/r?user=u&pass={PASSWORD}\"]\n\
         redis_password = \"{PASSWORD}\"\n"
    );
    fs::write(&file, text).unwrap();
    let shown = run(folder.path(), &words(&["config", "--show", "--config", file.to_str().unwrap()]), &[]);
    let places: [(&str, &[u8]); 2] = [("standard output", &shown.stdout), ("standard error", &shown.stderr)];
    assert_nowhere(PASSWORD, "config --show", &places);
    // What is no secret is shown.
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("host=plain dbname=seen"), "{shown}");
}

#[test]
fn a_mistake_in_the_configuration_is_told_without_its_passwords() {
    let mistakes = [
        format!("[profiles.shop]\npostgres = \"host=a password={PASSWORD}\"\n"),
        format!("[profiles.shop]\nredis = \"redis://:{PASSWORD}@cache\"\n"),
        format!("[profiles.shop]\nredis_password = {PASSWORD}\n"),
        format!("[profiles.shop]\nredis_password = [\"{PASSWORD}\"]\n"),
        // A number is a password too.
        "[profiles.shop]\nredis_password = 987654321\n".to_owned(),
        format!("[profiles.shop]\nredis_pasword = \"{PASSWORD}\"\n"),
        format!("[profiles.shop]\nredis_password = \"{PASSWORD}\nredis = []\n"),
        format!("[profiles]\nshop = \"postgres://u:{PASSWORD}@a/d\"\n"),
        format!("profiles = \"postgres://u:{PASSWORD}@a/d\"\n"),
        format!("[profiles.shop]\npostgres = [\"host=a passwort={PASSWORD}\"]\n"),
        format!("[profiles.shop]\npostgres = [\"postgres://u:{PASSWORD}@a:x/d\"]\n"),
        format!("[profiles.shop]\nredis = [\"http://u:{PASSWORD}@a\"]\n"),
        format!("[profiles.shop]\nredis = [\"redis://u:{PASSWORD}@a:x\"]\n"),
    ];
    let mut leaks = Vec::new();
    for mistake in &mistakes {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, mistake).unwrap();
        for command in
            [&["config", "--check"][..], &["config", "--show"], &["snapshot", "--ticks", "1", "shop"]]
        {
            let mut arguments = words(command);
            arguments.extend(words(&["--config", file.to_str().unwrap()]));
            let output = run(folder.path(), &arguments, &[]);
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            if told.contains(PASSWORD) || told.contains("987654321") {
                leaks.push(format!("{mistake}    {command:?}: {told}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[test]
fn a_mistake_in_a_target_is_told_without_its_password() {
    let mistakes = [
        format!("postgres://locked:{PASSWORD}@127.0.0.1:x/shop"),
        format!("postgres://locked:{PASSWORD}@127.0.0.1/shop?colour=red"),
        format!("postgre://locked:{PASSWORD}@127.0.0.1/shop"),
        format!("postgres:/locked:{PASSWORD}@127.0.0.1/shop"),
        format!("host=127.0.0.1 passwort={PASSWORD}"),
        format!("host=127.0.0.1 password='{PASSWORD}"),
        // A blank, a slash, a percent sign or an at sign that belongs to the password.
        format!("host=127.0.0.1 password=one {PASSWORD}"),
        format!("postgres://locked:{PASSWORD}/more@127.0.0.1/shop"),
        format!("postgres://locked:%zz{PASSWORD}@127.0.0.1/shop"),
        format!("postgres://locked:one@{PASSWORD}@127.0.0.1:1/shop"),
        format!("redis://:{PASSWORD}@127.0.0.1:x"),
        format!("redis://:{PASSWORD}/more@127.0.0.1:1"),
        format!("redis://:one@{PASSWORD}@127.0.0.1:1"),
        format!("redi://:{PASSWORD}@127.0.0.1"),
    ];
    let home = TempDir::new().unwrap();
    let mut leaks = Vec::new();
    for mistake in &mistakes {
        let output = run(home.path(), &words(&["snapshot", "--ticks", "1", mistake]), &[]);
        assert_ne!(output.status.code(), Some(0), "{mistake}");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        if told.contains(PASSWORD) {
            leaks.push(format!("{mistake}\n    {told}"));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

// === Literals of queries ===

const LITERALS: [&str; 3] = ["secret-4242", "987654321", "dollar-4242"];

/// Two sessions, one waiting for the other, with literals in everything they have said.
struct Spoken {
    root: Client,
    waiter: Client,
    _waiting: Running,
}

impl Spoken {
    fn start() -> Self {
        // The waiter of an earlier test does not see that its client has gone while it waits, and may be woken too late.
        let second = admin();
        let earlier = "FROM pg_stat_activity WHERE application_name LIKE 'spoken-%'";
        second.execute(&format!("SELECT pg_terminate_backend(pid) {earlier}")).unwrap();
        let count = format!("SELECT count(*) {earlier}");
        until("the sessions of an earlier test to go", PATIENCE, || second.cell(&count).unwrap() == "0");
        let login = |name| LAB.primary().client_as("shop_owner", "shop", name).unwrap();
        let (root, waiter) = (login("spoken-root"), login("spoken-waiter"));
        // A utility statement stands in pg_stat_statements as it was written.
        root.execute("COMMENT ON TABLE orders IS 'secret-4242 and 987654321'").unwrap();
        let update = "UPDATE reports AS t1 SET status = 'secret-4242', payload = $tag$dollar-4242$tag$ \
                      WHERE t1.\"id\" = 1 AND t1.customer_id <> 987654321";
        root.execute("BEGIN").unwrap();
        root.execute(update).unwrap();
        let waiting = waiter.spawn(update);
        let waits = format!(
            "SELECT count(*) FROM pg_stat_get_activity({}) WHERE wait_event_type = 'Lock'",
            waiter.pid()
        );
        until("the waiter to wait", PATIENCE, || second.cell(&waits).unwrap() == "1");
        Self { root, waiter, _waiting: waiting }
    }
}

/// Opens the screen, one pane on all of it.
fn open(more: &[&str]) -> Tty {
    let mut arguments = vec![LAB.primary().uri("oncall", "shop")];
    arguments.extend(words(more));
    let mut tty = start(&arguments, &[]);
    tty.wait_for_text("● live");
    tty.wait_for_text("1 root · 1 blocked");
    tty.keys("z");
    tty.wait_for_text("1 Activity  2 Locks");
    tty
}

/// Goes to the row that begins with a text, one pane being on all of the screen.
fn select(tty: &mut Tty, text: &str) {
    tty.wait_for_text(text);
    loop {
        let before = tty.rows();
        let of_list = |row: &String| row.trim_start_matches(|c| "> ▼├└".contains(c)).starts_with(text);
        let wanted = before.iter().position(of_list).unwrap_or_else(|| panic!("no row begins with {text}"));
        let place = selected(&before).expect("a row is selected");
        if place == wanted {
            return;
        }
        tty.keys(if place < wanted { "j" } else { "k" });
        tty.wait_for("another row to be selected", PATIENCE, |screen| selected(&rows(screen)) != Some(place));
    }
}

fn selected(rows: &[String]) -> Option<usize> {
    rows.iter().position(|row| row.starts_with('>'))
}

/// Goes wherever a statement is shown: lists, details, the question.
fn look_everywhere(tty: &mut Tty, spoken: &Spoken) {
    for (pane, appears) in [("1", "application"), ("2", "state · wants"), ("3", "time/s")] {
        tty.keys(pane);
        tty.wait_for_text(appears);
        if pane == "3" {
            tty.wait_for_text("COMMENT ON TABLE orders");
        } else {
            tty.wait_for_text("UPDATE reports AS t1 SET status");
        }
        for _ in 0..2 {
            tty.keys("\r");
            tty.wait_for_text("Esc closes");
            tty.keys("\x7f");
            tty.wait_for_no_text("Esc closes");
            tty.keys("j");
        }
    }
    tty.keys("2");
    tty.wait_for_text("state · wants");
    select(tty, &spoken.root.pid().to_string());
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {} ?", spoken.root.pid()));
    sleep(DEAF);
    tty.keys("n");
    tty.wait_for_no_text("Terminate");
    tty.keys("\x0c");
    tty.wait_for_text("state · wants");
    tty.keys("1");
    tty.wait_for_text("application");
}

fn assert_no_literal(when: &str, places: &[(&str, &[u8])]) {
    for literal in LITERALS {
        assert_nowhere(literal, when, places);
    }
}

/// The header says that literals are masked.
fn is_masked(tty: &Tty) -> bool {
    tty.rows().iter().take(2).any(|row| row.contains("masked"))
}

#[test]
fn literals_are_seen_unless_privacy_is_asked_for() {
    let _turn = turn();
    let spoken = Spoken::start();
    let mut tty = open(&[]);
    tty.wait_for_text("status = 'secret-4242'");
    assert!(!is_masked(&tty));
    look_everywhere(&mut tty, &spoken);
    let raw = tty.raw();
    for literal in LITERALS {
        assert!(raw.windows(literal.len()).any(|it| it == literal.as_bytes()), "{literal} can be seen");
    }
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

/// Somebody gives a role a password in plain text: whoever looks on, in a shared session, need not learn it.
#[test]
fn the_password_of_a_statement_is_seen_nowhere() {
    let _turn = turn();
    let (admin, role) = (admin(), "ALTER ROLE shop_owner PASSWORD 'plain-4242'");
    let session = LAB.primary().client_as("postgres", "shop", "careless").unwrap();
    // Also in pg_stat_statements, where a utility statement stands as it was written.
    session.execute(&format!("BEGIN; {role}")).unwrap();
    session.execute(&format!("{role} ; /* and nothing after it */")).unwrap();
    let mut tty = start(&[LAB.primary().uri("oncall", "shop")], &[]);
    tty.wait_for_text("● live");
    tty.keys("1z");
    tty.wait_for_text("ALTER ROLE shop_owner PASSWORD ?");
    tty.keys("3");
    tty.wait_for_text("ALTER ROLE shop_owner PASSWORD ?");
    let report = Command::new(PROGRAM)
        .args(["snapshot", "--format", "json", &LAB.primary().uri("oncall", "shop")])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&report.stdout).contains("PASSWORD ?"));
    assert_nowhere("plain-4242", "while it is set", &[("the report", &report.stdout)]);
    tty.keys("Q");
    let ended = tty.end();
    assert_nowhere("plain-4242", "while it is set", &[("the terminal", &ended.raw)]);
    session.execute("ROLLBACK").unwrap();
    admin.execute("SELECT pg_stat_statements_reset()").unwrap();
}

#[test]
fn with_ctrl_o_no_literal_is_written_to_the_terminal() {
    let _turn = turn();
    let spoken = Spoken::start();
    let mut tty = open(&[]);
    tty.wait_for_text("status = 'secret-4242'");
    tty.keys("\x0f");
    tty.wait_for("the header to say so", Duration::from_secs(5), |screen| {
        rows(screen).iter().take(2).any(|row| row.contains("masked"))
    });
    assert_no_literal("right after the key", &[("the screen", tty.contents().as_bytes())]);
    let from = tty.written().0;
    look_everywhere(&mut tty, &spoken);
    // What is no literal stays.
    tty.wait_for_text("UPDATE reports AS t1 SET status = ?");
    assert_no_literal("after Ctrl-O", &[("the terminal", &tty.raw()[from..])]);

    tty.keys("\x0f");
    tty.wait_for_text("status = 'secret-4242'");
    assert!(!is_masked(&tty));
    tty.keys("\x0f");
    tty.wait_for_no_text("secret-4242");
    let from = tty.written().0;
    tty.keys("Q");
    let ended = tty.end();
    assert_eq!(ended.code, Some(0));
    assert_no_literal("on leaving", &[("the terminal", &ended.raw[from..])]);
}

#[test]
fn started_with_redact_no_literal_is_ever_written_to_the_terminal() {
    let _turn = turn();
    let spoken = Spoken::start();
    let mut tty = open(&["--redact"]);
    tty.wait_for_text("masked");
    assert!(is_masked(&tty));
    look_everywhere(&mut tty, &spoken);
    tty.keys("1");
    tty.keys("Q");
    let ended = tty.end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.text.contains("UPDATE reports AS t1 SET status = ?"), "{}", ended.text);
    assert_no_literal("with --redact", &[("the terminal", &ended.raw)]);
}

#[test]
fn a_report_with_redact_holds_no_literal() {
    let _turn = turn();
    let _spoken = Spoken::start();
    let home = TempDir::new().unwrap();
    for format in ["json", "text"] {
        let report = |more: &[&str]| {
            let mut arguments = words(&["snapshot", "--ticks", "1", "--format", format]);
            arguments.extend(words(more));
            arguments.push(LAB.primary().uri("oncall", "shop"));
            let output = run(home.path(), &arguments, &[]);
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
            assert_no_literal(format, &[("standard error", &output.stderr)]);
            output.stdout
        };
        let plain = String::from_utf8(report(&[])).unwrap();
        assert!(plain.contains("secret-4242"), "without it a report holds what was said: {plain}");
        let redacted = report(&["--redact"]);
        assert_no_literal(format, &[("the report", &redacted)]);
        let redacted = String::from_utf8(redacted).unwrap();
        assert!(redacted.contains("UPDATE reports AS t1 SET status = ?"), "names stay: {redacted}");
        if format == "json" {
            let report: Value = serde_json::from_str(&redacted).unwrap();
            let sessions = report["targets"][0]["sessions"].as_array().unwrap();
            let query = |it: &Value| it["query"].as_str().unwrap_or_default().to_owned();
            let waiter = sessions.iter().find(|it| it["application"] == "spoken-waiter").unwrap();
            assert!(query(waiter).contains("t1.\"id\" = ?"), "{waiter}");
        }
    }
}

#[test]
fn what_is_done_is_logged_without_a_literal_of_the_query() {
    let _turn = turn();
    let spoken = Spoken::start();
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("incident.log");
    let mut tty = open(&["--log", log.to_str().unwrap()]);
    for (client, key, question, told) in [
        (&spoken.waiter, "C", "Cancel the statement of", "cancelled"),
        (&spoken.root, "K", "Terminate", "terminated"),
    ] {
        let pid = client.pid();
        select(&mut tty, &pid.to_string());
        tty.keys(key);
        tty.wait_for_text(&format!("{question} {pid} ?"));
        sleep(DEAF);
        tty.keys("y");
        tty.wait_for_text(&format!("{told} {pid}"));
    }
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
    let log = fs::read(&log).unwrap();
    let lines: Vec<Value> =
        log.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let actions = lines.iter().filter(|line| line["kind"] == "action").count();
    assert!(actions >= 4, "before and after each: {actions}");
    assert_no_literal("after a cancel and a terminate", &[("the log", &log)]);
}

#[test]
fn a_log_that_others_could_read_is_closed_to_them_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("incident.log");
    fs::write(&log, "{\"from\":\"before\"}\n").unwrap();
    for mode in [0o644, 0o666, 0o640] {
        fs::set_permissions(&log, Permissions::from_mode(mode)).unwrap();
        let arguments =
            words(&["snapshot", "--ticks", "1", "-h", "/nonexistent", "--log", log.to_str().unwrap()]);
        run(folder.path(), &arguments, &[]);
        assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600, "was {mode:o}");
        assert!(fs::read_to_string(&log).unwrap().starts_with("{\"from\":\"before\"}\n"), "nothing is lost");
    }
}

// === Hostile text ===

/// Everything that an application can try on whoever looks at it.
const HOSTILE: &str = "日本語\x1b]52;c;UFdORUQ=\x07\x1b]0;owned\x07\x1b]2;owned\x1b\\\x1b[2J\x1b[201~\x1b[6n\x1bP$q\"p\x1b\\\
    \u{9b}2J\u{9d}0;x\u{9c}\u{202e}\u{2066}\u{200b}e\u{301}\t\r\n\x08\x7f\u{85}\u{2028}end";

/// The same in the 63 bytes of a name.
const HOSTILE_NAME: &str = "日\x1b]0;n\x07\u{9b}2J\u{202e}\u{200b}\t\r\n";

/// Hostile names and texts of every kind, in a queue and in a prepared transaction.
struct Hostile {
    lab: Lab,
    root: Client,
    _waiter: (Client, Running),
    _behind_prepared: (Client, Running),
    _elsewhere: Client,
}

impl Hostile {
    fn start() -> Self {
        let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap();
        let [role, database, table] = ["role", "db", "table"].map(|kind| format!("{kind}{HOSTILE_NAME}"));
        let system = lab.primary().client("postgres", "postgres").unwrap();
        system.execute(&format!("CREATE ROLE \"{role}\" LOGIN SUPERUSER")).unwrap();
        system.execute(&format!("CREATE DATABASE \"{database}\" OWNER \"{role}\"")).unwrap();
        let login = |database: &str| {
            lab.primary().client_as(&role, database, &format!("app{HOSTILE_NAME}")).expect("a session")
        };
        let elsewhere = login(&database);
        elsewhere.execute(&format!("SELECT 'elsewhere{HOSTILE}'")).unwrap();
        let [root, waiter, behind_prepared, prepared] = ["shop"; 4].map(login);
        root.execute(&format!("CREATE TABLE \"{table}\" (n int); CREATE TABLE held (n int)")).unwrap();
        prepared
            .execute(&format!("BEGIN; LOCK TABLE held; PREPARE TRANSACTION 'gid''{HOSTILE_NAME}'"))
            .unwrap();
        root.execute("BEGIN").unwrap();
        root.execute(&format!("LOCK TABLE \"{table}\"; SELECT 'root{HOSTILE}'")).unwrap();
        let waiting = waiter.spawn(&format!("SELECT 'wait{HOSTILE}'; LOCK TABLE \"{table}\""));
        let waiting_too = behind_prepared.spawn(&format!("SELECT 'wait{HOSTILE}'; LOCK TABLE held"));
        Self {
            lab,
            root,
            _waiter: (waiter, waiting),
            _behind_prepared: (behind_prepared, waiting_too),
            _elsewhere: elsewhere,
        }
    }
}

/// What a terminal was asked to copy; everything else must be a sequence that the program itself has a use for.
fn copied(raw: &[u8]) -> Vec<String> {
    let mut copied = Vec::new();
    let mut text = Vec::new();
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != 0x1b {
            text.push(*first);
            continue;
        }
        let told = after[..after.len().min(40)].escape_ascii().to_string();
        if let Some(payload) = after.strip_prefix(b"]52;c;") {
            let end = payload.iter().position(|byte| matches!(byte, 0x07 | 0x1b)).expect("an end");
            let terminator = if payload[end] == 0x07 { 1 } else { 2 };
            assert!(terminator == 1 || payload[end + 1] == b'\\', "OSC 52 is ended: {told}");
            copied.push(String::from_utf8(from_base64(&payload[..end])).expect("UTF-8"));
            rest = &payload[end + terminator..];
        } else {
            let parameters =
                after.strip_prefix(b"[").unwrap_or_else(|| panic!("neither CSI nor a copy: {told}"));
            let end = parameters.iter().position(|byte| (0x40..=0x7e).contains(byte)).expect("an end");
            let plain = parameters[..end].iter().all(|byte| byte.is_ascii_digit() || b";:".contains(byte));
            let modes = [&b"?1049"[..], b"?25", b"?2004", b"?2026"];
            let ours = match parameters[end] {
                b'm' | b'H' | b'C' | b'J' | b'K' => plain,
                b'h' | b'l' => modes.contains(&&parameters[..end]),
                _ => false,
            };
            assert!(ours, "not a sequence of ours: {told}");
            rest = &parameters[end + 1..];
        }
    }
    assert_eq!(harm_in(&String::from_utf8(text).expect("UTF-8")), None);
    copied
}

/// The first character that acts on a terminal or turns its text round.
fn harm_in(text: &str) -> Option<char> {
    let harmful = |c: &char| {
        (c.is_control() && !"\r\n".contains(*c))
            || matches!(c, '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
    };
    text.chars().find(harmful)
}

fn from_base64(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.iter().filter(|byte| **byte != b'=');
    let values: Vec<usize> = digits
        .map(|byte| DIGITS.iter().position(|digit| digit == byte).expect("base64 and nothing else"))
        .collect();
    let group = |four: &[usize]| {
        let bits = four.iter().fold(0, |bits, six| bits << 6 | six) << (6 * (4 - four.len()));
        [bits >> 16, bits >> 8, bits].map(|byte| u8::try_from(byte & 0xff).unwrap())[..four.len() - 1]
            .to_vec()
    };
    values.chunks(4).flat_map(group).collect()
}

/// What is pasted may hold lines and tabs, and nothing else that is no text.
fn assert_pastes_safely(text: &str) {
    let acts = |c: &char| c.is_control() && !"\n\t".contains(*c);
    assert_eq!(text.chars().find(acts), None, "{text:?}");
}

fn wait_for_copy(tty: &mut Tty, count: usize) -> String {
    until("the copy", PATIENCE, || copied(&tty.raw()).len() == count);
    tty.wait_for_text("copied by the terminal (OSC 52)");
    copied(&tty.raw()).pop().unwrap()
}

fn end(tty: Tty, key: &str) -> Ended {
    tty.keys(key);
    let ended = tty.end();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    ended
}

#[test]
fn what_is_copied_is_what_was_asked_for_and_nothing_of_it_acts_on_a_terminal() {
    let hostile = Hostile::start();
    let mut tty = start(&[hostile.lab.primary().uri("postgres", "shop")], &[]);
    tty.wait_for_text("2 roots · 2 blocked");
    tty.keys("z2");
    tty.wait_for("Locks on all of the screen", PATIENCE, |screen| {
        let shown = screen.contents();
        shown.contains("1 Activity  2 Locks") && shown.contains("state · wants")
    });
    select(&mut tty, &hostile.root.pid().to_string());
    tty.keys("c");
    let statement = wait_for_copy(&mut tty, 1);
    assert!(statement.starts_with("LOCK TABLE \"table日"), "{statement:?}");
    assert!(statement.contains("SELECT 'root日本語") && statement.ends_with("end'"), "{statement:?}");
    assert_pastes_safely(&statement);
    end(tty, "q");
}

#[test]
fn the_command_that_is_copied_for_a_prepared_transaction_works_and_pastes_safely() {
    let hostile = Hostile::start();
    let uri = hostile.lab.primary().uri("postgres", "shop");
    let mut tty = start(&[uri], &[]);
    tty.wait_for_text("2 roots · 2 blocked");
    tty.keys("z2");
    tty.wait_for("Locks on all of the screen", PATIENCE, |screen| {
        let shown = screen.contents();
        shown.contains("1 Activity  2 Locks") && shown.contains("state · wants")
    });
    select(&mut tty, "prepared 'gid'");
    tty.keys("c");
    let command = wait_for_copy(&mut tty, 1);
    assert!(command.starts_with("ROLLBACK PREPARED "), "{command:?}");
    let owner = hostile.lab.primary().client("postgres", "shop").unwrap();
    assert_eq!(owner.cell("SELECT count(*) FROM pg_prepared_xacts").unwrap(), "1");
    owner.execute(&command).expect("the command that was copied");
    assert_eq!(owner.cell("SELECT count(*) FROM pg_prepared_xacts").unwrap(), "0");
    end(tty, "q");
    let odd = |c: &char| c.is_control() || *c == '\u{202e}';
    assert_eq!(command.chars().find(odd), None, "a name is written so that it pastes safely: {command:?}");
}

#[test]
fn hostile_text_acts_on_nobody_in_questions_details_logs_and_reports() {
    let hostile = Hostile::start();
    let uri = hostile.lab.primary().uri("postgres", "shop");
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("incident.log");
    let mut tty = start(&[uri.clone(), "--log".into(), log.display().to_string()], &[]);
    tty.wait_for_text("2 roots · 2 blocked");
    tty.keys("z2");
    tty.wait_for("Locks on all of the screen", PATIENCE, |screen| {
        let shown = screen.contents();
        shown.contains("1 Activity  2 Locks") && shown.contains("state · wants")
    });
    // The prepared transaction, then the session, each in full.
    for word in ["prepared 'gid'", &hostile.root.pid().to_string()] {
        select(&mut tty, word);
        tty.keys("\r");
        tty.wait_for_text("Esc closes");
        tty.keys("\x7f");
        tty.wait_for_no_text("Esc closes");
    }
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {} ?", hostile.root.pid()));
    tty.wait_for_text("AccessExclusiveLock on table日");
    sleep(DEAF);
    tty.keys("y");
    tty.wait_for_text(&format!("terminated {} app", hostile.root.pid()));
    tty.keys("8");
    tty.keys("/terminated\r");
    tty.wait_for_text("/terminated");
    tty.keys("l");
    tty.wait_for_text("Esc closes");
    tty.keys("\x7f");
    tty.wait_for_no_text("Esc closes");
    let ended = end(tty, "Q");
    assert_eq!(copied(&ended.raw), Vec::<String>::new());
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("role日"), "what was done is told of whom: {log}");
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "a line is a line: {log}");
    let mut harmful = BTreeMap::from([("log", acting_on_a_terminal(&log))]);
    for format in ["json", "text"] {
        let arguments = words(&["snapshot", "--ticks", "1", "--format", format, &uri]);
        let output = run(folder.path(), &arguments, &[]);
        let report = String::from_utf8(output.stdout).unwrap();
        // The text report names neither roles nor databases.
        let names = if format == "json" { &["gid'", "role日", "db日"][..] } else { &["gid'"] };
        assert!(names.iter().all(|name| report.contains(name)), "{report}");
        drop(harmful.insert(format, acting_on_a_terminal(&report)));
        if format == "json" {
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!(report["schema"], "dbtriage.snapshot/1");
        }
    }
    let none = ["json", "log", "text"].map(|of| (of, BTreeSet::new()));
    assert_eq!(harmful, BTreeMap::from(none), "each is read with cat");
}

/// What acts on a terminal that a file is shown on; in JSON all of it can be written with a backslash.
fn acting_on_a_terminal(text: &str) -> BTreeSet<char> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| (c.is_control() && *c != '\n') || turns(*c)).collect()
}
