//! How many instructions reading a recording, deriving from it and drawing it take, as valgrind counts them: the same on
//! every machine of a kind, so that a few per cent more are seen at once.
//!
//! `cargo bench --bench instructions` compares with `tests/bench/instructions.json` and fails where a count is more than
//! 3 % off; `-- --keep` writes the counts down there.
#![allow(clippy::print_stdout, reason = "what was measured is the result")]

#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::unnecessary_wraps,
    clippy::too_many_lines,
    reason = "the moments of the screens are more, and told in words"
)]
#[path = "../screens/moment.rs"]
mod moment;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use dbtriage::app::{App, Msg};
use dbtriage::model::Sample;
use dbtriage::recording::{Decoder, Entry, HEADER_BYTES, Header, lines};
use dbtriage::ui::{self, Glyphs};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// A count may differ by so much: tables are hashed with another seed each time.
const TOLERANCE: f64 = 0.03;
/// A part by its name. It is done so often, and so often; what is counted is the difference, so that starting does not
/// count, nor how far the ring's thread has come when the program ends.
type Part = (&'static str, fn(&Material), [u32; 2]);

const PARTS: [Part; 3] = [("decode", decode, [2, 7]), ("engine", engine, [2, 7]), ("draw", draw, [10, 210])];

/// What is worked on.
struct Material {
    frames: Vec<Vec<u8>>,
    samples: Vec<Sample>,
    theme: ui::Theme,
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

impl Material {
    fn read() -> Result<Self> {
        let bytes = fs::read(path_of("recording/fixtures/version_1.dbtriage")).context("no recording")?;
        let mut frames = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some(header) = Header::parse(rest) {
            let (frame, after) = rest
                .get(HEADER_BYTES..)
                .and_then(|rest| rest.split_at_checked(header.length as usize))
                .context("the recording is cut off")?;
            frames.push(frame.to_vec());
            rest = after;
        }
        let theme = ui::themes::load("default", None).map_err(anyhow::Error::msg)?;
        let mut material = Self { frames, samples: Vec::new(), theme };
        material.samples = material.entries();
        ensure!(material.samples.len() > 10, "the recording holds {} samples", material.samples.len());
        Ok(material)
    }

    fn entries(&self) -> Vec<Sample> {
        let mut decoder = Decoder::default();
        let entries = self.frames.iter().filter_map(|frame| {
            let lines = lines(frame).ok()?;
            Some(decoder.read(&lines).ok()?.0)
        });
        let sample = |entry| if let Entry::Sample(sample) = entry { Some(sample) } else { None };
        entries.flatten().filter_map(sample).collect()
    }

    fn played(&self) -> App {
        let mut app = moment::empty_app(false);
        for sample in &self.samples {
            app.update(sample.taken_at, Msg::Sample(Box::new(sample.clone())));
        }
        app
    }
}

fn decode(material: &Material) {
    std::hint::black_box(material.entries());
}

fn engine(material: &Material) {
    std::hint::black_box(material.played());
}

/// Played once whichever way often it is drawn: what is counted is the difference.
fn draw(material: &Material) {
    thread_local!(static APP: std::cell::RefCell<Option<App>> = const { std::cell::RefCell::new(None) });
    APP.with_borrow_mut(|app| {
        let app = app.get_or_insert_with(|| material.played());
        let area = Rect::new(0, 0, 200, 50);
        let layout = ui::layout(area, app);
        app.resized(layout.viewport());
        let mut buffer = Buffer::empty(area);
        ui::draw(&mut buffer, app, &layout, &material.theme, Glyphs::BLOCK);
        std::hint::black_box(buffer);
    });
}

/// The instructions of a part done so often, starting included.
fn counted(part: &str, times: u32) -> Result<u64> {
    let own = env::current_exe().context("where this program is, is not known")?;
    let run = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(own)
        .args(["--do", part, &times.to_string()])
        .output()
        .context("could not run valgrind; is it installed?")?;
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "{part} failed under valgrind: {said}");
    let count = said
        .lines()
        .find_map(|line| line.split_once("refs:").filter(|(before, _)| before.trim_end().ends_with('I')));
    let digits: String =
        count.context("valgrind told no count")?.1.chars().filter(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("valgrind told {digits}"))
}

fn compare(keep: bool) -> Result<bool> {
    let stored = path_of("bench/instructions.json");
    let known: BTreeMap<String, u64> = match fs::read(&stored) {
        Ok(bytes) => serde_json::from_slice(&bytes).context("the stored counts cannot be read")?,
        Err(_) => BTreeMap::new(),
    };
    let mut now = BTreeMap::new();
    let mut is_alike = true;
    for (part, _, [few, many]) in PARTS {
        let each = (counted(part, many)? - counted(part, few)?) / u64::from(many - few);
        #[expect(clippy::cast_precision_loss, reason = "for a ratio")]
        let off = known.get(part).map(|before| each as f64 / *before as f64 - 1.0);
        let told = off.map_or_else(|| "not stored yet".to_owned(), |off| format!("{:+.1} %", off * 100.0));
        println!("{part}: {each} instructions, {told}");
        is_alike &= off.is_some_and(|off| off.abs() <= TOLERANCE);
        now.insert(part.to_owned(), each);
    }
    if keep {
        fs::write(&stored, serde_json::to_string_pretty(&now)? + "\n")
            .context("could not keep the counts")?;
    }
    Ok(is_alike || keep)
}

fn main() -> Result<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [word, part, times] = words.as_slice()
        && word == "--do"
    {
        let material = Material::read()?;
        let (_, work, _) = PARTS.into_iter().find(|(name, ..)| name == part).context("no such part")?;
        for _ in 0..times.parse::<u32>()? {
            work(&material);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_alike = compare(words.iter().any(|word| word == "--keep"))?;
    if !is_alike {
        println!("more than 3 % off: find out why, or keep the new counts with `-- --keep` and say why");
    }
    Ok(if is_alike { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
