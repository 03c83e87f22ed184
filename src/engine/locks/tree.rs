//! From the wait graph to the forest that is shown: circles become one node, every waiter stands once, and each
//! node knows how many wait behind it. Thousands in one queue must cost no more than a few milliseconds.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;

use super::graph::{Graph, Party};
use super::queue::PartyId;
use super::{Context, Forest, Node, NodeKind, RootSituation, WaitsFor, describe};
use crate::format;
use crate::model::postgres::{Session, State};

/// Builds the forest of a graph.
pub(super) fn grow(graph: Graph, context: &Context<'_>) -> Forest {
    let edges = edges(&graph);
    let components = strongly_connected(&edges);
    let objects: Vec<Arc<str>> =
        graph.objects.iter().map(|(tag, _)| describe(tag, context.names).into()).collect();
    let mut nodes: Vec<Node> =
        components.members.iter().map(|members| node(members, &graph, &objects, context)).collect();
    let waits = components.waits(&graph, context);
    for (place, (node, behind)) in nodes.iter_mut().zip(behind(&components, &edges, &waits)).enumerate() {
        node.behind = behind.sessions;
        // A parallel group may wait for several objects, and be freed of each.
        node.frees_now = node.frees_now.min(behind.sessions);
        // Those in a deadlock wait too, for each other.
        let own = waits.get(place).filter(|_| node.kind == NodeKind::Deadlock);
        let own_longest = own.and_then(|own| own.longest_seconds);
        node.longest_wait_seconds = behind.longest_seconds.into_iter().chain(own_longest).reduce(f64::max);
        node.summed_wait_seconds = behind.summed_seconds;
        node.behind_directly =
            components.members.get(place).map_or(0, |members| graph.directly_behind(members));
    }
    let roots = hang_up(&mut nodes, &components, &graph);
    Forest {
        blocked_sessions: graph.waiting_of.iter().filter(|pids| !pids.is_empty()).count(),
        queue_is_exact: context.queue_is_exact,
        nodes,
        roots,
        node_of: components.of,
        graph,
    }
}

/// For each party, the parties it waits for: with each of its processes that waits.
type Edges = Vec<Vec<PartyId>>;

fn edges(graph: &Graph) -> Edges {
    (0..graph.parties.len()).map(|party| graph.nearest_blockers(party)).collect()
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

/// A set of components, one bit each.
type Bits = Vec<u64>;

/// For each component, what waits behind it, directly or through others.
fn behind(components: &Components, edges: &Edges, waits: &[Waits]) -> Vec<Waits> {
    let targets = components.targets(edges);
    if targets.iter().all(|targets| targets.len() <= 1) {
        // Queues, chains and trees: each waits for one only, and a sum is enough.
        let mut behind = vec![Waits::default(); targets.len()];
        // A waiter has a higher number than what it waits for: from the top down every sum is complete when used.
        for (place, targets) in targets.iter().enumerate().rev() {
            let own = waits.get(place).zip(behind.get(place)).map(|(own, behind)| own.with(*behind));
            if let Some((slot, own)) = targets.first().and_then(|target| behind.get_mut(*target)).zip(own) {
                *slot = slot.with(own);
            }
        }
        return behind;
    }
    // Those who hold the same thing beside each other have the same crowd behind them.
    let mut known: HashMap<Bits, Waits> = HashMap::default();
    let of_set = |behind: Bits| *known.entry(behind).or_insert_with_key(|behind| waits_behind(behind, waits));
    reach(&targets).into_iter().map(of_set).collect()
}

/// For each component, the set of components that wait for it, directly or through others.
fn reach(targets: &[Vec<usize>]) -> Vec<Bits> {
    let count = targets.len();
    let words = count.div_ceil(64);
    let mut behind: Vec<Bits> = vec![vec![0; words]; count];
    for (from, targets) in targets.iter().enumerate() {
        for to in targets {
            if let Some(word) = behind.get_mut(*to).and_then(|bits| bits.get_mut(from / 64)) {
                *word |= 1 << (from % 64);
            }
        }
    }
    // In a crowd nearly nobody has anybody behind.
    let mut is_empty: Vec<bool> = vec![true; count];
    // A waiter has a higher number than what it waits for: from the top down every set is complete when used.
    for place in (0..count).rev() {
        let (lower, complete) = behind.split_at_mut(place + 1);
        let Some(bits) = lower.last_mut() else { continue };
        let waiters: Vec<usize> =
            members(bits).filter(|waiter| !is_empty.get(*waiter).copied().unwrap_or(true)).collect();
        for more in waiters.iter().filter_map(|waiter| complete.get(waiter.checked_sub(place + 1)?)) {
            for (word, more) in bits.iter_mut().zip(more) {
                *word |= more;
            }
        }
        if let Some(slot) = is_empty.get_mut(place) {
            *slot = bits.iter().all(|word| *word == 0);
        }
    }
    behind
}

/// The components of a set.
fn members(bits: &[u64]) -> impl Iterator<Item = usize> {
    bits.iter().enumerate().flat_map(|(place, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros();
            rest &= rest.checked_sub(1)?;
            Some(place * 64 + bit as usize)
        })
    })
}

