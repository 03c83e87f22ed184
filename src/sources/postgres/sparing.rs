//! How seldom something is read that costs the server much: no part may use more than a fiftieth of one of its cores.
//!
//! It must not know what is read.

use std::time::Duration;

/// A reading pauses so many times its own cost.
const COST_FACTOR: u32 = 50;

/// From one reading to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// How long.
    pub(super) every: Duration,
    /// The same, where it is so much more than was wanted that the person is told.
    pub(super) slowed_to: Option<Duration>,
}

/// The pause after a reading that has cost so much beyond the way there and back, where `wanted` would do.
pub(super) fn pause(wanted: Duration, cost: Duration) -> Pause {
    let bearable = cost * COST_FACTOR;
    let is_slowed = wanted * 3 / 2 < bearable;
    Pause { every: wanted.max(bearable), slowed_to: is_slowed.then_some(bearable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_much_is_read_seldom_and_that_is_told_once_it_shows() {
        let after = |ms: u64| {
            let Pause { every, slowed_to } = pause(Duration::from_secs(2), Duration::from_millis(ms));
            (every.as_millis(), slowed_to.map(|it| it.as_millis()))
        };
        assert_eq!(after(0), (2000, None));
        assert_eq!(after(40), (2000, None));
        assert_eq!(after(60), (3000, None));
        assert_eq!(after(61), (3050, Some(3050)));
        assert_eq!(after(840), (42_000, Some(42_000)));
        assert_eq!(after(2000), (100_000, Some(100_000)));
    }
}
