//! Reads what is read seldom: archiving, checkpoints, wraparound, settings that wait for a restart.
//!
//! It must not know how seldom.

use std::sync::Arc;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::error::statement_reason;
use super::read;
use crate::format;
use crate::model::Reading;
use crate::model::postgres::{
    Archiver, Checkpoints, FreezeAge, LockUsage, Neglect, SETTINGS, Setting, Subscription, Upkeep,
    XminHolder, XminKind,
};

const ARCHIVER: &str =
    "/* dbtriage:archiver */ SELECT /* dbtriage */ current_setting('archive_mode') <> 'off',
    last_archived_time, failed_count, last_failed_time, last_failed_wal FROM pg_stat_get_archiver()";

const CHECKPOINTS: &str =
    "/* dbtriage:checkpoints */ SELECT /* dbtriage */ pg_stat_get_checkpointer_num_timed(),
    pg_stat_get_checkpointer_num_requested()";

/// Up to 16 the background writer's statistics held them.
const CHECKPOINTS_16: &str =
    "/* dbtriage:checkpoints */ SELECT /* dbtriage */ pg_stat_get_bgwriter_timed_checkpoints(),
    pg_stat_get_bgwriter_requested_checkpoints()";

const FREEZE_AGES: &str = "/* dbtriage:freezeages */ SELECT /* dbtriage */ oid, age(datfrozenxid)::int8,
    mxid_age(datminmxid)::int8 FROM pg_catalog.pg_database ORDER BY datallowconn";

const PENDING_RESTART: &str =
    "/* dbtriage:pendingrestart */ SELECT /* dbtriage */ name FROM pg_show_all_settings()
    WHERE pending_restart ORDER BY name";

/// What the server sets for a new session: some of these our own sessions set for themselves.
const SHOWN: &str = "/* dbtriage:settings */ SELECT /* dbtriage */ s.name,
    CASE WHEN s.name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')
        THEN s.reset_val || coalesce(s.unit, '') ELSE current_setting(s.name) END
    FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place) JOIN pg_show_all_settings() AS s USING (name)
    ORDER BY place";

/// The lock table holds so many objects as there may be processes and prepared transactions, times
/// `max_locks_per_transaction` (`NLOCKENTS` in `lock.c`, `InitializeMaxBackends` in `postinit.c`). Who waits in it and is
/// in no list of sessions is still logging in.
const LOCK_USAGE: &str = "/* dbtriage:lockusage */ SELECT /* dbtriage */
    count(DISTINCT (locktype, database, relation, page, tuple, virtualxid, transactionid::text, classid, objid, objsubid))
        FILTER (WHERE NOT fastpath AND mode <> 'SIReadLock'),
    current_setting('max_locks_per_transaction')::int8 * (
        current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8
        + coalesce(current_setting('autovacuum_worker_slots', true), current_setting('autovacuum_max_workers'))::int8
        + current_setting('max_worker_processes')::int8 + current_setting('max_wal_senders')::int8 + 1),
    coalesce(array_agg(DISTINCT pid) FILTER (WHERE NOT granted AND pid IS NOT NULL
        AND pid NOT IN (SELECT a.pid FROM pg_stat_get_activity(NULL) a)), '{}')
    FROM pg_lock_status()";

/// Whose snapshot or transaction is the oldest, ours left out: what stands here is read every few seconds.
const XMIN_HOLDER: &str = "/* dbtriage:xminholder */ SELECT /* dbtriage */ kind, name, xids::int8 FROM (
        SELECT CASE WHEN backend_type = 'walsender' THEN 1 ELSE 0 END AS kind, pid::text AS name,
            greatest(age(backend_xmin), age(backend_xid)) AS xids
        FROM pg_stat_get_activity(NULL) WHERE application_name <> 'dbtriage'
        UNION ALL SELECT 2, gid, age(transaction) FROM pg_prepared_xact()
        UNION ALL SELECT 3, slot_name::text, greatest(age(xmin), age(catalog_xmin)) FROM pg_get_replication_slots()
    ) AS holders WHERE xids IS NOT NULL ORDER BY xids DESC LIMIT 1";

/// Those that are being built are not meant.
const INVALID_INDEXES: &str = "/* dbtriage:invalidindexes */ SELECT /* dbtriage */ c.oid,
    CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(c.relname)
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i'
        AND c.oid::int8 NOT IN (SELECT param7 FROM pg_stat_get_progress_info('CREATE INDEX') WHERE param7 IS NOT NULL)
    ORDER BY c.relpages DESC, c.oid LIMIT 100";

