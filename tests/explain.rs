//! The plan of somebody's statement: never run, never waiting, and why there is none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and measures time by the clock"
)]

use std::time::{Duration, Instant};

use dbtriage::model::{Kind, Reason, Sample, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::postgres::settings::{self, Environment};
use dbtriage::sources::postgres::{self, Handle};
use dbtriage_lab::{Lab, Options, PoolMode, Pooler, Postgres};
use pretty_assertions::assert_eq;
use tokio::sync::{mpsc, watch};

/// The program's connections to a server, as a role.
struct Watching {
    handle: Handle,
    _pace: watch::Sender<Pace>,
    _samples: mpsc::Receiver<Sample>,
}

impl Watching {
    async fn start(server: &Postgres, user: &str) -> Self {
        Self::at(&server.conninfo(user, "shop")).await
    }

    async fn at(conninfo: &str) -> Self {
        let settings = settings::resolve(&settings::parse(conninfo).unwrap(), &Environment::new()).unwrap();
        let (sender, samples) = mpsc::channel(100);
        let (pace_sender, pace) = watch::channel(Pace::screen(Duration::from_secs(1)));
        let target = Target { id: TargetId(0), name: "shop".into(), kind: Kind::Postgres };
        let handle = postgres::open(settings).await.unwrap().start(&target, pace, sender);
        Self { handle, _pace: pace_sender, _samples: samples }
    }

    async fn explain(&self, sql: &str) -> Result<String, Reason> {
        self.handle.explain("shop", sql).await.map(|lines| lines.join("\n"))
    }
}

fn lab() -> Lab {
    Lab::start(Options { standby: false, redis: false, ..Options::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_planned_and_never_run() {
    let lab = lab();
    let admin = lab.primary().client("postgres", "shop").unwrap();
    admin.execute("CREATE SEQUENCE taken; GRANT ALL ON SEQUENCE taken TO shop_owner").unwrap();
    let watching = Watching::start(lab.primary(), "shop_owner").await;
    for (sql, planned) in [
        ("SELECT * FROM reports WHERE id = $1", "reports_pkey"),
        ("SELECT nextval('taken')", "Result"),
        ("UPDATE reports SET status = $1 WHERE id = $2;", "Update on reports"),
        ("DELETE FROM reports", "Delete on reports"),
        ("INSERT INTO reports SELECT * FROM reports", "Insert on reports"),
        ("/* web */ WITH a AS (SELECT 1) SELECT * FROM a", "Result"),
        ("VALUES (1), (2)", "Values Scan"),
    ] {
        let plan = watching.explain(sql).await.unwrap_or_else(|why| panic!("{sql}: {why}"));
        assert!(plan.contains(planned) && plan.contains("cost="), "{sql}: {plan}");
    }
    assert_eq!(admin.cell("SELECT is_called FROM taken").unwrap(), "f", "nothing was run");
    for sql in [
        "DROP TABLE reports",
        "SELECT 1; DROP TABLE reports",
        "SELECT 'cut",
        "EXPLAIN ANALYZE DELETE FROM reports",
    ] {
        let why = watching.explain(sql).await.unwrap_err();
        assert!(why.text.starts_with("it cannot be explained: "), "{sql}: {why}");
    }
    assert_eq!(admin.cell("SELECT count(*) > 0 FROM reports").unwrap(), "t");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%dbtriage:explain%' AND pid <> pg_backend_pid()";
    dbtriage_lab::terminal::until("the connection to be closed", Duration::from_secs(2), || {
        admin.cell(left).unwrap() == "0"
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_lock_it_says_within_a_second_that_it_would_wait() {
    let lab = lab();
    would_wait(&lab, &Watching::start(lab.primary(), "shop_owner").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_it_waits_no_longer() {
    let lab = lab();
    let pooler = Pooler::start(lab.primary(), PoolMode::Transaction, 1).unwrap();
    let watching = Watching::at(&pooler.uri("shop_owner", "shop")).await;
    would_wait(&lab, &watching).await;
    // Whoever gets the only session next finds it as it was.
    let left = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout'),
        current_setting('plan_cache_mode'), (SELECT count(*) FROM pg_prepared_statements)";
    let next = pooler.client_as("shop_owner", "shop", "next").unwrap();
    let row: Vec<String> = next.rows(left).unwrap().remove(0).into_iter().flatten().collect();
    assert_eq!(row, ["0", "0", "auto", "0"]);
}

async fn would_wait(lab: &Lab, watching: &Watching) {
    let holder = lab.primary().client("shop_owner", "shop").unwrap();
    holder.execute("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE").unwrap();
    let asked = Instant::now();
    let why = watching.explain("SELECT * FROM reports").await.unwrap_err();
    assert!(why.text.starts_with("it would wait for a lock"), "{why}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    holder.execute("ROLLBACK").unwrap();
    watching.explain("SELECT * FROM reports").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_told_with_what_would_help() {
    let lab = lab();
    let watching = Watching::start(lab.primary(), "oncall").await;
    let why = watching.explain("SELECT * FROM reports").await.unwrap_err();
    assert_eq!(why.text.as_ref(), "permission denied for table reports");
    assert!(
        why.hint.as_deref().is_some_and(|hint| hint.contains("GRANT pg_read_all_data TO oncall;")),
        "{why}"
    );
    let why = watching.explain("SELECT * FROM of_another_schema").await.unwrap_err();
    assert!(why.text.contains("does not exist"), "{why}");
    assert!(why.hint.as_deref().is_some_and(|hint| hint.contains("search path")), "{why}");
}
