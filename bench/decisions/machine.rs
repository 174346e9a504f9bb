//! What a figure is worth nothing without: where, with what and how it was measured.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// The machine, the versions and the command.
pub(crate) fn describe(note: Option<&str>) -> Value {
    json!({
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "command": std::env::var("BENCH_COMMAND").unwrap_or_else(|_| std::env::args().collect::<Vec<_>>().join(" ")),
        "commit": said("git", &["rev-parse", "HEAD"]),
        "changed files": said("git", &["status", "--porcelain", "--untracked-files=no"]).lines().count(),
        "cpu": cpu(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "rustc": said("rustc", &["--version"]),
        "eastwall-policy": locked("eastwall-policy"),
        "cedar-policy": locked("cedar-policy"),
        "load before": load(),
        "note": note,
    })
}

/// How busy the machine is: the average of the last minute, the last five and the last fifteen.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a crate in the lock file that this was built with.
fn locked(name: &str) -> &'static str {
    let mut lines = include_str!("../Cargo.lock").lines();
    let is_it = |line: &str| line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"')) == Some(name);
    let version = lines.find(|line| is_it(line)).and_then(|_| lines.next());
    version.and_then(|line| line.strip_prefix("version = \"")).map_or("", |rest| rest.trim_end_matches('"'))
}
