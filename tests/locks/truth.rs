//! What the server says about who waits for whom, and whether a forest says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dbtriage::engine::PgTick;
use dbtriage::engine::locks::{Forest, Node, NodeKind};
use dbtriage_lab::Client;

use crate::server::{PATIENCE, Watch, forest};

/// For each process that waits: whom it waits for, each once.
pub(crate) type Blockers = BTreeMap<i32, BTreeSet<i32>>;

/// The table of the manual, "Explicit Locking", written down once more: each mode with those it conflicts with.
const CONFLICTS: [(&str, &[&str]); 8] = [
    ("AccessShare", &["AccessExclusive"]),
    ("RowShare", &["Exclusive", "AccessExclusive"]),
    ("RowExclusive", &["Share", "ShareRowExclusive", "Exclusive", "AccessExclusive"]),
    (
        "ShareUpdateExclusive",
        &["ShareUpdateExclusive", "Share", "ShareRowExclusive", "Exclusive", "AccessExclusive"],
    ),
    ("Share", &["RowExclusive", "ShareUpdateExclusive", "ShareRowExclusive", "Exclusive", "AccessExclusive"]),
    (
        "ShareRowExclusive",
        &[
            "RowExclusive",
            "ShareUpdateExclusive",
            "Share",
            "ShareRowExclusive",
            "Exclusive",
            "AccessExclusive",
        ],
    ),
    (
        "Exclusive",
        &[
            "RowShare",
            "RowExclusive",
            "ShareUpdateExclusive",
            "Share",
            "ShareRowExclusive",
            "Exclusive",
            "AccessExclusive",
        ],
    ),
    (
        "AccessExclusive",
        &[
            "AccessShare",
            "RowShare",
            "RowExclusive",
            "ShareUpdateExclusive",
            "Share",
            "ShareRowExclusive",
            "Exclusive",
            "AccessExclusive",
        ],
    ),
];

fn conflict(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|mode| mode.strip_suffix("Lock").unwrap());
    let (_, others) = CONFLICTS.iter().find(|(mode, _)| *mode == one).unwrap();
    others.contains(&other)
}

/// What `pg_blocking_pids` says of every process: 0 for a prepared transaction, the leader for a parallel worker.
pub(crate) fn blockers(client: &Client) -> Blockers {
    let sql = "SELECT pid, array_to_string(pg_blocking_pids(pid), ',') FROM pg_stat_get_activity(NULL)";
    let rows = client.rows(sql).unwrap().into_iter().map(|row| {
        let blockers = row[1].as_deref().unwrap_or_default().split(',').filter(|pid| !pid.is_empty());
        (number(row[0].as_deref()), blockers.map(|pid| pid.parse().unwrap()).collect::<BTreeSet<i32>>())
    });
    rows.filter(|(_, blockers)| !blockers.is_empty()).collect()
}

fn number(text: Option<&str>) -> i32 {
    text.unwrap().parse().unwrap()
}

/// What the server says and what the program says, while nothing moves.
pub(crate) fn at_rest(client: &Client, watch: &mut Watch) -> (Blockers, PgTick) {
    let started = Instant::now();
    loop {
        let before = blockers(client);
        let tick = watch.look(client);
        if blockers(client) == before {
            return (before, tick);
        }
        assert!(started.elapsed() < PATIENCE, "the server does not come to rest");
    }
}

/// One row of the lock table, as the second client reads it.
#[derive(Debug, Clone)]
struct Row {
    pid: i32,
    /// The leader of its parallel group, itself, or 0 for a prepared transaction.
    party: i32,
    object: String,
    mode: String,
    granted: bool,
    /// Since when it waits: 14 and later.
    since: Option<String>,
}

