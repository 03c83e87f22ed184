//! Replication lag in bytes and seconds, without the false lag of an idle primary.
//!
//! On a primary: distances in the log from its end, and the walsender's own `replay_lag`, which stays at its last
//! value for some ten seconds after traffic stops, so that it counts only while bytes are behind. On a standby:
//! the time since the position that is replayed now was received (measured; the age of the last replayed commit
//! grows without any lag while the primary is idle).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::rates::float;
use crate::format::seconds_between;
use crate::model::Reading;
use crate::model::postgres::{Lsn, Sample, Slot, WalReceiver, WalSender};

/// A walreceiver that has said nothing for this long is not taken for streaming: keepalives come every
/// `wal_sender_timeout / 2`, 30 s by default.
const RECEIVER_SILENCE_MAX_SECONDS: f64 = 45.0;
/// Positions kept for the lag in seconds: a quarter of an hour, and as much for who looks back as far.
const POSITIONS_MAX: usize = 1800;
/// The drain rate is taken over this many samples.
const DRAIN_SAMPLES: usize = 10;

/// Everything about replication that one sample shows.
#[derive(Debug, Clone)]
pub struct Replication {
    /// Standbys connected to this server.
    pub standbys: Reading<Vec<Standby>>,
    /// Replication slots of this server.
    pub slots: Reading<Vec<SlotLag>>,
    /// The server's own recovery; `None` on a primary.
    pub recovery: Option<Recovery>,
    /// Log written per second, bytes; `None` before a second sample and on a standby.
    pub wal_bytes_per_second: Option<f64>,
}

/// A connected standby. Byte distances are from the end of this server's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Standby {
    /// Its walsender's process.
    pub pid: i32,
    /// `application_name` of the standby.
    pub application: Arc<str>,
    /// Its address; `None` for a Unix socket or where our role may not see it.
    pub client: Option<String>,
    /// `streaming`, `catchup` and so on.
    pub state: Option<Arc<str>>,
    /// `async`, `sync` and so on.
    pub sync_state: Option<Arc<str>>,
    /// Bytes not sent yet.
    pub sent_lag_bytes: Option<i64>,
    /// Bytes not written there yet.
    pub write_lag_bytes: Option<i64>,
    /// Bytes not flushed there yet.
    pub flush_lag_bytes: Option<i64>,
    /// Bytes not replayed there yet.
    pub replay_lag_bytes: Option<i64>,
    /// Time behind, seconds; `None` when unknown.
    pub replay_lag_seconds: Option<f64>,
    /// Time until it has caught up at the present rate, seconds; `None` when it does not get nearer.
    pub catch_up_seconds: Option<f64>,
}

/// A slot and the log it keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotLag {
    /// The slot.
    pub slot: Slot,
    /// Bytes of log that it keeps from being removed; `None` once it is lost.
    pub retained_bytes: Option<i64>,
}

/// How far a standby's own replay is.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// The walreceiver; unavailable where our role may not see it, `None` while not connected.
    pub receiver: Reading<Option<WalReceiver>>,
    /// Last position received.
    pub received_lsn: Option<Lsn>,
    /// Last position replayed.
    pub replayed_lsn: Option<Lsn>,
    /// Bytes received and not replayed.
    pub replay_lag_bytes: Option<i64>,
    /// Time behind, seconds; `None` when it cannot be known: not streaming, or watched for too short a time.
    pub replay_lag_seconds: Option<f64>,
    /// An upper bound of the time behind: the age of the last replayed commit.
    pub replay_lag_seconds_at_most: Option<f64>,
    /// Commit time of the last transaction replayed.
    pub last_replayed_at: Option<Timestamp>,
    /// Whether replay is paused.
    pub paused: Option<bool>,
    /// What the startup process waits for, where that holds replay up.
    pub waiting_on: Option<String>,
}

/// Positions over time, for lag in seconds and for rates.
#[derive(Debug, Default)]
pub struct LagHistory {
    received: VecDeque<(Timestamp, Lsn)>,
    written: VecDeque<(Timestamp, Lsn)>,
    behind: BTreeMap<i32, VecDeque<(Timestamp, i64)>>,
}

