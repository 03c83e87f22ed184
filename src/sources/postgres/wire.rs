//! From an endpoint to a connection that is logged in: addresses, sockets, TLS, and what stands there instead of a
//! PostgreSQL server.
//!
//! It must not know what is asked over the connection.

pub(in crate::sources) mod guarded;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::guarded::{Bound, Fault, Guarded, Opening, Stream};
use super::error::{ConnectError, Cure, innermost};
use super::settings::{Endpoint, Host, Settings};
use crate::model::{OutageKind, Reason};
use crate::sources::backoff::Retry;

/// A login takes some hundred bytes.
const LOGIN_MAX: usize = 1 << 20;
/// Ten thousand sessions, or a hundred thousand locks, are 12 MB; four times that fits into 100 MB once it is decoded.
const ANSWER_MAX: usize = 48 << 20;

const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// What is sent and not acknowledged for so long is lost.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(25);

const CHECK_PLACE: &str = "check host and port (-h, -p, PGHOST, PGPORT)";

type Wire = Guarded<Greeting>;
type Tls = <MakeRustlsConnect as MakeTlsConnect<Wire>>::Stream;
/// The driver's half of a connection.
pub(super) type Connection = tokio_postgres::Connection<Wire, Tls>;

/// A connection that is logged in.
pub(super) struct LoggedIn {
    pub(super) client: Client,
    pub(super) connection: Connection,
    pub(super) bound: Arc<Bound>,
    /// Which of the addresses of the host it is; `None` for a Unix socket.
    pub(super) address: Option<IpAddr>,
}

/// Why there is no connection.
pub(super) enum Failure {
    /// Nothing answers.
    Unreached(io::Error),
    /// What answers was given up.
    GivenUp(Fault),
    /// The driver's word, which may be the server's.
    Driver(tokio_postgres::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unreached(error)
    }
}

