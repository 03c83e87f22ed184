//! A file that was cut off or damaged: whatever is read of it was written so, and what was not hit is read.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use dbtriage::model::postgres::Sample as PgSample;
use dbtriage::model::{Body, Outage, OutageKind, Reading, Reason, Sample, TargetId};
use dbtriage::recording::{Decoder, Entry, HEADER_BYTES, lines};
use dbtriage::sources::recording::Reader;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::moment::{self, at};
use crate::script::{self, entries, frames, opening, place, told};

type Place = (TargetId, Timestamp);

/// Everything that a file gives.
#[derive(Debug, Default)]
struct Given {
    entries: Vec<Entry>,
    cuts: usize,
}

impl Given {
    fn is_told(&self) -> bool {
        self.cuts > 0
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Sample(sample) => Some(sample),
            Entry::Opening(_) | Entry::Note(_) => None,
        })
    }
}

/// `None` where it is no recording.
fn given(path: &Path) -> Option<Given> {
    given_from(path, false)
}

/// All of it, or only from the last opening on.
fn given_from(path: &Path, last_opening: bool) -> Option<Given> {
    let mut reader = Reader::open(&[path.to_owned()]).ok()?;
    if last_opening {
        reader.seek(reader.span().1, SignedDuration::ZERO);
    }
    let mut given = Given::default();
    while let Some(read) = reader.read() {
        let (entries, cut) = read.ok()?;
        given.entries.extend(entries);
        given.cuts += usize::from(cut.is_some());
    }
    Some(given)
}

fn is_same(one: &Sample, other: &Sample) -> bool {
    (one.target, one.asked_at, one.taken_at) == (other.target, other.asked_at, other.taken_at)
        && match (&one.body, &other.body) {
            (Body::Postgres(one), Body::Postgres(other)) => is_same_postgres(one, other),
            (Body::Redis(one), Body::Redis(other)) => one == other,
            (Body::Outage(one), Body::Outage(other)) => one == other,
            _ => false,
        }
}

fn is_same_postgres(one: &PgSample, other: &PgSample) -> bool {
    let rows = |sample: &PgSample| {
        sample.statements.map(|it| {
            let mut rows = it.rows.clone();
            rows.sort_by_key(|row| row.key);
            rows
        })
    };
    one.server_time == other.server_time
        && (&one.server, &one.rights, &one.names) == (&other.server, &other.rights, &other.names)
        && (&one.sessions, &one.locks, &one.databases) == (&other.sessions, &other.locks, &other.databases)
        && (&one.upkeep, &one.prepared, &one.receiver) == (&other.upkeep, &other.prepared, &other.receiver)
        && one.tables.is_some() == other.tables.is_some()
        && (&one.wal, &one.senders, &one.slots) == (&other.wal, &other.senders, &other.slots)
        && rows(one) == rows(other)
}

/// Letters that no packing makes much smaller.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 33) % 64).unwrap())
    };
    (0..length).map(letter).collect()
}

/// Some 70 kB of which little is laborious to read again 65,536 times: sentences of noise, and samples of a server at
/// the end.
fn short() -> Vec<Entry> {
    let mut all = vec![Entry::Opening(opening(0, false))];
    let mut server = script::Server::default();
    for second in 1..=30 {
        let sample = match second {
            29 | 30 => Body::Postgres(Arc::new(server.sample(second))),
            _ => Body::Outage(Outage {
                kind: OutageKind::Error,
                reason: Reason::new(noise(u64::try_from(second).unwrap(), 3100)),
                since: at(second),
                retry_at: None,
            }),
        };
        if second % 4 == 0 {
            all.push(Entry::Opening(opening(second, false)));
        }
        all.push(script::sample(0, second, sample));
    }
    all
}

