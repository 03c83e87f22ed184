//! One lockable object: who holds it, and who queues for it in which order.

use jiff::Timestamp;

use super::conflict::Modes;

/// The place of a party in the graph.
pub(super) type PartyId = usize;

/// An object that at least one session waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    /// Who holds it, and in which modes; each party once.
    pub(super) holders: Vec<(PartyId, Modes)>,
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
}

impl Object {
    pub(super) fn add_holder(&mut self, party: PartyId, mode: Modes) {
        match self.holders.iter_mut().find(|(holder, _)| *holder == party) {
            Some((_, modes)) => *modes = modes.with(mode),
            None => self.holders.push((party, mode)),
        }
    }

    fn held_by(&self, party: PartyId) -> Modes {
        self.holders
            .iter()
            .find(|(holder, _)| *holder == party)
            .map_or_else(Modes::default, |(_, modes)| *modes)
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
        let mut covered = Modes::default();
        let mut found = Vec::new();
        for ahead in self.soft_blockers(place).rev() {
            if !covered.contains(ahead.wanted) {
                found.push(ahead.party);
                if ahead.wanted.conflict_with(ahead.wanted) {
                    covered = covered.with(ahead.wanted);
                }
            }
        }
        found
    }

    /// How many others wait directly for these parties: for what they hold, or because they stand before them.
    pub(super) fn directly_behind(&self, parties: &[PartyId]) -> usize {
        let held = parties.iter().fold(Modes::default(), |held, party| held.with(self.held_by(*party)));
        let mut wanted_before = Modes::default();
        let mut count = 0;
        for waiter in &self.waiters {
            if parties.contains(&waiter.party) {
                wanted_before = wanted_before.with(waiter.wanted);
            } else if waiter.wanted.conflict_with(held) || waiter.wanted.conflict_with(wanted_before) {
                count += 1;
            }
        }
        count
    }

    /// How many waiters would be granted at once if these parties went: the queue is served in order, and whoever
    /// conflicts with a holder or with one who still waits before it goes on waiting (`ProcLockWakeup`).
    pub(super) fn granted_without(&self, gone: &[PartyId]) -> usize {
        let stays = |party: PartyId| !gone.contains(&party);
        let mut holders: Vec<(PartyId, Modes)> = Vec::new();
        for (party, modes) in self.holders.iter().filter(|(party, _)| stays(*party)) {
            merge(&mut holders, *party, *modes);
        }
        let mut still_wanted: Vec<(PartyId, Modes)> = Vec::new();
        let mut granted = 0;
        let conflicts = |list: &[(PartyId, Modes)], waiter: &Waiter| {
            list.iter().any(|(party, modes)| *party != waiter.party && modes.conflict_with(waiter.wanted))
        };
        for waiter in self.waiters.iter().filter(|waiter| stays(waiter.party)) {
            if conflicts(&holders, waiter) || conflicts(&still_wanted, waiter) {
                merge(&mut still_wanted, waiter.party, waiter.wanted);
            } else {
                merge(&mut holders, waiter.party, waiter.wanted);
                granted += 1;
            }
        }
        granted
    }
}

/// Adds a party with its modes. Two parties with the same modes stand for any number of them: whoever is asked about
/// is at most one of the two. So a list of thousands stays short.
fn merge(list: &mut Vec<(PartyId, Modes)>, party: PartyId, modes: Modes) {
    if list.iter().filter(|(other, known)| *other != party && *known == modes).take(2).count() < 2 {
        list.push((party, modes));
    }
}
