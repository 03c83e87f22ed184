//! From the wait graph to the forest that is shown: circles become one node, every waiter stands once, and each
//! node knows how many wait behind it.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Party};
use super::queue::PartyId;
use super::{Context, Forest, Node, NodeKind, RootSituation, WaitsFor, describe};
use crate::format;
use crate::model::postgres::{Session, State};

/// Builds the forest of a graph.
pub(super) fn grow(graph: Graph, context: &Context<'_>) -> Forest {
    let edges = Edges::of(&graph);
    let components = strongly_connected(&edges.blockers);
    let mut nodes: Vec<Node> =
        components.members.iter().map(|members| node(members, &graph, context)).collect();
    let reach = Reach::of(&components, &edges);
    for (place, node) in nodes.iter_mut().enumerate() {
        let pids = reach.pids_behind(place, &components, &edges);
        let waits: Vec<f64> = pids.iter().filter_map(|pid| wait_seconds(*pid, &graph, context)).collect();
        node.behind = pids.len();
        node.behind_directly =
            components.members.get(place).map_or(0, |members| graph.directly_behind(members));
        node.longest_wait_seconds = waits.iter().copied().max_by(f64::total_cmp);
        node.summed_wait_seconds = waits.iter().sum();
    }
    let roots = hang_up(&mut nodes, &components, &edges, &graph);
    Forest {
        blocked_sessions: graph.waits.len(),
        queue_is_exact: context.queue_is_exact,
        nodes,
        roots,
        graph,
    }
}

/// Who waits for whom, by party. A party waits with each of its processes that waits.
struct Edges {
    /// For each party: the parties it waits for.
    blockers: Vec<Vec<PartyId>>,
    /// For each party: its waiting processes.
    waiting: Vec<Vec<i32>>,
}

impl Edges {
    fn of(graph: &Graph) -> Self {
        let mut edges = Self {
            blockers: vec![Vec::new(); graph.parties.len()],
            waiting: vec![Vec::new(); graph.parties.len()],
        };
        for pid in graph.waits.keys() {
            let Some((object, position)) = graph.waiting(*pid) else { continue };
            let Some(party) = object.waiters.get(position).map(|waiter| waiter.party) else { continue };
            if let Some(list) = edges.blockers.get_mut(party) {
                list.extend(graph.nearest_blockers(*pid));
            }
            if let Some(list) = edges.waiting.get_mut(party) {
                list.push(*pid);
            }
        }
        edges
    }
}

struct Components {
    /// Parties of each component.
    members: Vec<Vec<PartyId>>,
    /// Component of each party. Components are numbered so that one waits only for those with a lower number.
    of: Vec<usize>,
}

/// Tarjan's algorithm without recursion: a queue of thousands must not overflow the stack.
fn strongly_connected(edges: &[Vec<PartyId>]) -> Components {
    const UNSEEN: usize = usize::MAX;
    let count = edges.len();
    let (mut index, mut low, mut of) = (vec![UNSEEN; count], vec![0; count], vec![UNSEEN; count]);
    let (mut members, mut stack, mut next) = (Vec::new(), Vec::new(), 0);
    for start in 0..count {
        if get(&index, start) != UNSEEN {
            continue;
        }
        let mut calls = vec![(start, 0)];
        while let Some((party, edge)) = calls.pop() {
            if edge == 0 {
                set(&mut index, party, next);
                set(&mut low, party, next);
                next += 1;
                stack.push(party);
            }
            if let Some(blocker) = edges.get(party).and_then(|list| list.get(edge)).copied() {
                calls.push((party, edge + 1));
                if get(&index, blocker) == UNSEEN {
                    calls.push((blocker, 0));
                } else if get(&of, blocker) == UNSEEN {
                    let lowest = get(&low, party).min(get(&index, blocker));
                    set(&mut low, party, lowest);
                }
            } else {
                if get(&low, party) == get(&index, party) {
                    let mut component = Vec::new();
                    while let Some(member) = stack.pop() {
                        set(&mut of, member, members.len());
                        component.push(member);
                        if member == party {
                            break;
                        }
                    }
                    component.sort_unstable();
                    members.push(component);
                }
                if let Some((caller, _)) = calls.last() {
                    let lowest = get(&low, *caller).min(get(&low, party));
                    set(&mut low, *caller, lowest);
                }
            }
        }
    }
    Components { members, of }
}

fn get(list: &[usize], place: usize) -> usize {
    list.get(place).copied().unwrap_or(usize::MAX)
}

fn set(list: &mut [usize], place: usize, value: usize) {
    if let Some(slot) = list.get_mut(place) {
        *slot = value;
    }
}

/// For each component, the set of components that wait for it, directly or through others.
struct Reach {
    words: usize,
    behind: Vec<Vec<u64>>,
}

