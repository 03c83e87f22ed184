//! From rows of the driver to the model, by position: the order is that of the statements in `sql`.
//!
//! It must not know when or over which connection a statement ran.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use tokio_postgres::types::{FromSql, PgLsn, ToSql, Type};
use tokio_postgres::{Error, Row, RowStream};

use crate::model::postgres::{
    DatabaseCounters, Lock, LockTag, Prepared, Rights, SafeSnapshotWait, Session, SessionId, Slot, State,
    Statement, StatementKey, Wal, WalReceiver, WalSender,
};
use crate::text::without_password;

/// For a statement that has none.
pub(super) const NO_PARAMETERS: [(&(dyn ToSql + Sync), Type); 0] = [];

/// What is made of each row as it comes, of some `expected` rows: of thousands none is held for longer.
pub(super) async fn each<T>(
    rows: impl Future<Output = Result<RowStream, Error>>,
    expected: usize,
    mut one: impl FnMut(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut rows = pin!(rows.await?);
    let mut all = Vec::with_capacity(expected);
    while let Some(row) = rows.try_next().await? {
        all.push(one(&row)?);
    }
    Ok(all)
}

/// The value of a column that is never NULL.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Error> {
    row.try_get(column)
}

/// Text in whatever encoding its writer used: what is not UTF-8 is replaced, and nothing else is lost for it.
pub(super) struct Lossy(Arc<str>);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into()))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TEXT | Type::VARCHAR | Type::NAME | Type::BYTEA)
    }
}

pub(super) fn text(row: &Row, column: usize) -> Result<Option<Arc<str>>, Error> {
    Ok(row.try_get::<_, Option<Lossy>>(column)?.map(|Lossy(text)| text))
}

/// The text of a statement; a password in it is left behind here, so that nothing above can show or keep it.
pub(super) fn statement_text(row: &Row, column: usize) -> Result<Option<Arc<str>>, Error> {
    Ok(text(row, column)?.map(|sql| match without_password(&sql) {
        Cow::Borrowed(_) => Arc::clone(&sql),
        Cow::Owned(masked) => masked.into(),
    }))
}

/// A time of the server's: microseconds since 2000 (`timestamptz_send` in PostgreSQL's timestamp.c). The driver's own way
/// there takes five times as long, and each session has four.
struct At(Timestamp);

/// 2000-01-01 00:00:00 UTC.
const EPOCH_SECONDS: i64 = 946_684_800;

