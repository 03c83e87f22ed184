//! Reading a Redis server on one connection: PING and INFO with every tick, clients, slow log and cluster every ten
//! seconds; nothing that walks the keyspace, never MONITOR.
//!
//! It must not know what the figures mean.

mod info;
mod upkeep;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, Value,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use self::wire::Connection;
use super::backoff::{Backoff, Retry};
use super::postgres::settings::Secret;
use super::postgres::wire::guarded::Fault;
use super::postgres::{ConnectError, Cure};
use super::{Pace, now};
use crate::format::seconds_between;
use crate::model::redis::{Sample as RedisSample, Upkeep};
use crate::model::{Body, Outage, OutageKind, Reason, Sample, Target};

/// The longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What costs the server more than INFO is read this often.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);

/// A connection that has given no answer for this long is given up, seconds.
const SILENCE_MAX_SECONDS: f64 = 10.0;

/// A Redis server and how to reach it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Knows no password: the crate would log in by itself and keep the server's refusal to itself.
    info: ConnectionInfo,
    user: Option<String>,
    password: Option<Secret>,
    /// `host:port` or the path of a socket.
    pub name: String,
}

/// Reads a `redis://`, `rediss://` or `unix://` URL. A password in it wins over `password`.
/// Errors when the URL cannot be read; the message never repeats it.
pub fn settings(url: &str, password: Option<&Secret>) -> Result<Settings, Reason> {
    if holds_loose_at(url) {
        return Err(Reason::new("a Redis URL cannot be read: there is an @ after the host")
            .with_hint("in a password write / as %2F, ? as %3F, # as %23 and @ as %40"));
    }
    let info = url.into_connection_info().map_err(|error| {
        Reason::new(format!("a Redis URL cannot be read: {}", error.category()))
            .with_hint("write redis://[user[:password]@]host[:port][/db]")
    })?;
    let login = info.redis_settings();
    let user = login.username().map(str::to_owned);
    let password = login.password().map(|word| Secret(word.to_owned())).or_else(|| password.cloned());
    let name = address(info.addr());
    // INFO tells of the whole server: no database is selected.
    let info = info.set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
    Ok(Settings { info, user, password, name })
}

/// Whether an @ stands after the host: a password that is not percent-encoded, of which a part would be taken for the
/// host and shown.
fn holds_loose_at(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let after_host = rest.split_once(['/', '?', '#']).map_or("", |(_, after)| after);
    !scheme.contains("unix") && after_host.contains('@')
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
    first: Option<Connection>,
}

/// Connects once and asks for a first answer, so that what waiting does not cure can be said at start.
pub async fn open(settings: Settings) -> Result<Opened, ConnectError> {
    let mut connection = connect(&settings).await?;
    // Whoever does not answer this as Redis does is asked no more.
    ask::<()>(&mut connection, &redis::cmd("PING"), &settings).await?;
    ask::<Value>(&mut connection, redis::cmd("INFO").arg("server"), &settings).await?;
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
        let reader = Reader {
            target: target.clone(),
            settings: self.settings,
            pace,
            samples,
            failing_since: None,
            upkeep: None,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(reader.run(self.first));
        Handle { _tasks: tasks }
    }
}

async fn connect(settings: &Settings) -> Result<Connection, ConnectError> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(CONNECT_TIMEOUT));
    let opening = timeout(CONNECT_TIMEOUT, wire::connect(&settings.info, config)).await;
    let mut connection = opening
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
        .map_err(|error| explain(&error, settings))?;
    if let Some(Secret(password)) = &settings.password {
        let mut login = redis::cmd("AUTH");
        if let Some(user) = &settings.user {
            login.arg(user);
        }
        ask::<()>(&mut connection, login.arg(password), settings).await?;
    }
    Ok(connection)
}

/// Sends one command and reads its answer.
async fn ask<T: FromRedisValue>(
    connection: &mut Connection,
    command: &redis::Cmd,
    settings: &Settings,
) -> Result<T, ConnectError> {
    let answer: Result<T, RedisError> = command.query_async(&mut connection.client).await;
    answer.map_err(|error| match connection.fault() {
        Some(fault) => given_up(fault, settings),
        None => explain(&error, settings),
    })
}

