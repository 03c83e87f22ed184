//! The locks connection: the lock table, which nothing can interrupt while the lock manager is busy, and the
//! what comes from catalogs that somebody may have locked: names, texts, tables, housekeeping. All of it is read off
//! the tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_postgres::types::{ToSql, Type};

use super::catalog::{Catalog, TablesRead};
use super::error::statement_reason;
use super::link::{Connection, Line, PING, SIGN_OF_LIFE, every};
use super::servers::{Search, Servers, Sought};
use super::sql::{self, Extension};
use super::{OwnPids, Place, read, sparing, tables, upkeep};
use crate::model::Reason;
use crate::model::action::Holdings;
use crate::model::postgres::{Lock, LockTable, Names, Oid, StatementKey};
use crate::sources::backoff::Backoff;

/// Names are read again this often.
const NAMES_EVERY: Duration = Duration::from_secs(30);
/// Housekeeping is read this often, which is a sign of life too: idle connections are what firewalls drop first.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);
/// A relation whose name could not be read is asked for again after this long.
const RELATION_RETRY: Duration = Duration::from_secs(5);
/// The most relation names that are kept.
const RELATIONS_MAX: usize = 10_000;

/// A connection that has not answered for this long is given up.
const GIVE_UP: Duration = Duration::from_secs(30);
/// From here on only the texts of statements that matter now are kept.
const TEXTS_MAX: usize = 500;

const LOST: &str = "the locks connection is lost";

/// What the other tasks ask of this one.
#[derive(Debug)]
pub(super) enum Want {
    /// Read the lock table and publish it, with whom these processes wait for that wait for a safe snapshot.
    Locks(Vec<i32>),
    /// Read the texts of these statements and publish them, with those of the statements that matter now.
    Texts(Vec<i64>, BTreeSet<StatementKey>),
    /// Read every lock of one process, and whom one of its waiters waits for.
    Holdings(i32, Option<i32>, oneshot::Sender<Result<Holdings, Reason>>),
    /// Look again for the extension that counts statements: it failed, or was not there.
    Extension,
    /// Read what is read seldom now, and publish it: a report has no later.
    Upkeep,
    /// Read tables and what works on them, and publish them.
    Tables,
    /// Read who holds advisory locks.
    AdvisoryHolders(oneshot::Sender<Result<Vec<i32>, Reason>>),
}

/// Within this time the first sample says whether it wants the lock table.
const FIRST_SAMPLE: Duration = Duration::from_millis(250);

/// How serving over one connection ended.
enum Ended {
    /// Nobody can want anything any more.
    Finished,
    /// The connection is lost, or leads to a server that is not read any more.
    Lost,
    /// There is a connection of our own again.
    Replaced(Connection),
}

/// Serves wants until the last sender is gone, connecting again as often as needed; over the sampler's connection
/// while the server admits no other.
pub(super) async fn run(
    servers: Arc<Servers>,
    own_pids: OwnPids,
    mut wants: mpsc::Receiver<Want>,
    catalog: watch::Sender<Catalog>,
) {
    let mut backoff = Backoff::default();
    let mut own = None;
    loop {
        if refuse_until(&mut wants, servers.reached(), &catalog).await {
            return;
        }
        let opened = match own.take() {
            Some(connection) => Ok(connection),
            None => servers.connect_current().await,
        };
        let began = Instant::now();
        let ended = match opened {
            Ok(connection) => {
                own_pids.set(Place::Locks, Some(connection.pid));
                let reader = Reader::over(connection.line.clone(), &catalog);
                let ended = reader.serve(&servers, &mut wants, None).await;
                own_pids.set(Place::Locks, None);
                drop(connection);
                ended
            }
            Err(error) => {
                let Some(line) = servers.lent() else { continue };
                let search = Search::begin(&servers, Sought::SameServer, Some(error.retry));
                let reader = Reader::over(line, &catalog);
                reader.serve(&servers, &mut wants, Some(search)).await
            }
        };
        match ended {
            Ended::Finished => return,
            Ended::Replaced(connection) => own = Some(connection),
            Ended::Lost => {
                let pause = backoff.after(began.elapsed(), u64::from(std::process::id()));
                if refuse_until(&mut wants, tokio::time::sleep(pause), &catalog).await {
                    return;
                }
            }
        }
    }
}

