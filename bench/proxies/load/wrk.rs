//! wrk: HTTP/1.1, as fast as the answers come.

use std::fs;

use serde_json::Value;

use super::{Done, Latency, Target};
use crate::process::{Failure, LOAD, run as run_program};

pub(super) fn run(
    target: &Target<'_>,
    connections: usize,
    is_new_connection: bool,
    is_denied: bool,
) -> Result<Done, Failure> {
    let paths = if is_denied { target.rules.denied() } else { target.rules.allowed("GET") };
    let close = if is_new_connection { "wrk.headers[\"Connection\"] = \"close\"\n" } else { "" };
    let script = target.folder.join("load.lua");
    fs::write(&script, format!("local paths = {{\"{}\"}}\n{close}{SCRIPT}", paths.join("\", \"")))?;
    let arguments = [
        "-t1".to_owned(),
        "--timeout=30s".to_owned(),
        format!("-c{connections}"),
        format!("-d{}", target.whole_seconds()),
        "-s".to_owned(),
        script.display().to_string(),
        format!("http://{}", target.at),
    ];
    let said = run_program(LOAD, "wrk", &arguments)?;
    let line = said.lines().find_map(|line| line.strip_prefix("RESULT ")).ok_or_else(|| format!("wrk says: {said}"))?;
    let result: Value = serde_json::from_str(line)?;
    let number = |key: &str| result.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let (count, refused) = (number("requests"), number("refused"));
    let expected = if is_denied { count } else { 0.0 };
    if refused != expected || number("errors") > 0.0 {
        return Err(format!("wrk had wrong answers or errors, {expected} refusals were expected: {line}").into());
    }
    let latency = Latency { p50: number("p50"), p99: number("p99"), p999: number("p999") };
    Ok(Done { latency: Some(latency), ..Done::untimed(count, number("microseconds") / 1e6) })
}

const SCRIPT: &str = r#"
local ready, n = {}, 0
function init()
   for i, path in ipairs(paths) do ready[i] = wrk.format("GET", path) end
end
function request()
   n = n % #ready + 1
   return ready[n]
end
function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "microseconds": %d, "refused": %d, "errors": %d, "p50": %d, "p99": %d, "p999": %d}\n',
      summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"#;