impl<'a> FromSql<'a> for At {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let microseconds = i64::from_be_bytes(raw.try_into()?);
        let microseconds =
            microseconds.checked_add(EPOCH_SECONDS * 1_000_000).ok_or("a time beyond all bounds")?;
        Ok(Self(Timestamp::from_microsecond(microseconds)?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

fn at(row: &Row, column: usize) -> Result<Option<Timestamp>, Error> {
    Ok(row.try_get::<_, Option<At>>(column)?.map(|At(at)| at))
}

/// The driver has no type for `xid`: it travels as text.
fn xid(row: &Row, column: usize) -> Result<Option<u32>, Error> {
    Ok(row.try_get::<_, Option<&str>>(column)?.and_then(|digits| digits.parse().ok()))
}

fn lsn(row: &Row, column: usize) -> Result<Option<u64>, Error> {
    Ok(row.try_get::<_, Option<PgLsn>>(column)?.map(u64::from))
}

/// So many sessions that have left, one beside the other, are passed over to find the next that is still there.
const LEFT_TOGETHER_MAX: usize = 32;

/// The sessions of one reading, row by row. Most are what they were in the reading before; of the others most have their
/// texts in common with the row before, and share them then.
pub(super) struct Sessions<'a> {
    /// Those of the reading before that were not met yet: both are in the order of the server's slots.
    before: &'a [Session],
    texts: [Option<Arc<str>>; 5],
}

impl<'a> Sessions<'a> {
    /// Those that are read after these.
    pub(super) fn after(before: &'a [Session]) -> Self {
        Self { before, texts: Default::default() }
    }

    pub(super) fn session(&mut self, row: &Row) -> Result<Session, Error> {
        let pid = get(row, 0)?;
        match self.before(pid) {
            Some(before) if is_unchanged(before, row)? => Ok(before.clone()),
            Some(_) | None => self.read(pid, row),
        }
    }

    /// The process as it was before.
    fn before(&mut self, pid: i32) -> Option<&'a Session> {
        let place = self.before.iter().take(LEFT_TOGETHER_MAX).position(|session| session.id.pid == pid)?;
        let (met, left) = self.before.split_at_checked(place + 1)?;
        self.before = left;
        met.last()
    }

    fn read(&mut self, pid: i32, row: &Row) -> Result<Session, Error> {
        let [application_name, backend_type, wait_event_type, wait_event, query] = &mut self.texts;
        Ok(Session {
            id: SessionId { pid, backend_start: at(row, 11)? },
            leader_pid: get(row, 1)?,
            datid: get::<Option<u32>>(row, 2)?.filter(|oid| *oid != 0),
            usesysid: get::<Option<u32>>(row, 3)?.filter(|oid| *oid != 0),
            application_name: shared(row, 4, application_name, text)?.unwrap_or_default(),
            client_addr: get::<Option<IpAddr>>(row, 5)?,
            client_port: get(row, 6)?,
            backend_type: shared(row, 7, backend_type, text)?,
            state: row.try_get::<_, Option<&str>>(8)?.and_then(State::parse),
            wait_event_type: shared(row, 9, wait_event_type, text)?,
            wait_event: shared(row, 10, wait_event, text)?,
            xact_start: at(row, 12)?,
            query_start: at(row, 13)?,
            state_change: at(row, 14)?,
            backend_xid: xid(row, 15)?,
            backend_xmin: xid(row, 16)?,
            query_id: get(row, 17)?,
            query: shared(row, 18, query, statement_text)?.unwrap_or_default(),
        })
    }
}

/// Whether a session is what it was before. What is not compared is set once when a backend starts, or only together with
/// `state_change` (`pgstat_report_activity` in PostgreSQL's `backend_status.c`).
fn is_unchanged(before: &Session, row: &Row) -> Result<bool, Error> {
    let is_text = |column, text: Option<&Arc<str>>| -> Result<bool, Error> {
        let raw: Option<Raw<'_>> = get(row, column)?;
        Ok(raw.map(|Raw(raw)| raw) == text.map(|text| text.as_bytes()))
    };
    Ok(before.state_change.is_some()
        && at(row, 14)? == before.state_change
        && at(row, 11)? == before.id.backend_start
        && is_text(10, before.wait_event.as_ref())?
        && is_text(9, before.wait_event_type.as_ref())?
        && at(row, 12)? == before.xact_start
        && xid(row, 16)? == before.backend_xmin
        && xid(row, 15)? == before.backend_xid
        && get::<Option<i64>>(row, 17)? == before.query_id
        && get::<Option<i32>>(row, 1)? == before.leader_pid
        && is_text(4, Some(&before.application_name))?)
}

/// The bytes of a column.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(kind: &Type) -> bool {
        Lossy::accepts(kind)
    }
}

/// The text of a column; that of the row before where its bytes are the same. A text that was changed in reading is not
/// the same as its bytes, and is read anew.
fn shared(
    row: &Row,
    column: usize,
    before: &mut Option<Arc<str>>,
    read: impl Fn(&Row, usize) -> Result<Option<Arc<str>>, Error>,
) -> Result<Option<Arc<str>>, Error> {
    let Some(Raw(raw)) = row.try_get::<_, Option<Raw<'_>>>(column)? else { return Ok(None) };
    match before {
        Some(before) if before.as_bytes() == raw => Ok(Some(Arc::clone(before))),
        Some(_) | None => {
            before.clone_from(&read(row, column)?);
            Ok(before.clone())
        }
    }
}

