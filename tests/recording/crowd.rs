//! A busy server: five hundred sessions, of which some or all change every second, and two hundred statements.

use std::sync::Arc;

use dbtriage::model::postgres::{
    LockTable, Sample as PgSample, Session, State, Statement, StatementKey, Statements,
};
use dbtriage::model::{Body, Reading, Sample, TargetId};
use jiff::{SignedDuration, Timestamp};

use crate::moment;

const SESSIONS: u64 = 500;
const STATEMENTS: u64 = 200;
/// Statements that move between two readings.
const MOVING: u64 = 60;
/// What of a statement's values is written into its text; the rest are parameters.
const LITERALS: u64 = 3;
/// Every so many seconds an idle session does something: sixty of 450 every second.
const IDLE_FOR: u64 = 8;

/// The same numbers in every run.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// A number below so many (`splitmix64`).
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

const WORDS: [&str; 24] = [
    "orders",
    "customers",
    "created_at",
    "invoice_lines",
    "status",
    "tenant_id",
    "warehouse",
    "quantity",
    "reports",
    "owner",
    "updated_at",
    "shipments",
    "price_cents",
    "currency",
    "sessions",
    "token",
    "events",
    "payload",
    "accounts",
    "email",
    "deleted_at",
    "region",
    "carrier",
    "parent_id",
];

const WAITS: [Option<(&str, &str)>; 8] = [
    None,
    None,
    None,
    Some(("IO", "DataFileRead")),
    Some(("IO", "WALSync")),
    Some(("LWLock", "WALWrite")),
    Some(("LWLock", "BufferContent")),
    Some(("Client", "ClientWrite")),
];

/// One of two hundred statements, of 100 to 1000 bytes, and the literals of one execution.
fn query(statement: u64, execution: u64) -> Arc<str> {
    let (mut shape, mut value) = (Chance(statement), Chance(execution));
    let length = 100 + usize::try_from(shape.below(850)).unwrap();
    let mut text = String::from("SELECT");
    let mut parameters = 0;
    while text.len() < length {
        let (table, column) = (shape.of(&WORDS), shape.of(&WORDS));
        match shape.below(5) {
            0 | 1 if parameters < LITERALS => {
                text += &if shape.below(3) == 0 {
                    format!(" {table}.{column} = '{:016x}' AND", value.below(u64::MAX))
                } else {
                    format!(" {table}.{column} = {} AND", value.below(10_000_000))
                };
                parameters += 1;
            }
            0 | 1 => {
                parameters += 1;
                text += &format!(" {table}.{column} = ${parameters} AND");
            }
            2 => text += &format!(" JOIN {table} ON {table}.id = {column}.{table}_id AND"),
            _ => text += &format!(" {table}.{column},"),
        }
    }
    text.into()
}

/// The server, second by second.
#[derive(Debug)]
pub(crate) struct Crowd {
    active: u64,
    chance: Chance,
    sessions: Vec<Session>,
    rows: Vec<Statement>,
    base: PgSample,
    second: u64,
}

fn at(second: u64) -> Timestamp {
    moment::at(i64::try_from(second).unwrap())
}

impl Crowd {
    /// So many of the sessions are active.
    pub(crate) fn new(active: u64) -> Self {
        let mut base = moment::postgres(0, false);
        let key = |queryid: u64| StatementKey {
            userid: 10,
            dbid: 5,
            toplevel: true,
            queryid: i64::from_ne_bytes(Chance(queryid).below(u64::MAX).to_ne_bytes()),
        };
        let row =
            |n| Statement { key: key(n), ..moment::statement(0, 1000 + i64::try_from(n).unwrap(), 41_000.1) };
        base.statement_texts = Arc::new((0..STATEMENTS).map(|n| (key(n), query(n, 0))).collect());
        let mut crowd = Self {
            active,
            chance: Chance(42),
            sessions: Vec::new(),
            rows: (0..STATEMENTS).map(row).collect(),
            base,
            second: 0,
        };
        crowd.sessions = (0..SESSIONS).map(|n| crowd.session(n)).collect();
        crowd
    }

    /// A session that has just begun a statement, or ended one.
    fn session(&mut self, n: u64) -> Session {
        let chance = &mut self.chance;
        let mut before = |most: u64| {
            let micros = i64::try_from(chance.below(most)).unwrap();
            at(self.second).checked_sub(SignedDuration::from_micros(micros)).unwrap()
        };
        let (xact, start, changed_at) = (before(3_000_000), before(900_000), before(900_000));
        let is_active = n < self.active;
        let state = if is_active { State::Active } else { State::Idle };
        let statement = self.chance.below(STATEMENTS);
        let execution = self.chance.below(u64::MAX);
        let wait = if is_active { self.chance.of(&WAITS) } else { Some(("Client", "ClientRead")) };
        let pid = 20_000 + i32::try_from(n).unwrap();
        Session {
            xact_start: is_active.then_some(xact),
            query_start: Some(start),
            state_change: Some(changed_at),
            wait_event_type: wait.map(|(class, _)| class.into()),
            wait_event: wait.map(|(_, event)| event.into()),
            backend_xmin: is_active.then_some(770_000 + u32::try_from(self.second).unwrap()),
            query_id: Some(i64::try_from(statement).unwrap()),
            query: query(statement, execution),
            ..moment::session(at(self.second), pid, "web", state, 0, "")
        }
    }

    /// The next second.
    pub(crate) fn sample(&mut self) -> Sample {
        let second = self.second;
        for n in 0..SESSIONS {
            let is_due = n < self.active || (n - self.active) / 60 == second % IDLE_FOR;
            if is_due {
                self.sessions[usize::try_from(n).unwrap()] = self.session(n);
            }
        }
        if second.is_multiple_of(2) {
            let from = self.chance.below(STATEMENTS);
            for n in 0..MOVING {
                let calls = i64::try_from(self.chance.below(400)).unwrap();
                let ms = f64::from(u32::try_from(self.chance.below(90_000_000)).unwrap()) / 7919.0;
                let row = &mut self.rows[usize::try_from((from + 3 * n) % STATEMENTS).unwrap()];
                row.calls += calls;
                row.total_exec_ms += ms;
                row.rows += 3 * calls;
                row.shared_blks_hit += 90 * calls;
                row.stddev_exec_ms = ms / 9.0;
            }
            self.base.statements = Reading::Fresh(Arc::new(Statements {
                read_at: at(second),
                extension_version: "1.10".into(),
                rows: self.rows.clone(),
                hidden_rows: 0,
                dealloc: Some(0),
                stats_reset: None,
            }));
        }
        let moved = moment::postgres(i64::try_from(second).unwrap(), false);
        let body = PgSample {
            server_time: at(second),
            sessions: Reading::Fresh(self.sessions.clone()),
            locks: Reading::Fresh(Arc::new(LockTable::default())),
            databases: moved.databases,
            wal: moved.wal,
            senders: moved.senders,
            slots: moved.slots,
            ..self.base.clone()
        };
        self.second += 1;
        let (asked_at, taken_at) = (at(second), at(second));
        Sample { target: TargetId(0), asked_at, taken_at, body: Body::Postgres(Arc::new(body)) }
    }
}
