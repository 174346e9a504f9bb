//! `eastwall test PATH...`: runs the `PolicyTest` documents beside the policies that they test.

mod junit;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use eastwall_policy::analysis::test::{Coverage, Outcome, PolicyTest, coverage};
use serde_json::json;

use super::documents::{load, now};
use super::output::{complain, written};
use crate::bounds::ReadingSettings;

#[derive(Debug, clap::Args)]
#[command(after_help = "Every policy under PATH and --policy is in force for every test under PATH.

Exit codes: 0 all cases passed, 1 a case failed, there is none, or too few rules are reached, 2 unusable call or documents.

Examples:
  eastwall test policies/
  eastwall test tests/ --policy policies/ --format junit --output results.xml
  eastwall test policies/ --coverage --min-coverage 80")]
pub(super) struct Test {
    /// Files or folders with tests (and policies), or `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A file or folder of policies that live elsewhere, and of Kubernetes objects; tests among them are not run
    #[arg(long = "policy", value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// The workloads for tests that list none of their own
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingSettings,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    format: Written,
    /// Write the results here instead of to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Tell which rules no case reaches
    #[arg(long)]
    coverage: bool,
    /// Fail where the cases reach fewer rules than this, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    min_coverage: Option<u32>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Written {
    /// For a person
    #[default]
    Text,
    /// One object
    Json,
    /// JUnit XML
    Junit,
}

impl Test {
    pub(super) fn run(&self) -> ExitCode {
        let all: Vec<PathBuf> = self.paths.iter().chain(&self.policies).cloned().collect();
        let loaded = load(&all, self.workloads.as_deref(), &self.reading.bounds());
        if let Err(code) = loaded.stop_at_errors() {
            return code;
        }
        let (compiled, registry) = (loaded.compiled, loaded.registry.unwrap_or_default());
        let now = now();
        let outcomes: Vec<Outcome> =
            self.own(&compiled.tests).flat_map(|test| test.run(&compiled.model, &registry, now)).collect();
        let reached = (self.coverage || self.min_coverage.is_some()).then(|| coverage(&compiled.model, &outcomes));
        let printed = match &self.output {
            None => print(&outcomes, reached.as_ref(), self.format, &mut std::io::stdout().lock()),
            Some(path) => std::fs::File::create(path)
                .and_then(|mut file| print(&outcomes, reached.as_ref(), self.format, &mut file)),
        };
        if let Err(code) = written(printed) {
            return code;
        }
        let passed = !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.failure.is_none());
        let enough = match (&reached, self.min_coverage) {
            (Some(reached), Some(least)) if reached.percent() < least => {
                let (percent, rules) = (reached.percent(), reached.rules);
                complain(format_args!("eastwall: the cases reach {percent} % of {rules} rules, fewer than {least} %"));
                false
            }
            _ => true,
        };
        if passed && enough { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }

    /// The tests under PATH: those of policies that live elsewhere are run there.
    fn own<'t>(&self, tests: &'t [PolicyTest]) -> impl Iterator<Item = &'t PolicyTest> {
        let is_own =
            |test: &&PolicyTest| self.paths.iter().any(|path| Path::new(&*test.location.file).starts_with(path));
        tests.iter().filter(is_own)
    }
}

/// Prints what came of the cases.
fn print(
    outcomes: &[Outcome],
    reached: Option<&Coverage>,
    format: Written,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let passed = outcomes.len() - failed;
    match format {
        Written::Junit => out.write_all(junit::document(outcomes, reached).as_bytes())?,
        Written::Json => {
            let mut all = json!({"passed": passed, "failed": failed, "cases": outcomes});
            if let (Some(reached), Some(members)) = (reached, all.as_object_mut()) {
                members.insert("coverage".into(), json!(reached));
            }
            serde_json::to_writer_pretty(&mut *out, &all)?;
            writeln!(out)?;
        }
        Written::Text => {
            for outcome in outcomes {
                let Outcome { test, case, location, failure, nearest, .. } = outcome;
                match failure {
                    None => writeln!(out, "ok    {test} {case}")?,
                    Some(failure) => {
                        writeln!(out, "FAIL  {test} {case}\n      {failure}\n      case at {location}")?;
                        nearest.iter().try_for_each(|near| writeln!(out, "      nearest: {near}"))?;
                    }
                }
            }
            if let Some(reached) = reached {
                writeln!(out, "{} of {} rules reached ({} %)", reached.reached, reached.rules, reached.percent())?;
                reached.missed.iter().try_for_each(|missed| writeln!(out, "  no case reaches {missed}"))?;
            }
            writeln!(out, "{passed} passed, {failed} failed")?;
            if outcomes.is_empty() {
                writeln!(out, "no PolicyTest among the documents")?;
            }
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eastwall_policy::dialect;
    use eastwall_policy::source;

    use super::*;

    const DOCUMENTS: &str = r#"
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress:
  - name: web-reads
    from: [{serviceAccount: web}]
    http: [{methods: [GET], paths: ["/orders/{id}"]}]
---
apiVersion: eastwall.dev/v1alpha1
kind: PolicyTest
metadata: {name: orders, namespace: shop}
spec:
  workloads:
  - {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}]}
  - {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
  cases:
  - {name: reads, src: {ip: 10.0.0.3}, dst: {workload: shop/orders, port: 8080}, method: GET, path: /orders/7, expect: allow, rule: web-reads}
  - {name: encoded, src: {ip: 10.0.0.3}, dst: {workload: shop/orders, port: 8080}, method: GET, path: /orders%2F7, expect: reject}
  - {name: deletes, src: {ip: 10.0.0.3}, dst: {workload: shop/orders, port: 8080}, method: DELETE, path: /orders/7, expect: allow}
  - {name: by-another, src: {ip: 10.0.0.3}, dst: {workload: shop/orders, port: 8080}, method: GET, path: /orders/7, expect: allow, rule: other}
  - {name: nowhere, src: {ip: 10.0.0.3}, dst: {workload: shop/nobody, port: 8080}, expect: deny}
"#;

    #[test]
    fn failures_say_what_was_expected_and_what_decided() {
        let compiled = dialect::compile(&source::parse("t.yaml", &DOCUMENTS.into()));
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        let outcomes: Vec<Outcome> =
            compiled.tests.iter().flat_map(|test| test.run(&compiled.model, &Arc::default(), 0)).collect();
        let mut out = Vec::new();
        print(&outcomes, Some(&coverage(&compiled.model, &outcomes)), Written::Text, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["ok    shop/orders reads", "ok    shop/orders encoded", "FAIL  shop/orders deletes"]);
        assert!(lines[3].contains("expected allow, got deny"), "{text}");
        assert!(lines[3].contains("FirewallPolicy shop/orders at t.yaml:"), "{text}");
        assert!(text.contains("expected the rule `other` to decide, got allow"), "{text}");
        assert!(text.contains("cannot be asked: `dst.workload`: no workload `shop/nobody`"), "{text}");
        assert_eq!(lines.last(), Some(&"2 passed, 3 failed"));
    }
}
