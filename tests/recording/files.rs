//! The files: whose they are, who may read them, and which of them are given up.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use dbtriage::recording::Entry;
use dbtriage::sources::recording::{Handed, Kept, Place, Reader, Recorder, Rolling, newest, recordings};
use dbtriage_lab::terminal::PATIENCE;
use pretty_assertions::assert_eq;

use crate::script::{entries, frames, opening, place, told};

/// Less than may wait for the disk, so that none is given up.
fn some() -> Vec<Entry> {
    let is_sample = |entry: &Entry| place(entry).is_some();
    entries(30, false).into_iter().filter(is_sample).take(60).collect()
}

/// Records some samples and waits for the end; why it stopped, if it did.
fn recorded(place: Place, entries: &[Entry]) -> (Kept, Vec<String>) {
    let (sender, stopped) = mpsc::channel();
    let mut recorder =
        Recorder::start(place, opening(0, false), move |why| sender.send(why).unwrap()).unwrap();
    for entry in entries {
        recorder.keep(entry.clone());
    }
    let kept = recorder.finish(PATIENCE).unwrap();
    // The callback goes when the thread does.
    (kept, stopped.iter().collect())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn read(paths: &[PathBuf]) -> Vec<Entry> {
    let mut reader = Reader::open(paths).unwrap();
    let mut all = Vec::new();
    while let Some(read) = reader.read() {
        let (entries, cut) = read.unwrap();
        assert!(cut.is_none());
        all.extend(entries.into_iter().filter(|entry| place(entry).is_some()));
    }
    all
}

fn all_told(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| told(entry, true)).collect()
}

fn rolling(folder: &Path, bytes_max: u64) -> Rolling {
    Rolling { folder: folder.to_owned(), bytes_max, age_max: Duration::from_secs(3600) }
}

fn of_age(path: &Path, bytes: usize, seconds: u64) {
    fs::write(path, vec![0; bytes]).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn the_last_hours_are_the_owners_alone_and_the_newest_run_is_found() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("state/dbtriage/recordings");
    of_age_in_new(&folder, "20250101T000000Z-7-00001.dbtriage", 60);
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    let written = some();
    let (kept, stopped) = recorded(Place::Rolling(rolling(&folder, 1 << 20)), &written);
    assert_eq!((kept.given_up, stopped), (0, vec![]));
    let files = newest(&folder);
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(fs::metadata(&files[0]).unwrap().len(), kept.bytes);
    assert_eq!((mode(&folder), mode(&files[0])), (0o700, 0o600));
    assert_eq!(recordings(&folder).len(), 2);
    assert_eq!(all_told(&read(&files)), all_told(&written));
}

fn of_age_in_new(folder: &Path, name: &str, seconds: u64) {
    fs::create_dir_all(folder).unwrap();
    of_age(&folder.join(name), 100, seconds);
}

#[test]
fn a_folder_that_is_made_is_the_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("a/b");
    recorded(Place::Rolling(rolling(&folder, 1 << 20)), &[]);
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&newest(&folder)[0]), 0o600);
}

#[test]
fn the_newest_run_has_all_its_parts_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let all = [
        "20261102T160210Z-99-00001.dbtriage",
        "20261102T160211Z-4711-00001.dbtriage",
        "20261102T160211Z-4711-00002.dbtriage",
        "20261102T160211Z-4711-00010.dbtriage",
    ];
    for name in all.iter().rev() {
        of_age(&folder.path().join(name), 1, 0);
    }
    assert_eq!(newest(folder.path()), all[1..].iter().map(|it| folder.path().join(it)).collect::<Vec<_>>());
    assert_eq!(newest(Path::new("/nowhere/at/all")), Vec::<PathBuf>::new());
    // What a person has put there is not of a run.
    for name in ["incident.dbtriage", "dbtriage-20261102T160210Z.dbtriage", "zzz-1.dbtriage"] {
        of_age(&folder.path().join(name), 1, 0);
    }
    assert_eq!(newest(folder.path()).len(), 3);
}

