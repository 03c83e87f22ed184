//! The real program records, and plays what it recorded: the same is made of every sample, the keys lead through the
//! time, and what happened is written up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod files;
mod keys;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;

use dbtriage_lab::terminal::{PATIENCE, Tty, find, rows, until};
use dbtriage_lab::{Lab, Options, Scenario};
use pretty_assertions::assert_eq;
use serde_json::Value;
use tempfile::TempDir;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");
/// The size at which all panes are shown.
const WIDE: (u16, u16) = (200, 50);
/// Longer than a question is deaf after it has been drawn.
const DEAF: Duration = Duration::from_millis(400);

/// An incident that was recorded while somebody ended it from the keyboard.
struct Incident {
    folder: TempDir,
    root: i32,
    /// What was made of each sample, one line each.
    live: Vec<Value>,
}

impl Incident {
    fn file(&self) -> PathBuf {
        self.folder.path().join("incident.dbtriage")
    }
}

/// It is recorded once, for all tests.
static INCIDENT: LazyLock<Incident> = LazyLock::new(record_incident);

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn record_incident() -> Incident {
    let folder = TempDir::new().unwrap();
    let lab = Lab::start(Options::default()).unwrap();
    let load = lab.play(Scenario::LockPileup).unwrap();
    let root = load.facts.root_pid.unwrap();
    let (file, trace) = (folder.path().join("incident.dbtriage"), folder.path().join("live.jsonl"));
    let (uri, redis) = (lab.primary().uri("oncall", "shop"), lab.redis().unwrap().url());
    let arguments = [uri.as_str(), "--redis", &redis, "--record", file.to_str().unwrap()];
    let environment = [("DBTRIAGE_TEST_TRACE", trace.to_str().unwrap())];
    let mut tty = Tty::start_with(PROGRAM, WIDE, &arguments, &environment);
    tty.wait_for_text("● REC");
    tty.wait_for("the root to be found", PATIENCE, |screen| {
        rows(screen)[2].contains(&format!("{root} reports-worker, idle in transaction"))
    });
    tty.keys("!");
    tty.wait_for("the finding to be chosen", PATIENCE, |screen| rows(screen)[2].contains("↵ show"));
    tty.keys("\r");
    tty.wait_for("the root to be selected", PATIENCE, |screen| find(screen, &format!(">▼ {root}")).is_some());
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {root} ?"));
    sleep(DEAF);
    tty.keys("y");
    tty.wait_for_text(&format!("terminated {root}"));
    tty.wait_for_text("RECOVERING");
    // Some frames more, so that there is something to step through.
    let samples = || lines_so_far(&trace);
    let enough = samples() + 12;
    until("more samples", PATIENCE, || enough <= samples());
    tty.keys("q");
    let ended = tty.end();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    Incident { live: lines(&trace), folder, root }
}

fn lines_so_far(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Plays the recording to its end and reads what was made of each sample.
fn replayed(incident: &Incident, name: &str) -> Vec<Value> {
    let (file, trace) = (incident.file(), incident.folder.path().join(name));
    let environment = [("DBTRIAGE_TEST_TRACE", trace.to_str().unwrap())];
    let arguments = ["replay", "--speed", "64", file.to_str().unwrap()];
    let mut tty = Tty::start_with(PROGRAM, WIDE, &arguments, &environment);
    tty.wait_for_text("end of the recording");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
    lines(&trace)
}

/// What came of an action is known with a sample, and recorded after it.
fn without_actions(mut line: Value) -> Value {
    let timeline = &mut line[1];
    timeline["actions"].take();
    timeline["events"].as_array_mut().unwrap().retain(|event| event["by"] == "-");
    line
}

#[test]
fn a_replay_makes_the_same_of_every_sample() {
    let incident = &*INCIDENT;
    let replay = replayed(incident, "replay.jsonl");
    assert_eq!(replay.len(), incident.live.len(), "samples");
    for (number, (live, replay)) in incident.live.iter().zip(&replay).enumerate() {
        let (live, replay) = (without_actions(live.clone()), without_actions(replay.clone()));
        assert_eq!(replay, live, "sample {number}");
    }
    let all = |lines: &[Value]| lines.last().unwrap()[1]["events"].clone();
    assert_eq!(all(&replay), all(&incident.live), "events, those of the action included");
    let verdicts = &replay.last().unwrap()[1]["recoveries"][0]["verdicts"];
    assert!(verdicts.to_string().contains("RECOVERING"), "{verdicts}");
    let roots = |line: &Value| line[0]["targets"][0]["locks"]["roots"].as_array().map_or(0, Vec::len);
    assert!(incident.live.iter().any(|line| roots(line) > 0), "a forest was compared");
}

#[test]
fn a_recording_is_written_up() {
    let incident = &*INCIDENT;
    let done = Command::new(PROGRAM).arg("timeline").arg(incident.file()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let root = incident.root;
    for part in [
        "# Incident timeline: ",
        "## Summary",
        &format!("terminate {root} reports-worker: RECOVERING"),
        &format!("| terminated {root} reports-worker: gone after "),
        "## Peak figures",
        "| blocked sessions | ",
        "## Statements involved",
        "`UPDATE reports SET status = $1 WHERE id = $2`",
        "## Actions",
        "- SQL: `/* dbtriage:terminate */",
        "## Before and after",
        "| blocked sessions | 36 | 36 | 0 |",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("queued"), "a literal: {text}");
    let json =
        Command::new(PROGRAM).args(["timeline", "--format", "json"]).arg(incident.file()).output().unwrap();
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["schema"], "dbtriage.timeline/1");
    assert_eq!(json["actions"][0]["session"]["pid"], root);
    assert_eq!(json["recoveries"][0]["verdict"], "RECOVERING");
}

#[test]
fn a_recording_of_each_form_is_written_up_as_a_finished_report() {
    for form in [1, 2] {
        let name = format!("version_{form}.dbtriage");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recording/fixtures").join(&name);
        let done = Command::new(PROGRAM).arg("timeline").arg(file).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8(done.stdout).unwrap();
        insta::assert_snapshot!("timeline", text.replace(&name, "FILE"));
    }
}
