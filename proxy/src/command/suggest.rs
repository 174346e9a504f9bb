//! `eastwall suggest FLOWS`: the least policy that recorded traffic needs.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use eastwall_policy::analysis::suggest::{Collector, Options, Suggestion};
use eastwall_policy::registry::Registry;

use super::documents::load;
use crate::bounds::ReadingSettings;

/// Write the least-privilege policy that recorded traffic needs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "FLOWS is the access log of a proxy (one JSON object a line), or requests of `eastwall decide` with their `verdict`.
Only what was allowed and did not only fail counts. Identifiers in paths become `{…}`, but never over a path that was refused.
Each rule says how often and when it was seen. Read it before you apply it: what attackers did meanwhile is in the traffic too.

Exit codes: 0 policies are written, 1 the flows give no rule, 2 unusable call or flows.

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
    /// Flows that each path, method or server name must have been seen in
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    min_evidence: u64,
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
                eprintln!("eastwall: {message}");
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
        let progress = std::io::stderr().is_terminal();
        let mut collector = Collector::new(registry);
        for (number, line) in (1u64..).zip(input.lines()) {
            let line = line.map_err(|error| format!("cannot read `{name}`: {error}"))?;
            collector.add(&line).map_err(|error| format!("{name}:{number}: {error}"))?;
            if progress && number % 100_000 == 0 {
                eprint!("\r{number} lines");
            }
        }
        if progress {
            eprint!("\r");
        }
        Ok(collector.suggest(Options { min_evidence: self.min_evidence }))
    }

    fn tell(&self, suggestion: &Suggestion) -> ExitCode {
        for (why, count) in &suggestion.left_out {
            eprintln!("left out: {count}, {why}");
        }
        let written = match self.format {
            Written::Yaml => suggestion.to_string(),
            Written::Json => {
                let documents: Vec<_> = suggestion.policies.iter().map(|policy| policy.document()).collect();
                let all = serde_json::json!({"documents": documents, "suggestion": suggestion});
                format!("{all:#}\n")
            }
        };
        if std::io::stdout().lock().write_all(written.as_bytes()).is_err() {
            return ExitCode::from(2);
        }
        if suggestion.policies.is_empty() {
            eprintln!("eastwall: the flows give no rule");
            return ExitCode::from(1);
        }
        ExitCode::SUCCESS
    }
}
