//! The servers that a target may mean, and the one of them that is read: sampler, locks and control must all talk to
//! that one, because behind one name, or one address, there may be several.
//!
//! It must not know how a connection is opened or what is asked over it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::error::ConnectError;
use super::link::{self, Connection, Limits, Line};
use super::settings::{Endpoint, Settings, TargetSessionAttrs};
use crate::model::Reason;
use crate::sources::backoff::{Backoff, Retry};

/// The server that the sampler reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct InUse {
    /// Place of its endpoint.
    place: usize,
    /// Which of the addresses of that endpoint it is.
    address: Option<IpAddr>,
    /// When it was started; `None` until it was reached for the first time.
    started_at: Option<Timestamp>,
}

/// The servers of a target, shared by its three links.
#[derive(Debug)]
pub(super) struct Servers {
    /// How to connect.
    pub(super) settings: Settings,
    /// The server in use; whoever is connected to another one connects anew.
    current: watch::Sender<InUse>,
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
            current: watch::Sender::new(InUse::default()),
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

    /// Waits until another server is in use, or the same after a restart.
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

    /// Notes whom the sampler reads from now on, and lends its connection to whoever the server does not admit.
    pub(super) fn adopt(&self, connection: &Connection) {
        let Connection { place, address, started_at, .. } = *connection;
        let now = InUse { place, address, started_at: Some(started_at) };
        self.pooled.store(!connection.is_bounded, Ordering::Relaxed);
        self.current.send_if_modified(|current| std::mem::replace(current, now) != now);
        self.lent.send_replace(Some(connection.line.clone()));
    }

    /// The sampler's connection is lost.
    pub(super) fn lose(&self) {
        self.lent.send_replace(None);
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

    fn in_use(&self) -> InUse {
        *self.current.borrow()
    }

    /// The endpoint in use.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.settings.endpoints.get(self.in_use().place)
    }

    /// Which of several endpoints is in use, as a target is named; `None` where there is but one.
    pub(super) fn endpoint_of_several(&self) -> Option<String> {
        let count = self.settings.endpoints.len();
        let endpoint = self.endpoint().filter(|_| count > 1)?;
        Some(format!("{endpoint}/{} (of {count} hosts)", self.settings.database))
    }

    /// Connects the sampler to the first endpoint that is up and of the wanted kind; the others follow it there.
    ///
    /// The next endpoint is tried where nothing answers, where a server starts, and where it is of another kind. Where
    /// any kind will do, a server that is full or refuses the password is the one that was meant, as for libpq.
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
                match self.connect(place, endpoint, *wanted, Limits::All).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        let is_final = *wanted == TargetSessionAttrs::Any && error.is_last_word();
                        failures.push(error);
                        if is_final {
                            return Err(ConnectError::of_all(&failures));
                        }
                    }
                }
            }
        }
        Err(ConnectError::of_all(&failures))
    }

    /// Connects the sampler once more to the endpoint in use, whatever server answers there by now.
    async fn connect_again(&self) -> Result<Connection, ConnectError> {
        let endpoint = self.endpoint().ok_or_else(no_host)?;
        self.connect(self.in_use().place, endpoint, TargetSessionAttrs::Any, Limits::All).await
    }

    /// Connects to the very server that the sampler reads.
    pub(super) async fn connect_current(&self) -> Result<Connection, ConnectError> {
        let wanted = self.in_use();
        let endpoint = self.endpoint().ok_or_else(no_host)?.at(wanted.address);
        let limits = if self.pooled() { Limits::None } else { Limits::All };
        let connection = self.connect(wanted.place, &endpoint, TargetSessionAttrs::Any, limits).await?;
        if wanted.started_at.is_some_and(|started_at| started_at != connection.started_at) {
            return Err(ConnectError::another_server(&endpoint));
        }
        Ok(connection)
    }

    /// Connects to a database of that server with the search path that our role has there.
    pub(super) async fn connect_beside(&self, database: &str) -> Result<Connection, ConnectError> {
        let endpoint = self.endpoint().ok_or_else(no_host)?.at(self.in_use().address);
        let settings = Settings { database: database.to_owned(), ..self.settings.clone() };
        let limits = if self.pooled() { Limits::None } else { Limits::WithoutPath };
        link::connect(&settings, &endpoint, TargetSessionAttrs::Any, limits).await
    }

    async fn connect(
        &self,
        place: usize,
        endpoint: &Endpoint,
        wanted: TargetSessionAttrs,
        limits: Limits,
    ) -> Result<Connection, ConnectError> {
        let attempt = link::connect(&self.settings, endpoint, wanted, limits);
        let mut connection = timeout(self.settings.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(ConnectError::timed_out(endpoint, &self.settings, self.pooled())))?;
        connection.place = place;
        Ok(connection)
    }
}

fn no_host() -> ConnectError {
    ConnectError::hopeless(Reason::new("no host to connect to"))
}

/// Which server another connection is sought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    /// The very one that the sampler reads.
    SameServer,
    /// Whichever answers at the endpoint in use.
    SameEndpoint,
}

/// Another connection, sought beside the one in use until it is found. Dropping it ends the search.
#[derive(Debug)]
pub(super) struct Search(JoinHandle<Connection>);

impl Search {
    /// Begins at once, or after a pause where an attempt has `failed` just now, and goes on with growing pauses.
    pub(super) fn begin(servers: &Arc<Servers>, sought: Sought, failed: Option<Retry>) -> Self {
        let servers = Arc::clone(servers);
        Self(tokio::spawn(async move {
            let mut backoff = Backoff::default();
            let mut failed = failed;
            loop {
                if let Some(retry) = failed {
                    sleep(backoff.next(retry, u64::from(std::process::id()))).await;
                }
                let attempt = match sought {
                    Sought::SameServer => servers.connect_current().await,
                    Sought::SameEndpoint => servers.connect_again().await,
                };
                match attempt {
                    Ok(connection) => return connection,
                    Err(error) => failed = Some(error.retry),
                }
            }
        }))
    }

    /// Waits until it is found; for ever while none is sought.
    pub(super) async fn found(search: &mut Option<Self>) -> Connection {
        if let Some(Self(task)) = search
            && let Ok(connection) = task.await
        {
            return connection;
        }
        std::future::pending().await
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.0.abort();
    }
}
