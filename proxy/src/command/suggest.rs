//! `eastwall suggest FLOWS`: the least policy that recorded traffic needs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use eastwall_policy::analysis::suggest::{Collector, Options, Suggestion};
use eastwall_policy::registry::Registry;

use super::documents::load;
use super::output::{complain, print, progress};
use crate::bounds::ReadingSettings;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "FLOWS is the access log of a proxy (one JSON object a line), or requests of `eastwall decide` with their `verdict`.
Only what was allowed and did not only fail counts. Identifiers in paths become `{…}`, but never over a path that was refused;
a direction in which something was refused is closed, with rules or without.
Each rule, and each thing that it names, says how often and when it was seen. Read it before you apply it: what attackers did
meanwhile is in the traffic too. Policies go to standard output, what was left out to standard error.

Exit codes: 0 policies are written, 1 the flows give none, 2 unusable call or flows.

Examples:
  eastwall suggest access.log --workloads workloads.yaml > suggested.yaml
  kubectl logs -l app=orders -c eastwall | eastwall suggest - --policy cluster-dump/ --min-evidence 10
  eastwall check suggested.yaml --workloads workloads.yaml"
)]
pub(super) struct Suggest {
    /// Recorded flows, or `-` for standard input
    #[arg(value_name = "FLOWS")]
    flows: PathBuf,
    /// Files or folders with Kubernetes objects that say who is where; policies among them are not looked at
    #[arg(long = "policy", value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// The workloads, Services and nodes
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingSettings,
    /// Flows that each method and path (generalised as it is written), call or server name must have been seen in
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    min_evidence: u64,
    /// Bytes of one line of FLOWS
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    max_line_bytes: u64,
    /// Bytes of memory for the requests that differ
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    max_kept_bytes: usize,
    /// How the policies are written
    #[arg(long, value_enum, default_value_t)]
    format: Written,
}

/// How policies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Written {
    /// Documents with a comment for each rule
    #[default]
    Yaml,
    /// One object: documents, evidence, and what was left out
    Json,
}

impl Suggest {
    pub(super) fn run(&self) -> ExitCode {
        let loaded = load(&self.policies, self.workloads.as_deref(), &self.reading.bounds());
        if let Err(code) = loaded.stop_at_errors() {
            return code;
        }
        match self.read(loaded.registry.unwrap_or_default()) {
            Ok(suggestion) => self.tell(&suggestion),
            Err(message) => {
                complain(format_args!("eastwall: {message}"));
                ExitCode::from(2)
            }
        }
    }

    fn read(&self, registry: Arc<Registry>) -> Result<Suggestion, String> {
        let name = self.flows.display().to_string();
        let input: Box<dyn BufRead> = if self.flows.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            let file = File::open(&self.flows).map_err(|error| format!("cannot read `{name}`: {error}"))?;
            Box::new(BufReader::new(file))
        };
        let mut lines = Lines { input, max_bytes: self.max_line_bytes };
        let mut collector = Collector::new(registry, self.max_kept_bytes);
        for number in 1u64.. {
            let line = lines.next().map_err(|error| format!("{name}:{number}: {error}"))?;
            let Some(line) = line else { break };
            collector.add(&line).map_err(|error| format!("{name}:{number}: {error}"))?;
            if number % 100_000 == 0 {
                progress(format_args!("{number} lines"));
            }
        }
        progress("");
        Ok(collector.suggest(Options { min_evidence: self.min_evidence }))
    }

    fn tell(&self, suggestion: &Suggestion) -> ExitCode {
        for (why, count) in &suggestion.left_out {
            complain(format_args!("left out: {count}, {why}"));
        }
        let written = match self.format {
            Written::Yaml => suggestion.to_string(),
            Written::Json => {
                let documents: Vec<_> = suggestion.policies.iter().map(|policy| policy.document()).collect();
                let all = serde_json::json!({"documents": documents, "suggestion": suggestion});
                format!("{all:#}\n")
            }
        };
        if let Err(code) = print(written) {
            return code;
        }
        if suggestion.policies.is_empty() {
            complain("eastwall: the flows give no policy");
            return ExitCode::from(1);
        }
        ExitCode::SUCCESS
    }
}

/// Lines of bounded length.
struct Lines<R> {
    input: R,
    max_bytes: u64,
}

impl<R: BufRead> Lines<R> {
    /// # Errors
    /// A line that cannot be read, is too long or is not UTF-8.
    fn next(&mut self) -> Result<Option<String>, String> {
        let mut bytes = Vec::new();
        let limit = self.max_bytes.saturating_add(1);
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut bytes);
        read.map_err(|error| format!("cannot read: {error}"))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.pop_if(|last| *last == b'\n').is_none() && bytes.len() as u64 > self.max_bytes {
            return Err(format!("the line is longer than {} bytes (--max-line-bytes)", self.max_bytes));
        }
        String::from_utf8(bytes).map(Some).map_err(|error| format!("not UTF-8: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_are_bounded() {
        let lines = |input: &'static str, max_bytes| {
            let mut lines = Lines { input: input.as_bytes(), max_bytes };
            let mut all = Vec::new();
            while let Some(line) = lines.next()? {
                all.push(line);
            }
            Ok::<_, String>(all)
        };
        assert_eq!(lines("abc\n\nde", 3).unwrap(), ["abc", "", "de"]);
        assert_eq!(lines("abc\nde\n", 3).unwrap(), ["abc", "de"]);
        assert!(lines("abcd\n", 3).unwrap_err().contains("longer than 3 bytes"));
        assert!(lines("abcd", 3).is_err());
    }
}
