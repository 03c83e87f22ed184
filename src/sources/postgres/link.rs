//! One connection that is opened, set up, lost and opened again: sampler, locks and control each own one.
//!
//! It must not know what is asked over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_postgres::config::SslMode as Encryption;
use tokio_postgres::{Client, Config};

use super::error::{ConnectError, Retry, innermost, may_be_about_tls};
use super::settings::{Endpoint, Host, Secret, Settings, SslMode, TargetSessionAttrs};
use super::tls;
use super::wire::guarded::Bound;
use super::wire::{self, Failure};
use crate::model::Reason;

/// The limit of one statement that is not part of the tick.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(3);

/// A server that lets us in and drops us sooner than this is not knocked at without a pause.
const LASTING: Duration = Duration::from_secs(5);

/// A connection that is doubted must answer within this time.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// A sign of life: idle connections are what firewalls drop first.
pub(super) const PING: &str = "/* dbtriage:ping */ SELECT /* dbtriage */ 1";

/// Longer than any run.
pub(super) const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A clock for what is done now and then: after a stall it goes on, it does not catch up.
pub(super) fn every(period: Duration) -> Interval {
    let mut clock = interval_at(Instant::now() + period, period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    /// What is asked over it.
    pub(super) line: Line,
    /// Process id of our backend.
    pub(super) pid: i32,
    /// Whether our limits on time and locks are in force.
    is_bounded: bool,
    driver: JoinHandle<()>,
}

/// A way to ask: over a connection of one's own, or over one that is lent.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The driver's handle; shared with the batch that is under way.
    pub(super) client: Arc<Client>,
    /// `server_version_num` as far as the greeting tells it: 150000 for 15.x.
    pub(super) major_num: u32,
    /// The role we are connected as, for the statement that would help it.
    pub(super) user: Arc<str>,
    bound: Arc<Bound>,
    ended: watch::Receiver<bool>,
}

impl Line {
    /// How many bytes have come over it so far.
    pub(super) fn heard_bytes(&self) -> usize {
        self.bound.heard_bytes()
    }

    /// Why this connection was lost: what we broke off ourselves the driver does not know.
    pub(super) fn lost_by(&self, error: &tokio_postgres::Error) -> String {
        self.bound.fault().map_or_else(|| innermost(error), ToString::to_string)
    }

    /// Waits until the connection is lost, so that it is opened again before somebody needs it.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.clone();
        // The sender goes with the driver's task: that is the end as well.
        async move { drop(ended.wait_for(|ended| *ended).await) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The servers of a target, shared by its three links so that all of them talk to the same one.
#[derive(Debug)]
pub(super) struct Servers {
    /// How to connect.
    pub(super) settings: Settings,
    /// Place of the endpoint in use; whoever is connected to another one connects anew.
    current: watch::Sender<usize>,
    lent: watch::Sender<Option<Line>>,
    /// Whether a pooler was met: its server connections are shared, and must not be given settings of ours.
    pooled: AtomicBool,
    /// Rung when a role is seen for the first time: control must know it before its sessions can be signalled
    /// under a lock on `pg_authid`.
    pub(super) unseen_role: Notify,
    /// Rung when the sampler's connection turned out to be dead: the others ask for a sign of life.
    pub(super) doubted: Notify,
    /// Whether sessions wait for locks: then nothing is read from catalogs that can wait.
    somebody_waits: AtomicBool,
}

impl Servers {
    /// Starts with the first endpoint.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            current: watch::Sender::new(0),
            lent: watch::Sender::new(None),
            pooled: AtomicBool::new(false),
            unseen_role: Notify::new(),
            doubted: Notify::new(),
            somebody_waits: AtomicBool::new(false),
        }
    }

    /// Notes whether sessions wait for locks.
    pub(super) fn note_waits(&self, somebody_waits: bool) {
        self.somebody_waits.store(somebody_waits, Ordering::Relaxed);
    }

    /// Whether sessions wait for locks, as far as the last tick knew.
    pub(super) fn somebody_waits(&self) -> bool {
        self.somebody_waits.load(Ordering::Relaxed)
    }

