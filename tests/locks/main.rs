//! The lock graph on real servers of every major version: the server itself says who waits for whom, and the
//! program must say the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "deadlines need the clock")]

mod cases;
mod chosen;
mod plan;
mod random;
mod safe_snapshot;
mod server;
mod standby;
mod truth;
