//! The lines of a recording. Fields that a later version adds are optional; none is ever taken away.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Note, Opening};
use crate::model::postgres::{
    DatabaseCounters, Lock, LockTable, Names, Prepared, Rights, Sample, Server, Session, Slot, Slowed,
    StatementKey, Statements, StatementsDelta, Tables, Upkeep, Wal, WalReceiver, WalSender,
};
use crate::model::redis::Sample as RedisSample;
use crate::model::{Delta, Outage, Reading, TargetId};

/// Stands for a part that was written before.
pub(super) type Number = u64;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Recording(Opening),
    Server(TargetId, Number, Arc<Server>),
    Rights(TargetId, Number, Arc<Rights>),
    Names(TargetId, Number, Arc<Names>),
    Upkeep(TargetId, Number, Arc<Upkeep>),
    Tables(TargetId, Number, Arc<Tables>),
    Statements(TargetId, Number, Arc<Statements>),
    /// What differs from an earlier reading, which the second number stands for.
    StatementsSince(TargetId, Number, Number, Box<StatementsDelta>),
    /// Texts of statements that are new.
    Texts(TargetId, Vec<(StatementKey, Arc<str>)>),
    Postgres(When, Box<PgLine<'a>>),
    Redis(When, Box<Cow<'a, RedisSample>>),
    Outage(When, Outage),
    Note(Note),
}

/// Which target was read, and when.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct When {
    pub(super) target: TargetId,
    pub(super) asked_at: Timestamp,
    pub(super) taken_at: Timestamp,
}

/// A sample of PostgreSQL, its seldom changing parts as numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PgLine<'a> {
    server_time: Timestamp,
    pub(super) server: Number,
    pub(super) rights: Number,
    pub(super) names: Number,
    pub(super) sessions: Cow<'a, Reading<Vec<Session>>>,
    locks: Cow<'a, Reading<Arc<LockTable>>>,
    prepared: Cow<'a, Reading<Vec<Prepared>>>,
    databases: Cow<'a, Reading<Vec<DatabaseCounters>>>,
    pub(super) statements: Reading<Number>,
    wal: Cow<'a, Reading<Wal>>,
    senders: Cow<'a, Reading<Vec<WalSender>>>,
    slots: Cow<'a, Reading<Vec<Slot>>>,
    receiver: Cow<'a, Reading<Option<WalReceiver>>>,
    pub(super) upkeep: Option<Number>,
    pub(super) tables: Option<Number>,
    /// What later frames refer to this sample by, the first of theirs; absent where they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<Number>,
    /// The sample that sessions and locks differ from; absent where it is the one before in the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) of: Option<Number>,
    /// What makes the sessions of those of that sample: then `sessions` holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sessions_since: Option<Delta<Session>>,
    /// The same of the rows of the lock table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) locks_since: Option<Delta<Lock>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    slowed: Vec<Slowed>,
}

/// The parts of a sample that are written once, as numbers.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) server: Number,
    pub(super) rights: Number,
    pub(super) names: Number,
    pub(super) statements: Reading<Number>,
    pub(super) upkeep: Option<Number>,
    pub(super) tables: Option<Number>,
}

/// The same parts themselves.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) server: Arc<Server>,
    pub(super) rights: Arc<Rights>,
    pub(super) names: Arc<Names>,
    pub(super) statements: Reading<Arc<Statements>>,
    pub(super) upkeep: Option<Arc<Upkeep>>,
    pub(super) tables: Option<Arc<Tables>>,
    pub(super) statement_texts: Texts,
}

/// Texts of statements.
pub(super) type Texts = Arc<BTreeMap<StatementKey, Arc<str>>>;

/// A part that was written, and its number.
pub(super) type Written<T> = Option<(Arc<T>, Number)>;

/// What was written last of a target.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) server: Written<Server>,
    pub(super) rights: Written<Rights>,
    pub(super) names: Written<Names>,
    pub(super) upkeep: Written<Upkeep>,
    pub(super) tables: Written<Tables>,
    pub(super) statements: Written<Statements>,
    /// The last counters that were written in full.
    pub(super) base: Written<Statements>,
    pub(super) texts: Texts,
    /// The sessions and locks that were written in full last.
    pub(super) whole: Written<Lists>,
    /// The sample before in the same frame.
    pub(super) before: Option<Arc<Sample>>,
}

/// Sessions and locks of a sample, which those of later ones are told by what differs from them.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) server_time: Timestamp,
    sessions: Reading<Vec<Session>>,
    locks: Reading<Arc<LockTable>>,
}

/// The same of an earlier sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before<'a> {
    sessions: &'a Reading<Vec<Session>>,
    locks: &'a Reading<Arc<LockTable>>,
}

impl<'a> From<&'a Sample> for Before<'a> {
    fn from(Sample { sessions, locks, .. }: &'a Sample) -> Self {
        Self { sessions, locks }
    }
}