    /// Waits until another endpoint is in use.
    pub(super) fn moved(&self) -> impl Future<Output = ()> + use<> {
        let mut current = self.current.subscribe();
        async move {
            if current.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Has the other connections looked at: what was between us and the server may have forgotten them too.
    pub(super) fn doubt(&self) {
        self.doubted.notify_waiters();
    }

    /// Lends the sampler's connection to whoever the server does not admit, or takes it back.
    pub(super) fn lend(&self, line: Option<Line>) {
        self.lent.send_replace(line);
    }

    /// The sampler's connection, while there is one.
    pub(super) fn lent(&self) -> Option<Line> {
        self.lent.borrow().clone()
    }

    /// Waits until the sampler is connected: while the server is away one knocks for all.
    pub(super) fn reached(&self) -> impl Future<Output = ()> + use<> {
        let mut lent = self.lent.subscribe();
        async move {
            if lent.wait_for(Option::is_some).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether a pooler stands between us and the server.
    pub(super) fn pooled(&self) -> bool {
        self.pooled.load(Ordering::Relaxed)
    }

    /// The endpoint in use.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.settings.endpoints.get(*self.current.borrow())
    }

    /// Which of several endpoints is in use, as a target is named; `None` where there is but one.
    pub(super) fn endpoint_of_several(&self) -> Option<String> {
        let count = self.settings.endpoints.len();
        let endpoint = self.endpoint().filter(|_| count > 1)?;
        Some(format!("{endpoint}/{} (of {count} hosts)", self.settings.database))
    }

    /// Connects to the first endpoint that is up and of the wanted kind; later connections go to the same.
    pub(super) async fn connect_any(&self) -> Result<Connection, ConnectError> {
        let prefer_standby = self.settings.target_session_attrs == TargetSessionAttrs::PreferStandby;
        let passes: &[TargetSessionAttrs] = if prefer_standby {
            &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any]
        } else {
            std::slice::from_ref(&self.settings.target_session_attrs)
        };
        let mut failures = Vec::new();
        for wanted in passes {
            failures.clear();
            for (place, endpoint) in self.settings.endpoints.iter().enumerate() {
                match self.connect(endpoint, *wanted, true).await {
                    Ok(connection) => {
                        self.pooled.store(!connection.is_bounded, Ordering::Relaxed);
                        self.current.send_if_modified(|current| std::mem::replace(current, place) != place);
                        return Ok(connection);
                    }
                    Err(error) => failures.push(error),
                }
            }
        }
        Err(ConnectError::of_all(&failures))
    }

    /// Connects to the endpoint in use.
    pub(super) async fn connect_current(&self) -> Result<Connection, ConnectError> {
        let endpoint =
            self.endpoint().ok_or_else(|| ConnectError::hopeless(Reason::new("no host to connect to")))?;
        self.connect(endpoint, TargetSessionAttrs::Any, !self.pooled()).await
    }

    /// Connects as `sslmode` asks.
    async fn connect(
        &self,
        endpoint: &Endpoint,
        wanted: TargetSessionAttrs,
        with_limits: bool,
    ) -> Result<Connection, ConnectError> {
        let encryption = encryption(&self.settings, endpoint);
        let attempt = async {
            let (connection, in_recovery) = match self.open_bounded(endpoint, encryption, with_limits).await {
                // libpq: what is only preferred is left out where that is what stands in the way.
                Err(Refusal::Encryption(first)) if encryption == Encryption::Prefer => {
                    self.open_bounded(endpoint, Encryption::Disable, with_limits).await.map_err(|_| first)
                }
                opened => opened.map_err(Refusal::into_error),
            }?;
            suits(endpoint, wanted, in_recovery).map(|()| connection)
        };
        timeout(self.settings.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(ConnectError::timed_out(endpoint, &self.settings, self.pooled())))
    }

    /// Opens a connection with limits of our own in force, unless a pooler does not let them through.
    async fn open_bounded(
        &self,
        endpoint: &Endpoint,
        encryption: Encryption,
        with_limits: bool,
    ) -> Result<(Connection, bool), Refusal> {
        match open(&self.settings, endpoint, encryption, with_limits).await {
            Err(Refusal::Options) => open(&self.settings, endpoint, encryption, false).await,
            opened => opened,
        }
    }
}

/// Why a connection could not be opened.
enum Refusal {
    /// What stands there does not take settings with the login, as PgBouncer does not.
    Options,
    /// Without TLS, or with it, one may get in.
    Encryption(ConnectError),
    Other(ConnectError),
}

impl Refusal {
    fn into_error(self) -> ConnectError {
        match self {
            Self::Options => {
                ConnectError::hopeless(Reason::new("the server takes no options with the login"))
            }
            Self::Encryption(error) | Self::Other(error) => error,
        }
    }
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        Self::Other(error)
    }
}

/// Opens a connection, with our limits or without; and whether the server is in recovery.
async fn open(
    settings: &Settings,
    endpoint: &Endpoint,
    encryption: Encryption,
    with_limits: bool,
) -> Result<(Connection, bool), Refusal> {
    let connector = if encryption == Encryption::Disable { tls::unused() } else { tls::connector(settings) }
        .map_err(ConnectError::hopeless)?;
    let driver_error = |error: &tokio_postgres::Error| ConnectError::from_driver(error, endpoint, settings);
    let config = driver_config(settings, endpoint, encryption, with_limits);
    let connected = wire::connect(&config, connector, endpoint, settings.connect_timeout).await;
    let (client, connection, bound) = connected.map_err(|failure| match &failure {
        Failure::Driver(error) if with_limits && is_about_options(error) => Refusal::Options,
        Failure::Driver(error) if may_be_about_tls(error) => {
            Refusal::Encryption(failure.into_error(endpoint, settings))
        }
        Failure::Driver(_) | Failure::GivenUp(_) | Failure::Unreached(_) => {
            Refusal::Other(failure.into_error(endpoint, settings))
        }
    })?;
    let version = connection.parameter("server_version").unwrap_or("of an unknown version");
    let major_num = major_num(version);
    if major_num < 130_000 {
        return Err(ConnectError::unreadable(endpoint, settings, version).into());
    }
    let (end, ended) = watch::channel(false);
    let driver = tokio::spawn(async move {
        let ended = connection.await;
        // First of all whoever asks over it must know; the log may be on a disk that hangs.
        end.send_replace(true);
        if let Err(error) = ended {
            tracing::info!("connection lost: {}", innermost(&error));
        }
    });
    let user = settings.user.as_str().into();
    let line = Line { client: Arc::new(client), major_num, user, bound, ended };
    let mut opened = Connection { line, pid: 0, is_bounded: false, driver };
    let row = opened.line.client.query_typed_one(HELLO, &[]).await.map_err(|e| driver_error(&e))?;
    let decode = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    let (pid, in_recovery, is_bounded) = decode().map_err(|e| driver_error(&e))?;
    opened.pid = pid;
    opened.is_bounded = is_bounded;
    if is_bounded && major_num >= 140_000 {
        // The server's own limit for idle sessions would end ours, which wait for the moment they are needed.
        let stay =
            "/* dbtriage:setup */ SELECT /* dbtriage */ set_config('idle_session_timeout', '0', false)";
        opened.line.client.query_typed(stay, &[]).await.map_err(|e| driver_error(&e))?;
    }
    Ok((opened, in_recovery))
}

/// Whether the server is of the kind that was asked for.
fn suits(endpoint: &Endpoint, wanted: TargetSessionAttrs, in_recovery: bool) -> Result<(), ConnectError> {
    let (suits, kind) = match wanted {
        TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => (true, ""),
        TargetSessionAttrs::Primary => (!in_recovery, "a primary"),
        TargetSessionAttrs::Standby => (in_recovery, "a standby"),
    };
    let reason = || Reason::new(format!("{endpoint} is not {kind}, as target_session_attrs asks"));
    if suits { Ok(()) } else { Err(ConnectError::hopeless(reason())) }
}

/// PgBouncer refuses them by name: `unsupported startup parameter: options`, from 1.20 on `... in options: ...`.
fn is_about_options(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        error.message().contains("unsupported startup parameter") && error.message().contains("options")
    })
}

