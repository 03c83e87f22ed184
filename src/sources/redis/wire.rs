//! From a Redis URL to a connection whose answers are bounded: addresses, sockets, TLS.
//!
//! The crate's own way there keeps whatever comes.

use std::io;
use std::sync::Arc;

use futures::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::sources::postgres::wire::guarded::{Bound, Fault, Guarded, Opening, Stream};

/// INFO is 5 kB, and 300 kB with the statistics of many commands.
const ANSWER_MAX: usize = 2 << 20;

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    /// What is asked over it.
    pub(super) client: MultiplexedConnection,
    bound: Arc<Bound>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Why it was given up, if it was.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.bound.fault()
    }
}

/// Connects; nothing has been said then.
pub(super) async fn connect(
    info: &ConnectionInfo,
    config: AsyncConnectionConfig,
) -> Result<Connection, RedisError> {
    let bound = Bound::new(ANSWER_MAX);
    let stream = Guarded::new(reach(info.addr()).await?, FirstAnswer::default(), Arc::clone(&bound));
    let (client, driver) =
        MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await?;
    Ok(Connection { client, bound, driver: tokio::spawn(driver) })
}

async fn reach(address: &ConnectionAddr) -> io::Result<Box<dyn Stream>> {
    match address {
        ConnectionAddr::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        ConnectionAddr::Tcp(host, port) => Ok(Box::new(reach_any(host, *port).await?)),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(tls().map_err(io::Error::other)?));
            Ok(Box::new(connector.connect(name, reach_any(host, *port).await?).await?))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The first address of the host that answers.
async fn reach_any(host: &str, port: u16) -> io::Result<TcpStream> {
    let attempts: Vec<_> =
        lookup_host((host, port)).await?.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The machine's own authorities, and no way around them.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(authorities).with_no_client_auth())
}

/// The answer to the first command, AUTH or PING: a status or an error (RESP specification).
#[derive(Debug, Default)]
struct FirstAnswer {
    asked: bool,
    given: bool,
}

impl Opening for FirstAnswer {
    fn said(&mut self, _: &[u8]) {
        self.asked = true;
    }

    fn judge(&mut self, heard: &[u8]) -> Result<(), Fault> {
        if self.given {
            return Ok(());
        }
        match heard.first() {
            None => Err(Fault::Mute),
            Some(b'+' | b'-') if self.asked => {
                self.given = true;
                Ok(())
            }
            Some(_) => Err(Fault::foreign(heard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn judged(asked: bool, heard: &[u8]) -> Result<(), Fault> {
        let mut answer = FirstAnswer::default();
        if asked {
            answer.said(b"*1\r\n$4\r\nPING\r\n");
        }
        answer.judge(heard)
    }

    #[test]
    fn only_what_answers_a_command_is_a_redis_server() {
        for heard in [&b"+PONG\r\n"[..], b"-NOAUTH Authentication required.\r\n"] {
            assert_eq!(judged(true, heard), Ok(()));
        }
        let words = |words: &str| Err(Fault::Foreign(Some(words.to_owned())));
        assert_eq!(judged(true, b"HTTP/1.1 400 Bad Request\r\n"), words("HTTP/1.1 400 Bad Request"));
        assert_eq!(judged(false, b"-not asked\r\n"), words("-not asked"));
        assert_eq!(judged(true, b"E\0\0\0\x70"), Err(Fault::Foreign(None)));
        assert_eq!(judged(true, b""), Err(Fault::Mute));
    }
}
