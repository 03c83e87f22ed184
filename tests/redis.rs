//! A real Redis: the hit ratio against what was really looked up, and what is said of a server that is stopped,
//! gone, locked with a password or busy with a script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "deadlines need the clock")]

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dbtriage::engine::{Baseline, Observer, RedisTick, Thresholds, Tick};
use dbtriage::model::{Kind, Outage, OutageKind, Sample, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::redis::{self as source, Handle};
use dbtriage_lab::{Lab, Options};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pretty_assertions::assert_eq;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

/// The interval of the samples.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a state may take to show, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One Redis for all tests, which take turns.
static LAB: LazyLock<Mutex<Lab>> =
    LazyLock::new(|| Mutex::new(Lab::start(Options { standby: false, ..Options::default() }).unwrap()));

fn take() -> MutexGuard<'static, Lab> {
    // A test that failed has undone what it did to the server.
    LAB.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the program with nothing of this machine around it, and this variable.
fn dbtriage(arguments: &[&str], variable: Option<(&str, &str)>) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_dbtriage")])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home.path())
        .envs(variable)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A report as JSON with its exit code and what was said on standard error.
fn snapshot(arguments: &[&str], variable: Option<(&str, &str)>) -> (Option<i32>, Value, String) {
    let always = ["snapshot", "-w", "--format", "json", "--interval", "500ms"];
    let output = dbtriage(&[&always, arguments].concat(), variable);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (output.status.code(), json, stderr)
}

/// Counters of INFO, read by a second client.
fn counters(lab: &Lab) -> [u32; 2] {
    let reply = lab.redis().unwrap().command(&["INFO", "stats"]).unwrap();
    let info: redis::InfoDict = redis::from_redis_value(reply).unwrap();
    ["keyspace_hits", "keyspace_misses"].map(|name| info.get(name).unwrap())
}

/// 30 keys that are there and 10 that are not, looked up by one command: no sample falls in between.
fn look_ups(lab: &Lab) -> Vec<String> {
    let keys: Vec<String> = (0..30).map(|number| format!("there:{number}")).collect();
    let mut set = vec!["MSET"];
    for key in &keys {
        set.extend([key.as_str(), "value"]);
    }
    lab.redis().unwrap().command(&set).unwrap();
    let missing = (0..10).map(|number| format!("missing:{number}"));
    std::iter::once("MGET".to_owned()).chain(keys.iter().cloned()).chain(missing).collect()
}

/// The library on a Redis, as the screen uses it.
struct Watch {
    runtime: Runtime,
    _handle: Handle,
    samples: mpsc::Receiver<Sample>,
    observer: Observer,
    pace: watch::Sender<Pace>,
}

impl Watch {
    fn start(url: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let settings = source::settings(url, None).unwrap();
        let opened = runtime.block_on(source::open(settings)).unwrap();
        let target = Target { id: TargetId(0), name: "cache".to_owned(), kind: Kind::Redis };
        let (pace_sender, pace) = watch::channel(Pace::screen(INTERVAL));
        let (sender, samples) = mpsc::channel(1);
        let handle = {
            let _inside = runtime.enter();
            opened.start(&target, pace, sender)
        };
        let observer = Observer::new(target, Baseline::Previous, Thresholds::default());
        Self { runtime, _handle: handle, samples, observer, pace: pace_sender }
    }

    /// Takes the next sample; an outage is one too.
    fn next(&mut self) {
        let receive = async { tokio::time::timeout(PATIENCE, self.samples.recv()).await };
        let sample =
            self.runtime.block_on(receive).expect("no sample in time").expect("the reader has ended");
        self.observer.observe(&sample);
    }

    /// The first tick of which something holds, without an outage.
    fn tick(&mut self, holds: impl Fn(&RedisTick) -> bool) -> RedisTick {
        let started = Instant::now();
        loop {
            self.next();
            let tick = self.observer.tick().filter(|_| self.observer.outage().is_none());
            if let Some(tick) = tick.and_then(Tick::redis).filter(|tick| holds(tick)) {
                return tick.clone();
            }
            assert!(started.elapsed() < PATIENCE, "in vain: {:?}", self.observer.outage());
        }
    }

    /// The first outage of a kind.
    fn outage(&mut self, kind: OutageKind) -> Outage {
        let started = Instant::now();
        loop {
            self.next();
            if let Some(outage) = self.observer.outage().filter(|outage| outage.kind == kind) {
                return outage.clone();
            }
            assert!(started.elapsed() < PATIENCE, "in vain: {:?}", self.observer.outage());
        }
    }
}

#[test]
fn the_hit_ratio_is_that_of_the_interval() {
    let lab = take();
    let look_ups = look_ups(&lab);
    let words: Vec<&str> = look_ups.iter().map(String::as_str).collect();
    let mget = |times: usize| (0..times).for_each(|_| drop(lab.redis().unwrap().command(&words).unwrap()));
    // History that must not count: nothing but misses.
    (0..50).for_each(|_| drop(lab.redis().unwrap().command(&["GET", "missing"]).unwrap()));
    let mut watch = Watch::start(&lab.redis().unwrap().url());
    watch.tick(|tick| tick.rates.hits_per_second.is_some());
    let before = counters(&lab);
    mget(1);
    let after = counters(&lab);
    assert_eq!((after[0] - before[0], after[1] - before[1]), (30, 10));
    let tick = watch.tick(|tick| tick.rates.hits_per_second.is_some_and(|hits| hits > 0.0));
    assert_eq!(tick.rates.hit_ratio, Some(0.75));
    assert_eq!(tick.sample.keyspace_hits, Some(u64::from(after[0])));
    assert_eq!(tick.sample.keyspace_misses, Some(u64::from(after[1])));
    // And afterwards nobody asks: no ratio at all.
    let tick = watch.tick(|tick| tick.rates.hits_per_second == Some(0.0));
    assert_eq!(tick.rates.hit_ratio, None);
}

#[test]
fn a_shorter_interval_holds_at_once() {
    let lab = take();
    let mut watch = Watch::start(&lab.redis().unwrap().url());
    watch.pace.send(Pace::screen(Duration::from_secs(600))).unwrap();
    // One may have been read before that was heard.
    for _ in 0..2 {
        watch.next();
    }
    watch.pace.send(Pace::screen(INTERVAL)).unwrap();
    let changed = Instant::now();
    watch.next();
    assert!(changed.elapsed() < Duration::from_secs(5), "{:?}", changed.elapsed());
}

#[test]
fn a_report_counts_the_look_ups_between_its_samples() {
    let lab = take();
    let redis = lab.redis().unwrap().clone();
    let look_ups = look_ups(&lab);
    let before = counters(&lab);
    let done = AtomicBool::new(false);
    let (code, report, stderr) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let words: Vec<&str> = look_ups.iter().map(String::as_str).collect();
            while !done.load(Ordering::Relaxed) {
                redis.command(&words).unwrap();
            }
        });
        let reported = snapshot(&["--ticks", "3", &redis.url()], None);
        done.store(true, Ordering::Relaxed);
        reported
    });
    let after = counters(&lab);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let target = &report["targets"][0];
    let cache = &target["cache"];
    let seconds = report["interval_seconds"].as_f64().unwrap();
    assert_eq!(cache["hit_ratio"], 0.75);
    let hits = cache["hits_per_second"].as_f64().unwrap() * seconds;
    let misses = cache["misses_per_second"].as_f64().unwrap() * seconds;
    assert!(
        0.0 < hits && hits <= f64::from(after[0] - before[0]) + 1e-6,
        "{hits} of {before:?} to {after:?}"
    );
    // Whole commands of 30 and 10.
    let commands = (hits / 30.0).round();
    assert!((hits - commands * 30.0).abs() < 1e-6 && (misses - commands * 10.0).abs() < 1e-6, "{cache}");
    assert_eq!(target["server"]["role"], "master");
    assert_eq!(target["name"], format!("127.0.0.1:{}", redis.port));
    assert!(target["load"]["ping_seconds"].as_f64().unwrap() > 0.0);
}

