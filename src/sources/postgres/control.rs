//! The control connection: cancels and terminates, nothing else, so that a kill never queues behind a reading.
//!
//! The guard stands in the statement that acts: the server itself compares the session's identity at that
//! moment (`act`). What came of it is observed by whoever asked, never assumed here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::act::{self, Argument, Guarded};
use super::link::{Connection, Line, PING, SIGN_OF_LIFE, STATEMENT_LIMIT, every};
use super::servers::{Search, Servers, Sought};
use super::sql;
use super::{OwnPids, Place, Withdrawal};
use crate::format;
use crate::model::Reason;
use crate::model::action::{Action, ActionReply, Seen};
use crate::model::postgres::State;
use crate::sources::backoff::Backoff;

/// Roles are warmed again this often: ALTER ROLE drops one from the cache.
const WARM_EVERY: Duration = Duration::from_secs(30);
/// A sign of life in between.
const PING_EVERY: Duration = Duration::from_secs(10);

/// What the tasks above ask of this one.
#[derive(Debug)]
pub(super) enum Order {
    Act(Action, Withdrawal, oneshot::Sender<Result<ActionReply, Reason>>),
    Observe(i32, oneshot::Sender<Result<Option<Seen>, Reason>>),
}

/// What is ordered, signals before looks: of many sessions that are watched, the looks must not hold up a kill.
#[derive(Debug)]
pub(super) struct Orders {
    acts: mpsc::Receiver<Order>,
    looks: mpsc::Receiver<Order>,
}

/// Where orders are given.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) acts: mpsc::Sender<Order>,
    pub(super) looks: mpsc::Sender<Order>,
}

/// Orders and the place where they are given.
pub(super) fn orders() -> (Counter, Orders) {
    let ((acts, act_receiver), (looks, look_receiver)) = (mpsc::channel(8), mpsc::channel(8));
    (Counter { acts, looks }, Orders { acts: act_receiver, looks: look_receiver })
}

impl Orders {
    /// The next order; `None` when nobody can order anything any more.
    async fn recv(&mut self) -> Option<Order> {
        tokio::select! {
            biased;
            order = self.acts.recv() => order,
            order = self.looks.recv() => order,
        }
    }
}

/// How serving over one connection ended.
enum Ended {
    /// Nobody can order anything any more.
    Finished,
    /// The connection is lost, or leads to a server that is not read any more.
    Lost,
    /// There is a connection of our own again.
    Replaced(Connection),
}

/// Serves orders until the last sender is gone, connecting again as often as needed; over the sampler's connection
/// while the server admits no other, because a kill is then what is needed most.
pub(super) async fn run(servers: Arc<Servers>, own_pids: OwnPids, mut orders: Orders) {
    let mut backoff = Backoff::default();
    let mut reason = Reason::new("the server is not reached");
    let mut own = None;
    loop {
        if refuse_until(&mut orders, servers.reached(), &reason).await {
            return;
        }
        // An order that comes meanwhile waits, but not for longer than whoever gave it.
        let opened = match own.take() {
            Some(connection) => Ok(connection),
            None => servers.connect_current().await,
        };
        let began = Instant::now();
        let ended = match opened {
            Ok(connection) => {
                own_pids.set(Place::Control, Some(connection.pid));
                let mut control = Control { line: connection.line.clone(), late: None };
                let ended = control.serve(&servers, &mut orders, None).await;
                own_pids.set(Place::Control, None);
                drop(connection);
                reason = Reason::new("the control connection is lost").with_hint("it is opened again");
                ended
            }
            Err(error) => {
                reason = error.reason;
                let Some(line) = servers.lent() else { continue };
                let search = Search::begin(&servers, Sought::SameServer, Some(error.retry));
                let mut control = Control { line, late: None };
                control.serve(&servers, &mut orders, Some(search)).await
            }
        };
        match ended {
            Ended::Finished => return,
            Ended::Replaced(connection) => own = Some(connection),
            Ended::Lost => {
                let pause = backoff.after(began.elapsed(), u64::from(std::process::id()).rotate_left(7));
                if refuse_until(&mut orders, tokio::time::sleep(pause), &reason).await {
                    return;
                }
            }
        }
    }
}

fn refuse(order: Order, reason: &Reason) {
    match order {
        Order::Act(_, _, reply) => drop(reply.send(Err(reason.clone()))),
        Order::Observe(_, reply) => drop(reply.send(Err(reason.clone()))),
    }
}

async fn refuse_until(orders: &mut Orders, until: impl Future<Output = ()>, reason: &Reason) -> bool {
    tokio::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return false,
            order = orders.recv() => match order {
                Some(order) => refuse(order, reason),
                None => return true,
            },
        }
    }
}

type Rows = Result<Vec<Row>, tokio_postgres::Error>;

struct Control {
    line: Line,
    /// A statement whose answer is overdue: nothing else is sent before it is in, or its late answer would be
    /// taken for the next one's.
    late: Option<JoinHandle<Rows>>,
}

impl Control {
    /// Serves until the connection is lost, or another one is found.
    async fn serve(&mut self, servers: &Servers, orders: &mut Orders, mut search: Option<Search>) -> Ended {
        let lost = self.line.lost();
        let moved = servers.moved();
        tokio::pin!(lost, moved);
        self.warm().await;
        let mut warm = every(WARM_EVERY);
        let mut ping = every(PING_EVERY);
        loop {
            tokio::select! {
                biased;
                () = &mut lost => return Ended::Lost,
                () = &mut moved => return Ended::Lost,
                own = Search::found(&mut search) => return Ended::Replaced(own),
                () = servers.doubted.notified() => {
                    let alive = self.line.client.simple_query(PING);
                    if self.late.is_some() || timeout(SIGN_OF_LIFE, alive).await.is_err() {
                        return Ended::Lost;
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order, servers).await,
                    None => return Ended::Finished,
                },
                // While sessions wait for locks the catalog of roles may not answer, and a kill must not queue
                // behind that.
                () = servers.unseen_role.notified(), if !servers.somebody_waits() => self.warm_roles().await,
                _ = warm.tick(), if !servers.somebody_waits() => self.warm_roles().await,
                _ = ping.tick() => drop(self.ask(PING.to_owned(), Vec::new()).await),
            }
        }
    }