#[test]
fn a_file_cut_at_any_byte_gives_what_was_written_before() {
    const TAIL: usize = 64 << 10;
    let written = short();
    let whole = frames(&written, 1, false);
    let bytes = whole.concat();
    assert!(bytes.len() > TAIL, "{} bytes", bytes.len());
    // Where each frame ends, how many samples are whole there, and how many were at the opening before.
    let mut ends = vec![(0, 0, 0)];
    let (mut decoder, mut end, mut count, mut opened) = (Decoder::default(), 0, 0, 0);
    for frame in &whole {
        let (entries, _) = decoder.read(&lines(&frame[HEADER_BYTES..]).unwrap()).unwrap();
        if matches!(entries.first(), Some(Entry::Opening(_))) {
            opened = count;
        }
        end += frame.len();
        count += entries.iter().filter(|entry| place(entry).is_some()).count();
        ends.push((end, count, opened));
    }
    let samples: Vec<&Sample> = written
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sample(sample) => Some(sample),
            Entry::Opening(_) | Entry::Note(_) => None,
        })
        .collect();
    let cut_from = bytes.len() - TAIL;
    let folder = tempfile::tempdir().unwrap();
    // Two threads, each with a file of its own that becomes shorter by a byte.
    let try_all = |path: PathBuf, from: usize, to: usize| {
        fs::write(&path, &bytes).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for length in (from..to).rev() {
            file.set_len(length as u64).unwrap();
            let (end, count, opened) = *ends.iter().rev().find(|(end, ..)| *end <= length).unwrap();
            // What stands before the last opening is the same from one byte to the next.
            let is_whole = length - end <= HEADER_BYTES || length % 32 == 0;
            let given = given_from(&path, !is_whole)
                .unwrap_or_else(|| panic!("nothing is read when cut at {length}"));
            let expected = &samples[if is_whole { 0 } else { opened }..count];
            assert_eq!(given.samples().count(), expected.len(), "cut at {length}");
            for (given, written) in given.samples().zip(expected) {
                assert!(is_same(given, written), "cut at {length}");
            }
            assert_eq!(given.is_told(), end != length, "cut at {length}");
        }
    };
    let middle = usize::midpoint(cut_from, bytes.len());
    std::thread::scope(|scope| {
        scope.spawn(|| try_all(folder.path().join("a"), cut_from, middle));
        scope.spawn(|| try_all(folder.path().join("b"), middle, bytes.len() + 1));
    });
}

/// A recording, where its frames are, and what was written, by place.
struct Original {
    frames: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    starts: Vec<usize>,
    samples: BTreeMap<Place, Sample>,
    notes: Vec<String>,
}

static ORIGINAL: LazyLock<Original> = LazyLock::new(|| {
    let written = entries(34, false);
    let frames = frames(&written, 8, false);
    let starts = frames.iter().scan(0, |at, frame| {
        let start = *at;
        *at += frame.len();
        Some(start)
    });
    let sample = |entry: &Entry| match entry {
        Entry::Sample(sample) => Some((place(entry)?, sample.clone())),
        Entry::Opening(_) | Entry::Note(_) => None,
    };
    Original {
        bytes: frames.concat(),
        starts: starts.collect(),
        samples: written.iter().filter_map(sample).collect(),
        notes: written.iter().filter(|it| place(it).is_none()).map(|it| told(it, false)).collect(),
        frames,
    }
});

impl Original {
    /// The samples that do not need any of the frames that were hit.
    fn unhurt(&self, hit: &[usize]) -> Vec<Place> {
        let mut decoder = Decoder::default();
        let mut places = Vec::new();
        for (n, frame) in self.frames.iter().enumerate() {
            if !hit.contains(&n) {
                let (entries, _) = decoder.read(&lines(&frame[HEADER_BYTES..]).unwrap()).unwrap();
                places.extend(entries.iter().filter_map(place));
            }
        }
        places
    }

    fn frame_of(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start <= byte) - 1
    }
}

