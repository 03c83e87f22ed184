//! Servers that are none: a port that speaks as a script says, so that the program meets what no real server does, and
//! crowds that no machine of a test can hold.

mod crowd;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub use self::crowd::{Crowd, Shape};
use self::wire::{Answer, Cell};
use crate::engine::Engine;

/// The most that one imitation sends in floods: a program that keeps it all is found out, and the machine survives.
pub const FLOOD_MAX: u64 = 256 * 1024 * 1024;

/// What a connection does, step by step; after the last it holds the connection and listens.
#[derive(Debug, Clone)]
pub enum Step {
    /// Waits until the client has said something.
    Hear,
    /// Says this.
    Say(Vec<u8>),
    /// Says the first, the second, the third... chunk, until the client leaves or `FLOOD_MAX` is reached.
    Flood(fn(u64) -> Vec<u8>),
    /// Closes the connection.
    HangUp,
    /// Goes on as the server that is imitated.
    GoOn,
}

/// What stands behind a port.
#[derive(Debug, Clone)]
pub enum Script {
    /// The same steps for every connection.
    Steps(Vec<Step>),
    /// PostgreSQL 15 with this crowd in it. Statements that are named here, as in `/* dbtriage:NAME */`, are answered
    /// by the steps instead, which end with `GoOn` when the others shall be answered.
    Postgres(Arc<Crowd>, BTreeMap<&'static str, Vec<Step>>),
    /// A Redis whose answer to INFO is these steps, the last of them `GoOn`; it answers PING and AUTH like any other.
    Redis(Vec<Step>),
}

/// A port on 127.0.0.1 with a script behind it; closed when it is dropped.
#[derive(Debug)]
pub struct Imitation {
    /// Where to connect.
    pub port: u16,
    told: Arc<Told>,
    _engine: Engine,
}

/// What an imitation knows of its connections.
#[derive(Debug, Default)]
struct Told {
    accepted: AtomicUsize,
    flooded: AtomicU64,
    ticks: AtomicUsize,
}

impl Imitation {
    /// Opens the port.
    pub fn start(script: Script) -> Result<Self> {
        let engine = Engine::new()?;
        let bound = async { TcpListener::bind("127.0.0.1:0").await.context("could not listen") };
        let listener = engine.run(Duration::from_secs(5), bound)?;
        let port = listener.local_addr().context("a listener has no address")?.port();
        let told = Arc::new(Told::default());
        drop(engine.start(accept(listener, Arc::new(Played::new(script)), Arc::clone(&told))));
        Ok(Self { port, told, _engine: engine })
    }

    /// The URI of a connection that takes it for PostgreSQL.
    pub fn postgres_uri(&self) -> String {
        format!("postgres://oncall@127.0.0.1:{}/shop", self.port)
    }

    /// The URL of a connection that takes it for Redis.
    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections were ever made.
    pub fn accepted(&self) -> usize {
        self.told.accepted.load(Ordering::Relaxed)
    }

    /// How many bytes its floods have sent so far.
    pub fn flooded(&self) -> u64 {
        self.told.flooded.load(Ordering::Relaxed)
    }

    /// How many times the sessions of the crowd were read.
    pub fn ticks(&self) -> usize {
        self.told.ticks.load(Ordering::Relaxed)
    }
}

/// A script, and what its answers are made of once for all connections.
struct Played {
    script: Script,
    answers: BTreeMap<&'static str, Answer>,
}

impl Played {
    fn new(script: Script) -> Self {
        let answers = match &script {
            Script::Postgres(crowd, _) => crowd.answers(),
            Script::Steps(_) | Script::Redis(_) => BTreeMap::new(),
        };
        Self { script, answers }
    }
}

async fn accept(listener: TcpListener, played: Arc<Played>, told: Arc<Told>) -> Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        let number = told.accepted.fetch_add(1, Ordering::Relaxed);
        let (played, told) = (Arc::clone(&played), Arc::clone(&told));
        tokio::spawn(async move {
            let mut connection = Connection { stream: client, told, number };
            match &played.script {
                Script::Steps(steps) => connection.act(steps).await,
                Script::Postgres(crowd, instead) => {
                    connection.as_postgres(crowd, &played.answers, instead).await
                }
                Script::Redis(info) => connection.as_redis(info).await,
            }
        });
    }
}

struct Connection {
    stream: TcpStream,
    told: Arc<Told>,
    number: usize,
}

/// A message of the client: its tag and what it holds.
type Message = (u8, Vec<u8>);

