//! The way to the server, on which bytes and turns are counted: a turn is something sent after something was received.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What went over it so far, on all connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) turns: u64,
    pub(crate) connections: u64,
    pub(crate) received_bytes: u64,
}

#[derive(Debug, Default)]
struct Shared {
    turns: AtomicU64,
    connections: AtomicU64,
    received_bytes: AtomicU64,
}

/// A port on 127.0.0.1 that leads to a server.
pub(crate) struct Wire {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Wire {
    /// Passes on every connection until the bench ends.
    pub(crate) fn to(server_port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let counted = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                counted.connections.fetch_add(1, Ordering::Relaxed);
                drop(pass_on(client, server_port, &counted));
            }
        });
        Ok(Self { port, shared })
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            turns: self.shared.turns.load(Ordering::Relaxed),
            connections: self.shared.connections.load(Ordering::Relaxed),
            received_bytes: self.shared.received_bytes.load(Ordering::Relaxed),
        }
    }
}

fn pass_on(client: TcpStream, server_port: u16, shared: &Arc<Shared>) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server_port))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Whether the server spoke last: then what the client sends begins a turn.
    let server_spoke = Arc::new(Mutex::new(true));
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let (of_client, of_server) = (Arc::clone(shared), Arc::clone(shared));
    let spoke = Arc::clone(&server_spoke);
    std::thread::spawn(move || {
        copy(from_client, to_server, |_| {
            let turns = std::mem::take(&mut *spoke.lock().unwrap_or_else(PoisonError::into_inner));
            of_client.turns.fetch_add(u64::from(turns), Ordering::Relaxed);
        });
    });
    std::thread::spawn(move || {
        copy(server, client, |count| {
            *server_spoke.lock().unwrap_or_else(PoisonError::into_inner) = true;
            of_server.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
        });
    });
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(usize)) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count(read);
        if to.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
