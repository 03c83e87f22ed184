//! The faults of a long incident, one at a time, each with its end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use dbtriage_lab::terminal::{PATIENCE, Tty, now, until};
use dbtriage_lab::{Client, Lab, Network, Postgres, Proxy, Running, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::WIDE;
use crate::random::Random;

/// Longer than a terminal's Escape may be taken for the beginning of another key.
const AFTER_ESCAPE: Duration = Duration::from_millis(150);

/// How many sessions pile up behind one.
const PILE: usize = 30;

/// The keys that harm nobody.
const KEYS: [&str; 18] =
    ["1", "2", "3", "4", "5", "8", "\t", "j", "k", "z", "s", "g", "i", "I", "?", "\x1b", "\x0c", "\x0f"];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    RestartedFast,
    RestartedImmediate,
    BackendCrashed,
    ServerStopped,
    BlackHole,
    SlowNetwork,
    ConnectionsCut,
    OwnSessionsTerminated,
    RolesLocked,
    StatementsReset,
    StatisticsReset,
    ConnectionsEaten,
    PileUp,
    RedisRestarted,
    RedisKilled,
    Resized,
    OutputStalled,
    KeysTyped,
}

impl Fault {
    pub(crate) const ALL: [Self; 18] = [
        Self::RestartedFast,
        Self::RestartedImmediate,
        Self::BackendCrashed,
        Self::ServerStopped,
        Self::BlackHole,
        Self::SlowNetwork,
        Self::ConnectionsCut,
        Self::OwnSessionsTerminated,
        Self::RolesLocked,
        Self::StatementsReset,
        Self::StatisticsReset,
        Self::ConnectionsEaten,
        Self::PileUp,
        Self::RedisRestarted,
        Self::RedisKilled,
        Self::Resized,
        Self::OutputStalled,
        Self::KeysTyped,
    ];
}

/// What faults happen to.
pub(crate) struct Scene<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) proxy: &'a Proxy,
    pub(crate) tty: &'a Tty,
    pub(crate) random: &'a mut Random,
}

impl Scene<'_> {
    /// Plays a fault, and says when it was over.
    pub(crate) fn play(&mut self, fault: Fault) -> Instant {
        let server = self.lab.primary();
        match fault {
            Fault::RestartedFast => restart(server, "fast"),
            Fault::RestartedImmediate => restart(server, "immediate"),
            Fault::BackendCrashed => crash(server),
            Fault::ServerStopped => {
                let stopped = Stopped::all_of(server).unwrap();
                sleep(Duration::from_secs(3));
                drop(stopped);
            }
            Fault::BlackHole => self.network(Network::BlackHole),
            Fault::SlowNetwork => self.network(Network::Slow(Duration::from_millis(500))),
            Fault::ConnectionsCut => self.proxy.cut(),
            Fault::OwnSessionsTerminated => {
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity(NULL) \
                           WHERE application_name = 'dbtriage'";
                admin(server).execute(all).unwrap();
            }
            Fault::RolesLocked => {
                let admin = admin(server);
                admin.execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE").unwrap();
                sleep(Duration::from_secs(3));
                admin.execute("ROLLBACK").unwrap();
            }
            Fault::StatementsReset => admin(server).execute("SELECT pg_stat_statements_reset()").unwrap(),
            Fault::StatisticsReset => admin(server).execute("SELECT pg_stat_reset()").unwrap(),
            Fault::ConnectionsEaten => eat_connections(server),
            Fault::PileUp => pile_up(server),
            Fault::RedisRestarted => self.restart_redis(|redis| redis.stop().unwrap()),
            Fault::RedisKilled => self.restart_redis(|redis| {
                let pid = redis.pid().unwrap();
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
                until("Redis to be gone", PATIENCE, || redis.command(&["PING"]).is_err());
            }),
            Fault::Resized => self.resize_wildly(),
            Fault::OutputStalled => {
                self.tty.stall();
                sleep(Duration::from_secs(3));
                self.tty.go_on();
            }
            Fault::KeysTyped => self.type_keys(),
        }
        now()
    }

    fn network(&self, network: Network) {
        self.proxy.set(network);
        sleep(Duration::from_secs(4));
        self.proxy.set(Network::Open);
    }

    fn restart_redis(&self, stop: impl FnOnce(&dbtriage_lab::Redis)) {
        let redis = self.lab.redis().unwrap();
        stop(redis);
        sleep(Duration::from_secs(1));
        redis.start().unwrap();
    }

    fn resize_wildly(&mut self) {
        for _ in 0..30 {
            let (columns, rows) = (1 + self.random.below(240), 1 + self.random.below(70));
            self.tty.resize(columns.try_into().unwrap(), rows.try_into().unwrap());
            sleep(Duration::from_millis(10 + 10 * self.random.below(15) as u64));
        }
        self.tty.resize(WIDE.0, WIDE.1);
    }

    fn type_keys(&mut self) {
        for _ in 0..60 {
            let key = self.random.one_of(&KEYS);
            self.tty.keys(key);
            let pause = Duration::from_millis(5 * self.random.below(10) as u64);
            sleep(if key == "\x1b" { AFTER_ESCAPE } else { pause });
        }
        escape(self.tty);
    }
}

/// Leaves whatever lies over the panes.
pub(crate) fn escape(tty: &Tty) {
    for _ in 0..3 {
        tty.keys("\x1b");
        sleep(AFTER_ESCAPE);
    }
}

pub(crate) fn admin(server: &Postgres) -> Client {
    server.client("postgres", "shop").unwrap()
}

fn restart(server: &Postgres, mode: &str) {
    server.stop(mode).unwrap();
    server.start().unwrap();
}

fn crash(server: &Postgres) {
    let witness = admin(server);
    server.crash().unwrap();
    until("the server to end every session", PATIENCE, || witness.is_closed());
    until("the server to recover", PATIENCE, || server.client("oncall", "shop").is_ok());
}

fn eat_connections(server: &Postgres) {
    let mut eaten = Vec::new();
    while let Ok(client) = server.client_as("shop_owner", "shop", "crowd") {
        eaten.push(client);
        assert!(eaten.len() < 200, "there is no limit");
    }
    sleep(Duration::from_secs(3));
}

fn pile_up(server: &Postgres) {
    let login = || server.client_as("shop_owner", "shop", "pile").unwrap();
    let holder = login();
    holder.execute("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE").unwrap();
    let waiters: Vec<Client> = (0..PILE).map(|_| login()).collect();
    let waiting: Vec<Running> = waiters.iter().map(|it| it.spawn("SELECT count(*) FROM reports")).collect();
    sleep(Duration::from_secs(5));
    holder.execute("ROLLBACK").unwrap();
    for running in waiting {
        running.wait(PATIENCE).unwrap();
    }
}
