//! What `check` finds beyond the single document.

use std::sync::Arc;

use eastwall_policy::analysis::check::check;
use eastwall_policy::dialect::compile;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;

const WORKLOADS: &str = "
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}, {name: grpc, port: 9090}, {name: tls, port: 8443}, {name: dns, port: 53, protocol: UDP}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
- {kind: Service, name: orders, namespace: shop, endpoints: [shop/orders]}
";

fn found(subject: &str, rules: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  subject: [{subject}]\n  {rules}\n"
    );
    let text: Arc<str> = text.into();
    let compiled = compile(&source::parse("p.yaml", &text));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let (registry, diagnostics) = Registry::parse("w.yaml", &WORKLOADS.into());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    check(&compiled, Some(&registry)).iter().map(|d| format!("{} {}", d.code, d.message)).collect()
}

#[test]
fn names_that_nobody_has() {
    let orders = "{serviceAccount: orders}";
    for (subject, rules, expected) in [
        (orders, "ingress: [{from: [{serviceAccount: web}], tcp: {}}]", &[][..]),
        (
            orders,
            "ingress: [{from: [{serviceAccount: wed}], tcp: {}}]",
            &["EW0501 no workload runs under the service account `wed` in `shop`"],
        ),
        (
            orders,
            "ingress: [{from: [{namespace: shpo}], tcp: {}}]",
            &["EW0501 no workload runs in the namespace `shpo`"],
        ),
        (orders, "egress: [{to: [{service: orders}], tcp: {}}]", &[]),
        (orders, "egress: [{to: [{service: order}], tcp: {}}]", &["EW0403 there is no Service `shop/order`"]),
        (
            "{pods: {matchLabels: {app: none}}}",
            "directions: [Ingress]",
            &["EW0501 no workload has these labels in `shop`", "EW0502 `FirewallPolicy shop/p` protects no workload"],
        ),
    ] {
        assert_eq!(found(subject, rules), expected, "{subject} {rules}");
    }
}

#[test]
fn rules_that_never_decide() {
    let deny = "{name: d, action: Deny, from: [{any: true}], ports: [80], http: [{paths: [\"/a/**\"]}]}";
    for (rules, expected) in [
        (format!("[{deny}, {{name: a, from: [{{serviceAccount: web}}], ports: [80], http: [{{paths: [/a/b]}}]}}]"), Some("EW0503 rule `a` never decides: rule `d` denies everything that it allows")),
        (format!("[{deny}, {{name: a, from: [{{serviceAccount: web}}], ports: [80], http: [{{paths: [/b]}}]}}]"), None),
        (format!("[{deny}, {{name: a, from: [{{serviceAccount: web}}], ports: [80, 81], http: [{{paths: [/a]}}]}}]"), None),
        ("[{name: a, from: [{any: true}], ports: [80], tcp: {}}, {name: b, from: [{serviceAccount: web}], ports: [80], tcp: {}}]".to_owned(), Some("EW0503 rule `b` never decides: rule `a` covers everything that it covers")),
        ("[{name: a, from: [{any: true}], ports: [80], tcp: {}, expires: \"2027-01-01T00:00:00Z\"}, {name: b, from: [{serviceAccount: web}], ports: [80], tcp: {}}]".to_owned(), None),
        ("[{name: a, from: [{serviceAccount: web}], ports: [80], tcp: {}}, {name: b, from: [{any: true}], ports: [80], tcp: {}}]".to_owned(), None),
    ] {
        assert_eq!(found("{serviceAccount: orders}", &format!("ingress: {rules}")), expected.into_iter().collect::<Vec<_>>(), "{rules}");
    }
}

#[test]
fn matches_that_the_declared_protocol_rules_out() {
    for (rule, expected) in [
        (
            "{name: a, from: [{serviceAccount: web}], ports: [tls], http: [{}]}",
            Some("EW0504 rule `a` matches http, and port 8443 `tls` is declared to speak tls"),
        ),
        (
            "{name: a, from: [{serviceAccount: web}], ports: [8080], tls: [{}]}",
            Some("EW0504 rule `a` matches tls, and port 8080 `http` is declared to speak http"),
        ),
        (
            "{name: a, from: [{serviceAccount: web}], ports: [dns], http: [{}]}",
            Some("EW0504 rule `a` matches http, and port 53 `dns` is declared to speak udp"),
        ),
        ("{name: a, from: [{serviceAccount: web}], ports: [tls, 8080], http: [{}]}", None),
        ("{name: a, from: [{serviceAccount: web}], ports: [8080], tcp: {}}", None),
        ("{name: a, from: [{serviceAccount: web}], ports: [grpc], http: [{}]}", None),
        ("{name: a, from: [{serviceAccount: web}], http: [{}]}", None),
        ("{name: a, from: [{serviceAccount: web}], ports: [7777], http: [{}]}", None),
    ] {
        assert_eq!(
            found("{serviceAccount: orders}", &format!("ingress: [{rule}]")),
            expected.into_iter().collect::<Vec<_>>(),
            "{rule}"
        );
    }
}