/// Of the largest tables, and of the newest that were never analyzed, whose size is not known, those that VACUUM or
/// ANALYZE might have to do with.
const NEGLECTED: &str = "/* dbtriage:neglected */ SELECT /* dbtriage */ oid, name, live, dead, changed,
    greatest(pg_stat_get_last_vacuum_time(oid), pg_stat_get_last_autovacuum_time(oid)),
    greatest(pg_stat_get_last_analyze_time(oid), pg_stat_get_last_autoanalyze_time(oid))
    FROM (SELECT c.oid,
            CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(c.relname) AS name,
            pg_stat_get_live_tuples(c.oid) AS live, pg_stat_get_dead_tuples(c.oid) AS dead,
            pg_stat_get_mod_since_analyze(c.oid) AS changed
        FROM ((SELECT oid, relname, relnamespace FROM pg_catalog.pg_class
                WHERE relkind IN ('r', 'm') ORDER BY relpages DESC LIMIT 500)
            UNION (SELECT oid, relname, relnamespace FROM pg_catalog.pg_class
                WHERE relkind IN ('r', 'm') AND relpages = 0 ORDER BY oid DESC LIMIT 500)) c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) AS tables
    WHERE dead >= 10000 OR changed >= 10000 ORDER BY dead DESC LIMIT 50";

/// Errors of subscriptions are counted since 15.
fn subscriptions(major_num: u32) -> String {
    let errors = if major_num >= 150_000 {
        "(SELECT apply_error_count + sync_error_count FROM pg_stat_get_subscription_stats(s.oid))"
    } else {
        "NULL::int8"
    };
    format!(
        "/* dbtriage:subscriptions */ SELECT /* dbtriage */ s.subname::text, {errors} FROM pg_catalog.pg_subscription s \
         WHERE s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
    )
}

/// How long a part waits for a locked catalog, and how long what comes after it: ten parts wait one after the other, and
/// the lock table that is wanted then waits behind all of them. Nothing is set through a pooler, whose sessions are not ours.
const LOCK_LIMIT: &str =
    "/* dbtriage:shortlimit */ SELECT /* dbtriage */ set_config('lock_timeout', '20ms', false)
    WHERE current_setting('dbtriage.direct', true) = 'on'";
const LOCK_LIMIT_AFTER: &str =
    "/* dbtriage:limit */ SELECT /* dbtriage */ set_config('lock_timeout', '200ms', false)
    WHERE current_setting('dbtriage.direct', true) = 'on'";

/// Round trips of a reading.
pub(super) const ROUND_TRIPS: u32 = 2;

/// Reads all of it; each part fails by itself. And whether a part had to wait for a locked catalog, so that the time it
/// took says nothing of what it has cost.
pub(super) async fn read(client: &Client, major_num: u32, user: &str) -> (Upkeep, bool) {
    let checkpoints = if major_num < 170_000 { CHECKPOINTS_16 } else { CHECKPOINTS };
    let names: [(&(dyn ToSql + Sync), Type); 1] = [(&SETTINGS.as_slice(), Type::TEXT_ARRAY)];
    let subscriptions = subscriptions(major_num);
    let (_, archiver, checkpoints, freeze_ages, pending_restart, settings) = futures::join!(
        client.query_typed(LOCK_LIMIT, &[]),
        client.query_typed_one(ARCHIVER, &[]),
        client.query_typed_one(checkpoints, &[]),
        client.query_typed(FREEZE_AGES, &[]),
        client.query_typed(PENDING_RESTART, &[]),
        client.query_typed(SHOWN, &names),
    );
    let (lock_usage, xmin_holder, invalid_indexes, neglected, subscriptions, _) = futures::join!(
        client.query_typed_one(LOCK_USAGE, &[]),
        client.query_typed(XMIN_HOLDER, &[]),
        client.query_typed(INVALID_INDEXES, &[]),
        client.query_typed(NEGLECTED, &[]),
        client.query_typed(&subscriptions, &[]),
        client.query_typed(LOCK_LIMIT_AFTER, &[]),
    );
    let failed = [
        archiver.as_ref().err(),
        checkpoints.as_ref().err(),
        freeze_ages.as_ref().err(),
        pending_restart.as_ref().err(),
        settings.as_ref().err(),
        lock_usage.as_ref().err(),
        xmin_holder.as_ref().err(),
        invalid_indexes.as_ref().err(),
        neglected.as_ref().err(),
        subscriptions.as_ref().err(),
    ];
    let has_waited = has_waited(&failed);
    let name = |row: &Row| Ok(read::text(row, 0)?.unwrap_or_default());
    let index = |row: &Row| Ok((read::get(row, 0)?, read::text(row, 1)?.unwrap_or_default()));
    let upkeep = Upkeep {
        archiver: reading(archiver.and_then(|row| decode_archiver(&row)), user),
        checkpoints: reading(checkpoints.and_then(|row| decode_checkpoints(&row)), user),
        freeze_ages: each(freeze_ages, decode_age, user),
        pending_restart: each(pending_restart, name, user),
        settings: each(settings, decode_setting, user),
        lock_usage: reading(lock_usage.and_then(|row| decode_lock_usage(&row)), user),
        xmin_holder: reading(xmin_holder.and_then(|rows| rows.first().map(decode_holder).transpose()), user),
        invalid_indexes: each(invalid_indexes, index, user),
        neglected: each(neglected, decode_neglect, user),
        subscriptions: each(subscriptions, decode_subscription, user),
    };
    (upkeep, has_waited)
}

