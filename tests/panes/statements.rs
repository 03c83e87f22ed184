//! Five thousand statements with texts of three kilobytes: what a tick costs the server, and how seldom texts are read.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use dbtriage::model::Body;
use dbtriage::model::postgres::Statement;
use dbtriage_lab::Client;

use crate::{Watching, lab};

const STATEMENTS: usize = 5_000;
/// What a tick may cost the server, milliseconds: those that read the counters and those between them.
const TICK_MS_MAX: f64 = 15.0;
/// What reading the counters may cost, against the least that any reading of them costs on this machine: the function
/// makes all its rows, of forty columns, whoever asks for how few.
const COUNTERS_FACTOR_MAX: f64 = 4.0;
/// As often is tried to call a statement between two readings.
const TURNS: usize = 20;
/// Time that is watched.
const WATCHED: Duration = Duration::from_secs(12);

/// Runs so many different statements: the signs of thirteen numbers spell the number of the statement.
const RUN_MANY: &str = "DO $$
    DECLARE terms text;
    BEGIN
        FOR n IN 1..5000 LOOP
            SELECT string_agg(CASE WHEN (n >> bit) & 1 = 1 THEN '+ 1' ELSE '- 1' END, ' ' ORDER BY bit)
                INTO terms FROM generate_series(0, 12) bit;
            EXECUTE 'SELECT 0 /* ' || repeat('x', 3000) || ' */ ' || terms;
        END LOOP;
    END $$";

/// Time that a process has spent on a processor, milliseconds (Documentation/scheduler/sched-stats): what else the machine
/// does is not in it.
fn on_cpu_ms(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

/// What a statement costs the server, milliseconds: the mean of twenty.
fn cost_ms(client: &Client, sql: &str) -> f64 {
    const TIMES: i32 = 20;
    let before_ms = on_cpu_ms(client.pid());
    for _ in 0..TIMES {
        client.execute(sql).unwrap();
    }
    (on_cpu_ms(client.pid()) - before_ms) / f64::from(TIMES)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_beside_five_thousand_long_statements_is_cheap() {
    let lab = lab(&[("pg_stat_statements.max", "10000"), ("pg_stat_statements.track", "all")]);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    let mut watching = Watching::start(lab.primary(), "oncall").await;
    let sampler = watching.wait_for("the first counters", |sample| {
        sample.server.own_pids.first().copied().filter(|_| sample.statements.value().is_some())
    });
    let sampler = sampler.await;
    let few = Spent::over(&mut watching, sampler).await;
    admin.execute(RUN_MANY).unwrap();
    let counted = admin.cell("SELECT count(*) FROM pg_stat_statements WHERE length(query) > 3000").unwrap();
    assert!(counted.parse::<usize>().unwrap() >= STATEMENTS, "{counted}");
    let texts_read =
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%dbtriage:texts%'
        OR query LIKE 'SELECT /* dbtriage */ userid, dbid, % substr(textsend(query)%'";
    let texts_read = || admin.cell(texts_read).unwrap().parse::<u64>().unwrap();
    let all_read = watching.wait_for("the counters of all", |sample| {
        sample.statements.value().filter(|statements| statements.rows.len() >= STATEMENTS).map(drop)
    });
    all_read.await;
    let texts_before = texts_read();
    let many = Spent::over(&mut watching, sampler).await;
    let texts = texts_read() - texts_before;
    let cheapest_ms = cost_ms(&admin, "SELECT count(*) FROM pg_stat_statements(false)");
    let counters_ms = (many.cpu_ms - many.ticks * few.cpu_ms / few.ticks) / many.readings;
    let tick_ms = many.cpu_ms / many.ticks;
    eprintln!(
        "a tick costs the server {tick_ms:.1} ms; reading the counters {counters_ms:.1} ms of it, every {:.1} ticks, where \
         the cheapest reading costs {cheapest_ms:.1} ms; texts read {texts} times",
        many.ticks / many.readings,
    );
    assert!(tick_ms < TICK_MS_MAX, "{tick_ms:.1} ms");
    assert!(
        counters_ms < COUNTERS_FACTOR_MAX * cheapest_ms,
        "{counters_ms:.1} ms against {cheapest_ms:.1} ms"
    );
    assert!(texts <= WATCHED.as_secs() / 10 + 1, "texts were read {texts} times");
}

/// Somebody who zooms the list sees more than are seen at first, and some of what there is most of is our own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seventy_statements_have_their_texts_in_the_first_sample() {
    let lab = lab(&[]);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    admin.execute("SELECT pg_stat_statements_reset()").unwrap();
    for n in 1..=40 {
        admin.execute(&format!("SELECT 0{}", " + 1".repeat(n))).unwrap();
    }
    for _ in 0..TURNS {
        let mut watching = Watching::start(lab.primary(), "oncall").await;
        let first = watching.wait_for("the first counters", |sample| {
            sample.statements.value().is_some().then(|| sample.clone())
        });
        let first = first.await;
        let rows = &first.statements.value().unwrap().rows;
        assert!((41..100).contains(&rows.len()), "{} statements", rows.len());
        if rows.iter().all(|row| first.statement_texts.contains_key(&row.key)) {
            return;
        }
        // A sample does not wait for texts that take long, as they do where the machine stands still.
    }
    panic!("in {TURNS} turns no first sample had all texts");
}

/// A statement that is called for the first time between the first two readings of the counters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_in_the_second_reading_has_its_text_at_once() {
    let lab = lab(&[]);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    for turn in 0..TURNS {
        let mut watching = Watching::start(lab.primary(), "oncall").await;
        let first = watching.wait_for("the first counters", |sample| sample.statements.value().cloned());
        let first = first.await;
        // A name of a column makes no other statement.
        let sum = format!("SELECT count(*){} FROM generate_series(1, 100000)", " + 1".repeat(turn));
        admin.execute(&sum).unwrap();
        let second = watching.wait_for("the second counters", |sample| {
            let is_second = sample.statements.value().is_some_and(|it| it.read_at != first.read_at);
            is_second.then(|| sample.clone())
        });
        let second = second.await;
        let rows = &second.statements.value().unwrap().rows;
        let terms: Vec<String> = (1..=turn).map(|n| format!(" + ${n}")).collect();
        let normalized =
            format!("SELECT count(*){} FROM generate_series(${}, ${})", terms.concat(), turn + 1, turn + 2);
        let has_text =
            |row: &Statement| second.statement_texts.get(&row.key).is_some_and(|it| **it == *normalized);
        if rows.iter().any(has_text) {
            return;
        }
        // It was called after the second reading had begun, or its text took long.
    }
    panic!("in {TURNS} turns no statement that was new in the second reading had its text");
}

/// What a backend spent while it was watched.
struct Spent {
    ticks: f64,
    /// Readings of the counters.
    readings: f64,
    cpu_ms: f64,
}

impl Spent {
    async fn over(watching: &mut Watching, sampler: i32) -> Self {
        let (before_ms, began) = (on_cpu_ms(sampler), Instant::now());
        let (mut ticks, mut readings) = (0.0, BTreeSet::new());
        while began.elapsed() < WATCHED {
            if let Body::Postgres(sample) = watching.next().await.body {
                ticks += 1.0;
                readings.extend(sample.statements.value().map(|statements| statements.read_at));
            }
        }
        let readings = f64::from(u32::try_from(readings.len()).unwrap());
        assert!(readings > 2.0, "{readings} readings of the counters");
        Self { ticks, readings, cpu_ms: on_cpu_ms(sampler) - before_ms }
    }
}