fn rows(client: &Client, major: u32) -> Vec<Row> {
    let since = if major >= 14 { "to_char(waitstart AT TIME ZONE 'UTC', 'HH24:MI:SS.US')" } else { "NULL" };
    let sql = format!(
        "SELECT coalesce(l.pid, 0), coalesce(a.leader_pid, l.pid, 0), \
         concat_ws('/', locktype, coalesce(database::text, '-'), coalesce(relation::regclass::text, '-'), \
         coalesce(page::text, '-'), coalesce(tuple::text, '-'), coalesce(virtualxid, '-'), \
         coalesce(transactionid::text, '-'), coalesce(classid::text, '-'), coalesce(objid::text, '-'), \
         coalesce(objsubid::text, '-')), mode, granted, {since} \
         FROM pg_lock_status() l LEFT JOIN pg_stat_get_activity(NULL) a ON a.pid = l.pid \
         WHERE mode <> 'SIReadLock' ORDER BY 3, 5 DESC, 6, 1"
    );
    let row = |row: Vec<Option<String>>| Row {
        pid: number(row[0].as_deref()),
        party: number(row[1].as_deref()),
        object: row[2].clone().unwrap(),
        mode: row[3].clone().unwrap(),
        granted: row[4].as_deref() == Some("t"),
        since: row[5].clone(),
    };
    client.rows(&sql).unwrap().into_iter().map(row).collect()
}

/// The parties with a row on the same object as this waiter, in a mode that conflicts with what it wants.
fn conflicting<'a>(rows: &'a [Row], waiter: &'a Row) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(|row| {
        row.object == waiter.object && row.party != waiter.party && conflict(&waiter.mode, &row.mode)
    })
}

/// How often each shape of a lock graph was there when it was compared.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Shapes {
    pub(crate) waiters: usize,
    pub(crate) hard: usize,
    pub(crate) soft: usize,
    /// Waiters that stand before one which came earlier.
    pub(crate) jumps: usize,
    pub(crate) prepared: usize,
    /// Waits for a lock that a parallel worker holds.
    pub(crate) workers: usize,
    /// Parallel workers that wait.
    pub(crate) waiting_workers: usize,
    pub(crate) deadlocks: usize,
}

impl Shapes {
    pub(crate) fn add(&mut self, other: Self) {
        self.waiters += other.waiters;
        self.hard += other.hard;
        self.soft += other.soft;
        self.jumps += other.jumps;
        self.prepared += other.prepared;
        self.workers += other.workers;
        self.waiting_workers += other.waiting_workers;
        self.deadlocks += other.deadlocks;
    }
}

/// Compares a forest with the server, session by session. `what` says which graph it is.
pub(crate) fn compare(what: &str, client: &Client, watch: &mut Watch, major: u32) -> Shapes {
    let (truth, tick) = at_rest(client, watch);
    let rows = rows(client, major);
    let forest = forest(&tick);
    assert_eq!(forest.queue_is_exact, major >= 14, "{what}");
    let sessions = tick.sample.sessions.value().unwrap().iter().map(|session| session.id.pid);
    let pids: BTreeSet<i32> = sessions.chain(truth.keys().copied()).collect();
    let mut wrong = Vec::new();
    for pid in pids {
        let server = truth.get(&pid).cloned().unwrap_or_default();
        let program: BTreeSet<i32> = forest.blocked_by(pid).into_iter().collect();
        let (hard, ahead) = edges(&rows, pid);
        assert!(hard.is_subset(&server), "{what}: this test misreads the lock table of {pid}");
        let is_right = if major >= 14 {
            program == server
        } else {
            // Where the order of a queue is not told, only who stands before whom may be guessed wrong.
            let possible: BTreeSet<i32> = hard.union(&ahead).copied().collect();
            hard.is_subset(&program)
                && program.is_subset(&possible)
                && program.is_empty() == server.is_empty()
        };
        if !is_right {
            wrong.push(format!(
                "{pid}: the server says {server:?}, the program {program:?}; held by {hard:?}"
            ));
        }
    }
    if major >= 14 {
        wrong.extend(wrongly_behind(&truth, &rows, forest));
    }
    let once = stands_once(forest, &rows);
    if !wrong.is_empty() || once.is_err() {
        let table: Vec<String> = rows.iter().filter(|row| of_interest(&rows, row)).map(line).collect();
        panic!("{what} on PostgreSQL {major}\n{}\n{once:?}\n{}", wrong.join("\n"), table.join("\n"));
    }
    shapes(&truth, &rows, forest)
}

