//! What one tick asks and brings back: every statement in one pipeline, one round trip.
//!
//! It must not know how often a tick comes or what becomes of it.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::error::statement_reason;
use super::read;
use super::sql::{self, Extension};
use crate::model::postgres::{
    DatabaseCounters, Oid, Prepared, Rights, Sample, Server, Session, Slot, Statement, Wal, WalReceiver,
    WalSender,
};
use crate::model::{Reading, Reason};

/// What is asked once per connection and again when the server has restarted or was promoted.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) server: Arc<Server>,
    pub(super) rights: Arc<Rights>,
    /// Whether there can be prepared transactions at all; mostly not.
    pub(super) may_prepare: bool,
}

/// What one tick asks.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) major_num: u32,
    /// What is known of the server, which is asked for where it is not.
    pub(super) probed: Option<Probe>,
    pub(super) databases: Vec<Oid>,
    /// What was read before: most of the sessions are what they were.
    pub(super) before: Option<Arc<Sample>>,
    pub(super) extension: Option<Extension>,
    /// Whether the positions in the log are asked for one by one.
    pub(super) wal_apart: bool,
    /// The role, for the statement that would help.
    pub(super) user: String,
}

impl Plan {
    /// Whether prepared transactions are asked for: not where there can be none.
    fn prepared(&self) -> bool {
        self.probed.as_ref().is_none_or(|probed| probed.may_prepare)
    }

    /// Whether a walreceiver is asked for: not of a primary.
    fn receiver(&self) -> bool {
        self.probed.as_ref().is_none_or(|probed| probed.server.in_recovery)
    }

    /// The sessions as they were before; none at the beginning.
    fn sessions(&self) -> &[Session] {
        self.before.as_ref().and_then(|before| before.sessions.value()).map_or(&[], Vec::as_slice)
    }

    /// What is not asked for because there can be none: unless another server has answered than the one of which that is
    /// known, as a pooler's connection may lead to another one from one tick to the next.
    fn unasked<T>(&self, clock: &Clock, none: T) -> Reading<T> {
        let is_same = |probed: &Probe| {
            (probed.server.started_at, probed.server.in_recovery) == (clock.started_at, clock.in_recovery)
        };
        if self.probed.as_ref().is_some_and(is_same) {
            Reading::Fresh(none)
        } else {
            Reading::Unavailable(Reason::new("not asked for yet"))
        }
    }
}

/// What one tick brought back.
pub(super) struct Batch {
    pub(super) clock: Clock,
    pub(super) probe: Option<Probe>,
    pub(super) sessions: Reading<Vec<Session>>,
    pub(super) prepared: Reading<Vec<Prepared>>,
    pub(super) databases: Reading<Vec<DatabaseCounters>>,
    pub(super) statements: Option<StatementsRead>,
    pub(super) wal: Reading<Wal>,
    pub(super) senders: Reading<Vec<WalSender>>,
    pub(super) slots: Reading<Vec<Slot>>,
    pub(super) receiver: Reading<Option<WalReceiver>>,
}

#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Timestamp,
    pub(super) in_recovery: bool,
    pub(super) started_at: Timestamp,
}

pub(super) struct StatementsRead {
    pub(super) extension_version: String,
    /// `None` in a row: hidden from our role.
    pub(super) rows: Reading<Vec<Option<Statement>>>,
    pub(super) info: Option<(Option<i64>, Option<Timestamp>)>,
}

/// All statements of a tick go out together and come back in order: one round trip. Only the clock must
/// succeed; any other part that fails is unavailable by itself.
pub(super) async fn batch(client: Arc<Client>, plan: Plan) -> Result<Batch, Error> {
    let activity = sql::activity(plan.major_num);
    let slots = sql::slots(plan.major_num);
    let counters = plan.extension.as_ref().map(Extension::counters);
    let info = plan.extension.as_ref().and_then(Extension::info);
    let databases: [(&(dyn ToSql + Sync), Type); 1] = [(&plan.databases, Type::OID_ARRAY)];
    let client = &client;
    let optional = async |statement: Option<&str>| match statement {
        Some(statement) => Some(client.query_typed(statement, &[]).await),
        None => None,
    };
    let mut sessions = read::Sessions::after(plan.sessions());
    let (clock, probe, rights, sessions, databases, wal, senders, slots, receiver, prepared, counters, info) = futures::join!(
        client.query_typed_one(sql::CLOCK, &[]),
        optional(plan.probed.is_none().then_some(sql::PROBE)),
        optional(plan.probed.is_none().then_some(sql::RIGHTS)),
        read::each(client.query_typed_raw(&activity, read::NO_PARAMETERS), plan.sessions().len(), |row| {
            sessions.session(row)
        },),
        client.query_typed(sql::DATABASES, &databases),
        wal(client, &plan),
        client.query_typed(sql::SENDERS, &[]),
        client.query_typed(&slots, &[]),
        optional(plan.receiver().then_some(sql::RECEIVER)),
        optional(plan.prepared().then_some(sql::PREPARED)),
        statements(client, counters.as_deref()),
        optional(info.as_deref()),
    );
    let clock = decode_clock(&clock?)?;
    let (probe, rights) = (probe.transpose()?.unwrap_or_default(), rights.transpose()?.unwrap_or_default());
    let probe = probe.first().zip(rights.first());
    let probe = probe.map(|(probe, rights)| decode_probe(probe, rights, &clock)).transpose()?;
    let statements = plan.extension.as_ref().zip(counters).map(|(extension, rows)| StatementsRead {
        extension_version: extension.version.clone(),
        rows: reading(rows, &plan.user),
        info: info.and_then(Result::ok).and_then(|rows| rows.first().and_then(decode_info)),
    });
    let one = |reading: Reading<Vec<_>>| {
        reading.map(|rows: &Vec<Option<WalReceiver>>| rows.first().cloned().flatten())
    };
    Ok(Batch {
        clock,
        probe,
        sessions: reading(sessions, &plan.user),
        prepared: prepared.map_or_else(
            || plan.unasked(&clock, Vec::new()),
            |rows| decode(rows, read::prepared, &plan.user),
        ),
        databases: if plan.databases.is_empty() {
            Reading::Unavailable(Reason::new("the names of the databases have not been read yet"))
        } else {
            decode(databases, read::database, &plan.user)
        },
        statements,
        wal,
        senders: decode(senders, read::sender, &plan.user),
        slots: decode(slots, read::slot, &plan.user),
        receiver: receiver
            .map_or_else(|| plan.unasked(&clock, None), |rows| one(decode(rows, read::receiver, &plan.user))),
    })
}

