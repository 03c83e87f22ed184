//! What the driver's errors mean for the person on call: which wait cures them, and what to do about the rest.
//!
//! No message of ours repeats a statement's text or a password.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use tokio_postgres::config::SslNegotiation;
use tokio_postgres::error::{DbError, SqlState};

use super::settings::{Endpoint, Host, Settings, SslMode};
use super::tls;
use crate::model::{OutageKind, Reason};
use crate::sources::backoff::Retry;
use crate::{format, text};

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
        Self { reason, cure: Cure::None, outage: OutageKind::Unreachable, retry: Retry::Later }
    }

    /// No answer within the limit for connecting.
    pub(super) fn timed_out(endpoint: &Endpoint, settings: &Settings, pooled: bool) -> Self {
        let limit = settings.connect_timeout.as_secs();
        let hint = if pooled {
            NO_SESSION
        } else {
            "the network, the server, or a lock on a system catalog that logins need; still trying"
        };
        let reason = Reason::new(format!("{endpoint} did not let us in within {limit}s")).with_hint(hint);
        Self { reason, cure: Cure::Wait, outage: OutageKind::Blocked, retry: Retry::Later }
    }

    /// What stands there is too old to be read, or no PostgreSQL.
    pub(super) fn unreadable(endpoint: &Endpoint, settings: &Settings, version: &str) -> Self {
        Self::hopeless(match version.strip_suffix("/bouncer") {
            Some(version) => {
                let text = format!("{endpoint}/{} is the console of PgBouncer {version}", settings.database);
                Reason::new(text).with_hint("name a real database with -d or PGDATABASE")
            }
            None => Reason::new(format!(
                "{endpoint} runs PostgreSQL {version}: 13 is the oldest that can be read"
            )),
        })
    }

    /// What answers is not the server that is read, though the name is the same.
    pub(super) fn another_server(endpoint: &Endpoint) -> Self {
        let reason = Reason::new(format!("{endpoint} leads to another server than the one that is read"))
            .with_hint("name one server and not a balancer");
        Self { reason, cure: Cure::Wait, outage: OutageKind::Error, retry: Retry::Later }
    }

    /// Whether a server has answered that it does not let us in, and is not about to.
    pub(super) fn is_last_word(&self) -> bool {
        self.outage == OutageKind::Error && self.retry == Retry::Later
    }

    /// One error for several hosts: what each of them said, and what the most hopeful of them needs.
    pub(super) fn of_all(failures: &[Self]) -> Self {
        let hope = |it: &Self| match (it.cure, it.outage) {
            (Cure::Wait, _) => 3,
            (Cure::Password, _) => 2,
            (Cure::None, OutageKind::Error) => 1,
            (Cure::None, OutageKind::Unreachable | OutageKind::Blocked) => 0,
        };
        let Some(hopeful) = failures.iter().rev().max_by_key(|it| hope(it)) else {
            return Self::hopeless(Reason::new("no host to connect to"));
        };
        let texts: Vec<&str> = failures.iter().map(|it| &*it.reason.text).collect();
        let reason = Reason { text: texts.join(" | ").into(), hint: hopeful.reason.hint.clone() };
        let costly = failures.iter().any(|it| it.retry == Retry::Later);
        Self { reason, retry: if costly { Retry::Later } else { Retry::Soon }, ..hopeful.clone() }
    }

    /// Reads what the driver said about an attempt to connect.
    pub(super) fn from_driver(
        error: &tokio_postgres::Error,
        endpoint: &Endpoint,
        settings: &Settings,
    ) -> Self {
        if let Some(error) = error.as_db_error() {
            return Answer { error, endpoint, settings }.explain();
        }
        if let Some(tls_error) = tls_error(error) {
            return Self::hopeless(tls::explain(tls_error, &endpoint.to_string(), settings));
        }
        if let Some(io_error) = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()) {
            let direct = is_handshake(error) && settings.ssl_negotiation == SslNegotiation::Direct;
            return Self::from_io(io_error, endpoint, direct);
        }
        let said = innermost(error);
        if let Some((_, cure, text, hint)) = MISSED.iter().find(|(word, ..)| said.contains(word)) {
            let text = format!("{endpoint} {}", text.replace("{user}", &settings.user));
            let reason = Reason::new(text).with_hint(*hint);
            return Self { reason, cure: *cure, outage: OutageKind::Error, retry: Retry::Later };
        }
        let reason = Reason::new(format!("cannot connect to {endpoint}: {said}"));
        // A connection that breaks in the middle is what a server does while it starts or is overloaded.
        Self { reason, cure: Cure::Wait, outage: OutageKind::Unreachable, retry: Retry::Later }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is open: the rest is told in its own words")]
    pub(super) fn from_io(error: &io::Error, endpoint: &Endpoint, is_direct_tls: bool) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                "is the server running there? check host and port (-h, -p, PGHOST, PGPORT)"
            }
            io::ErrorKind::PermissionDenied => "this user may not open the socket",
            _ if is_direct_tls => {
                "direct TLS needs PostgreSQL 17 with ssl = on: else use sslnegotiation=postgres"
            }
            io::ErrorKind::TimedOut | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                let reason = Reason::new(format!("{endpoint} broke off: {error}")).with_hint("still trying");
                return Self {
                    reason,
                    cure: Cure::Wait,
                    outage: OutageKind::Unreachable,
                    retry: Retry::Soon,
                };
            }
            _ => "check the host name (-h, PGHOST) and the network",
        };
        let text = format!("cannot connect to {}: {error}", endpoint.listener());
        Self { retry: Retry::Soon, ..Self::hopeless(Reason::new(text).with_hint(hint)) }
    }
}

