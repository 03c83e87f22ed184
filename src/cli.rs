//! What was typed: the command line as clap understands it, without defaults and without meaning.
//!
//! Every option is an `Option`, because the config file and the environment have a say. It must not know what
//! the options do.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// The incident terminal for PostgreSQL and Redis.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "dbtriage",
    version,
    about = "The incident terminal for PostgreSQL and Redis: who blocks whom, what is slow, and a safe cancel and terminate",
    after_help = AFTER_HELP,
    disable_help_flag = true,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What to do instead of opening the screen.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where to connect and how the screen behaves.
    #[command(flatten)]
    pub screen: ScreenArgs,
}

const AFTER_HELP: &str = "\
Without a TARGET the libpq environment decides (PGHOST, PGPORT, PGUSER, PGDATABASE,
PGSERVICE, ...), with .pgpass and pg_service.conf as in psql.

  dbtriage                                   the local server
  dbtriage -h shop-db -U oncall -d reports   like psql
  dbtriage postgres://oncall@shop-db/reports --redis redis://cache
  dbtriage snapshot --format json shop       one report of the profile \"shop\"
  dbtriage check shop                        what is wrong there, as an exit code

Exit codes: 0 quit, 1 a recording has stopped (record), 2 usage, 3 could not connect,
130 interrupted.";

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Take a few samples, print one report, exit
    #[command(disable_help_flag = true, args_override_self = true)]
    Snapshot(SnapshotArgs),
    /// Watch for some seconds, print what is wrong, exit 0, 1 (warning), 2 (critical) or 3 (no data)
    #[command(disable_help_flag = true, args_override_self = true)]
    Check(CheckArgs),
    /// Record without a screen, until it is stopped or the time is over
    #[command(disable_help_flag = true, args_override_self = true)]
    Record(RecordArgs),
    /// Look at a recording: the same screen, with pause, steps, speed and a time to go to
    Replay(ReplayArgs),
    /// Write a recording up: what happened and what was done, for the report after an incident
    Timeline(TimelineArgs),
    /// Show, check or locate the configuration
    Config(ConfigArgs),
    /// Print a completion script for a shell
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// List the keys and their commands
    Keys {
        /// How to print the list
        #[arg(long, value_enum, default_value_t = KeysFormat::Text)]
        format: KeysFormat,
    },
    /// List the themes
    Themes,
}

/// Options of the screen.
#[derive(Debug, Clone, Default, Args)]
pub struct ScreenArgs {
    /// Where to connect.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Open the screen even if no server can be reached, and keep trying
    #[arg(long)]
    pub wait: bool,
    /// Unbind cancel and terminate
    #[arg(long)]
    pub read_only: bool,
    /// Keep everything in this file as well, literals included unless --redact (R does so from the screen)
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Keep nothing of the last hours
    #[arg(long)]
    pub no_record: bool,
    /// Processors of the server: a line in the chart of waits, above which sessions must queue for one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cpus: Option<u32>,
    /// How it looks.
    #[command(flatten)]
    pub look: LookArgs,
}

/// How the screen looks.
#[derive(Debug, Clone, Default, Args)]
pub struct LookArgs {
    /// Theme: default, dark, mono, or a file in the themes folder of the config
    #[arg(long, value_name = "NAME")]
    pub theme: Option<String>,
    /// When to use colour
    #[arg(long, value_enum, value_name = "WHEN")]
    pub color: Option<ColorWhen>,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

/// Options of `record`.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {
    /// Where to connect.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The file; one that is there is added to
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: PathBuf,
    /// How long to record; without it until it is interrupted
    #[arg(long = "for", value_name = "DURATION")]
    pub watch: Option<String>,
    /// Once the file is larger than so many megabytes it becomes FILE.1, and a new one begins
    #[arg(long, value_name = "MEGABYTES", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub max_size: u64,
}

