//! Configuration: what was typed, over the file, over the environment, over the defaults, resolved once.
//!
//! Composes the settings of every floor; nobody stores the whole. The environment is an argument.

mod file;
mod recording;
mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;

pub use file::{DEFAULT_FILE, File};
pub use recording::{RecordConfig, ReplayConfig, files, record, replay, timeline};
pub use targets::{PgTarget, RedisTarget, Targets};

use crate::app::{Columns, Keymap, Limits};
use crate::cli::{Cli, ColorWhen, ConnectionArgs, LookArgs};
use crate::engine::{Reach, Thresholds};
use crate::sources::postgres::settings::Environment;
use crate::ui::{Glyphs, Theme, themes};

/// Why the program cannot start as asked; the text says what, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Everything the screen needs, by floor.
#[derive(Debug)]
pub struct ScreenConfig {
    /// What to watch.
    pub targets: Targets,
    /// Time between samples.
    pub interval: Duration,
    /// Limits of the checks.
    pub thresholds: Thresholds,
    /// Keys.
    pub keymap: Keymap,
    /// Which columns each table shows.
    pub columns: Columns,
    /// Colours.
    pub theme: Theme,
    /// Block characters or ASCII.
    pub glyphs: Glyphs,
    /// Whether cancel and terminate are unbound.
    pub read_only: bool,
    /// Whether statements are shown without their literals.
    pub redact: bool,
    /// Processors of the server, where somebody told.
    pub cpus: Option<u32>,
    /// Who is left out when acting on many, and how fast that goes.
    pub limits: Limits,
    /// Whether the screen opens although nothing can be reached.
    pub wait: bool,
    /// Where the log goes.
    pub log: Option<PathBuf>,
    /// What is recorded.
    pub record: RecordConfig,
    /// How far one can look back.
    pub reach: Reach,
}

/// Everything a report needs.
#[derive(Debug)]
pub struct ReportConfig {
    /// What to read.
    pub targets: Targets,
    /// Time between samples.
    pub interval: Duration,
    /// Limits of the checks.
    pub thresholds: Thresholds,
    /// Whether statements are printed without their literals.
    pub redact: bool,
    /// Where the log goes.
    pub log: Option<PathBuf>,
}

/// The settings of the screen.
pub fn screen(cli: &Cli, environment: &Environment) -> Result<ScreenConfig, ConfigError> {
    let args = &cli.screen;
    let file = load(args.connection.config.as_deref(), environment)?;
    let (theme, glyphs) = look(&args.look, &file, environment)?;
    let limits = limits(&file)?;
    Ok(ScreenConfig {
        targets: targets::resolve(&args.connection, &file, environment)?,
        interval: interval(&args.connection, &file)?,
        keymap: Keymap::with_changes(&file.keys).map_err(|error| in_file(&error))?,
        columns: Columns::with_changes(&file.columns).map_err(|error| in_file(&error))?,
        theme,
        glyphs,
        record: recording::of_screen(args, &file, environment)?,
        reach: reach(&file)?,
        read_only: args.read_only || file.read_only,
        redact: args.connection.redact,
        cpus: args.cpus,
        wait: args.wait,
        log: args.connection.log.clone(),
        thresholds: Thresholds { protected: limits.protect.clone(), ..file.thresholds },
        limits,
    })
}

/// Colours and characters.
fn look(args: &LookArgs, file: &File, environment: &Environment) -> Result<(Theme, Glyphs), ConfigError> {
    let color = args.color.or(file.color()?).unwrap_or(ColorWhen::Auto);
    let name = args.theme.as_deref().or(file.theme.as_deref()).unwrap_or("default");
    let is_ascii = args.ascii || file.ascii || !locale_is_utf8(environment);
    Ok((theme(name, color, environment)?, if is_ascii { Glyphs::ASCII } else { Glyphs::BLOCK }))
}

/// How far one can look back.
fn reach(file: &File) -> Result<Reach, ConfigError> {
    let known = Reach::default();
    let minutes = file.history_minutes.unwrap_or(known.seconds / 60);
    let megabytes = file.history_megabytes.map_or(known.bytes, |megabytes| (megabytes as usize) << 20);
    if !(1..=60).contains(&minutes) || !(1..=4096).contains(&(megabytes >> 20)) {
        return Err(in_file("history_minutes is 1 to 60, history_megabytes 1 to 4096"));
    }
    Ok(Reach { seconds: minutes * 60, bytes: megabytes })
}

/// The settings of a report.
pub fn report(connection: &ConnectionArgs, environment: &Environment) -> Result<ReportConfig, ConfigError> {
    let file = load(connection.config.as_deref(), environment)?;
    let protected = limits(&file)?.protect;
    Ok(ReportConfig {
        targets: targets::resolve(connection, &file, environment)?,
        interval: interval(connection, &file)?,
        redact: connection.redact,
        log: connection.log.clone(),
        thresholds: Thresholds { protected, ..file.thresholds },
    })
}

