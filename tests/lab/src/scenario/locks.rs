//! Scenarios of locks: a pile-up behind one row, forgotten transactions, deadlocks.

use anyhow::{Context as _, Result};

use super::Facts;
use crate::stage::{Session, Stage, every, list};

const WRITERS: usize = 20;
const READERS: usize = 15;

/// A session idle in a transaction holds a row of `reports`; writers wait for the row, a migration
/// for the table, readers for the migration.
pub(super) async fn lock_pileup(stage: &mut Stage) -> Result<Facts> {
    let watcher = stage.watcher().await?;
    let root = stage.session("reports-worker").await?;
    root.run("BEGIN").await?;
    root.run("UPDATE reports SET status = 'rendering' WHERE id = 42").await?;
    let root_pid = root.pid;
    stage.hold(root);

    let mut pids = Vec::new();
    for _ in 0..WRITERS {
        let session = stage.session("reports-worker").await?;
        pids.push(session.pid);
        stage.spawn(repeat(session, "UPDATE reports SET status = 'queued' WHERE id = 42"));
    }
    waiting(&watcher, &pids).await?;

    let migration = stage.session("migrate").await?;
    pids.push(migration.pid);
    stage.spawn(async move {
        let sql = "ALTER TABLE reports ADD COLUMN IF NOT EXISTS reviewed_at timestamptz";
        migration.run(sql).await.map(drop)
    });
    waiting(&watcher, &pids).await?;

    for _ in 0..READERS {
        let session = stage.session("web").await?;
        pids.push(session.pid);
        stage.spawn(repeat(
            session,
            "SELECT id, report_type, status, created_at FROM reports \
             WHERE customer_id = 42 ORDER BY created_at DESC LIMIT 20",
        ));
    }
    waiting(&watcher, &pids).await?;
    Ok(Facts {
        root_pid: Some(root_pid),
        blocked_pids: pids,
        application: Some("reports-worker".to_owned()),
        query: Some("UPDATE reports SET status = 'rendering'".to_owned()),
        pids: vec![root_pid],
    })
}

/// Sessions of `billing` have written and then forgotten to commit.
pub(super) async fn idle_in_transaction(stage: &mut Stage) -> Result<Facts> {
    let watcher = stage.watcher().await?;
    let mut pids = Vec::new();
    for order in 7001..7004 {
        let session = stage.session("billing").await?;
        session.run("BEGIN").await?;
        session.run(&format!("UPDATE orders SET status = 'paid' WHERE id = {order}")).await?;
        pids.push(session.pid);
        stage.hold(session);
    }
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid IN ({}) \
         AND state = 'idle in transaction' AND backend_xid IS NOT NULL",
        list(&pids)
    );
    watcher.reach("the sessions to be idle in a transaction", &sql, 3).await?;
    Ok(Facts {
        application: Some("billing".to_owned()),
        query: Some("UPDATE orders SET status = 'paid'".to_owned()),
        pids,
        ..Facts::default()
    })
}

/// Two sessions of `billing` take the same two rows, each in its own order, about once per second
/// and a half.
pub(super) async fn deadlock(stage: &mut Stage) -> Result<Facts> {
    let watcher = stage.watcher().await?;
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let before = watcher.number(sql).await?;
    let one = stage.session("billing").await?;
    let other = stage.session("billing").await?;
    let pids = vec![one.pid, other.pid];
    stage.spawn(async move {
        let mut ticks = every(1500);
        loop {
            ticks.tick().await;
            embrace(&one, &other).await?;
        }
    });
    watcher.reach("a deadlock", sql, before + 1).await?;
    Ok(Facts {
        application: Some("billing".to_owned()),
        query: Some("UPDATE orders SET total_cents".to_owned()),
        pids,
        ..Facts::default()
    })
}

/// One deadlock, which the server resolves after its `deadlock_timeout`.
async fn embrace(one: &Session, other: &Session) -> Result<()> {
    let update = |id: u32| format!("UPDATE orders SET total_cents = total_cents + 1 WHERE id = {id}");
    let (first, second) = (update(1), update(2));
    one.run("BEGIN").await?;
    other.run("BEGIN").await?;
    one.run(&first).await?;
    other.run(&second).await?;
    // One of them fails, as it shall.
    let (left, right) = tokio::join!(one.run(&second), other.run(&first));
    left.or(right).context("both sessions of the deadlock failed")?;
    one.run("ROLLBACK").await?;
    other.run("ROLLBACK").await?;
    Ok(())
}

/// Runs a statement about once per second: often waiting, light when it need not wait any more.
async fn repeat(session: Session, sql: &str) -> Result<()> {
    let mut ticks = every(1000);
    loop {
        ticks.tick().await;
        session.run(sql).await?;
    }
}

/// Waits until every one of the sessions waits for a lock.
async fn waiting(watcher: &Session, pids: &[i32]) -> Result<()> {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid IN ({}) AND wait_event_type = 'Lock'",
        list(pids)
    );
    let expected = i64::try_from(pids.len()).context("too many sessions")?;
    watcher.reach("the sessions to wait for a lock", &sql, expected).await
}
