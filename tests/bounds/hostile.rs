//! Ports with something else behind them than was meant, and servers that never stop talking.

use std::time::Duration;

use dbtriage_lab::imitation::{Crowd, FLOOD_MAX, Imitation, Script, Step, redis_bulk};
use dbtriage_lab::terminal::{Ended, PATIENCE, Tty, now, until};

use crate::process::{AT_REST, MB, ending, peak_bytes, process_with, running_with};
use crate::{PROGRAM, WIDE};

/// How long a port may take to be told as what it is: it has answered.
const AT_ONCE: Duration = Duration::from_secs(2);

/// An attempt to connect may take five seconds; the rest is for a busy machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(6);

/// A login is a few hundred bytes and an answer of Redis some ten thousand; whatever else comes before the end is thrown
/// away. What the allocator keeps of the buffers is far below this.
const KEPT_OF_NOTHING_MAX: u64 = 32 * MB;

/// Ten thousand sessions and a hundred thousand locks are 25 MB on the wire and as much again when they are decoded:
/// four times that is more than any answer needs, and half of what the flood brings.
const KEPT_OF_AN_ANSWER_MAX: u64 = 100 * MB;
const _: () = assert!(KEPT_OF_AN_ANSWER_MAX * 2 < FLOOD_MAX, "the flood is what would be seen");

/// One line of standard error is read by a person.
const SENTENCE_MAX: usize = 600;

const WEB_SERVER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\n\
    Content-Length: 70\r\nConnection: close\r\n\r\n<html>\r\n<head><title>400 Bad Request</title></head>\r\n<body></body>\r\n</html>\r\n";
const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";
const SMTP: &[u8] = b"220 mail.example ESMTP\r\n";
const TLS_ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 0x46];
const MYSQL: &[u8] =
    b"\x4a\0\0\0\x0a8.0.35\0\x08\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0\
    ijklmnopqrst\0caching_sha2_password\0";

// === Messages of PostgreSQL ===

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// The steps up to the startup: no TLS, then what the client asks for.
fn let_in() -> Vec<Step> {
    vec![Step::Hear, Step::Say(b"N".to_vec()), Step::Hear]
}

fn after_login(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let mut all = let_in();
    all.push(Step::Say(message(b'R', &[0; 4])));
    all.extend(steps);
    all
}

/// The answer to a statement up to its rows, which have one column of text.
fn before_rows() -> Vec<u8> {
    let column = [&[0, 1][..], b"c\0", &[0; 6], &25_u32.to_be_bytes(), &[0xff; 6], &[0, 1]].concat();
    [message(b'1', b""), message(b'2', b""), message(b't', &[0, 0]), message(b'T', &column)].concat()
}

fn after_rows() -> Vec<u8> {
    message(b'C', b"SELECT 0\0")
}

/// A message whose length is announced as two gigabytes.
fn endless(tag: u8) -> Vec<u8> {
    vec![tag, 0x7f, 0xff, 0xff, 0xff]
}

// === Floods ===

/// What is sent as the chunk of this number.
type Flood = fn(u64) -> Vec<u8>;

fn noise(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..1 << 13).flat_map(|_| next()).collect()
}

fn letters(_: u64) -> Vec<u8> {
    vec![b'x'; 1 << 16]
}

fn parameters(number: u64) -> Vec<u8> {
    let value = "v".repeat(50);
    let one = |n: u64| message(b'S', format!("name_{}\0{value}\0", number * 1000 + n).as_bytes());
    (0..1000).flat_map(one).collect()
}

fn notices(_: u64) -> Vec<u8> {
    message(b'N', format!("SNOTICE\0VNOTICE\0C00000\0M{}\0\0", "n".repeat(1000)).as_bytes()).repeat(64)
}

fn rows(_: u64) -> Vec<u8> {
    message(b'D', &[&[0, 1, 0, 0, 4, 0][..], &[b'x'; 1024]].concat()).repeat(64)
}

fn replies(_: u64) -> Vec<u8> {
    b"+x\r\n".repeat(1 << 14)
}

// === How it is told ===