/// A process that stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn now(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Self(Pid::from_raw(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).ok();
    }
}

#[test]
fn a_server_that_stands_still_is_blocked_and_then_back() {
    let lab = take();
    let redis = lab.redis().unwrap();
    let mut watch = Watch::start(&redis.url());
    let good = watch.tick(|_| true);
    let before = Timestamp::now();
    let stopped = Stopped::now(redis.pid().unwrap());
    let first = watch.outage(OutageKind::Blocked);
    assert!(before <= first.since, "{first:?}");
    let name = format!("127.0.0.1:{} does not answer", redis.port);
    assert!(first.reason.text.starts_with(&name), "{first:?}");
    let later = watch.outage(OutageKind::Blocked);
    assert_eq!(later.since, first.since, "the outage keeps its beginning");
    let [finding] = watch.observer.findings() else { panic!("{:?}", watch.observer.findings()) };
    assert_eq!(finding.check, "redis-blocked");
    assert!(finding.summary.starts_with("blocked for "), "{finding:?}");
    assert!(finding.evidence.value > 0.0, "{finding:?}");
    // The last good data stay, with their age.
    assert_eq!(watch.observer.tick().unwrap().redis().unwrap().sample.run_id, good.sample.run_id);

    // A report of it says the same, in the time that it gives a server.
    let (code, report, stderr) = snapshot(&["--ticks", "1", &redis.url()], None);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("does not answer"), "{stderr}");
    let target = &report["targets"][0];
    assert_eq!(
        (&target["status"], &target["server"], &target["cache"]),
        (&"unreachable".into(), &Value::Null, &Value::Null)
    );

    drop(stopped);
    let back = watch.tick(|_| true);
    assert_eq!(back.sample.run_id, good.sample.run_id);
    assert!(back.sample.ping_seconds < 1.0, "{}", back.sample.ping_seconds);
    // Answers that came late are not taken for those asked for now.
    redis.command(&["SET", "late", "1"]).unwrap();
    let before = counters(&lab);
    redis.command(&["GET", "late"]).unwrap();
    let hits = u64::from(before[0]) + 1;
    watch.tick(|tick| tick.sample.keyspace_hits == Some(hits));
}

