//! One connection as it is opened, set up and lost: sampler, locks and control each own one.
//!
//! It must not know what is asked over it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_postgres::config::SslMode as Encryption;
use tokio_postgres::{Client, Config};

use super::error::{ConnectError, innermost, may_be_about_tls};
use super::settings::{Endpoint, Host, Secret, Settings, SslMode, TargetSessionAttrs};
use super::tls;
use super::wire::guarded::Bound;
use super::wire::{self, Failure, LoggedIn};
use crate::model::Reason;

/// The limit of one statement that is not part of the tick.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(3);

/// A connection that is doubted must answer within this time.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// A sign of life: idle connections are what firewalls drop first.
pub(super) const PING: &str = "/* dbtriage:ping */ SELECT /* dbtriage */ 1";

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
    pub(super) is_bounded: bool,
    /// Place of the endpoint among those of the target.
    pub(super) place: usize,
    /// The address it was found at; `None` for a Unix socket.
    pub(super) address: Option<IpAddr>,
    /// When the server was started, which tells it from another one behind the same name.
    pub(super) started_at: Timestamp,
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

/// Connects as `sslmode` asks, to a server of the wanted kind; there is no limit on the time.
pub(super) async fn connect(
    settings: &Settings,
    endpoint: &Endpoint,
    wanted: TargetSessionAttrs,
    limits: Limits,
) -> Result<Connection, ConnectError> {
    let encryption = encryption(settings, endpoint);
    let (connection, in_recovery) = match open_bounded(settings, endpoint, encryption, limits).await {
        // libpq: what is only preferred is left out where that is what stands in the way.
        Err(Refusal::Encryption(first)) if encryption == Encryption::Prefer => {
            open_bounded(settings, endpoint, Encryption::Disable, limits).await.map_err(|_| first)
        }
        opened => opened.map_err(Refusal::into_error),
    }?;
    suits(endpoint, wanted, in_recovery).map(|()| connection)
}

/// Opens a connection with limits of our own in force, unless a pooler does not let them through.
async fn open_bounded(
    settings: &Settings,
    endpoint: &Endpoint,
    encryption: Encryption,
    limits: Limits,
) -> Result<(Connection, bool), Refusal> {
    match open(settings, endpoint, encryption, limits).await {
        Err(Refusal::Options) => open(settings, endpoint, encryption, Limits::None).await,
        opened => opened,
    }
}

/// Opens a connection, with our limits or without; and whether the server is in recovery.
async fn open(
    settings: &Settings,
    endpoint: &Endpoint,
    encryption: Encryption,
    limits: Limits,
) -> Result<(Connection, bool), Refusal> {
    let connector = if encryption == Encryption::Disable { tls::unused() } else { tls::connector(settings) }
        .map_err(ConnectError::hopeless)?;
    let driver_error = |error: &tokio_postgres::Error| ConnectError::from_driver(error, endpoint, settings);
    let config = driver_config(settings, endpoint, encryption, limits);
    let connected = wire::connect(&config, connector, endpoint, settings.connect_timeout).await;
    let LoggedIn { client, connection, bound, address } = connected.map_err(|failure| match &failure {
        Failure::Driver(error) if limits != Limits::None && is_about_options(error) => Refusal::Options,
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
    let started_at = Timestamp::UNIX_EPOCH;
    let mut opened = Connection { line, pid: 0, is_bounded: false, place: 0, address, started_at, driver };
    let row = opened.line.client.query_typed_one(HELLO, &[]).await.map_err(|e| driver_error(&e))?;
    let decode = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    let (pid, in_recovery, is_bounded, started_at) = decode().map_err(|e| driver_error(&e))?;
    opened.pid = pid;
    opened.is_bounded = is_bounded;
    opened.started_at = started_at;
    if is_bounded {
        opened.line.client.query_typed(&timeouts(major_num), &[]).await.map_err(|e| driver_error(&e))?;
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

fn driver_config(settings: &Settings, endpoint: &Endpoint, encryption: Encryption, limits: Limits) -> Config {
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
    let [limits, path] = match limits {
        Limits::All => [LIMITS, SEARCH_PATH],
        Limits::WithoutPath => [LIMITS, ""],
        Limits::None => ["", ""],
    };
    let options = [settings.options.as_deref().unwrap_or_default(), limits, path].join(" ");
    if !options.trim().is_empty() {
        config.options(options.trim());
    }
    config
}

/// Every session of ours is harmless. This comes with the login and not by SET: through a pooler a SET would stay on a
/// server connection that the application is given next, and a pooler swallows this, by which it is known.
const LIMITS: &str = "-c jit=off -c max_parallel_workers_per_gather=0 -c default_transaction_read_only=on -c dbtriage.direct=on";

/// The limits on time of a session, set once it is known that no pooler stands between: what the login itself sets the
/// server would show as its own default, which people must see. Its limit for idle sessions (14 and later) would end
/// ours, which wait for the moment they are needed.
fn timeouts(major_num: u32) -> String {
    let stay = if major_num >= 140_000 { ", set_config('idle_session_timeout', '0', false)" } else { "" };
    format!(
        "/* dbtriage:setup */ SELECT /* dbtriage */ set_config('statement_timeout', '3s', false), \
         set_config('lock_timeout', '200ms', false), \
         set_config('idle_in_transaction_session_timeout', '10s', false){stay}"
    )
}

/// Nothing of a user's is taken for something of the server's.
const SEARCH_PATH: &str = "-c search_path=pg_catalog";

/// Which settings of ours come with the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limits {
    /// All of them.
    All,
    /// Those that bound it; names are looked up as for our role.
    WithoutPath,
    /// None: a pooler stands between.
    None,
}

/// Who we are there, and whether our limits are in force: a pooler may swallow them without a word.
const HELLO: &str = "/* dbtriage:hello */ SELECT /* dbtriage */ pg_backend_pid(), pg_is_in_recovery(),
    coalesce(current_setting('dbtriage.direct', true) = 'on', false)
        AND current_setting('default_transaction_read_only') = 'on',
    pg_postmaster_start_time()";

/// `15.18 (Debian ...)` or `18beta1` to 150000 or 180000; 0 for what is not a version.
fn major_num(server_version: &str) -> u32 {
    let digits: String = server_version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().map_or(0, |major| major.saturating_mul(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn versions_are_read_from_the_greeting() {
        for (text, number) in [("15.18 (Debian 15.18-0+deb12u1)", 150_000), ("18beta1", 180_000), ("?", 0)] {
            assert_eq!(major_num(text), number);
        }
    }
}
