//! What is no recording, or one that nobody has written.

use std::fs;
use std::sync::LazyLock;

use dbtriage::recording::{Decoder, HEADER_BYTES, Header, Packer, SIGNATURE, VERSION, lines};
use dbtriage::sources::recording::Reader;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::moment::at;
use crate::script::{entries, frames};

/// Every kind of line.
static LINES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let plain: Vec<u8> = frames(&entries(24, false), 50, false)
        .iter()
        .flat_map(|frame| lines(&frame[HEADER_BYTES..]).unwrap())
        .collect();
    plain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
});

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        Just(json!("2026-11-02T16:02:10Z")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts a value in the place of the n-th one inside.
fn replaced(value: &mut Value, n: &mut usize, with: &Value) {
    if *n == 0 {
        value.clone_from(with);
    }
    *n = n.wrapping_sub(1);
    match value {
        Value::Array(all) => all.iter_mut().for_each(|it| replaced(it, n, with)),
        Value::Object(all) => all.iter_mut().for_each(|(_, it)| replaced(it, n, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn open(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    if let Ok(mut reader) = Reader::open(&[file.path().to_owned()]) {
        let (first, last) = reader.span();
        for moment in [first, last, jiff::Timestamp::MIN, jiff::Timestamp::MAX] {
            reader.seek(moment, jiff::SignedDuration::MAX);
            reader.seek(moment, jiff::SignedDuration::from_secs(10));
            for _ in 0..20 {
                drop(reader.read());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..600), is_signed: bool, length: u16) {
        drop(Decoder::default().read(&bytes));
        drop(lines(&bytes));
        drop(lines(&[b"\x28\xb5\x2f\xfd\x04".as_slice(), &bytes].concat()));
        let _ = Header::parse(&bytes);
        let header = [&SIGNATURE[..], &u32::from(length % 700).to_le_bytes(), &bytes].concat();
        let _ = Header::parse(&header);
        open(&if is_signed { header } else { bytes });
    }

    #[test]
    fn any_lines_are_borne(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any_json()), 1..12),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..4),
        foreign in prop::collection::vec(any_json(), 0..4),
    ) {
        let mut all: Vec<Vec<u8>> = LINES.iter().take(40).cloned().collect();
        for (line, place, value) in &edits {
            let line: &mut Vec<u8> = line.get_mut(&mut all);
            let mut read: Value = serde_json::from_slice(line).unwrap_or(Value::Null);
            // Most of the values of a line are of sessions; those near its beginning are of more interest.
            replaced(&mut read, &mut place.index(60), value);
            *line = serde_json::to_vec(&read).unwrap();
        }
        for (line, place, value) in &flips {
            let line: &mut Vec<u8> = line.get_mut(&mut all);
            *place.get_mut(line) = *value;
        }
        all.extend(foreign.iter().map(|value| serde_json::to_vec(value).unwrap()));
        let text = all.join(&b'\n');
        drop(Decoder::default().read(&text));
        open(&Packer::default().pack(&text, Header { length: 0, at: at(0), opens: true }).unwrap());
    }
}

#[test]
fn a_recording_of_a_later_version_is_refused_with_both_versions() {
    let mut opening: Value = serde_json::from_slice(&LINES[0]).unwrap();
    opening["recording"]["version"] = json!(VERSION + 1);
    let text = serde_json::to_vec(&opening).unwrap();
    assert!(matches!(Decoder::default().read(&text), Err(version) if version == VERSION + 1));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        Packer::default().pack(&text, Header { length: 0, at: at(0), opens: true }).unwrap(),
    )
    .unwrap();
    let error = Reader::open(&[file.path().to_owned()]).unwrap_err();
    assert!(error.contains(&format!("(form {}, this one reads up to {VERSION})", VERSION + 1)), "{error}");
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    for bytes in [b"".as_slice(), b"PK\x03\x04", &SIGNATURE, &vec![0; 100_000]] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let error = Reader::open(&[file.path().to_owned()]).unwrap_err();
        assert!(error.contains(&*file.path().to_string_lossy()) && error.contains("no recording"), "{error}");
    }
    assert!(Reader::open(&["/nowhere/at/all".into()]).unwrap_err().contains("/nowhere/at/all"));
}

/// A line may say that the sessions are those of the line before, twice: forty such lines would be a million million.
#[test]
fn a_list_that_doubles_with_each_line_ends_somewhere() {
    let is_sample = |line: &&Vec<u8>| line.starts_with(b"{\"postgres\"");
    let first = LINES.iter().position(|line| is_sample(&line)).unwrap();
    let mut lines: Vec<Vec<u8>> = LINES[..=first].to_vec();
    let mut sample: Value = serde_json::from_slice(&LINES[first]).unwrap();
    let mut count = sample["postgres"][1]["sessions"]["Fresh"].as_array().unwrap().len();
    assert!(count > 0);
    for _ in 0..40 {
        sample["postgres"][1]["sessions_since"] = json!([{"same": [0, count]}, {"same": [0, count]}]);
        lines.push(serde_json::to_vec(&sample).unwrap());
        count *= 2;
    }
    let (entries, lost) = Decoder::default().read(&lines.join(&b'\n')).unwrap();
    assert!((1..30).contains(&entries.len()) && 10 < lost, "{} entries, {lost} lost", entries.len());
}

/// What later frames refer to was written in full: a list that refers to another is none of those, whatever it says.
#[test]
fn a_list_cannot_grow_from_frame_to_frame() {
    let first = LINES.iter().position(|line| line.starts_with(b"{\"postgres\"")).unwrap();
    let mut sample: Value = serde_json::from_slice(&LINES[first]).unwrap();
    let count = sample["postgres"][1]["sessions"]["Fresh"].as_array().unwrap().len();
    let number = sample["postgres"][1]["number"].as_u64().unwrap();
    let mut decoder = Decoder::default();
    assert_eq!(decoder.read(&LINES[..=first].join(&b'\n')).unwrap().1, 0);
    let mut read = |count: usize, of: u64| {
        sample["postgres"][1]["of"] = of.into();
        sample["postgres"][1]["number"] = (number + 1).into();
        sample["postgres"][1]["sessions_since"] = json!([{"same": [0, count]}, {"same": [0, count]}]);
        decoder.read(&serde_json::to_vec(&sample).unwrap()).unwrap().1
    };
    assert_eq!(read(count, number), 0, "twice those of the first");
    assert_eq!(read(2 * count, number + 1), 1, "twice those of the second");
    assert_eq!(read(2 * count, number), 1, "they are still as many as in the first");
}