impl LagHistory {
    /// Adds the positions of a sample.
    pub fn push(&mut self, sample: &Sample) {
        let at = sample.server_time;
        let Some(wal) = sample.wal.value() else { return };
        push(&mut self.received, POSITIONS_MAX, at, wal.received_lsn);
        push(&mut self.written, DRAIN_SAMPLES, at, wal.current_lsn);
        let senders = sample.senders.value().map(Vec::as_slice).unwrap_or_default();
        self.behind.retain(|pid, _| senders.iter().any(|sender| sender.pid == *pid));
        for sender in senders {
            let lag = end_of_log(sample).zip(sender.replay_lsn).map(|(end, replay)| distance(end, replay));
            push(self.behind.entry(sender.pid).or_default(), DRAIN_SAMPLES, at, lag);
        }
    }

    /// What was known before a moment.
    pub(super) fn before(&self, at: Timestamp) -> Self {
        let received =
            self.received.iter().take_while(|(received_at, _)| *received_at < at).copied().collect();
        Self { received, ..Self::default() }
    }

    /// Bytes per second by which a standby gets nearer; negative when it falls behind.
    fn drain_per_second(&self, pid: i32) -> Option<f64> {
        let samples = self.behind.get(&pid)?;
        slope(samples.front()?, samples.back()?, |first, last| first - last)
    }

    /// When the oldest byte beyond the replayed position was received, where that happened under our eyes.
    fn received_at(&self, replayed: Lsn) -> Option<Timestamp> {
        let first_beyond = self.received.iter().position(|(_, received)| *received > replayed)?;
        // Received at or before the first sample: how long before is not known.
        (first_beyond > 0).then(|| self.received.get(first_beyond).map(|(at, _)| *at)).flatten()
    }
}

fn push<T: Copy>(ring: &mut VecDeque<(Timestamp, T)>, max: usize, at: Timestamp, value: Option<T>) {
    let Some(value) = value else { return };
    if ring.len() >= max {
        ring.pop_front();
    }
    ring.push_back((at, value));
}

fn slope<T: Copy>(first: &(Timestamp, T), last: &(Timestamp, T), grown: impl Fn(T, T) -> i64) -> Option<f64> {
    let seconds = seconds_between(first.0, last.0);
    (seconds > 0.0).then(|| float(grown(first.1, last.1)) / seconds)
}

/// Bytes from `behind` to `ahead`, never negative: positions are read one after the other and may cross.
fn distance(ahead: Lsn, behind: Lsn) -> i64 {
    i64::try_from(ahead.saturating_sub(behind)).unwrap_or(i64::MAX)
}

/// The end of the log that this server can send: written on a primary, received or replayed on a standby.
fn end_of_log(sample: &Sample) -> Option<Lsn> {
    let wal = sample.wal.value()?;
    // After a restart the received position begins below the replayed one (measured).
    wal.current_lsn.or_else(|| wal.received_lsn.max(wal.replayed_lsn))
}

/// Derives the replication figures of one sample.
pub fn derive(sample: &Sample, history: &LagHistory) -> Replication {
    let end = end_of_log(sample);
    let standbys = sample
        .senders
        .map(|senders| senders.iter().map(|sender| standby(sample, sender, end, history)).collect());
    let slots = sample.slots.map(|slots| {
        let lag = |slot: &Slot| SlotLag {
            slot: slot.clone(),
            retained_bytes: end.zip(slot.restart_lsn).map(|(end, restart)| distance(end, restart)),
        };
        slots.iter().map(lag).collect()
    });
    let grown = |first: Lsn, last: Lsn| distance(last, first);
    let wal_bytes_per_second = history
        .written
        .front()
        .zip(history.written.back())
        .and_then(|(first, last)| slope(first, last, grown));
    Replication { standbys, slots, recovery: recovery(sample, history), wal_bytes_per_second }
}

fn standby(sample: &Sample, sender: &WalSender, end: Option<Lsn>, history: &LagHistory) -> Standby {
    let session =
        sample.sessions.value().and_then(|all| all.iter().find(|session| session.id.pid == sender.pid));
    let behind = |lsn: Option<Lsn>| end.zip(lsn).map(|(end, lsn)| distance(end, lsn));
    let replay_lag_bytes = behind(sender.replay_lsn);
    let replay_lag_seconds = match replay_lag_bytes {
        Some(0) => Some(0.0),
        Some(_) => sender.replay_lag_seconds,
        None => None,
    };
    let drain = history.drain_per_second(sender.pid).filter(|rate| *rate > 0.0);
    Standby {
        pid: sender.pid,
        application: session.map(|s| Arc::clone(&s.application_name)).unwrap_or_default(),
        client: session.and_then(|s| s.client_addr).map(|address| address.to_string()),
        state: sender.state.clone(),
        sync_state: sender.sync_state.clone(),
        sent_lag_bytes: behind(sender.sent_lsn),
        write_lag_bytes: behind(sender.write_lsn),
        flush_lag_bytes: behind(sender.flush_lsn),
        replay_lag_bytes,
        replay_lag_seconds,
        catch_up_seconds: replay_lag_bytes
            .filter(|bytes| *bytes > 0)
            .zip(drain)
            .map(|(bytes, rate)| float(bytes) / rate),
    }
}

