//! One lockable object: who holds it, and who queues for it in which order.

use foldhash::{HashMap, HashSet};
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
    /// Who waits for it, in the order of the queue.
    pub(super) waiters: Vec<Waiter>,
    /// What the order tells, so that no question about one of them has to go through all.
    order: Order,
}

/// What is known once a queue is in order.
#[derive(Debug, Clone, Default)]
struct Order {
    /// The places at which each mode is wanted, weakest mode first.
    places_by_mode: [Vec<usize>; Modes::COUNT],
    /// For each place, and for the end, how many sessions wait for each mode from there on.
    sessions_from: Vec<[usize; Modes::COUNT]>,
    /// The places of each party.
    places_of: HashMap<PartyId, Vec<usize>>,
    /// How many sessions wait for one party only, and would be granted their lock at once if it went.
    held_up_by: HashMap<PartyId, usize>,
    /// For each place the nearest before it that conflicts, and that waits for a holder.
    nearest_held_up: Vec<Option<usize>>,
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
        let mut claims = Claims::default();
        for (party, modes) in self.holders.iter().filter(|(party, _)| !gone.contains(party)) {
            claims.add(*party, *modes);
        }
        claims
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
        let mut seen = HashSet::default();
        for waiter in &mut self.waiters {
            waiter.is_first_of_party = seen.insert(waiter.party);
            waiter.waits_for_holder = self.held.conflict_with(waiter.party, waiter.wanted);
        }
        self.order = self.order_of_waiters();
    }

    fn order_of_waiters(&self) -> Order {
        let mut order = Order::default();
        let mut claims = self.held;
        let mut held_up: [Option<usize>; Modes::COUNT] = [None; Modes::COUNT];
        for (place, waiter) in self.waiters.iter().enumerate() {
            let Waiter { party, wanted, .. } = *waiter;
            order.places_of.entry(party).or_default().push(place);
            if let Some(only) = claims.only_one_against(party, wanted).filter(|_| waiter.is_first_of_party) {
                *order.held_up_by.entry(only).or_default() += 1;
            }
            claims.add(party, wanted);
            let nearest = wanted.conflicting_places().filter_map(|mode| *held_up.get(mode)?).max();
            order.nearest_held_up.push(nearest);
            for mode in wanted.places() {
                if let Some(places) = order.places_by_mode.get_mut(mode) {
                    places.push(place);
                }
                if let Some(slot) = held_up.get_mut(mode).filter(|_| waiter.waits_for_holder) {
                    *slot = Some(place);
                }
            }
        }
        let mut from = [0; Modes::COUNT];
        order.sessions_from = vec![from];
        for waiter in self.waiters.iter().rev() {
            for mode in waiter.wanted.places() {
                if let Some(count) = from.get_mut(mode) {
                    *count += usize::from(waiter.is_first_of_party);
                }
            }
            order.sessions_from.push(from);
        }
        order.sessions_from.reverse();
        order
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

    /// Fewer of those that the waiter at this place waits for, from which all of them can be reached: whoever stands
    /// before it and conflicts waits itself for all who hold what it wants, and for all before it who want that.
    pub(super) fn nearest_blockers(&self, place: usize) -> Vec<PartyId> {
        let Some(waiter) = self.waiters.get(place) else { return Vec::new() };
        let in_the_way = self.wanted.those_against(waiter.wanted);
        let mut covered = Modes::default();
        let mut found = Vec::new();
        for ahead in self.conflicting_before(place).filter(|ahead| ahead.party != waiter.party) {
            if !covered.contains(ahead.wanted) {
                found.push(ahead.party);
                covered = covered.with(ahead.wanted.conflicting());
            }
            if covered.contains(in_the_way) {
                break;
            }
        }
        let others = self.holders.iter().filter(|(holder, _)| *holder != waiter.party);
        let is_needed = |held: &Modes| !covered.contains(held.those_against(waiter.wanted));
        found.extend(others.filter(|(_, held)| is_needed(held)).map(|(holder, _)| *holder));
        found
    }

    /// Waiters before a place who want what conflicts with what is wanted there, nearest first.
    fn conflicting_before(&self, place: usize) -> impl Iterator<Item = &Waiter> {
        let wanted = self.waiters.get(place).map_or_else(Modes::default, |waiter| waiter.wanted);
        let of_mode = |mode: usize| {
            let places = self.order.places_by_mode.get(mode)?;
            places.get(..places.partition_point(|at| *at < place))
        };
        let mut by_mode: Vec<&[usize]> = wanted.conflicting_places().filter_map(of_mode).collect();
        std::iter::from_fn(move || {
            let nearest = by_mode.iter_mut().max_by_key(|places| places.last().copied())?;
            let (last, before) = nearest.split_last()?;
            *nearest = before;
            self.waiters.get(*last)
        })
    }

    /// The nearest before a place who conflicts and waits for a holder, of those for whom this is asked for; else the
    /// first who conflicts.
    pub(super) fn queues_behind(&self, place: usize, is_meant: impl Fn(&Waiter) -> bool) -> Option<&Waiter> {
        let own = self.waiters.get(place)?.party;
        let is_meant = |ahead: &&Waiter| ahead.party != own && is_meant(ahead);
        let nearest = self.order.nearest_held_up.get(place).copied().flatten();
        let nearest = nearest.and_then(|nearest| self.waiters.get(nearest));
        // The nearest is not meant where it is of the same circle: then another may be.
        let held_up = nearest.and_then(|nearest| {
            let others =
                || self.conflicting_before(place).filter(|ahead| ahead.waits_for_holder).find(is_meant);
            Some(nearest).filter(is_meant).or_else(others)
        });
        held_up.or_else(|| self.soft_blockers(place).find(is_meant))
    }

    /// How many others wait directly for these parties: for what they hold, or because they stand before them.
    pub(super) fn directly_behind(&self, parties: &[PartyId]) -> usize {
        let held = parties.iter().fold(Modes::default(), |held, party| held.with(self.held_by(*party)));
        let mut places = parties.iter().filter_map(|party| self.order.places_of.get(party)).flatten();
        let nobody = [0; Modes::COUNT];
        let from = |place: usize| self.order.sessions_from.get(place).unwrap_or(&nobody);
        let against = |modes: Modes, sessions: &[usize; Modes::COUNT]| -> usize {
            modes.conflicting_places().filter_map(|mode| sessions.get(mode)).sum()
        };
        match (places.next(), places.next()) {
            (None, _) => against(held, from(0)),
            (Some(place), None) => {
                let wanted = self.waiters.get(*place).map_or_else(Modes::default, |waiter| waiter.wanted);
                let before = against(held, from(0)) - against(held, from(*place));
                before + against(held.with(wanted), from(place + 1))
            }
            (Some(_), Some(_)) => self.directly_behind_several(parties, held),
        }
    }

    fn directly_behind_several(&self, parties: &[PartyId], held: Modes) -> usize {
        let mut wanted_before = Modes::default();
        let mut count = 0;
        for waiter in &self.waiters {
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
        if let [one] = gone {
            return self.order.held_up_by.get(one).copied().unwrap_or_default();
        }
        // What is held and what is wanted by those before stand in the way alike.
        let mut now = self.held;
        let mut then = self.held_without(gone);
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

    fn of_conflicting(&self, modes: Modes) -> impl Iterator<Item = &[Option<PartyId>; 3]> {
        modes.conflicting_places().filter_map(|place| self.0.get(place))
    }

    /// Whether somebody else claims what conflicts with these modes.
    fn conflict_with(&self, party: PartyId, modes: Modes) -> bool {
        self.of_conflicting(modes).flatten().flatten().any(|other| *other != party)
    }

    /// The only other who claims what conflicts with these modes; `None` where there is nobody, or more than one.
    fn only_one_against(&self, party: PartyId, modes: Modes) -> Option<PartyId> {
        let mut others = self.of_conflicting(modes).flatten().flatten().filter(|other| **other != party);
        let first = others.next()?;
        others.all(|other| other == first).then_some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARTIES: usize = 9;

    fn object(holders: Vec<(usize, usize)>, waiters: Vec<(usize, usize, Option<i64>)>) -> Object {
        let mut object = Object::default();
        for (party, mode) in holders {
            object.add_holder(party, Modes::at(mode));
        }
        for (pid, (party, mode, since)) in (1..).zip(waiters) {
            let since = since.map(|second| Timestamp::from_second(second).unwrap());
            object.waiters.push(Waiter::new(party, pid, Modes::at(mode), since));
        }
        object.put_in_order();
        object
    }

    /// Whom each party waits for, directly or through others.
    fn reached(object: &Object, of: impl Fn(usize) -> Vec<PartyId>) -> Vec<HashSet<PartyId>> {
        let mut reached: Vec<HashSet<PartyId>> = vec![HashSet::default(); PARTIES];
        for (place, waiter) in object.waiters.iter().enumerate() {
            reached[waiter.party].extend(of(place));
        }
        for _ in 0..PARTIES {
            for party in 0..PARTIES {
                let further: Vec<PartyId> =
                    reached[party].iter().flat_map(|other| reached[*other].iter().copied()).collect();
                reached[party].extend(further);
            }
        }
        reached
    }

    proptest! {
        #[test]
        fn what_is_told_of_one_at_once_is_what_going_through_all_of_them_tells(
            holders in prop::collection::vec((0..PARTIES, 0..Modes::COUNT), 0..6),
            waiters in prop::collection::vec((0..PARTIES, 0..Modes::COUNT, prop::option::of(0..5_i64)), 1..12),
        ) {
            let object = object(holders, waiters);
            for party in 0..PARTIES {
                let behind = object.directly_behind_several(&[party], object.held_by(party));
                prop_assert_eq!(object.directly_behind(&[party]), behind, "behind {}", party);
                let freed = object.granted_without(&[party, party]);
                prop_assert_eq!(object.granted_without(&[party]), freed, "freed by {}", party);
            }
            let all = |place| -> Vec<PartyId> {
                let ahead = object.soft_blockers(place).map(|ahead| ahead.party);
                object.hard_blockers(place).chain(ahead).collect()
            };
            let nearest = |place| object.nearest_blockers(place);
            prop_assert_eq!(reached(&object, nearest), reached(&object, all));
        }
    }
}
