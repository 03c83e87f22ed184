//! Frames: lines packed by zstd with its checksum, and before each the skippable frame that says where it ends.

use std::io::{self, Read as _};

use jiff::Timestamp;
use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;
use zstd::zstd_safe::{CParameter, compress_bound};

/// The lowest at which an hour of 500 sessions, 50 of them active, takes less than 80 MiB: a quarter of an hour in 20.
const LEVEL: i32 = 5;
/// Lines of a frame are read up to this size, so that a damaged length does not take all memory.
const LINES_BYTES_MAX: u64 = 512 << 20;

/// What each header begins with: zstd's mark of a frame to skip (RFC 8878, 3.1.2), the length of what follows, our name.
pub const SIGNATURE: [u8; 16] = *b"\x5d\x2a\x4d\x18\x15\x00\x00\x00dbtriage";
/// Bytes of a header.
pub const HEADER_BYTES: usize = SIGNATURE.len() + 4 + 8 + 1;

/// What is told of a frame before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the frame.
    pub length: u32,
    /// When its first entry was taken, to the millisecond.
    pub at: Timestamp,
    /// Whether it begins with an opening, so that reading can start with it.
    pub opens: bool,
}

impl Header {
    /// The header in these bytes; `None` where they are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&SIGNATURE)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let opens = match rest.first()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let at = Timestamp::from_millisecond(i64::from_le_bytes(*at)).ok()?;
        Some(Self { length: u32::from_le_bytes(*length), at, opens })
    }
}

/// A frame cannot be read: it was cut off, or bytes of it have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// Packs frames, one after the other. What zstd works with is used again: made anew for each frame it would leave holes
/// in the heap.
#[derive(Default)]
pub struct Packer {
    compressor: Option<Compressor<'static>>,
    frame: Vec<u8>,
}

impl Packer {
    /// Packs lines into a frame with its header.
    pub fn pack(&mut self, lines: &[u8], header: Header) -> io::Result<Vec<u8>> {
        let mut compressor = match self.compressor.take() {
            Some(compressor) => compressor,
            None => compressor()?,
        };
        self.frame.clear();
        self.frame.reserve(compress_bound(lines.len()));
        let length = compressor.compress_to_buffer(lines, &mut self.frame)?;
        self.compressor = Some(compressor);
        let length = u32::try_from(length).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.frame.len());
        bytes.extend_from_slice(&SIGNATURE);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&header.at.as_millisecond().to_le_bytes());
        bytes.push(u8::from(header.opens));
        bytes.extend_from_slice(&self.frame);
        Ok(bytes)
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

/// The lines of a frame, header not included. zstd compares its checksum, so that what comes out is what went in.
pub fn lines(frame: &[u8]) -> Result<Vec<u8>, Damaged> {
    // The third bit of the descriptor, which follows the four bytes of the mark: there is a checksum.
    if frame.get(4).is_none_or(|descriptor| descriptor & 4 == 0) {
        return Err(Damaged);
    }
    let mut decoder = Decoder::with_buffer(frame).map_err(|_| Damaged)?.single_frame();
    let mut lines = Vec::new();
    (&mut decoder).take(LINES_BYTES_MAX).read_to_end(&mut lines).map_err(|_| Damaged)?;
    if decoder.finish().is_empty() { Ok(lines) } else { Err(Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_frame_is_read_whole_or_not_at_all() {
        let text = b"{\"a\":1}\n".repeat(500);
        let at = Timestamp::from_millisecond(1_793_600_000_123).unwrap();
        let bytes = Packer::default().pack(&text, Header { length: 0, at, opens: true }).unwrap();
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.at, header.opens, header.length as usize), (at, true, bytes.len() - HEADER_BYTES));
        let frame = &bytes[HEADER_BYTES..];
        assert_eq!(lines(frame), Ok(text.clone()));
        for end in 0..frame.len() {
            assert_eq!(lines(&frame[..end]), Err(Damaged), "cut at {end}");
        }
        for place in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[place / 8] ^= 1 << (place % 8);
            let read = lines(&flipped);
            // Some bits of the header mean nothing; what is read is what was written all the same.
            assert!(read == Err(Damaged) || read.as_ref() == Ok(&text), "bit {place}");
        }
    }
}
