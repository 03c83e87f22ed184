//! When the next frame is drawn: after an input at once, and never more often than one can see.
//!
//! It must not know what is in a frame.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::model::TargetId;

/// From one frame to the next at least: more than sixty a second nobody sees, and each costs processor time and bytes.
const FRAME: Duration = Duration::from_millis(16);
/// A sample waits at most so long for those of other targets, which are asked at the same moment: one frame shows them
/// all. Two thousand sessions take half of it.
const GATHERING: Duration = Duration::from_millis(100);

/// The next frame, and the last that somebody has waited for.
#[derive(Debug)]
pub(super) struct Beat {
    answered: Option<Instant>,
    /// When, and whether somebody waits for it; `None` while nothing has changed.
    due: Option<(Instant, bool)>,
    /// The targets of which a sample was taken in this round, which ends once all have given one; whose second comes
    /// begins another.
    gathered: BTreeSet<TargetId>,
}

impl Beat {
    /// The first frame is due at once.
    pub(super) const fn begin(now: Instant) -> Self {
        Self { answered: None, due: Some((now, false)), gathered: BTreeSet::new() }
    }

    /// Something has changed that somebody waits for.
    pub(super) fn soon(&mut self, now: Instant) {
        let allowed = self.answered.map_or(now, |answered| now.max(answered + FRAME));
        self.due = Some((self.due.map_or(allowed, |(due, _)| due.min(allowed)), true));
    }

    /// A sample of a target was taken, and these give data now.
    pub(super) fn gather(&mut self, target: TargetId, giving: &[TargetId], now: Instant) {
        if giving.contains(&target) && !self.gathered.insert(target) {
            self.gathered = BTreeSet::from([target]);
        }
        let is_whole = giving.iter().all(|it| self.gathered.contains(it));
        let at = if is_whole { now } else { now + GATHERING };
        if is_whole {
            self.gathered.clear();
        }
        let (due, is_answer) = self.due.unwrap_or((at, false));
        self.due = Some((due.min(at), is_answer));
    }

    /// Whether a frame is to be drawn now, which it then is.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let Some((_, is_answer)) = self.due.filter(|(due, _)| *due <= now) else { return false };
        self.due = None;
        if is_answer {
            self.answered = Some(now);
        }
        true
    }

    /// Waits until a frame is due; for ever while nothing has changed.
    pub(super) async fn wait(&self) {
        match self.due {
            Some((due, _)) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_frame_after_an_input_comes_at_once_and_the_next_after_16_ms() {
        let begun = super::super::instant();
        let mut beat = Beat::begin(begun);
        assert!(beat.is_due(begun) && !beat.is_due(begun));
        let pressed = begun + ms(1000);
        beat.soon(pressed);
        assert!(beat.is_due(pressed));
        for later in [1, 4, 15] {
            beat.soon(pressed + ms(later));
            assert!(!beat.is_due(pressed + ms(later)));
        }
        assert!(beat.is_due(pressed + ms(16)));
        assert!(!beat.is_due(pressed + ms(5000)));
    }

    #[test]
    fn samples_of_one_moment_share_a_frame_and_an_input_does_not_wait_for_it() {
        let begun = super::super::instant();
        let mut beat = Beat::begin(begun);
        assert!(beat.is_due(begun));
        let taken = begun + ms(1000);
        let (one, other) = (TargetId(0), TargetId(1));
        let both = [one, other];
        beat.gather(one, &both, taken);
        assert!(!beat.is_due(taken + ms(20)));
        beat.gather(other, &both, taken + ms(30));
        assert!(beat.is_due(taken + ms(30)) && !beat.is_due(taken + ms(500)));
        // A key just after that frame is answered at once all the same.
        beat.soon(taken + ms(31));
        assert!(beat.is_due(taken + ms(31)));
        let taken = begun + ms(2000);
        beat.gather(one, &both, taken);
        assert!(!beat.is_due(taken + ms(99)));
        // One that does not answer is not waited for longer, and shown at once when it does.
        assert!(beat.is_due(taken + ms(100)));
        beat.gather(other, &both, taken + ms(150));
        assert!(beat.is_due(taken + ms(150)));
        // The same where a key was answered between the two.
        let taken = begun + ms(3000);
        beat.gather(one, &both, taken);
        beat.soon(taken);
        assert!(beat.is_due(taken));
        beat.gather(other, &both, taken + ms(10));
        assert!(beat.is_due(taken + ms(10)));
        beat.gather(one, &[one], taken + ms(1000));
        assert!(beat.is_due(taken + ms(1000)));
    }

    #[test]
    fn a_target_in_an_outage_is_shown_with_the_samples_of_the_others() {
        let begun = super::super::instant();
        let mut beat = Beat::begin(begun);
        assert!(beat.is_due(begun));
        let [one, other, dead] = [0, 1, 2].map(TargetId);
        for second in 1..4 {
            let taken = begun + ms(1000 * second);
            beat.gather(dead, &[one, other], taken);
            beat.gather(one, &[one, other], taken + ms(5));
            assert!(!beat.is_due(taken + ms(5)));
            beat.gather(other, &[one, other], taken + ms(9));
            assert!(beat.is_due(taken + ms(9)) && !beat.is_due(taken + ms(900)));
        }
        // Where none gives data, each outage is told at once.
        beat.gather(dead, &[], begun + ms(5000));
        assert!(beat.is_due(begun + ms(5000)));
    }
}