impl Reach {
    fn of(components: &Components, edges: &Edges) -> Self {
        let count = components.members.len();
        let words = count.div_ceil(64);
        let mut directly: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); count];
        for (waiter, blockers) in edges.blockers.iter().enumerate() {
            let from = get(&components.of, waiter);
            for to in blockers.iter().map(|blocker| get(&components.of, *blocker)).filter(|to| *to != from) {
                if let Some(set) = directly.get_mut(to) {
                    set.insert(from);
                }
            }
        }
        // A waiter has a higher number than what it waits for: from the top down every set is complete when used.
        let mut behind: Vec<Vec<u64>> = vec![Vec::new(); count];
        for place in (0..count).rev() {
            let mut bits = vec![0_u64; words];
            for waiter in directly.get(place).into_iter().flatten() {
                if let Some(word) = bits.get_mut(waiter / 64) {
                    *word |= 1 << (waiter % 64);
                }
                for (word, more) in bits.iter_mut().zip(behind.get(*waiter).into_iter().flatten()) {
                    *word |= more;
                }
            }
            if let Some(slot) = behind.get_mut(place) {
                *slot = bits;
            }
        }
        Self { words, behind }
    }

    fn components_behind(&self, place: usize) -> impl Iterator<Item = usize> + '_ {
        let bits = self.behind.get(place);
        (0..self.words * 64).filter(move |bit| {
            bits.and_then(|bits| bits.get(bit / 64)).is_some_and(|word| word & (1 << (bit % 64)) != 0)
        })
    }

    /// The processes that wait behind a component, directly or through others.
    fn pids_behind(&self, place: usize, components: &Components, edges: &Edges) -> Vec<i32> {
        let parties =
            self.components_behind(place).filter_map(|component| components.members.get(component)).flatten();
        parties.filter_map(|party| edges.waiting.get(*party)).flatten().copied().collect()
    }
}

/// Age of a wait: by the lock table where it says (14 and later), else since the statement began.
fn wait_seconds(pid: i32, graph: &Graph, context: &Context<'_>) -> Option<f64> {
    let (object, position) = graph.waiting(pid)?;
    let since = object.waiters.get(position)?.since;
    let began = || {
        graph
            .session(pid, context)
            .filter(|_| !context.queue_is_exact)
            .and_then(|session| session.query_start)
    };
    let since = since.or_else(began);
    since.map(|since| format::seconds_between(since, context.now).max(0.0))
}

fn node(members: &[PartyId], graph: &Graph, context: &Context<'_>) -> Node {
    let frees_now = graph.frees(members);
    if members.len() > 1 {
        let members: Vec<i32> = members.iter().map(|party| graph.pid_of(*party)).collect();
        return Node { kind: NodeKind::Deadlock, members, frees_now, ..Node::default() };
    }
    let Some((party, identity)) =
        members.first().and_then(|party| Some((*party, graph.parties.get(*party)?)))
    else {
        return Node::default();
    };
    match identity {
        Party::Session(pid) => session_node(*pid, party, frees_now, graph, context),
        Party::Prepared(place) => {
            let prepared = context.prepared.get(*place);
            Node {
                kind: NodeKind::Prepared,
                gid: prepared.map(|it| it.gid.to_string()),
                database: prepared.map(|it| context.names.database(it.database).to_string()),
                frees_now,
                description: prepared.map_or_else(String::new, |it| {
                    format!("prepared {} ago", format::age_at(it.prepared, context.now))
                }),
                ..Node::default()
            }
        }
        Party::Unknown(_) => Node { kind: NodeKind::Unknown, frees_now, ..Node::default() },
    }
}

fn session_node(pid: i32, party: PartyId, frees_now: usize, graph: &Graph, context: &Context<'_>) -> Node {
    // A parallel group waits where one of its processes waits; the leader first.
    let of_party = |(pid, _): &(&i32, &(usize, usize))| {
        graph
            .waiting(**pid)
            .and_then(|(object, place)| object.waiters.get(place))
            .is_some_and(|waiter| waiter.party == party)
    };
    let waiting = if graph.waits.contains_key(&pid) {
        Some(pid)
    } else {
        graph.waits.iter().find(of_party).map(|(pid, _)| *pid)
    };
    let waits_for = waiting.and_then(|waiting| {
        let tag = graph.tag(waiting)?.clone();
        let (object, position) = graph.waiting(waiting)?;
        let held_by: BTreeSet<i32> =
            object.hard_blockers(position).map(|party| graph.pid_of(party)).collect();
        let mode = graph.wanted_modes.get(&waiting)?.clone();
        Some(WaitsFor {
            object: describe(&tag, context.names),
            tag,
            mode,
            held_by: held_by.into_iter().collect(),
        })
    });
    let session = graph.session(pid, context);
    Node {
        kind: if session.is_some() { NodeKind::Session } else { NodeKind::Unknown },
        pid: Some(pid),
        wait_seconds: waiting.and_then(|waiting| wait_seconds(waiting, graph, context)),
        waits_for,
        frees_now,
        description: session.map(|session| description(session, context)).unwrap_or_default(),
        situation: session.map_or(RootSituation::Unknown, situation),
        ..Node::default()
    }
}

