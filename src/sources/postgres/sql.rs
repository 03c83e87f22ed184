//! The statements of the tick, and which columns the server has for them.
//!
//! Functions only: no view that joins a catalog and no table, because those wait when somebody holds ACCESS
//! EXCLUSIVE on `pg_authid` or `pg_database` and while the lock manager is busy (measured on 13 to 18). Columns
//! that are enums in a view are plain text here, so that the driver asks nothing back.

/// Server time and state, read with every tick.
pub(super) const CLOCK: &str = "/* dbtriage:clock */ SELECT /* dbtriage */ clock_timestamp(), pg_is_in_recovery(), pg_postmaster_start_time()";

/// What is asked once per connection: settings of the server. Runs for any role.
pub(super) const PROBE: &str = "/* dbtriage:probe */ SELECT /* dbtriage */
    current_setting('server_version'), current_setting('server_version_num')::int4,
    current_setting('max_connections')::int4, current_setting('superuser_reserved_connections')::int4,
    coalesce(current_setting('reserved_connections', true), '0')::int4,
    coalesce(current_setting('rds.rds_superuser_reserved_connections', true), '0')::int4,
    current_setting('max_prepared_transactions')::int4";

/// What our role may see and do. Runs for any role.
pub(super) const RIGHTS: &str = "/* dbtriage:rights */ SELECT /* dbtriage */ current_user::text,
    current_setting('is_superuser') = 'on', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
    pg_has_role(current_user, 'pg_signal_backend', 'USAGE'),
    CASE WHEN to_regrole('pg_use_reserved_connections') IS NOT NULL
        THEN pg_has_role(current_user, to_regrole('pg_use_reserved_connections'), 'USAGE') END,
    CASE WHEN to_regrole('pg_signal_autovacuum_worker') IS NOT NULL
        THEN pg_has_role(current_user, to_regrole('pg_signal_autovacuum_worker'), 'USAGE') END";

/// The backends; `query_id` since 14. The query travels as bytes: a session of a database in another encoding shows
/// its bytes to everybody, and any text function raises an error on them, which would darken the whole list.
pub(super) fn activity(version_num: u32) -> String {
    let query_id = if version_num >= 140_000 { "query_id" } else { "NULL::int8" };
    format!(
        "/* dbtriage:activity */ SELECT /* dbtriage */ pid, leader_pid, datid, usesysid, application_name, client_addr, client_port, \
         backend_type, state, wait_event_type, wait_event, backend_start, xact_start, query_start, state_change, \
         backend_xid::text, backend_xmin::text, {query_id}, substr(textsend(query), 1, 1024) FROM pg_stat_get_activity(NULL)"
    )
}

/// Counters of the databases named by `$1`.
pub(super) const DATABASES: &str =
    "/* dbtriage:databases */ SELECT /* dbtriage */ d, pg_stat_get_db_numbackends(d)::int8,
    pg_stat_get_db_xact_commit(d), pg_stat_get_db_xact_rollback(d),
    pg_stat_get_db_blocks_fetched(d) - pg_stat_get_db_blocks_hit(d), pg_stat_get_db_blocks_hit(d),
    pg_stat_get_db_temp_bytes(d), pg_stat_get_db_temp_files(d), pg_stat_get_db_deadlocks(d),
    pg_stat_get_db_stat_reset_time(d), pg_stat_get_db_conflict_all(d), pg_stat_get_db_checksum_failures(d) FROM unnest($1::oid[]) d";

/// Positions in the log, of a primary and of a standby: each where it does not raise an error.
const WAL_FIELDS: [&str; 5] = [
    "CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END",
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END",
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END",
    "CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END",
    "CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END",
];

/// The positions, all at once; or one by one, for a service that refuses some of them (Aurora, 0A000).
pub(super) fn wal(apart: bool) -> Vec<String> {
    let ask = |fields: &str| format!("/* dbtriage:wal */ SELECT /* dbtriage */ {fields}");
    if apart {
        WAL_FIELDS.iter().map(|field| ask(field)).collect()
    } else {
        vec![ask(&WAL_FIELDS.join(", "))]
    }
}

