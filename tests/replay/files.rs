//! Where recordings are kept: the last hours by themselves, in full on request, and never against anybody's will.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use dbtriage_lab::terminal::{PATIENCE, Tty, rows, until};
use dbtriage_lab::{Lab, Options};
use serde_json::Value;
use tempfile::TempDir;

use super::{PROGRAM, WIDE};

const STATE: &str = ".local/state/dbtriage/recordings";

fn lab() -> Lab {
    Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap()
}

fn open(lab: &Lab, more: &[&str]) -> Tty {
    let uri = lab.primary().uri("oncall", "shop");
    let mut arguments = vec![uri.as_str()];
    arguments.extend(more);
    let mut tty = Tty::start(PROGRAM, WIDE, &arguments);
    tty.wait_for_text("● live");
    tty
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn timeline(home: &Path, files: &[&Path]) -> (Option<i32>, String) {
    let done = Command::new(PROGRAM)
        .env_clear()
        .env("HOME", home)
        .args(["timeline", "--format", "json"])
        .args(files)
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap())
}

#[test]
fn the_last_hours_are_kept_without_literals_and_nothing_where_that_is_not_wanted() {
    let lab = lab();
    let home = TempDir::new().unwrap();
    let state = home.path().join("state");
    let uri = lab.primary().uri("oncall", "shop");
    let environment = [("XDG_STATE_HOME", state.to_str().unwrap())];
    let mut tty = Tty::start_with(PROGRAM, WIDE, &[&uri], &environment);
    tty.wait_for("the first line to say it", PATIENCE, |screen| rows(screen)[0].contains("REC ● live"));
    let client = lab.primary().client("postgres", "shop").unwrap();
    // Seen by a tick, it is in the recording but for its literal.
    client.rows("SELECT pg_sleep(2.5), 'hunter2'").unwrap();
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
    let folder = state.join("dbtriage/recordings");
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(mode(&files[0]), 0o600);
    let lines = Command::new("zstdcat").arg(&files[0]).output().unwrap().stdout;
    let lines = String::from_utf8(lines).unwrap();
    assert!(lines.contains("pg_sleep(?)") && !lines.contains("hunter2"), "{lines}");
    let (code, json) = timeline(home.path(), &[&files[0]]);
    assert_eq!(code, Some(0), "{json}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["redacted"], true);

    let tty = open(&lab, &["--no-record"]);
    assert!(!tty.look(rows)[0].contains("REC"));
    let kept = tty.home().join(STATE).exists();
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
    assert!(!kept, "nothing was to be kept");
}

#[test]
fn a_disk_that_is_full_stops_the_recording_and_nothing_else() {
    let lab = lab();
    let mut tty = open(&lab, &["--no-record", "--record", "/dev/full"]);
    tty.wait_for_text("recording has stopped: /dev/full: No space left on device");
    tty.wait_for("the mark to go", PATIENCE, |screen| !rows(screen)[0].contains("REC"));
    tty.wait_for_text("● live");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

#[test]
fn recording_goes_on_without_a_screen_for_the_time_that_was_asked_for() {
    let lab = lab();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kept.dbtriage");
    let uri = lab.primary().uri("oncall", "shop");
    let run = || {
        let done = Command::new(PROGRAM)
            .env_clear()
            .env("HOME", folder.path())
            .args(["record", &uri, "--for", "3s", "--output"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stderr).unwrap()
    };
    let said = run();
    assert!(said.contains("recording in ") && said.contains("; Ctrl-C ends it"), "{said}");
    assert_eq!(mode(&file), 0o600);
    let first = fs::metadata(&file).unwrap().len();
    run();
    assert!(first < fs::metadata(&file).unwrap().len(), "it is added to");
    let (code, json) = timeline(folder.path(), &[&file]);
    assert_eq!(code, Some(0), "{json}");
}

#[test]
fn what_could_not_be_written_at_the_end_is_told() {
    let lab = lab();
    let folder = TempDir::new().unwrap();
    let uri = lab.primary().uri("oncall", "shop");
    // All of it is one frame, which is written last.
    let done = Command::new(PROGRAM)
        .env_clear()
        .env("HOME", folder.path())
        .args(["record", &uri, "--for", "2s", "--output", "/dev/full"])
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("recording has stopped: /dev/full: No space left on device"), "{said}");
}

#[test]
fn a_key_keeps_everything_in_a_file_of_its_own() {
    let lab = lab();
    let folder = TempDir::new().unwrap();
    let uri = lab.primary().uri("oncall", "shop");
    let go = format!("cd {} && exec \"$0\" \"$@\"", folder.path().display());
    let mut tty = Tty::start("/bin/sh", WIDE, &["-c", &go, PROGRAM, &uri, "--no-record"]);
    tty.wait_for_text("● live");
    tty.keys("R");
    tty.wait_for_text("recording everything in ");
    tty.wait_for("the first line to say it", PATIENCE, |screen| rows(screen)[0].contains("● REC"));
    tty.keys("R");
    tty.wait_for_text("recorded ");
    let files =
        || -> Vec<_> { fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect() };
    until("the file to be there", PATIENCE, || files().len() == 1);
    let (code, json) = timeline(folder.path(), &[&files()[0]]);
    assert_eq!(code, Some(0), "{json}");
    // The moment and the timeline can be taken out as well.
    tty.keys("x");
    tty.wait_for_text("this moment as JSON, in a file");
    tty.keys("6");
    tty.wait_for_text("written to ");
    let json = files().into_iter().find(|path| path.extension().is_some_and(|it| it == "json")).unwrap();
    assert_eq!(mode(&json), 0o600);
    let json: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(json["schema"], "dbtriage.snapshot/1");
    assert_eq!(json["targets"][0]["status"], "ok");
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}