/// Waits for something, answering what is asked meanwhile, so that nobody hangs on a lost connection.
/// True when nobody can want anything any more.
async fn refuse_until(
    wants: &mut mpsc::Receiver<Want>,
    until: impl Future<Output = ()>,
    catalog: &watch::Sender<Catalog>,
) -> bool {
    tokio::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return false,
            want = wants.recv() => match want {
                Some(Want::Holdings(_, _, reply)) => drop(reply.send(Err(Reason::new(LOST)))),
                Some(Want::AdvisoryHolders(reply)) => drop(reply.send(Err(Reason::new(LOST)))),
                Some(Want::Locks(_)) => catalog.send_modify(|it| it.locks_reads += 1),
                Some(Want::Texts(..) | Want::Extension | Want::Upkeep | Want::Tables) => {}
                None => return true,
            },
        }
    }
}

/// What a housekeeping has cost the server that took so long: without the way there and back, and nothing where it waited
/// for a locked catalog.
fn upkeep_cost(took: Duration, round_trip: Duration, has_waited: bool) -> Duration {
    if has_waited {
        return Duration::ZERO;
    }
    took.saturating_sub(round_trip.saturating_mul(upkeep::ROUND_TRIPS))
}

/// What is to be done next.
enum Due {
    Want(Want),
    Names,
    Upkeep,
    /// What is asked for only by a person, asked in vain.
    Unused,
}

struct Reader<'a> {
    line: Line,
    catalog: &'a watch::Sender<Catalog>,
    /// The least that reading the lock table has taken.
    round_trip: Duration,
    /// What the last housekeeping has cost, and how long it is to the next.
    upkeep_cost: Duration,
    upkeep_every: Duration,
    /// Relations whose name could not be read, and when that was tried.
    unnamed: BTreeMap<Oid, Instant>,
}

impl<'a> Reader<'a> {
    const fn over(line: Line, catalog: &'a watch::Sender<Catalog>) -> Self {
        Self {
            line,
            catalog,
            round_trip: Duration::MAX,
            upkeep_cost: Duration::ZERO,
            upkeep_every: UPKEEP_EVERY,
            unnamed: BTreeMap::new(),
        }
    }

    /// Serves until the connection is lost, or another one is found.
    async fn serve(
        mut self,
        servers: &Servers,
        wants: &mut mpsc::Receiver<Want>,
        mut search: Option<Search>,
    ) -> Ended {
        let lost = self.line.lost();
        let moved = servers.moved();
        tokio::pin!(lost, moved);
        if timeout(GIVE_UP, self.read_names()).await.is_err() {
            return Ended::Lost;
        }
        // Once each, where they can do nothing, so that no lock on a catalog stops them later; what is wanted for the
        // first screen goes before.
        let mut first = vec![Due::Upkeep, Due::Unused, Due::Want(Want::Locks(Vec::new()))];
        let (mut names, mut upkeep) = (every(NAMES_EVERY), every(UPKEEP_EVERY));
        // Housekeeping waits for each catalog that is locked, and the first lock graph would wait behind it.
        let first_sample = tokio::time::sleep(FIRST_SAMPLE);
        tokio::pin!(first_sample);
        loop {
            let due = tokio::select! {
                biased;
                () = &mut lost => return Ended::Lost,
                () = &mut moved => return Ended::Lost,
                own = Search::found(&mut search) => return Ended::Replaced(own),
                () = servers.doubted.notified() => {
                    if timeout(SIGN_OF_LIFE, self.line.client.simple_query(PING)).await.is_err() {
                        return Ended::Lost;
                    }
                    continue;
                }
                want = wants.recv() => match want {
                    Some(want) => Due::Want(want),
                    None => return Ended::Finished,
                },
                () = &mut first_sample, if !first_sample.is_elapsed() => continue,
                Some(due) = async { first.pop() }, if first.len() > 1 || first_sample.is_elapsed() => due,
                _ = names.tick() => Due::Names,
                _ = upkeep.tick() => Due::Upkeep,
            };
            // Nothing can interrupt a reading in a storm, so it is given time; but a connection that never answers
            // again must not be waited for until the end.
            let is_upkeep = matches!(due, Due::Upkeep);
            if timeout(GIVE_UP, self.attend(due)).await.is_err() {
                return Ended::Lost;
            }
            if is_upkeep {
                upkeep.reset_after(self.upkeep_every);
            }
        }
    }

