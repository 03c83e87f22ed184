//! What a program takes from its machine, and the host from the machine: read where Linux keeps it.

use std::fs;
use std::time::Duration;

/// The processor time of a process and of those that it has started, in all their threads.
pub(crate) fn processor_time(pid: i32) -> Duration {
    of_all(pid, |pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok().into_iter().flatten();
        let of_task = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        tasks.filter_map(Result::ok).filter_map(of_task).sum()
    })
    .into_iter()
    .map(Duration::from_nanos)
    .sum()
}

/// The most memory that a process and those that it has started have had, in kB.
pub(crate) fn peak_kb(pid: i32) -> u64 {
    let of_one = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default()
    };
    of_all(pid, of_one).into_iter().sum()
}

/// Where a line of `/proc/stat` has the time without anything to do, and that of waiting for a disk.
const IDLE: std::ops::RangeInclusive<usize> = 3..=4;

/// The time since the machine was started in which a processor had something to do, in ticks, and how much of it the host of
/// a virtual machine gave to others (proc(5), `/proc/stat`, steal).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ticks {
    wanted: u64,
    stolen: u64,
}

impl Ticks {
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        // What guests of this machine take stands behind that, and is in its first two figures already.
        let ticks: Vec<u64> =
            first.split_whitespace().skip(1).take(8).filter_map(|it| it.parse().ok()).collect();
        let is_wanted = |(place, ticks): (usize, &u64)| (!IDLE.contains(&place)).then_some(*ticks);
        let wanted = ticks.iter().enumerate().filter_map(is_wanted).sum();
        Self { wanted, stolen: ticks.get(7).copied().unwrap_or_default() }
    }

    /// The stolen share of what was wanted since an earlier moment; 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "ticks of years are exact in an f64")]
    pub(crate) fn stolen_since(self, before: Self) -> f64 {
        let wanted = self.wanted.saturating_sub(before.wanted).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / wanted as f64
    }
}

fn of_all(pid: i32, of_one: impl Fn(i32) -> u64 + Copy) -> Vec<u64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let mut all = vec![of_one(pid)];
    all.extend(children.flat_map(|child: i32| of_all(child, of_one)));
    all
}