/// How TLS is asked for at first.
fn encryption(settings: &Settings, endpoint: &Endpoint) -> Encryption {
    match (&endpoint.host, settings.sslmode) {
        // libpq: a Unix socket has no TLS, whatever sslmode says.
        (Host::Socket(_), _) | (_, SslMode::Disable) => Encryption::Disable,
        (_, SslMode::Prefer) => Encryption::Prefer,
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => Encryption::Require,
    }
}

fn driver_config(
    settings: &Settings,
    endpoint: &Endpoint,
    encryption: Encryption,
    with_limits: bool,
) -> Config {
    let mut config = Config::new();
    config
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name("dbtriage")
        .ssl_mode(encryption)
        .channel_binding(settings.channel_binding)
        .ssl_negotiation(settings.ssl_negotiation);
    if let Some(Secret(password)) = settings.password.as_ref().or(endpoint.password.as_ref()) {
        config.password(password);
    }
    let limits = if with_limits { LIMITS } else { "" };
    let options = [settings.options.as_deref().unwrap_or_default(), limits].join(" ");
    if !options.trim().is_empty() {
        config.options(options.trim());
    }
    config
}

/// Every session of ours is bounded and harmless. The limits come with the login and not by SET: through a pooler
/// a SET would stay on a server connection that the application is given next.
const LIMITS: &str = "-c statement_timeout=3s -c lock_timeout=200ms -c search_path=pg_catalog -c jit=off \
    -c max_parallel_workers_per_gather=0 -c default_transaction_read_only=on \
    -c idle_in_transaction_session_timeout=10s";

