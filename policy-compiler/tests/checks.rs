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
    // What the lints of single rules find has its own tests below.
    let findings = check(&compiled, Some(&registry), 0);
    findings
        .iter()
        .filter(|d| d.code.as_str() < "EW0520" || d.code.as_str() >= "EW0600")
        .map(|d| format!("{} {}", d.code, d.message))
        .collect()
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
            &["EW0502 `FirewallPolicy shop/p` protects no workload", "EW0501 no workload has these labels in `shop`"],
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

/// Findings of one code over documents of any dialect, at a time.
fn lint(code: &str, policies: &str, workloads: &str, now: i64) -> Vec<String> {
    let compiled = compile(&source::parse("p.yaml", &policies.into()));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let (registry, diagnostics) = Registry::parse("w.yaml", &workloads.into());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let findings = check(&compiled, Some(&registry), now);
    findings.iter().filter(|d| d.code.as_str() == code).map(|d| d.message.clone()).collect()
}

fn native(rules: &str) -> String {
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: orders}}]\n  ingress: [{rules}]\n"
    )
}

#[test]
fn rules_that_nobody_known_can_use() {
    for (rule, expected) in [
        ("{name: a, from: [{serviceAccount: web}], http: [{}]}", true),
        ("{name: a, from: [{serviceAccount: wed}], http: [{}]}", false),
        ("{name: a, from: [{pods: {matchLabels: {app: none}}}], http: [{}]}", false),
        ("{name: a, from: [{cidr: 203.0.113.0/24}], ports: [8080], tcp: {}}", true),
        ("{name: a, from: [{principal: \"spiffe://partner.example/ns/edi/sa/sender\"}], http: [{}]}", true),
        ("{name: a, from: [{serviceAccount: web}], ports: [nothing], tcp: {}}", false),
        ("{name: a, from: [{serviceAccount: web}], proof: MutualTLS, http: [{}]}", true),
    ] {
        let found = lint("EW0520", &native(rule), WORKLOADS, 0);
        assert_eq!(found.is_empty(), expected, "{rule} {found:?}");
    }
}

#[test]
fn rules_that_another_empties() {
    let deep = "{name: deep, from: [{serviceAccount: web}], ports: [8080], http: [{methods: [GET], paths: [/a]}]}";
    for (other, expected) in [
        ("{name: wide, from: [{serviceAccount: web}], ports: [8080], tcp: {}}", true),
        ("{name: wide, from: [{any: true}], ports: [\"1-9000\"], tcp: {}}", true),
        ("{name: wide, from: [{serviceAccount: web}], ports: [9090], tcp: {}}", false),
        ("{name: wide, from: [{serviceAccount: clerk}], ports: [8080], tcp: {}}", false),
        ("{name: wide, action: Deny, from: [{serviceAccount: web}], ports: [8080]}", false),
    ] {
        let found = lint("EW0521", &native(&format!("{deep}, {other}")), WORKLOADS, 0);
        assert_eq!(!found.is_empty(), expected, "{other} {found:?}");
    }
}