    async fn attend(&mut self, due: Due) {
        match due {
            Due::Want(Want::Locks(safe_snapshots)) => self.read_locks(safe_snapshots).await,
            Due::Want(Want::Texts(queryids, matter)) => self.read_texts(queryids, &matter).await,
            // An answer that nobody waits for any more is not read.
            Due::Want(Want::Holdings(_, _, reply)) if reply.is_closed() => {}
            Due::Want(Want::AdvisoryHolders(reply)) if reply.is_closed() => {}
            Due::Want(Want::Holdings(pid, waiter, reply)) => {
                drop(reply.send(self.read_holdings(pid, waiter).await));
            }
            Due::Want(Want::AdvisoryHolders(reply)) => drop(reply.send(self.read_advisory_holders().await)),
            Due::Want(Want::Extension) => self.read_extension().await,
            Due::Upkeep | Due::Want(Want::Upkeep) => self.read_upkeep().await,
            Due::Want(Want::Tables) => self.read_tables().await,
            Due::Names => self.read_names().await,
            Due::Unused => {
                drop(self.read_holdings(1, Some(1)).await);
                drop(self.read_advisory_holders().await);
            }
        }
    }

    async fn read_locks(&mut self, safe_snapshots: Vec<i32>) {
        let statement = sql::locks(self.line.major_num);
        let asked = Instant::now();
        // The time of the answer's beginning is unknown; that of asking is on the safe side of its age.
        let clock = self.line.client.query_typed_one(sql::CLOCK, &[]);
        let mut locks = read::Locks::default();
        let rows = self.line.client.query_typed_raw(&statement, read::NO_PARAMETERS);
        let rows = read::each(rows, 0, |row| locks.lock(row));
        let waiting: [(&(dyn ToSql + Sync), Type); 1] = [(&safe_snapshots, Type::INT4_ARRAY)];
        let snapshots = async {
            if safe_snapshots.is_empty() {
                return Ok(Vec::new());
            }
            self.line.client.query_typed(sql::SAFE_SNAPSHOT_WAITS, &waiting).await
        };
        let (clock, rows, snapshots) = futures::join!(clock, rows, snapshots);
        self.round_trip = self.round_trip.min(asked.elapsed());
        let outcome = clock.and_then(|clock| {
            let safe_snapshot_waits =
                snapshots?.iter().map(read::safe_snapshot_wait).collect::<Result<_, _>>()?;
            Ok((read::get::<Timestamp>(&clock, 0)?, LockTable { rows: rows?, safe_snapshot_waits }))
        });
        match outcome {
            Ok((at, table)) => {
                self.name_relations(&table.rows).await;
                self.catalog.send_modify(|it| {
                    it.locks = Some((at, Arc::new(table)));
                    it.locks_reads += 1;
                    it.error = None;
                });
            }
            Err(error) => self.catalog.send_modify(|it| {
                it.locks_reads += 1;
                it.error = Some(statement_reason(&error, &self.line.user));
            }),
        }
    }

    /// Reads the names of relations that somebody waits for and that are not known yet.
    async fn name_relations(&mut self, locks: &[Lock]) {
        let wanted =
            locks.iter().filter(|lock| !lock.granted).filter_map(|lock| self.nameable(lock)).collect();
        self.read_relations(wanted).await;
    }

    /// The relation of a lock, where this connection could name it: of this database, or shared.
    fn nameable(&self, lock: &Lock) -> Option<Oid> {
        let connected = self.catalog.borrow().names.connected_database;
        lock.tag
            .relation
            .filter(|_| lock.tag.database.is_some_and(|database| database == 0 || database == connected))
    }

