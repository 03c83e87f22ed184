//! What the running program takes from its machine, read once a second.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use dbtriage_lab::terminal::now;

/// What a process takes at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) resident_kb: u64,
    /// What of it is no file: the heap above all. The rest is mostly code, read in when it first runs.
    pub(crate) anonymous_kb: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
}

/// What a process takes now; `None` once it has gone.
pub(crate) fn taken(pid: i32) -> Option<Taken> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let figure = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Some(Taken {
        resident_kb: figure("VmRSS:")?,
        anonymous_kb: figure("RssAnon:")?,
        threads: figure("Threads:")?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
    })
}

/// Reads a process once a second.
pub(crate) struct Readings {
    taken: Arc<Mutex<Vec<(Instant, Taken)>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Readings {
    pub(crate) fn start(pid: i32) -> Self {
        let (all, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, end) = (Arc::clone(&all), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                into.lock().unwrap().extend(taken(pid).map(|it| (now(), it)));
                sleep(Duration::from_secs(1));
            }
        });
        Self { taken: all, ended, thread: Some(thread) }
    }

    /// The resident memory in kB in the middle of the readings of some time before a moment: allocators breathe.
    pub(crate) fn median_kb(&self, time: Duration, before: Instant) -> u64 {
        let all = self.taken.lock().unwrap();
        let in_time = |at: Instant| at <= before && before - at <= time;
        let of_time = all.iter().filter(|(at, _)| in_time(*at));
        let mut resident: Vec<u64> = of_time.map(|(_, taken)| taken.resident_kb).collect();
        resident.sort_unstable();
        *resident.get(resident.len() / 2).expect("a reading every second")
    }
}

impl Drop for Readings {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
