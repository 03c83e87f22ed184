//! What is recorded and where, and which recording is looked at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfigError, File, duration, in_file, limits, load, look, reach, report};
use crate::app::{Columns, Keymap};
use crate::cli::{RecordArgs, ReplayArgs, ScreenArgs};
use crate::engine::{Reach, Thresholds};
use crate::sources::postgres::settings::Environment;
use crate::sources::recording::{Place, Rolling, newest};
use crate::ui::{Glyphs, Theme};

/// The last hours, by default.
const ROLLING_MEGABYTES: u32 = 200;
const ROLLING_HOURS: u32 = 48;

/// What the screen records.
#[derive(Debug, Clone)]
pub struct RecordConfig {
    /// The last hours; `None`: nothing.
    pub rolling: Option<Rolling>,
    /// A file that is kept in full.
    pub file: Option<Place>,
    /// Whether that is without the literals of statements; the last hours are in any case.
    pub redact: bool,
}

/// Everything a replay needs.
#[derive(Debug)]
pub struct ReplayConfig {
    /// The files, in their order.
    pub files: Vec<PathBuf>,
    /// How fast.
    pub speed: u32,
    /// Limits of the checks: those of today.
    pub thresholds: Thresholds,
    /// Keys.
    pub keymap: Keymap,
    /// Which columns each table shows.
    pub columns: Columns,
    /// Colours.
    pub theme: Theme,
    /// Block characters or ASCII.
    pub glyphs: Glyphs,
    /// Whether statements are shown without their literals.
    pub redact: bool,
    /// How far one can look back at once.
    pub reach: Reach,
}

pub(super) fn of_screen(
    args: &ScreenArgs,
    file: &File,
    environment: &Environment,
) -> Result<RecordConfig, ConfigError> {
    let (bytes_max, age_max) = kept(file)?;
    let rolling = folder(environment).map(|folder| Rolling { folder, bytes_max, age_max });
    Ok(RecordConfig {
        rolling: rolling.filter(|_| !args.no_record && file.record != Some(false)),
        file: args.record.clone().map(Place::file),
        redact: args.connection.redact,
    })
}

/// How much of the last hours is kept, in bytes, and how long.
pub(super) fn kept(file: &File) -> Result<(u64, Duration), ConfigError> {
    let megabytes = file.record_megabytes.unwrap_or(ROLLING_MEGABYTES);
    let hours = file.record_hours.unwrap_or(ROLLING_HOURS);
    if megabytes == 0 || hours == 0 {
        return Err(in_file(
            "record_megabytes and record_hours are 1 or more; record = false records nothing",
        ));
    }
    Ok((u64::from(megabytes) << 20, Duration::from_secs(u64::from(hours) * 3600)))
}

/// Where the last hours are kept: in the user's state folder.
fn folder(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| environment.get(name).filter(|folder| folder.starts_with('/'));
    let state = absolute("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| absolute("HOME").map(|home| Path::new(home).join(".local/state")))?;
    Some(state.join("dbtriage/recordings"))
}

/// The settings of `record`: what is read, where it goes, and for how long.
pub fn record(
    args: &RecordArgs,
    environment: &Environment,
) -> Result<(super::ReportConfig, Place, Option<Duration>), ConfigError> {
    let watch = match &args.watch {
        None => None,
        Some(text) => Some(duration(text).filter(|it| *it >= Duration::from_secs(1)).ok_or_else(|| {
            ConfigError(format!("--for \"{text}\" is not a time from 1s on: write 30s, 10m or 2h"))
        })?),
    };
    let place = Place::File(args.output.clone(), args.max_size << 20);
    Ok((report(&args.connection, environment)?, place, watch))
}

/// The files that are meant; the newest run of the last hours where none is named.
pub fn files(named: &[PathBuf], environment: &Environment) -> Result<Vec<PathBuf>, ConfigError> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let folder =
        folder(environment).ok_or_else(|| ConfigError("no state folder is known: set HOME".into()))?;
    let files = newest(&folder);
    if files.is_empty() {
        return Err(ConfigError(format!("nothing was recorded in {}: name a FILE", folder.display())));
    }
    Ok(files)
}

/// The settings of a replay.
pub fn replay(args: &ReplayArgs, environment: &Environment) -> Result<ReplayConfig, ConfigError> {
    let file = load(args.config.as_deref(), environment)?;
    let (theme, glyphs) = look(&args.look, &file, environment)?;
    Ok(ReplayConfig {
        files: files(&args.files, environment)?,
        speed: args.speed,
        thresholds: thresholds(&file)?,
        keymap: Keymap::with_changes(&file.keys).map_err(|error| in_file(&error))?,
        columns: Columns::with_changes(&file.columns).map_err(|error| in_file(&error))?,
        theme,
        glyphs,
        redact: args.redact,
        reach: reach(&file)?,
    })
}

/// The limits under which a timeline is derived.
pub fn timeline(config: Option<&Path>, environment: &Environment) -> Result<Thresholds, ConfigError> {
    thresholds(&load(config, environment)?)
}

fn thresholds(file: &File) -> Result<Thresholds, ConfigError> {
    Ok(Thresholds { protected: limits(file)?.protect, ..file.thresholds.clone() })
}