/// For a process, or its parallel group: who holds what it waits for, and who waits for the same.
fn edges(rows: &[Row], pid: i32) -> (BTreeSet<i32>, BTreeSet<i32>) {
    let party = rows.iter().find(|row| row.pid == pid).map_or(pid, |row| row.party);
    let waits = rows.iter().filter(|row| row.party == party && party != 0 && !row.granted);
    let all: Vec<&Row> = waits.flat_map(|waiter| conflicting(rows, waiter)).collect();
    let parties =
        |granted: bool| all.iter().filter(|row| row.granted == granted).map(|row| row.party).collect();
    (parties(true), parties(false))
}

/// For each party that others wait for: where the program does not name all who wait behind it, or too many.
fn wrongly_behind(truth: &Blockers, rows: &[Row], forest: &Forest) -> Vec<String> {
    let leaders: BTreeMap<i32, i32> = rows.iter().map(|row| (row.pid, row.party)).collect();
    let leader = |pid: &i32| leaders.get(pid).copied().unwrap_or(*pid);
    let edges: BTreeSet<(i32, i32)> = truth
        .iter()
        .flat_map(|(waiter, blockers)| blockers.iter().map(move |blocker| (leader(waiter), *blocker)))
        .collect();
    let blocking: BTreeSet<i32> = edges.iter().map(|(_, blocker)| *blocker).filter(|pid| *pid != 0).collect();
    let mut wrong = Vec::new();
    for root in blocking {
        let mut behind = BTreeSet::from([root]);
        while let Some((waiter, _)) =
            edges.iter().find(|(waiter, blocker)| behind.contains(blocker) && !behind.contains(waiter))
        {
            behind.insert(*waiter);
        }
        behind.remove(&root);
        let mut seen: BTreeSet<i32> = forest.pids_behind(root).iter().map(leader).collect();
        // In a circle its own worker waits behind it.
        seen.remove(&root);
        if seen != behind {
            wrong.push(format!("behind {root} there wait {behind:?}, the program says {seen:?}"));
        }
    }
    wrong
}

/// That every waiting party stands in the forest once.
fn stands_once(forest: &Forest, rows: &[Row]) -> Result<(), String> {
    let mut seen: BTreeMap<i32, usize> = BTreeMap::new();
    let mut open: Vec<&Node> = forest.roots().collect();
    while let Some(node) = open.pop() {
        for pid in node.pid.into_iter().chain(node.members.iter().copied()) {
            let times = seen.entry(pid).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("{pid} stands in the forest twice"));
            }
        }
        open.extend(forest.children(node));
    }
    let waiting: BTreeSet<i32> = rows.iter().filter(|row| !row.granted).map(|row| row.party).collect();
    let missing: Vec<&i32> = waiting.iter().filter(|pid| !seen.contains_key(pid)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} do not stand in the forest")) }
}

fn of_interest(rows: &[Row], row: &Row) -> bool {
    rows.iter().any(|other| !other.granted && other.object == row.object)
}

fn line(row: &Row) -> String {
    let state = if row.granted { "holds" } else { "wants" };
    let since = row.since.as_deref().unwrap_or_default();
    format!("{} {state} {} of {} ({}) {since}", row.object, row.mode, row.pid, row.party)
}

fn shapes(truth: &Blockers, rows: &[Row], forest: &Forest) -> Shapes {
    let mut shapes = Shapes { waiters: truth.len(), ..Shapes::default() };
    for waiter in rows.iter().filter(|row| !row.granted) {
        let Some(blockers) = truth.get(&waiter.pid) else { continue };
        let (hard, _) = edges(rows, waiter.pid);
        shapes.hard += hard.len();
        shapes.soft += blockers.difference(&hard).count();
        shapes.prepared += usize::from(blockers.contains(&0));
        shapes.waiting_workers += usize::from(waiter.pid != waiter.party);
        let by_worker = |row: &Row| row.granted && row.pid != row.party;
        shapes.workers += usize::from(conflicting(rows, waiter).any(by_worker));
        let later = |row: &Row| !row.granted && row.since > waiter.since && blockers.contains(&row.party);
        shapes.jumps +=
            conflicting(rows, waiter).filter(|row| later(row) && !hard.contains(&row.party)).count();
    }
    let mut open: Vec<&Node> = forest.roots().collect();
    while let Some(node) = open.pop() {
        shapes.deadlocks += usize::from(node.kind == NodeKind::Deadlock);
        open.extend(forest.children(node));
    }
    shapes
}
