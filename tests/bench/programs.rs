//! The programs that are measured: ours, and those of the others that are on this machine.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, process};

/// Where a program shall look.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) role: String,
    pub(crate) redis: String,
}

/// A program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: String,
    arguments: fn(&Place) -> Vec<String>,
    /// Two keys that take each other back; none where it takes none.
    pub(crate) keys: Option<[&'static str; 2]>,
    /// Keys that lead from its first screen to what is measured, and what each of them brings.
    pub(crate) way: &'static [(&'static str, &'static str)],
    /// What its first screen shows once it is complete: all of these.
    pub(crate) complete: &'static [&'static str],
    /// What is on it while something is still to come: none of these.
    pub(crate) incomplete: &'static [&'static str],
    /// Whether it is a full-screen program, with which time is compared.
    pub(crate) is_screen: bool,
    pub(crate) is_ours: bool,
}

/// Ours.
const OURS: &str = env!("CARGO_BIN_EXE_dbtriage");

/// A program of the others: its name, what it is called, and how it is started and read.
struct Known {
    name: &'static str,
    executable: &'static str,
    arguments: fn(&Place) -> Vec<String>,
    keys: Option<[&'static str; 2]>,
    way: &'static [(&'static str, &'static str)],
    complete: &'static [&'static str],
    is_screen: bool,
}

const DOWN_AND_UP: Option<[&str; 2]> = Some(["\x1b[B", "\x1b[A"]);

const OTHERS: [Known; 6] = [
    Known {
        name: "pg_activity",
        executable: "pg_activity",
        arguments: |at| [libpq(at), words(&["--refresh", "1"])].concat(),
        keys: DOWN_AND_UP,
        way: &[],
        complete: &["RUNNING QUERIES", "Query"],
        is_screen: true,
    },
    Known {
        name: "pg_top",
        executable: "pg_top",
        arguments: |at| [libpq(at), words(&["-s", "1"])].concat(),
        keys: Some(["c", "c"]),
        way: &[],
        complete: &["PID", "COMMAND"],
        is_screen: true,
    },
    Known {
        name: "pgcenter",
        executable: "pgcenter",
        arguments: |at| [words(&["top"]), libpq(at)].concat(),
        keys: Some(["\x1b[C", "\x1b[D"]),
        way: &[],
        complete: &["cl_addr", "query"],
        is_screen: true,
    },
    Known {
        name: "pgcenter statements",
        executable: "pgcenter",
        arguments: |at| [words(&["top"]), libpq(at)].concat(),
        keys: Some(["\x1b[C", "\x1b[D"]),
        way: &[("x", "all_total")],
        complete: &["cl_addr", "query"],
        is_screen: true,
    },
    Known {
        name: "pg_glimpse",
        executable: "pg_glimpse",
        arguments: |at| {
            words(&["-H", "127.0.0.1", "-p", &at.port.to_string(), "-U", &at.role, "-d", "shop", "-r", "1"])
        },
        keys: DOWN_AND_UP,
        way: &[],
        // Its frame and the heads of its columns come before anything that it has read.
        complete: &["PID", "Query", " MB · "],
        is_screen: true,
    },
    Known {
        name: "psql \\watch",
        executable: "psql",
        arguments: |at| {
            let sql = "SELECT * FROM pg_stat_activity \\watch 1";
            let script = env::temp_dir().join(format!("dbtriage-bench-{}.sql", process::id()));
            drop(fs::write(&script, sql));
            [libpq(at), words(&["-X", "-P", "pager=off", "-f", &script.to_string_lossy()])].concat()
        },
        keys: None,
        way: &[],
        complete: &["pid", "row"],
        is_screen: false,
    },
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn libpq(at: &Place) -> Vec<String> {
    words(&["-h", "127.0.0.1", "-p", &at.port.to_string(), "-U", &at.role, "-d", "shop"])
}

impl Program {
    pub(crate) fn ours() -> Self {
        Self {
            name: "dbtriage",
            path: OURS.to_owned(),
            arguments: |at| {
                let uri = format!("postgres://{}@127.0.0.1:{}/shop", at.role, at.port);
                words(&[&uri, "--redis", &at.redis])
            },
            keys: Some(["j", "k"]),
            way: &[],
            complete: &[
                "1 Activity",
                "2 Locks",
                "3 Statements",
                "4 Replication",
                "5 Cache",
                "streaming",
                "PostgreSQL  hit",
                "allkeys-lru",
                "live",
            ],
            incomplete: &["reading", "text not read yet", "connecting"],
            is_screen: true,
            is_ours: true,
        }
    }

    /// The same, which reads every five seconds.
    pub(crate) fn ours_at_five_seconds() -> Self {
        Self {
            name: "dbtriage at 5 s",
            arguments: |at| [(Self::ours().arguments)(at), words(&["--interval", "5s"])].concat(),
            ..Self::ours()
        }
    }

    /// The others that are in the search path, or in a folder that `DBTRIAGE_PEERS` names.
    pub(crate) fn others() -> Vec<Self> {
        let folders: Vec<PathBuf> = ["DBTRIAGE_PEERS", "PATH"]
            .into_iter()
            .filter_map(env::var_os)
            .flat_map(|list| env::split_paths(&list).collect::<Vec<_>>())
            .collect();
        let found = |known: &Known| {
            let path =
                folders.iter().map(|folder| folder.join(known.executable)).find(|path| path.is_file())?;
            Some(Self {
                name: known.name,
                path: path.to_string_lossy().into_owned(),
                arguments: known.arguments,
                keys: known.keys,
                way: known.way,
                complete: known.complete,
                incomplete: &[],
                is_screen: known.is_screen,
                is_ours: false,
            })
        };
        OTHERS.iter().filter_map(found).collect()
    }

    /// What is written after such a pause is no answer to a key any more. Ours answers with one frame; others write an
    /// echo at once, and what it stands for later.
    pub(crate) const fn answer_pause(&self) -> Duration {
        Duration::from_millis(if self.is_ours { 8 } else { 40 })
    }

    pub(crate) fn arguments(&self, place: &Place) -> Vec<String> {
        (self.arguments)(place)
    }

    /// The role that only this program uses, so that its statements can be told from those of others.
    pub(crate) fn role(&self) -> String {
        let letters = self.name.chars().filter(char::is_ascii_alphanumeric);
        format!("bench_{}", letters.collect::<String>())
    }
}
