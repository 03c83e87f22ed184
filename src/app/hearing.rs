//! When a question takes answers: a moment after it was seen, so that no key answers it that was meant for what was on the
//! screen before.
//!
//! It must not know what is asked.

use jiff::{SignedDuration, Timestamp};

/// Keys that come so soon after it was seen were not meant for it: type-ahead, a paste, the partner's key.
const DEAF: SignedDuration = SignedDuration::from_millis(250);

/// Deaf at first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hearing {
    /// Whether it is on the newest frame.
    is_framed: bool,
    deaf_until: Option<Timestamp>,
}

impl Hearing {
    /// It is on the frame that goes to the screen; whether it waits to be told when that is there.
    pub(super) const fn framed(&mut self) -> bool {
        self.is_framed = true;
        self.deaf_until.is_none()
    }

    /// The newest frame is on the screen.
    pub(super) fn drawn(&mut self, now: Timestamp) {
        if self.is_framed && self.deaf_until.is_none() {
            self.deaf_until = now.checked_add(DEAF).ok();
        }
    }

    /// Something came that was not meant as an answer, or what is asked has changed: once more a moment is waited for.
    pub(super) fn disturb(&mut self, now: Timestamp) {
        if self.deaf_until.is_some() {
            self.deaf_until = now.checked_add(DEAF).ok();
        }
    }

    /// Whether it takes answers.
    pub(super) fn listens(&self, now: Timestamp) -> bool {
        self.deaf_until.is_some_and(|until| until <= now)
    }
}
