//! How the cost of a tick grows with what is watched: sessions, waiters, statements, relations, and the length of a
//! recording; without a server.
//!
//! `cargo bench --bench growth` prints each cost and its exponent, and fails where a tick grows faster than n log n;
//! `-- --keep` draws them all into `tests/bench/growth.svg` as well.
#![allow(clippy::print_stdout, reason = "what was measured is the result")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench fails by panicking, and its counts are small"
)]

#[allow(
    dead_code,
    clippy::unnecessary_wraps,
    clippy::too_many_lines,
    reason = "the moments of the screens are more, and told in words"
)]
#[path = "../screens/moment.rs"]
mod moment;
mod plot;
#[path = "../bounds/population.rs"]
mod population;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dbtriage::app::{App, Msg};
use dbtriage::model::{Sample, TargetId};
use dbtriage::recording::{Decoder, Encoder, Entry, HEADER_BYTES, lines};
use dbtriage::ui::{self, Glyphs};
use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::plot::{Line, plot};
use crate::population::{Crowd, Shape};

const NOTHING: Crowd =
    Crowd { sessions: 10, waiters: 0, shape: Shape::Queue, databases: 1, relations: 1, statements: 0 };
/// Samples that are taken of each size; the least of them is what it costs, the rest is what the machine was doing.
const SAMPLES: i64 = 12;
/// Locally, n log n has the exponent 1 + 1 / ln n: 1.12 at five thousand. The rest is what measuring may be off by.
const EXPONENT_MAX: f64 = 1.2;

/// What a sample of a crowd and the frame that shows it cost.
fn tick(crowd: Crowd) -> Duration {
    let theme = ui::themes::load("default", None).unwrap();
    let mut app = moment::empty_app(false);
    let mut least = Duration::MAX;
    for second in 0..SAMPLES {
        let sample = moment::sample(second, crowd.sample(second));
        let began = Instant::now();
        app.update(moment::at(second), sample);
        draw(&mut app, &theme);
        // The first has nothing to compare with.
        if 0 < second {
            least = least.min(began.elapsed());
        }
    }
    least
}

fn draw(app: &mut App, theme: &ui::Theme) {
    let area = Rect::new(0, 0, 200, 50);
    let layout = ui::layout(area, app);
    app.resized(layout.viewport());
    let mut buffer = Buffer::empty(area);
    ui::draw(&mut buffer, app, &layout, theme, Glyphs::BLOCK);
}

/// What so many seconds of ten sessions cost to be written, and then to be read again.
fn recording(seconds: i64) -> Duration {
    let mut encoder = Encoder::new(false);
    let mut frames = Vec::new();
    let mut took = Duration::ZERO;
    for second in 0..seconds {
        let Msg::Sample(sample) = moment::sample(second, NOTHING.sample(second)) else { return took };
        let sample: Sample = Sample { target: TargetId(0), ..*sample };
        let began = Instant::now();
        encoder.write(&Entry::Sample(sample)).unwrap();
        if second % 5 == 4 {
            frames.extend(encoder.frame().unwrap());
        }
        took += began.elapsed();
    }
    let began = Instant::now();
    let mut decoder = Decoder::default();
    let read = frames.iter().map(|frame| decoder.read(&lines(&frame[HEADER_BYTES..]).unwrap()).unwrap());
    let entries: usize = read.map(|(entries, lost)| entries.len() - lost).sum();
    assert_eq!(i64::try_from(entries).unwrap(), seconds / 5 * 5, "a sample was lost");
    took + began.elapsed()
}

/// One thing that grows.
struct Growth {
    name: &'static str,
    sizes: &'static [i32],
    cost: fn(i32) -> Duration,
    /// Whether it is paid with every tick.
    is_of_a_tick: bool,
}

const GROWTHS: [Growth; 6] = [
    Growth {
        name: "sessions",
        sizes: &[10, 100, 1_000, 3_000, 10_000],
        cost: |n| tick(Crowd { sessions: n, ..NOTHING }),
        is_of_a_tick: true,
    },
    Growth {
        name: "waiters in one queue",
        sizes: &[10, 100, 500, 1_500, 5_000],
        cost: |n| tick(Crowd { sessions: n + 1, waiters: n, ..NOTHING }),
        is_of_a_tick: true,
    },
    Growth {
        name: "waiters in a chain",
        sizes: &[10, 100, 500, 1_500, 5_000],
        cost: |n| tick(Crowd { sessions: n + 1, waiters: n, shape: Shape::Chain, ..NOTHING }),
        is_of_a_tick: true,
    },
    Growth {
        name: "statements",
        sizes: &[10, 500, 5_000, 15_000, 50_000],
        cost: |n| tick(Crowd { statements: n.into(), ..NOTHING }),
        is_of_a_tick: true,
    },
    Growth {
        name: "relations locked",
        sizes: &[10, 1_000, 10_000, 30_000, 100_000],
        cost: |n| tick(Crowd { relations: n.unsigned_abs(), waiters: 3, ..NOTHING }),
        is_of_a_tick: true,
    },
    Growth {
        name: "seconds of a recording",
        sizes: &[60, 600, 3_600, 21_600, 86_400],
        cost: |n| recording(n.into()),
        is_of_a_tick: false,
    },
];

/// The exponent of the last three sizes, where what is fixed does not count any more: the slope of the line through
/// them, of least squares, both axes in logarithms.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let last = &points[points.len().saturating_sub(3)..];
    let logs: Vec<(f64, f64)> = last.iter().map(|(n, ms)| (n.ln(), ms.ln())).collect();
    let count = logs.len() as f64;
    let (mean_x, mean_y) =
        (logs.iter().map(|(x, _)| x).sum::<f64>() / count, logs.iter().map(|(_, y)| y).sum::<f64>() / count);
    let above: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    above / below
}

fn main() -> ExitCode {
    let mut lines = Vec::new();
    let mut is_met = true;
    println!("| what grows | cost in ms at each size | exponent |\n|---|---|---|");
    for growth in &GROWTHS {
        let measured = |n: &i32| (f64::from(*n), (growth.cost)(*n).as_secs_f64() * 1e3);
        let points: Vec<(f64, f64)> = growth.sizes.iter().map(measured).collect();
        let exponent = exponent(&points);
        let told: Vec<String> = points.iter().map(|(n, ms)| format!("{n}: {ms:.2}")).collect();
        println!("| {} | {} | {exponent:.2} |", growth.name, told.join(", "));
        is_met &= !growth.is_of_a_tick || exponent <= EXPONENT_MAX;
        lines.push(Line { name: format!("{} (n^{exponent:.2})", growth.name), points });
    }
    if std::env::args().any(|word| word == "--keep") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/growth.svg");
        let day = Timestamp::now().strftime("%Y-%m-%d").to_string();
        let title = format!("Time of one tick (of a recording: of all of it), {day}");
        std::fs::write(&path, plot(&title, &lines)).unwrap();
        println!("\n{}", path.display());
    }
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
