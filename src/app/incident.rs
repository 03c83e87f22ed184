//! The incident clock: how long something critical has been found, with pauses of less than a minute.
//!
//! It must not know what was found.

use jiff::Timestamp;

use crate::format::seconds_between;

/// An incident is over once nothing critical was found for so long.
const CALM_SECONDS: f64 = 60.0;

/// An incident that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incident {
    since: Timestamp,
    seen: Timestamp,
}

impl Incident {
    /// The incident after a sample that was taken at `now`.
    pub(super) fn after(before: Option<Self>, is_critical: bool, now: Timestamp) -> Option<Self> {
        match before {
            Some(incident) if is_critical => Some(Self { seen: now, ..incident }),
            Some(incident) => Some(incident).filter(|it| seconds_between(it.seen, now) < CALM_SECONDS),
            None => is_critical.then_some(Self { since: now, seen: now }),
        }
    }

    /// When it began.
    pub(super) const fn since(self) -> Timestamp {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn an_incident_outlasts_a_short_calm() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let watch = |found: &[(i64, bool)]| {
            let step = |before, (second, is_critical): &(i64, bool)| {
                Incident::after(before, *is_critical, at(*second))
            };
            found.iter().fold(None, step).map(|incident| incident.since().as_second())
        };
        assert_eq!(watch(&[(0, false)]), None);
        assert_eq!(watch(&[(0, false), (5, true), (9, true)]), Some(5));
        assert_eq!(watch(&[(5, true), (60, false), (61, true)]), Some(5), "it came back");
        assert_eq!(watch(&[(5, true), (65, false)]), None, "it is over");
        assert_eq!(watch(&[(5, true), (65, false), (70, true)]), Some(70), "and this is another");
    }
}
