//! The scenario of a cache that fails, and the traffic of a cache that does not.

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use std::time::Duration;
use tokio::time::timeout;

use super::Facts;
use crate::cache::Redis;
use crate::stage::{STATE_LIMIT, Session, Stage, Undo, every};
use crate::wait::until;

/// The sessions of customers that are kept in the cache.
const CACHED: i64 = 2000;

/// A cache with good hits is emptied and flooded with big values; what it misses, the application
/// reads from the database.
pub(super) async fn cache_failure(stage: &mut Stage) -> Result<Facts> {
    let redis = stage
        .world
        .redis
        .clone()
        .context("cache-failure needs Redis, and this lab has none: start it with Options::redis")?;
    let mut watcher = redis.connect().await?;
    let mut reader = Reader::open(&redis, stage.session("web").await?).await?;
    let pid = reader.session.pid;
    reader.fill().await?;
    // The hits are what runs for two seconds and is then cut off.
    if let Ok(ended) = timeout(Duration::from_secs(2), reader.read(300)).await {
        ended?;
    }

    stage.undo_later(Undo::FlushCache);
    let evicted = stat(&mut watcher, "evicted_keys").await?;
    let missed = stat(&mut watcher, "keyspace_misses").await?;
    redis::cmd("FLUSHALL").exec_async(&mut watcher).await.context("could not empty Redis")?;
    stage.spawn(async move { reader.read(300).await });
    stage.spawn(flood(redis.connect().await?));
    let look = || {
        let mut watcher = watcher.clone();
        async move {
            Ok(stat(&mut watcher, "evicted_keys").await? > evicted
                && stat(&mut watcher, "keyspace_misses").await? > missed + 100)
        }
    };
    until("evictions and misses", STATE_LIMIT, look).await?;
    Ok(Facts {
        application: Some("web".to_owned()),
        query: Some("SELECT data FROM sessions WHERE id".to_owned()),
        pids: vec![pid],
        ..Facts::default()
    })
}

/// An application that reads sessions from the cache, and on a miss from the database.
pub(super) struct Reader {
    cache: MultiplexedConnection,
    session: Session,
    next: i64,
}

impl Reader {
    /// Opens the connection to the cache.
    pub(super) async fn open(redis: &Redis, session: Session) -> Result<Self> {
        let mut cache = redis.connect().await?;
        redis::cmd("CLIENT")
            .arg(&["SETNAME", "web"])
            .exec_async(&mut cache)
            .await
            .context("could not name a connection of Redis")?;
        Ok(Self { cache, session, next: 0 })
    }

    /// Puts all sessions into the cache.
    pub(super) async fn fill(&mut self) -> Result<()> {
        let mut pipe = redis::pipe();
        for id in 0..CACHED {
            pipe.cmd("SET").arg(key(id)).arg("s".repeat(200)).ignore();
        }
        pipe.exec_async(&mut self.cache).await.context("could not fill Redis")
    }

    /// Reads so many sessions per second, until an error ends it.
    pub(super) async fn read(&mut self, per_second: i64) -> Result<()> {
        let sql = "SELECT data FROM sessions WHERE id = $1";
        let statement = self.session.client.prepare(sql).await?;
        let mut ticks = every(100);
        loop {
            ticks.tick().await;
            let ids: Vec<i64> = (0..per_second / 10).map(|it| (self.next + it * 31) % CACHED).collect();
            self.next = (self.next + 7) % CACHED;
            let mut pipe = redis::pipe();
            for id in &ids {
                pipe.cmd("GET").arg(key(*id));
            }
            let found: Vec<Option<String>> = pipe.query_async(&mut self.cache).await?;
            for (id, found) in ids.iter().zip(found) {
                if found.is_none() {
                    self.session.client.query(&statement, &[id]).await?;
                }
            }
        }
    }
}

/// Writes rendered pages, far more than the cache may hold, and goes on with new ones.
async fn flood(mut cache: MultiplexedConnection) -> Result<()> {
    let page = "p".repeat(20_000);
    let mut number = 0;
    let mut ticks = every(100);
    loop {
        ticks.tick().await;
        let pages = if number < 1500 { 300 } else { 3 };
        let mut pipe = redis::pipe();
        for _ in 0..pages {
            number += 1;
            pipe.cmd("SET").arg(format!("page:{}", number % 1_000_000)).arg(&page).ignore();
        }
        pipe.exec_async(&mut cache).await?;
    }
}

fn key(id: i64) -> String {
    format!("session:{id}")
}

/// Reads a counter of Redis.
async fn stat(connection: &mut MultiplexedConnection, name: &str) -> Result<i64> {
    let info: redis::InfoDict = redis::cmd("INFO").arg("stats").query_async(connection).await?;
    info.get(name).with_context(|| format!("Redis tells no {name}"))
}
