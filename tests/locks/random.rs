//! Lock graphs by chance on real servers: session by session, the program says what the server says.

use dbtriage_lab::{Client, Running};

use crate::plan::{Kind, Plan, ROWS, Session};
use crate::server::{Stage, Watch, on_every_major, until};
use crate::truth::{Shapes, compare};

/// How many graphs are compared on the default version, and on each other.
const SEEDS: u64 = 20;
const SEEDS_ELSEWHERE: u64 = 5;

#[test]
fn random_lock_graphs_are_those_of_the_server() {
    on_every_major(|stage| {
        let client = stage.client();
        furnish(stage);
        let mut watch = Watch::start(stage.primary());
        let mut all = Shapes::default();
        let seeds = if stage.is_default() { SEEDS } else { SEEDS_ELSEWHERE };
        for seed in 0..seeds {
            let graph = Graph::build(stage, &client, seed);
            let shapes = compare(&format!("seed {seed}"), &client, &mut watch, stage.major);
            assert!(shapes.waiters >= 10, "seed {seed} on {} makes few wait: {shapes:?}", stage.major);
            all.add(shapes);
            drop(graph);
            stage.clear();
            client.execute("DROP INDEX IF EXISTS locks.built").unwrap();
        }
        assert_rich(stage, all);
    });
}

/// That the graphs held what makes lock graphs difficult.
fn assert_rich(stage: &Stage, all: Shapes) {
    let counts = [all.hard, all.soft, all.prepared, all.workers, all.waiting_workers, all.deadlocks];
    assert!(counts.iter().all(|count| *count > 0), "PostgreSQL {}: {all:?}", stage.major);
    // Only the start of a wait tells who came before its turn.
    assert_eq!(all.jumps > 0, stage.major >= 14, "PostgreSQL {}: {all:?}", stage.major);
}

/// The tables of the graphs, and a function that keeps a parallel worker busy.
fn furnish(stage: &Stage) {
    let parallel = if stage.major >= 16 { "debug_parallel_query" } else { "force_parallel_mode" };
    stage
        .session()
        .execute(&format!(
            "DROP SCHEMA IF EXISTS locks CASCADE; CREATE SCHEMA locks;
             CREATE TABLE locks.t1 (id int); CREATE TABLE locks.t2 (id int); CREATE TABLE locks.t3 (id int);
             CREATE TABLE locks.rows AS SELECT id, 0 AS value FROM generate_series(0, {ROWS}) id;
             CREATE TABLE locks.wide AS SELECT id, repeat('x', 2000) AS pad FROM generate_series(1, 200) id;
             CREATE FUNCTION locks.hold(statement text) RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS
             'BEGIN EXECUTE statement; PERFORM pg_sleep(600); RETURN 1; END';
             CREATE FUNCTION locks.in_parallel(forced text) RETURNS void LANGUAGE sql AS
             'SELECT set_config(name, value, false) FROM (VALUES (''{parallel}'', forced),
              (''parallel_setup_cost'', ''0''), (''parallel_tuple_cost'', ''0''),
              (''min_parallel_table_scan_size'', ''0''), (''max_parallel_workers_per_gather'', ''2''))
              AS settings (name, value)'"
        ))
        .unwrap();
}

/// What became of a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// It was granted at once.
    Granted,
    /// The server refused it: a deadlock.
    Refused,
    /// The session waits, or its workers hold what they asked for and go on.
    Underway,
}

/// The sessions of a lock graph. They hold and wait as long as it lives.
struct Graph {
    _sessions: Vec<Client>,
    _demands: Vec<Running>,
}

