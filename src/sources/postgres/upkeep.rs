//! Reads what is read seldom: archiving, checkpoints, wraparound, settings that wait for a restart.
//!
//! It must not know how seldom.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::error::statement_reason;
use super::read;
use crate::model::Reading;
use crate::model::postgres::{Archiver, Checkpoints, FreezeAge, SETTINGS, Setting, Upkeep};

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
    mxid_age(datminmxid)::int8 FROM pg_catalog.pg_database";

const PENDING_RESTART: &str =
    "/* dbtriage:pendingrestart */ SELECT /* dbtriage */ name FROM pg_show_all_settings()
    WHERE pending_restart ORDER BY name";

const SHOWN: &str = "/* dbtriage:settings */ SELECT /* dbtriage */ s.name, current_setting(s.name)
    FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place) JOIN pg_show_all_settings() AS s USING (name)
    ORDER BY place";

/// Reads all of it; each part fails by itself.
pub(super) async fn read(client: &Client, major_num: u32, user: &str) -> Upkeep {
    let checkpoints = if major_num < 170_000 { CHECKPOINTS_16 } else { CHECKPOINTS };
    let names: [(&(dyn ToSql + Sync), Type); 1] = [(&SETTINGS.as_slice(), Type::TEXT_ARRAY)];
    let (archiver, checkpoints, freeze_ages, pending_restart, settings) = futures::join!(
        client.query_typed_one(ARCHIVER, &[]),
        client.query_typed_one(checkpoints, &[]),
        client.query_typed(FREEZE_AGES, &[]),
        client.query_typed(PENDING_RESTART, &[]),
        client.query_typed(SHOWN, &names),
    );
    let name = |row: &Row| Ok(read::text(row, 0)?.unwrap_or_default());
    Upkeep {
        archiver: reading(archiver.and_then(|row| decode_archiver(&row)), user),
        checkpoints: reading(checkpoints.and_then(|row| decode_checkpoints(&row)), user),
        freeze_ages: each(freeze_ages, decode_age, user),
        pending_restart: each(pending_restart, name, user),
        settings: each(settings, decode_setting, user),
    }
}

fn decode_setting(row: &Row) -> Result<Setting, Error> {
    let text = |column| Ok(read::text(row, column)?.unwrap_or_default());
    Ok(Setting { name: text(0)?, value: text(1)? })
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
