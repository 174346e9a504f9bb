//! What `suggest` makes of recorded flows: it allows every recorded allowed flow and nothing that was refused.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use eastwall_policy::analysis::check::check;
use eastwall_policy::analysis::suggest::{Collector, Options, Suggestion};
use eastwall_policy::dialect::compile;
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use proptest::prelude::*;
use serde_json::{Value, json};

const WORKLOADS: &str = "
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}, {name: grpc, port: 8081}, {port: 5432}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3], ports: [{name: http, port: 8080}]}
- {name: clerk, namespace: office, serviceAccount: clerk, ips: [10.0.1.2], ports: [{name: http, port: 8080}]}
- {kind: Service, name: orders, namespace: shop, ips: [10.96.0.1], ports: [{port: 80, targetPort: http}], endpoints: [shop/orders]}
- {kind: Node, name: n1, ips: [192.168.1.1]}
";

fn registry() -> Arc<Registry> {
    let (registry, findings) = Registry::parse("w.yaml", &WORKLOADS.into());
    assert!(findings.is_empty(), "{findings:?}");
    Arc::new(registry)
}

fn suggestion(lines: &[String], min_evidence: u64) -> Suggestion {
    let mut collector = Collector::new(registry(), 1 << 20);
    lines.iter().for_each(|line| collector.add(line).unwrap());
    collector.suggest(Options { min_evidence })
}

fn world(suggestion: &Suggestion) -> World {
    let text: Arc<str> = suggestion.to_string().into();
    let compiled = compile(&source::parse("suggested.yaml", &text));
    assert!(!compiled.has_errors(), "{:?}\n{text}", compiled.diagnostics);
    let findings = check(&compiled, Some(&registry()), 0);
    assert!(findings.iter().all(|finding| !finding.is_error()), "{findings:?}");
    for (policy, document) in compiled.model.policies.iter().zip(&suggestion.policies) {
        let json = document.document().to_string();
        let again = compile(&source::parse("suggested.json", &json.into()));
        assert_eq!(again.model.policies[0].rules.len(), policy.rules.len());
    }
    World::new(compiled.model, registry(), 1)
}

fn verdict(world: &World, flow: &Value) -> Action {
    let mut flow = flow.clone();
    flow.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "verdict" | "status" | "timestamp"));
    Question::from_json(&flow).unwrap().answer(world, 0).unwrap().verdict
}