impl<'a> From<&'a Lists> for Before<'a> {
    fn from(Lists { sessions, locks, .. }: &'a Lists) -> Self {
        Self { sessions, locks }
    }
}

impl<'a> PgLine<'a> {
    /// Its sessions and locks under their number; `None` where later samples do not refer to them. Only what is written
    /// in full may have a number: what each refers to cannot grow from one to the next then.
    pub(super) fn whole(&self) -> Written<Lists> {
        let is_whole = self.of.is_none() && self.sessions_since.is_none() && self.locks_since.is_none();
        let number = self.number.filter(|_| is_whole)?;
        let (sessions, locks) = (self.sessions.clone().into_owned(), self.locks.clone().into_owned());
        Some((Arc::new(Lists { server_time: self.server_time, sessions, locks }), number))
    }

    /// The line of a sample.
    pub(super) fn of(sample: &'a Sample, numbers: Numbers) -> Self {
        let Sample {
            server_time,
            server: _,
            rights: _,
            names: _,
            sessions,
            locks,
            prepared,
            databases,
            statements: _,
            statement_texts: _,
            wal,
            senders,
            slots,
            receiver,
            upkeep: _,
            tables: _,
            slowed,
        } = sample;
        Self {
            server_time: *server_time,
            server: numbers.server,
            rights: numbers.rights,
            names: numbers.names,
            sessions: Cow::Borrowed(sessions),
            locks: Cow::Borrowed(locks),
            prepared: Cow::Borrowed(prepared),
            databases: Cow::Borrowed(databases),
            statements: numbers.statements,
            wal: Cow::Borrowed(wal),
            senders: Cow::Borrowed(senders),
            slots: Cow::Borrowed(slots),
            receiver: Cow::Borrowed(receiver),
            upkeep: numbers.upkeep,
            tables: numbers.tables,
            number: None,
            of: None,
            sessions_since: None,
            locks_since: None,
            slowed: slowed.clone(),
        }
    }

    /// The same line with sessions and locks as what differs from an earlier sample, where both have them: from that of
    /// this number, or from the one before.
    pub(super) fn since(mut self, before: Before<'_>, number: Option<Number>) -> Self {
        self.of = number;
        if let (Some(before), Some(now)) = (before.sessions.value(), self.sessions.value()) {
            self.sessions_since = Some(Delta::between(before, now, |session| session.id.pid));
            self.sessions = Cow::Owned(self.sessions.map(|_| Vec::new()));
        }
        if let (Some(before), Some(now)) = (before.locks.value(), self.locks.value()) {
            self.locks_since = Some(Delta::between(&before.rows, &now.rows, Lock::party_and_object));
            let rest = LockTable { rows: Vec::new(), safe_snapshot_waits: now.safe_snapshot_waits.clone() };
            self.locks = Cow::Owned(self.locks.map(|_| Arc::new(rest)));
        }
        self
    }

    /// The same line with sessions and locks in full; `None` where they differ from a sample that was lost. So many bytes
    /// there is `room` for: who has not written the file as we do could say "the same twice" over and over again.
    pub(super) fn in_full(mut self, before: Option<Before<'_>>, room: &mut usize) -> Option<Self> {
        if let Some(delta) = self.sessions_since.take() {
            let sessions = delta.applied_to(before?.sessions.value()?, *room / size_of::<Session>())?;
            *room = room.saturating_sub(sessions.len() * size_of::<Session>());
            self.sessions = Cow::Owned(self.sessions.map(|_| sessions));
        }
        if let Some(delta) = self.locks_since.take() {
            let rows = delta.applied_to(&before?.locks.value()?.rows, *room / size_of::<Lock>())?;
            *room = room.saturating_sub(rows.len() * size_of::<Lock>());
            let whole = |rest: &Arc<LockTable>| {
                Arc::new(LockTable { rows, safe_snapshot_waits: rest.safe_snapshot_waits.clone() })
            };
            self.locks = Cow::Owned(self.locks.map(whole));
        }
        Some(self)
    }

    /// The sample of a line.
    pub(super) fn into_sample(self, whole: Whole) -> Sample {
        Sample {
            server_time: self.server_time,
            server: whole.server,
            rights: whole.rights,
            names: whole.names,
            sessions: self.sessions.into_owned(),
            locks: self.locks.into_owned(),
            prepared: self.prepared.into_owned(),
            databases: self.databases.into_owned(),
            statements: whole.statements,
            statement_texts: whole.statement_texts,
            wal: self.wal.into_owned(),
            senders: self.senders.into_owned(),
            slots: self.slots.into_owned(),
            receiver: self.receiver.into_owned(),
            upkeep: whole.upkeep,
            tables: whole.tables,
            slowed: self.slowed,
        }
    }
}
