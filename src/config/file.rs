//! The configuration file: TOML, every key optional, an unknown key refused with the nearest name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::cli::ColorWhen;
use crate::engine::Thresholds;
use crate::sources::redis;
use crate::text;

/// What the file may say.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Time between samples, such as `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Name of a theme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theme: Option<String>,
    /// `auto`, `always`, `never` or `16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// Whether to draw with ASCII only.
    pub ascii: bool,
    /// Whether cancel and terminate are unbound.
    pub read_only: bool,
    /// Applications that are left out when many sessions are acted on, by the beginning of their name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protect: Option<Vec<String>>,
    /// Signals a second when many sessions are acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals_per_second: Option<u32>,
    /// Whether the last hours are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<bool>,
    /// Megabytes that the recording of the last hours may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_megabytes: Option<u32>,
    /// Hours that it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_hours: Option<u32>,
    /// How far one can look back on the screen, minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_minutes: Option<u32>,
    /// Megabytes of memory that this may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_megabytes: Option<u32>,
    /// Profiles by name: what a target of that name stands for.
    pub profiles: BTreeMap<String, Profile>,
    /// Limits of the checks.
    pub thresholds: Thresholds,
    /// Keys by command: they replace the command's own.
    pub keys: BTreeMap<String, Vec<String>>,
    /// Columns by table: which are shown, in this order.
    pub columns: BTreeMap<String, Vec<String>>,
}

/// A named group of servers.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Connection strings of PostgreSQL servers.
    #[serde(serialize_with = "without_passwords")]
    pub postgres: Vec<String>,
    /// URLs of Redis servers.
    #[serde(serialize_with = "without_passwords")]
    pub redis: Vec<String>,
    /// Password of the Redis servers, so that it need not stand in a URL.
    #[serde(skip_serializing)]
    pub redis_password: Option<String>,
}

/// `config --show` is read aloud and pasted: a connection string that holds a password is not repeated.
fn without_passwords<S: serde::Serializer>(words: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let shown =
        words.iter().map(|word| if has_password(word) { "(holds a password, not shown)" } else { word });
    serializer.collect_seq(shown)
}

fn has_password(word: &str) -> bool {
    let in_url = word.split_once("://").is_some_and(|(_, rest)| rest.contains('@') && rest.contains(':'));
    in_url || word.to_lowercase().contains("pass") || redis::url_has_password(word)
}

impl File {
    /// Reads the text of a file.
    pub fn parse(content: &str) -> Result<Self, ConfigError> {
        toml::from_str(content).map_err(|error| ConfigError(explain(&error, content)))
    }

    /// The `color` key.
    pub fn color(&self) -> Result<Option<ColorWhen>, ConfigError> {
        let parse = |word: &String| {
            <ColorWhen as clap::ValueEnum>::from_str(word, false).map_err(|_| {
                ConfigError(format!("color \"{word}\" is not known: use auto, always, never or 16"))
            })
        };
        self.color.as_ref().map(parse).transpose()
    }
}

/// What serde expected, and how that is written in the file.
const KINDS: &[(&str, &str)] = &[
    ("a sequence", "a list: [\"...\"]"),
    ("a string", "a text in quotes: \"...\""),
    ("string", "a text in quotes: \"...\""),
    ("a boolean", "true or false"),
    ("f64", "a number, such as 80.0"),
    ("u32", "a whole number, such as 20"),
    ("struct Profile", "a table: [profiles.NAME] with postgres = [\"...\"]"),
    ("a map", "a table: [profiles.NAME] or the like on a line of its own"),
];

