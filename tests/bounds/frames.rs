//! What one sample of a crowd and one frame of it cost a processor, without a server and a terminal. The bounds are
//! those of a release build; a debug build is some twenty-five times slower.

use std::fs;
use std::time::Duration;

use dbtriage::app::{App, Msg};
use dbtriage::terminal::Input;
use dbtriage::ui::{self, Glyphs, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::moment;
use crate::population::{Crowd, Shape};

/// How much slower a debug build is; as in `tests/scale.rs`.
const SLOWER: u32 = if cfg!(debug_assertions) { 25 } else { 1 };

/// Ten thousand sessions at rest leave the program idle nine tenths of the second.
const SAMPLE_LIMIT: Duration = Duration::from_millis(20);
/// With five thousand waiters a quarter of the second between two samples may go into them.
const SAMPLE_LIMIT_OF_WAITERS: Duration = Duration::from_millis(250);
/// What a key changes is on the screen before a person sees that it was not.
const KEY_LIMIT: Duration = Duration::from_millis(20);

const SESSIONS: Crowd =
    Crowd { sessions: 10_000, waiters: 0, shape: Shape::Queue, databases: 1, relations: 1, statements: 0 };

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
