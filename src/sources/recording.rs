//! Recordings on the disk: written by a thread of their own, so that a disk that hangs holds up nothing else, and read
//! again frame by frame.
//!
//! It must not know what the entries mean.

mod reader;
mod writer;

pub use reader::{Cut, Read, Reader, newest};
pub use writer::{Handed, Kept, Place, Recorder, Rolling, recordings, wait_for};