/// Who we are there, and whether our limits are in force: a pooler may swallow them without a word.
const HELLO: &str = "/* dbtriage:hello */ SELECT /* dbtriage */ pg_backend_pid(), pg_is_in_recovery(),
    current_setting('statement_timeout') = '3s' AND current_setting('default_transaction_read_only') = 'on'";

/// `15.18 (Debian ...)` or `18beta1` to 150000 or 180000; 0 for what is not a version.
fn major_num(server_version: &str) -> u32 {
    let digits: String = server_version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().map_or(0, |major| major.saturating_mul(10_000))
}

/// The pauses between attempts: a second while an attempt costs the server nothing, else 0.5 s doubled up to 15 s;
/// each with up to a fifth of jitter, so that many monitors do not knock at the same moment.
#[derive(Debug, Default)]
pub(in crate::sources) struct Backoff {
    attempts: u64,
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt.
    pub(in crate::sources) fn next(&mut self, retry: Retry, seed: u64) -> Duration {
        let base = match retry {
            Retry::Soon => {
                self.failures = 0;
                1_000
            }
            Retry::Later => {
                let pause = 500_u64.saturating_mul(1 << self.failures.min(5));
                self.failures = self.failures.saturating_add(1);
                pause.min(15_000)
            }
        };
        self.attempts = self.attempts.wrapping_add(1);
        // SplitMix64's finaliser spreads a poor seed (process id, clock) well enough for jitter.
        let mut mixed = seed ^ self.attempts.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 27;
        Duration::from_millis(base - mixed % (base / 5))
    }

    /// The pause after a connection that was let in and lost: none after one that has lasted.
    pub(super) fn after(&mut self, lasted: Duration, seed: u64) -> Duration {
        if lasted < LASTING {
            return self.next(Retry::Later, seed);
        }
        self.reset();
        Duration::ZERO
    }

    /// Starts over after a success.
    pub(in crate::sources) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn the_pause_grows_to_its_ceiling() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|seed| backoff.next(Retry::Later, seed).as_millis()).collect();
        assert!((400..=500).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 15_000), "{pauses:?}");
        assert!(pauses[9] >= 12_000, "{pauses:?}");
        backoff.reset();
        assert!(backoff.next(Retry::Later, 3).as_millis() <= 500);
        let soon: Vec<_> = (0..10).map(|seed| backoff.next(Retry::Soon, seed).as_millis()).collect();
        assert!(soon.iter().all(|pause| (800..=1000).contains(pause)), "{soon:?}");
    }

    #[test]
    fn versions_are_read_from_the_greeting() {
        for (text, number) in [("15.18 (Debian 15.18-0+deb12u1)", 150_000), ("18beta1", 180_000), ("?", 0)] {
            assert_eq!(major_num(text), number);
        }
    }
}
