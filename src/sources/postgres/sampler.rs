//! The sampler connection: one pipelined round trip a tick, functions only, under the client's own deadline.
//!
//! While an answer is overdue nothing new is sent, and the screen is told how long it has been waiting.

mod statements;
mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_postgres::Error;

use self::statements::StatementBeat;
use self::tables::TablesBeat;
use super::batch::{Batch, Clock, Plan, Probe, batch};
use super::catalog::Catalog;
use super::error::{is_going_down, silence, statement_reason};
use super::link::Connection;
use super::locks::Want;
use super::servers::{Search, Servers, Sought};
use super::{OwnPids, Pace, Place};
use crate::model::postgres::{
    LockTable, Oid, Sample as PgSample, SampledPart, Server, Session, Slowed, State, Statements, Upkeep,
};
use crate::model::{Body, Outage, OutageKind, Reading, Reason, Sample, TargetId};
use crate::sources::backoff::{Backoff, Retry};
use crate::sources::now;

/// How long a tick waits for the lock table before it goes on with the one before.
const LOCKS_LIMIT: Duration = Duration::from_millis(250);
/// What a network adds to the limit of a tick: so much it may become slower from one to the next, and so much in all.
const SLOWER: Duration = Duration::from_secs(2);
const ROUND_TRIP_MAX: Duration = Duration::from_secs(3);
/// An answer that has not come after this long may never come.
const OVERDUE: Duration = Duration::from_secs(8);
/// How long the first tick waits for names, so that the first screen has them; that of a report, which can take no rates
/// against a sample without its databases.
const NAMES_LIMIT: Duration = Duration::from_millis(200);
const REPORT_NAMES_LIMIT: Duration = Duration::from_secs(5);

/// What ties the sampler to the other tasks.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) own_pids: OwnPids,
    pub(super) pace: watch::Receiver<Pace>,
    pub(super) catalog: watch::Receiver<Catalog>,
    pub(super) wants: mpsc::Sender<Want>,
    pub(super) samples: mpsc::Sender<Sample>,
}

/// The task that reads.
#[derive(Debug)]
pub(super) struct Sampler {
    target: TargetId,
    servers: Arc<Servers>,
    wires: Wires,
    /// Since when there are no data, while there are none.
    failing_since: Option<Timestamp>,
    statements: StatementBeat,
    tables: TablesBeat,
    /// The smallest round trip seen: what a reading costs beyond it is the server's work.
    best_round_trip: Duration,
    /// The last one: a network that has become slow is no server that has stopped.
    last_round_trip: Duration,
    probe: Option<Probe>,
    /// What was read last.
    last: Option<Arc<PgSample>>,
    /// Roles that have been seen at work.
    roles: BTreeSet<Oid>,
    /// Whether the present connection has given a sample.
    delivered: bool,
    /// Since when somebody has been waiting for a lock: an older lock table is of another story.
    waiting_since: Option<Timestamp>,
    /// Whether the server refuses some position in the log: then each is asked for by itself.
    wal_apart: bool,
    /// The count of lock tables read when the last one was ordered.
    locks_ordered: Option<u64>,
}

/// A batch that has been sent.
struct Asked {
    answer: JoinHandle<Result<Batch, Error>>,
    at: Instant,
    /// The same by the clock that people read.
    sent: Timestamp,
    /// When it is overdue, or overdue once more.
    until: Instant,
    /// How many bytes had come when it was sent.
    heard_bytes: usize,
}

/// Why there is no batch.
enum Lost {
    /// The connection is gone.
    Connection(Reason),
    /// Another connection was opened while the answer on this one did not come.
    Replaced(Connection),
    /// Everybody who could want a sample is gone.
    Listener,
}

impl Sampler {
    pub(super) fn new(target: TargetId, servers: Arc<Servers>, wires: Wires) -> Self {
        let statements = StatementBeat::default();
        Self {
            target,
            servers,
            wires,
            failing_since: None,
            statements,
            tables: TablesBeat::default(),
            roles: BTreeSet::new(),
            delivered: false,
            waiting_since: None,
            wal_apart: false,
            locks_ordered: None,
            best_round_trip: Duration::MAX,
            last_round_trip: Duration::ZERO,
            probe: None,
            last: None,
        }
    }