/// `reports-worker, idle in transaction 8m12s`.
fn description(session: &Session, context: &Context<'_>) -> String {
    let who = match (&*session.application_name, session.usesysid) {
        ("", Some(role)) => context.names.role(role).to_string(),
        ("", None) => session.backend_type.as_deref().unwrap_or_default().to_owned(),
        (name, _) => name.to_owned(),
    };
    let Some(state) = session.state else { return who };
    let since = if state == State::Active { session.query_start } else { session.state_change };
    let age = since.map(|since| format!(" {}", format::age_at(since, context.now))).unwrap_or_default();
    format!("{who}, {}{age}", state.as_str())
}

fn situation(session: &Session) -> RootSituation {
    let kind = session.backend_type.as_deref();
    if kind == Some("autovacuum worker") {
        let wraparound = session.query.contains("(to prevent wraparound)");
        return if wraparound { RootSituation::AutovacuumWraparound } else { RootSituation::Autovacuum };
    }
    if !session.is_client() {
        return RootSituation::Background;
    }
    match session.state {
        Some(state) if state.is_idle_in_transaction() => RootSituation::IdleInTransaction,
        Some(State::Idle) => RootSituation::Idle,
        Some(_) if session.wait_event.as_deref() == Some("SyncRep") => RootSituation::SyncRep,
        Some(_) => RootSituation::Active,
        None => RootSituation::Unknown,
    }
}

/// Puts every waiter under one of those it waits for and returns the roots, worst first.
fn hang_up(nodes: &mut [Node], components: &Components, edges: &Edges, graph: &Graph) -> Vec<usize> {
    let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut roots = Vec::new();
    for (place, members) in components.members.iter().enumerate() {
        let waiting = members.iter().filter_map(|party| edges.waiting.get(*party)).flatten().copied();
        let parent = waiting.clone().find_map(|pid| parent(pid, place, graph, components));
        let blockers = waiting.flat_map(|pid| graph.blockers(pid));
        let outside: BTreeSet<usize> =
            blockers.map(|party| get(&components.of, party)).filter(|other| *other != place).collect();
        match parent.or_else(|| outside.first().copied()) {
            Some(parent) => {
                let others = outside
                    .iter()
                    .filter(|other| **other != parent)
                    .filter_map(|other| components.members.get(*other));
                let mut also: Vec<i32> = others.flatten().map(|party| graph.pid_of(*party)).collect();
                also.sort_unstable();
                if let Some(node) = nodes.get_mut(place) {
                    node.also_behind = also;
                }
                children.entry(parent).or_default().push(place);
            }
            None => roots.push(place),
        }
    }
    for (parent, mut places) in children {
        let wait =
            |place: &usize| nodes.get(*place).map(|node| (node.wait_seconds.unwrap_or_default(), node.pid));
        places.sort_by(|a, b| {
            let ((a_wait, a_pid), (b_wait, b_pid)) =
                (wait(a).unwrap_or_default(), wait(b).unwrap_or_default());
            b_wait.total_cmp(&a_wait).then(a_pid.cmp(&b_pid))
        });
        if let Some(node) = nodes.get_mut(parent) {
            node.children = places;
        }
    }
    // A holder whom nobody waits for is in the table by accident of a shared object, not a root.
    roots.retain(|place| {
        nodes.get(*place).is_some_and(|node| node.behind > 0 || node.kind == NodeKind::Deadlock)
    });
    roots.sort_by(|a, b| {
        let key = |place: &usize| nodes.get(*place);
        let (Some(a), Some(b)) = (key(a), key(b)) else { return std::cmp::Ordering::Equal };
        let longest = |node: &Node| node.longest_wait_seconds.unwrap_or_default();
        b.behind
            .cmp(&a.behind)
            .then(b.summed_wait_seconds.total_cmp(&a.summed_wait_seconds))
            .then(longest(b).total_cmp(&longest(a)))
            .then(a.pid.cmp(&b.pid))
    });
    roots
}

/// A holder of the lock, the lowest process first; where nobody holds it in a conflicting mode, the nearest
/// before it in the queue.
fn parent(pid: i32, own: usize, graph: &Graph, components: &Components) -> Option<usize> {
    let (object, position) = graph.waiting(pid)?;
    let outside = |party: PartyId| Some(get(&components.of, party)).filter(|component| *component != own);
    let mut holders: Vec<PartyId> =
        object.hard_blockers(position).filter(|party| outside(*party).is_some()).collect();
    holders.sort_by_key(|party| graph.pid_of(*party));
    let holder = holders.first().copied().and_then(outside);
    holder.or_else(|| object.soft_blockers(position).rev().find_map(|ahead| outside(ahead.party)))
}
