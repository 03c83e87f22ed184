//! A PostgreSQL target of the snapshot.

use serde::Serialize;

use super::{FindingEntry, Unavailable, error, findings, status};
use crate::engine::locks::{AdvisedAction, Forest, Node, NodeKind};
use crate::engine::missing::unavailable;
use crate::engine::replication::{Recovery, SlotLag, Standby};
use crate::engine::statements::StatementRow;
use crate::engine::vitals::{PgVitals, Wait};
use crate::engine::{Observer, PgTick, Tick};
use crate::format::rfc3339;
use crate::model::Reading;
use crate::model::postgres::{Sample, Session, State};

#[derive(Serialize)]
pub(super) struct PgTarget {
    name: String,
    kind: &'static str,
    status: &'static str,
    error: Option<String>,
    server: Option<PgServer>,
    vitals: Option<VitalsEntry>,
    sessions: Option<Vec<SessionEntry>>,
    locks: Option<Locks>,
    statements: Option<Vec<StatementEntry>>,
    replication: Option<Replication>,
    cache: Option<PgCache>,
    waits: Option<Vec<WaitEntry>>,
    findings: Vec<FindingEntry>,
    unavailable: Vec<Unavailable>,
}

impl PgTarget {
    pub(super) fn of(observer: &Observer) -> Self {
        let tick = observer.tick().and_then(Tick::postgres);
        let unavailable: Vec<Unavailable> = tick
            .map(unavailable)
            .unwrap_or_default()
            .iter()
            .map(|(part, reason)| Unavailable::of(part, reason))
            .collect();
        Self {
            name: observer.target.name.clone(),
            kind: "postgres",
            status: status(observer, !unavailable.is_empty()),
            error: error(observer),
            server: tick.map(|tick| PgServer::of(&tick.sample)),
            vitals: tick.map(|tick| VitalsEntry::of(&tick.vitals)),
            sessions: tick.and_then(sessions),
            locks: tick.and_then(|tick| tick.forest.value()).map(Locks::of),
            statements: tick.and_then(statements),
            replication: tick.map(Replication::of),
            cache: tick.map(PgCache::of),
            waits: tick
                .filter(|tick| tick.vitals.active.is_some())
                .map(|tick| tick.waits.iter().map(WaitEntry::of).collect()),
            findings: findings(observer),
            unavailable,
        }
    }
}

#[derive(Serialize)]
struct PgServer {
    version: String,
    version_num: u32,
    role: &'static str,
    started_at: String,
    max_connections: u32,
    usable_connections: u32,
}

impl PgServer {
    fn of(sample: &Sample) -> Self {
        let server = &sample.server;
        Self {
            version: server.version.clone(),
            version_num: server.version_num,
            role: if server.in_recovery { "standby" } else { "primary" },
            started_at: rfc3339(server.started_at),
            max_connections: server.max_connections,
            usable_connections: server.usable_connections,
        }
    }
}

#[derive(Serialize)]
struct VitalsEntry {
    connections: Option<usize>,
    active: Option<usize>,
    blocked: Option<usize>,
    idle_in_transaction: Option<usize>,
    oldest_transaction_seconds: Option<f64>,
    transactions_per_second: Option<f64>,
    rollback_ratio: Option<f64>,
    buffer_hit_ratio: Option<f64>,
}

impl VitalsEntry {
    const fn of(vitals: &PgVitals) -> Self {
        Self {
            connections: vitals.connections,
            active: vitals.active,
            blocked: vitals.blocked,
            idle_in_transaction: vitals.idle_in_transaction,
            oldest_transaction_seconds: vitals.oldest_transaction_seconds,
            transactions_per_second: vitals.transactions_per_second,
            rollback_ratio: vitals.rollback_ratio,
            buffer_hit_ratio: vitals.buffer_hit_ratio,
        }
    }
}

#[derive(Serialize)]
struct SessionEntry {
    pid: i32,
    backend_start: Option<String>,
    backend_type: Option<String>,
    user: Option<String>,
    database: Option<String>,
    application: String,
    client: Option<String>,
    state: Option<&'static str>,
    wait_event_type: Option<String>,
    wait_event: Option<String>,
    xact_start: Option<String>,
    query_start: Option<String>,
    state_change: Option<String>,
    query_id: Option<i64>,
    query: String,
    blocked_by: Option<Vec<i32>>,
    blocks_total: Option<usize>,
}

fn sessions(tick: &PgTick) -> Option<Vec<SessionEntry>> {
    let entry = |session: &Session| {
        let names = &tick.sample.names;
        let forest = tick.forest.value();
        SessionEntry {
            pid: session.id.pid,
            backend_start: session.id.backend_start.map(rfc3339),
            backend_type: session.backend_type.as_deref().map(str::to_owned),
            user: session.usesysid.map(|oid| names.role(oid).to_string()),
            database: session.datid.map(|oid| names.database(oid).to_string()),
            application: session.application_name.to_string(),
            client: session.client_addr.map(|address| address.to_string()),
            state: session.state.map(State::as_str),
            wait_event_type: session.wait_event_type.as_deref().map(str::to_owned),
            wait_event: session.wait_event.as_deref().map(str::to_owned),
            xact_start: session.xact_start.map(rfc3339),
            query_start: session.query_start.map(rfc3339),
            state_change: session.state_change.map(rfc3339),
            query_id: session.query_id,
            query: session.query.to_string(),
            blocked_by: forest.map(|forest| forest.blocked_by(session.id.pid)),
            blocks_total: forest.map(|forest| forest.behind(session.id.pid)),
        }
    };
    tick.sample.sessions.value().map(|all| all.iter().map(entry).collect())
}