fn scripted(steps: Vec<Step>) -> Imitation {
    Imitation::start(Script::Steps(steps)).unwrap()
}

fn postgres(statement: &'static str, steps: Vec<Step>) -> Imitation {
    Imitation::start(Script::Postgres(Crowd::default().into(), [(statement, steps)].into())).unwrap()
}

fn redis(info: Vec<Step>) -> Imitation {
    Imitation::start(Script::Redis(info)).unwrap()
}

/// The program ends at once, with one sentence that names the place, the protocol that was wanted, and the next step.
fn assert_refused(target: &str, port: u16, says: &[&str]) {
    let started = now();
    let mut tty = Tty::start(PROGRAM, WIDE, &[target]);
    ending(&mut tty, AT_ONCE, "the program to say what is wrong");
    let time = now() - started;
    let ended = tty.end();
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    let sentence = sentence(&ended);
    println!("{sentence}");
    let place = format!("127.0.0.1:{port}");
    for part in says.iter().copied().chain([place.as_str()]) {
        assert!(sentence.contains(part), "{sentence:?} says {part:?}");
    }
    assert!(time < AT_ONCE, "{time:?}");
}

/// What stands on the terminal after the end, as one line.
fn sentence(ended: &Ended) -> String {
    let raw = String::from_utf8_lossy(&ended.raw);
    let text = raw.trim();
    assert!(text.starts_with("dbtriage: "), "{text:?}");
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(text.len() <= SENTENCE_MAX, "{} bytes: {text:.200}...", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
    text.to_owned()
}

/// No PostgreSQL at all: it is told which protocol was wanted, and which settings lead there.
fn assert_no_postgres(steps: Vec<Step>) {
    let server = scripted(steps);
    assert_refused(&server.postgres_uri(), server.port, &["not a PostgreSQL server", "check host and port"]);
}

fn assert_no_redis(steps: Vec<Step>) {
    let server = scripted(steps);
    assert_refused(&server.redis_url(), server.port, &["not a Redis server", "check the URL"]);
}

/// Whatever was sent, the program has kept at most so much of it, and a key still ends it.
fn assert_bounded(server: &Imitation, target: &str, kept_max: u64) {
    let rest = *AT_REST;
    let mut tty = Tty::start(PROGRAM, WIDE, &[target]);
    let started = now();
    let (mut pid, mut peak) = (None, 0);
    // Until the flood is over, or nobody drinks from it any more.
    until("the flood to end", PATIENCE, || {
        pid = pid.or_else(|| running_with(target));
        peak = pid.and_then(peak_bytes).map_or(peak, |bytes| bytes.max(peak));
        let is_over = FLOOD_MAX <= server.flooded() || CONNECT_LIMIT < now() - started;
        is_over || !tty.is_running()
    });
    println!("{} MB sent, {} MB kept", server.flooded() / MB, peak.saturating_sub(rest) / MB);
    assert!(0 < server.flooded(), "nothing was sent");
    // One that has ended before it was seen can have kept no more than it was sent.
    assert!(0 < peak || server.flooded() <= kept_max, "{} MB sent", server.flooded() / MB);
    if tty.is_running() {
        // At the start a terminal without a screen takes Ctrl-C only.
        tty.wait_for("the screen", PATIENCE, |screen| screen.contents().contains("1 Activity"));
        let pressed = tty.keys("q");
        let code = tty.end().code;
        assert_eq!(code, Some(0));
        assert!(now() - pressed < AT_ONCE, "{:?} from the key to the end", now() - pressed);
    }
    let kept = peak.saturating_sub(rest);
    assert!(kept <= kept_max, "kept {} MB, bound {} MB", kept / MB, kept_max / MB);
}

// === Something else on the port of PostgreSQL ===

#[test]
fn an_ssh_server_on_the_port_of_postgresql_is_told() {
    assert_no_postgres(vec![Step::Say(SSH.to_vec())]);
}

#[test]
fn a_web_server_on_the_port_of_postgresql_is_told() {
    assert_no_postgres(vec![Step::Hear, Step::Say(WEB_SERVER.to_vec()), Step::HangUp]);
}

#[test]
fn a_port_that_wants_tls_at_once_is_told() {
    assert_no_postgres(vec![Step::Hear, Step::Say(TLS_ALERT.to_vec()), Step::HangUp]);
}

#[test]
fn a_mysql_on_the_port_of_postgresql_is_told() {
    assert_no_postgres(vec![Step::Say(MYSQL.to_vec())]);
}

#[test]
fn a_mail_server_on_the_port_of_postgresql_is_told() {
    assert_no_postgres(vec![Step::Say(SMTP.to_vec())]);
}

#[test]
fn an_error_of_redis_on_the_port_of_postgresql_is_told() {
    assert_no_postgres(vec![Step::Hear, Step::Say(b"-ERR unknown command\r\n".to_vec())]);
}

#[test]
fn rubbish_on_the_port_of_postgresql_is_told() {
    assert_no_postgres(vec![Step::Say(noise(7))]);
}

#[test]
fn a_login_that_cannot_be_spoken_is_told() {
    // GSSAPI, and a number that no version knows.
    for method in [7, 99] {
        let mut steps = let_in();
        steps.push(Step::Say(message(b'R', &[0, 0, 0, method])));
        let server = scripted(steps);
        assert_refused(&server.postgres_uri(), server.port, &["authentication method", "pg_hba.conf"]);
    }
}

#[test]
fn a_server_that_is_too_old_or_has_no_version_is_told() {
    let ready = message(b'Z', b"I");
    for (version, told) in
        [(&b"server_version\x009.6.24\0"[..], "PostgreSQL 9.6.24"), (b"a\0b\0", "unknown version")]
    {
        let server = scripted(after_login([Step::Say([message(b'S', version), ready.clone()].concat())]));
        assert_refused(&server.postgres_uri(), server.port, &[told, "13 is the oldest"]);
    }
}

#[test]
fn a_long_error_of_the_server_is_one_short_line() {
    let text = format!("SFATAL\0C99999\0Mno\x1b[2J\x07 {}\nsecond line\0\0", "evil ".repeat(20_000));
    let mut steps = let_in();
    steps.push(Step::Say(message(b'E', text.as_bytes())));
    let server = scripted(steps);
    assert_refused(&server.postgres_uri(), server.port, &["answered: no"]);
}

#[test]
fn a_port_that_says_nothing_is_told_on_the_first_frame() {
    let server = scripted(Vec::new());
    let mut tty = Tty::start(PROGRAM, WIDE, &[&server.postgres_uri()]);
    let told = tty.wait_for_text(&format!("127.0.0.1:{} did not let us in within 5s", server.port));
    let time = told - tty.spawned_at();
    assert!(time < CONNECT_LIMIT, "{time:?}");
    // It keeps trying.
    until("another attempt", PATIENCE, || server.accepted() > 1);
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

#[test]
fn with_wait_the_screen_says_what_stands_behind_the_port_and_tries_again() {
    let server = scripted(vec![Step::Hear, Step::Say(WEB_SERVER.to_vec()), Step::HangUp]);
    let mut tty = Tty::start(PROGRAM, WIDE, &["--wait", &server.postgres_uri()]);
    tty.wait_for_text(&format!("127.0.0.1:{} is not a PostgreSQL server", server.port));
    until("another attempt", PATIENCE, || server.accepted() > 1);
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

// === A PostgreSQL that never stops talking ===

fn assert_login_bounded(steps: Vec<Step>) {
    let server = scripted(steps);
    assert_bounded(&server, &server.postgres_uri(), KEPT_OF_NOTHING_MAX);
}

#[test]
fn an_error_of_two_gigabytes_is_not_kept() {
    let mut steps = let_in();
    steps.extend([Step::Say(endless(b'E')), Step::Flood(letters)]);
    assert_login_bounded(steps);
}

#[test]
fn endless_parameters_are_not_kept() {
    assert_login_bounded(after_login([Step::Flood(parameters)]));
}

#[test]
fn endless_notices_are_not_kept() {
    assert_login_bounded(after_login([Step::Flood(notices)]));
}

#[test]
fn endless_rubbish_is_not_kept() {
    assert_login_bounded(vec![Step::Hear, Step::Say(b"N".to_vec()), Step::Flood(noise)]);
}

/// Endless rows, and one endless row, in answer to a statement.
fn assert_answer_bounded(statement: &'static str) {
    let floods = [
        vec![Step::Say(before_rows()), Step::Flood(rows)],
        vec![Step::Say([before_rows(), endless(b'D')].concat()), Step::Flood(letters)],
    ];
    for steps in floods {
        let server = postgres(statement, steps);
        assert_bounded(&server, &server.postgres_uri(), KEPT_OF_AN_ANSWER_MAX);
    }
}

#[test]
fn endless_sessions_are_not_kept() {
    assert_answer_bounded("activity");
}

#[test]
fn endless_locks_are_not_kept() {
    assert_answer_bounded("locks");
}

#[test]
fn endless_notices_in_an_answer_are_not_kept() {
    let server = postgres("activity", vec![Step::Flood(notices)]);
    assert_bounded(&server, &server.postgres_uri(), KEPT_OF_AN_ANSWER_MAX);
}

#[test]
fn rows_that_lie_about_their_lengths_darken_one_pane() {
    let lies = [
        // More columns than there are bytes, a value longer than the row, a value of negative length, no value at all.
        message(b'D', &[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        message(b'D', &[0, 1, 0x7f, 0xff, 0xff, 0xff]),
        message(b'D', &[0, 1, 0x80, 0, 0, 0]),
        message(b'D', &[0, 1]),
        message(b'D', &[0, 0]),
    ];
    for lie in lies {
        let answer = [before_rows(), lie.clone(), after_rows()].concat();
        let server = postgres("activity", vec![Step::Say(answer), Step::GoOn]);
        let uri = server.postgres_uri();
        let mut tty = Tty::start(PROGRAM, WIDE, &[&uri]);
        tty.wait_for("the other panes to be live", PATIENCE, |screen| {
            let text = screen.contents();
            text.contains("● live") && text.contains("no session waits for a lock")
        });
        let ticks = server.ticks();
        assert!(tty.contents().contains("no usable answer: "), "{lie:?}:\n{}", tty.contents());
        assert_eq!(ticks, 0, "the answer was another one");
        tty.keys("q");
        assert_eq!(tty.end().code, Some(0), "{lie:?}");
    }
}

#[test]
fn a_server_that_drops_one_connection_is_not_stormed_with_logins() {
    for statement in ["locks", "observe"] {
        let server = postgres(statement, vec![Step::HangUp]);
        let mut tty = Tty::start(PROGRAM, WIDE, &[&server.postgres_uri()]);
        tty.wait_for_text("● live");
        let (before, started) = (server.accepted(), now());
        // Pauses of half a second, one, two...: in three seconds three attempts, and one under way.
        until("three seconds to pass", PATIENCE, || Duration::from_secs(3) < now() - started);
        let attempts = server.accepted() - before;
        assert!(attempts <= 4, "{statement}: {attempts} logins in three seconds");
        tty.keys("q");
        assert_eq!(tty.end().code, Some(0));
    }
}

// === Something else on the port of Redis ===

#[test]
fn a_web_server_on_the_port_of_redis_is_told() {
    assert_no_redis(vec![Step::Hear, Step::Say(WEB_SERVER.to_vec()), Step::HangUp]);
}

#[test]
fn an_ssh_server_on_the_port_of_redis_is_told() {
    assert_no_redis(vec![Step::Say(SSH.to_vec())]);
}

#[test]
fn a_mysql_on_the_port_of_redis_is_told() {
    assert_no_redis(vec![Step::Say(MYSQL.to_vec())]);
}

#[test]
fn rubbish_on_the_port_of_redis_is_told() {
    assert_no_redis(vec![Step::Say(noise(7))]);
}

#[test]
fn a_redis_that_says_nothing_is_told_within_its_limit() {
    let server = scripted(Vec::new());
    let mut tty = Tty::start(PROGRAM, WIDE, &[&server.redis_url()]);
    let told = tty.wait_for_text(&format!("127.0.0.1:{} does not answer", server.port));
    let time = told - tty.spawned_at();
    assert!(time < CONNECT_LIMIT, "{time:?}");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

// === A Redis that never stops talking ===

#[test]
fn an_endless_first_answer_of_redis_is_not_kept() {
    let floods: [(&[u8], Flood); 4] = [
        (b"$9223372036854775807\r\n", letters),
        (b"*2000000000\r\n", replies),
        (b"%9223372036854775807\r\n", replies),
        (b"+", letters),
    ];
    for (head, flood) in floods {
        let server = scripted(vec![Step::Hear, Step::Say(head.to_vec()), Step::Flood(flood)]);
        println!("{}", head.escape_ascii());
        assert_bounded(&server, &server.redis_url(), KEPT_OF_NOTHING_MAX);
    }
}

#[test]
fn an_endless_info_is_not_kept() {
    let server = redis(vec![Step::Say(b"$2000000000\r\n".to_vec()), Step::Flood(letters)]);
    assert_bounded(&server, &server.redis_url(), KEPT_OF_NOTHING_MAX);
}

#[test]
fn answers_of_redis_nested_without_end_are_told() {
    assert_no_redis(vec![Step::Hear, Step::Flood(|_| b"*1\r\n".repeat(1 << 14))]);
}

/// Opens the screen on a Redis with this answer to INFO and waits until it shows something of it.
fn assert_shows(info: Vec<u8>, wanted: &str) {
    let rest = *AT_REST;
    let server = redis(vec![Step::Say(info), Step::GoOn]);
    let url = server.redis_url();
    let mut tty = Tty::start(PROGRAM, WIDE, &[&url]);
    let pid = process_with(&url);
    tty.wait_for_text(wanted);
    let kept = peak_bytes(pid).unwrap().saturating_sub(rest);
    assert!(kept < KEPT_OF_NOTHING_MAX, "{} MB", kept / MB);
    let pressed = tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
    assert!(now() - pressed < Duration::from_secs(1), "{:?} from the key to the end", now() - pressed);
}

#[test]
fn an_info_of_ten_thousand_lines_is_read() {
    let lines = (0..10_000).map(|n| format!("cmdstat_{n}:calls=1,usec=2\r\n")).collect::<Vec<_>>().concat();
    let info = format!(
        "# Server\r\nredis_version:7.0.15\r\n{lines}maxmemory:20971520\r\nused_memory:1048576\r\nmaxmemory_policy:noeviction\r\n"
    );
    assert_shows(redis_bulk(&info), "noeviction");
}

#[test]
fn an_info_of_absurd_values_is_read_as_far_as_it_goes() {
    let info = "redis_version:7\r\nused_memory:99999999999999999999999999\r\nmaxmemory:-1\r\nmaxmemory_policy:noeviction\r\n\
        uptime_in_seconds:9223372036854775807\r\nmem_fragmentation_ratio:nan\r\nkeyspace_hits:18446744073709551615\r\n\
        keyspace_misses:18446744073709551615\r\nused_cpu_sys_main_thread:inf\r\nused_cpu_user_main_thread:-inf\r\n\
        connected_clients:-3\r\nmaxclients:0\r\n";
    assert_shows(redis_bulk(info), "● live");
}

#[test]
fn an_info_that_is_rubbish_is_told() {
    assert_shows(redis_bulk(&String::from_utf8_lossy(&noise(3))), "INFO");
}

#[test]
fn an_info_with_a_word_of_a_megabyte_is_shown_cut() {
    let version = format!("7{}", "9".repeat(1_000_000));
    assert_shows(
        redis_bulk(&format!("redis_version:{version}\r\nmaxmemory_policy:noeviction\r\nused_memory:1\r\n")),
        "● live",
    );
}

#[test]
fn an_info_that_is_no_text_is_told() {
    for answer in [&b"$-1\r\n"[..], b"*0\r\n", b":5\r\n"] {
        assert_shows(answer.to_vec(), "INFO");
    }
}
