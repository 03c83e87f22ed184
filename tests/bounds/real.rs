//! As much as a machine of a test holds of the real thing: one server with hundreds of sessions, thousands of relations
//! and statements of a megabyte, and each server on the port of the other.
//!
//! With `DBTRIAGE_LARGE=1` there are 2,000 sessions and 50,000 relations, which take some minutes to make.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::time::Duration;

use dbtriage_lab::terminal::{PATIENCE, Tty, now, until};
use dbtriage_lab::{Lab, Options, Postgres};

use crate::process::{AT_REST, MB, ending, peak_bytes, process_with, turn};
use crate::{PROGRAM, WIDE};

/// How much of the real thing there is.
struct Size {
    sessions: usize,
    relations: u32,
}

static SIZE: LazyLock<Size> = LazyLock::new(|| {
    if std::env::var_os("DBTRIAGE_LARGE").is_some() {
        Size { sessions: 2_000, relations: 50_000 }
    } else {
        Size { sessions: 800, relations: 20_000 }
    }
});

/// The text of a statement that the server keeps is a megabyte, of which the program takes a kilobyte for each session
/// and four for each statement: whatever the texts are, they are some megabytes, and the rest is for the allocator.
const MEMORY_LIMIT: u64 = 20 * MB;

/// A lock as the driver keeps it and as it is decoded, both at once, and once more while the next is read.
const LOCK_BYTES: u64 = 1_200;

/// What is granted to the start of one session.
const START_LIMIT: Duration = Duration::from_millis(25);

/// How many sessions there may be beside the many.
const OTHERS: usize = 200;

static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let settings = [("track_activity_query_size", "1048576"), ("shared_buffers", "32MB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let max_connections = u32::try_from(SIZE.sessions + OTHERS).expect("a small number");
    Lab::start(Options { standby: false, max_connections, settings, ..Options::default() }).expect("a lab")
});

/// A session that has logged in and does nothing more, without a client library around it.
fn idle_session(server: &Postgres) -> UnixStream {
    let path = server.socket_directory.join(format!(".s.PGSQL.{}", server.port));
    let mut stream = UnixStream::connect(path).expect("the socket of the server");
    let body = b"\0\x03\0\0user\0shop_owner\0database\0shop\0application_name\0pool\0\0";
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], body].concat()).unwrap();
    let ready = [b'Z', 0, 0, 0, 5, b'I'];
    let mut heard = Vec::new();
    while !heard.ends_with(&ready) {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(0 < count, "the server hangs up: {}", heard.escape_ascii());
        heard.extend(&buffer[..count]);
    }
    stream
}

/// Opens the screen on the lab and waits until it is live.
fn open(more: &[&str]) -> (Tty, i32) {
    let uri = LAB.primary().uri("oncall", "shop");
    let mut tty = Tty::start(PROGRAM, WIDE, &[&[uri.as_str()], more].concat());
    let pid = process_with(&uri);
    tty.wait_for_text("● live");
    (tty, pid)
}

fn assert_memory(pid: i32, locks: u32) {
    let kept = peak_bytes(pid).unwrap().saturating_sub(*AT_REST);
    let limit = MEMORY_LIMIT + LOCK_BYTES * u64::from(locks);
    println!("{} MB above a start with nothing", kept / MB);
    assert!(kept < limit, "{} MB, bound {} MB", kept / MB, limit / MB);
}

