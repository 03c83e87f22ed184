//! How long it takes to show an earlier moment.

use std::fs;
use std::time::Duration;

use dbtriage::app::Msg;
use dbtriage::ui::{self, Glyphs};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::crowd::Crowd;
use crate::limits::SECONDS;
use crate::moment;

/// A person who holds the key down sees every moment.
const LIMIT: Duration = Duration::from_millis(50);
const MOMENTS: u64 = 200;

/// The time that this thread has had on a processor: what else runs on the machine is not what is measured.
fn on_processor() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn stepping_through_a_quarter_of_an_hour_shows_every_moment_in_time() {
    let mut app = moment::empty_app(false);
    let mut crowd = Crowd::new(50);
    for _ in 0..SECONDS {
        let sample = crowd.sample();
        app.update(sample.taken_at, Msg::Sample(Box::new(sample)));
    }
    let theme = ui::themes::load("default", None).unwrap();
    let area = Rect::new(0, 0, 200, 50);
    let times: Vec<_> = app.observers[0].times().collect();
    let reach = times.len() as u64;
    let mut took: Vec<(Duration, Duration)> = Vec::new();
    for n in 0..MOMENTS {
        let at = times[usize::try_from(n * (reach - 1) / (MOMENTS - 1)).unwrap()];
        let began = on_processor();
        let past = app.observers[0].as_of(at).unwrap();
        let known = on_processor().saturating_sub(began);
        assert_eq!(past.tick().unwrap().taken_at, at);
        let now = std::mem::replace(&mut app.observers[0], past);
        let layout = ui::layout(area, &app);
        app.resized(layout.viewport());
        let mut buffer = Buffer::empty(area);
        ui::draw(&mut buffer, &app, &layout, &theme, Glyphs::BLOCK);
        took.push((on_processor().saturating_sub(began), known));
        app.observers[0] = now;
    }
    took.sort();
    let (slowest, of_it) = *took.last().unwrap();
    let median = took[took.len() / 2].0;
    println!(
        "{MOMENTS} moments of {reach} samples: median {median:?}, slowest {slowest:?} (as_of {of_it:?})"
    );
    assert!(cfg!(debug_assertions) || slowest <= LIMIT, "{slowest:?}");
}