fn recovery(sample: &Sample, history: &LagHistory) -> Option<Recovery> {
    if !sample.server.in_recovery {
        return None;
    }
    let wal = sample.wal.value().cloned().unwrap_or_default();
    let now = sample.server_time;
    let replayed_everything =
        wal.received_lsn.zip(wal.replayed_lsn).is_some_and(|(received, replayed)| received <= replayed);
    let replay_lag_seconds = match (is_streaming(sample), replayed_everything, wal.replayed_lsn) {
        (true, true, _) => Some(0.0),
        (true, false, Some(replayed)) => {
            history.received_at(replayed).map(|at| seconds_between(at, now).max(0.0))
        }
        (true, false, None) | (false, _, _) => None,
    };
    Some(Recovery {
        receiver: sample.receiver.clone(),
        received_lsn: wal.received_lsn,
        replayed_lsn: wal.replayed_lsn,
        replay_lag_bytes: wal
            .received_lsn
            .zip(wal.replayed_lsn)
            .map(|(received, replayed)| distance(received, replayed)),
        replay_lag_seconds,
        replay_lag_seconds_at_most: replay_lag_seconds
            .or_else(|| wal.last_replayed_at.map(|at| seconds_between(at, now).max(0.0))),
        last_replayed_at: wal.last_replayed_at,
        paused: wal.replay_paused,
        waiting_on: waiting_on(sample),
    })
}

fn is_streaming(sample: &Sample) -> bool {
    let receiver = sample.receiver.value().and_then(Option::as_ref);
    receiver.is_some_and(|receiver| {
        let heard = receiver.last_msg_receipt_time.map(|at| seconds_between(at, sample.server_time));
        receiver.status.as_deref() == Some("streaming")
            && heard.is_some_and(|s| s < RECEIVER_SILENCE_MAX_SECONDS)
    })
}

