//! Fills the servers: the roles, the database `shop` of the demonstration's application, and the
//! slot of the standby.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::client::{login, rows};
use crate::postgres::Postgres;
use crate::wait::until;

/// The database of the application.
pub(crate) const DATABASE: &str = "shop";

/// The role of the application, owner of the database.
pub(crate) const OWNER: &str = "shop_owner";

const ROLES: &str = "
    CREATE ROLE shop_owner LOGIN;
    CREATE ROLE oncall LOGIN IN ROLE pg_monitor, pg_signal_backend;
    CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
    CREATE ROLE nobody_special LOGIN;";

const TABLES: &str = include_str!("shop.sql");

/// How long the standby may take to follow.
const LIMIT: Duration = Duration::from_secs(20);

/// Creates the standby's slot and everything of the shop, once the primary takes connections.
pub(crate) async fn fill(primary: &Postgres, standby: bool) -> Result<()> {
    let (system, _) = login(primary.config("postgres", "postgres", "lab")).await?;
    if standby {
        rows(&system, "SELECT pg_create_physical_replication_slot('standby')")
            .await
            .context("could not create the slot of the standby")?;
    }
    rows(&system, ROLES).await.context("could not create the roles")?;
    rows(&system, "CREATE DATABASE shop OWNER shop_owner")
        .await
        .context("could not create the database shop")?;
    let (admin, _) = login(primary.config("postgres", DATABASE, "lab")).await?;
    rows(&admin, "CREATE EXTENSION pg_stat_statements")
        .await
        .context("could not create the extension pg_stat_statements")?;
    let (owner, _) = login(primary.config(OWNER, DATABASE, "lab")).await?;
    rows(&owner, "SET search_path = public").await?;
    // Since PostgreSQL 15 only the owner of the database may create tables in its schema public,
    // and before that everybody.
    rows(&owner, TABLES).await.context("could not fill the database shop")?;
    rows(&admin, "ANALYZE").await.context("could not analyse the database shop")?;
    rows(&admin, "SELECT pg_stat_statements_reset()").await?;
    Ok(())
}

/// Waits until the standby streams, takes connections and has replayed what the primary has now.
pub(crate) async fn follow(primary: &Postgres, standby: &Postgres) -> Result<()> {
    let (system, _) = login(primary.config("postgres", "postgres", "lab")).await?;
    let caught_up = format!(
        "SELECT 1 FROM pg_stat_replication WHERE application_name = 'standby' \
         AND state = 'streaming' AND replay_lsn >= '{}'",
        rows(&system, "SELECT pg_current_wal_lsn()")
            .await?
            .into_iter()
            .flatten()
            .flatten()
            .next()
            .context("the primary told no position in its log")?
    );
    let look = || async { Ok(!rows(&system, &caught_up).await?.is_empty()) };
    until("the standby to follow the primary", LIMIT, look).await?;
    let look = || async { Ok(login(standby.config(OWNER, DATABASE, "lab")).await.is_ok()) };
    until("the standby to take connections", LIMIT, look).await
}
