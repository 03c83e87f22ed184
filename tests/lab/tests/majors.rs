//! Tests of the lab on every major version of PostgreSQL that is here, and on one it has to copy.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use dbtriage_lab::{Lab, MAJORS, Options, server_directory};
use nix::unistd::geteuid;

/// Tells the test of a closed folder that it is the process whose servers lie in there.
const CLOSED: &str = "DBTRIAGE_LAB_CLOSED";

fn small() -> Options {
    Options { standby: false, redis: false, ..Options::default() }
}

#[test]
fn every_major_that_is_here_starts() -> Result<()> {
    for major in MAJORS.into_iter().filter(|it| server_directory(*it).is_some()) {
        let lab = Lab::start(Options { major: Some(major), ..small() })?;
        let version = lab.primary().client("oncall", "shop")?.cell("SHOW server_version_num")?;
        ensure!(version.parse::<u32>()? / 10_000 == major, "{version} is not {major}");
    }
    Ok(())
}

#[test]
fn a_server_in_a_folder_that_is_closed_to_its_account_is_copied() -> Result<()> {
    if env::var_os(CLOSED).is_some() {
        let lab = Lab::start(small())?;
        let program = fs::read_link(format!("/proc/{}/exe", lab.primary().postmaster_pid()?))?;
        // Root's folder is closed to the account; that of anybody else is the account's own.
        ensure!(program.starts_with(lab.directory()) == geteuid().is_root(), "{}", program.display());
        // The keeper removes it even if we are killed, so it must be the account's.
        ensure!(fs::metadata(program)?.uid() == fs::metadata(lab.directory())?.uid());
        return Ok(());
    }
    let servers = MAJORS.into_iter().find_map(server_directory).context("no PostgreSQL is here")?;
    let tree = servers.parent().context("no tree")?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    let copied = Command::new("cp").arg("-a").args([tree, &folder.path().join("postgres")]).status()?;
    ensure!(copied.success());
    let output = Command::new(env::current_exe()?)
        .args(["--exact", "a_server_in_a_folder_that_is_closed_to_its_account_is_copied"])
        .env(CLOSED, "1")
        .env("DBTRIAGE_PG_BIN", folder.path().join("postgres/bin"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