    async fn read_relations(&mut self, mut wanted: BTreeSet<Oid>) {
        let now = Instant::now();
        let known = Arc::clone(&self.catalog.borrow().names);
        self.unnamed.retain(|_, tried| now.duration_since(*tried) < RELATION_RETRY);
        wanted.retain(|oid| !known.relations.contains_key(oid) && !self.unnamed.contains_key(oid));
        if wanted.is_empty() || known.relations.len() >= RELATIONS_MAX {
            return;
        }
        let oids: Vec<Oid> = wanted.iter().copied().collect();
        let rows = self.line.client.query_typed(sql::RELATIONS, &[(&oids, Type::OID_ARRAY)]).await;
        let mut names = (*known).clone();
        for row in rows.as_deref().unwrap_or_default() {
            if let (Ok(oid), Ok(Some(name))) = (read::get::<Oid>(row, 0), read::text(row, 1)) {
                wanted.remove(&oid);
                names.relations.insert(oid, name);
            }
        }
        self.unnamed.extend(wanted.into_iter().map(|oid| (oid, now)));
        self.catalog.send_modify(|it| it.names = Arc::new(names));
    }

    async fn read_extension(&mut self) {
        let rows = self.line.client.query_typed(sql::EXTENSION, &[]).await;
        self.catalog.send_modify(|it| it.extension = found(rows, &it.names).or_else(|| it.extension.take()));
    }

    async fn read_names(&mut self) {
        let client = &self.line.client;
        let (rights, roles, databases, extension) = futures::join!(
            client.query_typed_one(sql::RIGHTS, &[]),
            client.query_typed(sql::ROLES, &[]),
            client.query_typed(sql::DATABASE_NAMES, &[]),
            client.query_typed(sql::EXTENSION, &[]),
        );
        let mut names = (*self.catalog.borrow().names).clone();
        let entry =
            |row: &tokio_postgres::Row| Some((row.try_get::<_, Oid>(0).ok()?, read::text(row, 1).ok()??));
        if let Ok(rows) = roles {
            names.roles = rows.iter().filter_map(entry).collect();
            let superusers = rows.iter().filter(|row| row.try_get(2).unwrap_or(false));
            names.superusers = superusers.filter_map(|row| row.try_get(0).ok()).collect();
        }
        if let Ok(rows) = databases {
            names.databases = rows.iter().filter_map(entry).collect();
            // Relations are renamed too; those that matter are asked for again with the next lock table.
            names.relations.clear();
            let connected = rows.iter().find(|row| row.try_get(2).unwrap_or(false));
            names.connected_database =
                connected.and_then(|row| row.try_get(0).ok()).unwrap_or(names.connected_database);
        }
        let extension = found(extension, &names);
        let first_time = !self.catalog.borrow().ready;
        if let (true, Some(Ok(extension))) = (first_time, &extension) {
            // Once before the counters are first read, so that the statement is in them and its text is known.
            drop(self.line.client.query_typed(&extension.counters(), &[]).await);
            if let Some(info) = extension.info() {
                drop(self.line.client.query_typed(&info, &[]).await);
            }
        }
        self.catalog.send_modify(|it| {
            it.names = Arc::new(names);
            it.rights = rights
                .ok()
                .and_then(|row| read::rights(&row).ok())
                .map(Arc::new)
                .or_else(|| it.rights.take());
            it.extension = extension.or_else(|| it.extension.take());
            it.ready = true;
        });
    }

    async fn read_upkeep(&mut self) {
        let Line { client, major_num, user, .. } = &self.line;
        let began = Instant::now();
        let (upkeep, has_waited) = upkeep::read(client, *major_num, user).await;
        let cost = upkeep_cost(began.elapsed(), self.round_trip, has_waited);
        // One that was slow is chance: the cheaper of two counts.
        let before = std::mem::replace(&mut self.upkeep_cost, cost);
        let pause = sparing::pause(UPKEEP_EVERY, cost.min(before));
        self.upkeep_every = pause.every;
        self.catalog.send_modify(|it| {
            it.upkeep = Some(Arc::new(upkeep));
            it.upkeep_slowed_to = pause.slowed_to;
        });
    }

    async fn read_tables(&self) {
        let Line { client, major_num, user, .. } = &self.line;
        let began = Instant::now();
        let (tables, has_waited) = tables::read(client, *major_num, user).await;
        let took = if has_waited { Duration::ZERO } else { began.elapsed() };
        let read = TablesRead { tables: Arc::new(tables), began, took };
        self.catalog.send_modify(|it| it.tables = Some(read));
    }