/// Checks what reading the file alone does not: keys, columns, colour, interval, theme.
pub fn check(file: &File, environment: &Environment) -> Result<(), ConfigError> {
    Keymap::with_changes(&file.keys).map_err(|error| in_file(&error))?;
    Columns::with_changes(&file.columns).map_err(|error| in_file(&error))?;
    interval(&ConnectionArgs::default(), file)?;
    limits(file)?;
    reach(file)?;
    recording::kept(file)?;
    theme(
        file.theme.as_deref().unwrap_or("default"),
        file.color()?.unwrap_or(ColorWhen::Always),
        environment,
    )?;
    Ok(())
}

/// Where the configuration file is looked for: `config.toml` in the user's config folder.
pub fn path(environment: &Environment) -> Option<PathBuf> {
    folder(environment).map(|folder| folder.join("config.toml"))
}

/// Reads the file given, or the user's own if there is one.
pub fn load(given: Option<&Path>, environment: &Environment) -> Result<File, ConfigError> {
    let Some(file) = given.map(Path::to_path_buf).or_else(|| path(environment).filter(|file| file.exists()))
    else {
        return Ok(File::default());
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| ConfigError(format!("cannot read the config file {}: {error}", file.display())))?;
    File::parse(&text).map_err(|error| ConfigError(format!("{}: {error}", file.display())))
}

fn folder(environment: &Environment) -> Option<PathBuf> {
    // `directories` reads the process's own environment; an argument must be able to replace it.
    match environment.get("XDG_CONFIG_HOME").filter(|folder| folder.starts_with('/')) {
        Some(folder) => Some(Path::new(folder).join("dbtriage")),
        None => match environment.get("HOME").filter(|home| home.starts_with('/')) {
            Some(home) => Some(Path::new(home).join(".config/dbtriage")),
            None => {
                directories::ProjectDirs::from("", "", "dbtriage").map(|dirs| dirs.config_dir().to_path_buf())
            }
        },
    }
}

fn in_file(error: &str) -> ConfigError {
    ConfigError(format!("config file: {error}"))
}

fn interval(connection: &ConnectionArgs, file: &File) -> Result<Duration, ConfigError> {
    let Some(text) = connection.interval.as_deref().or(file.interval.as_deref()) else {
        return Ok(Duration::from_secs(1));
    };
    let wrong =
        || ConfigError(format!("interval \"{text}\" is not a time from 0.5s to 60s: write 500ms, 1s or 5s"));
    duration(text)
        .filter(|it| (Duration::from_millis(500)..=Duration::from_secs(60)).contains(it))
        .ok_or_else(wrong)
}

/// How long `check` watches.
pub fn watch(text: &str) -> Result<Duration, ConfigError> {
    let wrong = || ConfigError(format!("--for \"{text}\" is not a time from 1s to 1h: write 10s or 5m"));
    duration(text)
        .filter(|it| (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(it))
        .ok_or_else(wrong)
}

/// A time as people write it.
fn duration(text: &str) -> Option<Duration> {
    let seconds = match text.trim().trim_end_matches('s').parse::<f64>() {
        // "0.5s" and "2": jiff's friendly format wants a unit, people leave it out.
        Ok(seconds) if !text.ends_with("ms") => SignedDuration::try_from_secs_f64(seconds).ok()?,
        Ok(_) | Err(_) => text.parse::<SignedDuration>().ok()?,
    };
    Duration::try_from(seconds).ok()
}

fn limits(file: &File) -> Result<Limits, ConfigError> {
    let defaults = Limits::default();
    let signals_per_second = file.signals_per_second.unwrap_or(defaults.signals_per_second);
    if !(1..=1000).contains(&signals_per_second) {
        let text = format!("signals_per_second = {signals_per_second} is not a number from 1 to 1000");
        return Err(in_file(&text));
    }
    Ok(Limits { protect: file.protect.clone().unwrap_or(defaults.protect), signals_per_second })
}

/// `--color` over `NO_COLOR` over what the terminal can.
fn theme(name: &str, color: ColorWhen, environment: &Environment) -> Result<Theme, ConfigError> {
    let set = |variable: &str| environment.get(variable).is_some_and(|value| !value.is_empty());
    let dumb =
        environment.get("TERM").is_some_and(|term| term == "dumb" || term == "vt100" || term.ends_with("-m"));
    let without_color = match color {
        ColorWhen::Never => true,
        ColorWhen::Always | ColorWhen::Sixteen => false,
        ColorWhen::Auto => set("NO_COLOR") || dumb,
    };
    let name = match (without_color, color) {
        (true, _) => "mono",
        (false, ColorWhen::Sixteen) => "default",
        (false, ColorWhen::Auto | ColorWhen::Always | ColorWhen::Never) => name,
    };
    let own = folder(environment).map(|folder| folder.join("themes"));
    themes::load(name, own.as_deref()).map_err(ConfigError)
}

/// The names of the themes that can be chosen.
pub fn theme_names(environment: &Environment) -> Vec<String> {
    themes::names(folder(environment).map(|folder| folder.join("themes")).as_deref())
}

fn locale_is_utf8(environment: &Environment) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| environment.get(*name).filter(|value| !value.is_empty()));
    // Without any locale the terminal is still far more likely to read UTF-8 than not.
    locale.is_none_or(|name| {
        let name = name.to_lowercase();
        name.contains("utf-8") || name.contains("utf8") || name == "c" || name == "posix"
    })
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
