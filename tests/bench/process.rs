//! What a program takes from its machine: processor time and memory, read where Linux keeps them.

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

fn of_all(pid: i32, of_one: impl Fn(i32) -> u64 + Copy) -> Vec<u64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let mut all = vec![of_one(pid)];
    all.extend(children.flat_map(|child: i32| of_all(child, of_one)));
    all
}
