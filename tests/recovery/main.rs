//! Whether it got better, on real servers: sessions that hold locks and sessions that wait, a cure or none, and what
//! is said about it.
//!
//! A scenario takes its time, most of which it waits. Those that belong together are played side by side, each on a
//! server of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and measures time by the clock"
)]

mod calm;
mod draining;
mod effect;
mod relapse;
mod stage;
mod written;

/// Plays scenarios at one time, and fails when one of them does.
pub(crate) fn side_by_side(scenarios: &[fn()]) {
    std::thread::scope(|scope| {
        let played: Vec<_> = scenarios.iter().map(|scenario| scope.spawn(scenario)).collect();
        let failed = played.into_iter().find_map(|it| it.join().err());
        if let Some(failure) = failed {
            std::panic::resume_unwind(failure);
        }
    });
}