/// What the driver misses at the other end, by its words, and how we say it.
const MISSED: &[(&str, Cure, &str, &str)] = &[
    (
        "password missing",
        Cure::Password,
        "asks for the password of \"{user}\", and none is known",
        "set PGPASSWORD, add a line to ~/.pgpass, or leave out -w to be asked",
    ),
    (
        "server does not support TLS",
        Cure::None,
        "does not offer TLS, and sslmode asks for it",
        "set ssl = on in postgresql.conf, or use sslmode=prefer",
    ),
    (
        "did not use channel binding",
        Cure::None,
        "does not meet channel_binding=require",
        "that needs TLS (sslmode=require) and a role that logs in by SCRAM; else use channel_binding=prefer",
    ),
];

/// An error that a server or a pooler answered, and how we had come.
struct Answer<'a> {
    error: &'a DbError,
    endpoint: &'a Endpoint,
    settings: &'a Settings,
}

/// When it holds, which cure helps, and the next step, in which `{user}` and the like stand for ours.
type Rule = (fn(&Answer<'_>) -> bool, Cure, &'static str);

/// The first that holds counts: what says more stands before what says less.
const RULES: &[Rule] = &[
    (
        |it| it.is("53300"),
        Cure::Wait,
        "every slot is taken; a superuser, or from 16 on a role with pg_use_reserved_connections, still gets in",
    ),
    (|it| it.is("57P03"), Cure::Wait, "it opens by itself when it is ready"),
    (|it| it.is("53"), Cure::Wait, "the server is out of a resource; still trying"),
    (|it| it.is("57P01") || it.is("57P02"), Cure::Wait, "the server goes down; still trying"),
    (|it| it.is_pooler() && says_server_is_away(it.error), Cure::Wait, SERVER_IS_AWAY),
    (|it| it.says("max_client_conn"), Cure::Wait, "the pooler takes no more clients; still trying"),
    (
        |it| it.says("unsupported startup parameter"),
        Cure::None,
        "this is a pooler: leave out options (options=, PGOPTIONS), or connect directly",
    ),
    (
        |it| it.is_pooler() && it.settings.database == "pgbouncer",
        Cure::None,
        "\"pgbouncer\" is the console of PgBouncer: name a real database with -d or PGDATABASE",
    ),
    (
        |it| it.is("28P01") && it.has_password_of_file(),
        Cure::None,
        "check the password of \"{user}\" in {passfile} (-W asks for it)",
    ),
    (
        |it| it.is("28P01"),
        Cure::None,
        "check the password of \"{user}\" (-W asks for it, PGPASSWORD, ~/.pgpass)",
    ),
    (
        |it| it.is_pooler() && it.says("authentication failed") || it.says("no such user"),
        Cure::None,
        "check the role name \"{user}\" (-U, PGUSER), which the pooler must know too (its auth_file), and its password",
    ),
    (|it| it.says("valid client certificate"), Cure::None, tls::CLIENT_CERTIFICATE),
    (
        |it| {
            it.shows_certificate()
                && (it.says("\"trust\" authentication failed")
                    || it.says("certificate authentication failed"))
        },
        Cure::None,
        "the common name of our client certificate {certificate} must be \"{user}\", or pg_ident.conf map it to that",
    ),
    (
        |it| it.is_rule() && it.settings.sslmode == SslMode::Disable && it.is_plain(),
        Cure::None,
        "use sslmode=require if the server wants TLS; else check the role name \"{user}\" (-U, PGUSER) and pg_hba.conf",
    ),
    (
        |it| it.is_rule() && it.settings.sslmode != SslMode::Prefer && !it.is_plain(),
        Cure::None,
        "use sslmode=disable if the server wants no TLS; else check the role name \"{user}\" (-U, PGUSER) and pg_hba.conf",
    ),
    (|it| it.is("28000"), Cure::None, "check the role name \"{user}\" (-U, PGUSER) and pg_hba.conf"),
    (
        |it| it.is("3D000") || it.is_pooler() && (it.says("does not exist") || it.says("no such database")),
        Cure::None,
        "name an existing database with -d or PGDATABASE",
    ),
    (
        |it| it.settings.options.is_some() && (it.says("parameter") || it.says("command-line")),
        Cure::None,
        "it comes from options= or PGOPTIONS: correct it there",
    ),
    (|it| it.is_pooler(), Cure::None, "that is a pooler's answer: see its log"),
    (|_| true, Cure::None, "see the server's log"),
];

const SERVER_IS_AWAY: &str =
    "the pooler says so: the server behind it is down, or does not let the pooler in; still trying";

const NO_SESSION: &str = "the pooler has no free session for us: the server behind it is down, or its pool is used up \
    (SHOW POOLS on its console)";

/// Longer answers are no sentence that helps.
const MESSAGE_MAX: usize = 300;

impl Answer<'_> {
    fn is(&self, class: &str) -> bool {
        self.error.code().code().starts_with(class)
    }

    fn says(&self, words: &str) -> bool {
        self.error.message().contains(words)
    }

    fn is_pooler(&self) -> bool {
        is_poolers(self.error)
    }

    /// Whether it is a matter of the rules in `pg_hba.conf`.
    fn is_rule(&self) -> bool {
        self.is("28000") && self.says("pg_hba.conf")
    }

    /// Whether the server speaks of a connection without TLS: in the words of 14 and later, and of 13.
    fn is_plain(&self) -> bool {
        self.says("no encryption") || self.says("SSL off")
    }

    fn shows_certificate(&self) -> bool {
        let may_be_tls = self.settings.sslmode != SslMode::Disable;
        may_be_tls
            && matches!(self.endpoint.host, Host::Tcp { .. })
            && self.settings.client_certificate.is_some()
    }

    fn has_password_of_file(&self) -> bool {
        self.settings.password.is_none() && self.endpoint.password.is_some()
    }

    fn explain(&self) -> ConnectError {
        let Settings { user, client_certificate, password_file, .. } = self.settings;
        let shown = |path: Option<&PathBuf>| path.map_or_else(String::new, |path| path.display().to_string());
        let rule = RULES.iter().find(|(holds, ..)| holds(self));
        let (cure, hint) = rule.map_or((Cure::None, ""), |(_, cure, hint)| (*cure, *hint));
        // A server that starts or ends refuses before it starts a process for us, and a pooler without a server does not
        // trouble that.
        let costs_nothing = self.is("57P0") || self.is_pooler() && says_server_is_away(self.error);
        let retry = if costs_nothing { Retry::Soon } else { Retry::Later };
        let hint = hint
            .replace("{certificate}", &shown(client_certificate.as_ref().map(|(certificate, _)| certificate)))
            .replace("{passfile}", &shown(password_file.as_ref().map(|file| &file.path)))
            .replace("{user}", user);
        let said = text::fit(self.error.message(), MESSAGE_MAX, false);
        let who = if self.is_pooler() { "the pooler at " } else { "" };
        let reason = Reason::new(format!("{who}{} answered: {said}", self.endpoint)).with_hint(hint);
        ConnectError { reason, cure, outage: OutageKind::Error, retry }
    }
}

