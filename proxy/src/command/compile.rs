//! `eastwall compile PATH...`: builds the table, and tells what it costs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use eastwall_policy::diagnostic::Severity;
use eastwall_policy::dialect::compile;
use eastwall_policy::source;
use eastwall_policy::world::World;

use super::check::{Format, print_findings};
use super::documents::registry;
use super::output::{complain, print};
use crate::bounds::ReadingSettings;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the table is built, 1 a document has an error, 2 unusable call.

Examples:
  eastwall compile policies/ --stats
  eastwall compile policies/ --workloads workloads.yaml --stats")]
pub(super) struct Compile {
    /// Files, folders, or `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The workloads, Services and nodes
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingSettings,
    /// Print documents, rules, times and the generation as one JSON object
    #[arg(long)]
    stats: bool,
}

impl Compile {
    pub(super) fn run(&self) -> ExitCode {
        let mut named = self.paths.iter().chain(&self.workloads);
        if let Some(missing) = named.find(|path| path.as_os_str() != "-" && !path.exists()) {
            complain(format_args!("eastwall: there is no `{}`", missing.display()));
            return ExitCode::from(2);
        }
        let bounds = self.reading.bounds();
        let start = Instant::now();
        let sources = source::read_within(&self.paths, &bounds);
        let read = start.elapsed();
        let compiled = compile(&sources);
        let modelled = start.elapsed();
        let (registry, mut findings) = registry(&compiled, self.workloads.as_deref(), &bounds);
        findings.extend(compiled.diagnostics.iter().cloned());
        findings.retain(|finding| finding.severity == Severity::Error);
        if !findings.is_empty() {
            return print_findings(&findings, Format::Text).err().unwrap_or(ExitCode::from(1));
        }
        let start = Instant::now();
        let workloads = registry.workloads.len();
        let world = World::new(Arc::clone(&compiled.model), Arc::new(registry), 1);
        let built = start.elapsed();
        let printed = if self.stats {
            let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
            let size = world.table().size();
            let stats = serde_json::json!({
                "documents": sources.documents.len(),
                "policies": size.policies,
                "rules": size.rules,
                "scopes": size.scopes,
                "gates": size.gates,
                "clauses": size.clauses,
                "postings": size.postings,
                "table_bytes": size.bytes,
                "table_bytes_per_rule": size.bytes.checked_div(size.rules),
                "workloads": workloads,
                "read_ms": milliseconds(read),
                "model_ms": milliseconds(modelled.saturating_sub(read)),
                "table_ms": milliseconds(built),
                "generation": &*world.generation().hash,
            });
            print(format_args!("{stats:#}\n"))
        } else {
            print(format_args!("generation {}\n", world.generation().hash))
        };
        printed.err().unwrap_or(ExitCode::SUCCESS)
    }
}
