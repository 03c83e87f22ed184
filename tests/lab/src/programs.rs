//! Finds the programs of the servers, and the account they run under.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{User, geteuid};

/// Names the command which installs what is missing.
pub(crate) const CURE: &str = "run: sh tests/lab/setup.sh";

/// Copies what a server consists of, and gives the copy away: the keeper has to remove it.
const COPY: &str = r#"
    mkdir "$2"
    for part in bin lib share; do
        [ ! -e "$1/$part" ] || cp -a "$1/$part" "$2"
    done
    chown -R "$3" "$2"
"#;

/// The programs and the account of a lab.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) postgres: PathBuf,
    pub(crate) redis: Option<PathBuf>,
    pub(crate) account: Option<Account>,
    /// Whether the account cannot run PostgreSQL where it lies.
    closed: bool,
}

/// The account to which servers are dropped when we are root, because they refuse to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Programs {
    /// Finds what belongs to a PostgreSQL in a directory; a missing Redis is an error that names
    /// the cure.
    pub(crate) fn find(postgres: PathBuf, redis: bool) -> Result<Self> {
        let redis = if redis { Some(redis_server()?) } else { None };
        let mut programs = Self { postgres, redis, account: account()?, closed: false };
        programs.closed = programs.account.is_some() && !programs.runs_postgres();
        Ok(programs)
    }

    /// The same programs, with a PostgreSQL that the account can run: when its folder is closed to
    /// the account, it is copied into `directory`.
    pub(crate) fn within_reach(&self, directory: &Path) -> Result<Self> {
        let Some(account) = self.account.filter(|_| self.closed) else {
            return Ok(self.clone());
        };
        let closed = self.postgres.display();
        let tree = self.postgres.parent().with_context(|| format!("{closed} is no directory of programs"))?;
        let copy = directory.join("server");
        let output = Command::new("/bin/sh")
            .args(["-euc", COPY, "lab-copy"])
            .args([tree, &copy])
            .arg(format!("{}:{}", account.uid, account.gid))
            .output()
            .context("could not copy PostgreSQL with /bin/sh")?;
        let programs = Self { postgres: copy.join("bin"), closed: false, ..self.clone() };
        ensure!(
            output.status.success() && programs.runs_postgres(),
            "the servers' account can run neither {closed}/postgres nor a copy of it: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(programs)
    }

    /// Says if the servers' account can run `postgres`.
    fn runs_postgres(&self) -> bool {
        let output = self.command(self.postgres.join("postgres")).arg("--version").current_dir("/").output();
        output.is_ok_and(|it| it.status.success())
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

fn redis_server() -> Result<PathBuf> {
    search_path()
        .map(|directory| directory.join("redis-server"))
        .find(|it| it.is_file())
        .with_context(|| format!("no redis-server was found in PATH; {CURE}"))
}

/// The directories in which programs are looked for.
pub(crate) fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = path();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}