/// Connects, each time within the limit, and logs in at the first address of the endpoint that lets us.
pub(super) async fn connect(
    config: &Config,
    connector: MakeRustlsConnect,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<LoggedIn, Failure> {
    let name = match &endpoint.host {
        Host::Tcp { name, .. } => Some(name.as_str()),
        Host::Socket(_) => None,
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address").into();
    let places = places(endpoint).await?;
    // One that swallows everything must leave time for the next.
    let limit = limit / u32::try_from(places.len()).unwrap_or(u32::MAX).max(1);
    for place in places {
        let reached = timeout(limit, place.reach()).await;
        failure = match reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Err(error) => error.into(),
            Ok(stream) => match log_in(config, connector.clone(), name, stream).await {
                Ok((client, connection, bound)) => {
                    return Ok(LoggedIn { client, connection, bound, address: place.address() });
                }
                // A server's own word is not bettered by asking elsewhere: another address may be another server.
                Err(failure @ Failure::Driver(_)) => return Err(failure),
                Err(failure) => failure,
            },
        };
    }
    Err(failure)
}

/// Where a server listens, once its name is resolved.
enum Place {
    Tcp(SocketAddr),
    Socket(PathBuf),
}

async fn places(endpoint: &Endpoint) -> io::Result<Vec<Place>> {
    let port = endpoint.port;
    Ok(match &endpoint.host {
        Host::Socket(folder) => vec![Place::Socket(folder.join(format!(".s.PGSQL.{port}")))],
        Host::Tcp { address: Some(address), .. } => vec![Place::Tcp(SocketAddr::new(*address, port))],
        Host::Tcp { name, address: None } => {
            lookup_host((name.as_str(), port)).await?.map(Place::Tcp).collect()
        }
    })
}

impl Place {
    const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Socket(_) => None,
        }
    }

    async fn reach(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Socket(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let socket = SockRef::from(&stream);
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
                socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Logs in over an open stream; the `name` is what the server's certificate is checked against.
async fn log_in(
    config: &Config,
    mut connector: MakeRustlsConnect,
    name: Option<&str>,
    stream: Box<dyn Stream>,
) -> Result<(Client, Connection, Arc<Bound>), Failure> {
    let bound = Bound::new(LOGIN_MAX);
    let stream = Guarded::new(stream, Greeting::default(), bound.clone());
    let Ok(tls) = MakeTlsConnect::<Wire>::make_tls_connect(&mut connector, name.unwrap_or_default());
    let connected = config.connect_raw(stream, tls).await;
    let connected =
        connected.map_err(|error| bound.fault().cloned().map_or(Failure::Driver(error), Failure::GivenUp))?;
    bound.allow(ANSWER_MAX);
    let (client, connection) = connected;
    Ok((client, connection, bound))
}

// === What a server says first ===

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// How a handshake and an alert of TLS begin.
const TLS_RECORDS: [u8; 2] = [0x16, 0x15];
/// What may answer the startup message: authentication, an error, a notice, another version of the protocol.
const FIRST_MESSAGES: &[u8] = b"RENv";

/// What the server must say next, by what we have said (manual, "Message Flow").
#[derive(Debug, Default)]
pub(super) struct Greeting {
    next: Next,
    /// What it has said so far.
    heard: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    /// Nothing before us.
    #[default]
    Nothing,
    /// Whether it takes TLS.
    Encryption,
    /// A record of TLS.
    Record,
    /// A message.
    Message,
    /// It is a PostgreSQL server.
    Anything,
}

impl Opening for Greeting {
    fn said(&mut self, bytes: &[u8]) {
        if self.next == Next::Nothing {
            self.next = match bytes.first() {
                _ if bytes == SSL_REQUEST => Next::Encryption,
                Some(first) if TLS_RECORDS.contains(first) => Next::Record,
                Some(_) | None => Next::Message,
            };
        }
    }

    fn judge(&mut self, heard: &[u8]) -> Result<(), Fault> {
        let fits = match (self.next, heard) {
            (Next::Anything, _) | (_, []) => return Ok(()),
            (Next::Nothing, _) => false,
            // More than the one byte would be somebody else's, slipped in before the encryption.
            (Next::Encryption, [b'E', rest @ ..]) => is_sane(rest),
            (Next::Encryption, heard) => matches!(heard, b"S" | b"N"),
            (Next::Record, [first, ..]) => TLS_RECORDS.contains(first),
            (Next::Message, [tag, rest @ ..]) => FIRST_MESSAGES.contains(tag) && is_sane(rest),
        };
        if let Some(told) = without_process(heard) {
            return Err(Fault::NoProcess(told));
        }
        if !fits {
            return Err(Fault::foreign(&[self.heard.as_slice(), heard].concat()));
        }
        self.next = match self.next {
            Next::Encryption => {
                self.heard.extend(heard);
                Next::Nothing
            }
            Next::Nothing | Next::Record | Next::Message | Next::Anything => Next::Anything,
        };
        Ok(())
    }
}

/// Whether a first message has a length that it can have, as far as that has come.
fn is_sane(after_tag: &[u8]) -> bool {
    let Some(length) = after_tag.first_chunk() else { return true };
    (4..=LOGIN_MAX).contains(&usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX))
}

/// What a postmaster says that cannot start a process: an E and a text, as before version 3 of the protocol.
fn without_process(heard: &[u8]) -> Option<String> {
    let text = heard.strip_prefix(b"E").filter(|rest| !is_sane(rest))?.strip_suffix(b"\n\0")?;
    Some(String::from_utf8_lossy(text).into_owned())
}

// === How it is told ===

impl Failure {
    /// What it means for the person on call.
    pub(super) fn into_error(self, endpoint: &Endpoint, settings: &Settings) -> ConnectError {
        let hopeless = |text: String, hint: &str| ConnectError::hopeless(Reason::new(text).with_hint(hint));
        match self {
            Self::Unreached(error) => ConnectError::from_io(&error, endpoint, false),
            Self::GivenUp(Fault::NoProcess(told)) => ConnectError {
                reason: Reason::new(format!("{endpoint} answered: {told}"))
                    .with_hint("the server is out of a resource; still trying"),
                cure: Cure::Wait,
                outage: OutageKind::Error,
                retry: Retry::Later,
            },
            Self::GivenUp(Fault::Endless(_)) => {
                let bound = LOGIN_MAX >> 20;
                hopeless(format!("{endpoint} sends more than {bound} MB before it lets us in"), CHECK_PLACE)
            }
            Self::GivenUp(Fault::Foreign(Some(words))) => {
                hopeless(format!("{endpoint} is not a PostgreSQL server: it says \"{words}\""), CHECK_PLACE)
            }
            Self::GivenUp(Fault::Foreign(None) | Fault::Mute) => {
                hopeless(format!("{endpoint} is not a PostgreSQL server"), CHECK_PLACE)
            }
            Self::Driver(error) if is_about_method(&error) => hopeless(
                format!(
                    "{endpoint} asks for an authentication method that dbtriage does not speak (GSSAPI, SSPI, OAuth)"
                ),
                "use scram-sha-256 or cert for this role in pg_hba.conf",
            ),
            Self::Driver(error) => ConnectError::from_driver(&error, endpoint, settings),
        }
    }
}

/// The driver knows these by their text only.
fn is_about_method(error: &tokio_postgres::Error) -> bool {
    let told = innermost(error);
    ["unsupported authentication method", "unsupported SASL mechanism", "unknown authentication tag"]
        .iter()
        .any(|beginning| told.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// What we say, and what is answered.
    type Talk<'a> = &'a [(&'a [u8], &'a [u8])];

    /// What is made of a server that says these.
    fn judged(talk: Talk<'_>) -> Result<(), Fault> {
        let mut greeting = Greeting::default();
        talk.iter().try_for_each(|(ours, theirs)| {
            greeting.said(ours);
            greeting.judge(theirs)
        })
    }

    const STARTUP: &[u8] = b"\0\0\0\x20\0\x03\0\0";

    #[test]
    fn a_server_is_let_through_with_and_without_tls() {
        let talks: [Talk<'_>; 5] = [
            &[(&SSL_REQUEST, b"N"), (STARTUP, b"R\0\0\0\x08\0\0\0\0")],
            &[(&SSL_REQUEST, b"S"), (b"\x16\x03\x01", b"\x16\x03\x03")],
            &[(b"\x16\x03\x01", b"\x15\x03\x03")],
            &[(STARTUP, b"E\0\0\0\x70SFATAL\0"), (b"X", b"anything")],
            &[(STARTUP, b"v\0")],
        ];
        for talk in talks {
            assert_eq!(judged(talk), Ok(()), "{talk:?}");
        }
    }

    #[test]
    fn a_stranger_is_told_by_its_first_words() {
        let ssh = b"SSH-2.0-OpenSSH_9.2p1\r\n";
        let talks: [(Talk<'_>, Option<&str>); 6] = [
            (&[(&SSL_REQUEST, ssh)], Some("SSH-2.0-OpenSSH_9.2p1")),
            (&[(STARTUP, ssh)], Some("SSH-2.0-OpenSSH_9.2p1")),
            (&[(&SSL_REQUEST, b"S"), (b"\x16\x03\x01", b"SH-2.0\r\n")], Some("SSH-2.0")),
            (&[(&SSL_REQUEST, b"ERROR\r\n")], Some("ERROR")),
            (&[(&SSL_REQUEST, b"\x15\x03\x01\0\x02\x02\x46")], None),
            (&[(STARTUP, b"R\xff\xff\xff\xff")], None),
        ];
        for (talk, words) in talks {
            assert_eq!(judged(talk), Err(Fault::Foreign(words.map(str::to_owned))), "{talk:?}");
        }
    }

    #[test]
    fn a_server_without_a_process_for_us_is_no_stranger() {
        let told = "could not fork new process for connection: Resource temporarily unavailable";
        let answer = format!("E{told}\n\0");
        for ours in [&SSL_REQUEST[..], STARTUP] {
            assert_eq!(judged(&[(ours, answer.as_bytes())]), Err(Fault::NoProcess(told.to_owned())));
        }
    }
}