#[derive(Serialize)]
struct Locks {
    blocked_sessions: usize,
    roots: Vec<Root>,
}

#[derive(Serialize)]
struct Root {
    kind: &'static str,
    pid: Option<i32>,
    gid: Option<String>,
    members: Vec<i32>,
    state: String,
    blocked_total: usize,
    blocked_direct: usize,
    frees_now: usize,
    longest_wait_seconds: Option<f64>,
    advice: Advice,
    children: Vec<Waiter>,
}

#[derive(Serialize)]
struct Advice {
    action: &'static str,
    pid: Option<i32>,
    reason: String,
}

#[derive(Serialize)]
struct Waiter {
    pid: Option<i32>,
    kind: &'static str,
    members: Vec<i32>,
    waits_for: Option<WaitsFor>,
    wait_seconds: Option<f64>,
    also_behind: Vec<i32>,
    blocked_total: usize,
    frees_now: usize,
    children: Vec<Self>,
}

#[derive(Serialize)]
struct WaitsFor {
    lock_type: String,
    mode: String,
    object: String,
    held_by: Vec<i32>,
}

impl Locks {
    fn of(forest: &Forest) -> Self {
        Self {
            blocked_sessions: forest.blocked_sessions,
            roots: forest.roots().map(|root| Root::of(root, forest)).collect(),
        }
    }
}

impl Root {
    fn of(root: &Node, forest: &Forest) -> Self {
        let advice = forest.advice(root);
        let pid = if advice.action == AdvisedAction::None { None } else { advice.pid };
        Self {
            kind: root.kind.as_str(),
            pid: root.pid.filter(|_| root.kind != NodeKind::Prepared),
            gid: root.gid.clone(),
            members: root.members.clone(),
            state: root.description.clone(),
            blocked_total: root.behind,
            blocked_direct: root.behind_directly,
            frees_now: root.frees_now,
            longest_wait_seconds: root.longest_wait_seconds,
            advice: Advice { action: advice.action.as_str(), pid, reason: advice.reason },
            children: forest.children(root).map(|child| Waiter::of(child, forest)).collect(),
        }
    }
}

impl Waiter {
    fn of(node: &Node, forest: &Forest) -> Self {
        Self {
            pid: node.pid,
            kind: node.kind.as_str(),
            members: node.members.clone(),
            waits_for: node.waits_for.as_ref().map(|wait| WaitsFor {
                lock_type: wait.tag.locktype.to_string(),
                mode: wait.mode.to_string(),
                object: wait.object.to_string(),
                held_by: forest.held_by(node),
            }),
            wait_seconds: node.wait_seconds,
            also_behind: forest.also_behind(node),
            blocked_total: node.behind,
            frees_now: node.frees_now,
            children: forest.children(node).map(|child| Self::of(child, forest)).collect(),
        }
    }
}

#[derive(Serialize)]
struct StatementEntry {
    query_id: i64,
    user: String,
    database: String,
    toplevel: bool,
    calls_per_second: Option<f64>,
    exec_ms_per_second: Option<f64>,
    mean_ms: Option<f64>,
    mean_ms_since_reset: Option<f64>,
    slowdown: Option<f64>,
    rows_per_call: Option<f64>,
    hit_ratio: Option<f64>,
    temp_blocks_per_second: Option<f64>,
    query: Option<String>,
}

fn statements(tick: &PgTick) -> Option<Vec<StatementEntry>> {
    let names = &tick.sample.names;
    let entry = |row: &StatementRow| StatementEntry {
        query_id: row.key.queryid,
        user: names.role(row.key.userid).to_string(),
        database: names.database(row.key.dbid).to_string(),
        toplevel: row.key.toplevel,
        calls_per_second: row.calls_per_second,
        exec_ms_per_second: row.exec_ms_per_second,
        mean_ms: row.mean_ms,
        mean_ms_since_reset: row.mean_ms_since_reset,
        slowdown: row.slowdown,
        rows_per_call: row.rows_per_call,
        hit_ratio: row.hit_ratio,
        temp_blocks_per_second: row.temp_blocks_per_second,
        query: row.query.as_deref().map(str::to_owned),
    };
    tick.statements.value().map(|table| table.rows.iter().map(entry).collect())
}

#[derive(Serialize)]
struct Replication {
    standbys: Option<Vec<StandbyEntry>>,
    slots: Option<Vec<SlotEntry>>,
    recovery: Option<RecoveryEntry>,
}

