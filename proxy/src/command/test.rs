//! `eastwall test PATH...`: runs the `PolicyTest` documents beside the policies that they test.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use eastwall_policy::analysis::test::Outcome;
use serde_json::json;

use super::check::Format;
use super::documents::{load, now};
use crate::bounds::ReadingSettings;

/// Run the policy tests (kind: PolicyTest) among these files
#[derive(Debug, clap::Args)]
#[command(after_help = "Every policy under the paths is in force for every test.

Exit codes: 0 all cases passed, 1 a case failed or there is none, 2 a document cannot be read.

Examples:
  eastwall test policies/
  eastwall test policies/ tests/ --format json")]
pub(super) struct Test {
    /// Files, folders, or `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The workloads for tests that list none of their own
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingSettings,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Test {
    pub(super) fn run(&self) -> ExitCode {
        let loaded = load(&self.paths, self.workloads.as_deref(), &self.reading.bounds());
        if let Err(code) = loaded.stop_at_errors() {
            return code;
        }
        let (compiled, registry) = (loaded.compiled, loaded.registry.unwrap_or_default());
        let now = now();
        let outcomes: Vec<Outcome> =
            compiled.tests.iter().flat_map(|test| test.run(&compiled.model, &registry, now)).collect();
        match print(&outcomes, self.format, &mut std::io::stdout().lock()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(_) => ExitCode::from(2),
        }
    }
}

/// Prints what came of the cases; whether there were any and all passed.
fn print(outcomes: &[Outcome], format: Format, out: &mut impl Write) -> std::io::Result<bool> {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let passed = outcomes.len() - failed;
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &json!({"passed": passed, "failed": failed, "cases": outcomes}))?;
            writeln!(out)?;
        }
        Format::Text => {
            for outcome in outcomes {
                let Outcome { test, case, location, failure } = outcome;
                match failure {
                    None => writeln!(out, "ok    {test} {case}")?,
                    Some(failure) => writeln!(out, "FAIL  {test} {case}\n      {failure}\n      case at {location}")?,
                }
            }
            writeln!(out, "{passed} passed, {failed} failed")?;
            if outcomes.is_empty() {
                writeln!(out, "no PolicyTest among the documents")?;
            }
        }
    }
    out.flush()?;
    Ok(failed == 0 && passed > 0)
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
        assert!(!print(&outcomes, Format::Text, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["ok    shop/orders reads", "ok    shop/orders encoded", "FAIL  shop/orders deletes"]);
        assert!(lines[3].contains("expected allow, got deny"), "{text}");
        assert!(lines[3].contains("FirewallPolicy shop/orders at t.yaml:"), "{text}");
        assert!(text.contains("expected the rule `other` to decide, got allow"), "{text}");
        assert!(text.contains("cannot be asked: `dst.workload`: no workload `shop/nobody`"), "{text}");
        assert_eq!(lines.last(), Some(&"2 passed, 3 failed"));
    }

    #[test]
    fn no_case_at_all_is_no_success() {
        assert!(!print(&[], Format::Text, &mut Vec::new()).unwrap());
    }
}
