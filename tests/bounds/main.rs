//! Bounds: however many sessions a server has, however long its statements are, and whatever stands behind the port,
//! the program keeps its memory and its time, and says in one sentence what is wrong. Every parser of anything from
//! outside takes any input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "what was measured is part of the result")]

mod bodies;
mod crowd;
mod frames;
mod hostile;
#[allow(
    dead_code,
    clippy::unnecessary_wraps,
    clippy::too_many_lines,
    reason = "the moments of the screens are more, and told in words"
)]
#[path = "../screens/moment.rs"]
mod moment;
mod parsers;
mod population;
mod process;
mod real;
mod typing;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dbtriage");

/// The size at which all panes are shown.
const WIDE: (u16, u16) = (200, 50);

/// How much slower a debug build is.
const SLOWER: u32 = if cfg!(debug_assertions) { 20 } else { 1 };
