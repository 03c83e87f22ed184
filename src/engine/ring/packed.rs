//! Sessions and locks of a sample, packed: each against the one before it, because one second is much like the next.
//!
//! Packing is a matter of milliseconds where there are many sessions, and keys must not wait for it: a thread of its own
//! does it. What comes out is the same, whether it is packed already or not.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zstd::bulk::{Compressor, Decompressor};

use crate::model::Reading;
use crate::model::postgres::{LockTable, Sample, Session};

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
        postcard::from_bytes(&packed.written()?).ok()
    }
}

impl Packed {
    fn written(&self) -> Option<Vec<u8>> {
        // The first of the group is unpacked first; a group is short, so that a stack of calls will do.
        let base = match &self.before {
            Some(before) => before.written()?,
            None => Vec::new(),
        };
        Decompressor::with_dictionary(&base).ok()?.decompress(&self.bytes, self.length).ok()
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
    // What is kept is small and stays; were the large rooms around it made anew each time, the heap would be full of
    // holes: measured, four times what is kept.
    let (mut written, mut base, mut room) = (Vec::new(), Vec::new(), Vec::new());
    let mut before: Option<Arc<Packed>> = None;
    let mut in_group = 0;
    while let Ok(kept) = waiting.recv() {
        let sample = match &*kept.state() {
            State::Waiting(sample) => Arc::clone(sample),
            State::Packed(_) | State::Lost => continue,
        };
        before = before.filter(|_| in_group < GROUP);
        in_group = if before.is_some() { in_group + 1 } else { 1 };
        if before.is_none() {
            base.clear();
        }
        written.clear();
        if let Some((bytes, now)) = pack(&sample, written, &base, &mut room) {
            let packed = Arc::new(Packed { bytes, length: now.len(), before: before.take() });
            *kept.state() = State::Packed(Arc::clone(&packed));
            before = Some(packed);
            written = std::mem::replace(&mut base, now);
        } else {
            *kept.state() = State::Lost;
            before = None;
            written = Vec::new();
        }
    }
}

/// The written form of a sample, in the room of an earlier one, and that packed against another.
fn pack(sample: &Sample, into: Vec<u8>, base: &[u8], room: &mut Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let written = postcard::to_extend(&(&sample.sessions, &sample.locks), into).ok()?;
    room.clear();
    room.reserve(zstd::zstd_safe::compress_bound(written.len()));
    Compressor::with_dictionary(LEVEL, base).ok()?.compress_to_buffer(&written, room).ok()?;
    Some((room.as_slice().to_vec(), written))
}
