//! A server whose every process is stopped: it holds its connections and answers nothing, as a machine does that
//! swaps, or a disk that hangs.

use std::fs;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::postgres::Postgres;

/// Stopped processes; they go on when this is dropped.
#[derive(Debug)]
pub struct Stopped(Vec<Pid>);

impl Stopped {
    /// Stops every process of a server.
    pub fn all_of(server: &Postgres) -> Result<Self> {
        let mut stopped = Self(Vec::new());
        let postmaster = server.postmaster_pid()?;
        // The postmaster first, so that it starts no more of them.
        stopped.stop(postmaster);
        for child in children(postmaster)? {
            stopped.stop(child);
        }
        Ok(stopped)
    }

    /// Stops one process.
    pub fn one(pid: i32) -> Self {
        let mut stopped = Self(Vec::new());
        stopped.stop(pid);
        stopped
    }

    /// How many processes were stopped.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn stop(&mut self, pid: i32) {
        let pid = Pid::from_raw(pid);
        // A backend that ended by itself a moment ago needs no stop.
        if kill(pid, Signal::SIGSTOP).is_ok() {
            self.0.push(pid);
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have been killed meanwhile.
            kill(*pid, Signal::SIGCONT).ok();
        }
    }
}

fn children(parent: i32) -> Result<Vec<i32>> {
    let parent_of = |pid: i32| -> Option<i32> {
        // After the program's name, which may hold anything and ends with a parenthesis: state, parent.
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = fs::read_dir("/proc")?.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    Ok(processes.filter(|pid| parent_of(*pid) == Some(parent)).collect())
}
