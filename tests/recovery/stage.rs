//! A server of its own with traffic, sessions that block each other, and the recovery that follows its samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dbtriage::engine::locks::Forest;
use dbtriage::engine::recovery::{Figure, Now, Recovery, Verdict, Watch};
use dbtriage::engine::{Baseline, Finding, Observer, PgTick, Thresholds, Tick};
use dbtriage::format::seconds_between;
use dbtriage::model::postgres::SessionId;
use dbtriage::model::{Body, Kind, Sample, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::postgres::{self, Handle, settings};
use dbtriage_lab::{Client, Lab, Options, Running};
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

/// The interval of the samples.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a state may take to show, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Samples that show what is usual.
const CALM_SAMPLES: usize = 12;
/// The row that is fought for.
pub(crate) const ROW: u32 = 11;

/// What keeps a row locked until its session ends or commits.
pub(crate) fn hold(status: &str) -> String {
    format!("BEGIN; UPDATE orders SET status = '{status}' WHERE id = {ROW}")
}

/// What the application does to an order.
pub(crate) fn work(order: u32) -> String {
    format!("UPDATE orders SET total_cents = total_cents + 1 WHERE id = {order}")
}

/// A server, and what is known of its recovery.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) admin: Client,
    runtime: Runtime,
    _handle: Handle,
    samples: mpsc::Receiver<Sample>,
    _pace: watch::Sender<Pace>,
    observer: Observer,
    pub(crate) watch: Watch,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let lab = Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let conninfo = settings::parse(&lab.primary().conninfo("oncall", "shop")).unwrap();
        let settings = settings::resolve(&conninfo, &settings::Environment::new()).unwrap();
        let opened = runtime.block_on(postgres::open(settings)).unwrap();
        let target = Target { id: TargetId(0), name: "shop".into(), kind: Kind::Postgres };
        let (pace_sender, pace) = watch::channel(Pace::screen(INTERVAL));
        let (sender, samples) = mpsc::channel(1);
        let handle = {
            let _inside = runtime.enter();
            opened.start(&target, pace, sender)
        };
        let admin = lab.primary().client("postgres", "shop").unwrap();
        Self {
            lab,
            admin,
            runtime,
            _handle: handle,
            samples,
            _pace: pace_sender,
            observer: Observer::new(target, Baseline::Previous, Thresholds::default()),
            watch: Watch::default(),
        }
    }

    /// A session of the application.
    pub(crate) fn session(&self, name: &str) -> Client {
        self.lab.primary().client_as("shop_owner", "shop", name).unwrap()
    }

    /// Lets the next sample pass, and follows the recovery with it as the screen does.
    pub(crate) fn next(&mut self) -> Option<Verdict> {
        let receive = async { tokio::time::timeout(PATIENCE, self.samples.recv()).await };
        let sample = self.runtime.block_on(receive).expect("no sample in time").expect("the sampler ended");
        self.observer.observe(&sample);
        if let Body::Outage(_) = sample.body {
            self.watch.interrupt();
            return None;
        }
        let findings: Vec<&Finding> = self.observer.findings().iter().collect();
        let tick = self.observer.tick().and_then(Tick::postgres).unwrap();
        self.watch.observe(&Now { tick, redis: None, findings: &findings, at: sample.taken_at })
    }

    pub(crate) fn tick(&self) -> &PgTick {
        self.observer.tick().and_then(Tick::postgres).unwrap()
    }

    /// Lets samples pass until something holds.
    pub(crate) fn until(&mut self, what: &str, limit: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        loop {
            self.next();
            if holds(self) {
                return;
            }
            assert!(started.elapsed() < limit, "waited {limit:?} for {what}: {}", self.told());
        }
    }

    /// Lets so many seconds of samples pass since the baseline, in which something must hold always.
    pub(crate) fn always_until(&mut self, seconds: f64, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        while self.seconds() < seconds {
            self.next();
            assert!(holds(self), "{what}: {}", self.told());
        }
    }

    /// Sees what is usual.
    pub(crate) fn see_calm(&mut self) {
        for _ in 0..CALM_SAMPLES {
            self.next();
        }
        assert!(self.observer.findings().is_empty(), "{:?}", self.observer.findings());
    }

    /// Lets sessions wait, and samples pass until that is found.
    pub(crate) fn see_waiting(&mut self, count: usize) {
        let enough = format!("{count} sessions to wait");
        self.until(&enough, PATIENCE, |stage| {
            let is_found = stage.observer.findings().iter().any(|finding| finding.check == "blocking");
            stage.tick().vitals.blocked.is_some_and(|blocked| count <= blocked) && (is_found || count < 3)
        });
    }

    pub(crate) fn id_of(&self, client: &Client) -> SessionId {
        let sessions = self.tick().sample.sessions.value().unwrap();
        sessions.iter().find(|session| session.id.pid == client.pid()).unwrap().id
    }

    /// Sets a baseline as an action on a session does, or as one does by hand.
    pub(crate) fn set(&mut self, on: Option<&Client>) {
        let session = on.map(|client| self.id_of(client));
        let findings: Vec<&Finding> = self.observer.findings().iter().collect();
        let tick = self.observer.tick().and_then(Tick::postgres).unwrap();
        let now = Now { tick, redis: None, findings: &findings, at: Timestamp::now() };
        self.watch.set(&now, "the test".into(), session);
    }

    /// Sets a baseline and ends the session by another one.
    pub(crate) fn terminate(&mut self, root: &Client) {
        self.set(Some(root));
        self.admin.execute(&format!("SELECT pg_terminate_backend({})", root.pid())).unwrap();
    }

    pub(crate) fn recovery(&self) -> &Recovery {
        self.watch.last().unwrap()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.recovery().verdict()
    }

    /// Each verdict and how many seconds after the baseline it was given.
    pub(crate) fn verdicts(&self) -> Vec<(Verdict, f64)> {
        let recovery = self.recovery();
        recovery.verdicts.iter().map(|(at, it)| (*it, seconds_between(recovery.at, *at))).collect()
    }

    pub(crate) fn has_said(&self, verdict: Verdict) -> bool {
        self.recovery().verdicts.iter().any(|(_, said)| *said == verdict)
    }

    /// Seconds since the baseline.
    pub(crate) fn seconds(&self) -> f64 {
        seconds_between(self.recovery().at, Timestamp::now())
    }

    /// The last value of a figure.
    pub(crate) fn figure(&self, figure: Figure) -> Option<f64> {
        self.recovery().points.back().and_then(|(_, figures)| figure.of(figures))
    }

    /// What is known, for a test that failed.
    fn told(&self) -> String {
        let verdicts = self.watch.last().map(|_| self.verdicts());
        let relapses = self.watch.last().map(|it| it.relapses);
        let roots: Vec<String> = self
            .tick()
            .forest
            .value()
            .into_iter()
            .flat_map(Forest::roots)
            .map(|root| {
                format!("{} with {} behind for {:?}", root.title(), root.behind, root.longest_wait_seconds)
            })
            .collect();
        format!("{verdicts:?}, relapses {relapses:?}, roots {roots:?}, found {:#?}", self.observer.findings())
    }
}

