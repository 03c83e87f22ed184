//! The wait graph: parties (sessions with their parallel workers, prepared transactions) and the objects between
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;

use super::conflict::Modes;
use super::queue::{Object, PartyId, Waiter};
use super::{Context, SAFE_SNAPSHOT};
use crate::model::postgres::{Lock, LockTable, LockTag, SafeSnapshotWait, Session};

/// Who can hold or wait for locks as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    waits: HashMap<i32, (usize, usize)>,
    /// The modes that are waited for, word for word.
    pub(super) wanted_modes: HashMap<i32, Arc<str>>,
    /// The party of each process that holds or waits.
    pub(super) party_of: HashMap<i32, PartyId>,
    /// For each party, its waiting processes.
    pub(super) waiting_of: Vec<Vec<i32>>,
    /// For each party, the objects it holds or waits for.
    objects_of: Vec<Vec<usize>>,
    /// Place of each process in the context's list of sessions.
    sessions: HashMap<i32, usize>,
}

impl Graph {
    /// Reads the lock table.
    pub(super) fn build(table: &LockTable, context: &Context<'_>) -> Self {
        let rows = &table.rows;
        let sessions = context.sessions.iter().enumerate();
        let sessions = sessions.map(|(place, session)| (session.id.pid, place)).collect();
        let mut graph = Self { sessions, ..Self::default() };
        let mut places: HashMap<&LockTag, usize> = HashMap::default();
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
                    graph.wanted_modes.insert(pid, Arc::clone(&row.mode));
                    // Before 14 nobody says when a wait began: the start of the statement is the nearest.
                    let began = graph.sessions.get(&pid).and_then(|place| context.sessions.get(*place));
                    let began =
                        began.filter(|_| !context.queue_is_exact).and_then(|session| session.query_start);
                    let since = row.waitstart.or(began);
                    object.waiters.push(Waiter::new(party, pid, mode, since));
                }
            }
        }
        for wait in &table.safe_snapshot_waits {
            graph.add_safe_snapshot(wait, &mut parties, context);
        }
        graph.parties = parties.list;
        graph.party_of = parties.of_pid;
        graph.index();
        graph
    }

    /// A wait for a safe snapshot ends when every transaction it waits for has ended: as if each of them held
    /// something that the waiter wants for itself.
    fn add_safe_snapshot(
        &mut self,
        wait: &SafeSnapshotWait,
        parties: &mut Parties<'_>,
        context: &Context<'_>,
    ) {
        let is_own = |pid: &i32| context.own_pids.contains(pid);
        if wait.blocked_by.is_empty() || is_own(&wait.pid) || self.wanted_modes.contains_key(&wait.pid) {
            return;
        }
        let all = Modes::named("AccessExclusiveLock");
        let mut object = Object::default();
        let blockers = wait.blocked_by.iter().filter(|pid| !is_own(pid) && **pid != wait.pid);
        for pid in blockers {
            object.add_holder(parties.of_process(*pid), all);
        }
        let since = self.session(wait.pid, context).and_then(|session| session.query_start);
        let party = parties.of_process(wait.pid);
        let pid = wait.pid;
        object.waiters.push(Waiter::new(party, pid, all, since));
        self.wanted_modes.insert(wait.pid, "SafeSnapshot".into());
        self.objects.push((LockTag { locktype: SAFE_SNAPSHOT.into(), ..LockTag::default() }, object));
    }

    fn index(&mut self) {
        self.objects_of = vec![Vec::new(); self.parties.len()];
        self.waiting_of = vec![Vec::new(); self.parties.len()];
        for (place, (_, object)) in self.objects.iter_mut().enumerate() {
            object.put_in_order();
            for (position, waiter) in object.waiters.iter().enumerate() {
                self.waits.insert(waiter.pid, (place, position));
                if let Some(pids) = self.waiting_of.get_mut(waiter.party) {
                    pids.push(waiter.pid);
                }
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

    /// The waiting processes of a process's parallel group, itself included: a session waits where one of them waits.
    pub(super) fn waiting_beside(&self, pid: i32) -> &[i32] {
        let group = self.party_of.get(&pid).and_then(|party| self.waiting_of.get(*party));
        group.map_or(&[], Vec::as_slice)
    }

    /// Fewer of those that a party waits for, from which all of them can be reached; one may occur twice.
    pub(super) fn nearest_blockers(&self, party: PartyId) -> Vec<PartyId> {
        let waiting = self.waiting_of.get(party).into_iter().flatten();
        let queues = waiting.filter_map(|pid| self.waiting(*pid));
        queues.flat_map(|(object, place)| object.nearest_blockers(place)).collect()
    }

    /// Whether a party waits for nothing.
    pub(super) fn is_idle(&self, party: PartyId) -> bool {
        self.waiting_of.get(party).is_none_or(Vec::is_empty)
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

    /// The place of the object that a process waits for.
    pub(super) fn object_of(&self, pid: i32) -> Option<usize> {
        self.waits.get(&pid).map(|(object, _)| *object)
    }

    /// The party as `pg_blocking_pids` names it: 0 where there is no process.
    pub(super) fn pid_of(&self, party: PartyId) -> i32 {
        match self.parties.get(party) {
            Some(Party::Session(pid)) => *pid,
            Some(Party::Prepared(_) | Party::Unknown(_)) | None => 0,
        }
    }

    /// Sessions that would be granted their lock at once, and could go on, if these parties went. Whoever comes
    /// first for a row is granted its tuple lock and then waits for the transaction that holds the row, as the one
    /// before did (`heap_acquire_tuplock` in PostgreSQL's heapam.c): that is no way on while this transaction lasts.
    pub(super) fn frees(&self, parties: &[PartyId]) -> usize {
        self.objects_of(parties)
            .filter(|(tag, _)| &*tag.locktype != "tuple" || !self.wait_for_others(parties))
            .map(|(_, object)| object.granted_without(parties))
            .sum()
    }

    /// Whether one of these parties waits for a holder who is not among them.
    fn wait_for_others(&self, parties: &[PartyId]) -> bool {
        let waiting = parties.iter().filter_map(|party| self.waiting_of.get(*party)).flatten();
        waiting
            .filter_map(|pid| self.waiting(*pid))
            .any(|(object, place)| object.hard_blockers(place).any(|holder| !parties.contains(&holder)))
    }

    /// Other sessions that wait for these parties directly.
    pub(super) fn directly_behind(&self, parties: &[PartyId]) -> usize {
        self.objects_of(parties).map(|(_, object)| object.directly_behind(parties)).sum()
    }

    fn objects_of(&self, parties: &[PartyId]) -> impl Iterator<Item = &(LockTag, Object)> {
        let places: BTreeSet<usize> =
            parties.iter().filter_map(|party| self.objects_of.get(*party)).flatten().copied().collect();
        places.into_iter().filter_map(|place| self.objects.get(place))
    }
}

/// Gives parties their places.
struct Parties<'a> {
    list: Vec<Party>,
    places: HashMap<Party, PartyId>,
    of_pid: HashMap<i32, PartyId>,
    leaders: HashMap<i32, i32>,
    /// Which prepared transaction a holder without process is, by its virtual transaction.
    prepared: HashMap<&'a str, usize>,
}

impl<'a> Parties<'a> {
    fn new(rows: &'a [Lock], context: &Context<'_>) -> Self {
        let named: HashMap<i32, i32> = context
            .sessions
            .iter()
            .filter(|session| !session.is_apply_worker())
            .filter_map(|session| Some((session.id.pid, session.leader_pid?)))
            .collect();
        // A leader has no leader; rows that say otherwise must not split one process into two parties.
        let leaders =
            named.iter().filter(|(_, leader)| !named.contains_key(leader)).map(|(a, b)| (*a, *b)).collect();
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
        Self { list: Vec::new(), places: HashMap::default(), of_pid: HashMap::default(), leaders, prepared }
    }

    fn of(&mut self, row: &Lock) -> PartyId {
        match (row.pid, self.prepared.get(&*row.virtualtransaction)) {
            (Some(pid), _) => self.of_process(pid),
            (None, Some(place)) => self.place(Party::Prepared(*place)),
            (None, None) => self.place(Party::Unknown(row.virtualtransaction.to_string())),
        }
    }

    fn of_process(&mut self, pid: i32) -> PartyId {
        if let Some(party) = self.of_pid.get(&pid) {
            return *party;
        }
        let leader = self.leaders.get(&pid).copied().unwrap_or(pid);
        let party = self.place(Party::Session(leader));
        self.of_pid.insert(pid, party);
        self.of_pid.entry(leader).or_insert(party);
        party
    }

    fn place(&mut self, party: Party) -> PartyId {
        *self.places.entry(party.clone()).or_insert_with(|| {
            self.list.push(party);
            self.list.len() - 1
        })
    }
}
