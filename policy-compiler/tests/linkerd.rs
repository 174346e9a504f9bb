//! What Linkerd's policies come to: documents, flows, and the verdict of each; and the choice of a route beside a
//! straight-line reading of how Linkerd chooses.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot be set up must fail")]

use std::fmt::Write as _;
use std::sync::Arc;

use eastwall_policy::diagnostic::{Code, Style, as_text};
use eastwall_policy::dialect::{Compiled, LastGood, compile, compile_onto};
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const WORKLOADS: &str = "
- {name: web, namespace: shop, serviceAccount: web, labels: {app: web}, ips: [10.1.0.10], ports: [{name: http, port: 8080}, {name: admin, port: 9990}], probes: [{port: 8080, path: /live}]}
- {name: open, namespace: shop, serviceAccount: open, labels: {app: open}, ips: [10.1.0.20], annotations: {config.linkerd.io/default-inbound-policy: all-unauthenticated, config.linkerd.io/proxy-require-identity-inbound-ports: '8081,9000-9010'}}
- {name: curl, namespace: shop, serviceAccount: curl, labels: {app: curl}, ips: [10.1.0.11]}
";

const CURL: &str = "curl.shop.serviceaccount.identity.linkerd.cluster.local";

fn settings(linkerd: &str) -> String {
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: DialectSettings\nmetadata: {{name: cluster}}\nspec: {{linkerd: {{{linkerd}}}}}\n---\n"
    )
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "Server" | "HTTPRoute" => "policy.linkerd.io/v1beta3",
        "ServerAuthorization" => "policy.linkerd.io/v1beta1",
        "GRPCRoute" => "gateway.networking.k8s.io/v1",
        _ => "policy.linkerd.io/v1alpha1",
    };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n")
}

fn server(more: &str) -> String {
    document("Server", "s", &format!("{{podSelector: {{matchLabels: {{app: web}}}}, port: http{more}}}"))
}

fn route(name: &str, rules: &str) -> String {
    let parent = "parentRefs: [{group: policy.linkerd.io, kind: Server, name: s}]";
    document("HTTPRoute", name, &format!("{{{parent}, rules: {rules}}}"))
}

fn grant(name: &str, target: &str) -> String {
    let spec = format!("{{targetRef: {{group: policy.linkerd.io, {target}}}, requiredAuthenticationRefs: []}}");
    document("AuthorizationPolicy", name, &spec)
}

fn compiled(text: &str) -> Compiled {
    compile(&source::parse("p.yaml", &text.into()))
}

fn world(compiled: Compiled) -> World {
    let (registry, found) = Registry::parse("w.yaml", &WORKLOADS.into());
    assert!(found.is_empty(), "{found:?}");
    World::new(compiled.model, Arc::new(registry), 1)
}

/// `[name@]address > web:8080 http GET /path host=web`; `name` is the proven identity.
fn flow(text: &str) -> Value {
    let mut words = text.split(' ');
    let source = words.next().unwrap();
    let (identity, source) = source.split_once('@').map_or((None, source), |(name, rest)| (Some(name), rest));
    assert_eq!(words.next(), Some(">"));
    let (destination, port) = words.next().unwrap().split_once(':').unwrap();
    let destination = match destination {
        "web" => "10.1.0.10",
        "open" => "10.1.0.20",
        other => other,
    };
    let protocol = words.next().unwrap();
    let mut asked = json!({
        "src": {"ip": source}, "dst": {"ip": destination, "port": port.parse::<u16>().unwrap()}, "protocol": protocol,
    });
    if let Some(identity) = identity {
        asked["src"]["principal"] = if identity == "curl" { CURL } else { identity }.into();
    }
    if protocol != "tcp" {
        asked["host"] = "web".into();
        asked["method"] = words.next().unwrap().into();
        asked["path"] = words.next().unwrap().into();
    }
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "host" => asked["host"] = value.into(),
            "query" => asked["query"] = value.into(),
            _ => asked["headers"] = json!([[name, value]]),
        }
    }
    asked
}

fn passes(world: &World, asked: &str) -> bool {
    Question::from_json(&flow(asked)).unwrap().answer(world, 0).unwrap().verdict == Action::Allow
}

/// Each flow, with `+` in front where it passes and `-` where it is denied.
fn expect(policies: &str, flows: &[&str]) {
    let compiled = compiled(policies);
    assert!(!compiled.has_errors(), "{policies}\n{:#?}", compiled.diagnostics);
    let world = world(compiled);
    for text in flows {
        let (expected, asked) = text.split_at(1);
        assert_eq!(passes(&world, asked), expected == "+", "{text} under\n{policies}");
    }
}

