//! Reading a Redis server: PING and INFO on one connection, nothing that walks the keyspace, never MONITOR.
//!
//! It must not know what the figures mean.

mod info;

use std::time::Duration;

use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Pace;
use super::postgres::link::Backoff;
use super::postgres::settings::Secret;
use super::postgres::{ConnectError, Cure, Retry};
use crate::format::seconds_between;
use crate::model::redis::Sample as RedisSample;
use crate::model::{Body, Outage, OutageKind, Reason, Sample, Target};

/// The longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that has given no answer for this long is given up, seconds.
const SILENCE_MAX_SECONDS: f64 = 10.0;

/// A Redis server and how to reach it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Knows no password: the crate would log in by itself and keep the server's refusal to itself.
    client: Client,
    user: Option<String>,
    password: Option<Secret>,
    /// `host:port` or the path of a socket.
    pub name: String,
}

/// Reads a `redis://`, `rediss://` or `unix://` URL. A password in it wins over `password`.
/// Errors when the URL cannot be read; the message never repeats it.
pub fn settings(url: &str, password: Option<&Secret>) -> Result<Settings, Reason> {
    let refuse = |error: &RedisError| {
        Reason::new(format!("a Redis URL cannot be read: {}", error.category()))
            .with_hint("write redis://[user[:password]@]host[:port][/db]")
    };
    let info = url.into_connection_info().map_err(|error| refuse(&error))?;
    let login = info.redis_settings();
    let user = login.username().map(str::to_owned);
    let password = login.password().map(|word| Secret(word.to_owned())).or_else(|| password.cloned());
    let name = address(info.addr());
    // INFO tells of the whole server: no database is selected.
    let info = info.set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
    Ok(Settings { client: Client::open(info).map_err(|error| refuse(&error))?, user, password, name })
}

/// Whether a URL holds a password, which other users of the machine can then read in the process list.
pub fn url_has_password(url: &str) -> bool {
    url.into_connection_info().is_ok_and(|info| info.redis_settings().password().is_some())
}

fn address(address: &ConnectionAddr) -> String {
    if let ConnectionAddr::Unix(path) = address { path.display().to_string() } else { address.to_string() }
}

/// A server whose connection may be open already.
#[derive(Debug)]
pub struct Opened {
    settings: Settings,
    first: Option<MultiplexedConnection>,
}

/// Connects once and asks for a first answer, so that what waiting does not cure can be said at start.
pub async fn open(settings: Settings) -> Result<Opened, ConnectError> {
    let mut connection = connect(&settings).await?;
    let answer: Result<String, RedisError> =
        redis::cmd("INFO").arg("server").query_async(&mut connection).await;
    answer.map_err(|error| explain(&error, &settings))?;
    Ok(Opened { settings, first: Some(connection) })
}

/// A server that could not be connected to yet: the task keeps trying.
pub const fn not_yet_open(settings: Settings) -> Opened {
    Opened { settings, first: None }
}

/// The running task of one server. Dropping it closes the connection.
#[derive(Debug)]
pub struct Handle {
    _tasks: JoinSet<()>,
}

impl Opened {
    /// Starts reading. Samples go to `samples`, which makes the reader wait when it is full.
    pub fn start(
        self,
        target: &Target,
        pace: watch::Receiver<Pace>,
        samples: mpsc::Sender<Sample>,
    ) -> Handle {
        let reader =
            Reader { target: target.clone(), settings: self.settings, pace, samples, failing_since: None };
        let mut tasks = JoinSet::new();
        tasks.spawn(reader.run(self.first));
        Handle { _tasks: tasks }
    }
}

async fn connect(settings: &Settings) -> Result<MultiplexedConnection, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT));
    let opening = settings.client.get_multiplexed_async_connection_with_config(&config);
    // The crate's own limits cover the socket; this one covers whatever they do not.
    let mut connection = timeout(CONNECT_TIMEOUT * 2, opening)
        .await
        .map_err(|_| ConnectError {
            reason: Reason::new(format!("{} accepts no connection", settings.name)).with_hint("still trying"),
            cure: Cure::Wait,
            outage: OutageKind::Blocked,
            retry: Retry::Later,
        })?
        .map_err(|error| explain(&error, settings))?;
    if let Some(Secret(password)) = &settings.password {
        let mut login = redis::cmd("AUTH");
        if let Some(user) = &settings.user {
            login.arg(user);
        }
        let answer: Result<(), RedisError> = login.arg(password).query_async(&mut connection).await;
        answer.map_err(|error| explain(&error, settings))?;
    }
    Ok(connection)
}

