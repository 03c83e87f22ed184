//! Servers of every major version that is here, and the library at work on one of them.

use std::io::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dbtriage::engine::locks::{Forest, Node};
use dbtriage::engine::{Baseline, Observer, PgTick, Thresholds};
use dbtriage::model::action::{Action, ActionReply};
use dbtriage::model::postgres::Session;
use dbtriage::model::{Body, Kind, Reading, Reason, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::postgres::{self, Handle, settings};
use dbtriage_lab::{Client, Lab, MAJORS, Options, Postgres, Running, server_directory};
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

/// How long a state may take to show, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The interval of the samples.
const INTERVAL: Duration = Duration::from_millis(100);
/// The application name of every session of these tests.
const APPLICATION: &str = "locks";

/// The server that is used where no version is asked for, and its version.
static DEFAULT: LazyLock<(u32, Mutex<Lab>)> = LazyLock::new(|| {
    let lab = start(None).unwrap_or_else(|error| panic!("{error}"));
    let client = lab.primary().client("postgres", "shop").unwrap();
    let major = client.cell("SELECT current_setting('server_version_num')::int / 10000").unwrap();
    (major.parse().unwrap(), Mutex::new(lab))
});

/// The servers of the versions; `None` inside for one that is not here.
static SERVERS: [OnceLock<Option<Mutex<Lab>>>; MAJORS.len()] = [const { OnceLock::new() }; MAJORS.len()];

/// Starts servers on which nothing interferes: circles stay, and a standby waits for its readers for ever.
fn start(major: Option<u32>) -> Result<Lab, String> {
    let settings =
        [("deadlock_timeout", "10min"), ("autovacuum", "off"), ("max_standby_streaming_delay", "-1")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = Options { redis: false, settings, major, ..Options::default() };
    Lab::start(options).map_err(|error| format!("{error:#}"))
}

/// The versions there is a server of. What is missing is said, past the test's own capture.
fn majors() -> &'static [u32] {
    static FOUND: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let (here, missing): (Vec<u32>, Vec<u32>) =
            MAJORS.into_iter().partition(|major| lab(*major).is_some());
        if !missing.is_empty() {
            let text = format!(
                "PostgreSQL {missing:?} is not here, so the lock graph was not tested on it: \
                 sh tests/lab/setup.sh --all-versions\n"
            );
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        }
        here
    });
    &FOUND
}

fn lab(major: u32) -> Option<&'static Mutex<Lab>> {
    if major == DEFAULT.0 {
        return Some(&DEFAULT.1);
    }
    let place = MAJORS.iter().position(|known| *known == major)?;
    let found = SERVERS[place].get_or_init(|| {
        server_directory(major)?;
        Some(Mutex::new(start(Some(major)).unwrap_or_else(|error| panic!("{error}"))))
    });
    found.as_ref()
}

/// Runs a test on every version there is, one after the other; each finds its server as if new.
pub(crate) fn on_every_major(test: impl Fn(&Stage)) {
    for major in majors() {
        // A test that failed leaves the servers as good as they were: its sessions are ended here.
        let lab = lab(*major).unwrap().lock().unwrap_or_else(PoisonError::into_inner);
        let stage = Stage { lab, major: *major };
        stage.clear();
        test(&stage);
        stage.clear();
    }
}

/// The servers of one version, for one test.
pub(crate) struct Stage {
    lab: MutexGuard<'static, Lab>,
    pub(crate) major: u32,
}

impl Stage {
    pub(crate) fn is_default(&self) -> bool {
        self.major == DEFAULT.0
    }

    pub(crate) fn primary(&self) -> &Postgres {
        self.lab.primary()
    }

    pub(crate) fn standby(&self) -> &Postgres {
        self.lab.standby().unwrap()
    }

    /// A session of the application on the primary.
    pub(crate) fn session(&self) -> Client {
        session(self.primary())
    }

    /// A second pair of eyes on the primary.
    pub(crate) fn client(&self) -> Client {
        self.primary().client("postgres", "shop").unwrap()
    }

    /// Ends every session of the tests and every prepared transaction, and waits until no lock of theirs is left.
    pub(crate) fn clear(&self) {
        for server in [self.standby(), self.primary()] {
            let client = server.client("postgres", "shop").unwrap();
            let sessions = format!("FROM pg_stat_activity WHERE application_name = '{APPLICATION}'");
            let terminate = format!("SELECT pg_terminate_backend(pid) {sessions}");
            client.execute(&terminate).unwrap();
            for row in client.rows("SELECT gid FROM pg_prepared_xacts").unwrap() {
                client.execute(&format!("ROLLBACK PREPARED '{}'", row[0].as_ref().unwrap())).unwrap();
            }
            let left = format!("SELECT count(*) {sessions}");
            until("the sessions to end", || client.cell(&left).unwrap() == "0");
        }
        // What the primary has locked, the standby lets go a moment later.
        let client = self.standby().client("postgres", "shop").unwrap();
        let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'";
        flush(&self.client());
        until("the standby to let go", || client.cell(held).unwrap() == "0");
    }
}

