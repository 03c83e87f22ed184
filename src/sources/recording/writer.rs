//! Writing: a frame every few seconds, files with an end, the oldest given up for the newest.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::recording::{Encoder, Entry, Opening};

/// A frame is written at least so often: as much is lost with the program; with the machine also what the system has not
/// written yet.
const FRAME_EVERY: Duration = Duration::from_secs(5);
/// Or once it holds so many bytes before packing.
const FRAME_BYTES: usize = 4 << 20;
/// After so long everything is written anew, so that reading can start there.
const OPENING_EVERY: Duration = Duration::from_secs(600);
/// Entries that wait for the next frame: written together they cost half, and each need not wake a thread. More of them
/// are written before.
const TOGETHER: usize = 16;
/// Entries that may wait for the disk; more are given up, and that is told.
const WAITING_MAX: usize = 120;
/// A file that `R` or `--record` has begun becomes another's past once it is so large.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Of what may be kept of the last hours one file takes an eighth at most: they are given up whole.
const PARTS_MIN: u64 = 8;
/// How the names of our files end.
const SUFFIX: &str = ".dbtriage";

/// Where a recording goes.
#[derive(Debug, Clone)]
pub enum Place {
    /// One file, which is appended to; once it is larger than so many bytes it becomes `FILE.1`, and a new one begins.
    File(PathBuf, u64),
    /// The last hours, in files of some minutes in a folder of our own.
    Rolling(Rolling),
}

impl Place {
    /// A file of the usual size.
    pub const fn file(path: PathBuf) -> Self {
        Self::File(path, FILE_BYTES_MAX)
    }
}

/// What is kept of the last hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rolling {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes that all of it may take.
    pub bytes_max: u64,
    /// How long it is kept.
    pub age_max: Duration,
}

/// What was kept, once the recording has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes written.
    pub bytes: u64,
    /// Entries that were given up because the disk was too slow.
    pub given_up: u64,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// It is written with its frame.
    Kept,
    /// The disk is too slow: it is missing.
    GivenUp,
    /// The recording has ended.
    Ended,
}

/// A recording that goes on. Dropping it ends it.
#[derive(Debug)]
pub struct Recorder {
    entries: Option<SyncSender<Entry>>,
    thread: Option<JoinHandle<Kept>>,
    /// Entries that were handed on since the thread was last woken for them.
    handed: usize,
    given_up: u64,
}

impl Recorder {
    /// Begins a recording: opens the file, and starts the thread that writes. `stopped` is told why it ended, if that
    /// was not asked for.
    pub fn start(
        place: Place,
        opening: Opening,
        stopped: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let file = OpenFile::open(place, opening.at)?;
        let (sender, entries) = mpsc::sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            let mut writer = Writer::over(file, opening);
            match writer.serve(&entries) {
                Ok(()) => {}
                Err(error) => stopped(format!("{}: {error}", writer.file.path.display())),
            }
            Kept { bytes: writer.bytes, given_up: 0 }
        })?;
        Ok(Self { entries: Some(sender), thread: Some(thread), handed: 0, given_up: 0 })
    }

    /// Hands on an entry. An entry for which there is no room is given up.
    pub fn keep(&mut self, entry: Entry) -> Handed {
        let Some(entries) = &self.entries else { return Handed::Ended };
        match entries.try_send(entry) {
            Ok(()) => {
                self.handed += 1;
                if TOGETHER <= self.handed {
                    self.handed = 0;
                    self.wake();
                }
                Handed::Kept
            }
            Err(TrySendError::Full(_)) => {
                self.given_up += 1;
                Handed::GivenUp
            }
            Err(TrySendError::Disconnected(_)) => Handed::Ended,
        }
    }

    /// Ends the recording and waits for the disk so long; `None` where that was not enough.
    pub fn finish(mut self, limit: Duration) -> Option<Kept> {
        self.end();
        let thread = self.thread.take()?;
        let kept = if wait_for(&thread, limit) { thread.join().ok() } else { None };
        kept.map(|kept| Kept { given_up: self.given_up, ..kept })
    }

    /// No more entries come: what is there is written. [`Self::finish`] waits for that.
    pub fn end(&mut self) {
        self.entries = None;
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for the end of a thread, but no longer than this; false where it goes on.
pub fn wait_for<T>(thread: &JoinHandle<T>, limit: Duration) -> bool {
    let began = Instant::now();
    while !thread.is_finished() && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.is_finished()
}

/// A file that is being written.
struct OpenFile {
    place: Place,
    path: PathBuf,
    file: File,
    bytes: u64,
    part: u32,
    began: Timestamp,
}

impl OpenFile {
    fn open(place: Place, began: Timestamp) -> io::Result<Self> {
        let path = match &place {
            Place::File(path, _) => path.clone(),
            Place::Rolling(rolling) => {
                DirBuilder::new().recursive(true).mode(0o700).create(&rolling.folder)?;
                rolling.part(began, 1)
            }
        };
        let (file, bytes) = append_to(&path)?;
        let opened = Self { place, path, file, bytes, part: 1, began };
        opened.prune();
        Ok(opened)
    }

    /// Goes on in the next file, if this one is large enough or `is_due`.
    fn turn(&mut self, is_due: bool) -> io::Result<()> {
        match &self.place {
            Place::File(path, bytes_max) => {
                if *bytes_max < self.bytes {
                    let mut older = path.clone().into_os_string();
                    older.push(".1");
                    fs::rename(path, older)?;
                    (self.file, self.bytes) = append_to(path)?;
                }
            }
            Place::Rolling(rolling) if is_due || rolling.bytes_max / PARTS_MIN < self.bytes => {
                self.part += 1;
                self.path = rolling.part(self.began, self.part);
                (self.file, self.bytes) = append_to(&self.path)?;
                self.prune();
            }
            Place::Rolling(_) => {}
        }
        Ok(())
    }

    /// Gives up what is too old, and the oldest while all of it is too large. What cannot be removed stays.
    fn prune(&self) {
        let Place::Rolling(rolling) = &self.place else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = recordings(&rolling.folder)
            .into_iter()
            .filter(|path| *path != self.path)
            .filter_map(|path| {
                let known = fs::metadata(&path).ok()?;
                Some((known.modified().ok()?, known.len(), path))
            })
            .collect();
        files.sort();
        let mut all: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        let bytes_max = rolling.bytes_max - rolling.bytes_max / PARTS_MIN;
        for (modified, bytes, path) in files {
            let is_old = modified.elapsed().is_ok_and(|age| rolling.age_max < age);
            if is_old || bytes_max < all {
                drop(fs::remove_file(path));
                all -= bytes;
            }
        }
    }
}

impl Rolling {
    /// The name of a part; names sort in the order of time.
    fn part(&self, began: Timestamp, part: u32) -> PathBuf {
        let began = began.strftime("%Y%m%dT%H%M%SZ");
        self.folder.join(format!("{began}-{}-{part:05}{SUFFIX}", std::process::id()))
    }
}

/// The recordings in a folder, oldest first.
pub fn recordings(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let ours = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_str().is_some_and(is_part));
    let mut ours: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
    ours.sort();
    ours
}