/// Whether a part has failed because it waited for a locked catalog.
pub(super) fn has_waited(failed: &[Option<&Error>]) -> bool {
    failed.iter().flatten().any(|error| error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
}

fn decode_setting(row: &Row) -> Result<Setting, Error> {
    let text = |column| Ok(read::text(row, column)?.unwrap_or_default());
    let value: Arc<str> = text(1)?;
    let milliseconds = value.strip_suffix("ms").and_then(|digits| digits.parse::<f64>().ok());
    // As SHOW tells it: 60000ms is a minute, and 0 is off.
    let value = match milliseconds {
        Some(0.0) => "0".into(),
        Some(ms) if ms < 1000.0 => format::duration_ms(ms).into(),
        Some(ms) => format::age(ms / 1000.0).into(),
        None => value,
    };
    Ok(Setting { name: text(0)?, value })
}

fn decode_lock_usage(row: &Row) -> Result<LockUsage, Error> {
    Ok(LockUsage { locked: read::get(row, 0)?, room: read::get(row, 1)?, stuck_pids: read::get(row, 2)? })
}

fn decode_holder(row: &Row) -> Result<XminHolder, Error> {
    let kind = match read::get::<i32>(row, 0)? {
        0 => XminKind::Session,
        1 => XminKind::Standby,
        2 => XminKind::Prepared,
        _ => XminKind::Slot,
    };
    Ok(XminHolder { kind, name: read::text(row, 1)?.unwrap_or_default(), xids: read::get(row, 2)? })
}

fn decode_neglect(row: &Row) -> Result<Neglect, Error> {
    Ok(Neglect {
        oid: read::get(row, 0)?,
        name: read::text(row, 1)?.unwrap_or_default(),
        live_rows: read::get(row, 2)?,
        dead_rows: read::get(row, 3)?,
        changed_since_analyze: read::get(row, 4)?,
        vacuumed_at: read::get(row, 5)?,
        analyzed_at: read::get(row, 6)?,
    })
}

fn decode_subscription(row: &Row) -> Result<Subscription, Error> {
    Ok(Subscription { name: read::text(row, 0)?.unwrap_or_default(), errors: read::get(row, 1)? })
}

/// A value, or why there is none.
pub(super) fn reading<T>(result: Result<T, Error>, user: &str) -> Reading<T> {
    result.map_or_else(|error| Reading::Unavailable(statement_reason(&error, user)), Reading::Fresh)
}

/// The rows of an answer, or why there is none.
pub(super) fn each<T>(
    rows: Result<Vec<Row>, Error>,
    one: impl Fn(&Row) -> Result<T, Error>,
    user: &str,
) -> Reading<Vec<T>> {
    reading(rows.and_then(|rows| rows.iter().map(one).collect()), user)
}

fn decode_checkpoints(row: &Row) -> Result<Checkpoints, Error> {
    Ok(Checkpoints { timed: read::get(row, 0)?, requested: read::get(row, 1)? })
}

fn decode_archiver(row: &Row) -> Result<Archiver, Error> {
    Ok(Archiver {
        is_on: read::get(row, 0)?,
        archived_at: read::get(row, 1)?,
        failed_count: read::get(row, 2)?,
        failed_at: read::get(row, 3)?,
        failed_file: read::text(row, 4)?,
    })
}

fn decode_age(row: &Row) -> Result<FreezeAge, Error> {
    Ok(FreezeAge { datid: read::get(row, 0)?, xids: read::get(row, 1)?, multixacts: read::get(row, 2)? })
}
