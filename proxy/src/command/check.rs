//! `eastwall check PATH...`: what is wrong with policies, before they are in force.

use std::path::PathBuf;
use std::process::ExitCode;

use eastwall_policy::analysis::check::check;
use eastwall_policy::diagnostic::{self, Diagnostic, Severity, as_json, as_sarif, as_text};
use eastwall_policy::registry::kubernetes::Objects;

use super::documents::{Loaded, load, now};
use super::output::{complain, print, style};
use crate::bounds::ReadingSettings;

#[derive(Debug, clap::Args)]
#[command(after_help = "Findings go to standard output, a line that counts them to standard error.

Exit codes: 0 no error (there may be warnings), 1 errors, 2 unusable call.

Examples:
  eastwall check policies/
  eastwall check policies/ --workloads workloads.yaml      # also what selects nothing, or names what does not exist
  kubectl get firewallpolicies -A -o yaml | eastwall check - --format json
  eastwall check policies/ --format sarif > eastwall.sarif        # for a code host
  kubectl get firewallpolicies,pods,services,endpointslices,namespaces,nodes -A -o yaml | eastwall check -")]
pub(super) struct Check {
    /// Files, folders, or `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The workloads, Services and nodes to check the policies against
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingSettings,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    format: Written,
}

/// How findings of a check are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Written {
    /// For a person
    #[default]
    Text,
    /// One array of objects
    Json,
    /// A SARIF 2.1.0 log, for code hosts and editors
    Sarif,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For a person
    #[default]
    Text,
    /// One array of objects
    Json,
}

impl Check {
    pub(super) fn run(&self) -> ExitCode {
        let mut named = self.paths.iter().chain(&self.workloads);
        if let Some(missing) = named.find(|path| path.as_os_str() != "-" && !path.exists()) {
            complain(format_args!("eastwall: there is no `{}`", missing.display()));
            return ExitCode::from(2);
        }
        let Loaded { sources, compiled, registry, mut findings } =
            load(&self.paths, self.workloads.as_deref(), &self.reading.bounds());
        findings.extend(check(&compiled, registry.as_deref(), now()));
        findings.iter_mut().for_each(|finding| sources.illustrate(finding));
        diagnostic::sort(&mut findings);
        let printed = match self.format {
            Written::Text => print_findings(&findings, Format::Text),
            Written::Json => print_findings(&findings, Format::Json),
            Written::Sarif => print(format_args!("{:#}\n", as_sarif(&findings))),
        };
        if let Err(code) = printed {
            return code;
        }
        if self.format == Written::Text {
            let policies = compiled.model.policies.iter().filter(|policy| !policy.broken).count();
            let rules: usize = compiled.model.policies.iter().map(|policy| policy.rules.len()).sum();
            complain(format_args!("{}", summary(&findings, policies, rules, &compiled.objects, &compiled.passed_over)));
        }
        if findings.iter().any(Diagnostic::is_error) { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }
}

/// Prints findings to standard output.
///
/// # Errors
/// The exit code where that cannot be written.
pub(super) fn print_findings(findings: &[Diagnostic], format: Format) -> Result<(), ExitCode> {
    match format {
        Format::Text => {
            let style = style(&std::io::stdout());
            let blocks: Vec<String> = findings.iter().map(|finding| as_text(finding, style) + "\n").collect();
            print(blocks.concat())
        }
        Format::Json => {
            let array = serde_json::Value::Array(findings.iter().map(as_json).collect());
            print(format_args!("{array:#}\n"))
        }
    }
}

fn summary(
    findings: &[Diagnostic],
    policies: usize,
    rules: usize,
    objects: &Objects,
    passed_over: &[(String, usize)],
) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let plural =
        |number: usize, word: &str| if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") };
    let policies = if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
    let mut line = format!(
        "{policies}, {}: {}, {}",
        plural(rules, "rule"),
        plural(count(Severity::Error), "error"),
        plural(count(Severity::Warning), "warning"),
    );
    for (what, counts) in [("objects", objects.counts.as_slice()), ("passed over", passed_over)] {
        if !counts.is_empty() {
            let kinds: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            line.push_str(&format!("; {what}: {}", kinds.join(", ")));
        }
    }
    line
}
