//! `eastwall decide`: one JSON verdict a request, JSON lines in and out.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use eastwall_policy::flow::Question;
use eastwall_policy::world::World;
use serde_json::json;

use super::documents::{Documents, now};
use super::output::{complain, written};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eastwall decide --policy policies/ --workloads workloads.yaml --requests requests.jsonl
  echo '{\"src\": {\"ip\": \"10.0.0.3\"}, \"dst\": {\"workload\": \"shop/orders\", \"port\": 8080}, \"method\": \"GET\", \"path\": \"/orders/7\"}' \\
    | eastwall decide --policy orders.yaml --workloads workloads.yaml --requests -

Exit codes: 0 every request was judged, 2 a policy, the workloads file or a request cannot be read.")]
pub(super) struct Decide {
    #[command(flatten)]
    documents: Documents,
    /// A file of JSON lines; `-` is standard input
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
}

impl Decide {
    pub(super) fn run(&self) -> ExitCode {
        let world = match self.documents.world() {
            Ok(world) => world,
            Err(code) => return code,
        };
        let requests: Box<dyn BufRead> = if self.requests.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            match std::fs::File::open(&self.requests) {
                Ok(file) => Box::new(BufReader::new(file)),
                Err(error) => {
                    complain(format_args!("error: cannot read {}: {error}", self.requests.display()));
                    return ExitCode::from(2);
                }
            }
        };
        match decide(&world, requests, &mut std::io::stdout().lock(), now()) {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(2),
            Err(error) => written(Err(error)).err().unwrap_or(ExitCode::SUCCESS),
        }
    }
}

/// Judges line by line; how many lines could not be read. Such a line is answered with its error, so that there is one
/// line out for each line in.
fn decide(world: &World, requests: impl BufRead, out: &mut impl Write, now: i64) -> std::io::Result<usize> {
    let mut unreadable = 0;
    for (number, line) in (1..).zip(requests.lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = Question::parse(&line).and_then(|question| question.answer(world, now));
        match answer {
            Ok(answer) => serde_json::to_writer(&mut *out, &answer)?,
            Err(error) => {
                unreadable += 1;
                complain(format_args!("error: request {number}: {error}"));
                let id = serde_json::from_str::<serde_json::Value>(&line).ok().and_then(|line| line.get("id").cloned());
                serde_json::to_writer(&mut *out, &json!({"id": id, "error": error.to_string()}))?;
            }
        }
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(unreadable)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn each_line_gets_its_answer() {
        let world = World::new(Arc::default(), Arc::default(), 1);
        let requests = concat!(
            r#"{"id": 1, "dst": {"ip": "10.0.0.1", "port": 80}}"#,
            "\n\n",
            r#"{"id": "b", "dst": {"ip": "10.0.0.1", "port": 80}, "patj": "/"}"#,
            "\n",
            r#"{"id": "c", "dst": {"ip": "10.0.0.1", "port": 80}, "path": "/a%2fb"}"#,
        );
        let mut out = Vec::new();
        assert_eq!(decide(&world, requests.as_bytes(), &mut out, 0).unwrap(), 1);
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["id"], &lines[0]["verdict"]), (&json!(1), &json!("allow")));
        assert_eq!(lines[1]["error"], "`patj`: is not a member; did you mean `path`?");
        assert_eq!(lines[2]["verdict"], "reject");
        assert_eq!((&lines[2]["reason"], &lines[2]["refusal"]), (&json!("rejected"), &json!("escaped-slash")));
        assert_eq!(lines.len(), 3);
    }
}
