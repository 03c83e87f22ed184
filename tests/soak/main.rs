//! A long incident, compressed: two hundred sessions that change all the time, and a fault every five seconds. In the
//! end nothing has leaked, and the screen is the truth.
//!
//! `DBTRIAGE_SOAK_SECONDS` is how long it takes (20 when nothing is said), `DBTRIAGE_SOAK_SEED` which faults come when.
//! By hand, for eight hours in twenty minutes: `DBTRIAGE_SOAK_SECONDS=1200 cargo test --test soak -- --nocapture`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "what was measured is part of the result")]

mod faults;
mod load;
mod process;
mod random;
mod truth;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use dbtriage_lab::terminal::{Ended, PATIENCE, Tty, now, rows, until};
use dbtriage_lab::{Client, Lab, Options, Postgres, Proxy, Redis};
use vt100::Screen;

use crate::faults::{Fault, Scene, admin};
use crate::load::{Load, SESSIONS, STATEMENTS};
use crate::process::{Readings, Taken, taken};
use crate::random::Random;
use crate::truth::{Truth, end_all_but_ours};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");

/// The size at which all panes are shown.
const WIDE: (u16, u16) = (200, 50);

/// From this length on each fault comes in both halves, and the run tells whether memory grows: what is done for the
/// first time takes memory that stays, and after a reset of statistics there is less to keep for some time.
const LONG: Duration = Duration::from_secs(240);

/// A run that is shorter is still warming up.
const SHORT: Duration = Duration::from_secs(60);

/// From the beginning of one fault to that of the next, where it is over by then.
const PAUSE: Duration = Duration::from_secs(5);

/// How soon after a fault the screen must be live, with two hundred sessions beside it on one machine; the bound of two
/// seconds is asserted where nothing else runs.
const SOON: Duration = Duration::from_secs(5);

/// The most sessions of ours at one moment: the three, and one whose end the server has not seen yet.
const MOST_SESSIONS: usize = 4;

/// The fewest changes of the load in a second: it makes twenty while the server lets it.
const LEAST_CHANGES: u32 = 8;

/// The size, seed and pace of a run.
struct Plan {
    length: Duration,
    seed: u64,
}

impl Plan {
    fn of_the_environment() -> Self {
        let number = |name: &str, default: u64| {
            std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
        };
        let length = Duration::from_secs(number("DBTRIAGE_SOAK_SECONDS", 20));
        assert!(length >= Duration::from_secs(12), "a soak takes at least 12 seconds");
        assert!(
            length < SHORT || LONG <= length,
            "from {SHORT:?} on memory is judged, and only {LONG:?} hold every fault twice"
        );
        Self { length, seed: number("DBTRIAGE_SOAK_SEED", 20_261_121) }
    }

    fn is_long(&self) -> bool {
        LONG <= self.length
    }

    /// One half: in a long run it holds every fault.
    fn warm_up(&self) -> Duration {
        self.length / 2
    }

    /// Over how long readings of memory are taken together.
    fn window(&self) -> Duration {
        (self.length / 8).clamp(Duration::from_secs(2), Duration::from_secs(30))
    }

    /// By how many hundredths memory may grow after the warm-up.
    fn growth_limit(&self) -> u64 {
        if self.is_long() { 5 } else { 25 }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed with DBTRIAGE_SOAK_SEED={} and {:?}", self.seed, self.length);
        }
    }
}

/// How many sessions of ours there are; a function only, so that it answers under locks on catalogs.
const COUNT_OWN: &str = "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE application_name = 'dbtriage'";

fn own_sessions(client: &Client) -> usize {
    client.cell(COUNT_OWN).unwrap().parse().unwrap()
}

/// How many connections Redis has beside the one that asks.
fn other_clients(redis: &Redis) -> usize {
    let list: String = redis::from_redis_value(redis.command(&["CLIENT", "LIST"]).unwrap()).unwrap();
    list.lines().count() - 1
}

