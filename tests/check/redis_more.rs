//! Redis: who runs MONITOR, what was slow, what cannot be kept, a cluster without slots, and a server that is silent or
//! gone.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dbtriage_lab::terminal::until;
use dbtriage_lab::{Redis, Stopped};
use pretty_assertions::assert_eq;
use redis::{InfoDict, Value};

use super::watching::watch;
use super::{PATIENCE, alone};

/// A word of INFO.
fn word(redis: &Redis, name: &str) -> String {
    let info: InfoDict = redis::from_redis_value(redis.command(&["INFO"]).unwrap()).unwrap();
    info.get(name).unwrap()
}

/// A connection on which commands are typed, one a line.
struct Typed(BufReader<TcpStream>);

impl Typed {
    fn connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(Self(BufReader::new(stream)))
    }

    /// Sends a command and reads its answer, of which a long one follows its length.
    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let Some(length) = line.strip_prefix('$') else { return line.trim_end().to_owned() };
        let mut body = vec![0; length.trim_end().parse::<usize>().unwrap() + "\r\n".len()];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    fn address(&self) -> String {
        self.0.get_ref().local_addr().unwrap().to_string()
    }
}

#[test]
fn who_runs_monitor_is_named_with_the_address_that_ends_it() {
    let lab = alone();
    let redis = lab.redis().unwrap();
    let [mut alice, mut nobody] = [(), ()].map(|()| Typed::connect(redis.port).unwrap());
    assert_eq!(alice.ask("CLIENT SETNAME alice"), "+OK");
    let says = |count: f64, words: &str| {
        let report = watch("1s", "", &[&redis.url()]).end();
        let [found] = report.found(["redis-monitor"]);
        found.assert_judged("warning", 1.0, "clients");
        found.assert_within(count, count);
        found.assert_says(&[words]);
    };
    assert_eq!(nobody.ask("MONITOR"), "+OK");
    says(1.0, &format!("{} runs MONITOR: ", nobody.address()));
    assert_eq!(alice.ask("MONITOR"), "+OK");
    says(2.0, &format!("alice {} and 1 more runs MONITOR: ", alice.address()));
    // As the help says.
    for client in [&alice, &nobody] {
        redis.command(&["CLIENT", "KILL", "ADDR", &client.address()]).unwrap();
    }
    watch("1s", "", &[&redis.url()]).end().found([]);
}

#[test]
fn a_command_that_everybody_waited_for_is_named_with_its_time() {
    let lab = alone();
    let redis = lab.redis().unwrap();
    redis.command(&["SLOWLOG", "RESET"]).unwrap();
    let script = "local function now() local t = redis.call('TIME') return t[1] + t[2] / 1e6 end \
                  local start = now() while now() - start < tonumber(ARGV[1]) do end";
    let limits = "redis_slow_seconds = { notice = 0.1, warning = 0.3 }";
    for (seconds, severity, limit) in [("0.15", "notice", 0.1), ("0.35", "warning", 0.3)] {
        redis.command(&["EVAL", script, "0", seconds]).unwrap();
        let log = redis.command(&["SLOWLOG", "GET", "1"]).unwrap();
        let [newest]: [(i64, i64, f64, Vec<Value>, Value, Value); 1] =
            redis::from_redis_value::<Vec<_>>(log).unwrap().try_into().unwrap();
        let report = watch("1s", limits, &[&redis.url()]).end();
        let [found] = report.found(["redis-slowlog"]);
        found.assert_judged(severity, limit, "seconds");
        found.assert_near(newest.2 / 1e6, 0.001);
        // On a busy machine other commands may have been slow too.
        found.assert_says(&["EVAL took ", "ms", ": everybody waited"]);
    }
    redis.command(&["SLOWLOG", "RESET"]).unwrap();
    watch("1s", limits, &[&redis.url()]).end().found([]);
}