pub(super) fn safe_snapshot_wait(row: &Row) -> Result<SafeSnapshotWait, Error> {
    Ok(SafeSnapshotWait { pid: get(row, 0)?, blocked_by: get(row, 1)? })
}

/// The rows of a lock table, of which each shares its words with others.
#[derive(Default)]
pub(super) struct Locks {
    words: Vec<Arc<str>>,
    virtualtransaction: Option<Arc<str>>,
}

impl Locks {
    pub(super) fn lock(&mut self, row: &Row) -> Result<Lock, Error> {
        let virtualtransaction = shared(row, 10, &mut self.virtualtransaction, text)?.unwrap_or_default();
        let (locktype, mode) = (self.word(get(row, 0)?), self.word(get(row, 12)?));
        Ok(Lock {
            tag: LockTag {
                locktype,
                database: get(row, 1)?,
                relation: get(row, 2)?,
                page: get(row, 3)?,
                tuple: get(row, 4)?,
                virtualxid: text(row, 5)?,
                transactionid: xid(row, 6)?,
                classid: get(row, 7)?,
                objid: get(row, 8)?,
                objsubid: get(row, 9)?,
            },
            virtualtransaction,
            pid: get(row, 11)?,
            mode,
            granted: get(row, 13)?,
            waitstart: at(row, 14)?,
        })
    }

    /// A lock type or a mode: there are some twenty.
    fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.iter().find(|known| &***known == word) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.words.push(Arc::clone(&word));
        word
    }
}

pub(super) fn prepared(row: &Row) -> Result<Prepared, Error> {
    Ok(Prepared {
        transaction: xid(row, 0)?.unwrap_or_default(),
        gid: text(row, 1)?.unwrap_or_default(),
        prepared: get(row, 2)?,
        owner: get(row, 3)?,
        database: get(row, 4)?,
    })
}

pub(super) fn database(row: &Row) -> Result<DatabaseCounters, Error> {
    Ok(DatabaseCounters {
        datid: get(row, 0)?,
        numbackends: get(row, 1)?,
        xact_commit: get(row, 2)?,
        xact_rollback: get(row, 3)?,
        blks_read: get(row, 4)?,
        blks_hit: get(row, 5)?,
        temp_bytes: get(row, 6)?,
        temp_files: get(row, 7)?,
        deadlocks: get(row, 8)?,
        stats_reset: get(row, 9)?,
        conflicts: get(row, 10)?,
        checksum_failures: get(row, 11)?,
    })
}

/// The value of a counter that is NULL where it is zero.
fn or_zero<'a, T: FromSql<'a> + Default>(row: &'a Row, column: usize) -> Result<T, Error> {
    Ok(get::<Option<T>>(row, column)?.unwrap_or_default())
}

/// `None` for an entry of another role that ours may not see into: it has no identifier.
pub(super) fn statement(row: &Row) -> Result<Option<Statement>, Error> {
    let Some(key) = statement_key(row)? else { return Ok(None) };
    Ok(Some(Statement {
        key,
        calls: get(row, 4)?,
        total_exec_ms: get(row, 5)?,
        rows: get(row, 6)?,
        shared_blks_hit: or_zero(row, 7)?,
        shared_blks_read: or_zero(row, 8)?,
        temp_blks: or_zero(row, 9)?,
        stats_since: get(row, 10)?,
        total_plan_ms: or_zero(row, 11)?,
        max_exec_ms: get(row, 12)?,
        stddev_exec_ms: or_zero(row, 13)?,
        wal_bytes: or_zero(row, 14)?,
    }))
}

/// The first four columns of `statements` and `texts`.
pub(super) fn statement_key(row: &Row) -> Result<Option<StatementKey>, Error> {
    let Some(queryid) = get::<Option<i64>>(row, 3)? else { return Ok(None) };
    Ok(Some(StatementKey { userid: get(row, 0)?, dbid: get(row, 1)?, toplevel: get(row, 2)?, queryid }))
}

