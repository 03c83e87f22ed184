//! A network that can be made bad: passes connections on to a server, late, not at all, or not any longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};

use crate::engine::Engine;

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// They arrive.
    Open,
    /// Each way takes so long.
    Slow(Duration),
    /// They go nowhere, and nobody is told: a firewall that drops.
    BlackHole,
}

/// The network between a client and one server, as a port on 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    /// Where to connect.
    pub port: u16,
    network: watch::Sender<Network>,
    cut: broadcast::Sender<()>,
    accepted: Arc<AtomicUsize>,
    _engine: Engine,
}

impl Proxy {
    /// Starts to pass connections on to a port on 127.0.0.1.
    pub fn start(server_port: u16) -> Result<Self> {
        let engine = Engine::new()?;
        let bound = async { TcpListener::bind("127.0.0.1:0").await.context("could not listen") };
        let listener = engine.run(Duration::from_secs(5), bound)?;
        let port = listener.local_addr().context("a listener has no address")?.port();
        let (network, state) = watch::channel(Network::Open);
        let (cut, _) = broadcast::channel(1);
        let accepted = Arc::new(AtomicUsize::new(0));
        drop(engine.start(accept(listener, server_port, (state, cut.clone()), Arc::clone(&accepted))));
        Ok(Self { port, network, cut, accepted, _engine: engine })
    }

    /// Makes the network another one, for open connections too.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Breaks every open connection.
    pub fn cut(&self) {
        // Nobody is connected when this fails.
        self.cut.send(()).ok();
    }

    /// How many connections were ever made.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

type Controls = (watch::Receiver<Network>, broadcast::Sender<()>);

async fn accept(
    listener: TcpListener,
    server_port: u16,
    (network, cut): Controls,
    accepted: Arc<AtomicUsize>,
) -> Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        accepted.fetch_add(1, Ordering::Relaxed);
        let (network, mut cut) = (network.clone(), cut.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                // An error is the end of one side, which ends the other.
                ended = pass(client, server_port, network) => ended.ok(),
                _ = cut.recv() => None,
            }
        });
    }
}

/// Passes both ways until one side ends.
async fn pass(client: TcpStream, server_port: u16, network: watch::Receiver<Network>) -> Result<()> {
    let mut opening = network.clone();
    opening.wait_for(|network| *network != Network::BlackHole).await?;
    let server = TcpStream::connect(("127.0.0.1", server_port)).await?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        ended = one_way(client_reads, server_writes, network.clone()) => ended,
        ended = one_way(server_reads, client_writes, network) => ended,
    }
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut buffer).await?;
        let state = *network.wait_for(|network| *network != Network::BlackHole).await?;
        if let Network::Slow(delay) = state {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..length).unwrap_or_default()).await?;
    }
}