/// Overwrites bytes of the recording, reads it, and looks at what comes.
fn assert_bearable(path: &Path, changes: &BTreeMap<usize, u8>) {
    let original = &*ORIGINAL;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    file.write_all(&original.bytes).unwrap();
    for (place, byte) in changes {
        file.seek(SeekFrom::Start(*place as u64)).unwrap();
        file.write_all(&[*byte]).unwrap();
    }
    drop(file);
    let differing = changes.iter().filter(|(place, byte)| original.bytes[**place] != **byte);
    let hit: Vec<usize> = differing.map(|(place, _)| original.frame_of(*place)).collect();
    let Some(given) = given(path) else {
        // Without one opening nobody knows what was watched.
        let opens = |n: &usize| {
            !hit.contains(n) && dbtriage::recording::Header::parse(&original.frames[*n]).unwrap().opens
        };
        let some = (0..original.frames.len()).find(opens);
        assert!(some.is_none(), "nothing is read, though frame {some:?} opens; hit {hit:?}");
        return;
    };
    let mut places = Vec::new();
    for entry in &given.entries {
        let Entry::Sample(sample) = entry else {
            assert!(original.notes.contains(&told(entry, false)), "invented: {entry:?}");
            continue;
        };
        let place = (sample.target, sample.taken_at);
        let written = original.samples.get(&place).expect("an invented sample");
        assert!(is_same(sample, written), "{place:?} is not what was written; hit {hit:?} {changes:?}");
        if let (Body::Postgres(sample), Body::Postgres(written)) = (&sample.body, &written.body)
            && sample.statements.value().is_some()
        {
            // A text whose frame was hit is not known; none is invented.
            let is_written = |(key, text)| written.statement_texts.get(key) == Some(text);
            assert!(sample.statement_texts.iter().all(is_written), "invented texts at {place:?}");
        }
        places.push(place);
    }
    let missing: Vec<Place> = original.unhurt(&hit).into_iter().filter(|it| !places.contains(it)).collect();
    assert!(missing.is_empty(), "hit {hit:?} {changes:?}: {missing:?} are missing");
    assert!(
        places.len() == original.samples.len() || given.is_told(),
        "what is missing is not told: {hit:?}"
    );
}

#[test]
fn each_byte_of_a_header_costs_no_more_than_its_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let original = &*ORIGINAL;
    println!("{} frames, {} bytes", original.frames.len(), original.bytes.len());
    let opens = |n: &usize| dbtriage::recording::Header::parse(&original.frames[*n]).unwrap().opens;
    let second_opening = (1..original.frames.len()).find(opens).unwrap();
    let last = original.frames.len() - 1;
    for frame in [2, second_opening, last] {
        for byte in 0..HEADER_BYTES {
            let place = original.starts[frame] + byte;
            assert_bearable(&path, &BTreeMap::from([(place, original.bytes[place] ^ 1)]));
        }
    }
}

#[test]
fn each_frame_alone_can_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let original = &*ORIGINAL;
    for start in &original.starts {
        let place = start + HEADER_BYTES + 40;
        assert_bearable(&path, &BTreeMap::from([(place, !original.bytes[place])]));
    }
}