#[test]
fn a_port_without_a_server_has_the_default_policy() {
    let cases: [(&str, &[&str]); 5] = [
        ("all-unauthenticated", &["+203.0.113.9 > web:9990 tcp", "+10.1.0.11 > web:8080 http GET /"]),
        ("cluster-unauthenticated", &["-203.0.113.9 > web:9990 tcp", "+10.1.0.11 > web:9990 tcp"]),
        ("all-authenticated", &["-10.1.0.11 > web:9990 tcp", "+curl@203.0.113.9 > web:9990 tcp"]),
        ("cluster-authenticated", &["-curl@203.0.113.9 > web:9990 tcp", "+curl@10.1.0.11 > web:9990 tcp"]),
        ("deny", &["-curl@10.1.0.11 > web:9990 tcp", "+127.0.0.1 > web:9990 tcp"]),
    ];
    for (word, flows) in cases {
        expect(&settings(&format!("defaultInboundPolicy: {word}")), flows);
    }
    let annotated = ["+10.1.0.11 > open:80 tcp", "-10.1.0.11 > open:8081 tcp", "+curl@10.1.0.11 > open:9005 tcp"];
    expect(&settings("defaultInboundPolicy: deny"), &annotated);
    let probes = settings("defaultInboundPolicy: deny, probeNetworks: [10.9.9.9/32]");
    expect(
        &probes,
        &[
            "+10.9.9.9 > web:8080 http GET /live",
            "-10.9.9.9 > web:8080 http GET /",
            "-10.9.9.8 > web:8080 http GET /live",
        ],
    );
}

#[test]
fn without_the_section_other_ports_are_not_judged() {
    let written = server("");
    expect(&written, &["-curl@10.1.0.11 > web:8080 tcp", "+10.1.0.11 > web:9990 tcp", "-10.1.0.11 > open:8081 tcp"]);
    let found = compiled(&written).diagnostics;
    assert!(found.iter().any(|one| one.code == Code::NotEnforced && one.message.contains("not judged")), "{found:?}");
}

#[test]
fn who_is_who() {
    let uri = "spiffe://cluster.local/ns/shop/sa/curl";
    let cases = [
        ("identities: ['*']", format!("+curl@10.1.0.11 -10.1.0.11 -{uri}@10.1.0.11")),
        (
            "identities: ['*.shop.serviceaccount.identity.linkerd.cluster.local']",
            format!("+curl@10.1.0.11 -{uri}@10.1.0.11"),
        ),
        ("identities: ['*.curl.shop.serviceaccount.identity.linkerd.cluster.local']", "-curl@10.1.0.11".to_owned()),
        ("identities: ['**.linkerd.cluster.local']", "-curl@10.1.0.11".to_owned()),
        ("identities: ['spiffe://x/y']", "+spiffe://x/y@10.1.0.11 -spiffe://x/y/z@10.1.0.11".to_owned()),
        // Exactly this account, as Eastwall's own mTLS proves it.
        (
            "identityRefs: [{kind: ServiceAccount, name: curl}]",
            format!("+curl@10.1.0.11 +{uri}@10.1.0.11 -{uri}2@10.1.0.11"),
        ),
        ("identityRefs: [{kind: Namespace, name: shop}]", format!("+curl@10.1.0.11 -{uri}@10.1.0.11")),
        ("identityRefs: [{kind: ServiceAccount, name: curl, namespace: other}]", "-curl@10.1.0.11".to_owned()),
    ];
    let policy = "{targetRef: {group: policy.linkerd.io, kind: Server, name: s}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m}]}";
    for (mesh, flows) in cases {
        let documents = server("")
            + &document("MeshTLSAuthentication", "m", &format!("{{{mesh}}}"))
            + &document("AuthorizationPolicy", "a", policy);
        for flow in flows.split(' ') {
            expect(&documents, &[&format!("{flow} > web:8080 tcp")]);
        }
    }
}

#[test]
fn server_authorizations_mean_the_cluster_s_networks() {
    let with = |client: &str| {
        server("") + &document("ServerAuthorization", "a", &format!("{{server: {{name: s}}, client: {client}}}"))
    };
    expect(&with("{unauthenticated: true}"), &["+10.1.0.11 > web:8080 tcp", "-203.0.113.9 > web:8080 tcp"]);
    let everywhere = "{unauthenticated: true, networks: [{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}]}";
    expect(&with(everywhere), &["+198.51.100.1 > web:8080 tcp", "-203.0.113.9 > web:8080 tcp"]);
    expect(
        &with("{meshTLS: {serviceAccounts: [{name: curl}]}}"),
        &["+curl@10.1.0.11 > web:8080 tcp", "-10.1.0.11 > web:8080 tcp"],
    );
}

