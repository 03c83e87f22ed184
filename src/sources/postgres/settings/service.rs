//! The connection service file (manual, "The Connection Service File"): `[name]` sections of `keyword=value`
//! lines; the user's own file first, then the one of the system.

use std::path::{Path, PathBuf};

use super::{Environment, SettingsError, keywords};
use crate::text;

/// The parameters of one service. An unknown service, an unreadable file and a malformed line are errors.
pub(super) fn read(
    name: &str,
    given: Option<&str>,
    environment: &Environment,
) -> Result<Vec<(String, String)>, SettingsError> {
    let own = given
        .map(PathBuf::from)
        .or_else(|| super::home(environment).map(|home| home.join(".pg_service.conf")));
    let system_folder = environment.get("PGSYSCONFDIR").map_or("/etc/postgresql-common", String::as_str);
    let system = Path::new(system_folder).join("pg_service.conf");
    let (mut looked_in, mut titles) = (Vec::new(), Vec::new());
    for file in own.into_iter().chain([system]) {
        if !file.exists() && given.is_none_or(|given| Path::new(given) != file) {
            continue;
        }
        let text = std::fs::read_to_string(&file).map_err(|error| {
            SettingsError(format!("cannot read the service file {}: {error}", file.display()))
        })?;
        if let Some(parameters) = section(&text, name, &file)? {
            return Ok(parameters);
        }
        looked_in.push(file.display().to_string());
        titles.extend(text.lines().filter_map(title).map(str::to_owned));
    }
    let places = if looked_in.is_empty() { "no service file was found".into() } else { looked_in.join(", ") };
    Err(SettingsError(format!(
        "service \"{name}\" is not defined ({places}){}: add a section [{name}] to ~/.pg_service.conf",
        text::did_you_mean(text::nearest(name, titles.iter().map(String::as_str)))
    )))
}

/// The name in the line that begins a section.
fn title(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']')
}

fn section(text: &str, name: &str, file: &Path) -> Result<Option<Vec<(String, String)>>, SettingsError> {
    let mut found = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = title(line) {
            if found.is_some() {
                break;
            }
            if title == name {
                found = Some(Vec::new());
            }
        } else if let Some((keyword, value)) = line.split_once('=') {
            if let Some(parameters) = &mut found {
                keywords::check(keyword.trim(), false).map_err(|error| {
                    let (file, line) = (file.display(), number + 1);
                    SettingsError(format!("service \"{name}\" ({file}, line {line}): {error}"))
                })?;
                parameters.push((keyword.trim().to_owned(), value.trim().to_owned()));
            }
        } else {
            // The line is not repeated: it may hold a password.
            return Err(SettingsError(format!(
                "{} is not a service file: line {} is neither [name] nor keyword=value",
                file.display(),
                number + 1
            )));
        }
    }
    Ok(found)
}