/// The counters of statements, where they are asked for.
async fn statements(
    client: &Client,
    counters: Option<&str>,
) -> Option<Result<Vec<Option<Statement>>, Error>> {
    let rows = client.query_typed_raw(counters?, read::NO_PARAMETERS);
    Some(read::each(rows, 0, read::statement).await)
}

/// The positions in the log; unavailable only if none of them can be read.
async fn wal(client: &Client, plan: &Plan) -> Reading<Wal> {
    let statements = sql::wal(plan.wal_apart);
    let answers = join_all(statements.iter().map(|statement| client.query_typed_one(statement, &[]))).await;
    let refused =
        answers.iter().find_map(|answer| answer.as_ref().err()).map(|e| statement_reason(e, &plan.user));
    let rows: Vec<Option<Row>> = answers.into_iter().map(Result::ok).collect();
    match refused {
        Some(refused) if rows.iter().all(Option::is_none) => Reading::Unavailable(refused),
        refused => read::wal(&rows).map_or_else(
            |error| Reading::Unavailable(statement_reason(&error, &plan.user)),
            |wal| Reading::Fresh(Wal { refused, ..wal }),
        ),
    }
}

fn decode<T>(
    rows: Result<Vec<Row>, Error>,
    one: impl FnMut(&Row) -> Result<T, Error>,
    user: &str,
) -> Reading<Vec<T>> {
    reading(rows.and_then(|rows| rows.iter().map(one).collect()), user)
}

fn reading<T>(values: Result<Vec<T>, Error>, user: &str) -> Reading<Vec<T>> {
    match values {
        Ok(values) => Reading::Fresh(values),
        Err(error) => Reading::Unavailable(statement_reason(&error, user)),
    }
}

fn decode_info(row: &Row) -> Option<(Option<i64>, Option<Timestamp>)> {
    Some((row.try_get(0).ok()?, row.try_get(1).ok()?))
}

fn decode_clock(row: &Row) -> Result<Clock, Error> {
    Ok(Clock { now: read::get(row, 0)?, in_recovery: read::get(row, 1)?, started_at: read::get(row, 2)? })
}

fn decode_probe(row: &Row, rights: &Row, clock: &Clock) -> Result<Probe, Error> {
    let number = |column| -> Result<u32, Error> {
        Ok(u32::try_from(read::get::<i32>(row, column)?).unwrap_or_default())
    };
    let full_version: &str = read::get(row, 0)?;
    let max_connections = number(2)?;
    let (superuser_slots, role_slots, rds_slots) = (number(3)?, number(4)?, number(5)?);
    let server = Server {
        version: full_version.split(' ').next().unwrap_or_default().to_owned(),
        version_num: number(1)?,
        started_at: clock.started_at,
        in_recovery: clock.in_recovery,
        max_connections,
        usable_connections: max_connections.saturating_sub(superuser_slots + role_slots + rds_slots),
        own_pids: Vec::new(),
        pooled: false,
        endpoint: None,
    };
    let rights = read::rights(rights)?;
    Ok(Probe { server: Arc::new(server), rights: Arc::new(rights), may_prepare: number(6)? > 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_another_server_than_the_one_that_is_known_it_is_not_said_that_there_is_none() {
        let clock = |started_at: i64, in_recovery| Clock {
            now: Timestamp::UNIX_EPOCH,
            in_recovery,
            started_at: Timestamp::from_second(started_at).unwrap(),
        };
        let server = Server {
            version: "15.18".into(),
            version_num: 150_018,
            started_at: clock(7, false).started_at,
            in_recovery: false,
            max_connections: 100,
            usable_connections: 97,
            own_pids: Vec::new(),
            pooled: true,
            endpoint: None,
        };
        let rights = Rights {
            user: "oncall".into(),
            superuser: false,
            read_all_stats: true,
            signal_backend: false,
            reserved_connections: None,
            signal_autovacuum_worker: None,
        };
        let known = Probe { server: Arc::new(server), rights: Arc::new(rights), may_prepare: false };
        let plan = Plan {
            before: None,
            major_num: 150_000,
            probed: Some(known),
            databases: Vec::new(),
            extension: None,
            wal_apart: false,
            user: String::new(),
        };
        assert_eq!(plan.unasked(&clock(7, false), ()), Reading::Fresh(()));
        for other in [clock(8, false), clock(7, true)] {
            assert!(plan.unasked(&other, ()).reason().is_some());
        }
    }
}