/// The positions from one row, or from a row each; a row that is not there was refused.
pub(super) fn wal(rows: &[Option<Row>]) -> Result<Wal, Error> {
    let together = rows.len() == 1;
    let field = |place: usize| {
        let row = rows.get(if together { 0 } else { place })?.as_ref()?;
        Some((row, if together { place } else { 0 }))
    };
    let position = |place| field(place).map_or(Ok(None), |(row, column)| lsn(row, column));
    Ok(Wal {
        current_lsn: position(0)?,
        received_lsn: position(1)?,
        replayed_lsn: position(2)?,
        last_replayed_at: field(3).map_or(Ok(None), |(row, column)| get(row, column))?,
        replay_paused: field(4).map_or(Ok(None), |(row, column)| get(row, column))?,
        refused: None,
    })
}

pub(super) fn sender(row: &Row) -> Result<WalSender, Error> {
    Ok(WalSender {
        pid: get(row, 0)?,
        state: text(row, 1)?,
        sent_lsn: lsn(row, 2)?,
        write_lsn: lsn(row, 3)?,
        flush_lsn: lsn(row, 4)?,
        replay_lsn: lsn(row, 5)?,
        write_lag_seconds: get(row, 6)?,
        flush_lag_seconds: get(row, 7)?,
        replay_lag_seconds: get(row, 8)?,
        sync_state: text(row, 9)?,
    })
}

pub(super) fn slot(row: &Row) -> Result<Slot, Error> {
    Ok(Slot {
        name: text(row, 0)?.unwrap_or_default(),
        kind: text(row, 1)?.unwrap_or_default(),
        datoid: get::<Option<u32>>(row, 2)?.filter(|oid| *oid != 0),
        active: get::<Option<bool>>(row, 3)?.unwrap_or_default(),
        active_pid: get(row, 4)?,
        restart_lsn: lsn(row, 5)?,
        wal_status: text(row, 6)?,
        safe_wal_bytes: get(row, 7)?,
        inactive_since: get(row, 8)?,
    })
}

/// `None` where there is no walreceiver: the function then gives one row of NULLs.
pub(super) fn receiver(row: &Row) -> Result<Option<WalReceiver>, Error> {
    if get::<Option<i32>>(row, 0)?.is_none() {
        return Ok(None);
    }
    let host = row.try_get::<_, Option<&str>>(2)?;
    let port = get::<Option<i32>>(row, 3)?;
    Ok(Some(WalReceiver {
        status: text(row, 1)?,
        upstream: host.map(|host| port.map_or_else(|| host.into(), |port| format!("{host}:{port}").into())),
        last_msg_receipt_time: get(row, 4)?,
        latest_end_lsn: lsn(row, 5)?,
    }))
}

pub(super) fn rights(row: &Row) -> Result<Rights, Error> {
    Ok(Rights {
        user: get(row, 0)?,
        superuser: get(row, 1)?,
        read_all_stats: get(row, 2)?,
        signal_backend: get(row, 3)?,
        reserved_connections: get(row, 4)?,
        signal_autovacuum_worker: get(row, 5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_time_is_what_the_driver_makes_of_it() {
        let at = |microseconds: i64| {
            let raw = microseconds.to_be_bytes();
            let own = At::from_sql(&Type::TIMESTAMPTZ, &raw).ok().map(|At(at)| at);
            (own, Timestamp::from_sql(&Type::TIMESTAMPTZ, &raw).ok())
        };
        for microseconds in [0, 1, -1, 847_000_000_123_456, -946_684_800_000_001, i64::MAX, i64::MIN] {
            let (own, driver) = at(microseconds);
            assert_eq!(own, driver, "{microseconds}");
        }
        assert_eq!(at(0).0.map(|at| at.to_string()).as_deref(), Some("2000-01-01T00:00:00Z"));
    }
}