/// What waits: so many sessions, for so long.
#[derive(Debug, Clone, Copy, Default)]
struct Waits {
    sessions: usize,
    longest_seconds: Option<f64>,
    summed_seconds: f64,
}

impl Waits {
    fn with(self, other: Self) -> Self {
        let longest_seconds = match (self.longest_seconds, other.longest_seconds) {
            (Some(one), Some(two)) => Some(one.max(two)),
            (one, two) => one.or(two),
        };
        Self {
            sessions: self.sessions + other.sessions,
            longest_seconds,
            summed_seconds: self.summed_seconds + other.summed_seconds,
        }
    }
}

fn waits_behind(behind: &[u64], waits: &[Waits]) -> Waits {
    members(behind).filter_map(|place| waits.get(place)).copied().fold(Waits::default(), Waits::with)
}

impl Components {
    /// For each component, the others that it waits for, each once.
    fn targets(&self, edges: &Edges) -> Vec<Vec<usize>> {
        let mut targets: Vec<Vec<usize>> = vec![Vec::new(); self.members.len()];
        for (waiter, blockers) in edges.iter().enumerate() {
            let from = get(&self.of, waiter);
            let others = blockers.iter().map(|blocker| get(&self.of, *blocker)).filter(|to| *to != from);
            if let Some(list) = targets.get_mut(from) {
                list.extend(others);
            }
        }
        for list in &mut targets {
            list.sort_unstable();
            list.dedup();
        }
        targets
    }

    /// For each component, its own waits: one for each session of it that waits, however many of its processes do.
    fn waits(&self, graph: &Graph, context: &Context<'_>) -> Vec<Waits> {
        let of_party = |party: &PartyId| {
            let pids = graph.waiting_of.get(*party).into_iter().flatten();
            let seconds = pids.filter_map(|pid| wait_seconds(*pid, graph, context)).max_by(f64::total_cmp);
            Waits { sessions: 1, longest_seconds: seconds, summed_seconds: seconds.unwrap_or_default() }
        };
        let of_component = |parties: &Vec<PartyId>| {
            let waiting = parties.iter().filter(|party| !graph.is_idle(**party));
            waiting.map(of_party).fold(Waits::default(), Waits::with)
        };
        self.members.iter().map(of_component).collect()
    }
}

/// Age of a wait; `None` for the instant in which the server does not tell it yet.
fn wait_seconds(pid: i32, graph: &Graph, context: &Context<'_>) -> Option<f64> {
    let (object, position) = graph.waiting(pid)?;
    let since = object.waiters.get(position)?.since?;
    Some(format::seconds_between(since, context.now).max(0.0))
}