fn quit(tty: Tty) {
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

#[test]
fn hundreds_of_real_sessions_are_shown_live() {
    let _turn = turn();
    LazyLock::force(&AT_REST);
    let server = LAB.primary();
    let started = now();
    let sessions: Vec<UnixStream> = (0..SIZE.sessions).map(|_| idle_session(server)).collect();
    let time = now() - started;
    println!("{} sessions in {time:?}", sessions.len());
    assert!(time < START_LIMIT * u32::try_from(sessions.len()).unwrap(), "{time:?}");
    let usable = format!("/{}", SIZE.sessions + OTHERS - 3);
    let active: Vec<_> = (0..5).map(|_| server.client("shop_owner", "shop").unwrap()).collect();
    let running: Vec<_> = active.iter().map(|client| client.spawn("SELECT pg_sleep(600)")).collect();
    let (mut tty, pid) = open(&[]);
    tty.wait_for("the idle and the active", PATIENCE, |screen| {
        let text = screen.contents();
        text.contains("active 5") && text.contains("● live") && text.contains(&usable)
    });
    tty.keys("/pool\r");
    tty.wait_for_text("pool");
    assert!(tty.contents().contains("● live"), "{}", tty.contents());
    assert_memory(pid, 0);
    quit(tty);
    let admin = server.client("postgres", "shop").unwrap();
    let ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    admin.execute(ours).unwrap();
    drop((running, sessions));
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pool'";
    until("the sessions to leave", PATIENCE, || admin.cell(left).unwrap() == "0");
}

#[test]
fn thousands_of_locked_relations_keep_the_tick_in_time() {
    let _turn = turn();
    let server = LAB.primary();
    let holder = server.client_as("postgres", "shop", "partitioner").unwrap();
    let each = |what: &str| {
        format!(
            "DO $$ BEGIN FOR n IN 1..{} LOOP EXECUTE format('{what}', n); END LOOP; END $$",
            SIZE.relations
        )
    };
    let started = now();
    holder.execute("CREATE SCHEMA many").unwrap();
    holder.execute(&each("CREATE TABLE many.partition_%s ()")).unwrap();
    println!("{} relations in {:?}", SIZE.relations, now() - started);
    holder.execute("BEGIN").unwrap();
    holder.execute(&each("LOCK TABLE many.partition_%s")).unwrap();
    let waiter = server.client("postgres", "shop").unwrap();
    let waiting = waiter.spawn("SELECT count(*) FROM many.partition_777");
    let (mut tty, pid) = open(&[]);
    tty.wait_for("the waiter and what it waits for", PATIENCE, |screen| {
        let text = screen.contents();
        text.contains("1 root · 1 blocked") && text.contains("AccessShareLock on many.partition")
    });
    // A tick that takes longer than the interval, or a graph that does, would be told.
    tty.wait_for("a live header", PATIENCE, |screen| screen.contents().contains("● live 1s"));
    assert_memory(pid, SIZE.relations);
    holder.execute("ROLLBACK").unwrap();
    waiting.wait(PATIENCE).unwrap();
    tty.wait_for_text("no session waits for a lock");
    quit(tty);
}

#[test]
fn a_statement_of_a_megabyte_is_shown_cut() {
    let _turn = turn();
    LazyLock::force(&AT_REST);
    let server = LAB.primary();
    let client = server.client_as("postgres", "shop", "generator").unwrap();
    let long = "y".repeat(1_000_000);
    // One that has ended, for the statistics, and one that runs.
    for _ in 0..3 {
        client.execute(&format!("SELECT count(*) AS megabyte, pg_sleep(0.2) /* {long} */")).unwrap();
    }
    let running = client.spawn(&format!("SELECT pg_sleep(600) AS megabyte /* {long} */"));
    let (mut tty, pid) = open(&[]);
    tty.keys("/megabyte\r");
    tty.wait_for_text("SELECT pg_sleep(600) AS megabyte");
    tty.keys("\r");
    tty.wait_for("the statement in full", PATIENCE, |screen| {
        screen.contents().matches("yyyyyyyyyy").count() > 20
    });
    tty.keys("\x7f");
    tty.keys("3");
    tty.wait_for_text("SELECT count(*) AS megabyte");
    assert!(tty.contents().contains("● live"), "{}", tty.contents());
    assert_memory(pid, 0);
    quit(tty);
    for format in ["json", "text"] {
        let uri = server.uri("oncall", "shop");
        let report = std::process::Command::new(PROGRAM)
            .args(["snapshot", "--interval", "0.5s", "--format", format, &uri])
            .output()
            .unwrap();
        let text = String::from_utf8(report.stdout).unwrap();
        assert!(report.status.success() && text.contains("megabyte"), "{format}");
        assert!(text.len() < 200_000, "{format}: {} bytes", text.len());
    }
    let admin = server.client("postgres", "shop").unwrap();
    admin.execute(&format!("SELECT pg_terminate_backend({})", client.pid())).unwrap();
    drop(running.wait(PATIENCE));
}

/// The program ends with one sentence that names the place, the protocol that was wanted, and the next step.
fn assert_refused(target: &str, says: &[&str], limit: Duration) {
    let mut tty = Tty::start(PROGRAM, WIDE, &[target]);
    ending(&mut tty, limit, "the program to say what is wrong");
    let ended = tty.end();
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    let text = String::from_utf8_lossy(&ended.raw);
    println!("{}", text.trim());
    for part in says {
        assert!(text.contains(part), "{text:?} says {part:?}");
    }
}

#[test]
fn a_real_postgresql_on_the_port_of_redis_is_told() {
    let port = LAB.primary().port;
    let place = format!("127.0.0.1:{port}");
    let says = [&place, "not a Redis server", "check the URL"];
    assert_refused(&format!("redis://{place}"), &says, Duration::from_secs(2));
}

#[test]
fn a_real_redis_on_the_port_of_postgresql_is_told() {
    // Redis waits for the end of the line, so only the limit of the attempt tells; what was meant may still be asked.
    let port = LAB.redis().unwrap().port;
    let mut tty = Tty::start(PROGRAM, WIDE, &[&format!("postgres://oncall@127.0.0.1:{port}/shop")]);
    let told = tty.wait_for_text(&format!("127.0.0.1:{port}"));
    tty.wait_for("the reason", PATIENCE, |screen| {
        let text = screen.contents();
        text.contains("did not let us in within 5s") || text.contains("not a PostgreSQL server")
    });
    println!("{:?}", told - tty.spawned_at());
    quit(tty);
}