#[test]
fn the_protocol_of_a_server() {
    let with = |protocol: &str| server(&format!(", proxyProtocol: {protocol}, accessPolicy: all-unauthenticated"));
    expect(&with("HTTP/1"), &["-10.1.0.11 > web:8080 tcp", "+10.1.0.11 > web:8080 http GET /"]);
    expect(&with("HTTP/2"), &["-10.1.0.11 > web:8080 http GET /", "+10.1.0.11 > web:8080 http2 GET /"]);
    expect(&with("opaque"), &["+10.1.0.11 > web:8080 tcp"]);
    let routed = |more: &str| settings(more) + &with("unknown") + &route("r", "[{matches: [{path: {value: /a}}]}]");
    expect(&routed(""), &["+10.1.0.11 > web:8080 tcp", "-10.1.0.11 > web:8080 http GET /b"]);
    expect(&routed("compatibility: Hardened"), &["-10.1.0.11 > web:8080 tcp", "+10.1.0.11 > web:8080 http GET /a"]);
}

#[test]
fn of_two_servers_on_a_port_the_first_wins() {
    let other = document("Server", "r", "{podSelector: {}, port: 8080, accessPolicy: all-unauthenticated}");
    expect(&(other.clone() + &server("")), &["+10.1.0.11 > web:8080 tcp"]);
    let older = server("").replace("namespace: shop}", "namespace: shop, creationTimestamp: '2020-01-01T00:00:00Z'}");
    let younger = other.replace("namespace: shop}", "namespace: shop, creationTimestamp: '2021-01-01T00:00:00Z'}");
    expect(&(older + &younger), &["-10.1.0.11 > web:8080 tcp"]);
}

#[test]
fn a_refused_part_leaves_nothing_open() {
    let good = server(", accessPolicy: all-unauthenticated") + &route("r", "[{matches: [{path: {value: /a}}]}]");
    let bad = good.replace("/a}}", "/b}, pathh: 1}");
    let flow = "10.1.0.11 > web:8080 http GET /a";
    let before = compiled(&good);
    let refused = compiled(&bad);
    assert!(refused.has_errors());
    let kept = compile_onto(&source::parse("p.yaml", &bad.as_str().into()), &LastGood::of(&before));
    assert!(passes(&world(before), flow));
    assert!(!passes(&world(refused), flow), "closed");
    assert!(passes(&world(kept), flow), "the last good version");
    let twice = settings("defaultInboundPolicy: all-unauthenticated")
        + &server(", accessPolicy: all-unauthenticated")
        + &server("");
    assert!(!passes(&world(compiled(&twice)), flow), "neither of two is taken");
}

#[test]
fn istio_has_policies_of_the_same_name() {
    let istio = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\nspec: {rules: [{}]}\n---\n";
    let both = server("") + &grant("a", "kind: Server, name: s") + istio;
    expect(&both, &["+10.1.0.11 > web:8080 http GET /"]);
    let broken = compiled(&both.replace("requiredAuthenticationRefs", "requiredAuthenticationRef"));
    assert!(
        broken.refused.iter().any(|name| &*name.kind == "AuthorizationPolicy.policy.linkerd.io"),
        "{:?}",
        broken.refused
    );
    assert!(broken.refused.iter().all(|name| &*name.kind != "AuthorizationPolicy"), "{:?}", broken.refused);
}

#[test]
fn what_is_refused_and_what_is_warned_of() {
    let grpc = "{parentRefs: [{group: policy.linkerd.io, kind: Server, name: s}], rules: [{matches: [{method: {type: RegularExpression, service: x}}]}]}";
    let documents = [
        server(", prot: 1"),
        server(", accessPolicy: all-authenticate"),
        document("Server", "s", "{podSelector: {}, port: 70000}"),
        document("MeshTLSAuthentication", "m", "{identities: ['**.x']}"),
        document("NetworkAuthentication", "n", "{networks: [{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}]}"),
        grant("a", "kind: Serve, name: s"),
        grant("a", "kind: Server, name: s")
            .replace("[]", "[{group: policy.linkerd.io, kind: NetworkAuthentication, name: none}]"),
        document("ServerAuthorization", "a", "{server: {name: s}, client: {unauthenticated: true}}"),
        server("") + &route("r", "[{matches: [{path: {type: RegularExpression, value: '/foo|/foobar'}}]}]"),
        server("") + &route("r", "[{filters: [{type: RequestRedirect}]}]"),
        document("GRPCRoute", "g", grpc),
    ];
    let mut text = String::new();
    for document in documents {
        for found in compiled(&document).diagnostics {
            let _ = writeln!(text, "{}", as_text(&found, Style::Plain));
        }
    }
    insta::assert_snapshot!(text);
}

