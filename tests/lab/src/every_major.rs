//! Runs the tests of a binary again, on every other major version of PostgreSQL that is here.

use std::env;
use std::fs;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::majors::{MAJORS, directory, server_directory, version};
use crate::wait::Deadline;

/// Tells a test binary for which major version it was started.
const MAJOR: &str = "DBTRIAGE_TEST_MAJOR";

/// How long a test binary may take for one major version.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs this test binary, without its tests `skip`, once for every major version but the one that
/// its labs start anyway; `skip` begins with the test which calls this, and goes on with those that one major is enough
/// for. Where tests fail the error holds
/// what they printed. A major version that is not here is told to the terminal.
pub fn on_every_other_major(skip: &[&str]) -> Result<()> {
    if env::var_os(MAJOR).is_some() {
        return Ok(());
    }
    let usual = version(&directory(None)?);
    let mut failures = Vec::new();
    for major in MAJORS.into_iter().filter(|it| Some(*it) != usual) {
        match server_directory(major) {
            Some(servers) => failures.extend(run(major, &servers, skip).err()),
            None => tell_absence(major)?,
        }
    }
    let failures: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Runs this test binary with the servers of one major version.
fn run(major: u32, servers: &Path, skip: &[&str]) -> Result<()> {
    let output = tempfile::NamedTempFile::new().context("could not create a file for the output of tests")?;
    let [stdout, stderr] = [output.reopen()?, output.reopen()?];
    let mut tests = Command::new(env::current_exe()?);
    tests
        .args(skip.iter().flat_map(|name| ["--skip", *name]))
        .env(MAJOR, major.to_string())
        .env("DBTRIAGE_PG_BIN", servers);
    tests.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let ended = wait(&mut tests).with_context(|| format!("could not run the tests on PostgreSQL {major}"))?;
    let told = || fs::read_to_string(output.path()).unwrap_or_default();
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("on PostgreSQL {major}, {status}:\n{}", told()),
        None => bail!("on PostgreSQL {major}, no end after {} s:\n{}", LIMIT.as_secs(), told()),
    }
}

/// Runs a command to its end; `None` when it had to be killed.
fn wait(command: &mut Command) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let deadline = Deadline::after(LIMIT);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if deadline.passed() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Says past the capture of test output that a major version was left out.
fn tell_absence(major: u32) -> Result<()> {
    let program = env::current_exe()?;
    let name = program.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
    // Cargo appends a hash to the name of the file.
    let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
    let cure = "sh tests/lab/setup.sh --all-versions";
    writeln!(stderr(), "PostgreSQL {major} is not here, so {name}.rs did not run on it: {cure}")?;
    Ok(())
}