#[derive(Serialize)]
struct StandbyEntry {
    application: String,
    client: Option<String>,
    state: Option<String>,
    sync_state: Option<String>,
    sent_lag_bytes: Option<i64>,
    write_lag_bytes: Option<i64>,
    flush_lag_bytes: Option<i64>,
    replay_lag_bytes: Option<i64>,
    replay_lag_seconds: Option<f64>,
    catch_up_seconds: Option<f64>,
}

#[derive(Serialize)]
struct SlotEntry {
    name: String,
    kind: String,
    active: bool,
    wal_status: Option<String>,
    retained_bytes: Option<i64>,
    safe_wal_bytes: Option<i64>,
}

#[derive(Serialize)]
struct RecoveryEntry {
    receiver: Option<ReceiverEntry>,
    received_lsn: Option<String>,
    replayed_lsn: Option<String>,
    replay_lag_bytes: Option<i64>,
    replay_lag_seconds: Option<f64>,
    replay_lag_seconds_at_most: Option<f64>,
    last_replayed_at: Option<String>,
    paused: Option<bool>,
    waiting_on: Option<String>,
}

#[derive(Serialize)]
struct ReceiverEntry {
    status: Option<String>,
    upstream: Option<String>,
    last_message_at: Option<String>,
}

impl Replication {
    fn of(tick: &PgTick) -> Self {
        let replication = &tick.replication;
        let list = |standbys: &Vec<Standby>| standbys.iter().map(StandbyEntry::of).collect();
        Self {
            standbys: replication.standbys.value().map(list),
            slots: replication.slots.value().map(|slots| slots.iter().map(SlotEntry::of).collect()),
            recovery: replication.recovery.as_ref().map(RecoveryEntry::of),
        }
    }
}

impl StandbyEntry {
    fn of(standby: &Standby) -> Self {
        Self {
            application: standby.application.to_string(),
            client: standby.client.clone(),
            state: standby.state.as_deref().map(str::to_owned),
            sync_state: standby.sync_state.as_deref().map(str::to_owned),
            sent_lag_bytes: standby.sent_lag_bytes,
            write_lag_bytes: standby.write_lag_bytes,
            flush_lag_bytes: standby.flush_lag_bytes,
            replay_lag_bytes: standby.replay_lag_bytes,
            replay_lag_seconds: standby.replay_lag_seconds,
            catch_up_seconds: standby.catch_up_seconds,
        }
    }
}

impl SlotEntry {
    fn of(lag: &SlotLag) -> Self {
        Self {
            name: lag.slot.name.to_string(),
            kind: lag.slot.kind.to_string(),
            active: lag.slot.active,
            wal_status: lag.slot.wal_status.as_deref().map(str::to_owned),
            retained_bytes: lag.retained_bytes,
            safe_wal_bytes: lag.slot.safe_wal_bytes,
        }
    }
}

impl RecoveryEntry {
    fn of(recovery: &Recovery) -> Self {
        let lsn = |position: u64| format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff);
        let receiver = match &recovery.receiver {
            Reading::Fresh(receiver) | Reading::Stale(receiver, _) => receiver.as_ref(),
            Reading::Unavailable(_) => None,
        };
        Self {
            receiver: receiver.map(|receiver| ReceiverEntry {
                status: receiver.status.as_deref().map(str::to_owned),
                upstream: receiver.upstream.as_deref().map(str::to_owned),
                last_message_at: receiver.last_msg_receipt_time.map(rfc3339),
            }),
            received_lsn: recovery.received_lsn.map(lsn),
            replayed_lsn: recovery.replayed_lsn.map(lsn),
            replay_lag_bytes: recovery.replay_lag_bytes,
            replay_lag_seconds: recovery.replay_lag_seconds,
            replay_lag_seconds_at_most: recovery.replay_lag_seconds_at_most,
            last_replayed_at: recovery.last_replayed_at.map(rfc3339),
            paused: recovery.paused,
            waiting_on: recovery.waiting_on.clone(),
        }
    }
}

#[derive(Serialize)]
struct PgCache {
    buffer_hit_ratio: Option<f64>,
    blocks_hit_per_second: Option<f64>,
    blocks_read_per_second: Option<f64>,
    temp_bytes_per_second: Option<f64>,
}

impl PgCache {
    const fn of(tick: &PgTick) -> Self {
        Self {
            buffer_hit_ratio: tick.cache.buffer_hit_ratio,
            blocks_hit_per_second: tick.cache.blocks_hit_per_second,
            blocks_read_per_second: tick.cache.blocks_read_per_second,
            temp_bytes_per_second: tick.cache.temp_bytes_per_second,
        }
    }
}

#[derive(Serialize)]
struct WaitEntry {
    class: String,
    event: Option<String>,
    average_active_sessions: f64,
}

impl WaitEntry {
    fn of(wait: &Wait) -> Self {
        Self {
            class: wait.class.clone(),
            event: Some(wait.event.clone()).filter(|event| !event.is_empty()),
            average_active_sessions: wait.average_active_sessions,
        }
    }
}
