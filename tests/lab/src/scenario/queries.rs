//! Scenarios of statements: slow ones that take all connections, slow ones, very many fast ones.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{sleep, timeout};

use super::Facts;
use crate::stage::{Session, Stage, every, list};

const WORKER: &str = "reports-worker";

/// The most sessions that a connection spike opens.
const SPIKE_MOST: i64 = 100;

/// Ten pods with ten connections each run a deduplication which was fast while reports were small.
pub(super) async fn connection_spike(stage: &mut Stage) -> Result<Facts> {
    let watcher = stage.watcher().await?;
    fast_history(stage).await?;
    let wanted = watcher
        .number(&format!(
            "SELECT least({SPIKE_MOST}, ceil(0.95 * (current_setting('max_connections')::int \
             - current_setting('superuser_reserved_connections')::int \
             - coalesce(current_setting('reserved_connections', true)::int, 0))) \
             - (SELECT count(*) FROM pg_stat_activity \
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()))::int"
        ))
        .await?;
    if wanted < 1 {
        bail!("95 % of the connections are in use already, end other loads first");
    }
    let mut pids = Vec::new();
    for number in 0..wanted {
        let session = stage.session(WORKER).await?;
        pids.push(session.pid);
        if number % 50 == 1 {
            stage.spawn(count_duplicates(session));
        } else {
            stage.spawn(deduplicate(session, 30 + number * 7 % 90));
        }
    }
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid IN ({}) AND state = 'active'", list(&pids));
    watcher.reach("the sessions of the spike to be active", &sql, wanted * 8 / 10).await?;
    Ok(Facts {
        application: Some(WORKER.to_owned()),
        query: Some("payload_hash(payload)".to_owned()),
        pids,
        ..Facts::default()
    })
}

/// The deduplication on small reports, milliseconds each: what `pg_stat_statements` remembers.
async fn fast_history(stage: &Stage) -> Result<()> {
    let session = stage.session(WORKER).await?;
    for _ in 0..200 {
        session.run(&deduplication("daily", 20)).await?;
    }
    Ok(())
}

/// Looks for duplicates of big reports again and again; each takes a tenth of a second per report.
async fn deduplicate(session: Session, reports: i64) -> Result<()> {
    let sql = deduplication("export", reports);
    loop {
        session.run(&sql).await?;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Of the reports of a type there is one in four minutes.
fn deduplication(report_type: &str, reports: i64) -> String {
    let minutes = reports * 4;
    format!(
        "SELECT id FROM reports WHERE report_type = '{report_type}' \
         AND created_at >= '2026-01-02 00:00' AND created_at < '2026-01-02 {:02}:{:02}' \
         AND payload_hash(payload) = 'd41d8cd98f00b204e9800998ecf8427e'",
        minutes / 60,
        minutes % 60
    )
}

/// The part of the spike that costs real CPU, some ten milliseconds per second.
async fn count_duplicates(session: Session) -> Result<()> {
    let mut ticks = every(1000);
    loop {
        ticks.tick().await;
        session
            .run(
                "SELECT report_type, md5(payload), count(*) FROM reports \
                 GROUP BY 1, 2 HAVING count(*) > 1",
            )
            .await?;
    }
}

/// Four sessions aggregate over the big reports of a day, about half a minute each time.
pub(super) async fn slow_query(stage: &mut Stage) -> Result<Facts> {
    let watcher = stage.watcher().await?;
    let mut pids = Vec::new();
    for _ in 0..4 {
        let session = stage.session(WORKER).await?;
        pids.push(session.pid);
        stage.spawn(async move {
            loop {
                session
                    .run(
                        "SELECT c.country, count(*) AS reports, \
                         count(DISTINCT payload_hash(r.payload)) AS distinct_reports \
                         FROM reports r JOIN customers c ON c.id = r.customer_id \
                         WHERE r.report_type = 'export' AND r.created_at >= '2026-01-03 00:00' \
                         AND r.created_at < '2026-01-03 20:00' GROUP BY c.country",
                    )
                    .await?;
                sleep(Duration::from_millis(200)).await;
            }
        });
    }
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid IN ({}) AND state = 'active' \
         AND wait_event = 'PgSleep'",
        list(&pids)
    );
    watcher.reach("the slow statements to run", &sql, 4).await?;
    Ok(Facts {
        application: Some(WORKER.to_owned()),
        query: Some("AS distinct_reports".to_owned()),
        pids,
        ..Facts::default()
    })
}

/// The page of orders reads every order on its own, and then the customer of every order.
pub(super) async fn operation_spike(stage: &mut Stage) -> Result<Facts> {
    let watcher = stage.watcher().await?;
    let calm = stage.session("web").await?;
    // Calm is what runs for two seconds and is then cut off.
    match timeout(Duration::from_secs(2), read_orders(&calm, 100)).await {
        Ok(ended) => ended?,
        Err(_) => drop(calm),
    }
    let sql = "SELECT sum(calls)::bigint FROM pg_stat_statements \
               WHERE query LIKE 'SELECT status, total_cents FROM orders WHERE id%'";
    let before = watcher.number(sql).await?;
    let mut pids = Vec::new();
    for _ in 0..8 {
        let session = stage.session("web").await?;
        pids.push(session.pid);
        stage.spawn(async move { read_orders(&session, 20).await });
    }
    watcher.reach("hundreds of operations", sql, before + 300).await?;
    Ok(Facts {
        application: Some("web".to_owned()),
        query: Some("SELECT status, total_cents FROM orders WHERE id".to_owned()),
        pids,
        ..Facts::default()
    })
}

/// Reads an order and its customer once per so many milliseconds.
async fn read_orders(session: &Session, milliseconds: u64) -> Result<()> {
    let prepare = |sql: &'static str| async move {
        session.client.prepare(sql).await.with_context(|| format!("could not prepare: {sql}"))
    };
    let order = prepare("SELECT status, total_cents FROM orders WHERE id = $1").await?;
    let customer = prepare("SELECT name, country FROM customers WHERE id = $1").await?;
    let mut ticks = every(milliseconds);
    let mut id: i64 = 0;
    loop {
        ticks.tick().await;
        id = 1 + (id + 17) % 5000;
        session.client.query(&order, &[&id]).await?;
        session.client.query(&customer, &[&id]).await?;
    }
}
