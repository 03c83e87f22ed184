//! What the role sees and may do on the server, and the GRANT that would help: asked before it is needed.

use super::App;
use super::detail::Sheet;
use super::table::{Role, Span};
use crate::engine::PgTick;
use crate::engine::missing::{grant, unavailable};
use crate::format::{age_at, rfc3339};

/// From here on a role can be let into the reserved slots, and have autovacuum workers signalled.
const RESERVED_SLOTS_SINCE: u32 = 160_000;
const AUTOVACUUM_RIGHT_SINCE: u32 = 180_000;

impl App {
    /// The sheet of the PostgreSQL server that is shown; `None` where none is watched.
    pub fn server_sheet(&self) -> Option<Sheet> {
        let observer = self.pg_observer()?;
        let mut fields = Vec::new();
        if let Some(outage) = observer.outage() {
            let since = age_at(outage.since, self.clock());
            let text = format!("{} for {since}: {}", outage.kind, outage.reason.text);
            fields.push(("no data", Span::new(Role::Critical, text)));
            fields.extend(outage.reason.hint.iter().map(|hint| ("what helps", Span::text(hint.to_string()))));
        }
        if let Some(tick) = self.pg() {
            fields.extend(identity(tick));
            fields.extend(capabilities(tick));
            fields.push(("ours", connections(tick)));
            fields.extend(settings(tick));
            for (part, reason) in unavailable(tick) {
                fields.push(("not read", Span::new(Role::Warning, format!("{part}: {reason}"))));
            }
        }
        Some(Sheet {
            title: format!("Server {}", observer.target.name),
            fields,
            heading: "",
            text: String::new(),
        })
    }
}

fn identity(tick: &PgTick) -> Vec<(&'static str, Span)> {
    let server = &tick.sample.server;
    let rights = &tick.sample.rights;
    let kind = if server.in_recovery { "standby" } else { "primary" };
    let up = age_at(server.started_at, tick.sample.server_time);
    let role = if rights.superuser { format!("{} (superuser)", rights.user) } else { rights.user.clone() };
    vec![
        ("server", Span::text(format!("PostgreSQL {}, {kind}", server.version))),
        ("started", Span::text(format!("{}  {up} ago", rfc3339(server.started_at)))),
        ("role", Span::text(role)),
    ]
}

/// A right that is there, or what would give it, on a line of its own.
fn right(
    name: &'static str,
    with: &str,
    without: &str,
    granted: bool,
    cure: String,
) -> Vec<(&'static str, Span)> {
    if granted {
        return vec![(name, Span::text(with.to_owned()))];
    }
    vec![(name, Span::new(Role::Warning, without.to_owned())), ("", Span::text(cure))]
}

fn capabilities(tick: &PgTick) -> Vec<(&'static str, Span)> {
    let (server, rights) = (&tick.sample.server, &tick.sample.rights);
    let user = rights.user.as_str();
    let is_super = rights.superuser;
    let mut all = right(
        "sees",
        "every session and statement in full",
        "only its own sessions in full",
        is_super || rights.read_all_stats,
        grant("pg_monitor", user),
    );
    all.extend(right(
        "may signal",
        if is_super { "every session" } else { "sessions of roles that are no superusers" },
        "only sessions of its own role, and of roles it is a member of",
        is_super || rights.signal_backend,
        grant("pg_signal_backend", user),
    ));
    all.extend(if server.version_num >= AUTOVACUUM_RIGHT_SINCE {
        right(
            "autovacuum",
            "may end its workers",
            "may not end its workers",
            is_super || rights.signal_autovacuum_worker == Some(true),
            grant("pg_signal_autovacuum_worker", user),
        )
    } else {
        let may = if is_super { "may end its workers" } else { "only a superuser may end its workers" };
        vec![("autovacuum", Span::text(may))]
    });
    let (usable, most) = (server.usable_connections, server.max_connections);
    let slots = format!("{usable} of {most} for every role, {} reserved", most.saturating_sub(usable));
    all.extend(if server.version_num >= RESERVED_SLOTS_SINCE {
        right(
            "slots",
            &format!("{slots}, open to this role"),
            &format!("{slots}, closed to this role"),
            is_super || rights.reserved_connections == Some(true),
            grant("pg_use_reserved_connections", user),
        )
    } else {
        let who = if is_super { "open to this role" } else { "for superusers only" };
        vec![("slots", Span::text(format!("{slots}, {who}")))]
    });
    if let Some(statements) = tick.sample.statements.value() {
        let version = &statements.extension_version;
        all.push(("statements", Span::text(format!("pg_stat_statements {version}"))));
    }
    all
}

/// The settings that matter in an incident, and which of them are not in force yet.
fn settings(tick: &PgTick) -> Vec<(&'static str, Span)> {
    let Some(upkeep) = tick.sample.upkeep.as_deref() else { return Vec::new() };
    let shown = upkeep.settings.value().into_iter().flatten();
    let lines = shown.map(|it| Span::text(format!("{} = {}", it.name, it.value)));
    let waiting = upkeep.pending_restart.value().into_iter().flatten();
    let waiting = waiting.map(|name| Span::new(Role::Warning, format!("{name} waits for a restart")));
    let first = std::iter::once("settings").chain(std::iter::repeat(""));
    first.zip(lines.chain(waiting)).collect()
}

fn connections(tick: &PgTick) -> Span {
    let server = &tick.sample.server;
    if server.pooled {
        return Span::new(
            Role::Warning,
            "through a pooler: our limits on time and locks are not in force; connect to the server itself",
        );
    }
    let pids: Vec<String> = server.own_pids.iter().map(ToString::to_string).collect();
    Span::text(format!("{} connections: pids {}", pids.len(), pids.join(", ")))
}