/// Starts a server again that a test has stopped, if the test did not come to it.
struct Restarted<'a>(&'a Lab);

impl Drop for Restarted<'_> {
    fn drop(&mut self) {
        let redis = self.0.redis().unwrap();
        if redis.command(&["PING"]).is_err() {
            redis.start().ok();
        }
    }
}

#[test]
fn a_server_that_went_away_is_unreachable_until_it_is_back() {
    let lab = take();
    let redis = lab.redis().unwrap();
    let look_ups = look_ups(&lab);
    let words: Vec<&str> = look_ups.iter().map(String::as_str).collect();
    redis.command(&words).unwrap();
    let mut watch = Watch::start(&redis.url());
    let good = watch.tick(|_| true);
    let restarted = Restarted(&lab);
    redis.stop().unwrap();
    let outage = watch.outage(OutageKind::Unreachable);
    assert!(outage.reason.text.contains(&format!("127.0.0.1:{}", redis.port)), "{outage:?}");
    let first_retry = outage.retry_at.unwrap();
    assert!(outage.since < first_retry, "{outage:?}");
    // The second failure is that of connecting again.
    let outage = watch.outage(OutageKind::Unreachable);
    assert!(outage.reason.text.contains("refused"), "{outage:?}");
    let (code, report, stderr) = snapshot(&[&redis.url()], None);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("refused"), "{stderr}");
    assert_eq!(report["targets"][0]["status"], "unreachable");

    redis.start().unwrap();
    drop(restarted);
    let started = Timestamp::now();
    let mut retry_at = outage.retry_at.unwrap();
    loop {
        watch.next();
        match watch.observer.outage() {
            Some(outage) => retry_at = outage.retry_at.expect("it does not try again"),
            None => break,
        }
    }
    let late = Timestamp::now().duration_since(retry_at.max(started)).as_secs_f64();
    assert!(late < 2.0, "back {late} s after the attempt that was due");
    let back = watch.observer.tick().unwrap().redis().unwrap().clone();
    assert!(back.sample.run_id != good.sample.run_id);
    // Counters that began again cannot be subtracted from.
    assert_eq!((back.rates.hits_per_second, back.rates.hit_ratio), (None, None));
}

/// A password that the server asks for until this is dropped.
struct Locked {
    open: redis::Client,
}

const PASSWORD: &str = "s3cret-of-the-test";

impl Locked {
    fn now(lab: &Lab) -> Self {
        let redis = lab.redis().unwrap();
        let open = redis::Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{}", redis.port)).unwrap();
        redis.command(&["CONFIG", "SET", "requirepass", PASSWORD]).unwrap();
        Self { open }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut connection = self.open.get_connection().unwrap();
        redis::cmd("CONFIG").arg(&["SET", "requirepass", ""]).exec(&mut connection).unwrap();
    }
}

