//! The snapshot for people: short enough to paste into a ticket, in the order of the screen.

use jiff::Timestamp;

use crate::engine::locks::{Forest, Node};
use crate::engine::{Observer, PgTick, RedisTick, TickBody};
use crate::format;
use crate::model::Reading;
use crate::model::postgres::{Session, State};
use crate::text;

/// Sessions, statements and waiters listed at most, each.
const ROWS_MAX: usize = 20;
/// Width of a query in a line.
const QUERY_COLUMNS: usize = 100;

pub(super) fn render(observers: &[Observer], taken_at: Timestamp) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("dbtriage snapshot {}", format::rfc3339(taken_at)));
    for observer in observers {
        out.push('\n');
        target(&mut out, observer);
    }
    out
}

/// Every line that may hold a server's text goes through here.
fn line(out: &mut String, content: std::fmt::Arguments<'_>) {
    out.push_str(&text::line(&content.to_string()));
    out.push('\n');
}

fn target(out: &mut String, observer: &Observer) {
    let name = &observer.target.name;
    if let Some(outage) = observer.outage() {
        line(out, format_args!("{name}: {}: {}", outage.kind, outage.reason));
    }
    let Some(tick) = observer.tick() else { return };
    match &tick.body {
        TickBody::Postgres(tick) => {
            postgres(out, tick.sample.server.endpoint.as_ref().unwrap_or(name), tick);
        }
        TickBody::Redis(tick) => redis(out, name, tick),
    }
    for finding in observer.findings() {
        let mark = format!("{:?}", finding.severity).to_uppercase();
        line(out, format_args!("  {mark}: {} -> {}", finding.summary, finding.help));
    }
    if observer.findings().is_empty() {
        let unknown =
            observer.not_yet().iter().map(|(check, why)| format!("{check}: {why}")).collect::<Vec<_>>();
        let rest =
            if unknown.is_empty() { String::new() } else { format!(", not known: {}", unknown.join("; ")) };
        line(out, format_args!("  nothing found{rest}"));
    }
    if let TickBody::Postgres(tick) = &tick.body {
        for (part, reason) in crate::engine::missing::unavailable(tick) {
            line(out, format_args!("  not available: {part}: {reason}"));
        }
    }
    if let TickBody::Postgres(tick) = &tick.body {
        if let Reading::Fresh(forest) | Reading::Stale(forest, _) = &tick.forest {
            locks(out, forest, tick);
        }
        sessions(out, tick);
        statements(out, tick);
        replication(out, tick);
    }
}

fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "?".into(), show)
}

fn postgres(out: &mut String, name: &str, tick: &PgTick) {
    let (server, vitals) = (&tick.sample.server, &tick.vitals);
    let role = if server.in_recovery { "standby" } else { "primary" };
    let up = format::age_at(server.started_at, tick.sample.server_time);
    line(out, format_args!("{name}  PostgreSQL {} {role}  up {up}", server.version));
    let count = |value: Option<usize>| value.map_or_else(|| "?".into(), |n| n.to_string());
    line(
        out,
        format_args!(
            "  connections {}/{}  active {}  blocked {}  idle in transaction {}  oldest transaction {}  tps {}  hit {}",
            count(vitals.connections),
            server.usable_connections,
            count(vitals.active),
            count(vitals.blocked),
            count(vitals.idle_in_transaction),
            match (vitals.active, vitals.oldest_transaction_seconds) {
                (None, _) => "?".into(),
                (Some(_), None) => "-".into(),
                (Some(_), Some(seconds)) => format::age(seconds),
            },
            known(vitals.transactions_per_second, format::count),
            known(vitals.buffer_hit_ratio, format::share),
        ),
    );
}

fn redis(out: &mut String, name: &str, tick: &RedisTick) {
    let (sample, rates) = (&tick.sample, &tick.rates);
    line(
        out,
        format_args!(
            "{name}  Redis {} {}",
            sample.version.as_deref().unwrap_or("?"),
            sample.role.as_deref().unwrap_or("?")
        ),
    );
    let bytes = |value: Option<u64>| {
        value.map_or_else(
            || "?".into(),
            |value| format::bytes(crate::engine::rates::float(value.cast_signed())),
        )
    };
    line(
        out,
        format_args!(
            "  hit {}  evictions {}/s  memory {} of {}  clients {}  commands {}/s",
            known(rates.hit_ratio, format::share),
            known(rates.evictions_per_second, format::count),
            bytes(sample.used_memory_bytes),
            sample
                .maxmemory_bytes
                .filter(|limit| *limit > 0)
                .map_or_else(|| "no limit".into(), |limit| bytes(Some(limit))),
            sample.connected_clients.map_or_else(|| "?".into(), |n| n.to_string()),
            known(rates.commands_per_second, format::count),
        ),
    );
}