    /// Reads until nobody listens any more, connecting again as often as needed.
    pub(super) async fn run(mut self, first: Option<Connection>) {
        let mut backoff = Backoff::default();
        let mut connection = first;
        loop {
            let open = match connection.take() {
                Some(open) => open,
                None => match self.servers.connect_any().await {
                    Ok(open) => open,
                    Err(error) => {
                        let pause = backoff.next(error.retry, u64::from(std::process::id()).rotate_left(13));
                        if self.pause(error.outage, error.reason, pause).await.is_err() {
                            return;
                        }
                        continue;
                    }
                },
            };
            self.wires.own_pids.set(Place::Sampler, Some(open.pid));
            self.servers.adopt(&open);
            let lost = self.sample_over(&open, &mut backoff).await;
            self.servers.lose();
            self.wires.own_pids.set(Place::Sampler, None);
            let reason = match lost {
                Lost::Connection(reason) => reason,
                Lost::Replaced(another) => {
                    connection = Some(another);
                    continue;
                }
                Lost::Listener => return,
            };
            // A server that lets us in and then drops us is not knocked at without a pause.
            let pause = if self.delivered {
                Duration::ZERO
            } else {
                backoff.next(Retry::Later, u64::from(std::process::id()).rotate_left(13))
            };
            if self.pause(OutageKind::Unreachable, reason, pause).await.is_err() {
                return;
            }
        }
    }

    async fn sample_over(&mut self, connection: &Connection, backoff: &mut Backoff) -> Lost {
        self.probe = None;
        self.last = None;
        self.statements.due = None;
        self.delivered = false;
        self.wal_apart = false;
        // The first names come from another connection, opened at the same moment.
        let limit = if self.pace().is_report() { REPORT_NAMES_LIMIT } else { NAMES_LIMIT };
        drop(timeout(limit, self.wires.catalog.wait_for(|catalog| catalog.ready)).await);
        let mut late: Option<Asked> = None;
        // It may be the connection that is dead and not the server (a firewall that forgot it, a backend that was
        // stopped), and TCP finds out late.
        let mut another: Option<Search> = None;
        let lost = connection.line.lost();
        tokio::pin!(lost);
        let mut next = Instant::now();
        loop {
            let mut asked = if let Some(asked) = late.take() {
                asked
            } else {
                tokio::select! {
                    () = self.wait_for_turn(&mut next) => {}
                    () = &mut lost => return Lost::Connection(Reason::new("connection lost")),
                }
                let at = Instant::now();
                next = self.pace().next(next, at);
                let plan = self.plan(connection, at);
                let heard_bytes = connection.line.heard_bytes();
                let answer = tokio::spawn(batch(Arc::clone(&connection.line.client), plan));
                Asked { answer, at, sent: now(), until: at + self.patience(), heard_bytes }
            };
            // An answer that is overdue is taken as soon as it comes; until then nothing more is sent, and the
            // screen is told with every tick how long that has lasted.
            let answer = tokio::select! {
                answer = timeout_at(asked.until, &mut asked.answer) => answer,
                found = Search::found(&mut another) => {
                    self.servers.doubt();
                    return Lost::Replaced(found);
                }
            };
            let Ok(answer) = answer else {
                // A server that is only slow has begun to answer; what brings not a byte may be a dead connection.
                let is_mute = connection.line.heard_bytes() == asked.heard_bytes;
                if !is_mute {
                    another = None;
                } else if another.is_none() && OVERDUE < asked.at.elapsed() {
                    another = Some(Search::begin(&self.servers, Sought::SameEndpoint, None));
                }
                asked.until = Instant::now() + self.pace().interval;
                late = Some(asked);
                let reason = silence(self.servers.pooled());
                if self.report(OutageKind::Blocked, reason, None).await.is_err() {
                    return Lost::Listener;
                }
                continue;
            };
            another = None;
            let is_first = !self.delivered;
            if let Err(lost) = self.take(answer, (asked.at, asked.sent), connection, backoff).await {
                return lost;
            }
            if is_first && self.delivered {
                next = self.pace().second(Instant::now(), next);
            }
        }
    }

    /// Takes an answer to what was asked `at` a time.
    async fn take(
        &mut self,
        answer: Result<Result<Batch, Error>, JoinError>,
        at: (Instant, Timestamp),
        connection: &Connection,
        backoff: &mut Backoff,
    ) -> Result<(), Lost> {
        let delivered = match answer {
            Ok(Ok(batch)) => {
                backoff.reset();
                self.delivered = true;
                self.deliver(batch, self.pace(), at).await
            }
            Ok(Err(error)) if connection.line.client.is_closed() || is_going_down(&error) => {
                return Err(Lost::Connection(Reason::new(format!(
                    "connection lost: {}",
                    connection.line.lost_by(&error)
                ))));
            }
            Ok(Err(error)) => {
                self.report(OutageKind::Error, statement_reason(&error, &self.servers.settings.user), None)
                    .await
            }
            Err(error) => return Err(Lost::Connection(Reason::new(format!("reading stopped: {error}")))),
        };
        delivered.map_err(|()| Lost::Listener)
    }

