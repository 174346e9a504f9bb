use std::sync::Arc;

use super::*;
use crate::analysis::space::BUDGET;
use crate::registry::Registry;
use crate::{dialect, source};

fn world(policies: &str, workloads: &str) -> World {
    let compiled = dialect::compile(&source::parse("p.yaml", &policies.into()));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let (registry, findings) = Registry::parse("w.yaml", &workloads.into());
    let is_error = |finding: &crate::diagnostic::Diagnostic| finding.severity == crate::diagnostic::Severity::Error;
    assert!(!findings.iter().any(is_error), "{findings:?}");
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

#[test]
fn a_server_name_is_shown_only_where_there_is_a_client_hello() {
    use crate::model::{Atom, Each, Effect, Expr, Model, Pattern, Rule, Text};
    let (before, workloads) = (policy("  ingress:\n  - {action: Deny, from: [{any: true}]}\n"), WORKLOADS);
    let old = world(&before, workloads);
    let mut narrower = Model::clone(old.model());
    let is = vec![Pattern::Exact(b"orders.shop"[..].into())];
    let named = Expr::Is(Atom::Text { of: Text::Sni, each: Each::Some, is });
    for policy in narrower.policies.iter_mut().map(Arc::make_mut) {
        policy.closes = crate::model::Directions::default();
        policy.rules.iter_mut().for_each(|rule: &mut Rule| {
            assert_eq!(rule.effect, Effect::Deny);
            rule.condition = named.clone();
        });
    }
    let new = World::new(Arc::new(narrower), Arc::clone(old.registry()), 2);
    let difference = diff(&old, &new, Options { now: 0, budget: BUDGET, direction: None });
    assert!(difference.undecided.is_empty(), "{difference}");
    assert!(difference.is_wider());
    let shown = |change: &Change| change.witness.get("sni").is_some();
    for change in difference.changes.iter().filter(|change| shown(change)) {
        assert!(matches!(change.witness["protocol"].as_str(), Some("tls" | "http" | "http2" | "grpc")), "{difference}");
    }
}

/// Whoever claims an address with several owners is asked when it is reached; nobody is asked at an address that is not
/// registered.
#[test]
fn an_address_with_several_owners_does_not_stand_for_one_of_nobody() {
    let workloads = r"
- {name: a, namespace: shop, serviceAccount: web, ips: [10.0.0.1, 'fd00::1']}
- {name: b, namespace: shop, serviceAccount: web, ips: [10.0.0.2, 'fd00::1']}
";
    let open = r#"
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: web, namespace: shop}
spec:
  subject: [{any: true}]
  directions: [Ingress, Egress]
  egress: [{to: [{any: true}], ports: ["1-65535"], tcp: {}}]
"#;
    let deny = r#"
apiVersion: eastwall.dev/v1alpha1
kind: ClusterFirewallPolicy
metadata: {name: deny}
spec:
  tier: Admin
  subject: [{any: true}]
  egress: [{action: Deny, to: [{namespace: shop}], ports: ["1-65535"], tcp: {}}]
"#;
    let options = Options { now: 0, budget: BUDGET, direction: None };
    let difference = diff(&world(&format!("{open}---{deny}"), workloads), &world(open, workloads), options);
    assert!(difference.is_wider(), "{difference}");
}

#[test]
fn who_proves_to_be_of_a_namespace_is_told_where_nobody_is_registered() {
    let workloads = "- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}\n";
    let rule = |from: &str| {
        policy(&format!("  ingress: [{{from: [{from}], ports: [80], tcp: {{}}}}]\n")).replace("orders}]", "web}]")
    };
    let options = Options { now: 0, budget: BUDGET, direction: None };
    let of = |from: &str| world(&rule(from), workloads);
    for (from, identity) in [
        ("{namespace: office}", "spiffe://cluster.local/ns/office/sa/other"),
        ("{serviceAccount: clerk, namespace: office}", "spiffe://cluster.local/ns/office/sa/clerk"),
    ] {
        let difference = diff(&of("{cidr: 203.0.113.0/24}"), &of(from), options);
        assert!(difference.to_string().contains(identity), "{from}: {difference}");
    }
}
