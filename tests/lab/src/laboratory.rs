//! The lab as a whole: its options, its start, its servers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cache::Redis;
use crate::client::login;
use crate::configuration::{self, Common, Ports};
use crate::engine::Engine;
use crate::keeper::Keeper;
use crate::majors::directory;
use crate::postgres::{Postgres, tail};
use crate::programs::Programs;
use crate::scenario::{Load, Scenario};
use crate::shop;
use crate::stage::World;
use crate::wait::until;

/// How often a lab starts again with other ports when one was taken.
const ATTEMPTS: u32 = 4;

/// How long the servers may take to start, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a lab shall consist of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Start a hot standby of the primary.
    pub standby: bool,
    /// Start Redis.
    pub redis: bool,
    /// `max_connections` of PostgreSQL.
    pub max_connections: u32,
    /// More settings of PostgreSQL, by name and value; they win over the lab's own.
    pub settings: Vec<(String, String)>,
    /// The major version of PostgreSQL; `None` is the newest that is installed.
    pub major: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { standby: true, redis: true, max_connections: 100, settings: Vec::new(), major: None }
    }
}

/// Running servers; dropping it stops them, and removes their directory.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    primary: Postgres,
    standby: Option<Postgres>,
    redis: Option<Redis>,
    engine: Arc<Engine>,
    _keeper: Keeper,
}

impl Lab {
    /// Starts the servers and fills the database `shop`; blocks until all of them take connections
    /// and the standby follows.
    pub fn start(options: Options) -> Result<Self> {
        let programs = Programs::find(directory(options.major)?, options.redis)?;
        let engine = Arc::new(Engine::new()?);
        let mut attempt = 1;
        loop {
            match Self::try_start(&options, &programs, &engine) {
                Err(error) if attempt < ATTEMPTS && port_was_taken(&error) => attempt += 1,
                result => return result,
            }
        }
    }

    /// The primary.
    pub fn primary(&self) -> &Postgres {
        &self.primary
    }

    /// The hot standby.
    pub fn standby(&self) -> Option<&Postgres> {
        self.standby.as_ref()
    }

    /// The Redis server.
    pub fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()
    }

    /// The directory with everything of this lab; it goes with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Plays a scenario in the background; returns when the servers show its state. Dropping the
    /// load ends it.
    pub fn play(&self, scenario: Scenario) -> Result<Load> {
        let world = World {
            primary: self.primary.clone(),
            standby: self.standby.clone(),
            redis: self.redis.clone(),
            log: self.directory.join("load.log"),
        };
        Load::start(&self.engine, world, scenario)
            .with_context(|| format!("could not play the scenario {scenario}"))
    }

    fn try_start(options: &Options, programs: &Programs, engine: &Arc<Engine>) -> Result<Self> {
        let directory = make_directory(programs)?;
        let programs =
            &programs.within_reach(&directory).inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        let ports = Ports::find()?;
        let common = Common {
            directory: &directory,
            max_connections: options.max_connections,
            settings: &options.settings,
        };
        common.write_primary(ports)?;
        common.write_standby(ports)?;
        configuration::write_redis(&directory, ports.redis)?;
        let keeper = Keeper::start(programs, &directory, options.standby)
            .inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        let postgres = |name: &str, port: u16| Postgres {
            port,
            socket_directory: directory.join("sockets"),
            log: directory.join(format!("{name}.log")),
            data: directory.join(name),
            programs: programs.clone(),
            engine: Arc::clone(engine),
        };
        let lab = Self {
            primary: postgres("primary", ports.primary),
            standby: options.standby.then(|| postgres("standby", ports.standby)),
            redis: options.redis.then(|| Redis {
                port: ports.redis,
                socket: directory.join("sockets/redis"),
                log: directory.join("redis.log"),
                directory: directory.clone(),
                programs: programs.clone(),
                engine: Arc::clone(engine),
            }),
            engine: Arc::clone(engine),
            directory: directory.clone(),
            _keeper: keeper,
        };
        let work = make_ready(directory.clone(), lab.primary.clone(), lab.standby.clone(), lab.redis.clone());
        engine.run(START_LIMIT, work).map_err(|error| error.context(told(&directory)))?;
        Ok(lab)
    }
}

/// Makes the directory of a lab, which belongs to the servers' account and is readable to all.
fn make_directory(programs: &Programs) -> Result<PathBuf> {
    // Not the directory that TMPDIR names: the paths of sockets must be short.
    let directory = tempfile::Builder::new()
        .prefix("dbtriage-lab-")
        .tempdir_in("/tmp")
        .context("could not create a directory in /tmp")?;
    for path in ["", "sockets", "data"] {
        let path = directory.path().join(path);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("could not create {}", path.display()))?;
        if let Some(account) = programs.account {
            chown(&path, Some(account.uid), Some(account.gid))
                .with_context(|| format!("could not give {} away", path.display()))?;
        }
    }
    // From here on the keeper removes it.
    Ok(directory.keep())
}

/// Waits for the servers, fills the shop, waits for the standby.
async fn make_ready(
    directory: PathBuf,
    primary: Postgres,
    standby: Option<Postgres>,
    redis: Option<Redis>,
) -> Result<()> {
    let ended = directory.join("ended");
    let watch = async {
        let look = || async { Ok(ended.exists()) };
        until("a server to end", START_LIMIT, look).await?;
        bail!("a server of the lab did not start: {}", fs::read_to_string(&ended)?.trim())
    };
    let work = async {
        let look = || async { login(primary.config("postgres", "postgres", "lab")).await.map(|_| true) };
        until("the primary to take connections", START_LIMIT, look).await?;
        shop::fill(&primary, standby.is_some()).await?;
        if let Some(standby) = &standby {
            shop::follow(&primary, standby).await?;
        }
        match &redis {
            Some(redis) => redis.ready().await,
            None => Ok(()),
        }
    };
    tokio::select! {
        result = watch => result,
        result = work => result,
    }
}

/// What the logs of a lab say, for an error message.
fn told(directory: &Path) -> String {
    let logs = ["keeper", "primary", "standby", "redis"]
        .map(|name| (name, tail(&directory.join(format!("{name}.log")))));
    let told: Vec<String> = logs
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("{name}.log:\n{text}"))
        .collect();
    format!("could not start the lab; its logs end with\n{}", told.join("\n"))
}

fn port_was_taken(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["could not bind", "any TCP/IP sockets", "Address already in use"].iter().any(|it| text.contains(it))
}