/// One rule of a route, as the straight-line reading has it.
#[derive(Clone, Debug)]
struct Wanted {
    host: Option<&'static str>,
    kind: &'static str,
    path: &'static str,
    method: Option<&'static str>,
    header: Option<&'static str>,
    query: Option<&'static str>,
    granted: bool,
}

impl Wanted {
    fn yaml(&self, index: usize) -> String {
        let hosts = self.host.map_or(String::new(), |host| format!("hostnames: ['{host}'], "));
        let method = self.method.map_or(String::new(), |method| format!(", method: {method}"));
        let header = self.header.map_or(String::new(), |value| format!(", headers: [{{name: X-A, value: '{value}'}}]"));
        let query = self.query.map_or(String::new(), |value| format!(", queryParams: [{{name: q, value: '{value}'}}]"));
        let path = format!("path: {{type: {}, value: '{}'}}", self.kind, self.path);
        let rules = format!("[{{matches: [{{{path}{method}{header}{query}}}]}}]");
        let name = format!("r{index}");
        let route = route(&name, &rules).replace("spec: {", &format!("spec: {{{hosts}"));
        if self.granted { route + &grant(&name, &format!("kind: HTTPRoute, name: {name}")) } else { route }
    }

    /// How well it matches; the greater, the better.
    fn rank(&self, asked: &Asked) -> Option<(usize, usize, usize, usize, usize)> {
        let host = match self.host {
            None => 0,
            Some(host) => match host.strip_prefix('*') {
                Some(end) => asked.host.ends_with(end).then_some(end.len())?,
                None => (asked.host == host).then_some(1000)?,
            },
        };
        let path = match self.kind {
            "Exact" => (asked.path == self.path).then_some(asked.path.len())?,
            "RegularExpression" => asked.path.starts_with("/a").then_some(asked.path.len())?,
            _ if self.path == "/" => 1,
            _ => {
                let prefix = self.path.trim_end_matches('/');
                let rest = asked.path.trim_end_matches('/').strip_prefix(prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())?
            }
        };
        let count = |wanted: Option<&str>, held: &str| match wanted {
            None => Some(0),
            Some(wanted) => (wanted == held).then_some(1),
        };
        let (header, query) = (count(self.header, asked.header)?, count(self.query, asked.query)?);
        Some((host, path, header, query, count(self.method, asked.method)?))
    }
}

#[derive(Clone, Debug)]
struct Asked {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    header: &'static str,
    query: &'static str,
}

/// The best route decides; nothing else is asked.
fn straight(routes: &[Wanted], asked: &Asked) -> bool {
    let mut best = None;
    for route in routes {
        let Some(rank) = route.rank(asked) else { continue };
        if best.as_ref().is_none_or(|(held, _)| rank > *held) {
            best = Some((rank, route.granted));
        }
    }
    best.is_some_and(|(_, granted)| granted)
}

prop_compose! {
    fn wanted()(
        host in select(vec![None, None, Some("web.example.com"), Some("*.example.com"), Some("*.com")]),
        (kind, path) in select(vec![
            ("Exact", "/"), ("Exact", "/a"), ("Exact", "/a/"), ("Exact", "/a/b"), ("PathPrefix", "/"),
            ("PathPrefix", "/a"), ("PathPrefix", "/a/"), ("PathPrefix", "/a/b"), ("PathPrefix", "/ab"),
            ("RegularExpression", "/a.*"),
        ]),
        method in select(vec![None, Some("GET"), Some("POST")]),
        header in select(vec![None, None, Some("1")]),
        query in select(vec![None, None, Some("1")]),
        granted in any::<bool>(),
    ) -> Wanted {
        Wanted { host, kind, path, method, header, query, granted }
    }
}

prop_compose! {
    fn asked()(
        host in select(vec!["web.example.com", "x.example.com", "x.com", "web"]),
        path in select(vec!["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/abc", "/x"]),
        method in select(vec!["GET", "POST"]),
        header in select(vec!["1", "2"]),
        query in select(vec!["1", "2"]),
    ) -> Asked {
        Asked { host, path, method, header, query }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_best_route_decides(
        routes in prop::collection::vec(wanted(), 1..6),
        flows in prop::collection::vec(asked(), 12),
    ) {
        let yaml: String = routes.iter().enumerate().map(|(index, route)| route.yaml(index)).collect();
        let compiled = compiled(&(server("") + &yaml));
        prop_assert!(!compiled.has_errors(), "{:?}\n{}", compiled.diagnostics, yaml);
        let world = world(compiled);
        for one in flows {
            let Asked { host, path, method, header, query } = &one;
            let text = format!("10.1.0.11 > web:8080 http {method} {path} host={host} x-a={header} query=q={query}");
            prop_assert_eq!(passes(&world, &text), straight(&routes, &one), "{}\n{}", text, yaml);
        }
    }
}
