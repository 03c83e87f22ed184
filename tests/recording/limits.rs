//! A quarter of an hour of a busy server keeps to its memory and to its room on the disk.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use dbtriage::engine::{Baseline, Observer, Reach, Thresholds};
use dbtriage::model::postgres::{DatabaseCounters, Sample as PgSample, StatementKey};
use dbtriage::model::{Body, Reading, Sample, TargetId};
use dbtriage::recording::{Encoder, Entry};

use crate::crowd::Crowd;
use crate::moment;
use crate::script::{opening, targets};

pub(crate) const MB: u64 = 1 << 20;

/// A debug build shows a part of the quarter of an hour, and has that part of the room.
pub(crate) const SECONDS: u64 = if cfg!(debug_assertions) { 120 } else { 900 };

/// Says to a process of its own what it is.
const ALONE: &str = "DBTRIAGE_MEASURED_ALONE";

/// Runs a test once more in a process that does nothing else: memory that others have given back would be taken for
/// none. True in that process.
fn is_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let mut itself = Command::new(env::current_exe().unwrap());
    let told = itself.args(["--exact", "--nocapture", test]).env(ALONE, "1").output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{test}");
    false
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kb: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kb * 1024
}

pub(crate) fn observer() -> Observer {
    Observer::new(targets()[0].clone(), Baseline::Previous, Thresholds::default())
}

/// What looking back takes by its own count, and the process's memory that it really takes; seconds that it reaches.
fn kept(active: u64) -> (u64, u64, usize) {
    let mut crowd = Crowd::new(active);
    let mut observer = observer();
    // In a short run what the first samples take once, such as the room for packing, would outweigh the rest.
    let warm_up = if SECONDS < 900 { SECONDS / 3 } else { 1 };
    for _ in 0..warm_up {
        observer.observe(&crowd.sample());
    }
    let before = resident_bytes();
    for _ in warm_up..SECONDS {
        observer.observe(&crowd.sample());
    }
    let grown = resident_bytes().saturating_sub(before);
    (observer.ring_bytes() as u64, grown, observer.times().count())
}

/// Bytes of a file in frames of five seconds, and the largest share of one.
fn written(active: u64) -> u64 {
    let mut crowd = Crowd::new(active);
    let mut encoder = Encoder::new(false);
    encoder.write(&Entry::Opening(opening(0, false))).unwrap();
    let mut bytes = 0;
    for second in 0..SECONDS {
        encoder.write(&Entry::Sample(crowd.sample())).unwrap();
        if second % 5 == 4 {
            bytes += encoder.frame().unwrap().unwrap().len() as u64;
        }
        if second == 600 {
            encoder.write(&Entry::Opening(opening(600, false))).unwrap();
        }
    }
    bytes
}

#[test]
fn a_quarter_of_an_hour_of_five_hundred_sessions_has_room() {
    if !is_alone("limits::a_quarter_of_an_hour_of_five_hundred_sessions_has_room") {
        return;
    }
    let (counted, grown, reach) = kept(50);
    let file = written(50);
    println!(
        "{SECONDS} s, 50 of 500 active: {reach} samples, counted {:.1} MB, memory grew by {:.1} MB, file {:.1} MB",
        mb(counted),
        mb(grown),
        mb(file)
    );
    assert_eq!(reach as u64, SECONDS, "not all is kept");
    let limit = 64 * MB * SECONDS / 900;
    assert!(counted <= limit, "{counted} bytes counted");
    // Besides the ring the observer has the figures of the last hour.
    assert!(grown <= limit + 4 * MB, "{grown} bytes of memory");
    assert!(file <= 20 * MB * SECONDS / 900, "{file} bytes of file");
}

#[test]
fn looking_back_gives_up_time_rather_than_memory() {
    if !is_alone("limits::looking_back_gives_up_time_rather_than_memory") {
        return;
    }
    let (counted, grown, reach) = kept(500);
    let file = written(500);
    println!(
        "{SECONDS} s, 500 of 500 active: {reach} samples, counted {:.1} MB, memory grew by {:.1} MB, file {:.1} MB",
        mb(counted),
        mb(grown),
        mb(file)
    );
    assert!(reach > 60);
    assert!(counted <= 64 * MB, "{counted} bytes counted");
    assert!(grown <= 72 * MB, "{grown} bytes of memory");
}

/// Shows a server of which something is large for some time; how many of its samples are kept in 8 MB.
fn kept_of(mut make_large: impl FnMut(&mut PgSample, u32)) -> usize {
    let mut observer = observer().reaching(Reach { seconds: 900, bytes: 8 << 20 });
    for second in 0..100 {
        let mut sample = moment::postgres(second.into(), false);
        make_large(&mut sample, second);
        let at = moment::at(second.into());
        let body = Body::Postgres(Arc::new(sample));
        observer.observe(&Sample { target: TargetId(0), asked_at: at, taken_at: at, body });
    }
    observer.times().count()
}

#[test]
fn five_thousand_databases_are_counted() {
    let kept = kept_of(|sample, _| {
        let one = sample.databases.value().unwrap()[0].clone();
        let of = |datid| DatabaseCounters { datid, ..one.clone() };
        sample.databases = Reading::Fresh((0..5000).map(of).collect());
    });
    // Half a megabyte each.
    assert!((5..=20).contains(&kept), "{kept} samples");
}

#[test]
fn texts_that_become_more_with_every_sample_are_counted() {
    let kept = kept_of(|sample, second| {
        let key = |queryid| StatementKey { userid: 10, dbid: 5, toplevel: true, queryid };
        let texts = (0..5000 + i64::from(second)).map(|n| (key(n), Arc::from("SELECT")));
        sample.statement_texts = Arc::new(texts.collect());
    });
    assert!((5..=50).contains(&kept), "{kept} samples");
}

#[test]
fn what_is_shared_is_counted_once() {
    let key = |queryid| StatementKey { userid: 10, dbid: 5, toplevel: true, queryid };
    let texts: Arc<BTreeMap<StatementKey, Arc<str>>> =
        Arc::new((0..5000).map(|n| (key(n), Arc::from("SELECT"))).collect());
    let kept = kept_of(|sample, _| sample.statement_texts = Arc::clone(&texts));
    assert_eq!(kept, 100);
}

fn mb(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap()) / 1024.0
}