/// What is wrong in which line, with the nearest name for an unknown key. A value is never repeated: it may be or hold
/// a password.
fn explain(error: &toml::de::Error, content: &str) -> String {
    let before = error.span().and_then(|span| content.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let message = error.message().lines().next().unwrap_or_default();
    // serde names the unknown key first and then all known ones, each in backticks.
    let mut quoted = message.split('`').skip(1).step_by(2);
    if let Some(unknown) = quoted.next().filter(|_| message.starts_with("unknown field")) {
        let nearest = text::did_you_mean(text::nearest(unknown, quoted));
        return format!("line {line}: unknown key \"{unknown}\"{nearest}");
    }
    let is_about_value = ["invalid type", "invalid value", "invalid length", "unknown variant"];
    if !is_about_value.iter().any(|words| message.starts_with(words)) {
        return format!("line {line}: {message}");
    }
    let expected = message.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
    let wanted = KINDS.iter().find(|(kind, _)| *kind == expected).map_or(expected, |(_, wanted)| *wanted);
    let key =
        before.rsplit('\n').next().and_then(|row| row.split_once('=')).map_or("", |(key, _)| key.trim());
    // What looks like no key may be a piece of a value.
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let subject = if key.is_empty() || !key.chars().all(is_key) { "what stands here" } else { key };
    format!("line {line}: {subject} wants {wanted}")
}

/// A commented file with every default, printed by `dbtriage config --default`.
pub const DEFAULT_FILE: &str = r#"# dbtriage: every key is optional; these are the defaults.

# interval = "1s"          # time between samples, 0.5s to 60s
# theme = "default"        # default, dark, mono, or a file in themes/ beside this one
# color = "auto"           # auto, always, never, 16
# ascii = false            # draw with ASCII characters only
# read_only = false        # unbind cancel and terminate

# When many sessions are marked: applications that are left out (the beginning of their name), and the pace.
# protect = ["pg_dump", "pg_basebackup", "pgbackrest", "barman", "wal-g", "Patroni", "repmgrd"]
# signals_per_second = 20

# What was seen is recorded without the literals of statements, in the user's state folder, and one can look back.
# record = true
# record_megabytes = 200   # then the oldest is given up
# record_hours = 48
# history_minutes = 15     # p [ ] on the screen
# history_megabytes = 64   # of memory

# What `dbtriage shop` stands for. Passwords belong into ~/.pgpass and REDISCLI_AUTH.
# [profiles.shop]
# postgres = ["host=shop-db dbname=reports", "host=shop-db-2 dbname=reports"]
# redis = ["redis://cache:6379"]
# redis_password = "..."

# Limits of the checks: of notice, warning and critical, one that is left out is not checked.
# [thresholds]
# connections_percent = { warning = 80.0, critical = 95.0 }       # of the slots open to ordinary roles
# connection_hog_percent = { warning = 50.0 }                     # of these, held by one application or client
# idle_sessions_seconds = { notice = 300.0 }                      # told while connections are short
# blocking_sessions = 3.0                                         # sessions behind one root
# blocking_seconds = { warning = 30.0, critical = 60.0 }          # longest wait for a lock
# locks_percent = { warning = 20.0, critical = 60.0 }             # objects in the lock table, of those that fit
# deadlocks_per_minute = { warning = 5.0 }
# sync_rep_seconds = { critical = 5.0 }                           # commits that wait for a synchronous standby
# idle_in_transaction_seconds = { warning = 300.0, critical = 900.0 }
# long_transaction_seconds = { warning = 120.0, critical = 900.0 }
# xmin_age_xids = { notice = 300000.0, warning = 1000000.0 }      # transactions since the snapshot that holds back VACUUM
# statement_regression_factor = { warning = 3.0 }                 # mean now against its mean before
# slow_active_seconds = { notice = 5.0, warning = 60.0, critical = 300.0 }
# slow_active_sessions = 3.0                                      # critical only if so many run the statement
# slow_statement_ms = { warning = 1000.0, critical = 5000.0 }     # mean of one statement
# query_latency_ms = { warning = 100.0 }                          # mean of all executions
# operation_spike_factor = { notice = 2.0 }                       # against the last hour
# operation_spike_since_reset_factor = { notice = 5.0 }           # before an hour was watched
# rollback_percent = { warning = 10.0 }                           # over a minute
# replication_lag_seconds = { notice = 2.0, warning = 5.0, critical = 30.0 }
# replication_lag_bytes = { warning = 1e8, critical = 1e9 }
# slot_retention_bytes = { warning = 1e9, critical = 5e9 }
# slot_inactive_seconds = { warning = 600.0, critical = 1800.0 }
# conflicts_per_minute = { notice = 1.0, warning = 5.0 }          # queries on a standby cancelled because of replay
# wal_bytes_per_second = { warning = 36700160.0 }                 # over five minutes
# buffer_hit_percent = { warning = 95.0 }                         # below it, over five minutes
# temp_bytes_per_second = { warning = 1e7 }                       # over a minute
# temp_files_per_second = { warning = 1.0 }                       # over a minute
# dead_rows_percent = { notice = 30.0, warning = 60.0 }           # of a table, from ten thousand on
# stale_statistics_percent = { notice = 50.0 }                    # of a table, from a hundred thousand changed rows on
# redis_memory_percent = { warning = 90.0, critical = 100.0 }     # where nothing is evicted
# redis_hit_percent = { warning = 70.0, critical = 30.0 }         # below it, over a minute
# redis_evictions_per_second = { notice = 10.0 }                  # over a minute
# redis_clients_percent = { warning = 80.0, critical = 95.0 }
# redis_slow_seconds = { notice = 0.1, warning = 1.0 }            # the slowest command of the last minute
# restart_told_seconds = { warning = 300.0 }                      # how long it is told
# role_change_told_seconds = { warning = 300.0 }
# standby_gone_seconds = { warning = 5.0, critical = 60.0 }
# archiver_failed_seconds = { warning = 300.0 }                   # how long a failure is told
# checkpoints_requested = { warning = 3.0 }                       # before their time, while it was watched
# wraparound_percent = { warning = 50.0, critical = 75.0 }        # of the transaction counter
# silenced = []                                                   # checks that stay silent, by name

# Keys by command name (`dbtriage keys` lists them); they replace the command's own.
# [keys]
# terminate = ["K"]
# cancel = ["C"]

# Columns by table; the order is that of the screen.
# [columns]
# activity = ["pid", "user", "app", "db", "state", "wait", "xact", "stmt", "query"]
# tables = ["size", "seq", "rows-read", "dead", "vacuumed", "table"]
"#;