impl Connection {
    /// Acts out the steps and what follows from the last of them; an error is the end of the connection.
    async fn act(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            match step {
                Step::Hear => self.hear().await?,
                Step::Say(bytes) => self.stream.write_all(bytes).await?,
                Step::Flood(chunk) => self.flood(*chunk).await?,
                Step::HangUp => bail!("the script hangs up"),
                Step::GoOn => return Ok(()),
            }
        }
        loop {
            self.hear().await?;
        }
    }

    async fn hear(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        if self.stream.read(&mut buffer).await? == 0 {
            bail!("the client has left");
        }
        Ok(())
    }

    async fn flood(&mut self, chunk: fn(u64) -> Vec<u8>) -> Result<()> {
        for number in 0.. {
            let bytes = chunk(number);
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if FLOOD_MAX < self.told.flooded.fetch_add(size, Ordering::Relaxed) {
                return Ok(());
            }
            self.stream.write_all(&bytes).await?;
        }
        Ok(())
    }

    async fn as_postgres(
        &mut self,
        crowd: &Crowd,
        answers: &BTreeMap<&'static str, Answer>,
        instead: &BTreeMap<&'static str, Vec<Step>>,
    ) -> Result<()> {
        self.greet().await?;
        if let Some(steps) = instead.get("startup") {
            return self.act(steps).await;
        }
        self.stream.write_all(&wire::welcome(self.pid())).await?;
        let (mut name, mut parameters, mut out) = (String::new(), Vec::new(), Vec::new());
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'P' => name = wire::statement_name(&body),
                b'B' => parameters = wire::parameters(&body).unwrap_or_default(),
                b'E' => {
                    if let Some(steps) = instead.get(name.as_str()) {
                        self.stream.write_all(&std::mem::take(&mut out)).await?;
                        self.act(steps).await?;
                        continue;
                    }
                    if name == "activity" {
                        self.told.ticks.fetch_add(1, Ordering::Relaxed);
                    }
                    let fresh = self.fresh_answer(&name, crowd, &parameters);
                    let answer = fresh.as_ref().or_else(|| answers.get(name.as_str()));
                    answer.unwrap_or(&Answer::empty()).write(&mut out);
                }
                b'S' => {
                    out.extend(wire::READY);
                    self.stream.write_all(&std::mem::take(&mut out)).await?;
                }
                b'Q' => self.stream.write_all(&wire::simple_answer()).await?,
                b'X' => bail!("the client says good-bye"),
                _ => {}
            }
        }
    }

    /// The process id that this connection's backend would have.
    fn pid(&self) -> i32 {
        i32::try_from(self.number % 1000).unwrap_or_default() + 100
    }

    /// What depends on the moment, the connection, or what was asked.
    fn fresh_answer(&self, name: &str, crowd: &Crowd, parameters: &[Vec<u8>]) -> Option<Answer> {
        match name {
            "hello" => Some(Answer::one(
                &[
                    ("pid", wire::INT4),
                    ("recovery", wire::BOOL),
                    ("bounded", wire::BOOL),
                    ("started_at", wire::TIMESTAMPTZ),
                ],
                &[Cell::Int4(self.pid()), Cell::Bool(false), Cell::Bool(true), crowd::started_at()],
            )),
            "clock" => Some(crowd.clock()),
            "relations" => Some(crowd.relation_names(&wire::oids(parameters.first()?)?)),
            "holdings" => Some(crowd.holdings(wire::int4(parameters.first()?)?)),
            _ => None,
        }
    }

    /// Reads the start of a connection: it offers no encryption of either kind.
    async fn greet(&mut self) -> Result<()> {
        const CANCEL: u32 = 80_877_102;
        const ENCRYPT: [u32; 2] = [80_877_103, 80_877_104];
        loop {
            let length = usize::try_from(self.stream.read_u32().await?)?;
            let code = self.stream.read_u32().await?;
            let mut rest = vec![0; length.saturating_sub(8).min(10_000)];
            self.stream.read_exact(&mut rest).await?;
            match code {
                CANCEL => bail!("a cancel request"),
                code if ENCRYPT.contains(&code) => self.stream.write_all(b"N").await?,
                _ => return Ok(()),
            }
        }
    }

    async fn message(&mut self) -> Result<Message> {
        let tag = self.stream.read_u8().await?;
        let length = usize::try_from(self.stream.read_u32().await?)?;
        let mut body = vec![0; length.saturating_sub(4).min(1 << 24)];
        self.stream.read_exact(&mut body).await?;
        Ok((tag, body))
    }

    async fn as_redis(&mut self, info: &[Step]) -> Result<()> {
        let mut heard = Vec::new();
        loop {
            let Some((words, used)) = wire::redis_command(&heard) else {
                if self.stream.read_buf(&mut heard).await? == 0 {
                    bail!("the client has left");
                }
                continue;
            };
            heard.drain(..used);
            match words.first().map(|word| word.to_uppercase()).as_deref() {
                Some("INFO") => self.act(info).await?,
                Some("PING") => self.stream.write_all(b"+PONG\r\n").await?,
                Some(_) | None => self.stream.write_all(b"+OK\r\n").await?,
            }
        }
    }
}

/// A text as Redis sends it.
pub fn redis_bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}
