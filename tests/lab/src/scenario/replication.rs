//! The scenario of a standby that falls behind.

use anyhow::{Context as _, Result};

use super::Facts;
use crate::client::{login, rows};
use crate::stage::{Session, Stage, Undo, every};

/// How much is written at full speed: a standby which does not replay has to keep all of it.
const FAST_BYTES: u64 = 1 << 30;

const MESSAGE_BYTES: u64 = 300_000;

/// The primary writes about 3 MB per second of its log while the standby's replay is paused.
pub(super) async fn replication_lag(stage: &mut Stage) -> Result<Facts> {
    let standby =
        stage.world.standby.clone().context(
            "replication-lag needs a standby, and this lab has none: start it with Options::standby",
        )?;
    let watcher = stage.watcher().await?;
    let (client, _) = login(standby.config("postgres", "postgres", "lab")).await?;
    stage.undo_later(Undo::ResumeReplay);
    rows(&client, "SELECT pg_wal_replay_pause()").await.context("could not pause replay")?;
    let writer = stage.session("billing").await?;
    let pid = writer.pid;
    stage.spawn(write(writer));
    let sql = "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::bigint \
               FROM pg_stat_replication WHERE application_name = 'standby'";
    watcher.reach("the standby to fall behind", sql, 1_000_000).await?;
    Ok(Facts {
        application: Some("billing".to_owned()),
        query: Some("pg_logical_emit_message".to_owned()),
        pids: vec![pid],
        ..Facts::default()
    })
}

/// Writes messages of an outbox, which fill the log and no table, and touches a row.
async fn write(session: Session) -> Result<()> {
    let mut written = 0;
    let (mut fast, mut slow) = (every(100), every(5000));
    loop {
        let ticks = if written < FAST_BYTES { &mut fast } else { &mut slow };
        ticks.tick().await;
        let message = "SELECT pg_logical_emit_message(true, 'outbox', repeat('m', 300000))";
        session.run(message).await?;
        let id = 1 + written / MESSAGE_BYTES % 10_000;
        session.run(&format!("UPDATE sessions SET seen_at = now() WHERE id = {id}")).await?;
        written += MESSAGE_BYTES;
    }
}