#[test]
fn recorded_lines_become_a_policy() {
    let line = |verdict: &str, method: &str, path: &str, status: u16, time: &str| {
        json!({
            "timestamp": time, "event": "request", "verdict": verdict, "reason": "unprotected", "direction": "inbound", "protocol": "http",
            "source_workload": "shop/web", "destination_workload": "shop/orders", "client.address": "10.0.0.3", "client.port": 4711,
            "server.address": "orders.shop", "destination.address": "10.0.0.2", "destination.port": 8080, "network.transport": "tcp",
            "http.request.method": method, "url.path": path, "http.response.status_code": status,
        })
        .to_string()
    };
    let lines = [
        line("allow", "GET", "/orders/7", 200, "2026-11-01T00:00:00Z"),
        line("allow", "GET", "/orders/8", 404, "2026-11-02T00:00:00Z"),
        line("allow", "GET", "/orders/8", 200, "2026-11-03T00:00:00Z"),
        line("allow", "HEAD", "/orders/8", 200, "2026-11-03T00:00:00Z"),
        line("allow", "GET", "/wp-admin", 404, "2026-11-03T00:00:00Z"),
        line("deny", "DELETE", "/orders/8", 403, "2026-11-03T00:00:00Z"),
        line("reject", "GET", "/orders%2F8", 400, "2026-11-03T00:00:00Z"),
        json!({"event": "alert", "alert": "evasion-attempt"}).to_string(),
    ];
    let suggestion = suggestion(&lines, 1);
    insta::assert_snapshot!(suggestion.to_string(), @r#"
    ---
    apiVersion: eastwall.dev/v1alpha1
    kind: FirewallPolicy
    metadata: {name: "orders", namespace: "shop"}
    spec:
      subject: [{serviceAccount: "orders"}]
      ingress:
      # seen 4 times, first 2026-11-01T00:00:00Z, last 2026-11-03T00:00:00Z
      #   GET /orders/{order}: 3 times, first 2026-11-01T00:00:00Z, last 2026-11-03T00:00:00Z
      #   HEAD /orders/{order}: 1 time, first 2026-11-03T00:00:00Z, last 2026-11-03T00:00:00Z
      - name: "shop-web-http-http"
        from: [{"serviceAccount":"web"}]
        ports: ["http"]
        http:
        - {"methods":["GET","HEAD"],"paths":["/orders/{order}"]}
    "#);
    let left_out: BTreeMap<&str, u64> = suggestion.left_out.clone();
    assert_eq!(left_out.get("only errors were answered"), Some(&1));
    assert_eq!(left_out.len(), 2, "{left_out:?}");
    world(&suggestion);
}

/// A flow to `shop/orders` on 8080 from `shop/web`.
fn request(verdict: &str, method: &str, path: &str) -> String {
    json!({"src": {"ip": "10.0.0.3"}, "dst": {"ip": "10.0.0.2", "port": 8080}, "direction": "inbound", "protocol": "http", "method": method, "path": path, "verdict": verdict})
        .to_string()
}

/// Evidence is counted where it is written: a thousand identifiers seen once each are a thousand flows.
#[test]
fn evidence_belongs_to_what_a_rule_names() {
    let mut lines: Vec<String> = (0..1_000).map(|id| request("allow", "GET", &format!("/orders/{id}"))).collect();
    lines.extend((0..3).map(|_| request("allow", "GET", "/healthz")));
    let suggestion = suggestion(&lines, 1_000);
    let rules = &suggestion.policies[0].rules;
    assert_eq!(
        rules[0].parts.iter().map(|part| (part.what.as_str(), part.evidence.flows)).collect::<Vec<_>>(),
        [("GET /orders/{order}", 1_000)]
    );
    assert_eq!((rules[0].evidence.flows, suggestion.flows), (1_000, 1_000));
    assert_eq!(suggestion.left_out.get("less evidence than asked for"), Some(&3));
}

/// Who refused everything stays closed, and so does the direction beside one that has rules.
#[test]
fn what_was_only_refused_stays_refused() {
    let out = json!({"src": {"workload": "shop/orders"}, "dst": {"ip": "203.0.113.9", "port": 443}, "direction": "outbound", "protocol": "tls", "verdict": "deny"});
    let unknown = json!({"src": {}, "dst": {"ip": "10.0.0.3", "port": 8080}, "direction": "inbound", "protocol": "tcp", "verdict": "deny"});
    for (lines, expected) in [
        (vec![request("deny", "GET", "/")], "[Ingress]"),
        (vec![request("reject", "GET", "/a%2Fb")], "[Ingress]"),
        (vec![unknown.to_string()], "[Ingress]"),
        (vec![out.to_string()], "[Egress]"),
        (vec![request("allow", "GET", "/"), out.to_string()], "[Ingress, Egress]"),
    ] {
        let suggestion = suggestion(&lines, 1);
        let text = suggestion.to_string();
        assert!(text.contains(&format!("directions: {expected}")), "{text}");
        let world = world(&suggestion);
        for line in &lines {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(verdict(&world, &line) == Action::Allow, line["verdict"] == "allow", "{line}\n{text}");
        }
    }
    assert_eq!(
        suggestion(&[request("allow", "GET", "/"), request("deny", "GET", "/x")], 1).policies[0].closed.len(),
        0
    );
}

#[test]
fn what_differs_takes_bounded_memory() {
    let mut collector = Collector::new(registry(), 10_000);
    let mut add = |verdict: &str, id: usize| collector.add(&request(verdict, "GET", &format!("/orders/{id}")));
    assert!((0..1_000).all(|_| add("allow", 7).is_ok()), "the same again takes nothing");
    let full = (0..1_000).find_map(|id| add("deny", id).err()).unwrap();
    assert!(full.to_string().contains("take more than 10000 bytes"), "{full}");
}

/// Bytes on a port where requests were refused: nothing lets the one pass and not the other.
#[test]
fn bytes_beside_refused_requests_give_no_rule() {
    let flow = |protocol: &str, verdict: &str| {
        let mut flow = json!({"src": {"ip": "10.0.0.3"}, "dst": {"ip": "10.0.0.2", "port": 5432}, "direction": "inbound", "protocol": protocol, "verdict": verdict});
        if protocol == "http" {
            flow["method"] = "GET".into();
            flow["path"] = "/".into();
        }
        flow.to_string()
    };
    assert_eq!(suggestion(&[flow("tcp", "allow"), flow("http", "deny")], 1).policies[0].rules.len(), 0);
    let refused = flow("http", "reject").replace("\"/\"", "\"/%2F\"");
    assert_eq!(suggestion(&[flow("tcp", "allow"), refused], 1).policies[0].rules.len(), 0);
    assert_eq!(suggestion(&[flow("tcp", "allow")], 1).policies[0].rules.len(), 1);
    assert_eq!(suggestion(&[flow("tcp", "allow")], 2).policies.len(), 0, "too little evidence");
}

fn recorded() -> impl Strategy<Value = Value> {
    let from = prop::sample::select(vec!["10.0.0.3", "10.0.1.2", "203.0.113.7", "10.0.0.2", "192.168.1.1"]);
    let to = prop::sample::select(vec![
        ("10.0.0.2", 8080),
        ("10.0.0.2", 8081),
        ("10.0.0.2", 5432),
        ("10.96.0.1", 80),
        ("10.0.0.3", 8080),
        ("203.0.113.9", 443),
    ]);
    let protocol = prop::sample::select(vec!["http", "http", "http", "grpc", "tls", "tcp", "udp"]);
    let method = prop::sample::select(vec!["GET", "POST"]);
    let path = prop::sample::select(vec![
        "/",
        "/orders/7",
        "/orders/8",
        "/orders/9/items/1",
        "/orders",
        "/svc.A/Get",
        "/svc.A/List",
        "/a*b/7",
        "/static/app.js",
    ]);
    let name = prop::option::of(prop::sample::select(vec!["a.example", "b.example"]));
    let direction = prop::option::of(prop::sample::select(vec!["inbound", "outbound"]));
    (from, to, protocol, method, path, name, direction).prop_map(
        |(from, (to, port), protocol, method, path, name, direction)| {
            let mut flow = json!({"src": {"ip": from}, "dst": {"ip": to, "port": port}, "protocol": protocol});
            match protocol {
                "http" | "grpc" => {
                    flow["path"] = path.into();
                    if protocol == "http" {
                        flow["method"] = method.into();
                    }
                }
                "tls" => {
                    if let Some(name) = name {
                        flow["sni"] = name.into();
                    }
                }
                "udp" => flow["transport"] = "udp".into(),
                _ => {}
            }
            if let Some(direction) = direction {
                flow["direction"] = direction.into();
            }
            flow
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// As if a policy had judged the traffic: every flow has one verdict.
    #[test]
    fn what_was_allowed_is_allowed_and_what_was_refused_is_not(
        flows in prop::collection::vec(recorded(), 1..25),
        secret in any::<u64>(),
        open in prop::bool::weighted(0.3),
    ) {
        let refuses = |flow: &Value| {
            let hash = flow.to_string().bytes().fold(secret, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
            !open && hash % 4 == 0
        };
        let mut recorded = Vec::new();
        for flow in &flows {
            let mut flow = flow.clone();
            flow["verdict"] = if refuses(&flow) { "deny".into() } else { "allow".into() };
            recorded.push(flow);
        }
        let lines: Vec<String> = recorded.iter().map(Value::to_string).collect();
        let (refused, allowed): (Vec<Value>, Vec<Value>) = recorded.into_iter().partition(|flow| flow["verdict"] == "deny");
        let suggestion = suggestion(&lines, 1);
        let world = world(&suggestion);
        for flow in refused.iter().filter(|flow| is_protected(flow)) {
            prop_assert_ne!(verdict(&world, flow), Action::Allow, "{}\n{}", flow, suggestion);
        }
        let refused: Vec<String> = refused.iter().map(Value::to_string).collect();
        for flow in &allowed {
            // Whether a flow is left out depends on what was refused alone, not on what else was allowed.
            let with_it: Vec<String> = refused.iter().cloned().chain([flow.to_string()]).collect();
            let is_left_out = self::suggestion(&with_it, 1).left_out != self::suggestion(&refused, 1).left_out;
            if !is_left_out {
                prop_assert_eq!(verdict(&world, flow), Action::Allow, "{}\n{}", flow, suggestion);
            }
        }
    }
}

/// Some end of the flow that its direction speaks of is a registered workload: who is not has no policy.
fn is_protected(flow: &Value) -> bool {
    let is_known = |end: &str| {
        // The Service has no port for UDP: nobody is reached there.
        let service = flow[end]["ip"] == "10.96.0.1" && flow["transport"] != "udp";
        service || ["10.0.0.2", "10.0.0.3", "10.0.1.2"].iter().any(|ip| flow[end]["ip"] == *ip)
    };
    match flow["direction"].as_str() {
        Some("inbound") => is_known("dst"),
        Some("outbound") => is_known("src"),
        _ => is_known("dst") || is_known("src"),
    }
}
