//! What the parts of a tick cost by themselves: reading five recorded seconds, the lock graph, rates, all checks, one frame.
//!
//! `cargo bench --bench parts`
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking, and its macros make items")]

#[allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unnecessary_wraps,
    clippy::too_many_lines,
    reason = "the moments of the screens are more, and told in words"
)]
#[path = "../screens/moment.rs"]
mod moment;
#[allow(dead_code, clippy::indexing_slicing, reason = "another shape of it is measured elsewhere")]
#[path = "../bounds/population.rs"]
mod population;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use dbtriage::engine::changes::Changes;
use dbtriage::engine::findings::{Findings, Situation};
use dbtriage::engine::locks::{Context, Forest};
use dbtriage::engine::{Thresholds, rates};
use dbtriage::model::postgres::Sample as PgSample;
use dbtriage::model::{Body, Kind, Sample, TargetId};
use dbtriage::recording::{Decoder, Encoder, Entry, HEADER_BYTES, lines};
use dbtriage::ui::{self, Glyphs};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::population::{Crowd, Shape};

/// Two thousand sessions, of which three hundred wait, and five thousand statements.
const CROWD: Crowd = Crowd {
    sessions: 2_000,
    waiters: 300,
    shape: Shape::Queue,
    databases: 3,
    relations: 10,
    statements: 5_000,
};

fn read(second: i64) -> Arc<PgSample> {
    let Body::Postgres(sample) = CROWD.sample(second) else { unreachable!("a crowd is one of PostgreSQL") };
    sample
}

fn decode(criterion: &mut Criterion) {
    let mut encoder = Encoder::new(false);
    for second in 0..5 {
        let (asked_at, taken_at) = (moment::at(second), moment::at(second));
        let sample = Sample { target: TargetId(0), asked_at, taken_at, body: Body::Postgres(read(second)) };
        encoder.write(&Entry::Sample(sample)).unwrap();
    }
    let frame = encoder.frame().unwrap().unwrap();
    let read = || Decoder::default().read(&lines(frame.get(HEADER_BYTES..).unwrap()).unwrap()).unwrap();
    criterion.bench_function("decode five seconds of a recording", |bench| bench.iter(|| black_box(read())));
}

fn lock_graph(criterion: &mut Criterion) {
    let sample = read(0);
    let context = Context {
        sessions: sample.sessions.value().unwrap(),
        prepared: &[],
        names: &sample.names,
        own_pids: &[],
        now: sample.server_time,
        queue_is_exact: true,
    };
    let table = sample.locks.value().unwrap();
    criterion.bench_function("lock graph", |bench| bench.iter(|| black_box(Forest::build(table, &context))));
}

fn rates_of_databases(criterion: &mut Criterion) {
    let (before, now) = (read(0), read(1));
    criterion.bench_function("rates", |bench| {
        bench.iter(|| {
            black_box(rates::postgres_cache(&rates::database_deltas(Some(&before), &now), Some(1.0)))
        });
    });
}

fn checks(criterion: &mut Criterion) {
    let mut app = moment::empty_app(false);
    for second in 0..2 {
        app.update(moment::at(second), moment::sample(second, Body::Postgres(read(second))));
    }
    let observer = app.pg_observer().unwrap();
    let (changes, thresholds) = (Changes::default(), Thresholds::default());
    let situation = Situation {
        kind: Kind::Postgres,
        tick: observer.tick(),
        outage: None,
        is_report: false,
        changes: &changes,
        history: observer.history(),
        thresholds: &thresholds,
        now: moment::at(1),
    };
    let mut findings = Findings::default();
    criterion.bench_function("all checks", |bench| bench.iter(|| black_box(findings.update(&situation))));
}

fn frame(criterion: &mut Criterion) {
    let mut app = moment::empty_app(false);
    for second in 0..2 {
        app.update(moment::at(second), moment::sample(second, Body::Postgres(read(second))));
    }
    let theme = ui::themes::load("default", None).unwrap();
    let area = Rect::new(0, 0, 200, 50);
    let layout = ui::layout(area, &app);
    app.resized(layout.viewport());
    criterion.bench_function("one frame", |bench| {
        bench.iter(|| {
            let mut buffer = Buffer::empty(area);
            ui::draw(&mut buffer, &app, &layout, &theme, Glyphs::BLOCK);
            black_box(buffer)
        });
    });
}

criterion_group!(parts, decode, lock_graph, rates_of_databases, checks, frame);
criterion_main!(parts);