/// A server names the routine that refuses; a pooler has none to name.
fn is_poolers(error: &DbError) -> bool {
    error.routine().is_none()
}

/// What `PgBouncer` says for the server behind it.
fn says_server_is_away(error: &DbError) -> bool {
    let words = [
        "server_login_retry",
        "query_wait_timeout",
        "cannot connect to server",
        "server conn crashed",
        "server down",
    ];
    words.iter().any(|word| error.message().contains(word))
}

fn causes(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

fn tls_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| {
        let inside = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.downcast_ref().or_else(|| inside?.downcast_ref())
    })
}

fn is_handshake(error: &tokio_postgres::Error) -> bool {
    error.to_string().starts_with("error performing TLS handshake")
}

/// Whether the server may let us in without TLS: the handshake failed, or a rule refuses who comes by it.
pub(super) fn may_be_about_tls(error: &tokio_postgres::Error) -> bool {
    let refused = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    refused || is_handshake(error) || tls_error(error).is_some()
}

/// Why an answer does not come, though the connection stands.
pub(super) fn silence(pooled: bool) -> Reason {
    Reason::new(if pooled { NO_SESSION } else { "the server accepts the connection and does not answer" })
}

/// Why one statement gave no rows, for the pane that it feeds.
pub(super) fn statement_reason(error: &tokio_postgres::Error, user: &str) -> Reason {
    let Some(db) = error.as_db_error() else {
        return Reason::new(format!("no usable answer: {}", innermost(error)));
    };
    let text = text::fit(db.message(), MESSAGE_MAX, false).into_owned();
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
        _ if is_poolers(db) && says_server_is_away(db) => Reason::new(text).with_hint(SERVER_IS_AWAY),
        _ => Reason::new(text),
    }
}

/// The cause at the bottom of a chain, which is the one that says something.
pub(super) fn innermost(error: &tokio_postgres::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Whether the server said that it is about to close the connection.
pub(super) fn is_going_down(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
    })
}