/// What stands there is no Redis server, or one that says more than is ever needed.
fn given_up(fault: &Fault, settings: &Settings) -> ConnectError {
    let name = &settings.name;
    let (text, cure) = match fault {
        Fault::Foreign(Some(words)) => {
            (format!("{name} is not a Redis server: it says \"{words}\""), Cure::None)
        }
        Fault::Foreign(None) => (format!("{name} is not a Redis server"), Cure::None),
        Fault::Mute => (
            format!("{name} hung up without an answer: not a Redis server, or one that went away"),
            Cure::None,
        ),
        Fault::Endless(_) | Fault::NoProcess(_) => {
            (format!("connection to {name} given up: {fault}"), Cure::Wait)
        }
    };
    let reason = Reason::new(text).with_hint("check the URL");
    ConnectError { reason, cure, outage: OutageKind::Unreachable, retry: Retry::Later }
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
    /// What is read seldom, and when it was read.
    upkeep: Option<(Instant, Arc<Upkeep>)>,
}

impl Reader {
    async fn run(mut self, first: Option<Connection>) {
        let mut backoff = Backoff::default();
        let mut connection = first;
        let mut is_first = true;
        let mut next = Instant::now();
        loop {
            self.wait_for_turn(&mut next, connection.is_some()).await;
            let pace = *self.pace.borrow_and_update();
            next = pace.next(next, Instant::now());
            let asked_at = now();
            let outcome = match &mut connection {
                Some(open) => self.read(open, pace).await,
                None => match connect(&self.settings).await {
                    Ok(mut open) => {
                        let outcome = self.read(&mut open, pace).await;
                        connection = Some(open);
                        is_first = true;
                        outcome
                    }
                    Err(error) => Err(error),
                },
            };
            let (body, pause) = match outcome {
                Ok(sample) => {
                    backoff.reset();
                    self.failing_since = None;
                    if std::mem::take(&mut is_first) {
                        next = pace.second(Instant::now(), next);
                    }
                    (Body::Redis(Arc::new(sample)), None)
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

    /// Waits until the next tick is due; a new interval holds from now on, but hurries no attempt at a connection.
    async fn wait_for_turn(&mut self, next: &mut Instant, is_connected: bool) {
        loop {
            tokio::select! {
                () = sleep_until(*next) => return,
                Ok(()) = self.pace.changed(), if is_connected => {
                    *next = (*next).min(self.pace.borrow().next(*next, Instant::now()));
                }
            }
        }
    }

    async fn read(&mut self, connection: &mut Connection, pace: Pace) -> Result<RedisSample, ConnectError> {
        let mut sample = read(connection, pace, &self.settings).await?;
        if self.upkeep.as_ref().is_none_or(|(at, _)| UPKEEP_EVERY <= at.elapsed()) {
            let upkeep = upkeep::read(connection, &sample).await;
            self.upkeep = Some((Instant::now(), Arc::new(upkeep)));
        }
        sample.upkeep = self.upkeep.as_ref().map(|(_, upkeep)| Arc::clone(upkeep));
        Ok(sample)
    }

    fn outage(&mut self, error: ConnectError, pause: Option<Duration>) -> Body {
        let now = now();
        let since = *self.failing_since.get_or_insert(now);
        let retry_at = pause.and_then(|pause| now.checked_add(pause).ok());
        Body::Outage(Outage { kind: error.outage, reason: error.reason, since, retry_at })
    }
}

async fn read(
    connection: &mut Connection,
    pace: Pace,
    settings: &Settings,
) -> Result<RedisSample, ConnectError> {
    connection.client.set_response_timeout(pace.deadline() / 2);
    let asked = Instant::now();
    ask::<()>(connection, &redis::cmd("PING"), settings).await?;
    let ping_seconds = asked.elapsed().as_secs_f64();
    let answer = ask(connection, &redis::cmd("INFO"), settings).await?;
    let text = if let Value::BulkString(text) = answer { text } else { Vec::new() };
    let sample = info::parse(&String::from_utf8_lossy(&text), now(), ping_seconds);
    if sample.version.is_none() {
        let reason = Reason::new(format!("{} answers INFO without a redis_version", settings.name))
            .with_hint("is it a proxy? connect to the Redis server itself");
        return Err(ConnectError {
            reason,
            cure: Cure::Wait,
            outage: OutageKind::Error,
            retry: Retry::Later,
        });
    }
    Ok(sample)
}

/// Whether the text looks like a URL of a Redis server.
pub fn looks_like_url(text: &str) -> bool {
    ["redis://", "rediss://", "valkey://", "valkeys://", "redis+unix://", "unix://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}