#[test]
fn a_snapshot_and_a_log_that_cannot_be_written_are_told_until_they_can() {
    let lab = alone();
    let redis = lab.redis().unwrap();
    let data = lab.directory().join("data");
    let allow = |path: &std::path::Path, mode: u32| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let save = |command: &str, status: &str, is: &str| {
        // A rewrite that cannot begin is refused at once.
        redis.command(&[command]).ok();
        until(command, PATIENCE, || word(redis, status) == is);
    };
    let found = |severity: &str, says: &str| {
        let report = watch("1s", "", &[&redis.url()]).end();
        let [found] = report.found(["redis-persistence"]);
        found.assert_judged(severity, 1.0, "failures");
        found.assert_says(&[says]);
    };

    allow(&data, 0o555);
    save("BGSAVE", "rdb_last_bgsave_status", "err");
    found("critical", "the last background save failed: ");
    allow(&data, 0o755);
    save("BGSAVE", "rdb_last_bgsave_status", "ok");
    watch("1s", "", &[&redis.url()]).end().found([]);

    redis.command(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    until("the log", PATIENCE, || word(redis, "aof_rewrite_in_progress") == "0");
    let log = data.join("appendonlydir");
    allow(&log, 0o555);
    save("BGREWRITEAOF", "aof_last_bgrewrite_status", "err");
    found("warning", "the append-only file could not be rewritten: ");
    allow(&log, 0o755);
    save("BGREWRITEAOF", "aof_last_bgrewrite_status", "ok");
    watch("1s", "", &[&redis.url()]).end().found([]);
    redis.command(&["CONFIG", "SET", "appendonly", "no"]).unwrap();
}

/// A node of a cluster, killed when this is dropped.
struct Node {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--cluster-port", &bus.to_string()])
            .args(["--cluster-enabled", "yes", "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("the node to answer", PATIENCE, || {
            Typed::connect(port).is_some_and(|mut it| it.ask("PING") == "+PONG")
        });
        Self { process, port, _directory: directory }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_cluster_that_does_not_serve_every_slot_is_told_until_it_does() {
    let node = Node::start();
    let mut client = Typed::connect(node.port).unwrap();
    let url = format!("redis://127.0.0.1:{}", node.port);
    for (slots, assigned) in [(None, 0), (Some("0 9999"), 10_000)] {
        if let Some(slots) = slots {
            assert_eq!(client.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}")), "+OK");
        }
        let report = watch("1s", "", &[&url]).end();
        let [found] = report.found(["redis-cluster"]);
        found.assert_judged("critical", 1.0, "slots");
        found.assert_says(&[&format!("the cluster is down: {assigned} of 16384 slots assigned, 0 on nodes")]);
    }
    assert_eq!(client.ask("CLUSTER ADDSLOTSRANGE 10000 16383"), "+OK");
    until("the cluster", PATIENCE, || client.ask("CLUSTER INFO").contains("cluster_state:ok"));
    watch("1s", "", &[&url]).end().found([]);
}

#[test]
fn a_redis_that_is_silent_and_one_that_is_gone_are_told_apart() {
    let lab = alone();
    let redis = lab.redis().unwrap();
    let stopped = Stopped::one(redis.pid().unwrap());
    let report = watch("1s", "", &[&redis.url()]).end();
    drop(stopped);
    let [silent] = report.found(["redis-blocked"]);
    silent.assert_judged("critical", 0.0, "seconds");
    silent.assert_within(0.0, Duration::from_secs(12).as_secs_f64());
    silent.assert_says(&["does not answer: blocked by a slow command, a fork or the network"]);

    redis.stop().unwrap();
    let report = watch("1s", "", &[&redis.url()]).end();
    let [gone] = report.found(["redis-unreachable"]);
    gone.assert_judged("critical", 0.0, "seconds");
    gone.assert_says(&["unreachable for ", "Connection refused"]);
    redis.start().unwrap();
    watch("1s", "", &[&redis.url()]).end().found([]);
}