    /// How long an answer may take before it is overdue: the limit of a tick beyond what the last one took, and what
    /// the network may have become slower by.
    fn patience(&self) -> Duration {
        self.pace().deadline() + self.last_round_trip.clamp(SLOWER, ROUND_TRIP_MAX)
    }

    fn pace(&self) -> Pace {
        *self.wires.pace.borrow()
    }

    /// Waits until the next tick is due; a new interval holds from now on.
    async fn wait_for_turn(&mut self, next: &mut Instant) {
        loop {
            tokio::select! {
                () = sleep_until(*next) => return,
                changed = self.wires.pace.changed() => match changed {
                    Ok(()) => *next = (*next).min(self.pace().next(*next, Instant::now())),
                    Err(_) => return sleep_until(*next).await,
                },
            }
        }
    }

    fn plan(&self, connection: &Connection, now: Instant) -> Plan {
        let catalog = self.wires.catalog.borrow();
        let extension = match &catalog.extension {
            Some(Ok(extension)) if self.statements.due.is_none_or(|due| due <= now) => {
                Some(extension.clone())
            }
            Some(_) | None => None,
        };
        let databases = catalog.names.databases.keys().copied().collect();
        Plan {
            major_num: connection.line.major_num,
            probed: self.probe.clone(),
            databases,
            before: self.last.clone(),
            extension,
            wal_apart: self.wal_apart,
            user: self.servers.settings.user.clone(),
        }
    }

    /// Waits before the next attempt, and tells every second how long it has lasted.
    async fn pause(&mut self, kind: OutageKind, reason: Reason, pause: Duration) -> Result<(), ()> {
        let over = Instant::now() + pause;
        loop {
            let left = over.saturating_duration_since(Instant::now());
            self.report(kind, reason.clone(), Some(left)).await?;
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            if over <= Instant::now() {
                return Ok(());
            }
        }
    }

    async fn report(
        &mut self,
        kind: OutageKind,
        reason: Reason,
        retry_in: Option<Duration>,
    ) -> Result<(), ()> {
        let now = now();
        let since = *self.failing_since.get_or_insert(now);
        let retry_at = retry_in.and_then(|pause| now.checked_add(pause).ok());
        let body = Body::Outage(Outage { kind, reason, since, retry_at });
        self.send(Sample { target: self.target, asked_at: now, taken_at: now, body }).await
    }

    async fn send(&self, sample: Sample) -> Result<(), ()> {
        self.wires.samples.send(sample).await.map_err(|_| ())
    }

    async fn deliver(
        &mut self,
        batch: Batch,
        pace: Pace,
        (started, asked_at): (Instant, Timestamp),
    ) -> Result<(), ()> {
        let elapsed = started.elapsed();
        self.best_round_trip = self.best_round_trip.min(elapsed);
        self.last_round_trip = elapsed;
        self.failing_since = None;
        if let Some(probe) = batch.probe {
            self.probe = Some(probe);
        }
        let Some(probe) = self.probe.clone() else { return Ok(()) };
        let server = self.server(&probe.server, &batch.clock, &batch.sessions);
        if probe.server.started_at != batch.clock.started_at
            || probe.server.in_recovery != batch.clock.in_recovery
        {
            // A restart or a promotion may have changed settings: ask again with the next tick.
            self.probe = None;
        }
        self.wal_apart |= batch.wal.reason().is_some();
        self.keep_statements(batch.statements, pace, elapsed, &batch.clock);
        let rights = self.wires.catalog.borrow().rights.clone().unwrap_or(probe.rights);
        self.note_roles(&batch.sessions);
        let locks =
            self.locks(&batch.sessions, rights.read_all_stats || rights.superuser, batch.clock.now).await;
        self.look_for_extension();
        if pace.is_report() && self.wires.catalog.borrow().ready {
            drop(self.wires.wants.try_send(Want::Upkeep));
        }
        self.ask_for_texts(pace).await;
        let catalog = self.wires.catalog.borrow().clone();
        let patience = 3.0 * pace.statements_every.max(pace.interval).as_secs_f64();
        let is_old =
            |read: &Statements| patience < crate::format::seconds_between(read.read_at, batch.clock.now);
        let statements = self.statements.last.clone().map(|last| match last {
            // The counters back off by their own cost; what is shown then is told to be old.
            Reading::Fresh(read) if is_old(&read) => Reading::Stale(Arc::clone(&read), read.read_at),
            last @ (Reading::Fresh(_) | Reading::Stale(..) | Reading::Unavailable(_)) => last,
        });
        let statements = statements.unwrap_or_else(|| match &catalog.extension {
            Some(Err(reason)) => Reading::Unavailable(reason.clone()),
            Some(Ok(_)) | None => Reading::Unavailable(Reason::new("not read yet")),
        });
        let tables = self.tables(pace);
        let sample = PgSample {
            server_time: batch.clock.now,
            server,
            rights,
            names: catalog.names,
            sessions: batch.sessions,
            locks,
            prepared: batch.prepared,
            databases: batch.databases,
            statements,
            statement_texts: catalog.texts,
            wal: batch.wal,
            senders: batch.senders,
            slots: batch.slots,
            receiver: batch.receiver,
            upkeep: catalog.upkeep,
            tables,
            slowed: self.slowed(),
        };
        let sample = Arc::new(sample);
        self.last = Some(Arc::clone(&sample));
        let body = Body::Postgres(sample);
        self.send(Sample { target: self.target, asked_at, taken_at: now(), body }).await
    }

