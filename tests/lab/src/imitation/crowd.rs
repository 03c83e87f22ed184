//! A crowd: more sessions, waiters, databases and relations than a machine of a test can hold, as the statements of a
//! tick see them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::wire::{
    Answer, BOOL, BYTEA, Cell, Column, INET, INT2, INT4, INT4_ARRAY, INT8, OID, PG_LSN, TEXT, TIMESTAMPTZ,
};

/// How the waiters of a crowd wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All of them for one table, one behind the other.
    Queue,
    /// Each for the transaction of the one before it.
    Chain,
}

/// How much of everything there is.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// Sessions of clients; the first of them is who all wait for.
    pub sessions: u32,
    /// How many of them wait.
    pub waiters: u32,
    /// How they wait.
    pub shape: Shape,
    /// Databases of the server.
    pub databases: u32,
    /// Relations that the first session has locked.
    pub relations: u32,
    /// The length of each session's statement, in bytes.
    pub statement_bytes: usize,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            sessions: 10,
            waiters: 0,
            shape: Shape::Queue,
            databases: 2,
            relations: 1,
            statement_bytes: 40,
        }
    }
}

/// The process id of the first session.
pub(super) const FIRST_PID: i32 = 20_000;
const FIRST_DATABASE: u32 = 5;
const FIRST_RELATION: u32 = 100_000;
const SECOND: i64 = 1_000_000;
/// From 1970 to 2000, where PostgreSQL's time begins.
const EPOCH: i64 = 946_684_800 * SECOND;

const LOCK_COLUMNS: [Column; 15] = [
    ("locktype", TEXT),
    ("database", OID),
    ("relation", OID),
    ("page", INT4),
    ("tuple", INT2),
    ("virtualxid", TEXT),
    ("transactionid", TEXT),
    ("classid", OID),
    ("objid", OID),
    ("objsubid", INT2),
    ("virtualtransaction", TEXT),
    ("pid", INT4),
    ("mode", TEXT),
    ("granted", BOOL),
    ("waitstart", TIMESTAMPTZ),
];

#[expect(clippy::disallowed_methods, reason = "a server knows the time")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or_default() - EPOCH
}

/// What a lock is on.
enum Object {
    Relation(u32),
    Transaction(i32),
}

/// When the server was started. It must be the same each time: an hour before the day began.
pub(super) fn started_at() -> Cell<'static> {
    let now = now();
    Cell::Time(now - now.rem_euclid(86_400 * SECOND) - 3600 * SECOND)
}

