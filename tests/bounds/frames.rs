//! What one sample of a crowd and one frame of it cost a processor, without a server and a terminal. The bounds are
//! those of a release build; a debug build is some twenty-five times slower.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use dbtriage::app::{App, Msg};
use dbtriage::model::postgres::{LockTable, Oid, Session, State};
use dbtriage::model::{Body, Reading};
use dbtriage::terminal::Input;
use dbtriage::ui::{self, Glyphs, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::moment;

/// How much slower a debug build is; as in `tests/scale.rs`.
const SLOWER: u32 = if cfg!(debug_assertions) { 25 } else { 1 };

/// Ten thousand sessions at rest leave the program idle nine tenths of the second.
const SAMPLE_LIMIT: Duration = Duration::from_millis(20);
/// With five thousand waiters a quarter of the second between two samples may go into them.
const SAMPLE_LIMIT_OF_WAITERS: Duration = Duration::from_millis(250);
/// What a key changes is on the screen before a person sees that it was not.
const KEY_LIMIT: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
enum Shape {
    Queue,
    Chain,
}

#[derive(Debug, Clone, Copy)]
struct Crowd {
    sessions: i32,
    waiters: i32,
    shape: Shape,
    databases: Oid,
    relations: Oid,
}

const SESSIONS: Crowd =
    Crowd { sessions: 10_000, waiters: 0, shape: Shape::Queue, databases: 1, relations: 1 };

impl Crowd {
    fn sample(self, second: i64) -> Body {
        let mut sample = moment::postgres(second, false);
        let statement = "x".repeat(1000);
        let sessions = (0..self.sessions).map(|n| self.session(second, n, &statement)).collect();
        let mut names = moment::names();
        names.databases.extend((0..self.databases).map(|n| (1000 + n, format!("tenant_{n}").into())));
        names.relations.extend((0..self.relations).map(|n| (100 + n, format!("partition_{n}").into())));
        let counters = sample.databases.value().unwrap()[0].clone();
        let of = |n| dbtriage::model::postgres::DatabaseCounters { datid: 1000 + n, ..counters.clone() };
        sample.databases = Reading::Fresh((0..self.databases).map(of).collect());
        sample.names = Arc::new(names);
        sample.sessions = Reading::Fresh(sessions);
        sample.locks = Reading::Fresh(Arc::new(self.locks(second)));
        Body::Postgres(Arc::new(sample))
    }

    fn session(self, second: i64, n: i32, statement: &str) -> Session {
        let waits = 0 < n && n <= self.waiters;
        let state = match n {
            0 => State::IdleInTransaction,
            _ if waits => State::Active,
            _ => State::Idle,
        };
        let age = 600 - i64::from(n % 600) + second;
        let mut session = moment::session(moment::at(second), 20_000 + n, "web", state, age, statement);
        session.datid = Some(1000 + n.unsigned_abs() % self.databases);
        if waits {
            session.wait_event_type = Some("Lock".into());
            session.wait_event = Some("relation".into());
        }
        session
    }

    fn locks(self, second: i64) -> LockTable {
        let xid = |n: i32| moment::tag("transactionid", None, Some(n.unsigned_abs() + 1));
        let table = |n: Oid| moment::tag("relation", Some(100 + n), None);
        let mut rows = vec![moment::lock(20_000, &xid(0), "ExclusiveLock", None)];
        rows.extend(
            (0..self.relations).map(|n| moment::lock(20_000, &table(n), "AccessExclusiveLock", None)),
        );
        for n in 1..=self.waiters {
            let since = moment::ago(moment::at(second), 600 - i64::from(n) / 10);
            match self.shape {
                Shape::Queue => rows.push(moment::lock(20_000 + n, &table(0), "AccessExclusiveLock", since)),
                Shape::Chain => rows.extend([
                    moment::lock(20_000 + n, &xid(n), "ExclusiveLock", None),
                    moment::lock(20_000 + n, &xid(n - 1), "ShareLock", since),
                ]),
            }
        }
        LockTable { rows, safe_snapshot_waits: Vec::new() }
    }
}

fn draw(app: &mut App, theme: &Theme) {
    let area = Rect::new(0, 0, 200, 50);
    let layout = ui::layout(area, app);
    app.resized(layout.viewport());
    let mut buffer = Buffer::empty(area);
    ui::draw(&mut buffer, app, &layout, theme, Glyphs::BLOCK);
}

/// The time that this thread has had on a processor: what else runs on the machine is not what is measured.
fn on_processor() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

/// Takes samples and keys, and draws after each.
fn assert_in_time(crowd: Crowd, sample_limit: Duration) {
    let theme = ui::themes::load("default", None).unwrap();
    let mut app = moment::empty_app(false);
    let timed = |app: &mut App, second: i64, msg: Msg| {
        let started = on_processor();
        app.update(moment::at(second), msg);
        draw(app, &theme);
        on_processor().saturating_sub(started)
    };
    // The first has nothing to compare with; the second is as all others are.
    let samples = [0, 1].map(|second| timed(&mut app, second, moment::sample(second, crowd.sample(second))));
    let sample = *samples.iter().min().unwrap();
    // The second of each two leaves the screen as it was.
    let keys =
        ["2", "End", "Home", "Right", "Left", "1", "j", "k", "End", "Home", "z", "z", "S", "S", "i", "i"];
    let slowest = keys
        .map(|key| (timed(&mut app, 1, Msg::Input(Input::Key(key.parse().unwrap()))), key))
        .into_iter()
        .max()
        .unwrap();
    println!("{crowd:?}: sample {samples:?}, slowest key {slowest:?}");
    let (sample_limit, key_limit) = (sample_limit * SLOWER, KEY_LIMIT * SLOWER);
    assert!(sample < sample_limit, "{crowd:?}: {sample:?} against {sample_limit:?}");
    assert!(slowest.0 < key_limit, "{crowd:?}: {slowest:?} against {key_limit:?}");
}

#[test]
fn a_frame_of_ten_thousand_sessions_is_drawn_in_time() {
    assert_in_time(SESSIONS, SAMPLE_LIMIT);
}

#[test]
fn a_frame_of_ten_thousand_databases_is_drawn_in_time() {
    assert_in_time(Crowd { databases: 10_000, ..SESSIONS }, SAMPLE_LIMIT);
}

#[test]
fn a_frame_of_a_hundred_thousand_names_is_drawn_in_time() {
    assert_in_time(Crowd { relations: 100_000, waiters: 10, ..SESSIONS }, SAMPLE_LIMIT_OF_WAITERS);
}

#[test]
fn a_frame_of_five_thousand_waiters_in_one_queue_is_drawn_in_time() {
    assert_in_time(Crowd { waiters: 5_000, ..SESSIONS }, SAMPLE_LIMIT_OF_WAITERS);
}

#[test]
fn a_frame_of_five_thousand_waiters_in_a_chain_is_drawn_in_time() {
    assert_in_time(Crowd { waiters: 5_000, shape: Shape::Chain, ..SESSIONS }, SAMPLE_LIMIT_OF_WAITERS);
}
