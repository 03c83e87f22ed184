//! Finds the programs of the servers, and the account they run under.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::unistd::{User, geteuid};

/// Names the command which installs what is missing.
const CURE: &str = "run: sh tests/lab/setup.sh";

/// Where Debian puts the servers, one directory per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs and the account of a lab.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) postgres: PathBuf,
    pub(crate) redis: Option<PathBuf>,
    pub(crate) account: Option<Account>,
}

/// The account to which servers are dropped when we are root, because they refuse to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Programs {
    /// Finds the servers; a missing one is an error that names the cure.
    pub(crate) fn find(major: Option<u32>, redis: bool) -> Result<Self> {
        Ok(Self {
            postgres: postgres_directory(major)?,
            redis: if redis { Some(redis_server()?) } else { None },
            account: account()?,
        })
    }

    /// Prepares a command which runs as the servers do: with their account, in a process group of
    /// its own, with nothing of our environment.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("PATH", path()).env("LC_ALL", "C").env("TZ", "UTC");
        command.process_group(0);
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

fn path() -> String {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env::var("PATH").map_or_else(|_| usual.to_owned(), |own| format!("{own}:{usual}"))
}

fn account() -> Result<Option<Account>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        let user = User::from_name(name).with_context(|| format!("could not look up user {name}"))?;
        if let Some(user) = user {
            return Ok(Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is no user postgres or nobody; {CURE}")
}

/// The directory with `initdb`, `pg_ctl` and `postgres`: `DBTRIAGE_PG_BIN` (a list, separated by
/// colons), else the newest of Debian's, else the search path.
fn postgres_directory(major: Option<u32>) -> Result<PathBuf> {
    let named: Vec<PathBuf> = env::var_os("DBTRIAGE_PG_BIN")
        .map(|list| env::split_paths(&list).filter(|it| !it.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if let Some(wrong) = named.iter().find(|it| !is_postgres(it)) {
        bail!("DBTRIAGE_PG_BIN names {}, which has no initdb, pg_ctl and postgres", wrong.display());
    }
    let found = match major {
        Some(major) => {
            let debian = PathBuf::from(format!("{DEBIAN}/{major}/bin"));
            let mut candidates = named.into_iter().chain([debian]).chain(search_path());
            candidates.find(|it| is_postgres(it) && version(it) == Some(major))
        }
        None => named
            .into_iter()
            .next()
            .or_else(newest_of_debian)
            .or_else(|| search_path().find(|it| is_postgres(it))),
    };
    match (found, major) {
        (Some(found), _) => Ok(found),
        (None, Some(major)) => bail!(
            "PostgreSQL {major} was not found in DBTRIAGE_PG_BIN, {DEBIAN} or PATH; \
             put the directory of its initdb into DBTRIAGE_PG_BIN"
        ),
        (None, None) => bail!("no PostgreSQL server was found in {DEBIAN} or PATH; {CURE}"),
    }
}

fn redis_server() -> Result<PathBuf> {
    search_path()
        .map(|directory| directory.join("redis-server"))
        .find(|it| it.is_file())
        .with_context(|| format!("no redis-server was found in PATH; {CURE}"))
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = path();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

fn is_postgres(directory: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|it| directory.join(it).is_file())
}

fn newest_of_debian() -> Option<PathBuf> {
    let mut majors: Vec<u32> = std::fs::read_dir(DEBIAN)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.into_iter().map(|it| PathBuf::from(format!("{DEBIAN}/{it}/bin"))).find(|it| is_postgres(it))
}

/// The major version of the server in a directory: `postgres (PostgreSQL) 15.18 (Debian ...)`.
fn version(directory: &Path) -> Option<u32> {
    let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().nth(2)?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
