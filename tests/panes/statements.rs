//! Five thousand statements with texts of three kilobytes: what a tick costs the server, and how seldom texts are read.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use dbtriage::model::Body;
use dbtriage_lab::Client;
use dbtriage_lab::terminal::until;

use crate::{PATIENCE, Watching, lab};

const STATEMENTS: usize = 5_000;
/// What a tick may cost the server, milliseconds: those that read the counters and those between them.
const TICK_MS_MAX: f64 = 15.0;
/// What a tick that reads the counters may cost, against the least that any reading of them costs on this machine: the
/// function makes all its rows, of forty columns, whoever asks for how few.
const COUNTERS_FACTOR_MAX: f64 = 4.0;
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
    admin.execute(RUN_MANY).unwrap();
    let counted = admin.cell("SELECT count(*) FROM pg_stat_statements WHERE length(query) > 3000").unwrap();
    assert!(counted.parse::<usize>().unwrap() >= STATEMENTS, "{counted}");
    let mut watching = Watching::start(lab.primary(), "oncall").await;
    let texts_read =
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%dbtriage:texts%'
        OR query LIKE 'SELECT /* dbtriage */ userid, dbid, % substr(textsend(query)%'";
    let texts_read = || admin.cell(texts_read).unwrap().parse::<u64>().unwrap();
    until("the texts to be read once", PATIENCE, || texts_read() > 0);
    let sampler = watching.wait_for("the counters", |sample| {
        let read = sample.statements.value().is_some_and(|statements| statements.rows.len() >= STATEMENTS);
        sample.server.own_pids.first().copied().filter(|_| read)
    });
    let sampler = sampler.await;
    let (before_ms, texts_before, began) = (on_cpu_ms(sampler), texts_read(), Instant::now());
    let (mut ticks, mut readings) = (0.0, BTreeSet::new());
    while began.elapsed() < WATCHED {
        if let Body::Postgres(sample) = watching.next().await.body {
            ticks += 1.0;
            readings.extend(sample.statements.value().map(|statements| statements.read_at));
        }
    }
    let spent_ms = on_cpu_ms(sampler) - before_ms;
    let texts = texts_read() - texts_before;
    // The least that any reading of the counters costs on this machine: the function makes all its rows first.
    let cheapest_ms = cost_ms(&admin, "SELECT count(*) FROM pg_stat_statements(false)");
    let (tick_ms, count) = (spent_ms / ticks, f64::from(u32::try_from(readings.len()).unwrap()));
    assert!(count > 2.0, "{count} readings of the counters");
    // As if the ticks that read no counters cost nothing.
    let counters_ms = spent_ms / count;
    eprintln!(
        "a tick costs the server {tick_ms:.1} ms, one with counters at most {counters_ms:.1} ms where their cheapest \
         reading costs {cheapest_ms:.1} ms; texts read {texts} times",
    );
    assert!(tick_ms < TICK_MS_MAX, "{tick_ms:.1} ms");
    assert!(
        counters_ms < COUNTERS_FACTOR_MAX * cheapest_ms,
        "{counters_ms:.1} ms against {cheapest_ms:.1} ms"
    );
    assert!(texts <= WATCHED.as_secs() / 10 + 1, "texts were read {texts} times");
}
