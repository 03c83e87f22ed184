//! A crowd of any size as samples, without a server.

use std::sync::Arc;

use dbtriage::model::postgres::{LockTable, Oid, Session, State, Statements};
use dbtriage::model::{Body, Reading};

use crate::moment;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Queue,
    Chain,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) sessions: i32,
    pub(crate) waiters: i32,
    pub(crate) shape: Shape,
    pub(crate) databases: Oid,
    pub(crate) relations: Oid,
    pub(crate) statements: i64,
}

impl Crowd {
    /// What is read of it at a second.
    pub(crate) fn sample(self, second: i64) -> Body {
        let mut sample = moment::postgres(second, false);
        let statement = "x".repeat(1000);
        let sessions = (0..self.sessions).map(|n| self.session(second, n, &statement)).collect();
        let mut names = moment::names();
        names.databases.extend((0..self.databases).map(|n| (1000 + n, format!("tenant_{n}").into())));
        names.relations.extend((0..self.relations).map(|n| (100 + n, format!("partition_{n}").into())));
        let counters = sample.databases.value().unwrap()[0].clone();
        let of = |n| dbtriage::model::postgres::DatabaseCounters { datid: 1000 + n, ..counters.clone() };
        sample.databases = Reading::Fresh((0..self.databases).map(of).collect());
        sample.names = Arc::new(names);
        sample.sessions = Reading::Fresh(sessions);
        sample.locks = Reading::Fresh(Arc::new(self.locks(second)));
        if 0 < self.statements {
            sample.statements = Reading::Fresh(Arc::new(self.counters(second)));
        }
        Body::Postgres(Arc::new(sample))
    }

    fn session(self, second: i64, n: i32, statement: &str) -> Session {
        let waits = 0 < n && n <= self.waiters;
        let state = match n {
            0 => State::IdleInTransaction,
            _ if waits => State::Active,
            _ => State::Idle,
        };
        let age = 600 - i64::from(n % 600) + second;
        let mut session = moment::session(moment::at(second), 20_000 + n, "web", state, age, statement);
        session.datid = Some(1000 + n.unsigned_abs() % self.databases);
        if waits {
            session.wait_event_type = Some("Lock".into());
            session.wait_event = Some("relation".into());
        }
        session
    }

    /// Every statement runs all the time.
    #[expect(clippy::cast_precision_loss, reason = "a second of a test")]
    fn counters(self, second: i64) -> Statements {
        let row = |n: i64| moment::statement(n, 1000 + second * (1 + n % 7), 41_000.1 + second as f64);
        Statements { rows: (0..self.statements).map(row).collect(), ..Statements::empty(moment::at(second)) }
    }

    fn locks(self, second: i64) -> LockTable {
        let xid = |n: i32| moment::tag("transactionid", None, Some(n.unsigned_abs() + 1));
        let table = |n: Oid| moment::tag("relation", Some(100 + n), None);
        let mut rows = vec![moment::lock(20_000, &xid(0), "ExclusiveLock", None)];
        rows.extend(
            (0..self.relations).map(|n| moment::lock(20_000, &table(n), "AccessExclusiveLock", None)),
        );
        for n in 1..=self.waiters {
            let since = moment::ago(moment::at(second), 600 - i64::from(n) / 10);
            match self.shape {
                Shape::Queue => rows.push(moment::lock(20_000 + n, &table(0), "AccessExclusiveLock", since)),
                Shape::Chain => rows.extend([
                    moment::lock(20_000 + n, &xid(n), "ExclusiveLock", None),
                    moment::lock(20_000 + n, &xid(n - 1), "ShareLock", since),
                ]),
            }
        }
        LockTable { rows, safe_snapshot_waits: Vec::new() }
    }
}