/// Whether it is the name of a part; what a person has put beside them is not ours.
fn is_part(name: &str) -> bool {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let words: Option<Vec<&str>> = name.strip_suffix(SUFFIX).map(|name| name.split('-').collect());
    let Some([began, process, part]) = words.as_deref() else { return false };
    began.len() == "20261102T160210Z".len()
        && began.ends_with('Z')
        && began.starts_with(|first: char| first.is_ascii_digit())
        && is_number(process)
        && is_number(part)
}

/// Only its owner may read it, also where it was there already.
fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let known = file.metadata()?;
    if known.is_file() {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok((file, known.len()))
}

struct Writer {
    file: OpenFile,
    opening: Opening,
    encoder: Encoder,
    opened: Instant,
    bytes: u64,
}

impl Writer {
    fn over(file: OpenFile, opening: Opening) -> Self {
        let encoder = Encoder::new(opening.redacted);
        Self { file, opening, encoder, opened: Instant::now(), bytes: 0 }
    }

    fn serve(&mut self, entries: &Receiver<Entry>) -> io::Result<()> {
        self.encoder.write(&Entry::Opening(self.opening.clone()))?;
        let mut due = Instant::now() + FRAME_EVERY;
        loop {
            match entries.try_recv() {
                Ok(entry) => {
                    self.encoder.write(&entry)?;
                    if self.encoder.pending_bytes() < FRAME_BYTES {
                        continue;
                    }
                }
                Err(TryRecvError::Empty) => {
                    let rest = due.saturating_duration_since(Instant::now());
                    if !rest.is_zero() {
                        park_timeout(rest);
                        continue;
                    }
                }
                Err(TryRecvError::Disconnected) => return self.write_frame(),
            }
            self.write_frame()?;
            self.open_anew()?;
            due = Instant::now() + FRAME_EVERY;
        }
    }

    fn write_frame(&mut self) -> io::Result<()> {
        let Some(frame) = self.encoder.frame()? else { return Ok(()) };
        self.file.file.write_all(&frame)?;
        let length = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        self.file.bytes += length;
        self.bytes += length;
        Ok(())
    }

    /// From time to time, and in a new file, everything is written anew.
    fn open_anew(&mut self) -> io::Result<()> {
        let is_due = OPENING_EVERY <= self.opened.elapsed();
        let before = self.file.bytes;
        self.file.turn(is_due)?;
        if is_due || self.file.bytes < before {
            self.opened = Instant::now();
            self.opening.at = Timestamp::now();
            self.encoder.write(&Entry::Opening(self.opening.clone()))?;
        }
        Ok(())
    }
}
