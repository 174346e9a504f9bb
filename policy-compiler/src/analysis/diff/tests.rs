use std::sync::Arc;

use super::*;
use crate::analysis::space::BUDGET;
use crate::registry::Registry;
use crate::{dialect, source};

fn world(policies: &str, workloads: &str) -> World {
    let compiled = dialect::compile(&source::parse("p.yaml", &policies.into()));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let (registry, findings) = Registry::parse("w.yaml", &workloads.into());
    assert!(findings.is_empty(), "{findings:?}");
    World::new(compiled.model, Arc::new(registry), 1)
}

const WORKLOADS: &str = r#"
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
- {name: web-2, namespace: shop, serviceAccount: web, ips: [10.0.0.4]}
- {name: clerk, namespace: office, serviceAccount: clerk, ips: [10.0.0.5]}
"#;

fn policy(rules: &str) -> String {
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: orders}}]\n  directions: [Ingress]\n{rules}"
    )
}

fn account(old: &str, new: &str) -> Difference {
    let options = Options { now: 0, budget: BUDGET, direction: None };
    diff(&world(old, WORKLOADS), &world(new, WORKLOADS), options)
}

#[test]
fn a_wider_path_is_told_with_a_witness() {
    let rule = |paths: &str| {
        policy(&format!(
            "  ingress:\n  - {{name: reads, from: [{{serviceAccount: web}}], http: [{{methods: [GET], paths: [{paths}]}}]}}\n"
        ))
    };
    let difference = account(&rule("\"/orders/{id}\", \"/old/**\""), &rule("\"/orders/**\""));
    insta::assert_snapshot!(difference.to_string());
    assert!(difference.is_wider());
    assert!(account(&rule("\"/a\", \"/a/**\""), &rule("\"/a/**\"")).is_empty(), "the same in other words");
}

#[test]
fn a_policy_that_is_gone_opens_its_workload() {
    let difference = account(&policy(""), "");
    insta::assert_snapshot!(difference.to_string());
    assert!(difference.is_wider());
    assert!(!account("", &policy("")).is_wider());
}