fn locks(out: &mut String, forest: &Forest, tick: &PgTick) {
    if forest.blocked_sessions == 0 {
        return;
    }
    let order = if forest.queue_is_exact { "" } else { " (order of queues approximate before 14)" };
    let waiting = format::counted(forest.blocked_sessions, "session");
    line(out, format_args!("  locks: {waiting} wait{order}"));
    let mut left = ROWS_MAX;
    for root in forest.roots() {
        line(out, format_args!("    {} blocks {}", root.title(), format::counted(root.behind, "session")));
        line(out, format_args!("      advice: {}", forest.advice(root).reason));
        if let Some(other) = forest.alternative(root) {
            line(out, format_args!("          or: {}", other.reason));
        }
        waiters(out, forest, root, tick, 3, &mut left);
    }
    if left == 0 {
        line(out, format_args!("      ... the others are in the JSON"));
    }
}

fn waiters(out: &mut String, forest: &Forest, node: &Node, tick: &PgTick, depth: usize, left: &mut usize) {
    for child in forest.children(node) {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let waits = child
            .waits_for
            .as_ref()
            .map(|wait| format!("{} on {}", wait.mode, wait.object))
            .unwrap_or_default();
        let age = known(child.wait_seconds, format::age);
        let query = child.pid.and_then(|pid| session(tick, pid)).map_or("", |session| &*session.query);
        let indent = "  ".repeat(depth);
        let who = child.pid.map_or_else(|| child.title(), |pid| pid.to_string());
        line(out, format_args!("{indent}{who}  {age}  {waits}  {}", cut(query)));
        waiters(out, forest, child, tick, depth + 1, left);
    }
}

fn session(tick: &PgTick, pid: i32) -> Option<&Session> {
    tick.sample.sessions.value()?.iter().find(|session| session.id.pid == pid)
}

fn cut(query: &str) -> String {
    text::fit(&text::line(&text::folded(query)), QUERY_COLUMNS, false).into_owned()
}

fn sessions(out: &mut String, tick: &PgTick) {
    let Some(sessions) = tick.sample.sessions.value() else { return };
    let now = tick.sample.server_time;
    let mut busy: Vec<&Session> = sessions
        .iter()
        .filter(|session| session.is_client() && session.state.is_some_and(|state| state != State::Idle))
        .filter(|session| !crate::engine::vitals::is_own(&tick.sample, session))
        .collect();
    if busy.is_empty() {
        return;
    }
    busy.sort_by_key(|session| (session.xact_start.is_none(), session.xact_start));
    line(out, format_args!("  sessions not idle: {}", busy.len()));
    for session in busy.iter().take(ROWS_MAX) {
        line(
            out,
            format_args!(
                "    {}  {}  {}  {}  xact {}  {}",
                session.id.pid,
                session.application_name,
                session.state.map_or("?", State::as_str),
                session.wait_event.as_deref().unwrap_or("-"),
                session.xact_start.map_or_else(|| "-".into(), |at| format::age_at(at, now)),
                cut(&session.query),
            ),
        );
    }
}

fn statements(out: &mut String, tick: &PgTick) {
    let Some(table) = tick.statements.value() else { return };
    let busy: Vec<_> =
        table.rows.iter().filter(|row| row.calls_per_second.is_some_and(|calls| calls > 0.0)).collect();
    if busy.is_empty() {
        return;
    }
    line(out, format_args!("  statements by time: seconds/s, calls/s, mean, mean before"));
    for row in busy.iter().take(10) {
        line(
            out,
            format_args!(
                "    {}  {}  {}  {}  {}",
                known(row.exec_ms_per_second.map(|ms| ms / 1000.0), format::count),
                known(row.calls_per_second, format::count),
                known(row.mean_ms, format::duration_ms),
                known(row.mean_ms_before, format::duration_ms),
                cut(row.query.as_deref().unwrap_or("(text not read yet)")),
            ),
        );
    }
}

fn replication(out: &mut String, tick: &PgTick) {
    let replication = &tick.replication;
    let bytes = |value: Option<i64>| known(value.map(crate::engine::rates::float), format::bytes);
    for standby in replication.standbys.value().into_iter().flatten() {
        let (lag, age) = (bytes(standby.replay_lag_bytes), known(standby.replay_lag_seconds, format::age));
        let state = standby.state.as_deref().unwrap_or("?");
        line(out, format_args!("  standby {}  {state}  not replayed {lag}  lag {age}", standby.application));
    }
    for slot in replication.slots.value().into_iter().flatten().filter(|slot| !slot.slot.active) {
        line(out, format_args!("  slot {} inactive, keeps {}", slot.slot.name, bytes(slot.retained_bytes)));
    }
    if let Some(recovery) = &replication.recovery {
        let mut state = String::new();
        if recovery.paused == Some(true) {
            state.push_str("  replay is paused");
        }
        if let Some(waiting_on) = &recovery.waiting_on {
            state.push_str(&format!("  replay waits: {waiting_on}"));
        }
        let (lag, age) = (bytes(recovery.replay_lag_bytes), known(recovery.replay_lag_seconds, format::age));
        line(out, format_args!("  recovery: not replayed {lag}  lag {age}{state}"));
    }
}
