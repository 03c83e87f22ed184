//! Another connection while an answer on the present one does not come.
//!
//! It must not know what was asked.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::link::{Backoff, Connection, Servers};
use super::{ConnectError, Retry};

/// A second way to the server, tried while an answer on the first does not come: it may be the connection that is
/// dead and not the server (a firewall that forgot it, a backend that was stopped), and TCP finds out late.
#[derive(Default)]
pub(super) struct Detour {
    attempt: Option<JoinHandle<Result<Connection, ConnectError>>>,
    /// When the next may begin.
    due: Option<Instant>,
    backoff: Backoff,
}

impl Detour {
    /// Begins an attempt unless one is under way, or was not long ago.
    pub(super) fn begin(&mut self, servers: &Arc<Servers>) {
        if self.attempt.is_none() && self.due.is_none_or(|due| due <= Instant::now()) {
            let servers = Arc::clone(servers);
            self.attempt = Some(tokio::spawn(async move { servers.connect_current().await }));
        }
    }

    /// Waits for a connection to be opened; for ever while none is tried, and after a failure.
    pub(super) async fn opened(&mut self) -> Connection {
        if let Some(attempt) = &mut self.attempt {
            let ended = attempt.await;
            self.attempt = None;
            let retry = match ended {
                Ok(Ok(connection)) => return connection,
                Ok(Err(error)) => error.retry,
                Err(_) => Retry::Later,
            };
            self.due = Some(Instant::now() + self.backoff.next(retry, u64::from(std::process::id())));
        }
        std::future::pending().await
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        if let Some(attempt) = &self.attempt {
            attempt.abort();
        }
    }
}