/// Options of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The recording, or the files of one in their order; without it what was recorded last
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How fast: 1 to 64
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub speed: u32,
    /// The config file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show statements without their literals
    #[arg(long)]
    pub redact: bool,
    /// How it looks.
    #[command(flatten)]
    pub look: LookArgs,
}

/// Options of `timeline`.
#[derive(Debug, Clone, Args)]
pub struct TimelineArgs {
    /// The recording, or the files of one in their order; without it what was recorded last
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// markdown for the report, json for programs
    #[arg(long, value_enum, default_value_t = TimelineFormat::Markdown)]
    pub format: TimelineFormat,
    /// The config file, for the limits of the checks
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How a timeline is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TimelineFormat {
    /// For the report after the incident.
    Markdown,
    /// For programs.
    Json,
}

/// Options of `snapshot`.
#[derive(Debug, Clone, Args)]
pub struct SnapshotArgs {
    /// Where to connect.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// json for programs, text for people, markdown for a ticket
    #[arg(long, value_enum, default_value_t = SnapshotFormat::Text)]
    pub format: SnapshotFormat,
    /// Samples to take; rates span the first to the last
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub ticks: u32,
}

/// Options of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Where to connect.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// json for programs, text for people and monitors
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub format: CheckFormat,
    /// How long to watch, 1s to 1h; checks that look further back use what they have
    #[arg(long = "for", value_name = "DURATION", default_value = "10s")]
    pub watch: String,
    /// Exit 3 also where a check could not tell
    #[arg(long)]
    pub strict: bool,
}

/// Options of `config`: one of them, else `--show`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct ConfigArgs {
    /// Print a commented file with every default
    #[arg(long)]
    pub default: bool,
    /// Print the configuration in force
    #[arg(long)]
    pub show: bool,
    /// Check the file and say what is wrong with it
    #[arg(long)]
    pub check: bool,
    /// Print where the file is looked for
    #[arg(long)]
    pub path: bool,
    /// The file to use instead of the one in the config folder
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where to connect, with psql's habits.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectionArgs {
    /// postgres://..., "host=... dbname=...", redis://..., rediss://..., or a profile of the config
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Database server host or socket directory
    #[arg(short = 'h', long, value_name = "HOSTNAME")]
    pub host: Option<String>,
    /// Database server port
    #[arg(short = 'p', long, value_name = "PORT")]
    pub port: Option<String>,
    /// Database user name
    #[arg(short = 'U', long, value_name = "USERNAME")]
    pub username: Option<String>,
    /// Database to connect to
    #[arg(short = 'd', long, value_name = "DBNAME")]
    pub dbname: Option<String>,
    /// Never ask for a password
    #[arg(short = 'w', long, conflicts_with = "password")]
    pub no_password: bool,
    /// Ask for a password before connecting
    #[arg(short = 'W', long)]
    pub password: bool,
    /// A Redis to watch beside it; may be given several times
    #[arg(long, value_name = "URL")]
    pub redis: Vec<String>,
    /// Time between samples, 0.5s to 60s
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<String>,
    /// The config file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show statements without their literals (on the screen: Ctrl-O)
    #[arg(long)]
    pub redact: bool,
    /// Append a log to this file (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Print help
    #[arg(short = '?', long, action = ArgAction::Help)]
    pub help: Option<bool>,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SnapshotFormat {
    /// The contract `dbtriage.snapshot/1`.
    Json,
    /// For people.
    Text,
    /// For tickets.
    Markdown,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// The contract `dbtriage.check/1`.
    Json,
    /// For people and monitors.
    Text,
}

/// How the key list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeysFormat {
    /// Aligned columns.
    Text,
    /// The table of the README.
    Markdown,
}

/// When colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// As the terminal and `NO_COLOR` say.
    Auto,
    /// Always.
    Always,
    /// Never: the mono theme.
    Never,
    /// The 16 colours of the terminal.
    #[value(name = "16")]
    Sixteen,
}
