//! Sessions and locks of a sample, packed: each as what differs from the one before it, because one second is much like
//! the next.
//!
//! Packing is a matter of milliseconds where there are many sessions, and keys must not wait for it: a thread of its own
//! does it. What comes out is the same, whether it is packed already or not.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};

use crate::model::postgres::{Lock, LockTable, SafeSnapshotWait, Sample, Session};
use crate::model::{Delta, Reading};

/// After so many samples one is packed by itself: to unpack one is to unpack those before it.
const GROUP: usize = 20;
/// The level that zstd takes by itself.
const LEVEL: i32 = 3;
/// Samples that may wait to be packed; then who reads waits, too, so that nothing piles up.
const WAITING_MAX: usize = 4;
/// What a session and a lock take before they are packed, about.
const SESSION_BYTES: usize = 700;
const LOCK_BYTES: usize = 200;

pub(super) type Large = (Reading<Vec<Session>>, Reading<Arc<LockTable>>);

/// What was packed, against what.
#[derive(Debug)]
struct Packed {
    bytes: Vec<u8>,
    length: usize,
    /// `None` for the first of a group.
    before: Option<Arc<Self>>,
}

/// What is packed: sessions and locks against those of the sample before, or against none.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    sessions: Reading<Delta<Session>>,
    locks: Reading<(Delta<Lock>, Vec<SafeSnapshotWait>)>,
}

impl Written {
    fn between(before: Option<&Sample>, now: &Sample) -> Self {
        let sessions = before.and_then(|it| it.sessions.value()).map(Vec::as_slice).unwrap_or_default();
        let locks = before.and_then(|it| it.locks.value()).map(|it| it.rows.as_slice()).unwrap_or_default();
        Self {
            sessions: now.sessions.map(|now| Delta::between(sessions, now, |session| session.id.pid)),
            locks: now.locks.map(|now| {
                (Delta::between(locks, &now.rows, Lock::party_and_object), now.safe_snapshot_waits.clone())
            }),
        }
    }

    fn applied_to(&self, before: Option<&Large>) -> Option<Large> {
        let sessions = before.and_then(|it| it.0.value()).map(Vec::as_slice).unwrap_or_default();
        let locks = before.and_then(|it| it.1.value()).map(|it| it.rows.as_slice()).unwrap_or_default();
        let table = |(delta, waits): &(Delta<Lock>, Vec<SafeSnapshotWait>)| {
            let rows = delta.applied_to(locks, usize::MAX)?;
            Some(Arc::new(LockTable { rows, safe_snapshot_waits: waits.clone() }))
        };
        let sessions = all(self.sessions.map(|delta| delta.applied_to(sessions, usize::MAX)))?;
        Some((sessions, all(self.locks.map(table))?))
    }
}

/// `None` where the value is.
fn all<T>(reading: Reading<Option<T>>) -> Option<Reading<T>> {
    Some(match reading {
        Reading::Fresh(value) => Reading::Fresh(value?),
        Reading::Stale(value, since) => Reading::Stale(value?, since),
        Reading::Unavailable(reason) => Reading::Unavailable(reason),
    })
}

#[derive(Debug)]
enum State {
    Waiting(Arc<Sample>),
    Packed(Arc<Packed>),
    /// There was no memory to pack it.
    Lost,
}

/// Sessions and locks of one sample.
#[derive(Debug, Clone)]
pub(super) struct Kept(Arc<Mutex<State>>);

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        match &*self.state() {
            State::Waiting(sample) => {
                let sessions = sample.sessions.value().map_or(0, Vec::len);
                let locks = sample.locks.value().map_or(0, |locks| locks.rows.len());
                sessions * SESSION_BYTES + locks * LOCK_BYTES
            }
            State::Packed(packed) => packed.bytes.len(),
            State::Lost => 0,
        }
    }

    /// What was packed; `None` only if there was no memory for packing it.
    pub(super) fn unpack(&self) -> Option<Large> {
        let packed = match &*self.state() {
            State::Waiting(sample) => return Some((sample.sessions.clone(), sample.locks.clone())),
            State::Packed(packed) => Arc::clone(packed),
            State::Lost => return None,
        };
        packed.unpack()
    }
}

impl Packed {
    fn unpack(&self) -> Option<Large> {
        // The first of the group is unpacked first; a group is short, so that a stack of calls will do.
        let before = match &self.before {
            Some(before) => Some(before.unpack()?),
            None => None,
        };
        let bytes = Decompressor::new().ok()?.decompress(&self.bytes, self.length).ok()?;
        postcard::from_bytes::<Written>(&bytes).ok()?.applied_to(before.as_ref())
    }
}

/// Packs one sample after the other. Its thread ends with it.
#[derive(Debug, Default)]
pub(super) struct Packer(Option<SyncSender<Kept>>);

impl Packer {
    /// Keeps the sessions and locks of a sample; `None` where no thread can be had.
    pub(super) fn keep(&mut self, sample: &Arc<Sample>) -> Option<Kept> {
        let sender = match self.0.take() {
            Some(sender) => sender,
            None => start()?,
        };
        let kept = Kept(Arc::new(Mutex::new(State::Waiting(Arc::clone(sample)))));
        sender.send(kept.clone()).ok()?;
        self.0 = Some(sender);
        Some(kept)
    }
}

fn start() -> Option<SyncSender<Kept>> {
    let (sender, waiting) = sync_channel(WAITING_MAX);
    let thread = std::thread::Builder::new().name("packer".into());
    thread.spawn(move || pack_all(&waiting)).ok()?;
    Some(sender)
}

fn pack_all(waiting: &Receiver<Kept>) {
    let mut room = Room::default();
    let mut before: Option<(Arc<Packed>, Arc<Sample>)> = None;
    let mut in_group = 0;
    while let Ok(kept) = waiting.recv() {
        let sample = match &*kept.state() {
            State::Waiting(sample) => Arc::clone(sample),
            State::Packed(_) | State::Lost => continue,
        };
        let (packed_before, sample_before) = before.take().filter(|_| in_group < GROUP).unzip();
        in_group = if packed_before.is_some() { in_group + 1 } else { 1 };
        let written = Written::between(sample_before.as_deref(), &sample);
        if let Some((bytes, length)) = room.pack(&written) {
            let packed = Arc::new(Packed { bytes, length, before: packed_before });
            *kept.state() = State::Packed(Arc::clone(&packed));
            before = Some((packed, sample));
        } else {
            *kept.state() = State::Lost;
        }
    }
}

/// What is worked with. What is kept is small and stays; were the large rooms around it made anew each time, the heap
/// would be full of holes: measured, four times what is kept.
#[derive(Default)]
struct Room {
    compressor: Option<Compressor<'static>>,
    written: Vec<u8>,
    packed: Vec<u8>,
}

impl Room {
    /// The packed form, and its length before.
    fn pack(&mut self, written: &Written) -> Option<(Vec<u8>, usize)> {
        let mut into = std::mem::take(&mut self.written);
        into.clear();
        self.written = postcard::to_extend(written, into).ok()?;
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.written.len()));
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none @ None => none.insert(Compressor::new(LEVEL).ok()?),
        };
        compressor.compress_to_buffer(&self.written, &mut self.packed).ok()?;
        Some((self.packed.as_slice().to_vec(), self.written.len()))
    }
}
