//! Starts the keeper, the process that holds the servers of a lab and outlives its owner by as long
//! as it takes to stop them.
//!
//! The keeper blocks on a pipe whose writing end only the owner holds: the kernel closes it when
//! the owner ends, even by `kill -9`, and no other child inherits it (`O_CLOEXEC`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::programs::Programs;
use crate::wait::Deadline;

const SCRIPT: &str = include_str!("keeper.sh");

/// How long the keeper may take to stop its servers.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The running keeper; dropping it stops the servers and waits for that.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    directory: PathBuf,
}

impl Keeper {
    /// Starts the keeper, which starts the servers in `directory`.
    pub(crate) fn start(programs: &Programs, directory: &Path, standby: bool) -> Result<Self> {
        let log_path = directory.join("keeper.log");
        let log =
            File::create(&log_path).with_context(|| format!("could not create {}", log_path.display()))?;
        let errors = log.try_clone().context("could not share the keeper's log")?;
        let child = programs
            .command("/bin/sh")
            .args(["-c", SCRIPT, "lab-keeper"])
            .env("LAB", directory)
            .env("PG_BIN", &programs.postgres)
            .env("STANDBY", if standby { "yes" } else { "" })
            .env("REDIS", programs.redis.as_deref().unwrap_or_else(|| Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .context("could not start the keeper of the lab with /bin/sh")?;
        Ok(Self { child, directory: directory.to_owned() })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Deadline::after(STOP_LIMIT);
        while matches!(self.child.try_wait(), Ok(None)) && !deadline.passed() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Both do nothing after a keeper that ended well.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.directory).ok();
    }
}