#[test]
fn what_is_old_or_too_much_is_given_up_and_nothing_of_others() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let file = |name: &str, bytes, seconds| of_age(&folder.join(name), bytes, seconds);
    file("20261101T000000Z-7-00001.dbtriage", 10, 4000);
    file("20261101T000000Z-7-00002.dbtriage", 10, 3500);
    for n in 3..9 {
        file(&format!("20261101T000000Z-7-{n:05}.dbtriage"), 1000, 3000 - n);
    }
    let others = [
        "incident.dbtriage",
        "notes.txt",
        "x.dbtriage.gz",
        "dbtriage-20250101T000000Z.dbtriage",
        ".dbtriage",
    ];
    for name in others {
        file(name, 5000, 1_000_000);
    }
    recorded(Place::Rolling(rolling(folder, 3500)), &[]);
    let is_other = |name: &String| others.contains(&name.as_str());
    let (kept_others, ours): (Vec<String>, Vec<String>) = names(folder).into_iter().partition(is_other);
    assert_eq!(kept_others.len(), others.len(), "{kept_others:?}");
    let parts = ours.iter().filter_map(|name| name.strip_prefix("20261101T000000Z-7-"));
    assert_eq!(parts.collect::<Vec<_>>(), ["00006.dbtriage", "00007.dbtriage", "00008.dbtriage"]);
    assert_eq!(ours.len(), 4, "the new one too");
}

#[test]
fn a_file_that_is_there_is_appended_to_and_both_parts_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("incident.dbtriage");
    File::create(&path).unwrap().set_permissions(Permissions::from_mode(0o644)).unwrap();
    let written = some();
    let (first, second) = written.split_at(25);
    for part in [first, second] {
        let (kept, stopped) = recorded(Place::File(path.clone(), 1 << 30), part);
        assert_eq!((kept.given_up, stopped), (0, vec![]));
        assert_eq!(mode(&path), 0o600);
    }
    assert_eq!(all_told(&read(&[path])), all_told(&written));
    assert_eq!(names(folder.path()), ["incident.dbtriage"]);
}

#[test]
fn what_follows_a_torn_end_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("incident.dbtriage");
    let written = some();
    recorded(Place::File(path.clone(), 1 << 30), &written[..25]);
    let whole = fs::metadata(&path).unwrap().len();
    for kept in [whole - 1, 40, 29, 28, 20, 7] {
        let path = folder.path().join(format!("torn at {kept}"));
        fs::copy(folder.path().join("incident.dbtriage"), &path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
        recorded(Place::File(path.clone(), 1 << 30), &written[25..]);
        let mut reader = Reader::open(&[path]).unwrap();
        let (entries, cut) = reader.read().unwrap().unwrap();
        assert!(cut.is_some(), "what was torn off is told");
        assert_eq!(all_told(&entries[1..]), all_told(&written[25..]), "torn at {kept}");
        assert!(reader.read().is_none());
    }
}

#[test]
fn a_full_disk_ends_the_recording_with_a_sentence() {
    let (sender, stopped) = mpsc::channel();
    let place = Place::File("/dev/full".into(), 1 << 30);
    let mut recorder =
        Recorder::start(place, opening(0, false), move |why| sender.send(why).unwrap()).unwrap();
    assert_eq!(recorder.keep(some().remove(0)), Handed::Kept);
    let kept = recorder.finish(PATIENCE);
    assert_eq!(kept, Some(Kept { bytes: 0, given_up: 0 }));
    let why: Vec<String> = stopped.iter().collect();
    assert_eq!(why.len(), 1, "{why:?}");
    assert!(why[0].starts_with("/dev/full: No space left on device"), "{why:?}");
    assert!(mode(Path::new("/dev/full")) & 0o002 != 0, "the device's mode was changed");
}

#[test]
fn a_place_that_cannot_be_written_is_told_at_once() {
    for path in ["/nowhere/at/all", "/"] {
        let started = Recorder::start(Place::File(path.into(), 1 << 30), opening(0, false), |_| {});
        assert!(started.is_err(), "{path}");
    }
    let beneath_a_file = tempfile::NamedTempFile::new().unwrap();
    let folder = beneath_a_file.path().join("folder");
    assert!(Recorder::start(Place::Rolling(rolling(&folder, 1)), opening(0, false), |_| {}).is_err());
}

#[test]
fn the_files_of_a_recording_may_be_named_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("incident.dbtriage");
    let older = folder.path().join("incident.dbtriage.1");
    let entries = entries(40, false);
    let is_sample = |entry: &Entry| place(entry).is_some();
    let written: Vec<Entry> = entries.into_iter().filter(is_sample).collect();
    let (first, second) = written.split_at(written.len() / 2);
    for (path, opened, part) in [(&older, 0, first), (&path, 20, second)] {
        let mut bytes = vec![Entry::Opening(opening(opened, false))];
        bytes.extend_from_slice(part);
        fs::write(path, frames(&bytes, 4, false).concat()).unwrap();
    }
    let in_order = all_told(&read(&[older.clone(), path.clone()]));
    assert_eq!(all_told(&read(&[path.clone(), older.clone()])), in_order);
    let (begins, ends) = Reader::open(&[path, older]).unwrap().span();
    assert!(begins < ends, "{begins} {ends}");
}
