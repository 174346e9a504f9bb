//! The table says what the reference interpreter says of policies as people write them, in every dialect and mixed:
//! random choices of the documents in `dialects/`, asked about flows made of the words that stand in them.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

use std::sync::Arc;

use eastwall_policy::dialect::compile;
use eastwall_policy::flow::Question;
use eastwall_policy::model::interpret;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::{ConnectionVerdict, World};
use proptest::prelude::*;
use serde_json::{Value, json};

const DOCUMENTS: [&str; 5] = [
    include_str!("dialects/native.yaml"),
    include_str!("dialects/network.yaml"),
    include_str!("dialects/cilium.yaml"),
    include_str!("dialects/istio.yaml"),
    include_str!("dialects/linkerd.yaml"),
];

fn registry() -> Arc<Registry> {
    let (registry, findings) = Registry::parse("workloads.yaml", &include_str!("dialects/workloads.yaml").into());
    assert!(!findings.iter().any(|finding| finding.is_error()), "{findings:?}");
    Arc::new(registry)
}

fn documents() -> Vec<&'static str> {
    DOCUMENTS.iter().flat_map(|text| text.split("\n---\n")).collect()
}

#[test]
fn every_document_is_read() {
    let compiled = compile(&source::parse("all.yaml", &documents().join("\n---\n").into()));
    assert!(!compiled.has_errors(), "{:#?}", compiled.diagnostics);
    assert!(compiled.passed_over.is_empty(), "{:?}", compiled.passed_over);
}

/// Some of the documents; most often of few dialects, so that they meet.
fn chosen() -> impl Strategy<Value = Vec<&'static str>> {
    let all = documents();
    prop::collection::vec(prop::sample::select(all), 1..9).prop_map(|mut chosen| {
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    })
}

fn flow() -> impl Strategy<Value = Value> {
    let ips = [
        "10.1.0.11",
        "fd00::11",
        "10.1.0.10",
        "10.2.0.12",
        "10.9.9.9",
        "192.168.1.1",
        "192.168.1.2",
        "203.0.113.7",
        "203.0.113.200",
        "127.0.0.1",
    ];
    let principals = [
        "spiffe://cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns/office/sa/batch",
        "spiffe://partner.example/ns/edi/sa/sender",
        "web.shop.serviceaccount.identity.linkerd.cluster.local",
        "batch.office.serviceaccount.identity.linkerd.cluster.local",
    ];
    let source =
        (prop::sample::select(ips.to_vec()), prop::option::weighted(0.3, prop::sample::select(principals.to_vec())))
            .prop_map(|(ip, principal)| match principal {
                Some(principal) => json!({"ip": ip, "principal": principal}),
                None => json!({"ip": ip}),
            });
    let ports = [80, 443, 53, 5432, 8080, 8081, 9100, 9990, 9500, 6443];
    let to = [
        "10.1.0.10",
        "10.1.0.10",
        "10.1.0.11",
        "10.2.0.12",
        "10.96.0.1",
        "10.96.0.2",
        "192.168.1.1",
        "203.0.113.7",
        "10.9.9.9",
    ];
    let fqdn = prop::option::weighted(
        0.2,
        prop::sample::select(vec!["api.partner.example", "a.b.partner.example", "partner.example"]),
    );
    let destination =
        (prop::sample::select(to.to_vec()), prop::sample::select(ports.to_vec()), fqdn).prop_map(|(ip, port, fqdn)| {
            match fqdn {
                Some(fqdn) => json!({"ip": ip, "port": port, "fqdn": fqdn}),
                None => json!({"ip": ip, "port": port}),
            }
        });
    let protocol =
        prop::sample::select(vec!["http", "http", "http", "http2", "grpc", "tls", "tcp", "udp", "dns", "sctp"]);
    let direction = prop::option::of(prop::sample::select(vec!["inbound", "outbound"]));
    (source, destination, protocol, direction, request()).prop_map(
        |(source, destination, protocol, direction, request)| {
            let mut flow = json!({"src": source, "dst": destination, "protocol": protocol});
            if let Some(direction) = direction {
                flow["direction"] = direction.into();
            }
            match protocol {
                "http" | "http2" | "grpc" => {
                    for (key, value) in request.as_object().into_iter().flatten() {
                        if protocol != "grpc" || !matches!(key.as_str(), "method" | "query") {
                            flow[key] = value.clone();
                        }
                    }
                }
                "tls" => flow["sni"] = "api.partner.example".into(),
                "udp" => flow["transport"] = "udp".into(),
                "sctp" => flow["transport"] = "sctp".into(),
                "dns" => {
                    flow["transport"] = "udp".into();
                    flow["qname"] = "orders.shop".into();
                }
                _ => {}
            }
            flow
        },
    )
}

fn request() -> impl Strategy<Value = Value> {
    let methods = prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE"]);
    let paths = prop::sample::select(vec![
        "/",
        "/orders",
        "/orders/",
        "/orders/7",
        "/orders/7/x",
        "/orders/seven",
        "/export",
        "/export/a",
        "/a.csv",
        "/admin",
        "/adminx",
        "/live",
        "/ready",
        "/shop.v1.Orders/Get",
    ]);
    let query = prop::option::weighted(0.3, prop::sample::select(vec!["format=csv", "full", "format=pdf&format=csv"]));
    let host =
        prop::option::weighted(0.7, prop::sample::select(vec!["orders.shop", "orders.shop:80", "x.shop", "other"]));
    let header = prop::sample::select(vec![
        ("x-tenant", "acme"),
        ("x-tenant", "globex"),
        ("X-Role", "user"),
        ("x-tenant", "acme,globex"),
    ]);
    let headers = prop::collection::vec(header, 0..3);
    let claims = prop::option::weighted(
        0.3,
        Just(json!({"iss": "https://sso.example", "sub": "me", "roles": ["refund", "audit"]})),
    );
    (methods, paths, query, host, headers, claims).prop_map(|(method, path, query, host, headers, claims)| {
        let mut request = json!({"method": method, "path": path, "headers": headers});
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                request[key] = value;
            }
        };
        put("query", query.map(Into::into));
        put("host", host.map(Into::into));
        put("jwt", claims);
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_table_says_what_the_interpreter_says(chosen in chosen(), flows in prop::collection::vec(flow(), 20..40)) {
        let compiled = compile(&source::parse("chosen.yaml", &chosen.join("\n---\n").into()));
        let world = World::new(Arc::clone(&compiled.model), registry(), 1);
        for flow in &flows {
            let question = Question::from_json(flow).map_err(|error| TestCaseError::fail(format!("{flow}: {error}")))?;
            let asked = question.ask(&world, 0).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let Ok(request) = asked.request() else { continue };
            let connection = asked.connection();
            let (model, registry) = (world.model(), world.registry());
            let expected = interpret::request_verdict(model, registry, &connection, &request);
            prop_assert_eq!(&asked.judge(&world).verdict, &expected, "{}", flow);
            match world.connection_verdict(&world.flow(&connection), request.now) {
                ConnectionVerdict::Deny(_) => prop_assert_eq!(expected.action, Action::Deny, "{}", flow),
                ConnectionVerdict::Opaque(_) => prop_assert_eq!(expected.action, Action::Allow, "{}", flow),
                ConnectionVerdict::Inspect => {}
            }
        }
    }
}

/// `PROPTEST_CASES` where it is set.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(600)
}
