//! Getting in as people do: `sslmode`, certificates, passwords, the password file, service files, several hosts, sockets
//! and a pooler, against real servers; and a server that admits one connection only. What refuses is told with its
//! cause and the next step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for conditions by the clock"
)]

mod certificates;
mod clients;
mod files;
mod hosts;
mod pooler;
mod sockets;
mod tls;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dbtriage::model::action::{Action, ActionReply};
use dbtriage::model::{Body, Kind, Sample, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::postgres::settings::{self, Environment};
use dbtriage::sources::postgres::{self, ConnectError, Opened};
use dbtriage_lab::terminal::{PATIENCE, until};
use dbtriage_lab::{Lab, Options, Postgres};
use pretty_assertions::assert_eq;
use tokio::sync::{mpsc, watch};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");

fn lab(max_connections: u32) -> Lab {
    Lab::start(Options { standby: false, redis: false, max_connections, ..Options::default() }).unwrap()
}

async fn open(conninfo: &str) -> Result<Opened, ConnectError> {
    // No home: nothing of the machine may leak in.
    open_in(conninfo, &[]).await
}

/// Connects in an environment that holds this and nothing else.
async fn open_in(conninfo: &str, environment: &[(&str, &str)]) -> Result<Opened, ConnectError> {
    let environment: Environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let settings = settings::resolve(&settings::parse(conninfo).unwrap(), &environment).unwrap();
    postgres::open(settings).await
}

/// What a refusal says.
async fn refusal(conninfo: &str, environment: &[(&str, &str)]) -> ConnectError {
    match open_in(conninfo, environment).await {
        Ok(_) => panic!("{conninfo}: let in"),
        Err(error) => error,
    }
}

fn assert_says(said: &str, words: &[&str], what: &str) {
    for word in words {
        assert!(said.contains(word), "{what}: {said:?} says {word:?}");
    }
}

/// What the program did without a terminal.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A report of one sample, in an environment that holds a home and this.
fn snapshot(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
    let output = Command::new(PROGRAM)
        .args(["snapshot", "--ticks", "1", "--interval", "0.5s"])
        .args(arguments)
        .env_clear()
        .envs([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LANG", "C.UTF-8")])
        .env("HOME", home)
        .envs(environment.iter().copied())
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Writes a file, private to the user who runs the tests.
fn write_private(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Puts a file into the server's folder, private to the server's own user.
fn install(data: &Path, name: &str, content: &str) {
    let file = data.join(name);
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(data).unwrap();
    nix::unistd::chown(&file, Some(owner.uid().into()), Some(owner.gid().into())).unwrap();
}

/// Puts rules before those of `pg_hba.conf`; they are in force after the next reload.
fn admit_first(server: &Postgres, rules: &str) {
    let before = fs::read_to_string(server.data.join("pg_hba.conf")).unwrap();
    install(&server.data, "pg_hba.conf", &format!("{rules}{before}"));
}

/// Makes the server read its configuration again, and waits until new sessions have it.
fn reload(server: &Postgres) {
    let loaded =
        || server.client("postgres", "postgres").unwrap().cell("SELECT pg_conf_load_time()").unwrap();
    let before = loaded();
    server.client("postgres", "postgres").unwrap().execute("SELECT pg_reload_conf()").unwrap();
    until("the server to read its configuration again", PATIENCE, || loaded() != before);
}

/// The next sample that satisfies the condition.
async fn wait_for(
    samples: &mut mpsc::Receiver<Sample>,
    what: &str,
    wanted: impl Fn(&Body) -> bool,
) -> Sample {
    let waiting = async {
        loop {
            let sample = samples.recv().await.expect("the source ended");
            if wanted(&sample.body) {
                return sample;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("no sample with {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_is_enough_to_see_and_to_act() {
    let lab = lab(12);
    let watcher = lab.primary().client("postgres", "shop").unwrap();
    let application = || lab.primary().client_as("shop_owner", "shop", "web").unwrap();
    let (holder, waiter) = (application(), application());
    holder.execute("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE").unwrap();
    let blocked = waiter.spawn("SELECT count(*) FROM reports");
    // Of twelve slots three are for superusers: all the others but one are taken.
    let taken = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> 'postgres'";
    let mut others = Vec::new();
    while watcher.cell(taken).unwrap().parse::<u32>().unwrap() + 1 < 12 - 3 - 1 {
        others.push(application());
    }
    // The watcher sits in an ordinary slot: superusers take those too while there are any.
    let opened = open(&lab.primary().conninfo("oncall", "shop")).await.unwrap();
    let target = Target { id: TargetId(0), name: "lab".into(), kind: Kind::Postgres };
    let (sender, mut samples) = mpsc::channel(4);
    let (_keep, pace) = watch::channel(Pace::screen(Duration::from_millis(500)));
    let handle = opened.start(&target, pace, sender);
    let sample = wait_for(&mut samples, "a lock table", |body| match body {
        Body::Postgres(sample) => {
            sample.locks.value().is_some_and(|locks| locks.rows.iter().any(|lock| !lock.granted))
        }
        Body::Redis(_) | Body::Outage(_) => false,
    })
    .await;
    let Body::Postgres(sample) = sample.body else { panic!("{sample:?}") };
    assert_eq!(sample.server.own_pids.len(), 1, "the server was to admit one only");
    let sessions = sample.sessions.value().unwrap();
    let root = sessions.iter().find(|session| session.id.pid == holder.pid()).unwrap();
    let action = Action::Terminate { session: root.id, xact_start: root.xact_start };
    assert_eq!(handle.act(action).await, Ok(ActionReply::Signalled));
    blocked.wait(Duration::from_secs(5)).unwrap();
    drop(others);
}