#[test]
fn paths_that_say_more_or_are_said_with_more() {
    let istio = |path: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{rules: [{{to: [{{operation: {{paths: [\"{path}\"]}}}}]}}]}}\n"
        )
    };
    for (policy, code, expected) in [
        (istio("/admin*"), "EW0522", true),
        (istio("/admin/*"), "EW0522", false),
        (istio("/admin"), "EW0522", false),
        (native("{name: a, from: [{serviceAccount: web}], http: [{paths: [\"regex:/admin.*\"]}]}"), "EW0522", true),
        (native("{name: a, from: [{serviceAccount: web}], http: [{paths: [\"regex:/admin/.*\"]}]}"), "EW0526", true),
        (
            native("{name: a, from: [{serviceAccount: web}], http: [{paths: [\"regex:/admin/[0-9]+\"]}]}"),
            "EW0526",
            false,
        ),
        (native("{name: a, from: [{serviceAccount: web}], http: [{methods: [GET]}]}"), "EW0523", true),
        (native("{name: a, from: [{serviceAccount: web}], http: [{methods: [GET, HEAD]}]}"), "EW0523", false),
        (native("{name: a, from: [{serviceAccount: web}], http: [{methods: [POST]}]}"), "EW0523", false),
    ] {
        assert_eq!(!lint(code, &policy, WORKLOADS, 0).is_empty(), expected, "{code} {policy}");
    }
}

#[test]
fn rules_that_expire() {
    let rule = "{name: a, from: [{serviceAccount: web}], tcp: {}, expires: \"1970-01-31T00:00:00Z\"}";
    let day = 24 * 3600;
    for (now, expected) in [
        (0, None),
        (20 * day, Some("rule `a` expires at 1970-01-31T00:00:00Z")),
        (30 * day, Some("rule `a` expired at 1970-01-31T00:00:00Z")),
    ] {
        assert_eq!(lint("EW0525", &native(rule), WORKLOADS, now).first().map(String::as_str), expected, "{now}");
    }
}

#[test]
fn probes_that_policies_refuse() {
    let workloads = "
- {name: orders, namespace: shop, serviceAccount: orders, node: n1, ips: [10.0.0.2], ports: [{name: http, port: 8080}], probes: [{port: 8080, path: /healthz}]}
- {kind: Node, name: n1, ips: [192.168.1.1]}
";
    let settings = "apiVersion: eastwall.dev/v1alpha1\nkind: DialectSettings\nmetadata: {name: cluster}\nspec: {native: {probes: Policy}}\n---\n";
    let closed = native("{name: a, from: [{serviceAccount: orders}], http: [{}]}");
    let open = native("{name: a, from: [{node: Any}], ports: [8080], http: [{paths: [/healthz]}]}");
    assert!(lint("EW0524", &closed, workloads, 0).is_empty(), "declared probes pass by default");
    assert_eq!(
        lint("EW0524", &format!("{settings}{closed}"), workloads, 0),
        [
            "the probe `GET /healthz` on port 8080 of `shop/orders` is refused: the direction is closed and no allow rule surely matches"
        ]
    );
    assert!(lint("EW0524", &format!("{settings}{open}"), workloads, 0).is_empty());
}

#[test]
fn what_nobody_closes_is_told() {
    let closes = |name: &str, account: &str| {
        format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{subject: [{{serviceAccount: {account}}}], directions: [Ingress, Egress]}}\n---\n"
        )
    };
    let both = format!("{}{}", closes("a", "orders"), closes("b", "web"));
    assert!(lint("EW0527", &both, WORKLOADS, 0).is_empty());
    // One document deleted.
    assert_eq!(
        lint("EW0527", &closes("a", "orders"), WORKLOADS, 0),
        ["no policy closes ingress of `shop/web`", "no policy closes egress of `shop/web`"]
    );
}

/// A Linkerd rule becomes a rule of the model for each match, host and way to write its path.
#[test]
fn a_rule_without_head_is_told_once() {
    let policies = |second: &str| {
        format!(
            "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: orders, namespace: shop}}\nspec: {{podSelector: {{}}, port: 8080, proxyProtocol: HTTP/1}}\n---\n\
             apiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\n\
             spec: {{parentRefs: [{{group: policy.linkerd.io, kind: Server, name: orders}}], rules: [{{matches: [{{method: GET, path: {{value: /a}}}}, {{method: {second}, path: {{value: /b}}}}]}}]}}\n"
        )
    };
    assert_eq!(lint("EW0523", &policies("GET"), WORKLOADS, 0), ["rule `HTTPRoute r rules[0]` allows GET and not HEAD"]);
    assert_eq!(lint("EW0523", &policies("HEAD"), WORKLOADS, 0), [""; 0]);
}