/// Tells a stalled server from a refused connection and from an error reply, which is repeated word for word.
fn explain(error: &RedisError, settings: &Settings) -> ConnectError {
    let name = &settings.name;
    if error.is_timeout() {
        let reason =
            Reason::new(format!("{name} does not answer: blocked by a slow command, a fork or the network"));
        return ConnectError { reason, cure: Cure::Wait, outage: OutageKind::Blocked, retry: Retry::Later };
    }
    if let Some(code) = error.code() {
        let detail = error.detail().unwrap_or_default();
        let (cure, hint) = match code {
            "NOAUTH" | "WRONGPASS" => (Cure::None, Some("set REDISCLI_AUTH, or the password in the config")),
            "NOPERM" => (Cure::None, Some("ACL SETUSER the user +info +ping")),
            "DENIED" => (Cure::None, Some("give Redis a password, or connect from its own machine")),
            "BUSY" => (Cure::Wait, Some("a script runs; SCRIPT KILL stops it if it has not written")),
            _ => (Cure::Wait, None),
        };
        let text = format!("{name} answered: {code} {detail}");
        let reason = hint.map_or_else(
            || Reason::new(text.trim_end()),
            |hint| Reason::new(text.trim_end()).with_hint(hint),
        );
        // One that loads its data set is ready soon.
        let retry = if code == "LOADING" { Retry::Soon } else { Retry::Later };
        return ConnectError { reason, cure, outage: OutageKind::Error, retry };
    }
    let reason = Reason::new(format!("cannot connect to {name}: {error}"));
    ConnectError {
        reason: reason.with_hint("is it running there? check the URL"),
        cure: Cure::None,
        outage: OutageKind::Unreachable,
        retry: Retry::Soon,
    }
}

struct Reader {
    target: Target,
    settings: Settings,
    pace: watch::Receiver<Pace>,
    samples: mpsc::Sender<Sample>,
    failing_since: Option<Timestamp>,
}

impl Reader {
    async fn run(mut self, first: Option<MultiplexedConnection>) {
        let mut backoff = Backoff::default();
        let mut connection = first;
        let mut next = Instant::now();
        loop {
            sleep_until(next).await;
            let pace = *self.pace.borrow_and_update();
            next = Instant::now() + pace.interval;
            let asked_at = now();
            let outcome = match &mut connection {
                Some(open) => read(open, pace, &self.settings).await,
                None => match connect(&self.settings).await {
                    Ok(mut open) => {
                        let outcome = read(&mut open, pace, &self.settings).await;
                        connection = Some(open);
                        outcome
                    }
                    Err(error) => Err(error),
                },
            };
            let (body, pause) = match outcome {
                Ok(sample) => {
                    backoff.reset();
                    self.failing_since = None;
                    (Body::Redis(Box::new(sample)), None)
                }
                Err(error) => {
                    let retry = error.retry;
                    let failing = self.failing_since.map_or(0.0, |since| seconds_between(since, now()));
                    // A connection that has been silent for long may never speak again: a failover behind a firewall.
                    if error.outage == OutageKind::Unreachable || SILENCE_MAX_SECONDS < failing {
                        connection = None;
                    }
                    // Not even a stalled server is logged in to with every tick.
                    let pause =
                        connection.is_none().then(|| backoff.next(retry, u64::from(std::process::id())));
                    (self.outage(error, pause), pause)
                }
            };
            if let Some(pause) = pause {
                next = Instant::now() + pause;
            }
            let sample = Sample { target: self.target.id, asked_at, taken_at: now(), body };
            if self.samples.send(sample).await.is_err() {
                return;
            }
        }
    }

    fn outage(&mut self, error: ConnectError, pause: Option<Duration>) -> Body {
        let now = now();
        let since = *self.failing_since.get_or_insert(now);
        let retry_at = pause.and_then(|pause| now.checked_add(pause).ok());
        Body::Outage(Outage { kind: error.outage, reason: error.reason, since, retry_at })
    }
}

async fn read(
    connection: &mut MultiplexedConnection,
    pace: Pace,
    settings: &Settings,
) -> Result<RedisSample, ConnectError> {
    connection.set_response_timeout(pace.deadline() / 2);
    let asked = Instant::now();
    let ping: Result<(), RedisError> = redis::cmd("PING").query_async(connection).await;
    ping.map_err(|error| explain(&error, settings))?;
    let ping_seconds = asked.elapsed().as_secs_f64();
    let text: Result<Vec<u8>, RedisError> = redis::cmd("INFO").query_async(connection).await;
    let text = text.map_err(|error| explain(&error, settings))?;
    Ok(info::parse(&String::from_utf8_lossy(&text), now(), ping_seconds))
}

/// Whether the text looks like a URL of a Redis server.
pub fn looks_like_url(text: &str) -> bool {
    ["redis://", "rediss://", "valkey://", "valkeys://", "redis+unix://", "unix://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

fn now() -> Timestamp {
    Timestamp::now()
}