/// Sessions that run statements one after another, until it is dropped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Sessions that do something again and again; what is said about each is by its number.
    pub(crate) fn start(stage: &Stage, sessions: u32, statements: impl Fn(u32) -> Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let session = |number: u32| {
            let client = stage.session("web");
            let (stop, statements) = (Arc::clone(&stop), statements(number));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for statement in &statements {
                        client.execute(statement).unwrap();
                    }
                }
            })
        };
        let threads = (0..sessions).map(session).collect();
        Self { stop, threads }
    }

    /// About fifty transactions per second that are in nobody's way.
    pub(crate) fn light(stage: &Stage) -> Self {
        Self::start(stage, 2, |number| vec![work(100 + number), "SELECT pg_sleep(0.04)".into()])
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that failed has said so.
            drop(thread.join());
        }
    }
}

/// Sessions that wait, each with what it runs.
pub(crate) struct Waiters(Vec<(Client, Running)>);

impl Waiters {
    pub(crate) fn start(stage: &Stage, count: usize, statement: &str) -> Self {
        let waiter = |_| {
            let client = stage.session("checkout");
            let running = client.spawn(statement);
            (client, running)
        };
        Self((0..count).map(waiter).collect())
    }

    /// All of them go on.
    pub(crate) fn end(self) {
        for (_client, running) in self.0 {
            drop(running.wait(PATIENCE).unwrap());
        }
    }
}
