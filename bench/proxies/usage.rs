//! What a process and its descendants have used, as `/proc` tells.

use std::fs;
use std::time::Duration;

/// Clock ticks a second of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that Linux runs on here.
const TICKS: u64 = 100;

/// CPU time since each of them started, in user and kernel, of all threads. It counts in ticks of 10 ms.
pub(crate) fn cpu(pid: u32) -> Duration {
    let ticks: u64 = tree(pid).iter().map(|process| process.ticks).sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

/// Memory, in bytes: resident now, and the most that was ever resident. Pages that two of them share count twice.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let of = |pid: u32, field: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("");
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1_024
    };
    tree(pid)
        .iter()
        .fold((0, 0), |(now, peak), process| (now + of(process.pid, "VmRSS:"), peak + of(process.pid, "VmHWM:")))
}

struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

/// A process and its descendants.
fn tree(pid: u32) -> Vec<Stat> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    let all: Vec<Stat> = pids.filter_map(stat).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        next += 1;
    }
    all.into_iter().filter(|process| found.contains(&process.pid)).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; what follows it does not.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { pid, parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}
