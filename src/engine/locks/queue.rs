//! One lockable object: who holds it, and who queues for it in which order.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::conflict::Modes;

/// The place of a party in the graph.
pub(super) type PartyId = usize;

/// An object that at least one session waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    /// Who holds it, and in which modes; each party once.
    pub(super) holders: Vec<(PartyId, Modes)>,
    /// The place of each holder in that list.
    places: HashMap<PartyId, usize>,
    /// The same, in short.
    held: Claims,
    /// Every mode that somebody waits for.
    wanted: Modes,
    /// How many sessions wait for each mode, weakest first; empty until the queue is in order.
    waiters_by_mode: Vec<usize>,
    /// Who waits for it, in the order of the queue.
    pub(super) waiters: Vec<Waiter>,
}

/// A place in the queue.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) party: PartyId,
    pub(super) pid: i32,
    pub(super) wanted: Modes,
    pub(super) since: Option<Timestamp>,
    /// Whether no other process of its parallel group stands before it: a group counts as one session.
    pub(super) is_first_of_party: bool,
    /// Whether somebody else holds what it wants; otherwise it waits only for those before it. Known once the
    /// queue is in order.
    pub(super) waits_for_holder: bool,
}

impl Waiter {
    /// One that has just come; what the order of the queue tells is not known yet.
    pub(super) const fn new(party: PartyId, pid: i32, wanted: Modes, since: Option<Timestamp>) -> Self {
        Self { party, pid, wanted, since, is_first_of_party: true, waits_for_holder: false }
    }
}

impl Object {
    pub(super) fn add_holder(&mut self, party: PartyId, mode: Modes) {
        self.held.add(party, mode);
        let place = *self.places.entry(party).or_insert(self.holders.len());
        match self.holders.get_mut(place) {
            Some((_, modes)) => *modes = modes.with(mode),
            None => self.holders.push((party, mode)),
        }
    }

    fn held_by(&self, party: PartyId) -> Modes {
        let held = self.places.get(&party).and_then(|place| self.holders.get(*place));
        held.map_or_else(Modes::default, |(_, modes)| *modes)
    }

    fn held_without(&self, gone: &[PartyId]) -> Claims {
        match gone {
            [one] => self.held.without(*one),
            several => {
                let mut claims = Claims::default();
                for (party, modes) in self.holders.iter().filter(|(party, _)| !several.contains(party)) {
                    claims.add(*party, *modes);
                }
                claims
            }
        }
    }

    /// Puts the waiters in the order in which the server will serve them: by the start of the wait, except that
    /// one which already holds a lock on the object goes before the first waiter that conflicts with what it
    /// holds (`JoinWaitQueue` in PostgreSQL's proc.c). A wait whose start is not known yet has just begun.
    pub(super) fn put_in_order(&mut self) {
        let mut arrived = std::mem::take(&mut self.waiters);
        arrived.sort_by_key(|waiter| (waiter.since.is_none(), waiter.since, waiter.pid));
        for waiter in arrived {
            let held = self.held_by(waiter.party);
            let place = if held.is_empty() {
                None
            } else {
                self.waiters
                    .iter()
                    .position(|ahead| ahead.party != waiter.party && ahead.wanted.conflict_with(held))
            };
            self.waiters.insert(place.unwrap_or(self.waiters.len()), waiter);
        }
        self.mend_order();
        self.wanted = self.waiters.iter().fold(Modes::default(), |all, waiter| all.with(waiter.wanted));
        let mut seen = HashSet::new();
        for waiter in &mut self.waiters {
            waiter.is_first_of_party = seen.insert(waiter.party);
            waiter.waits_for_holder = self.held.conflict_with(waiter.party, waiter.wanted);
        }
        let of_mode = |place: usize| {
            let wanted = Modes::at(place);
            self.waiters.iter().filter(|it| it.is_first_of_party && it.wanted == wanted).count()
        };
        self.waiters_by_mode = (0..Modes::COUNT).map(of_mode).collect();
    }

    /// Nobody waits for nothing: one that has nobody before it stands in truth behind one that holds the object
    /// already, and went before somebody who has left the queue since; or behind one of whom nobody knows when it
    /// came.
    fn mend_order(&mut self) {
        let mut place = 0;
        let mut moves_left = self.waiters.len();
        while let Some(waiter) = self.waiters.get(place).cloned() {
            let is_blocked =
                self.hard_blockers(place).next().is_some() || self.soft_blockers(place).next().is_some();
            let is_ahead_in_truth = |later: &Waiter| {
                later.party != waiter.party
                    && later.wanted.conflict_with(waiter.wanted)
                    && (later.since.is_none() || !self.held_by(later.party).is_empty())
            };
            let ahead = || self.waiters.iter().skip(place + 1).position(is_ahead_in_truth);
            match if is_blocked || moves_left == 0 { None } else { ahead() } {
                Some(distance) => {
                    self.waiters.remove(place);
                    self.waiters.insert(place + 1 + distance, waiter);
                    moves_left -= 1;
                }
                None => place += 1,
            }
        }
    }