impl Graph {
    fn build(stage: &Stage, client: &Client, seed: u64) -> Self {
        let plan = Plan::of(seed);
        let sessions: Vec<Client> = plan.sessions.iter().map(|_| stage.session()).collect();
        for (place, planned) in plan.sessions.iter().enumerate() {
            take(&sessions[place], planned, &format!("locks {place}"));
        }
        let mut demands = Vec::new();
        for place in plan.order {
            let planned = &plan.sessions[place];
            for (turn, demand) in planned.demands.iter().enumerate() {
                let mark = format!("/* {place} {turn} */");
                let asker = Asker { client, session: &sessions[place], kind: planned.kind, mark };
                let (became, running) = asker.ask(demand, stage.major);
                if became == Became::Underway {
                    demands.push(running);
                    break;
                }
            }
        }
        Self { _sessions: sessions, _demands: demands }
    }
}

/// Brings a session to where it holds what it can have at once.
fn take(session: &Client, planned: &Session, gid: &str) {
    if let Kind::Parallel(workers) = planned.kind {
        // Forced for the one that has no table to scan; in the other, a sleep would be given a worker of its own.
        let forced = if workers == 1 { "on" } else { "off" };
        session.execute(&format!("SELECT locks.in_parallel('{forced}')")).unwrap();
    }
    // NOWAIT does not keep a row lock from waiting for a newer version of the row.
    session.execute("SET lock_timeout = '50ms'").unwrap();
    let in_transaction = !matches!(planned.kind, Kind::Idle | Kind::Builder);
    if in_transaction {
        session.execute("BEGIN").unwrap();
    }
    for hold in &planned.holds {
        if !in_transaction {
            session.execute(hold).unwrap();
        } else if session.execute(&format!("SAVEPOINT before; {hold}")).is_err() {
            session.execute("ROLLBACK TO before").unwrap();
        }
    }
    session.execute("SET lock_timeout = 0").unwrap();
    if planned.kind == Kind::Prepared {
        session.execute(&format!("PREPARE TRANSACTION '{gid}'")).unwrap();
    }
}

/// One demand of one session.
struct Asker<'a> {
    client: &'a Client,
    session: &'a Client,
    kind: Kind,
    /// Tells this demand from the one before.
    mark: String,
}

impl Asker<'_> {
    /// Makes the demand and waits until it is clear what becomes of it: so a queue has one order.
    fn ask(&self, demand: &str, major: u32) -> (Became, Running) {
        let mark = &self.mark;
        let running = if self.kind == Kind::Builder {
            self.session.spawn(&format!("{mark} {demand}"))
        } else {
            self.session.spawn(&format!("{mark} SAVEPOINT before; {demand}"))
        };
        let mut became = None;
        until(&format!("{mark} {demand}"), || {
            became = self.look(major);
            became.is_some()
        });
        let became = became.unwrap();
        if became == Became::Refused && self.kind != Kind::Builder {
            self.session.execute("ROLLBACK TO before").unwrap();
        }
        (became, running)
    }

    fn look(&self, major: u32) -> Option<Became> {
        let started = if major >= 14 { "AND waitstart IS NOT NULL" } else { "" };
        let pid = self.session.pid();
        let sql = format!(
            "WITH party AS MATERIALIZED (SELECT pid, state, wait_event, query FROM pg_stat_get_activity(NULL) \
             WHERE pid = {pid} OR leader_pid = {pid}), \
             waits AS MATERIALIZED (SELECT pid FROM pg_lock_status() WHERE NOT granted {started}) \
             SELECT (SELECT state FROM party WHERE pid = {pid} AND query LIKE '%{}%'), count(*), \
             count(*) FILTER (WHERE pid IN (SELECT pid FROM waits)), \
             count(*) FILTER (WHERE wait_event IN ('PgSleep', 'ExecuteGather')) FROM party",
            self.mark
        );
        let row = self.client.rows(&sql).unwrap().remove(0);
        let count = |place: usize| row[place].as_ref().unwrap().parse::<usize>().unwrap();
        let workers = if let Kind::Parallel(workers) = self.kind { workers } else { 0 };
        match row[0].as_deref()? {
            "idle in transaction (aborted)" => Some(Became::Refused),
            "idle" | "idle in transaction" => Some(Became::Granted),
            _ if count(1) == 1 + workers && count(2) + count(3) == count(1) => Some(Became::Underway),
            _ => None,
        }
    }
}