/// Counts the program's sessions, again and again, as long as the server answers.
struct Census {
    ended: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Census {
    fn start(server: &Postgres) -> Self {
        let (ended, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (server, end, found) = (server.clone(), Arc::clone(&ended), Arc::clone(&most));
        let mut client = server.client("postgres", "postgres").ok();
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                client = client.take().or_else(|| server.client("postgres", "postgres").ok());
                match client.as_ref().map(|client: &Client| client.cell(COUNT_OWN)) {
                    Some(Ok(count)) => drop(found.fetch_max(count.parse().unwrap(), Ordering::Relaxed)),
                    Some(Err(_)) => client = None,
                    None => {}
                }
                sleep(Duration::from_millis(50));
            }
        });
        Self { ended, most, thread: Some(thread) }
    }

    /// The most sessions at one moment since this was asked before.
    fn most(&self) -> usize {
        self.most.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A live first line that tells of all connections.
fn is_live(screen: &Screen) -> bool {
    let first = &rows(screen)[0];
    first.contains("● live") && !first.contains(" of 3 connections")
}

/// The server's clock in the first line: another second is another sample.
fn clock(screen: &Screen) -> String {
    rows(screen)[0].split_whitespace().last().unwrap_or_default().to_owned()
}

/// How long after the end of a fault a sample is shown that was taken since.
fn live_after(tty: &mut Tty, what: &str, over: Instant) -> Duration {
    let shown = tty.look(clock);
    let live = tty.wait_for(&format!("live after {what}"), PATIENCE, |screen| {
        is_live(screen) && clock(screen) != shown
    });
    live.saturating_duration_since(over)
}

/// The program and what it looks at.
struct Soak {
    plan: Plan,
    lab: Lab,
    proxy: Proxy,
    tty: Tty,
    census: Option<Census>,
    readings: Readings,
    started: Instant,
}

impl Soak {
    fn start(plan: Plan) -> (Self, Load) {
        let settings = vec![("pg_stat_statements.max".to_owned(), STATEMENTS.to_string())];
        let lab = Lab::start(Options { max_connections: 270, settings, ..Options::default() }).unwrap();
        let load = Load::start(lab.primary(), plan.seed);
        let proxy = Proxy::start(lab.primary().port).unwrap();
        let census = Some(Census::start(lab.primary()));
        let target = format!("postgres://oncall@127.0.0.1:{}/shop", proxy.port);
        let redis = lab.redis().unwrap().url();
        // What is kept to look back grows until it is full: it is full early, so that what grows after is a leak.
        let config = lab.directory().join("dbtriage.toml");
        std::fs::write(&config, "history_megabytes = 1\n").unwrap();
        let config = config.to_str().unwrap();
        let mut tty = Tty::start(
            PROGRAM,
            WIDE,
            &["--interval", "500ms", "--config", config, "--redis", &redis, &target],
        );
        let readings = Readings::start(tty.pid());
        tty.wait_for("a live screen over three connections", PATIENCE, is_live);
        (Self { plan, lab, proxy, tty, census, readings, started: now() }, load)
    }

    /// Plays fault after fault until the time is over; what the program takes at the end of the warm-up comes back.
    fn suffer(&mut self) -> Taken {
        let mut random = Random::new(self.plan.seed);
        let mut bag = Vec::new();
        let (mut warm, mut played) = (None, [0, 0]);
        let mut due = self.started + PAUSE;
        let end = self.started + self.plan.length;
        let warmed_up = self.started + self.plan.warm_up();
        while due < end {
            sleep(due.saturating_duration_since(now()));
            if warm.is_none() && warmed_up <= now() {
                warm = Some(self.at_rest());
                bag.clear();
            }
            if bag.is_empty() {
                bag = random.shuffled(&Fault::ALL);
            }
            played[usize::from(warm.is_some())] += 1;
            self.play(bag.pop().unwrap(), &mut random);
            due = (due + PAUSE).max(now());
        }
        sleep(end.saturating_duration_since(now()));
        println!("faults in the warm-up and after: {played:?}");
        let all = Fault::ALL.len();
        assert!(
            !self.plan.is_long() || played.iter().all(|count| all <= *count),
            "{played:?} of {all} faults"
        );
        warm.expect("a fault after the warm-up")
    }

    fn play(&mut self, fault: Fault, random: &mut Random) {
        let began = now() - self.started;
        let what = format!("{fault:?}");
        let over = Scene { lab: &self.lab, proxy: &self.proxy, tty: &self.tty, random }.play(fault);
        let time = live_after(&mut self.tty, &what, over);
        let most = self.most_sessions();
        let Taken { resident_kb, anonymous_kb, .. } = taken(self.tty.pid()).expect("the program runs");
        println!(
            "{:>6.1} s  {what:<22} live after {:>5} ms  at most {most} sessions of ours  {resident_kb} kB, \
             {anonymous_kb} of it anonymous",
            began.as_secs_f64(),
            time.as_millis()
        );
        assert!(time <= SOON, "after {what}: live only after {time:?}, seed {}", self.plan.seed);
        assert!(most <= MOST_SESSIONS, "{what}: {most} sessions at one moment, seed {}", self.plan.seed);
    }

    fn most_sessions(&self) -> usize {
        self.census.as_ref().map_or(0, Census::most)
    }

    /// What the program takes when it is live, has all its connections, and nothing is wrong.
    fn at_rest(&mut self) -> Taken {
        let second = admin(self.lab.primary());
        self.tty.wait_for("a live screen over three connections", PATIENCE, is_live);
        until("exactly three sessions of ours", PATIENCE, || own_sessions(&second) == 3);
        let redis = self.lab.redis().unwrap();
        until("exactly one connection to Redis", PATIENCE, || other_clients(redis) == 1);
        taken(self.tty.pid()).expect("the program runs")
    }

    /// The load has gone on through all faults: otherwise nothing else would be worth saying.
    fn assert_loaded(&self, load: &Load) {
        let second = admin(self.lab.primary());
        let all = "SELECT count(*) FROM pg_stat_get_activity(NULL) AS session JOIN pg_roles AS role \
                   ON role.oid = session.usesysid WHERE role.rolname = 'shop_owner'";
        let count = || second.cell(all).unwrap().parse::<usize>().unwrap();
        // Some are always between two logins.
        until("the sessions of the load to be there", PATIENCE, || SESSIONS - SESSIONS / 20 <= count());
        let (changes, time) = (load.changes(), now() - self.started);
        println!("{changes} changes of the load in {time:?}");
        assert!(
            u128::from(LEAST_CHANGES) * time.as_millis() < changes as u128 * 1000,
            "{changes} in {time:?}"
        );
    }

    /// Memory has not grown since the warm-up, while the same load ran.
    fn assert_memory(&self) {
        let (plan, window) = (&self.plan, self.plan.window());
        let median_before = |moment: Instant| self.readings.median_kb(window, moment);
        let mut moment = self.started + window;
        while moment <= self.started + plan.length {
            println!(
                "memory at {:>6.0} s: {} kB",
                (moment - self.started).as_secs_f64(),
                median_before(moment)
            );
            moment += window;
        }
        let warm = median_before(self.started + plan.warm_up() + window);
        let last = median_before(self.started + plan.length);
        println!("memory after the warm-up {warm} kB, at the end {last} kB");
        let limit = warm + warm * plan.growth_limit() / 100;
        assert!(last < limit, "memory has grown from {warm} to {last} kB, seed {}", plan.seed);
    }

    /// Three sessions, and no more threads and descriptors than after the warm-up.
    fn assert_nothing_is_left_behind(&mut self, warm: Taken) {
        let (pid, seed) = (self.tty.pid(), self.plan.seed);
        let rest = self.at_rest();
        println!("after the warm-up {warm:?}, at rest {rest:?}");
        // Threads for look-ups of names end when they have had nothing to do for some seconds.
        until(&format!("no thread and no descriptor more than {warm:?}, seed {seed}"), PATIENCE, || {
            let rest = taken(pid).expect("the program runs");
            rest.threads <= warm.threads && rest.descriptors <= warm.descriptors
        });
        let most = self.most_sessions();
        assert!(most <= MOST_SESSIONS, "{most} sessions at one moment, seed {seed}");
        // Who counts has a session too, and is no part of what the screen shall show in the end.
        drop(self.census.take());
    }

    /// Quits; no session is left a second later, and the terminal is as it was found.
    fn quit(self) {
        let second = admin(self.lab.primary());
        let seed = self.plan.seed;
        self.tty.keys("q");
        let ended = self.tty.end();
        assert_eq!(ended.code, Some(0), "seed {seed}: {}", ended.text);
        until("no session of ours to be left", Duration::from_secs(1), || own_sessions(&second) == 0);
        assert_restored(&ended);
    }
}

fn assert_restored(ended: &Ended) {
    let (before, after) = &ended.termios;
    assert_eq!(before, after, "the settings of the terminal device");
    assert!(!ended.screen.alternate_screen(), "the alternate screen is left");
    assert!(!ended.screen.hide_cursor(), "the cursor is shown");
    assert!(!ended.screen.bracketed_paste(), "bracketed paste is off");
}

#[test]
fn a_long_incident_leaves_nothing_behind() {
    let plan = Plan::of_the_environment();
    println!("{:?} with DBTRIAGE_SOAK_SEED={}", plan.length, plan.seed);
    let (mut soak, load) = Soak::start(plan);
    let warm = soak.suffer();
    soak.assert_memory();
    soak.assert_loaded(&load);
    load.end();
    end_all_but_ours(soak.lab.primary());
    soak.assert_nothing_is_left_behind(warm);
    let truth = Truth::make(soak.lab.primary());
    truth.assert_shown(&mut soak.tty);
    truth.end(soak.lab.primary());
    soak.quit();
}