    async fn warm_roles(&mut self) {
        drop(self.ask(sql::WARM_ROLES.to_owned(), Vec::new()).await);
    }

    /// Runs every statement of this connection once where it can do nothing: pid 1 is never a backend, so the
    /// guarded statements find no row. A session that has run them once is not stopped by locks on catalogs.
    async fn warm(&mut self) {
        let pid_one = vec![(Box::new(1_i32) as Box<dyn ToSql + Sync + Send>, Type::INT4)];
        let mut statements =
            vec![(sql::WARM_ROLES.to_owned(), Vec::new()), (act::OBSERVE.to_owned(), pid_one)];
        statements.extend(act::harmless().iter().map(act::guarded).map(|it| (it.sql, it.arguments)));
        for (statement, arguments) in statements {
            if self.ask(statement, arguments).await.is_err() {
                return;
            }
        }
    }

    /// An order nobody waits for any more is not carried out late. While an answer is overdue on this connection,
    /// the sampler's is asked, which answers even when the lock manager does not.
    async fn carry_out(&mut self, order: Order, servers: &Servers) {
        let overdue = self.late.as_ref().is_some_and(|late| !late.is_finished());
        let mut spare = servers.lent().filter(|_| overdue).map(|line| Self { line, late: None });
        let control = spare.as_mut().unwrap_or(self);
        match order {
            Order::Act(_, _, reply) if reply.is_closed() => {}
            Order::Act(_, withdrawal, reply) if withdrawal.is_asked() => {
                drop(reply.send(Ok(ActionReply::Withdrawn)));
            }
            Order::Observe(_, reply) if reply.is_closed() => {}
            Order::Act(action, _, reply) => drop(reply.send(control.act(action).await)),
            Order::Observe(pid, reply) => drop(reply.send(control.observe(pid).await)),
        }
    }

    async fn act(&mut self, action: Action) -> Result<ActionReply, Reason> {
        if action.session().backend_start.is_none() {
            return Err(Reason::new(
                "backend_start is hidden from this role, so the session cannot be told from another",
            )
            .with_hint(format!("GRANT pg_read_all_stats TO {};", format::identifier(&self.line.user))));
        }
        let user = Arc::clone(&self.line.user);
        let Guarded { sql, arguments } = act::guarded(&action);
        let rows = match self.ask(sql, arguments).await? {
            Ok(rows) => rows,
            Err(error) => return Ok(refusal(&error, &self.line.user)),
        };
        let Some(row) = rows.first() else { return Ok(ActionReply::Gone) };
        let decode = |error: tokio_postgres::Error| super::error::statement_reason(&error, &user);
        Ok(match row.try_get::<_, Option<bool>>(4).map_err(decode)? {
            Some(true) => ActionReply::Signalled,
            Some(false) => ActionReply::Gone,
            None => ActionReply::Changed(seen(row).map_err(decode)?),
        })
    }

    async fn observe(&mut self, pid: i32) -> Result<Option<Seen>, Reason> {
        let user = Arc::clone(&self.line.user);
        let rows = self.ask(act::OBSERVE.to_owned(), vec![(Box::new(pid), Type::INT4)]).await?;
        let decode = |error: tokio_postgres::Error| super::error::statement_reason(&error, &user);
        rows.map_err(decode)?.first().map(|row| seen(row).map_err(decode)).transpose()
    }

    /// One statement under the client's own deadline.
    async fn ask(&mut self, statement: String, arguments: Vec<Argument>) -> Result<Rows, Reason> {
        let no_answer = || {
            Reason::new(format!(
                "the server has not answered on the control connection for {}s",
                STATEMENT_LIMIT.as_secs()
            ))
            .with_hint("an order already sent may still take effect, on this very session only")
        };
        if let Some(late) = &mut self.late {
            let unanswered =
                || Reason::new("an earlier statement on the control connection has not been answered yet");
            drop(timeout(STATEMENT_LIMIT, &mut *late).await.map_err(|_| unanswered())?);
            self.late = None;
        }
        let client = Arc::clone(&self.line.client);
        let mut asked = tokio::spawn(query(client, statement, arguments));
        if let Ok(finished) = timeout(STATEMENT_LIMIT, &mut asked).await {
            finished.map_err(|error| Reason::new(format!("the statement was not finished: {error}")))
        } else {
            self.late = Some(asked);
            Err(no_answer())
        }
    }
}

async fn query(client: Arc<Client>, statement: String, arguments: Vec<Argument>) -> Rows {
    let arguments: Vec<(&(dyn ToSql + Sync), Type)> =
        arguments.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
    client.query_typed(&statement, &arguments).await
}

fn seen(row: &Row) -> Result<Seen, tokio_postgres::Error> {
    Ok(Seen {
        backend_start: row.try_get(0)?,
        xact_start: row.try_get(1)?,
        query_start: row.try_get(2)?,
        state: row.try_get::<_, Option<&str>>(3)?.and_then(State::parse),
    })
}

fn refusal(error: &tokio_postgres::Error, user: &str) -> ActionReply {
    match error.as_db_error() {
        Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            ActionReply::NotPermitted(format!("{}{detail}", db.message()).into())
        }
        _ => ActionReply::Failed(super::error::statement_reason(error, user)),
    }
}