/// The walsenders.
pub(super) const SENDERS: &str = "/* dbtriage:walsenders */ SELECT /* dbtriage */ pid, state, sent_lsn, write_lsn, flush_lsn, replay_lsn,
    extract(epoch FROM write_lag)::float8, extract(epoch FROM flush_lag)::float8, extract(epoch FROM replay_lag)::float8,
    sync_state FROM pg_stat_get_wal_senders()";

/// The replication slots; since 17 with the time since which nobody uses them.
pub(super) fn slots(version_num: u32) -> String {
    let inactive_since = if version_num >= 170_000 { "inactive_since" } else { "NULL::timestamptz" };
    format!(
        "/* dbtriage:slots */ SELECT /* dbtriage */ slot_name::text, slot_type, datoid, active, active_pid, restart_lsn, \
         wal_status, safe_wal_size, {inactive_since} FROM pg_get_replication_slots()"
    )
}

/// The walreceiver: one row of NULLs where there is none.
pub(super) const RECEIVER: &str =
    "/* dbtriage:walreceiver */ SELECT /* dbtriage */ pid, status, sender_host, sender_port,
    last_msg_receipt_time, latest_end_lsn FROM pg_stat_get_wal_receiver()";

/// Prepared transactions.
pub(super) const PREPARED: &str = "/* dbtriage:prepared */ SELECT /* dbtriage */ transaction::text, gid, prepared, ownerid, dbid FROM pg_prepared_xact()";

/// The lock table, less what can never block: granted fast-path locks (a conflicting request moves them to the
/// main table first) and predicate locks.
pub(super) fn locks(version_num: u32) -> String {
    format!("{} WHERE mode <> 'SIReadLock' AND NOT (granted AND fastpath)", lock_rows("locks", version_num))
}

/// For whom the processes in `$1` wait that wait for a safe snapshot: such a wait is in no lock table.
pub(super) const SAFE_SNAPSHOT_WAITS: &str = "/* dbtriage:safesnapshots */ SELECT /* dbtriage */ pid, pg_safe_snapshot_blocking_pids(pid) FROM unnest($1::int4[]) pid";

/// Who waits for whom by the server's own word, of the process `$1`.
pub(super) const BLOCKING_PIDS: &str = "/* dbtriage:blockingpids */ SELECT /* dbtriage */ pg_blocking_pids($1) || pg_safe_snapshot_blocking_pids($1)";

/// The processes that hold an advisory lock.
pub(super) const ADVISORY_HOLDERS: &str = "/* dbtriage:advisory */ SELECT /* dbtriage */ DISTINCT pid FROM pg_lock_status() WHERE locktype = 'advisory' AND granted AND pid IS NOT NULL";

/// Every lock of the process `$1`, fast-path ones too.
pub(super) fn locks_of_pid(version_num: u32) -> String {
    format!("{} WHERE pid = $1", lock_rows("holdings", version_num))
}

fn lock_rows(name: &str, version_num: u32) -> String {
    let waitstart = if version_num >= 140_000 { "waitstart" } else { "NULL::timestamptz" };
    format!(
        "/* dbtriage:{name} */ SELECT /* dbtriage */ locktype, database, relation, page, tuple, virtualxid, transactionid::text, \
         classid, objid, objsubid, virtualtransaction, pid, mode, granted, {waitstart} FROM pg_lock_status()"
    )
}

/// Names of roles, and which of them are superusers.
pub(super) const ROLES: &str =
    "/* dbtriage:roles */ SELECT /* dbtriage */ oid, rolname::text, rolsuper FROM pg_catalog.pg_roles";

/// Names of databases.
pub(super) const DATABASE_NAMES: &str = "/* dbtriage:databasenames */ SELECT /* dbtriage */ oid, datname::text, datname = current_database() FROM pg_catalog.pg_database";

/// Names of the relations in `$1`, with their schema unless it is `public`.
pub(super) const RELATIONS: &str = "/* dbtriage:relations */ SELECT /* dbtriage */ c.oid,
    CASE WHEN n.nspname IN ('public', 'pg_catalog') THEN c.relname ELSE n.nspname || '.' || c.relname END::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1)";