    fn slowed(&self) -> Vec<Slowed> {
        let parts = [
            (SampledPart::Statements, self.statements.slowed_to),
            (SampledPart::Tables, self.tables.slowed_to),
            (SampledPart::Housekeeping, self.wires.catalog.borrow().upkeep_slowed_to),
        ];
        let slowed = |(part, to): (SampledPart, Option<Duration>)| {
            Some(Slowed { part, every_seconds: to?.as_secs_f64() })
        };
        parts.into_iter().filter_map(slowed).collect()
    }

    fn server(&self, probed: &Arc<Server>, clock: &Clock, sessions: &Reading<Vec<Session>>) -> Arc<Server> {
        let pooled = self.servers.pooled();
        // A pooler gives each statement of ours any of its sessions: ours are those that run one now.
        let own_pids = if pooled { ours_by_text(sessions) } else { self.wires.own_pids.all() };
        let endpoint = self.servers.endpoint_of_several();
        if probed.own_pids == own_pids
            && probed.pooled == pooled
            && probed.endpoint == endpoint
            && probed.in_recovery == clock.in_recovery
            && probed.started_at == clock.started_at
        {
            return Arc::clone(probed);
        }
        Arc::new(Server {
            own_pids,
            pooled,
            endpoint,
            in_recovery: clock.in_recovery,
            started_at: clock.started_at,
            ..(**probed).clone()
        })
    }

    /// A role that was never seen at work is not in control's cache yet.
    fn note_roles(&mut self, sessions: &Reading<Vec<Session>>) {
        let known = self.roles.len();
        self.roles.extend(sessions.value().into_iter().flatten().filter_map(|session| session.usesysid));
        if self.roles.len() > known {
            self.servers.unseen_role.notify_one();
        }
    }

    /// The lock table, asked for only while somebody waits. A role that does not see who waits asks every time.
    async fn locks(
        &mut self,
        sessions: &Reading<Vec<Session>>,
        sees_waits: bool,
        now: Timestamp,
    ) -> Reading<Arc<LockTable>> {
        // A login that waits is in no list of sessions.
        let is_stuck =
            |upkeep: &Upkeep| upkeep.lock_usage.value().is_some_and(|it| !it.stuck_pids.is_empty());
        let login_waits = self.wires.catalog.borrow().upkeep.as_deref().is_some_and(is_stuck);
        let somebody_waits =
            sessions.value().map(|all| login_waits || all.iter().any(Session::waits_for_sessions));
        self.servers.note_waits(somebody_waits == Some(true));
        if sees_waits && somebody_waits == Some(false) {
            self.waiting_since = None;
            return Reading::Fresh(Arc::default());
        }
        let since = *self.waiting_since.get_or_insert(now);
        // One order at a time: while one is open, more of them would only be read one after the other later.
        let reads = self.wires.catalog.borrow().locks_reads;
        let safe_snapshots = sessions.value().into_iter().flatten().filter(|it| it.waits_for_safe_snapshot());
        let want = Want::Locks(safe_snapshots.map(|session| session.id.pid).collect());
        if self.locks_ordered != Some(reads) && self.wires.wants.try_send(want).is_ok() {
            self.locks_ordered = Some(reads);
        }
        let limit = self.pace().patience(LOCKS_LIMIT);
        // One that was under way already when these waits were seen is of before them.
        let is_of_now = |it: &Catalog| it.error.is_some() || it.lock_table(since, now).value().is_some();
        let read = self.wires.catalog.wait_for(|it| it.locks_reads > reads && is_of_now(it));
        // In time or not: what is there by then is judged by when it was read.
        drop(timeout(limit, read).await);
        self.wires.catalog.borrow().lock_table(since, now)
    }
}

/// The sessions that run a statement with our mark; one that has run it may serve somebody else by now.
fn ours_by_text(sessions: &Reading<Vec<Session>>) -> Vec<i32> {
    let sessions = sessions.value().into_iter().flatten();
    sessions
        .filter(|session| session.state == Some(State::Active) && session.query.starts_with("/* dbtriage:"))
        .map(|session| session.id.pid)
        .collect()
}
