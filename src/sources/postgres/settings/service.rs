//! The connection service file (manual, "The Connection Service File"): `[name]` sections of `keyword=value`
//! lines; the user's own file first, then the one of the system.

use std::path::{Path, PathBuf};

use super::{Environment, SettingsError};

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
    let mut looked_in = Vec::new();
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
    }
    let places = if looked_in.is_empty() { "no service file was found".into() } else { looked_in.join(", ") };
    Err(SettingsError(format!(
        "service \"{name}\" is not defined ({places}): add a section [{name}] to ~/.pg_service.conf"
    )))
}

fn section(text: &str, name: &str, file: &Path) -> Result<Option<Vec<(String, String)>>, SettingsError> {
    let mut found = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            if title == name {
                found = Some(Vec::new());
            }
        } else if let Some((keyword, value)) = line.split_once('=') {
            if let Some(parameters) = &mut found {
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
