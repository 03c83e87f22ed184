//! A network that can be made bad: passes connections on to a server, late, not at all, or not any longer; or to one of
//! several servers in turn.

#![allow(clippy::disallowed_methods, reason = "latency needs the clock")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::engine::Engine;

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// They arrive.
    Open,
    /// Each way takes so long; what is sent meanwhile follows without a further delay.
    Slow(Duration),
    /// They go nowhere, and nobody is told: a firewall that drops.
    BlackHole,
}

/// The network between a client and its server, as a port on 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    /// Where to connect.
    pub port: u16,
    network: watch::Sender<Network>,
    cut: broadcast::Sender<()>,
    connections: Connections,
    _engine: Engine,
}

/// The network of every connection that was ever made, in the order in which they were made.
type Connections = Arc<Mutex<Vec<watch::Sender<Network>>>>;

impl Proxy {
    /// Starts to pass connections on to a port on 127.0.0.1.
    pub fn start(server_port: u16) -> Result<Self> {
        Self::balance(vec![server_port])
    }

    /// Starts to pass each connection on to the next of these ports on 127.0.0.1, as a balancer does.
    pub fn balance(server_ports: Vec<u16>) -> Result<Self> {
        let engine = Engine::new()?;
        let bound = async { TcpListener::bind("127.0.0.1:0").await.context("could not listen") };
        let listener = engine.run(Duration::from_secs(5), bound)?;
        let port = listener.local_addr().context("a listener has no address")?.port();
        let (network, state) = watch::channel(Network::Open);
        let (cut, _) = broadcast::channel(1);
        let connections = Connections::default();
        drop(engine.start(accept(listener, server_ports, (state, cut.clone()), Arc::clone(&connections))));
        Ok(Self { port, network, cut, connections, _engine: engine })
    }

    /// Makes the network another one, for open connections too.
    pub fn set(&self, network: Network) {
        // Under the lock, so that no connection is made between the two with the network of before.
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        self.network.send_replace(network);
        for connection in connections.iter() {
            connection.send_replace(network);
        }
    }

    /// Makes the network another one for one connection only; the first that was made has the place 0.
    pub fn set_for(&self, place: usize, network: Network) -> Result<()> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connections.get(place).context("no such connection was made")?;
        connection.send_replace(network);
        Ok(())
    }

    /// Breaks every open connection.
    pub fn cut(&self) {
        // Nobody is connected when this fails.
        self.cut.send(()).ok();
    }

    /// How many connections were ever made.
    pub fn accepted(&self) -> usize {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

type Controls = (watch::Receiver<Network>, broadcast::Sender<()>);

async fn accept(
    listener: TcpListener,
    server_ports: Vec<u16>,
    (network, cut): Controls,
    connections: Connections,
) -> Result<()> {
    for server_port in server_ports.into_iter().cycle() {
        let (client, _) = listener.accept().await?;
        let own = {
            let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
            let (sender, own) = watch::channel(*network.borrow());
            connections.push(sender);
            own
        };
        let mut cut = cut.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                // An error is the end of one side, which ends the other.
                ended = pass(client, server_port, own) => ended.ok(),
                _ = cut.recv() => None,
            }
        });
    }
    Ok(())
}

/// Passes both ways until one side ends.
async fn pass(client: TcpStream, server_port: u16, network: watch::Receiver<Network>) -> Result<()> {
    let mut opening = network.clone();
    opening.wait_for(|network| *network != Network::BlackHole).await?;
    let server = TcpStream::connect(("127.0.0.1", server_port)).await?;
    // What is late is late by the wish of the test only.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        ended = one_way(client_reads, server_writes, network.clone()) => ended,
        ended = one_way(server_reads, client_writes, network) => ended,
    }
}

/// Bytes on their way, with the moment at which they are due; none of them are the end.
type Parcel = (Instant, Vec<u8>);

async fn one_way(from: OwnedReadHalf, to: OwnedWriteHalf, network: watch::Receiver<Network>) -> Result<()> {
    // As many as a long line holds; whoever sends more waits.
    let (sender, receiver) = mpsc::channel(1024);
    let (sent, arrived) = tokio::join!(send(from, sender, network), arrive(receiver, to));
    sent.and(arrived)
}

async fn send(
    mut from: OwnedReadHalf,
    parcels: mpsc::Sender<Parcel>,
    mut network: watch::Receiver<Network>,
) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut buffer).await?;
        let state = *network.wait_for(|network| *network != Network::BlackHole).await?;
        let delay = match state {
            Network::Slow(delay) => delay,
            Network::Open | Network::BlackHole => Duration::ZERO,
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let taken = parcels.send((Instant::now() + delay, bytes)).await;
        if length == 0 || taken.is_err() {
            return Ok(());
        }
    }
}

async fn arrive(mut parcels: mpsc::Receiver<Parcel>, mut to: OwnedWriteHalf) -> Result<()> {
    while let Some((due, bytes)) = parcels.recv().await {
        sleep_until(due).await;
        if bytes.is_empty() {
            break;
        }
        to.write_all(&bytes).await?;
    }
    Ok(())
}
