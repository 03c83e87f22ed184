//! Sessions and locks of a sample, packed: each against the first of its group, because one second is much like the next.

use std::sync::Arc;

use zstd::bulk::{Compressor, Decompressor};

use crate::model::Reading;
use crate::model::postgres::{LockTable, Session};

/// Samples that are packed against the same one.
const GROUP: usize = 20;
/// The fastest of the levels that save most: one second of 500 sessions packs in under two milliseconds.
const LEVEL: i32 = 1;

type Large = (Reading<Vec<Session>>, Reading<Arc<LockTable>>);

/// The first of a group.
#[derive(Debug)]
struct First {
    packed: Vec<u8>,
    length: usize,
}

/// What was packed.
#[derive(Debug)]
pub(super) struct Packed {
    first: Arc<First>,
    /// Against the first; `None` for the first itself.
    other: Option<(Vec<u8>, usize)>,
    /// Bytes of memory.
    pub(super) bytes: usize,
}

/// Packs one sample after the other.
#[derive(Debug, Default)]
pub(super) struct Packer {
    group: Option<(Arc<First>, Vec<u8>)>,
    packed: usize,
}

impl Packer {
    pub(super) fn pack(
        &mut self,
        sessions: &Reading<Vec<Session>>,
        locks: &Reading<Arc<LockTable>>,
    ) -> Packed {
        // Plain data always has a written form.
        let written = serde_json::to_vec(&(sessions, locks)).unwrap_or_default();
        self.packed += 1;
        if let Some((first, base)) = self.group.as_ref().filter(|_| self.packed < GROUP)
            && let Some(packed) = compressed(&written, base)
        {
            let bytes = packed.len();
            return Packed { first: Arc::clone(first), other: Some((packed, written.len())), bytes };
        }
        let packed = compressed(&written, &[]).unwrap_or_default();
        let bytes = packed.len();
        let first = Arc::new(First { packed, length: written.len() });
        self.group = Some((Arc::clone(&first), written));
        self.packed = 0;
        Packed { first, other: None, bytes }
    }
}

fn compressed(bytes: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    Compressor::with_dictionary(LEVEL, base).ok()?.compress(bytes).ok()
}

impl Packed {
    /// What was packed; `None` only if there was no memory for packing it.
    pub(super) fn unpack(&self) -> Option<Large> {
        let first = Decompressor::new().ok()?.decompress(&self.first.packed, self.first.length).ok()?;
        let written = match &self.other {
            None => first,
            Some((packed, length)) => {
                Decompressor::with_dictionary(&first).ok()?.decompress(packed, *length).ok()?
            }
        };
        serde_json::from_slice(&written).ok()
    }
}