/// A session of the application.
pub(crate) fn session(server: &Postgres) -> Client {
    server.client_as("shop_owner", "shop", APPLICATION).unwrap()
}

/// Commits something, so that the log before it reaches the standby.
pub(crate) fn flush(client: &Client) {
    client.execute("SELECT pg_logical_emit_message(true, 'locks', 'flush')").unwrap();
}

/// Looks at a condition until it holds.
pub(crate) fn until(what: &str, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a statement and waits until its session waits for a lock.
pub(crate) fn start_waiting(client: &Client, waiter: &Client, sql: &str) -> Running {
    let running = waiter.spawn(sql);
    until("the session to wait", || waits(client, waiter.pid()));
    running
}

/// Whether a process waits for a lock; where the server tells since when, only once it does.
pub(crate) fn waits(client: &Client, pid: i32) -> bool {
    let sql = format!("SELECT * FROM pg_lock_status() WHERE pid = {pid} AND NOT granted");
    let rows = client.rows(&sql).unwrap();
    // The last column since 14 is the start of the wait, and absent for an instant.
    rows.iter().any(|row| row.len() < 16 || row[15].is_some())
}

/// The library on a server, as the screen uses it.
pub(crate) struct Watch {
    handle: Handle,
    samples: mpsc::Receiver<dbtriage::model::Sample>,
    observer: Observer,
    _pace: watch::Sender<Pace>,
    runtime: Runtime,
}

impl Watch {
    pub(crate) fn start(server: &Postgres) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let environment = settings::Environment::from([("HOME".to_owned(), "/nonexistent".to_owned())]);
        let conninfo = server.conninfo("oncall", "shop");
        let settings = settings::resolve(&settings::parse(&conninfo).unwrap(), &environment).unwrap();
        let opened = runtime.block_on(postgres::open(settings)).unwrap();
        let target = Target { id: TargetId(0), name: "shop".to_owned(), kind: Kind::Postgres };
        let (pace_sender, pace) = watch::channel(Pace::screen(INTERVAL));
        let (sender, samples) = mpsc::channel(1);
        let handle = {
            let _inside = runtime.enter();
            opened.start(&target, pace, sender)
        };
        let observer = Observer::new(target, Baseline::Previous, Thresholds::default());
        Self { handle, samples, observer, _pace: pace_sender, runtime }
    }

    /// What the program makes of a sample that was begun after now, with a lock table of its own.
    pub(crate) fn look(&mut self, client: &Client) -> PgTick {
        let sql = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let now: Timestamp = client.cell(sql).unwrap().parse().unwrap();
        let started = Instant::now();
        loop {
            let receive = async { tokio::time::timeout(PATIENCE, self.samples.recv()).await };
            let sample = self.runtime.block_on(receive).expect("no sample").expect("the sampler has ended");
            let is_good = matches!(sample.body, Body::Postgres(_));
            self.observer.observe(&sample);
            if is_good
                && let Some(tick) = self.observer.tick().and_then(|tick| tick.postgres())
                && tick.sample.server_time > now
                && matches!(tick.forest, Reading::Fresh(_))
            {
                return tick.clone();
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain for a lock table");
        }
    }

    pub(crate) fn act(&self, action: Action) -> Result<ActionReply, Reason> {
        self.runtime.block_on(self.handle.act(action))
    }
}

pub(crate) fn forest(tick: &PgTick) -> &Forest {
    tick.forest.value().unwrap()
}

/// A session of a tick.
pub(crate) fn session_of(tick: &PgTick, pid: i32) -> &Session {
    let mut sessions = tick.sample.sessions.value().unwrap().iter();
    sessions.find(|session| session.id.pid == pid).unwrap_or_else(|| panic!("no session {pid}"))
}

/// The only root.
pub(crate) fn only_root(forest: &Forest) -> &Node {
    let roots: Vec<&Node> = forest.roots().collect();
    let [root] = roots[..] else { panic!("not one root: {roots:?}") };
    root
}

/// Who stands under a node, by process.
pub(crate) fn children(forest: &Forest, node: &Node) -> Vec<i32> {
    let mut pids: Vec<i32> = forest.children(node).filter_map(|child| child.pid).collect();
    pids.sort_unstable();
    pids
}
