//! Finds the PostgreSQL servers of this machine, by their major version.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::programs::{CURE, search_path};

/// The major versions of PostgreSQL that dbtriage knows.
pub const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// Where Debian puts the servers, one directory per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Where `setup.sh --all-versions` puts the servers which Debian has not, laid out alike.
const FETCHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/postgres");

/// The directory with `initdb`, `pg_ctl` and `postgres` of a major version, if it is here: in
/// `DBTRIAGE_PG_BIN` (a list, separated by colons), among Debian's, among the fetched ones, or in
/// the search path.
pub fn server_directory(major: u32) -> Option<PathBuf> {
    let known = [DEBIAN, FETCHED].map(|it| PathBuf::from(format!("{it}/{major}/bin")));
    let mut candidates = named().into_iter().chain(known).chain(search_path());
    candidates.find(|it| is_postgres(it) && version(it) == Some(major))
}

/// The directory of the servers which a lab starts: of a major version, else the first that
/// `DBTRIAGE_PG_BIN` names, else the newest of Debian's, else the first in the search path.
pub(crate) fn directory(major: Option<u32>) -> Result<PathBuf> {
    let named = named();
    if let Some(wrong) = named.iter().find(|it| !is_postgres(it)) {
        bail!("DBTRIAGE_PG_BIN names {}, which has no initdb, pg_ctl and postgres", wrong.display());
    }
    match major {
        Some(major) => server_directory(major).with_context(|| {
            format!("PostgreSQL {major} was not found; {CURE} --all-versions, or name it in DBTRIAGE_PG_BIN")
        }),
        None => named
            .into_iter()
            .next()
            .or_else(newest_of_debian)
            .or_else(|| search_path().find(|it| is_postgres(it)))
            .with_context(|| format!("no PostgreSQL server was found in {DEBIAN} or PATH; {CURE}")),
    }
}

/// The major version of the server in a directory: `postgres (PostgreSQL) 15.18 (Debian ...)`.
pub(crate) fn version(directory: &Path) -> Option<u32> {
    let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().nth(2)?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn named() -> Vec<PathBuf> {
    env::var_os("DBTRIAGE_PG_BIN")
        .map(|list| env::split_paths(&list).filter(|it| !it.as_os_str().is_empty()).collect())
        .unwrap_or_default()
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