    /// Holders that the waiter at this place waits for.
    pub(super) fn hard_blockers(&self, place: usize) -> impl Iterator<Item = PartyId> + '_ {
        let waiter = self.waiters.get(place);
        self.holders
            .iter()
            .filter(move |(holder, modes)| {
                waiter.is_some_and(|w| w.party != *holder && w.wanted.conflict_with(*modes))
            })
            .map(|(holder, _)| *holder)
    }

    /// Waiters before this place that it waits for, nearest last.
    pub(super) fn soft_blockers(&self, place: usize) -> impl DoubleEndedIterator<Item = &Waiter> {
        let waiter = self.waiters.get(place);
        self.waiters.iter().take(place).filter(move |ahead| {
            waiter.is_some_and(|w| w.party != ahead.party && w.wanted.conflict_with(ahead.wanted))
        })
    }

    /// Waiters before this place from which every waiter before it that matters can be reached: of a mode that
    /// conflicts with itself only the nearest, because that one waits for the others. Keeps long queues short.
    pub(super) fn nearest_soft_blockers(&self, place: usize) -> Vec<PartyId> {
        let wanted = self.waiters.get(place).map_or_else(Modes::default, |waiter| waiter.wanted);
        let in_the_way = self.wanted.those_against(wanted);
        let mut covered = Modes::default();
        let mut found = Vec::new();
        for ahead in self.soft_blockers(place).rev() {
            if !covered.contains(ahead.wanted) {
                found.push(ahead.party);
                if ahead.wanted.conflict_with(ahead.wanted) {
                    covered = covered.with(ahead.wanted);
                }
            }
            if covered.contains(in_the_way) {
                break;
            }
        }
        found
    }

    /// How many others wait directly for these parties: for what they hold, or because they stand before them.
    pub(super) fn directly_behind(&self, parties: &[PartyId]) -> usize {
        let held = parties.iter().fold(Modes::default(), |held, party| held.with(self.held_by(*party)));
        let Some(first) = self.waiters.iter().position(|waiter| parties.contains(&waiter.party)) else {
            let conflicting = held.conflicting_places().filter_map(|place| self.waiters_by_mode.get(place));
            return conflicting.sum();
        };
        let nobody_before = if held.is_empty() { first } else { 0 };
        let mut wanted_before = Modes::default();
        let mut count = 0;
        for waiter in self.waiters.iter().skip(nobody_before) {
            if parties.contains(&waiter.party) {
                wanted_before = wanted_before.with(waiter.wanted);
            } else if waiter.wanted.conflict_with(held) || waiter.wanted.conflict_with(wanted_before) {
                count += usize::from(waiter.is_first_of_party);
            }
        }
        count
    }

    /// How many waiters that are held up now would be granted at once if these parties went: the queue is served in
    /// order, and whoever conflicts with a holder or with one who still waits before it goes on waiting
    /// (`ProcLockWakeup` in PostgreSQL's proc.c).
    pub(super) fn granted_without(&self, gone: &[PartyId]) -> usize {
        // What is held and what is wanted by those before stand in the way alike.
        let mut now = self.held;
        let mut then = self.held_without(gone);
        let wanted = self.wanted;
        if then.conflict_with_everybody(wanted) {
            return 0;
        }
        let mut granted = 0;
        for Waiter { party, wanted: mode, is_first_of_party, .. } in &self.waiters {
            let is_held_up = now.conflict_with(*party, *mode);
            now.add(*party, *mode);
            if gone.contains(party) {
                continue;
            }
            let is_granted = is_held_up && !then.conflict_with(*party, *mode);
            granted += usize::from(is_granted && *is_first_of_party);
            then.add(*party, *mode);
            if then.conflict_with_everybody(wanted) {
                break;
            }
        }
        granted
    }
}

/// Who claims which mode. Three of each are known by name: one of them may go, another may be the one who asks, and
/// whether a third is left is all that matters. So a crowd of holders costs no more than three.
#[derive(Debug, Clone, Copy, Default)]
struct Claims([[Option<PartyId>; 3]; 8]);

impl Claims {
    fn add(&mut self, party: PartyId, modes: Modes) {
        for place in modes.places() {
            let Some(known) = self.0.get_mut(place) else { continue };
            if known.contains(&Some(party)) {
                continue;
            }
            if let Some(free) = known.iter_mut().find(|slot| slot.is_none()) {
                *free = Some(party);
            }
        }
    }

    fn without(mut self, gone: PartyId) -> Self {
        for slot in self.0.iter_mut().flatten().filter(|slot| **slot == Some(gone)) {
            *slot = None;
        }
        self
    }

    fn of_conflicting(&self, modes: Modes) -> impl Iterator<Item = &[Option<PartyId>; 3]> {
        modes.conflicting_places().filter_map(|place| self.0.get(place))
    }

    /// Whether somebody else claims what conflicts with these modes.
    fn conflict_with(&self, party: PartyId, modes: Modes) -> bool {
        self.of_conflicting(modes).flatten().flatten().any(|other| *other != party)
    }

    /// Whether each of these modes is out of reach for anybody: two claim what conflicts with it.
    fn conflict_with_everybody(&self, modes: Modes) -> bool {
        let two = |known: &[Option<PartyId>; 3]| known.iter().flatten().count() >= 2;
        modes.places().all(|place| self.of_conflicting(Modes::at(place)).any(two))
    }
}
