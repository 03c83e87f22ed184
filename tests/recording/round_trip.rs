//! What is written comes back as it was.

use dbtriage::model::Body;
use dbtriage::recording::{Decoder, Entry, HEADER_BYTES, Header, lines};
use pretty_assertions::assert_eq;

use crate::script::{SECRET, entries, frames, told};

fn decoded(frames: &[Vec<u8>]) -> Vec<Entry> {
    let mut decoder = Decoder::default();
    let read = |frame: &Vec<u8>| {
        let header = Header::parse(frame).unwrap();
        assert_eq!(header.length as usize, frame.len() - HEADER_BYTES);
        let (entries, lost) = decoder.read(&lines(&frame[HEADER_BYTES..]).unwrap()).unwrap();
        assert_eq!(lost, 0);
        let begins = matches!(entries.first(), Some(Entry::Opening(_)));
        assert_eq!(header.opens, begins);
        entries
    };
    frames.iter().flat_map(read).collect()
}

fn assert_same(written: &[Entry], read: &[Entry]) {
    assert_eq!(written.len(), read.len());
    for (written, read) in written.iter().zip(read) {
        assert_eq!(told(written, true), told(read, true));
    }
}

#[test]
fn what_is_written_comes_back_whatever_a_frame_holds() {
    let written = entries(70, false);
    for of in [1, 7, 1000] {
        let frames = frames(&written, of, false);
        println!("{} entries in {} frames, {} bytes", written.len(), frames.len(), frames.concat().len());
        assert_same(&written, &decoded(&frames));
    }
}

#[test]
fn reading_can_start_at_every_opening() {
    let written = entries(70, false);
    let frames = frames(&written, 7, false);
    let opens = |at: &usize| Header::parse(&frames[*at]).unwrap().opens;
    let openings: Vec<usize> = (0..frames.len()).filter(opens).collect();
    assert_eq!(openings.len(), 3);
    for (n, start) in openings.into_iter().enumerate() {
        let is_opening = |(_, entry): &(usize, &Entry)| matches!(entry, Entry::Opening(_));
        let from = written.iter().enumerate().filter(is_opening).nth(n).unwrap().0;
        assert_same(&written[from..], &decoded(&frames[start..]));
    }
}

#[test]
fn no_literal_is_in_a_redacted_recording_and_all_else_is() {
    let written = entries(45, true);
    let plain = |redact| -> Vec<u8> {
        let frames = frames(&written, 9, redact);
        frames.iter().flat_map(|frame| lines(&frame[HEADER_BYTES..]).unwrap()).collect()
    };
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|it| it == SECRET.as_bytes());
    assert!(holds(&plain(false)), "the literal is nowhere in the first place");
    assert!(!holds(&plain(true)));
    let read = decoded(&frames(&written, 9, true));
    assert_eq!(read.len(), written.len());
    for (written, read) in written.iter().zip(&read) {
        let (Entry::Sample(written), Entry::Sample(read)) = (written, read) else {
            assert_eq!(told(written, true), told(read, true));
            continue;
        };
        let (Body::Postgres(written), Body::Postgres(read)) = (&written.body, &read.body) else { continue };
        assert_eq!(written.locks, read.locks);
        let without_queries = |sample: &dbtriage::model::postgres::Sample| {
            sample.sessions.map(|sessions| {
                let blank = |it: &dbtriage::model::postgres::Session| dbtriage::model::postgres::Session {
                    query: "".into(),
                    ..it.clone()
                };
                sessions.iter().map(blank).collect::<Vec<_>>()
            })
        };
        assert_eq!(without_queries(written), without_queries(read));
        if let (Some(_), Some(sessions)) = (written.statements.value(), read.sessions.value()) {
            assert_eq!(written.statement_texts.len(), read.statement_texts.len());
            assert!(
                sessions.iter().all(|it| it.query.contains("WHERE owner = ?") || !it.query.contains("FROM"))
            );
        }
    }
}