fn node(members: &[PartyId], graph: &Graph, objects: &[Arc<str>], context: &Context<'_>) -> Node {
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
        Party::Session(pid) => {
            let waits_for = |waiting| {
                let place = graph.object_of(waiting)?;
                Some(WaitsFor {
                    tag: graph.objects.get(place)?.0.clone(),
                    mode: Arc::clone(graph.wanted_modes.get(&waiting)?),
                    object: Arc::clone(objects.get(place)?),
                })
            };
            Node { frees_now, ..session_node(*pid, party, graph, waits_for, context) }
        }
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

fn session_node(
    pid: i32,
    party: PartyId,
    graph: &Graph,
    waits_for: impl Fn(i32) -> Option<WaitsFor>,
    context: &Context<'_>,
) -> Node {
    // A parallel group waits where one of its processes waits; the leader first.
    let group = graph.waiting_of.get(party);
    let waiting =
        group.and_then(|pids| pids.iter().copied().min_by_key(|waiting| (*waiting != pid, *waiting)));
    let session = graph.session(pid, context);
    Node {
        kind: if session.is_some() { NodeKind::Session } else { NodeKind::Unknown },
        pid: Some(pid),
        wait_seconds: waiting.and_then(|waiting| wait_seconds(waiting, graph, context)),
        waits_for: waiting.and_then(waits_for),
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
    match session.backend_type.as_deref() {
        Some("autovacuum worker") if session.query.contains("(to prevent wraparound)") => {
            return RootSituation::AutovacuumWraparound;
        }
        Some("autovacuum worker") => return RootSituation::Autovacuum,
        Some("startup") => return RootSituation::Startup,
        Some("walsender") => return RootSituation::Walsender,
        Some(_) | None if !session.is_client() => return RootSituation::Background,
        Some(_) | None => {}
    }
    match (session.state, session.wait_event.as_deref()) {
        (Some(state), _) if state.is_idle_in_transaction() => RootSituation::IdleInTransaction,
        (Some(State::Idle), _) => RootSituation::Idle,
        (Some(_), Some("SyncRep")) => RootSituation::SyncRep,
        (Some(_), Some("ClientRead")) => RootSituation::ClientRead,
        (Some(_), _) => RootSituation::Active,
        (None, _) => RootSituation::Unknown,
    }
}

/// Puts every waiter under one of those it waits for and returns the roots, worst first.
fn hang_up(nodes: &mut [Node], components: &Components, graph: &Graph) -> Vec<usize> {
    let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut roots = Vec::new();
    for (place, members) in components.members.iter().enumerate() {
        let mut waiting = members.iter().filter_map(|party| graph.waiting_of.get(*party)).flatten();
        match waiting.find_map(|pid| parent(*pid, place, graph, components)) {
            Some(parent) => {
                if let Some(node) = nodes.get_mut(place) {
                    node.parent = Some(parent);
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
    // One that waits for somebody who is not shown, such as ourselves, is a root too: nobody is lost. A holder whom
    // nobody waits for is in the table by accident of a shared object, not a root.
    roots.retain(|place| {
        nodes.get(*place).is_some_and(|node| {
            node.behind > 0 || node.waits_for.is_some() || node.kind == NodeKind::Deadlock
        })
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

/// A holder of the lock, the lowest process first; where nobody holds it in a conflicting mode, the nearest before it in
/// the queue who waits for a holder, else the first: so that a queue hangs side by side, however long it is.
fn parent(pid: i32, own: usize, graph: &Graph, components: &Components) -> Option<usize> {
    let (object, position) = graph.waiting(pid)?;
    let outside = |party: PartyId| Some(get(&components.of, party)).filter(|component| *component != own);
    let holders = object.hard_blockers(position).filter(|party| outside(*party).is_some());
    let holder = holders.min_by_key(|party| graph.pid_of(*party)).and_then(outside);
    let ahead = || object.queues_behind(position, |ahead| outside(ahead.party).is_some());
    holder.or_else(|| ahead().and_then(|ahead| outside(ahead.party)))
}
