//! The password file (manual, "The Password File"): five fields a line, `*` matches anything, `\` takes the next
//! character as it is. A file that others may read is not used, as in libpq.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Endpoint, Environment, Host, PasswordFile, Secret};

/// The file to look into: the one given, else `~/.pgpass`.
pub(super) fn locate(given: Option<&str>, environment: &Environment) -> Option<PathBuf> {
    given.map(PathBuf::from).or_else(|| super::home(environment).map(|home| home.join(".pgpass")))
}

/// The file and what it holds, unless it is not there; nothing of one that others may read.
pub(super) fn read(path: PathBuf) -> Option<(PasswordFile, String)> {
    let is_private = is_private(&path)?;
    let text = if is_private { std::fs::read_to_string(&path).ok()? } else { String::new() };
    Some((PasswordFile { path, is_private }, text))
}

/// The password that the lines have for this login.
pub(super) fn find(text: &str, endpoint: &Endpoint, database: &str, user: &str) -> Option<Secret> {
    let port = endpoint.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let [host, line_port, line_database, line_user, password] = fields(line)?;
        let matches = |pattern: &Field, value: &str| pattern.wild || pattern.text == value;
        (matches_host(&host, endpoint)
            && matches(&line_port, &port)
            && matches(&line_database, database)
            && matches(&line_user, user))
        .then_some(Secret(password.text))
    })
}

/// `None` where there is no plain file.
fn is_private(file: &Path) -> Option<bool> {
    let meta = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    Some(meta.permissions().mode() % 0o100 == 0)
}

/// A socket in the default folder is called `localhost` in the file.
fn matches_host(pattern: &Field, endpoint: &Endpoint) -> bool {
    pattern.wild
        || match &endpoint.host {
            Host::Tcp { name, .. } => pattern.text == *name,
            Host::Socket(folder) => {
                folder.as_os_str() == pattern.text.as_str()
                    || (pattern.text == "localhost" && super::default_host() == endpoint.host)
            }
        }
}

struct Field {
    text: String,
    wild: bool,
}

fn fields(line: &str) -> Option<[Field; 5]> {
    let mut found = Vec::with_capacity(5);
    let mut text = String::new();
    let mut escaped = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                text.extend(chars.next());
                escaped = true;
            }
            ':' if found.len() < 4 => {
                let wild = text == "*" && !escaped;
                found.push(Field { text: std::mem::take(&mut text), wild });
                escaped = false;
            }
            c => text.push(c),
        }
    }
    found.push(Field { text, wild: false });
    found.try_into().ok()
}