/// The startup process waits for a reader: a conflict that holds replay up.
fn waiting_on(sample: &Sample) -> Option<String> {
    let sessions = sample.sessions.value()?;
    let startup = sessions.iter().find(|session| session.backend_type.as_deref() == Some("startup"))?;
    let (kind, event) = (startup.wait_event_type.as_deref()?, startup.wait_event.as_deref()?);
    let holds_up = matches!(kind, "Lock" | "BufferPin") || event.starts_with("RecoveryConflict");
    holds_up.then(|| format!("{kind}/{event}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Reason;
    use crate::model::postgres::{Names, Rights, Server, Statements, Wal};
    use pretty_assertions::assert_eq;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn sample(second: i64, in_recovery: bool, wal: Wal) -> Sample {
        let nothing = Reason::new("not read");
        Sample {
            server_time: at(second),
            server: Arc::new(Server {
                version: "15.18".into(),
                version_num: 150_018,
                started_at: at(0),
                in_recovery,
                max_connections: 100,
                usable_connections: 97,
                own_pids: Vec::new(),
                pooled: false,
                endpoint: None,
            }),
            rights: Arc::new(Rights {
                user: "u".into(),
                superuser: false,
                read_all_stats: true,
                signal_backend: true,
                reserved_connections: None,
                signal_autovacuum_worker: None,
            }),
            names: Arc::new(Names::default()),
            sessions: Reading::Fresh(Vec::new()),
            locks: Reading::Fresh(std::sync::Arc::default()),
            prepared: Reading::Fresh(Vec::new()),
            databases: Reading::Fresh(Vec::new()),
            statements: Reading::<Arc<Statements>>::Unavailable(nothing),
            statement_texts: Arc::default(),
            wal: Reading::Fresh(wal),
            senders: Reading::Fresh(Vec::new()),
            slots: Reading::Fresh(Vec::new()),
            receiver: Reading::Fresh(None),
            upkeep: None,
            tables: None,
            slowed: Vec::new(),
        }
    }

    fn primary(second: i64, end: Lsn, replayed: Lsn, replay_lag_seconds: Option<f64>) -> Sample {
        let sender = WalSender {
            pid: 7,
            state: Some("streaming".into()),
            sent_lsn: Some(end),
            write_lsn: Some(end),
            flush_lsn: Some(end),
            replay_lsn: Some(replayed),
            write_lag_seconds: None,
            flush_lag_seconds: None,
            replay_lag_seconds,
            sync_state: Some("async".into()),
        };
        let wal = Wal { current_lsn: Some(end), ..Wal::default() };
        Sample { senders: Reading::Fresh(vec![sender]), ..sample(second, false, wal) }
    }

    fn standby(second: i64, received: Lsn, replayed: Lsn, streaming: bool) -> Sample {
        let upstream = WalReceiver {
            status: Some("streaming".into()),
            upstream: None,
            last_msg_receipt_time: Some(at(second)),
            latest_end_lsn: None,
        };
        let wal = Wal {
            received_lsn: Some(received),
            replayed_lsn: Some(replayed),
            last_replayed_at: Some(at(-60)),
            ..Wal::default()
        };
        Sample { receiver: Reading::Fresh(streaming.then_some(upstream)), ..sample(second, true, wal) }
    }

    fn last(samples: &[Sample]) -> Replication {
        let mut history = LagHistory::default();
        for sample in samples {
            history.push(sample);
        }
        derive(samples.last().unwrap(), &history)
    }

    #[test]
    fn an_idle_primary_shows_no_false_lag() {
        // The walsender's replay_lag stays at its last value for a while after traffic stops.
        let standbys = last(&[primary(0, 5000, 5000, Some(3.0))]).standbys;
        let standby = &standbys.value().unwrap()[0];
        assert_eq!((standby.replay_lag_bytes, standby.replay_lag_seconds), (Some(0), Some(0.0)));
    }

    #[test]
    fn bytes_behind_without_a_time_are_an_unknown_time() {
        let standbys = last(&[primary(0, 5000, 1000, None)]).standbys;
        let standby = &standbys.value().unwrap()[0];
        assert_eq!((standby.replay_lag_bytes, standby.replay_lag_seconds), (Some(4000), None));
        assert_eq!(standby.catch_up_seconds, None);
    }

    #[test]
    fn the_time_to_catch_up_follows_the_rate() {
        let standbys = last(&[primary(0, 9000, 1000, Some(9.0)), primary(2, 9000, 5000, Some(5.0))]).standbys;
        // 2,000 bytes a second nearer, 4,000 to go.
        assert_eq!(standbys.value().unwrap()[0].catch_up_seconds, Some(2.0));
    }

    #[test]
    fn a_standbys_lag_is_the_age_of_the_position_it_replays() {
        let samples = [
            standby(0, 1000, 1000, true),
            standby(1, 2000, 1000, true),
            standby(2, 3000, 1000, true),
            standby(5, 3000, 2000, true),
        ];
        let recovery = last(&samples).recovery.unwrap();
        // What lies beyond 2,000 was received at second 2, three seconds ago.
        assert_eq!((recovery.replay_lag_bytes, recovery.replay_lag_seconds), (Some(1000), Some(3.0)));
        let idle = last(&[standby(0, 1000, 1000, true), standby(9, 1000, 1000, true)]).recovery.unwrap();
        assert_eq!(
            idle.replay_lag_seconds,
            Some(0.0),
            "the last commit is a minute old, and nothing is behind"
        );
    }

    #[test]
    fn a_byte_after_long_idleness_is_not_an_old_lag() {
        let samples = [
            standby(0, 900, 900, true),
            standby(1, 1000, 1000, true),
            standby(600, 1000, 1000, true),
            standby(601, 1100, 1000, true),
        ];
        assert_eq!(last(&samples).recovery.unwrap().replay_lag_seconds, Some(0.0));
    }

    #[test]
    fn a_standby_that_is_not_streaming_does_not_know_its_lag() {
        let recovery = last(&[standby(0, 1000, 1000, false)]).recovery.unwrap();
        assert_eq!((recovery.replay_lag_seconds, recovery.replay_lag_seconds_at_most), (None, Some(60.0)));
    }

    #[test]
    fn a_position_below_the_replayed_one_is_not_negative_lag() {
        let recovery = last(&[standby(0, 900, 1000, true)]).recovery.unwrap();
        assert_eq!((recovery.replay_lag_bytes, recovery.replay_lag_seconds), (Some(0), Some(0.0)));
    }
}