/// Two runs in one file, of servers that differ in their version alone; the opening of the second is lost.
#[test]
fn what_follows_a_lost_opening_is_not_taken_for_more_of_what_was_before() {
    let sampled = |second, version: &str| {
        let mut sample = moment::postgres(second, false);
        sample.statements = Reading::Unavailable(Reason::new("not installed"));
        let mut server = (*sample.server).clone();
        server.version = version.into();
        sample.server = Arc::new(server);
        script::sample(0, second, Body::Postgres(Arc::new(sample)))
    };
    let written = [
        Entry::Opening(opening(0, false)),
        sampled(1, "15.18"),
        sampled(2, "15.18"),
        Entry::Opening(opening(10, false)),
        sampled(11, "17.6"),
        sampled(12, "17.6"),
    ];
    // An encoder for each run, as two processes have.
    let (first, second) = written.split_at(3);
    let mut whole = frames(first, 2, false);
    whole.extend(frames(second, 2, false));
    assert_eq!(whole.len(), 4);
    let bytes = |frame: &[u8]| [whole[..2].concat(), frame.to_vec(), whole[3].clone()].concat();
    let mut damaged = whole[2].clone();
    damaged[HEADER_BYTES + 40] ^= 1;
    let mut headless = whole[2].clone();
    headless[3] ^= 1;
    let file = tempfile::NamedTempFile::new().unwrap();
    for frame in [damaged, headless, Vec::new()] {
        fs::write(file.path(), bytes(&frame)).unwrap();
        let given = given(file.path()).unwrap();
        let told_of = |sample: &Sample| told(&Entry::Sample(sample.clone()), false);
        let known: Vec<String> = written.iter().map(|entry| told(entry, false)).collect();
        assert!(given.samples().all(|sample| known.contains(&told_of(sample))), "an invented sample");
        assert!(given.is_told());
        assert_eq!(given.samples().count(), 2);
    }
}

/// Samples of so many seconds, whose counters are read anew where this says so, in frames of five.
fn steady(seconds: i64, reading: impl Fn(i64) -> i64) -> Vec<Vec<u8>> {
    let mut written = vec![Entry::Opening(opening(0, false))];
    let mut counters = (0, None);
    written.extend((1..=seconds).map(|second| {
        let mut sample = moment::postgres(second, false);
        if counters.0 != reading(second) {
            counters = (reading(second), sample.statements.value().cloned());
        }
        sample.statements = match &counters.1 {
            Some(read) => Reading::Fresh(Arc::clone(read)),
            None => Reading::Unavailable(Reason::new("not installed")),
        };
        script::sample(0, second, Body::Postgres(Arc::new(sample)))
    }));
    frames(&written, 5, false)
}

/// How many samples are read without some frames, and how often it is told that something is missing.
fn read_without(frames: &[Vec<u8>], lost: Option<usize>) -> (usize, usize) {
    let mut bytes = frames.concat();
    if let Some(lost) = lost {
        let place = frames[..lost].concat().len() + HEADER_BYTES + 40;
        bytes[place] ^= 1;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let given = given(file.path()).unwrap();
    (given.samples().count(), given.cuts)
}

/// Sessions and locks are written in full once a minute, and what differs from that in between.
#[test]
fn a_lost_frame_costs_a_minute_at_most_and_is_told_once() {
    let frames = steady(300, |_| 0);
    assert_eq!(read_without(&frames, None), (300, 0));
    for lost in 1..frames.len() {
        let (count, cuts) = read_without(&frames, Some(lost));
        assert!(300 - 65 <= count, "without frame {lost}: {count} samples");
        assert_eq!(cuts, 1, "without frame {lost}");
    }
}

/// The frame that is lost held counters, which the sample after it refers to whose sessions were written in full.
#[test]
fn what_was_written_in_full_is_known_also_where_its_sample_is_not() {
    // They are read at second 64, in the frame before the one that begins with sessions in full, and not before 71.
    let frames = steady(130, |second| (second + 6) / 7);
    let (all, _) = read_without(&frames, None);
    let (count, cuts) = read_without(&frames, Some(60 / 5));
    // The frame itself, those until the next reading, and what differs from the last of those.
    assert_eq!((all, all - count, cuts), (130, 5 + 6 + 4, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn damage_anywhere_costs_what_was_hit_and_invents_nothing(
        changes in prop::collection::btree_map(0..ORIGINAL.bytes.len(), any::<u8>(), 1..6),
        zeroes in prop::option::of((0..ORIGINAL.bytes.len(), 1..3000_usize)),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = changes;
        // A block of the disk that was never written.
        if let Some((from, length)) = zeroes {
            changes.extend((from..(from + length).min(ORIGINAL.bytes.len())).map(|place| (place, 0)));
        }
        assert_bearable(&folder.path().join("damaged"), &changes);
    }
}