/// Version and schema of the extension in this database.
pub(super) const EXTENSION: &str =
    "/* dbtriage:extension */ SELECT /* dbtriage */ extversion, quote_ident(nspname::text),
    coalesce(current_setting('pg_stat_statements.track', true) = 'none', false)
    FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    WHERE extname = 'pg_stat_statements'";

/// Loads the name of every role into this session's cache: terminate looks the target's role up, and a session
/// that never saw that role would hang while `pg_authid` is locked (measured).
pub(super) const WARM_ROLES: &str =
    "/* dbtriage:warm */ SELECT /* dbtriage */ count(oid::regrole::text), bool_or(pg_has_role(oid, 'USAGE')),
    pg_has_role('pg_signal_backend', 'USAGE') FROM pg_catalog.pg_roles";

/// Where `pg_stat_statements` lives and which columns it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    /// Version of the extension, which may be older than the server.
    pub(super) version: String,
    /// Its schema, quoted.
    pub(super) schema: String,
}

impl Extension {
    fn at_least(&self, minor: u32) -> bool {
        self.version
            .split_once('.')
            .and_then(|(major, rest)| Some((major.parse().ok()?, rest.parse().ok()?)))
            .is_some_and(|(major, found): (u32, u32)| (major, found) >= (1, minor))
    }

    /// Counters of every entry, without texts: reading any text reads the whole text file. A counter that is zero comes
    /// as NULL, which costs the server a fraction of sending it: of five thousand entries half of the whole.
    pub(super) fn counters(&self) -> String {
        let times = if self.at_least(8) {
            let (plan, wal) = ("nullif(total_plan_time, 0)", "nullif(wal_bytes, 0)::float8");
            ["total_exec_time", plan, "max_exec_time", "nullif(stddev_exec_time, 0)", wal]
        } else {
            ["total_time", "NULL::float8", "max_time", "nullif(stddev_time, 0)", "NULL::float8"]
        };
        let [exec, plan, max, stddev, wal] = times;
        let toplevel = if self.at_least(9) { "toplevel" } else { "true" };
        let since = if self.at_least(11) { "stats_since" } else { "NULL::timestamptz" };
        format!(
            "/* dbtriage:statements */ SELECT /* dbtriage */ userid, dbid, {toplevel}, queryid, calls, {exec}, rows, \
             nullif(shared_blks_hit, 0), nullif(shared_blks_read, 0), nullif(temp_blks_read + temp_blks_written, 0), {since}, {plan}, {max}, {stddev}, {wal} \
             FROM {}.pg_stat_statements(false)",
            self.schema
        )
    }

    /// Evictions and the last reset; `None` before version 1.9, which has no such function.
    pub(super) fn info(&self) -> Option<String> {
        self.at_least(9).then(|| {
            format!(
                "/* dbtriage:statementsinfo */ SELECT /* dbtriage */ dealloc, stats_reset FROM {}.pg_stat_statements_info()",
                self.schema
            )
        })
    }

    /// Texts of the statements in `$1`, and of all that carry our mark: those are told by their text.
    pub(super) fn texts(&self) -> String {
        let toplevel = if self.at_least(9) { "toplevel" } else { "true" };
        format!(
            "/* dbtriage:texts */ SELECT /* dbtriage */ userid, dbid, {toplevel}, queryid, substr(textsend(query), 1, 4000) \
             FROM {}.pg_stat_statements(true) \
             WHERE queryid = ANY ($1) OR substr(textsend(query), 1, 12) = '/* dbtriage:'::bytea",
            self.schema
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_the_extension_version() {
        let counters =
            |version: &str| Extension { version: version.into(), schema: "public".into() }.counters();
        assert!(counters("1.7").contains("total_time") && !counters("1.7").contains("toplevel"));
        assert!(counters("1.10").contains("toplevel") && !counters("1.10").contains("stats_since,"));
        assert!(counters("1.12").contains("stats_since"));
    }
}
