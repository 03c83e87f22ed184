//! Recordings: what is written comes back as it was, or not at all; a cut, damaged or foreign file costs what was hit
//! and nothing else; the last quarter of an hour keeps its memory and its time; and files are ours alone.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test fails by panicking; a written moment is long"
)]
#![allow(clippy::print_stdout, reason = "what was measured is part of the result")]

mod crowd;
mod damage;
mod files;
mod garbage;
mod limits;
#[allow(
    dead_code,
    clippy::unnecessary_wraps,
    clippy::too_many_lines,
    reason = "the moments of the screens are more, and told in words"
)]
#[path = "../screens/moment.rs"]
mod moment;
mod round_trip;
mod script;
mod stepping;
