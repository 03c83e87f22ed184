//! How long to wait before a server is knocked at again, so that the tool never adds to what the server suffers.
//!
//! It must not know what is knocked at.

use std::time::Duration;

/// A server that lets us in and drops us sooner than this is not knocked at without a pause.
const LASTING: Duration = Duration::from_secs(5);

/// How soon to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The attempt cost the server next to nothing: about every second, so that its return is seen at once.
    Soon,
    /// It cost a process and a login on a server in need: the pauses grow.
    Later,
}

/// The pauses between attempts: a second while an attempt costs the server nothing, else 0.5 s doubled up to 15 s;
/// each with up to a fifth of jitter, so that many monitors do not knock at the same moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u64,
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt.
    pub(super) fn next(&mut self, retry: Retry, seed: u64) -> Duration {
        let base = match retry {
            Retry::Soon => {
                self.failures = 0;
                1_000
            }
            Retry::Later => {
                let pause = 500_u64.saturating_mul(1 << self.failures.min(5));
                self.failures = self.failures.saturating_add(1);
                pause.min(15_000)
            }
        };
        self.attempts = self.attempts.wrapping_add(1);
        // SplitMix64's finaliser spreads a poor seed (process id, clock) well enough for jitter.
        let mut mixed = seed ^ self.attempts.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 27;
        Duration::from_millis(base - mixed % (base / 5))
    }

    /// The pause after a connection that was let in and lost: none after one that has lasted; else a tenth less than
    /// after a refusal, so that who was cut off three times in a row is back within two seconds.
    pub(super) fn after(&mut self, lasted: Duration, seed: u64) -> Duration {
        if lasted < LASTING {
            return self.next(Retry::Later, seed) * 9 / 10;
        }
        self.reset();
        Duration::ZERO
    }

    /// Starts over after a success.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_its_ceiling() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|seed| backoff.next(Retry::Later, seed).as_millis()).collect();
        assert!((400..=500).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 15_000), "{pauses:?}");
        assert!(pauses[9] >= 12_000, "{pauses:?}");
        backoff.reset();
        assert!(backoff.next(Retry::Later, 3).as_millis() <= 500);
        let soon: Vec<_> = (0..10).map(|seed| backoff.next(Retry::Soon, seed).as_millis()).collect();
        assert!(soon.iter().all(|pause| (800..=1000).contains(pause)), "{soon:?}");
    }

    #[test]
    fn who_was_cut_off_three_times_is_back_within_two_seconds() {
        for seed in 0..1000 {
            let mut backoff = Backoff::default();
            let soon = Duration::from_secs(1);
            let pauses = [0; 3].map(|_| backoff.after(soon, seed));
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(1_800)), "{pauses:?}");
            assert_eq!(backoff.after(LASTING, seed), Duration::ZERO);
        }
    }
}