    async fn read_texts(&self, queryids: Vec<i64>, matter: &BTreeSet<StatementKey>) {
        let extension = match &self.catalog.borrow().extension {
            Some(Ok(extension)) => extension.clone(),
            Some(Err(_)) | None => return,
        };
        let rows = self.line.client.query_typed(&extension.texts(), &[(&queryids, Type::INT8_ARRAY)]).await;
        let Ok(rows) = rows else { return };
        let text = |row| Some((read::statement_key(row).ok()??, read::statement_text(row, 4).ok()??));
        self.catalog.send_modify(|it| {
            let texts = Arc::make_mut(&mut it.texts);
            if texts.len() > TEXTS_MAX {
                // Entries come and go; one that matters again is asked for again.
                texts.retain(|key, _| matter.contains(key));
            }
            texts.extend(rows.iter().filter_map(text));
        });
    }

    async fn read_holdings(&mut self, pid: i32, waiter: Option<i32>) -> Result<Holdings, Reason> {
        let statement = sql::locks_of_pid(self.line.major_num);
        let client = &self.line.client;
        let held: [(&(dyn ToSql + Sync), Type); 1] = [(&pid, Type::INT4)];
        let asked: [(&(dyn ToSql + Sync), Type); 1] = [(&waiter, Type::INT4)];
        let blockers = async {
            match waiter {
                Some(_) => Some(client.query_typed_one(sql::BLOCKING_PIDS, &asked).await),
                None => None,
            }
        };
        let mut locks = read::Locks::default();
        let rows = read::each(client.query_typed_raw(&statement, held), 0, |row| locks.lock(row));
        let (rows, blockers) = futures::join!(rows, blockers);
        let reason = |error: tokio_postgres::Error| statement_reason(&error, &self.line.user);
        let locks = rows.map_err(reason)?;
        let blockers = blockers.transpose().map_err(reason)?;
        let blockers = blockers.map(|row| read::get::<Vec<i32>>(&row, 0)).transpose().map_err(reason)?;
        self.read_relations(locks.iter().filter_map(|lock| self.nameable(lock)).collect()).await;
        let names = Arc::clone(&self.catalog.borrow().names);
        Ok(Holdings { pid, locks, names, waiter: waiter.zip(blockers) })
    }

    async fn read_advisory_holders(&self) -> Result<Vec<i32>, Reason> {
        let rows = self.line.client.query_typed(sql::ADVISORY_HOLDERS, &[]).await;
        let pids = rows.and_then(|rows| rows.iter().map(|row| read::get(row, 0)).collect());
        pids.map_err(|error| statement_reason(&error, &self.line.user))
    }
}

/// What the look for the extension found; `None` where it failed, because what was known before stands then.
fn found(
    rows: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
    names: &Names,
) -> Option<Result<Extension, Reason>> {
    let database = names.databases.get(&names.connected_database).cloned().unwrap_or_default();
    rows.ok().map(|rows| rows.first().map_or_else(|| Err(not_installed(&database)), extension_of))
}

fn extension_of(row: &tokio_postgres::Row) -> Result<Extension, Reason> {
    let extension = || Ok(Extension { version: row.try_get(0)?, schema: row.try_get(1)? });
    let counts_nothing: bool = row.try_get(2).unwrap_or(false);
    if counts_nothing {
        return Err(Reason::new("pg_stat_statements.track is none: nothing is counted")
            .with_hint("ALTER SYSTEM SET pg_stat_statements.track = 'top'; SELECT pg_reload_conf();"));
    }
    extension().map_err(|error: tokio_postgres::Error| Reason::new(error.to_string()))
}

fn not_installed(database: &str) -> Reason {
    Reason::new(format!("pg_stat_statements is not installed in \"{database}\"")).with_hint(
        "CREATE EXTENSION pg_stat_statements;  (needs shared_preload_libraries = 'pg_stat_statements')",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_distance_nor_a_locked_catalog_is_a_cost() {
        let ms = Duration::from_millis;
        assert_eq!(upkeep_cost(ms(830), ms(400), false), ms(30));
        assert_eq!(upkeep_cost(ms(600), ms(1), true), Duration::ZERO);
        assert_eq!(upkeep_cost(ms(600), Duration::MAX, false), Duration::ZERO);
    }
}
