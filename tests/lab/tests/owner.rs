//! Tests of the keeper: the servers of a lab end with their owner, however it ends.

#![allow(clippy::disallowed_methods, reason = "deadlines need the clock")]

use std::env;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dbtriage_lab::{Lab, Options, Scenario};

/// Tells the test `owner` to be the owner of a lab, in a process of its own.
const OWNER: &str = "DBTRIAGE_LAB_OWNER";

/// Looks at a condition until it holds.
fn until(what: &str, limit: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !look()? {
        if limit < started.elapsed() {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Says if a process runs; one that ended and was not yet reaped by init does not.
fn is_process(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("\nState:\tZ")
}

/// Not a test by itself: the process which `servers_end_when_their_owner_is_killed` kills.
#[test]
fn owner() -> Result<()> {
    if env::var_os(OWNER).is_none() {
        return Ok(());
    }
    let lab = Lab::start(Options::default())?;
    let _load = lab.play(Scenario::LockPileup)?;
    let primary = lab.primary().postmaster_pid()?;
    let standby = lab.standby().context("no standby")?.postmaster_pid()?;
    let redis = lab.redis().context("no Redis")?.pid()?;
    println!("\nlab {} {primary} {standby} {redis}", lab.directory().display());
    loop {
        std::thread::park();
    }
}

/// A process that owns a lab, with what it said about it.
struct Owned {
    child: Child,
    directory: PathBuf,
    servers: Vec<i32>,
}

impl Owned {
    fn start() -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--exact", "owner", "--nocapture"])
            .env(OWNER, "1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output of the owner")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            let mut words = line.split(' ');
            if words.next() == Some("lab") {
                let directory = PathBuf::from(words.next().context("no directory")?);
                let servers = words.map(str::parse).collect::<Result<Vec<i32>, _>>()?;
                return Ok(Self { child, directory, servers });
            }
        }
        bail!("the owner ended early: {}", child.wait()?)
    }
}

#[test]
fn servers_end_when_their_owner_is_killed() -> Result<()> {
    let mut owned = Owned::start()?;
    ensure!(owned.servers.len() == 3 && owned.servers.iter().all(|it| is_process(*it)));
    // `Child::kill` is SIGKILL: the owner's destructors do not run.
    owned.child.kill()?;
    owned.child.wait()?;
    until("the servers to end", Duration::from_secs(5), || {
        Ok(owned.servers.iter().all(|it| !is_process(*it)) && !owned.directory.exists())
    })
}

#[test]
fn an_owner_killed_while_the_lab_starts_leaves_nothing() -> Result<()> {
    for milliseconds in [20, 300, 700] {
        let mut child = Command::new(env::current_exe()?)
            .args(["--exact", "owner"])
            .env(OWNER, "1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        // Any moment will do: this is the one wait that is not for a condition.
        std::thread::sleep(Duration::from_millis(milliseconds));
        let directory = directory_of_keeper(child.id());
        child.kill()?;
        child.wait()?;
        let Some(directory) = directory else { continue };
        until("the directory to go", Duration::from_secs(5), || {
            Ok(!directory.exists() && processes_in(&directory)? == 0)
        })?;
    }
    Ok(())
}

#[test]
fn a_frozen_server_ends_too() -> Result<()> {
    let lab = Lab::start(Options::default())?;
    let directory = lab.directory().to_owned();
    let primary = lab.primary().postmaster_pid()?;
    let redis = lab.redis().context("no Redis")?.pid()?;
    let frozen = Command::new("sh").args(["-c", &format!("kill -STOP {primary} {redis}")]).status()?;
    ensure!(frozen.success());
    let started = Instant::now();
    drop(lab);
    ensure!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    ensure!(!is_process(primary) && !is_process(redis) && !directory.exists());
    Ok(())
}

/// The directory which the keeper among the children of an owner keeps.
fn directory_of_keeper(owner: u32) -> Option<PathBuf> {
    for entry in std::fs::read_dir("/proc").ok()? {
        let path = entry.ok()?.path();
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        if !status.contains(&format!("\nPPid:\t{owner}\n")) {
            continue;
        }
        let environment = std::fs::read(path.join("environ")).ok()?;
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let directory = environment.split('\0').find_map(|it| it.strip_prefix("LAB="));
        if let Some(directory) = directory {
            return Some(PathBuf::from(directory));
        }
    }
    None
}

/// Counts the processes whose directory lies in the lab's.
fn processes_in(directory: &Path) -> Result<usize> {
    let within = |entry: std::io::Result<std::fs::DirEntry>| {
        let place = std::fs::read_link(entry.ok()?.path().join("cwd")).ok()?;
        place.starts_with(directory).then_some(())
    };
    Ok(std::fs::read_dir("/proc")?.filter_map(within).count())
}
