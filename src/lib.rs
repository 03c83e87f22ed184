//! dbtriage: the incident terminal for PostgreSQL and Redis.
//!
//! # The house
//!
//! Floors; each imports only from floors below it, which `tests/architecture.rs` checks.
//!
//! | floor | module | what it is |
//! |--:|---|---|
//! | 7 | `main` | the process: hands over its arguments, returns the exit code |
//! | 6 | this file | the map of the house, and `run` |
//! | 5 | [`runtime`] | the only event loop, the clock, channels, effects, the drawing |
//! | 5 | [`config`] | what was typed, the file and the environment, made into every floor's settings |
//! | 4 | [`ui`] | from the state to a frame; the only place that knows ratatui |
//! | 4 | [`report`] | from ticks to JSON and text |
//! | 3 | [`app`] | state, messages in, effects out, commands, keys, views: pure |
//! | 2 | [`engine`] | rates, lock forest, findings, history: pure |
//! | 2 | [`sources`] | PostgreSQL and Redis: all input and output with servers |
//! | 1 | [`model`] [`recording`] [`mod@format`] [`text`] [`cli`] [`terminal`] | samples, their written form, figures, the sanitiser, arguments, the device |
//!
//! # What holds everywhere
//!
//! - `engine` and `sources` never meet: both speak `model`. `app` never imports `sources`: it emits effects.
//! - Below `runtime` only `sources` reads a clock; elsewhere time is an argument.
//! - A tick calls functions of the server only, never a view or a table; names are a cache.
//! - An action names one session by identity, and the server compares it in the statement that acts.
//! - What is missing is a reason, never a zero. What is old carries its age.
//! - Text of a server reaches the terminal through `ui`'s canvas only, which makes it safe.

pub mod app;
pub mod cli;
pub mod config;
pub mod engine;
pub mod format;
pub mod model;
pub mod recording;
pub mod report;
pub mod runtime;
pub mod sources;
pub mod terminal;
pub mod text;
pub mod ui;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command, ConfigArgs, KeysFormat};
use crate::runtime::Failure;
use crate::sources::postgres::settings::Environment;

/// Runs the program with these arguments, the first being its name, in the environment of the process.
pub fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to standard output and mistakes to standard error; a closed pipe is no reason to fail.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match run(&cli, &environment) {
        Ok(code) => code,
        Err(failure) => {
            drop(writeln!(io::stderr(), "dbtriage: {}", text::line(&failure.message)));
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: &Cli, environment: &Environment) -> Result<ExitCode, Failure> {
    match &cli.command {
        None => runtime::screen(config::screen(cli, environment)?, environment),
        Some(Command::Snapshot(args)) => {
            runtime::snapshot(config::report(&args.connection, environment)?, args.format, args.ticks)
        }
        Some(Command::Check(args)) => {
            let config = config::report(&args.connection, environment)?;
            let watch = config::watch(&args.watch)?;
            runtime::check(config, args.format, watch, args.strict)
        }
        Some(Command::Record(args)) => {
            let (config, place, watch) = config::record(args, environment)?;
            runtime::record(config, place, watch)
        }
        Some(Command::Replay(args)) => runtime::replay(config::replay(args, environment)?, environment),
        Some(Command::Timeline(args)) => {
            let thresholds = config::timeline(args.config.as_deref(), environment)?;
            runtime::timeline(&config::files(&args.files, environment)?, &thresholds, args.format)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Config(args)) => show_config(args, environment),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "dbtriage", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Failure::usage(error.to_string()))?;
            print(&String::from_utf8_lossy(&page))
        }
        Some(Command::Keys { format }) => print(&keys(*format)),
        Some(Command::Themes) => print(
            &(config::theme_names(environment).join(
                "
",
            ) + "
"),
        ),
    }
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // `dbtriage keys | head` closes the pipe early, which is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::usage(format!("cannot write to standard output: {error}"))),
    }
}

fn show_config(args: &ConfigArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    if args.default {
        return print(config::DEFAULT_FILE);
    }
    let path = args.config.clone().or_else(|| config::path(environment));
    let shown = path
        .as_ref()
        .map_or_else(|| "no config folder is known: set HOME".to_owned(), |path| path.display().to_string());
    if args.path {
        return print(&format!("{shown}\n"));
    }
    let file = config::load(args.config.as_deref(), environment)?;
    config::check(&file, environment)?;
    if args.check {
        let state = if path.is_some_and(|path| path.exists()) {
            "nothing wrong"
        } else {
            "not there: the defaults are in force"
        };
        return print(&format!("{shown}: {state}\n"));
    }
    print(&toml::to_string_pretty(&file).map_err(|error| Failure::usage(error.to_string()))?)
}

/// The key table, derived from the commands.
pub fn keys(format: KeysFormat) -> String {
    use strum::IntoEnumIterator as _;
    let keymap = app::Keymap::default();
    let mut out = String::new();
    for group in app::Group::iter() {
        let title = <&str>::from(group);
        out += &match format {
            KeysFormat::Markdown => format!("| {title} | | |\n|---|---|---|\n"),
            KeysFormat::Text => format!("{title}\n"),
        };
        for command in app::COMMANDS.iter().filter(|command| command.group == group) {
            let keys: Vec<String> = keymap.keys(command.name).iter().map(ToString::to_string).collect();
            out += &match format {
                KeysFormat::Markdown => {
                    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                    format!("| {} | {} | `{}` |\n", keys.join(" "), command.doc, command.name)
                }
                KeysFormat::Text => format!("  {:<18}{:<16}{}\n", keys.join(" "), command.name, command.doc),
            };
        }
        out.push('\n');
    }
    out
}
