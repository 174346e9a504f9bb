//! h2load: HTTP/2 with prior knowledge, as fast as the answers come.

use std::fs;

use super::{Done, Target};
use crate::process::{Failure, LOAD, run as run_program};

pub(super) fn run(target: &Target<'_>, connections: usize, streams: usize) -> Result<Done, Failure> {
    let at = target.at;
    let uris: Vec<String> = target.rules.allowed("GET").iter().map(|path| format!("http://{at}{path}\n")).collect();
    let list = target.folder.join("uris.txt");
    fs::write(&list, uris.concat())?;
    let arguments = [
        "-t1".to_owned(),
        format!("-c{connections}"),
        format!("-m{streams}"),
        format!("-D{}", target.whole_seconds()),
        "-i".to_owned(),
        list.display().to_string(),
    ];
    let said = run_program(LOAD, "h2load", &arguments)?;
    let line = |start: &str| said.lines().find(|line| line.starts_with(start)).unwrap_or("");
    // `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`
    let requests = counts(line("requests: "));
    let statuses = counts(line("status codes: "));
    let sum = |counts: &[(String, f64)], names: &[&str]| -> f64 {
        counts.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, count)| count).sum()
    };
    let done = sum(&requests, &["done"]);
    let wrong = sum(&requests, &["failed", "errored", "timeout"]) + sum(&statuses, &["3xx", "4xx", "5xx"]);
    // A head whose body did not come before the end has a status, and is not done.
    if wrong > 0.0 || sum(&statuses, &["2xx"]) < done {
        return Err(format!("h2load had wrong answers or errors: {said}").into());
    }
    Ok(Done::untimed(done, target.whole_seconds() as f64))
}

/// `NAME: 1 one, 2 two` as numbers and their names.
fn counts(line: &str) -> Vec<(String, f64)> {
    let items = line.split_once(": ").map_or("", |(_, items)| items).split(", ");
    items
        .filter_map(|item| item.split_once(' '))
        .filter_map(|(count, name)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}
