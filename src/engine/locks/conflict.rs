//! The conflict table of the eight table-level lock modes (manual, "Explicit Locking"; `LockConflicts` in
//! PostgreSQL's lock.c).

/// A set of lock modes, one bit each, with the set of all modes that conflict with any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Modes {
    bits: u16,
    conflicts: u16,
}

const NAMES: [&str; 8] = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];

/// Bit n of entry m: mode m conflicts with mode n.
const CONFLICTS: [u16; 8] =
    [0b1000_0000, 0b1100_0000, 0b1111_0000, 0b1111_1000, 0b1110_1100, 0b1111_1100, 0b1111_1110, 0b1111_1111];

/// The place of a mode among the eight, weakest first; 0 for an unknown name.
pub fn strength(mode: &str) -> usize {
    NAMES.iter().position(|known| *known == mode).unwrap_or_default()
}

impl Modes {
    /// How many modes there are.
    pub(super) const COUNT: usize = NAMES.len();

    /// The one mode of this name; an unknown name conflicts with nothing.
    pub(super) fn named(name: &str) -> Self {
        let known = NAMES.iter().position(|known| *known == name);
        known.map_or_else(Self::default, Self::at)
    }

    /// The mode at a place among the eight, weakest first.
    pub(super) fn at(place: usize) -> Self {
        CONFLICTS
            .get(place)
            .map_or_else(Self::default, |conflicts| Self { bits: 1 << place, conflicts: *conflicts })
    }

    /// The places of these modes among the eight.
    pub(super) fn places(self) -> impl Iterator<Item = usize> {
        (0..NAMES.len()).filter(move |place| self.bits & (1 << place) != 0)
    }

    /// The places of all modes that conflict with any of these.
    pub(super) fn conflicting_places(self) -> impl Iterator<Item = usize> {
        (0..NAMES.len()).filter(move |place| self.conflicts & (1 << place) != 0)
    }

    /// All modes that conflict with any of these.
    pub(super) fn conflicting(self) -> Self {
        self.conflicting_places().map(Self::at).fold(Self::default(), Self::with)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.bits == 0
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, conflicts: self.conflicts | other.conflicts }
    }

    /// Those of these modes that conflict with any of the others.
    pub(super) fn those_against(self, others: Self) -> Self {
        self.places()
            .map(Self::at)
            .filter(|mode| mode.conflict_with(others))
            .fold(Self::default(), Self::with)
    }

    pub(super) const fn contains(self, other: Self) -> bool {
        self.bits & other.bits == other.bits
    }

    /// Whether any mode of one set conflicts with any of the other.
    pub(super) const fn conflict_with(self, other: Self) -> bool {
        self.conflicts & other.bits != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_symmetric() {
        for a in NAMES.map(Modes::named) {
            for b in NAMES.map(Modes::named) {
                assert_eq!(a.conflict_with(b), b.conflict_with(a), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn rows_are_those_of_the_manual() {
        let conflicts = |name: &str| {
            NAMES.iter().filter(|other| Modes::named(name).conflict_with(Modes::named(other))).count()
        };
        let counts: Vec<_> = NAMES.iter().map(|name| conflicts(name)).collect();
        assert_eq!(counts, [1, 2, 4, 5, 5, 6, 7, 8]);
        assert!(!Modes::named("nonsense").conflict_with(Modes::named("AccessExclusiveLock")));
    }
}
