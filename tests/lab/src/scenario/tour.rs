//! The tour: an application at work, and every incident in turn.

use std::future::pending;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::cache::Reader;
use super::{Facts, Scenario};
use crate::cache::Redis;
use crate::stage::{Door, Nursery, Session, Stage, every, note};

/// How long a tour goes on when nobody ends it.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// How long each incident lasts, and the calm after it.
const INCIDENT: Duration = Duration::from_secs(25);
const CALM: Duration = Duration::from_secs(5);

const ACTS: [Scenario; 8] = [
    Scenario::LockPileup,
    Scenario::ConnectionSpike,
    Scenario::SlowQuery,
    Scenario::CacheFailure,
    Scenario::IdleInTransaction,
    Scenario::ReplicationLag,
    Scenario::OperationSpike,
    Scenario::Deadlock,
];

/// Plays light traffic on all servers and begins the incidents.
pub(super) async fn tour(stage: &mut Stage) -> Result<Facts> {
    stage.set_limit(LIMIT);
    let mut pids = Vec::new();
    for number in 0..3 {
        let session = stage.session("web").await?;
        pids.push(session.pid);
        stage.spawn(keep_up(stage.door(), "web", session, move |it| browse(it, number)));
    }
    let session = stage.session("billing").await?;
    stage.spawn(keep_up(stage.door(), "billing", session, bill));
    if let Some(redis) = stage.world.redis.clone() {
        stage.spawn(keep_cache(stage.door(), redis));
    }
    stage.spawn(acts(stage.nursery()));
    Ok(Facts {
        application: Some("web".to_owned()),
        query: Some("SELECT status, total_cents FROM orders WHERE customer_id".to_owned()),
        pids,
        ..Facts::default()
    })
}

/// Plays the incidents one after another, round and round.
async fn acts(nursery: Nursery) -> Result<()> {
    let world = &nursery.world;
    for act in ACTS.into_iter().cycle() {
        let possible = (act != Scenario::ReplicationLag || world.standby.is_some())
            && (act != Scenario::CacheFailure || world.redis.is_some());
        if !possible {
            continue;
        }
        let mut stage = nursery.stage();
        match act.begin(&mut stage).await {
            Ok(_) => sleep(INCIDENT).await,
            // Whoever watches may have stopped a server or terminated a session: go on.
            Err(error) => note(&world.log, &error.context(format!("could not play {act}"))),
        }
        stage.close().await;
        sleep(CALM).await;
    }
    Ok(())
}

/// Works on a session, and on a new one whenever somebody terminated it.
async fn keep_up<W, F>(door: Door, application: &str, first: Session, work: W) -> Result<()>
where
    W: Fn(Session) -> F + Send,
    F: Future<Output = Result<()>> + Send,
{
    work(first).await.ok();
    loop {
        sleep(Duration::from_secs(1)).await;
        if let Ok(session) = door.session(application).await {
            work(session).await.ok();
        }
    }
}

/// Somebody looks at orders.
async fn browse(session: Session, number: i64) -> Result<()> {
    let statement = session
        .client
        .prepare("SELECT name, country FROM customers WHERE id = $1")
        .await
        .context("could not prepare a statement")?;
    let mut ticks = every(40);
    for turn in number * 1000.. {
        ticks.tick().await;
        let id: i64 = 1 + turn * 7 % 5000;
        session.client.query(&statement, &[&id]).await?;
        if turn % 10 == 0 {
            let sql = format!(
                "SELECT status, total_cents FROM orders WHERE customer_id = {id} \
                 ORDER BY created_at DESC LIMIT 10"
            );
            session.run(&sql).await?;
        }
    }
    pending().await
}

/// Somebody pays for orders.
async fn bill(session: Session) -> Result<()> {
    let mut ticks = every(250);
    for turn in 0_i64.. {
        ticks.tick().await;
        session.run("BEGIN").await?;
        let id = 1000 + turn * 13 % 5000;
        session.run(&format!("UPDATE orders SET status = 'paid' WHERE id = {id}")).await?;
        let seen = format!("UPDATE sessions SET seen_at = now() WHERE id = {}", 1 + turn % 10_000);
        session.run(&seen).await?;
        session.run("COMMIT").await?;
    }
    pending().await
}

/// Traffic on the cache; after somebody emptied it, it is filled again soon.
async fn keep_cache(door: Door, redis: Redis) -> Result<()> {
    loop {
        let work = async {
            let mut reader = Reader::open(&redis, door.session("web").await?).await?;
            reader.fill().await?;
            tokio::time::timeout(Duration::from_secs(10), reader.read(50)).await?
        };
        work.await.ok();
        sleep(Duration::from_millis(500)).await;
    }
}
