//! The cheapest reading of the same facts: each function of the server called once, and all that it gives fetched.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use dbtriage_lab::{Client, Postgres};
use tokio::runtime::Builder;
use tokio_postgres::{Config, NoTls};

use crate::run::make_role;

/// The role of the reference.
const ROLE: &str = "bench_reference";
/// How often each is read: the mean is taken.
const READINGS: u32 = 10;

/// What our statements read, by the name that they carry. What is not here is its own reference: it calls its functions
/// once for each row that it is asked for.
const CHEAPEST: [(&str, &str); 7] = [
    ("activity", "SELECT * FROM pg_stat_get_activity(NULL)"),
    ("locks", "SELECT * FROM pg_lock_status()"),
    ("statements", "SELECT * FROM pg_stat_statements(false)"),
    ("walsenders", "SELECT * FROM pg_stat_get_wal_senders()"),
    ("slots", "SELECT * FROM pg_get_replication_slots()"),
    ("walreceiver", "SELECT * FROM pg_stat_get_wal_receiver()"),
    ("prepared", "SELECT * FROM pg_prepared_xact()"),
];

/// What statements of ours have cost: how often they were called, and the milliseconds that they took.
pub(crate) type Spent = BTreeMap<String, (f64, f64)>;

/// What the statements of a role have cost so far, by the name that they carry, or else by their text.
pub(crate) fn spent_by(admin: &Client, role: &str) -> Result<Spent> {
    let sql = format!(
        "SELECT coalesce(substring(query from 'dbtriage:([a-z]+)'), query), sum(calls), sum(total_exec_time) \
         FROM pg_stat_statements WHERE userid = '{role}'::regrole GROUP BY 1"
    );
    let row = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        let name = cells.next()?;
        Some((name, (cells.next()?.parse().ok()?, cells.next()?.parse().ok()?)))
    };
    Ok(admin.rows(&sql)?.into_iter().filter_map(row).collect())
}

/// Milliseconds that the cheapest reading takes, by the names of `CHEAPEST`; measured now.
pub(crate) fn cheapest(server: &Postgres, admin: &Client) -> Result<BTreeMap<&'static str, f64>> {
    make_role(admin, ROLE)?;
    let before = spent_by(admin, ROLE)?;
    let mut config = Config::new();
    config.host("127.0.0.1").port(server.port).user(ROLE).dbname("shop");
    let runtime = Builder::new_current_thread().enable_all().build().context("could not start tokio")?;
    runtime.block_on(async {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        for (_, sql) in CHEAPEST {
            // A role without the function, or a server without the extension, has nothing to compare with.
            let Ok(statement) = client.prepare(sql).await else { continue };
            for _ in 0..READINGS {
                drop(client.query(&statement, &[]).await?);
            }
        }
        Ok::<_, tokio_postgres::Error>(())
    })?;
    let after = spent_by(admin, ROLE)?;
    let mean = |(name, sql): (&'static str, &str)| {
        let (calls, took_ms) = after.get(sql)?;
        let (calls_before, took_before_ms) = before.get(sql).copied().unwrap_or_default();
        (*calls > calls_before).then(|| (name, (took_ms - took_before_ms) / (calls - calls_before)))
    };
    Ok(CHEAPEST.into_iter().filter_map(mean).collect())
}

/// The milliseconds that what was read between two moments would have taken at least.
pub(crate) fn at_least(before: &Spent, after: &Spent, cheapest: &BTreeMap<&'static str, f64>) -> f64 {
    let of = |(name, (calls, took_ms)): (&String, &(f64, f64))| {
        let (calls_before, took_before_ms) = before.get(name).copied().unwrap_or_default();
        let own_ms = took_ms - took_before_ms;
        cheapest.get(name.as_str()).map_or(own_ms, |each_ms| each_ms * (calls - calls_before))
    };
    after.iter().map(of).sum()
}