impl Crowd {
    /// What does not depend on the moment.
    pub(super) fn answers(&self) -> BTreeMap<&'static str, Answer> {
        let now = now();
        let empty_row = |columns: &[Column]| {
            let cells = vec![Cell::Null; columns.len()];
            Answer::one(columns, &cells)
        };
        let numbers =
            ["version_num", "max", "superuser", "reserved", "rds", "prepared"].map(|name| (name, INT4));
        let probe: Vec<Column> = std::iter::once(("version", TEXT)).chain(numbers).collect();
        let booleans = ["superuser", "reads", "signals", "reserved", "autovacuum"].map(|name| (name, BOOL));
        let rights: Vec<Column> = std::iter::once(("user", TEXT)).chain(booleans).collect();
        let wal = [
            ("current", PG_LSN),
            ("received", PG_LSN),
            ("replayed", PG_LSN),
            ("at", TIMESTAMPTZ),
            ("paused", BOOL),
        ];
        let receiver = [
            ("pid", INT4),
            ("status", TEXT),
            ("host", TEXT),
            ("port", INT4),
            ("at", TIMESTAMPTZ),
            ("end", PG_LSN),
        ];
        let max = i32::try_from(self.sessions).unwrap_or(i32::MAX).saturating_add(100);
        let settings = [
            Cell::Text("15.18"),
            Cell::Int4(150_018),
            Cell::Int4(max),
            Cell::Int4(3),
            Cell::Int4(0),
            Cell::Int4(0),
            Cell::Int4(20),
        ];
        let [no, yes] = [false, true].map(Cell::Bool);
        let may = [Cell::Text("oncall"), no, Cell::Bool(true), yes, Cell::Null, Cell::Null];
        let at = [Cell::Lsn(1 << 32), Cell::Null, Cell::Null, Cell::Null, Cell::Null];
        let roles = [("oid", OID), ("rolname", TEXT), ("rolsuper", BOOL)];
        BTreeMap::from([
            ("probe", Answer::one(&probe, &settings)),
            ("rights", Answer::one(&rights, &may)),
            ("activity", self.activity(now)),
            ("databases", self.counters()),
            ("databasenames", self.database_names()),
            ("wal", Answer::one(&wal, &at)),
            ("walreceiver", empty_row(&receiver)),
            ("roles", Answer::one(&roles, &[Cell::Oid(10), Cell::Text("shop_owner"), Cell::Bool(false)])),
            ("warm", Answer::one(&[("count", INT8)], &[Cell::Int8(1)])),
            ("locks", self.locks(now)),
            ("blockingpids", Answer::one(&[("pids", INT4_ARRAY)], &[Cell::Int4Array(FIRST_PID)])),
        ])
    }

    /// The server's time, that it is a primary, and since when it runs.
    pub(super) fn clock(&self) -> Answer {
        let columns = [("now", TIMESTAMPTZ), ("recovery", BOOL), ("started", TIMESTAMPTZ)];
        Answer::one(&columns, &[Cell::Time(now()), Cell::Bool(false), started_at()])
    }

    /// The names of relations that were asked for.
    pub(super) fn relation_names(&self, oids: &[u32]) -> Answer {
        let mut answer = Answer::of(&[("oid", OID), ("name", TEXT)]);
        for oid in oids {
            answer.push(&[Cell::Oid(*oid), Cell::Text(&format!("orders_of_a_long_past_partition_{oid}"))]);
        }
        answer
    }

    /// The locks of one process.
    pub(super) fn holdings(&self, pid: i32) -> Answer {
        let mut answer = Answer::of(&LOCK_COLUMNS);
        if pid == FIRST_PID {
            self.push_root_locks(&mut answer);
        }
        answer
    }

    fn activity(&self, now: i64) -> Answer {
        let columns = [
            ("pid", INT4),
            ("leader_pid", INT4),
            ("datid", OID),
            ("usesysid", OID),
            ("application_name", TEXT),
            ("client_addr", INET),
            ("client_port", INT4),
            ("backend_type", TEXT),
            ("state", TEXT),
            ("wait_event_type", TEXT),
            ("wait_event", TEXT),
            ("backend_start", TIMESTAMPTZ),
            ("xact_start", TIMESTAMPTZ),
            ("query_start", TIMESTAMPTZ),
            ("state_change", TIMESTAMPTZ),
            ("backend_xid", TEXT),
            ("backend_xmin", TEXT),
            ("query_id", INT8),
            ("query", BYTEA),
        ];
        let mut answer = Answer::of(&columns);
        for (number, pid) in (0..self.sessions).zip(FIRST_PID..) {
            let waits = 0 < number && number <= self.waiters;
            let (state, wait) = match number {
                0 => ("idle in transaction", [Cell::Text("Client"), Cell::Text("ClientRead")]),
                _ if waits => ("active", [Cell::Text("Lock"), Cell::Text(self.wait_event())]),
                _ => ("idle", [Cell::Text("Client"), Cell::Text("ClientRead")]),
            };
            let since = now - i64::from(600 - number % 600) * SECOND;
            let query = format!("SELECT {number} -- {}", "x".repeat(self.statement_bytes));
            let query = query.get(..self.statement_bytes).unwrap_or(&query);
            answer.push(&[
                Cell::Int4(pid),
                Cell::Null,
                Cell::Oid(FIRST_DATABASE + number % self.databases.max(1)),
                Cell::Oid(10),
                Cell::Text(
                    ["web", "reports", "billing", "search"].get(number as usize % 4).unwrap_or(&"web"),
                ),
                Cell::Inet([10, 0, u8::try_from(number / 250 % 250).unwrap_or_default(), 1]),
                Cell::Int4(pid),
                Cell::Text("client backend"),
                Cell::Text(state),
                wait[0],
                wait[1],
                Cell::Time(now - 3600 * SECOND),
                if state == "idle" { Cell::Null } else { Cell::Time(since) },
                Cell::Time(since),
                Cell::Time(since),
                Cell::Null,
                Cell::Null,
                Cell::Null,
                Cell::Text(query),
            ]);
        }
        answer
    }

    const fn wait_event(&self) -> &'static str {
        match self.shape {
            Shape::Queue => "relation",
            Shape::Chain => "transactionid",
        }
    }

    fn locks(&self, now: i64) -> Answer {
        let mut answer = Answer::of(&LOCK_COLUMNS);
        self.push_root_locks(&mut answer);
        for (number, pid) in (1..=self.waiters).zip(FIRST_PID + 1..) {
            // Who came later waits for less long.
            let since = now - 600 * SECOND + i64::from(number);
            match self.shape {
                Shape::Queue => {
                    let table = Object::Relation(FIRST_RELATION);
                    push_lock(&mut answer, pid, &table, "AccessExclusiveLock", Some(since));
                }
                Shape::Chain => {
                    push_lock(&mut answer, pid, &Object::Transaction(pid), "ExclusiveLock", None);
                    push_lock(&mut answer, pid, &Object::Transaction(pid - 1), "ShareLock", Some(since));
                }
            }
        }
        answer
    }

    fn push_root_locks(&self, answer: &mut Answer) {
        push_lock(answer, FIRST_PID, &Object::Transaction(FIRST_PID), "ExclusiveLock", None);
        for number in 0..self.relations {
            push_lock(
                answer,
                FIRST_PID,
                &Object::Relation(FIRST_RELATION + number),
                "AccessExclusiveLock",
                None,
            );
        }
    }

    fn counters(&self) -> Answer {
        let numbers = ["backends", "commits", "rollbacks", "read", "hit", "bytes", "files", "deadlocks"]
            .map(|it| (it, INT8));
        let columns: Vec<Column> = std::iter::once(("oid", OID))
            .chain(numbers)
            .chain(std::iter::once(("reset", TIMESTAMPTZ)))
            .collect();
        let mut answer = Answer::of(&columns);
        for number in 0..self.databases {
            let mut cells = vec![Cell::Oid(FIRST_DATABASE + number)];
            cells.extend([Cell::Int8(1000); 8]);
            cells.push(Cell::Null);
            answer.push(&cells);
        }
        answer
    }

    fn database_names(&self) -> Answer {
        let mut answer = Answer::of(&[("oid", OID), ("datname", TEXT), ("connected", BOOL)]);
        for number in 0..self.databases {
            let name = if number == 0 { "shop".to_owned() } else { format!("tenant_{number:05}") };
            answer.push(&[Cell::Oid(FIRST_DATABASE + number), Cell::Text(&name), Cell::Bool(number == 0)]);
        }
        answer
    }
}

fn push_lock(answer: &mut Answer, pid: i32, object: &Object, mode: &str, waits_since: Option<i64>) {
    let xid;
    let (kind, database, relation, transaction) = match object {
        Object::Relation(oid) => ("relation", Cell::Oid(FIRST_DATABASE), Cell::Oid(*oid), Cell::Null),
        Object::Transaction(number) => {
            xid = number.to_string();
            ("transactionid", Cell::Null, Cell::Null, Cell::Text(&xid))
        }
    };
    let virtual_transaction = format!("{pid}/1");
    answer.push(&[
        Cell::Text(kind),
        database,
        relation,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        transaction,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Text(&virtual_transaction),
        Cell::Int4(pid),
        Cell::Text(mode),
        Cell::Bool(waits_since.is_none()),
        waits_since.map_or(Cell::Null, Cell::Time),
    ]);
}
