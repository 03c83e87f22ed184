//! What the driver's errors mean for the person on call: which wait cures them, and what to do about the rest.
//!
//! No message of ours repeats a statement's text or a password.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::SqlState;

use super::settings::{Endpoint, Settings, SslMode};
use super::tls;
use crate::format;
use crate::model::{OutageKind, Reason};

/// Why a server could not be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectError {
    /// What was attempted, on what, why it failed and what to do.
    pub reason: Reason,
    /// Whether it helps to wait, to type a password, or neither.
    pub cure: Cure,
    /// Whether nothing answered, or the server answered with an error.
    pub outage: OutageKind,
    /// How soon to try again.
    pub retry: Retry,
}

/// How soon to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The attempt cost the server next to nothing: about every second, so that its return is seen at once.
    Soon,
    /// It cost a process and a login on a server in need: the pauses grow.
    Later,
}

/// What can be done about a failed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// Trying again may succeed: too many connections, starting up, a time-out.
    Wait,
    /// The server wants a password, and none is known.
    Password,
    /// Somebody must change something first.
    None,
}

impl ConnectError {
    /// A failure that waiting does not cure.
    pub(super) const fn hopeless(reason: Reason) -> Self {
        Self { reason, cure: Cure::None, outage: OutageKind::Unreachable, retry: Retry::Soon }
    }

    /// No answer within the limit for connecting.
    pub(super) fn timed_out(endpoint: &Endpoint, settings: &Settings) -> Self {
        let limit = settings.connect_timeout.as_secs();
        let reason = Reason::new(format!("{endpoint} did not let us in within {limit}s")).with_hint(
            "the network, the server, or a lock on a system catalog that logins need; still trying",
        );
        Self { reason, cure: Cure::Wait, outage: OutageKind::Blocked, retry: Retry::Later }
    }

    /// Reads what the driver said about an attempt to connect.
    pub(super) fn from_driver(
        error: &tokio_postgres::Error,
        endpoint: &Endpoint,
        settings: &Settings,
    ) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::from_server(db, endpoint, settings);
        }
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(tls_error) = inner.downcast_ref::<rustls::Error>() {
                return Self::hopeless(tls::explain(tls_error, &endpoint.to_string()));
            }
            if let Some(io_error) = inner.downcast_ref::<io::Error>() {
                if let Some(tls_error) = io_error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                    return Self::hopeless(tls::explain(tls_error, &endpoint.to_string()));
                }
                return Self::from_io(io_error, endpoint, settings);
            }
            if inner.to_string() == "password missing" {
                let text =
                    format!("{endpoint} asks for the password of \"{}\", and none is known", settings.user);
                let hint = "set PGPASSWORD, add a line to ~/.pgpass, or leave out -w to be asked";
                return Self {
                    reason: Reason::new(text).with_hint(hint),
                    cure: Cure::Password,
                    outage: OutageKind::Error,
                    retry: Retry::Later,
                };
            }
            if inner.to_string().contains("server does not support TLS") {
                let text = format!("{endpoint} does not offer TLS, and sslmode asks for it");
                return Self::hopeless(
                    Reason::new(text).with_hint("set ssl = on in postgresql.conf, or use sslmode=prefer"),
                );
            }
            source = inner.source();
        }
        let reason = Reason::new(format!("cannot connect to {endpoint}: {}", innermost(error)));
        // A connection that breaks in the middle is what a server does while it starts or is overloaded.
        Self { reason, cure: Cure::Wait, outage: OutageKind::Unreachable, retry: Retry::Later }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is open: the rest is told in its own words")]
    fn from_io(error: &io::Error, endpoint: &Endpoint, settings: &Settings) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                "is the server running there? check host and port (-h, -p, PGHOST, PGPORT)"
            }
            io::ErrorKind::PermissionDenied => "this user may not open the socket",
            io::ErrorKind::TimedOut | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                let reason = Reason::new(format!("{endpoint} broke off: {error}")).with_hint("still trying");
                return Self {
                    reason,
                    cure: Cure::Wait,
                    outage: OutageKind::Unreachable,
                    retry: Retry::Soon,
                };
            }
            _ if settings.sslmode != SslMode::Disable && error.to_string().contains("handshake") => {
                "the server closed the TLS handshake"
            }
            _ => "check the host name (-h, PGHOST) and the network",
        };
        Self::hopeless(Reason::new(format!("cannot connect to {endpoint}: {error}")).with_hint(hint))
    }

    fn from_server(error: &tokio_postgres::error::DbError, endpoint: &Endpoint, settings: &Settings) -> Self {
        let code = error.code();
        let user = &settings.user;
        let (cure, hint): (_, String) = if *code == SqlState::TOO_MANY_CONNECTIONS {
            (Cure::Wait, "every slot is taken; a superuser, or from 16 on a role with pg_use_reserved_connections, still gets in".into())
        } else if *code == SqlState::CANNOT_CONNECT_NOW {
            (Cure::Wait, "it opens by itself when it is ready".into())
        } else if *code == SqlState::OUT_OF_MEMORY || code.code().starts_with("53") {
            (Cure::Wait, "the server is out of a resource; still trying".into())
        } else if *code == SqlState::INVALID_PASSWORD {
            (Cure::None, format!("check the password of \"{user}\" (-W asks for it, PGPASSWORD, ~/.pgpass)"))
        } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
            (Cure::None, format!("check the role name \"{user}\" (-U, PGUSER) and pg_hba.conf"))
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            (Cure::None, "name an existing database with -d or PGDATABASE".into())
        } else if *code == SqlState::ADMIN_SHUTDOWN || *code == SqlState::CRASH_SHUTDOWN {
            (Cure::Wait, "the server goes down; still trying".into())
        } else {
            (Cure::None, "see the server's log".into())
        };
        let reason = Reason::new(format!("{endpoint} answered: {}", error.message())).with_hint(hint);
        let down = [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
        let retry = if down.contains(code) { Retry::Soon } else { Retry::Later };
        Self { reason, cure, outage: OutageKind::Error, retry }
    }
}

/// Why one statement gave no rows, for the pane that it feeds.
pub(super) fn statement_reason(error: &tokio_postgres::Error, user: &str) -> Reason {
    let Some(db) = error.as_db_error() else { return Reason::new(innermost(error)) };
    let text = db.message().to_owned();
    match db.code() {
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            let role = format::identifier(user);
            let hint = match text.strip_prefix("permission denied for schema ") {
                Some(schema) => format!("GRANT USAGE ON SCHEMA {} TO {role};", format::identifier(schema)),
                None => format!("GRANT pg_monitor TO {role};"),
            };
            Reason::new(text).with_hint(hint)
        }
        _ if text.contains("must be loaded via") => Reason::new(text).with_hint(
            "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';  (add what is there already, then restart)",
        ),
        code if *code == SqlState::QUERY_CANCELED => {
            Reason::new("the server took too long and the statement was cancelled")
        }
        code if *code == SqlState::LOCK_NOT_AVAILABLE => Reason::new("a system catalog is locked"),
        _ => Reason::new(text),
    }
}

/// The cause at the bottom of a chain, which is the one that says something.
pub(super) fn innermost(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}
