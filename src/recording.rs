//! The written form of what was watched: JSON lines, some seconds of them in a zstd frame, and before each frame a
//! skippable one that says where it ends. `zstdcat FILE | jq` reads it.
//!
//! Raw samples are written, not what is derived from them, so that a later version derives anew. What is large and
//! seldom changes (names, settings, texts, counters of statements) is written once and referred to by number; with an
//! opening line all numbers begin anew, so that reading can start there. It must not know where frames are kept.

mod decoder;
mod encoder;
mod frame;
mod line;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use frame::{Damaged, HEADER_BYTES, Header, Packer, SIGNATURE, lines};

use crate::model::action::Record;
use crate::model::{Sample, Severity, Target, TargetId};

/// The version of this form. A reader knows every version up to its own.
///
/// 2: samples hold sessions and locks as what differs from the one before in the frame, the first of a frame from one
/// that was written in full at most a minute before.
pub const VERSION: u32 = 2;

/// What stands in a recording, in order.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A recording begins, or its numbers begin anew.
    Opening(Opening),
    /// A target was read.
    Sample(Sample),
    /// The person did something.
    Note(Note),
}

/// The first line of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The version of the form.
    pub version: u32,
    /// The program's own version.
    pub program: String,
    /// When it was written, by the client's clock.
    pub at: Timestamp,
    /// Whether the literals of statements were left out.
    pub redacted: bool,
    /// The targets, in their order.
    pub targets: Vec<Target>,
}

/// What the person did, as far as a replay must do it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// An action was ordered, or what came of it is known: then with how it is meant. At the end, whether it is one of
    /// many.
    Action(Box<Record>, TargetId, Option<Severity>, bool),
    /// A baseline was set by hand, for this server.
    Baseline(Timestamp, TargetId),
}
