//! What a figure is worth nothing without: where, with what and how it was measured.

use std::fs;
use std::process::Command;

use serde_json::{Map, Value, json};

/// The machine, the command, and these versions of what was measured, each with a name.
pub fn describe(versions: &[(&str, String)], note: Option<&str>) -> Map<String, Value> {
    let mut machine = Map::new();
    let mut tell = |key: &str, value: Value| machine.insert(key.to_owned(), value);
    tell("date", said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).into());
    let command = || std::env::args().collect::<Vec<_>>().join(" ");
    tell("command", std::env::var("BENCH_COMMAND").unwrap_or_else(|_| command()).into());
    tell("commit", said("git", &["rev-parse", "HEAD"]).into());
    tell("changed files", said("git", &["status", "--porcelain", "--untracked-files=no"]).lines().count().into());
    tell("cpu", cpu().into());
    tell("cores", std::thread::available_parallelism().map_or(0, usize::from).into());
    tell("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into());
    tell("rustc", said("rustc", &["--version"]).into());
    for (name, version) in versions {
        tell(name, version.as_str().into());
    }
    tell("load before", load().into());
    tell("note", json!(note));
    machine
}

/// The same in lines for a terminal.
pub fn text(machine: &Map<String, Value>) -> String {
    let line = |(key, value): (&String, &Value)| {
        format!("{key}: {}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    machine.iter().filter(|(_, value)| !value.is_null()).map(line).collect()
}

/// How busy the machine is: the average of the last minute, the last five and the last fifteen.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

/// What a program prints, errors included, or nothing where it cannot be run.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output().map(|output| [output.stdout, output.stderr].concat());
    String::from_utf8_lossy(&said.unwrap_or_default()).trim().to_owned()
}

/// The version of a crate in the lock file that this was built with.
pub fn locked(name: &str) -> String {
    let mut lines = include_str!("../../Cargo.lock").lines();
    let is_it = |line: &str| line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"')) == Some(name);
    let version = lines.find(|line| is_it(line)).and_then(|_| lines.next());
    version.and_then(|line| line.strip_prefix("version = \"")).map_or("", |rest| rest.trim_end_matches('"')).to_owned()
}
