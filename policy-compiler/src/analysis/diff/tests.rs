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

fn emergency(begins: &str, expires: &str) -> String {
    format!(
        "---\napiVersion: eastwall.dev/v1alpha1\nkind: BreakGlass\nmetadata: {{name: fire}}\n\
         spec: {{subject: [{{serviceAccount: orders, namespace: shop}}], reason: INC-7, \
         begins: \"1970-01-01T0{begins}:00Z\", expires: \"1970-01-01T0{expires}:00Z\"}}\n"
    )
}

#[test]
fn an_emergency_is_told_with_what_it_opens_and_until_when() {
    let rules = policy("  ingress: [{from: [{serviceAccount: web}], http: [{methods: [GET]}]}]\n");
    let with = |begins, expires| format!("{rules}{}", emergency(begins, expires));
    let later = account(&rules, &with("1:00", "2:00"));
    insta::assert_snapshot!(later.to_string());
    assert!(later.is_wider());
    assert!(later.changes.iter().all(|change| change.witness["now"] == 3600), "judged when it acts");
    assert_eq!(account(&rules, &with("0:00", "1:00")).changes.len(), later.changes.len());
    let gone = account(&with("0:00", "1:00"), &rules);
    assert!(!gone.is_wider() && !gone.is_empty() && gone.changes.is_empty(), "{gone}");
    let longer = account(&with("0:00", "1:00"), &with("0:00", "1:01"));
    assert!(longer.is_wider() && longer.emergencies.len() == 2, "{longer}");
    assert!(account(&with("0:00", "1:00"), &with("0:00", "1:00")).is_empty());
    let wider = with("0:00", "1:00").replace("methods: [GET]", "methods: [GET, PUT]");
    assert!(account(&with("0:00", "1:00"), &wider).is_wider(), "an emergency on both sides hides nothing");
    let over = Options { now: 2 * 3600, budget: BUDGET, direction: None };
    assert!(diff(&world(&rules, WORKLOADS), &world(&with("1:00", "2:00"), WORKLOADS), over).is_empty());
}

#[test]
fn who_may_no_longer_come_in_plaintext_is_told() {
    let rules = policy("  ingress: [{from: [{serviceAccount: web}], http: [{methods: [GET]}]}]\n");
    let strict = WORKLOADS.replace(
        "serviceAccount: orders,",
        "serviceAccount: orders, annotations: {eastwall.dev/inbound-mtls: strict},",
    );
    let options = Options { now: 0, budget: BUDGET, direction: None };
    let (old, new) = (world(&rules, WORKLOADS), world(&rules, &strict));
    let told = diff(&old, &new, options);
    insta::assert_snapshot!(told.to_string());
    assert!(!told.is_wider() && !told.is_empty());
    assert!(diff(&new, &old, options).is_wider());
    assert!(diff(&new, &world(&rules, &strict), options).is_empty());
    let disabled = strict.replace("inbound-mtls: strict", "inbound-mtls: disabled");
    let told = diff(&old, &world(&rules, &disabled), options);
    assert!(!told.is_empty() && !told.is_wider() && told.changes.is_empty(), "{told}");
}

#[test]
fn whose_tokens_count_is_told_with_the_rules_that_ask() {
    let of = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let asks =
        of("AuthorizationPolicy", "a", "{rules: [{from: [{source: {requestPrincipals: [\"https://sso/kim\"]}}]}]}");
    let accepts = |rule: &str| asks.clone() + &of("RequestAuthentication", "r", &format!("{{jwtRules: [{rule}]}}"));
    let of_sso = "{issuer: \"https://sso\", jwksUri: \"https://sso/keys\"}";
    let other_keys = "{issuer: \"https://sso\", jwksUri: \"https://other/keys\"}";
    let told = account(&accepts(of_sso), &accepts(other_keys));
    insta::assert_snapshot!(told.to_string());
    assert!(told.is_wider(), "whoever has the other key is believed now");
    for (old, new, wider) in [
        (asks.clone(), accepts(of_sso), true),
        (accepts(of_sso), asks.clone(), true),
        (accepts(&format!("{of_sso}, {other_keys}")), accepts(of_sso), false),
        (String::new(), of("RequestAuthentication", "r", &format!("{{jwtRules: [{of_sso}]}}")), false),
        (accepts("{issuer: i, jwks: '{\"keys\":[]}'}"), accepts("{issuer: i, jwks: '{\"keys\": []}'}"), true),
        (accepts(of_sso), accepts(&of_sso.replace("}", ", audiences: [orders]}")), true),
    ] {
        let told = account(&old, &new);
        assert_eq!((told.tokens.is_empty(), told.is_wider()), (false, wider), "{told}");
    }
    assert!(account(&accepts(of_sso), &accepts(of_sso)).is_empty());
    assert!(
        account(&accepts(of_sso), &accepts(of_sso).replace("name: r,", "name: other,")).is_empty(),
        "the same tokens"
    );
}