#[test]
fn a_password_is_asked_for_and_never_repeated() {
    let lab = take();
    let (redis, _locked) = (lab.redis().unwrap(), Locked::now(&lab));
    let url = redis.url();
    let (code, report, stderr) = snapshot(&[&url], None);
    assert_eq!(code, Some(3));
    let verbatim = "NOAUTH Authentication required.";
    assert!(stderr.contains(verbatim) && stderr.contains("REDISCLI_AUTH"), "{stderr}");
    let target = &report["targets"][0];
    assert_eq!(target["status"], "unreachable");
    assert!(target["error"].as_str().unwrap().contains(verbatim), "{target}");
    assert_eq!(target["findings"][0]["check"], "redis-unreachable");

    let (code, report, stderr) = snapshot(&[&url], Some(("REDISCLI_AUTH", PASSWORD)));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(report["targets"][0]["status"], "ok");
    assert!(!report.to_string().contains(PASSWORD));

    let with_password = format!("redis://:{PASSWORD}@127.0.0.1:{}", redis.port);
    for arguments in [&[with_password.as_str()][..], &["--redis", &with_password]] {
        let (code, report, stderr) = snapshot(arguments, None);
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(report["targets"][0]["status"], "ok");
        assert!(stderr.contains("a password on the command line can be read"), "{stderr}");
        assert!(!stderr.contains(PASSWORD) && !report.to_string().contains(PASSWORD), "{stderr}");
    }
}

#[test]
fn a_wrong_password_is_told_word_for_word() {
    let lab = take();
    let (redis, _locked) = (lab.redis().unwrap(), Locked::now(&lab));
    let (code, report, stderr) = snapshot(&[&redis.url()], Some(("REDISCLI_AUTH", "not-the-one")));
    assert_eq!(code, Some(3));
    let verbatim = "WRONGPASS invalid username-password pair or user is disabled.";
    assert!(stderr.contains(verbatim) && stderr.contains("REDISCLI_AUTH"), "{stderr}");
    assert!(report["targets"][0]["error"].as_str().unwrap().contains(verbatim), "{report}");
    assert!(!stderr.contains("not-the-one") && !report.to_string().contains("not-the-one"));
}

#[test]
fn a_cache_that_cannot_be_read_does_not_darken_the_database() {
    let lab = take();
    let _locked = Locked::now(&lab);
    let conninfo = lab.primary().conninfo("oncall", "shop");
    let (code, report, _) = snapshot(&[&conninfo, "--redis", &lab.redis().unwrap().url()], None);
    assert_eq!(code, Some(0));
    assert_eq!(report["targets"][0]["status"], "ok");
    assert_eq!(report["targets"][1]["status"], "unreachable");
    assert!(report["targets"][1]["error"].as_str().unwrap().contains("NOAUTH"));
}

/// A script that runs until this is dropped.
struct Busy<'a>(&'a Lab);

impl<'a> Busy<'a> {
    fn now(lab: &'a Lab) -> Self {
        let redis = lab.redis().unwrap().clone();
        redis.command(&["CONFIG", "SET", "lua-time-limit", "200"]).unwrap();
        std::thread::spawn(move || redis.command(&["EVAL", "while true do end", "0"]));
        Self(lab)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // Not yet busy is an error, and so is having ended.
        let started = Instant::now();
        while self.0.redis().unwrap().command(&["PING"]).is_err() && started.elapsed() < PATIENCE {
            self.0.redis().unwrap().command(&["SCRIPT", "KILL"]).ok();
        }
    }
}

#[test]
fn a_server_busy_with_a_script_says_so_word_for_word() {
    let lab = take();
    let redis = lab.redis().unwrap();
    let mut watch = Watch::start(&redis.url());
    watch.tick(|_| true);
    let busy = Busy::now(&lab);
    let outage = watch.outage(OutageKind::Error);
    let verbatim = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    assert!(outage.reason.text.ends_with(&format!("answered: {verbatim}")), "{outage:?}");
    assert!(outage.reason.hint.unwrap().contains("SCRIPT KILL"));
    let (code, report, stderr) = snapshot(&["--ticks", "1", &redis.url()], None);
    assert_eq!(code, Some(3));
    assert!(stderr.contains(verbatim), "{stderr}");
    assert!(report["targets"][0]["error"].as_str().unwrap().contains(verbatim), "{report}");
    drop(busy);
    watch.tick(|_| true);
}
