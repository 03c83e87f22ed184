//! The wait graph: parties (sessions with their parallel workers, prepared transactions) and the objects between
//! them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Context;
use super::conflict::Modes;
use super::queue::{Object, PartyId, Waiter};
use crate::model::postgres::{Lock, LockTag, Session};

/// Who can hold or wait for locks as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// A backend and its parallel workers, which never block each other; the leader's process.
    Session(i32),
    /// A prepared transaction; its place in the context's list.
    Prepared(usize),
    /// A holder without process that is no known prepared transaction.
    Unknown(String),
}

/// Parties, and the objects that somebody waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    pub(super) parties: Vec<Party>,
    pub(super) objects: Vec<(LockTag, Object)>,
    /// For each waiting process: the object, and its place in that queue.
    pub(super) waits: BTreeMap<i32, (usize, usize)>,
    /// The modes that are waited for, word for word.
    pub(super) wanted_modes: BTreeMap<i32, String>,
    /// For each party, the objects it holds or waits for.
    objects_of: Vec<Vec<usize>>,
    /// Place of each process in the context's list of sessions.
    sessions: HashMap<i32, usize>,
}

impl Graph {
    /// Reads the lock table.
    pub(super) fn build(rows: &[Lock], context: &Context<'_>) -> Self {
        let mut graph = Self::default();
        let mut places: HashMap<&LockTag, usize> = HashMap::new();
        let waits = |row: &&Lock| !row.granted && row.pid.is_some_and(|pid| !context.own_pids.contains(&pid));
        for row in rows.iter().filter(waits) {
            places.entry(&row.tag).or_insert_with(|| {
                graph.objects.push((row.tag.clone(), Object::default()));
                graph.objects.len() - 1
            });
        }
        let mut parties = Parties::new(rows, context);
        for row in rows {
            let Some(place) = places.get(&row.tag).copied() else { continue };
            if row.pid.is_some_and(|pid| context.own_pids.contains(&pid)) {
                continue;
            }
            let party = parties.of(row);
            let Some((_, object)) = graph.objects.get_mut(place) else { continue };
            let mode = Modes::named(&row.mode);
            match row.pid.filter(|_| !row.granted) {
                None if row.granted => object.add_holder(party, mode),
                None => {}
                // Nonsense guard: a process waits for one lock at a time; further rows would lose it.
                Some(pid) if graph.wanted_modes.contains_key(&pid) => {}
                Some(pid) => {
                    graph.wanted_modes.insert(pid, row.mode.to_string());
                    object.waiters.push(Waiter { party, pid, wanted: mode, since: row.waitstart });
                }
            }
        }
        graph.parties = parties.list;
        graph.sessions =
            context.sessions.iter().enumerate().map(|(place, session)| (session.id.pid, place)).collect();
        graph.index();
        graph
    }

    fn index(&mut self) {
        self.objects_of = vec![Vec::new(); self.parties.len()];
        for (place, (_, object)) in self.objects.iter_mut().enumerate() {
            object.put_in_order();
            for (position, waiter) in object.waiters.iter().enumerate() {
                self.waits.insert(waiter.pid, (place, position));
            }
            let involved = object
                .holders
                .iter()
                .map(|(party, _)| *party)
                .chain(object.waiters.iter().map(|waiter| waiter.party));
            for party in involved {
                if let Some(list) = self.objects_of.get_mut(party)
                    && list.last() != Some(&place)
                {
                    list.push(place);
                }
            }
        }
    }

    /// Parties that a waiting process waits for: holders, and those before it in the queue, each once.
    pub(super) fn blockers(&self, pid: i32) -> Vec<PartyId> {
        let Some((object, position)) = self.waiting(pid) else { return Vec::new() };
        let mut found: Vec<PartyId> = object.hard_blockers(position).collect();
        found.extend(object.soft_blockers(position).map(|ahead| ahead.party));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Fewer of the same, from which all of them can be reached.
    pub(super) fn nearest_blockers(&self, pid: i32) -> Vec<PartyId> {
        let Some((object, position)) = self.waiting(pid) else { return Vec::new() };
        let mut found: Vec<PartyId> = object.hard_blockers(position).collect();
        found.extend(object.nearest_soft_blockers(position));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The queue that a process stands in, and its place.
    pub(super) fn waiting(&self, pid: i32) -> Option<(&Object, usize)> {
        let (object, position) = self.waits.get(&pid)?;
        self.objects.get(*object).map(|(_, object)| (object, *position))
    }

    /// The session of a process.
    pub(super) fn session<'a>(&self, pid: i32, context: &Context<'a>) -> Option<&'a Session> {
        self.sessions.get(&pid).and_then(|place| context.sessions.get(*place))
    }

    /// The object that a process waits for.
    pub(super) fn tag(&self, pid: i32) -> Option<&LockTag> {
        self.waits.get(&pid).and_then(|(object, _)| self.objects.get(*object)).map(|(tag, _)| tag)
    }

    /// The party as `pg_blocking_pids` names it: 0 where there is no process.
    pub(super) fn pid_of(&self, party: PartyId) -> i32 {
        match self.parties.get(party) {
            Some(Party::Session(pid)) => *pid,
            Some(Party::Prepared(_) | Party::Unknown(_)) | None => 0,
        }
    }

    /// Sessions that would be granted their lock at once if these parties went.
    pub(super) fn frees(&self, parties: &[PartyId]) -> usize {
        self.objects_of(parties).map(|object| object.granted_without(parties)).sum()
    }

    /// Other sessions that wait for these parties directly.
    pub(super) fn directly_behind(&self, parties: &[PartyId]) -> usize {
        self.objects_of(parties).map(|object| object.directly_behind(parties)).sum()
    }

    fn objects_of(&self, parties: &[PartyId]) -> impl Iterator<Item = &Object> {
        let places: BTreeSet<usize> =
            parties.iter().filter_map(|party| self.objects_of.get(*party)).flatten().copied().collect();
        places.into_iter().filter_map(|place| self.objects.get(place)).map(|(_, object)| object)
    }
}

/// Gives parties their places.
struct Parties<'a> {
    list: Vec<Party>,
    places: BTreeMap<Party, PartyId>,
    leaders: HashMap<i32, i32>,
    /// Which prepared transaction a holder without process is, by its virtual transaction.
    prepared: HashMap<&'a str, usize>,
}

impl<'a> Parties<'a> {
    fn new(rows: &'a [Lock], context: &Context<'_>) -> Self {
        let leaders = context
            .sessions
            .iter()
            .filter_map(|session| Some((session.id.pid, session.leader_pid?)))
            .collect();
        // A prepared transaction keeps its old virtual transaction until the server restarts, so the number of
        // the transaction it holds is what tells which one it is.
        let prepared = rows
            .iter()
            .filter(|row| row.pid.is_none())
            .filter_map(|row| {
                let xid = row.tag.transactionid?;
                let place = context.prepared.iter().position(|prepared| prepared.transaction == xid)?;
                Some((&*row.virtualtransaction, place))
            })
            .collect();
        Self { list: Vec::new(), places: BTreeMap::new(), leaders, prepared }
    }

    fn of(&mut self, row: &Lock) -> PartyId {
        let party = match row.pid {
            Some(pid) => Party::Session(self.leaders.get(&pid).copied().unwrap_or(pid)),
            None => match self.prepared.get(&*row.virtualtransaction) {
                Some(place) => Party::Prepared(*place),
                None => Party::Unknown(row.virtualtransaction.to_string()),
            },
        };
        *self.places.entry(party.clone()).or_insert_with(|| {
            self.list.push(party);
            self.list.len() - 1
        })
    }
}
