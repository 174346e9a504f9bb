//! What Cilium's policies come to, rule by rule: policies, flows, and the verdict of each.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

use std::sync::Arc;

use eastwall_policy::diagnostic::Code;
use eastwall_policy::dialect::{Compiled, LastGood, compile, compile_onto};
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use serde_json::{Value, json};

const WORKLOADS: &str = "
- {name: web, namespace: default, serviceAccount: web, labels: {app: web, tier: back}, node: n1, ips: [10.1.0.10], ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}]}
- {name: client, namespace: default, serviceAccount: luke, labels: {app: client, env: prod}, node: n1, ips: [10.1.0.11]}
- {name: client2, namespace: default, labels: {app: client2}, node: n2, ips: [10.1.0.12]}
- {name: other, namespace: ns2, namespaceLabels: {team: blue}, labels: {app: client, \"any:org\": alliance}, node: n2, ips: [10.2.0.11]}
- {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}, node: n2, ips: [10.3.0.53]}
- {kind: Service, name: myservice, namespace: default, ips: [10.96.0.10], ports: [{port: 80, targetPort: 8080}], endpoints: [default/web]}
- {kind: Node, name: n1, ips: [192.168.1.1]}
- {kind: Node, name: n2, ips: [192.168.1.2]}
";

const SETTINGS: &str = "apiVersion: eastwall.dev/v1alpha1\nkind: DialectSettings\nmetadata: {name: cluster}\nspec: ";

fn compiled(text: &str) -> Compiled {
    let text: Arc<str> = text.into();
    compile(&source::parse("p.yaml", &text))
}

/// A policy of namespace `default` with this `spec`, in one line.
fn policy(spec: &str) -> String {
    format!("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n")
}

fn clusterwide(spec: &str) -> String {
    format!("apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n")
}

/// `client > web:80 http GET /a?b host=web x-key=1`; ends are workloads or addresses.
fn flow(text: &str) -> Value {
    let mut words = text.split(' ');
    let end = |name: &str| match name {
        "web" => "10.1.0.10",
        "client" => "10.1.0.11",
        "client2" => "10.1.0.12",
        "other" => "10.2.0.11",
        "dns" => "10.3.0.53",
        "n1" => "192.168.1.1",
        "n2" => "192.168.1.2",
        "world" => "203.0.113.9",
        "stranger" => "10.9.9.9",
        "myservice" => "10.96.0.10",
        address => panic!("nobody is called {address}"),
    };
    let address = |name: &str| if name.contains('.') { name.to_owned() } else { end(name).to_owned() };
    let source = address(words.next().unwrap());
    assert_eq!(words.next(), Some(">"));
    let (destination, port) = words.next().unwrap().rsplit_once(':').unwrap();
    let mut asked = json!({
        "src": {"ip": source}, "dst": {"ip": address(destination), "port": port.parse::<u16>().unwrap()},
        "protocol": words.next().unwrap_or("tcp"),
    });
    let mut headers = Vec::new();
    for (index, word) in words.enumerate() {
        match (word.split_once('='), index) {
            (Some(("fqdn", name)), _) => asked["dst"]["fqdn"] = name.into(),
            (Some((name @ ("host" | "sni" | "qname" | "transport"), value)), _) => asked[name] = value.into(),
            (Some((name, value)), _) if !word.starts_with('/') => headers.push(json!([name, value])),
            (_, 0) => asked["method"] = word.into(),
            _ => {
                let (path, query) = word.split_once('?').map_or((word, None), |(path, query)| (path, Some(query)));
                asked["path"] = path.into();
                if let Some(query) = query {
                    asked["query"] = query.into();
                }
            }
        }
    }
    if !headers.is_empty() {
        asked["headers"] = headers.into();
    }
    asked
}

/// Each flow, with `+` in front where it passes and `-` where it is denied.
fn expect(policies: &str, flows: &[&str]) {
    let compiled = compiled(policies);
    assert!(!compiled.has_errors(), "{policies}\n{:#?}", compiled.diagnostics);
    let (registry, found) = Registry::parse("w.yaml", &WORKLOADS.into());
    assert!(found.is_empty(), "{found:?}");
    let world = World::new(compiled.model, Arc::new(registry), 1);
    for text in flows {
        let (expected, asked) = text.split_at(1);
        let answer = Question::from_json(&flow(asked.trim())).unwrap().answer(&world, 0).unwrap();
        let expected = if expected == "+" { Action::Allow } else { Action::Deny };
        assert_eq!(answer.verdict, expected, "{asked} under\n{policies}\n{answer:?}");
    }
}

/// The codes and messages of a policy.
fn findings(policies: &str) -> Vec<(Code, String)> {
    compiled(policies).diagnostics.into_iter().map(|found| (found.code, found.message)).collect()
}

fn refuses(spec: &str, code: Code, part: &str) {
    let found = findings(&policy(spec));
    assert!(found.iter().any(|(held, text)| *held == code && text.contains(part)), "{spec}: {found:?}");
    let policies = compiled(&policy(spec)).model.policies.clone();
    assert!(policies.iter().all(|policy| policy.broken), "{spec} is refused and acts");
}

fn warns(spec: &str, code: Code, part: &str) {
    let compiled = compiled(&policy(spec));
    assert!(!compiled.has_errors(), "{spec}: {:?}", compiled.diagnostics);
    let found = compiled.diagnostics.iter().find(|found| found.code == code && found.message.contains(part));
    assert!(found.is_some(), "{spec}: {:?}", compiled.diagnostics);
}

const WEB: &str = "endpointSelector: {matchLabels: {app: web}}";
const CLIENT: &str = "endpointSelector: {matchLabels: {app: client}}";

fn ingress(rules: &str) -> String {
    policy(&format!("{{{WEB}, ingress: {rules}}}"))
}

fn egress(rules: &str) -> String {
    policy(&format!("{{{CLIENT}, egress: {rules}}}"))
}

#[test]
fn sections_close_their_own_direction() {
    for open in ["null", "[]"] {
        expect(&ingress(open), &["+client > web:80", "+web > client:80"]);
    }
    for closed in
        ["[{}]", "[{fromEndpoints: []}]", "[{fromEntities: []}]", "[{fromEndpoints: null}]", "[{toPorts: []}]"]
    {
        expect(&ingress(closed), &["-client > web:80", "-world > web:80", "+web > client:80", "+client2 > client:80"]);
    }
    expect(&egress("[{}]"), &["-client > web:80", "+web > client:80"]);
    expect(&policy(&format!("{{{WEB}, ingressDeny: [{{}}]}}")), &["-client > web:80", "+web > client:80"]);
    let switched = |switch: &str| policy(&format!("{{{WEB}, ingress: [{{}}], enableDefaultDeny: {{{switch}}}}}"));
    expect(&switched("ingress: false"), &["+client > web:80"]);
    expect(&switched("egress: true"), &["-client > web:80", "-web > client:80"]);
    expect(
        &policy(&format!("{{{WEB}, ingressDeny: [{{fromEntities: [world]}}], enableDefaultDeny: {{ingress: false}}}}")),
        &["+client > web:80", "-world > web:80"],
    );
}

#[test]
fn endpoints_are_of_the_namespace_unless_it_is_named() {
    let from = |selector: &str| ingress(&format!("[{{fromEndpoints: [{selector}]}}]"));
    expect(
        &from("{}"),
        &["+client > web:80", "+client2 > web:80", "-other > web:80", "-world > web:80", "-n2 > web:80"],
    );
    expect(&from("{matchLabels: {app: client}}"), &["+client > web:80", "-client2 > web:80", "-other > web:80"]);
    for label in ["k8s:app", "any:app", "app"] {
        expect(&from(&format!("{{matchLabels: {{{label}: client}}}}")), &["+client > web:80", "-other > web:80"]);
    }
    for namespace in ["k8s:io.kubernetes.pod.namespace", "io.kubernetes.pod.namespace"] {
        let selector = format!("{{matchLabels: {{{namespace}: ns2, app: client}}}}");
        expect(&from(&selector), &["-client > web:80", "+other > web:80"]);
        let exists = format!("{{matchExpressions: [{{key: {namespace}, operator: Exists}}]}}");
        expect(&from(&exists), &["+client > web:80", "+other > web:80", "-world > web:80", "-n2 > web:80"]);
        // A peer that is no pod lacks the label as well.
        let elsewhere = format!("{{matchExpressions: [{{key: {namespace}, operator: NotIn, values: [ns2]}}]}}");
        expect(&from(&elsewhere), &["+client > web:80", "-other > web:80", "+world > web:80"]);
    }
    let labelled = "{matchLabels: {io.cilium.k8s.namespace.labels.team: blue}}";
    expect(&from(labelled), &["-client > web:80", "+other > web:80"]);
    let account = "{matchLabels: {io.cilium.k8s.policy.serviceaccount: luke}}";
    expect(&from(account), &["+client > web:80", "-client2 > web:80", "-other > web:80"]);
    let cluster = "{matchLabels: {io.cilium.k8s.policy.cluster: default}}";
    expect(&from(cluster), &["+client > web:80", "-other > web:80", "-world > web:80"]);
    let without =
        "{matchExpressions: [{key: env, operator: DoesNotExist}, {key: app, operator: NotIn, values: [web]}]}";
    expect(&from(without), &["-client > web:80", "+client2 > web:80", "-other > web:80", "-world > web:80"]);
    expect(&from("{matchLabels: {\"reserved:world\": \"\"}}"), &["-client > web:80", "+world > web:80"]);
    let host = "{matchExpressions: [{key: \"reserved:remote-node\", operator: Exists}]}";
    expect(&from(host), &["-client > web:80", "+n2 > web:80"]);
}

#[test]
fn clusterwide_policies_reach_every_namespace() {
    let all = clusterwide("{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}");
    expect(&all, &["+client > web:80", "+other > web:80", "+web > other:80", "-world > other:80", "-n2 > web:80"]);
    let client = clusterwide("{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]}");
    expect(&client, &["+client > web:80", "+other > web:80", "-client2 > web:80"]);
    let one = "{endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: ns2}}, ingress: [{}]}";
    expect(&clusterwide(one), &["+client > web:80", "-client > other:80"]);
    let org = "{endpointSelector: {matchLabels: {any:org: alliance}}, ingress: [{}]}";
    expect(&clusterwide(org), &["+client > web:80", "-client > other:80"]);
    // A policy of a namespace protects nobody else, whatever its selector says.
    let foreign = "{endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: ns2, app: web}}, ingress: [{}]}";
    expect(&policy(foreign), &["-client > web:80", "+client > other:80"]);
    warns(foreign, Code::Suspicious, "cannot select another namespace");
}

#[test]
fn entities() {
    let from = |entities: &str| ingress(&format!("[{{fromEntities: [{entities}]}}]"));
    expect(&from("world"), &["+world > web:80", "-client > web:80", "-stranger > web:80", "-n2 > web:80"]);
    expect(
        &from("cluster"),
        &["-world > web:80", "+client > web:80", "+other > web:80", "+n2 > web:80", "-stranger > web:80"],
    );
    expect(&from("all"), &["+world > web:80", "+client > web:80", "+n2 > web:80", "+stranger > web:80"]);
    // The own node passes in every case.
    expect(&from("none"), &["-world > web:80", "-client > web:80", "+n1 > web:80", "-n2 > web:80"]);
    expect(&from("remote-node"), &["+n2 > web:80", "-client > web:80"]);
    expect(&from("host, remote-node"), &["+n1 > web:80", "+n2 > web:80", "-world > web:80"]);
    expect(&from("world-ipv4"), &["+world > web:80"]);
    expect(&from("world-ipv6"), &["-world > web:80"]);
    for unknown in ["ingress", "init", "health", "unmanaged"] {
        expect(&from(unknown), &["-world > web:80", "-client > web:80", "-stranger > web:80"]);
        let deny =
            format!("{{{WEB}, ingress: [{{fromEntities: [all]}}], ingressDeny: [{{fromEntities: [{unknown}]}}]}}");
        expect(&policy(&deny), &["+world > web:80", "+client > web:80", "-stranger > web:80", "+n2 > web:80"]);
    }
    let to = |entities: &str| egress(&format!("[{{toEntities: [{entities}]}}]"));
    expect(&to("world"), &["+client > world:80", "-client > web:80"]);
    expect(&to("host"), &["+client > n1:80", "-client > n2:80"]);
    let policies = format!("{SETTINGS}{{cilium: {{allowLocalhost: Policy}}}}\n---\n{}", from("world"));
    expect(&policies, &["-n1 > web:80"]);
    expect(
        &policy(&format!("{{{WEB}, ingress: [{{fromEntities: [all]}}], ingressDeny: [{{fromEntities: [host]}}]}}")),
        &["-n1 > web:80", "+n2 > web:80"],
    );
}

#[test]
fn networks_are_outside_the_cluster() {
    let from = |networks: &str| ingress(&format!("[{{fromCIDR: [{networks}]}}]"));
    expect(&from("203.0.113.0/24"), &["+world > web:80", "-client > web:80"]);
    expect(&from("203.0.113.9"), &["+world > web:80", "-203.0.113.8 > web:80"]);
    expect(&from("203.0.113.77/24"), &["+world > web:80"]);
    expect(&from("0.0.0.0/0"), &["+world > web:80", "-client > web:80", "-n2 > web:80", "+stranger > web:80"]);
    expect(&from("::/0"), &["-world > web:80"]);
    let to = egress("[{toCIDRSet: [{cidr: 203.0.0.0/8, except: [203.0.113.0/24]}, {cidr: 203.0.113.9/32}]}]");
    expect(&to, &["+client > 203.1.1.1:80", "-client > 203.0.113.8:80", "+client > world:80", "-client > web:80"]);
    let deny = format!("{{{WEB}, ingress: [{{fromEntities: [all]}}], ingressDeny: [{{fromCIDR: [0.0.0.0/0]}}]}}");
    expect(&policy(&deny), &["-world > web:80", "+client > web:80"]);
}

#[test]
fn services_and_nodes() {
    let to = |service: &str| egress(&format!("[{{toServices: [{{k8sService: {{{service}}}}}]}}]"));
    for service in ["serviceName: myservice, namespace: default", "serviceName: myservice"] {
        expect(&to(service), &["+client > myservice:80", "+client > web:8080", "-client > client2:80"]);
    }
    expect(&to("serviceName: myservice, namespace: ns2"), &["-client > myservice:80"]);
    // Ports are those of the pod.
    let ports = |port: u16| {
        egress(&format!("[{{toEndpoints: [{{}}], toPorts: [{{ports: [{{port: \"{port}\", protocol: TCP}}]}}]}}]"))
    };
    expect(&ports(8080), &["+client > myservice:80"]);
    expect(&ports(80), &["-client > myservice:80"]);
    expect(&ingress("[{fromNodes: [{}]}]"), &["+n2 > web:80", "-client > web:80"]);
    expect(&egress("[{toNodes: [{}]}]"), &["+client > n2:80", "-client > web:80"]);
    let host = clusterwide("{nodeSelector: {}, ingress: [{}]}");
    expect(&host, &["+client > web:80", "+client > n2:80"]);
    assert_eq!(findings(&host)[0].0, Code::NotEnforced);
}

#[test]
fn names_that_the_proxy_resolved() {
    let to = |names: &str| egress(&format!("[{{toFQDNs: [{names}]}}]"));
    let name = to("{matchName: api.example.com}");
    expect(&name, &["+client > world:443 tcp fqdn=api.example.com", "-client > world:443 tcp fqdn=x.example.com"]);
    expect(&name, &["-client > world:443", "-client > web:443 tcp fqdn=api.example.com"]);
    let pattern = to("{matchPattern: \"*.example.com\"}");
    expect(&pattern, &["+client > world:443 tcp fqdn=x.example.com", "-client > world:443 tcp fqdn=a.b.example.com"]);
    expect(&pattern, &["-client > world:443 tcp fqdn=example.com", "-client > world:443 tcp fqdn=xexample.com"]);
    let deep = to("{matchPattern: \"**.example.com\"}");
    expect(&deep, &["+client > world:443 tcp fqdn=a.b.example.com", "-client > world:443 tcp fqdn=example.com"]);
    expect(&to("{matchPattern: \"*\"}"), &["+client > world:443 tcp fqdn=any.thing", "-client > world:443"]);
    expect(&to("{matchPattern: \"*example.com\"}"), &["+client > world:443 tcp fqdn=xexample.com"]);
}

#[test]
fn ports() {
    let to = |ports: &str| ingress(&format!("[{{toPorts: [{{ports: [{ports}]}}]}}]"));
    expect(&to("{port: \"80\", protocol: TCP}"), &["+world > web:80", "-world > web:81", "-world > web:80 udp"]);
    for any in ["{port: \"80\"}", "{port: \"80\", protocol: ANY}"] {
        expect(&to(any), &["+world > web:80", "+world > web:80 udp", "+world > web:80 sctp", "-world > web:81"]);
    }
    let range = to("{port: \"80\", endPort: 90, protocol: tcp}, {port: \"53\", protocol: UDP}");
    expect(
        &range,
        &["-world > web:79", "+world > web:80", "+world > web:90", "-world > web:91", "+world > web:53 udp"],
    );
    expect(&range, &["-world > web:53", "-world > web:85 udp"]);
    expect(&to("{port: \"0\", protocol: TCP}"), &["+world > web:12345", "-world > web:12345 udp"]);
    expect(&to("{port: \"0\"}"), &["+world > web:12345", "+world > web:12345 udp"]);
    expect(&to("{port: HTTP, protocol: TCP}"), &["+world > web:8080", "-world > web:80", "-world > web:53"]);
    expect(&to("{port: dns}"), &["+world > web:53 udp", "-world > web:53"]);
    let two = ingress("[{toPorts: [{ports: [{port: \"80\"}]}, {ports: [{port: \"90\"}]}], fromEndpoints: [{}]}]");
    expect(&two, &["+client > web:80", "+client > web:90", "-client > web:85", "-world > web:80"]);
    expect(&ingress("[{icmps: [{fields: [{type: 8, family: IPv4}]}]}]"), &["-client > web:80"]);
    expect(&egress("[{toPorts: [{ports: [{port: http}]}]}]"), &["+client > web:8080", "-client > world:8080"]);
}

#[test]
fn a_deny_of_any_policy_comes_first() {
    let allow = ingress("[{fromEntities: [all], toPorts: [{ports: [{port: \"40\", endPort: 99, protocol: TCP}]}]}]");
    let deny = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: d}\nspec: ";
    let policies = |rule: &str| format!("{allow}---\n{deny}{{endpointSelector: {{}}, ingressDeny: [{rule}]}}\n");
    let port = policies("{toPorts: [{ports: [{port: \"92\", protocol: TCP}]}]}");
    expect(&port, &["-client > web:92", "+client > web:93", "-client > web:100", "-web > client:80"]);
    let peer = policies("{fromEndpoints: [{matchLabels: {app: client}}]}");
    expect(&peer, &["-client > web:50", "+client2 > web:50", "-other > web:50"]);
}

#[test]
fn http() {
    let with = |rule: &str| {
        let ports = "ports: [{port: \"80\", protocol: TCP}]";
        ingress(&format!("[{{fromEndpoints: [{{}}], toPorts: [{{{ports}, rules: {{http: {rule}}}}}]}}]"))
    };
    for everything in ["[]", "[{}]", "[{method: \"\"}]"] {
        expect(
            &with(everything),
            &["+client > web:80 http GET /x", "-client > web:80", "-client > web:80 tls", "+client > web:80 grpc"],
        );
    }
    let path = with("[{method: GET, path: /public}]");
    expect(
        &path,
        &[
            "+client > web:80 http GET /public",
            "-client > web:80 http GET /public/",
            "-client > web:80 http GET /public?x=1",
        ],
    );
    expect(
        &path,
        &[
            "-client > web:80 http HEAD /public",
            "-client > web:80 http get /public",
            "-client > web:80 http GET /publicity",
        ],
    );
    expect(
        &with("[{path: \"/public(\\\\?.*)?\"}]"),
        &["+client > web:80 http GET /public?x=1", "-client > web:80 http GET /publicx"],
    );
    expect(
        &with("[{path: \"/a$\"}, {path: \"^/b.*\"}]"),
        &["+client > web:80 http GET /a", "+client > web:80 http GET /b/c?d", "-client > web:80 http GET /c"],
    );
    expect(&with("[{path: \"/orders/{id}\"}]"), &["-client > web:80 http GET /orders/7"]);
    expect(
        &with("[{path: \"/orders/[0-9]{1,3}\"}]"),
        &["+client > web:80 http GET /orders/777", "-client > web:80 http GET /orders/7777"],
    );
    expect(&with("[{method: \"GET|HEAD\"}]"), &["+client > web:80 http HEAD /", "-client > web:80 http POST /"]);
    let host = with("[{host: \"a\\\\.example\"}]");
    expect(
        &host,
        &[
            "+client > web:80 http GET / host=a.example",
            "-client > web:80 http GET / host=a.example:80",
            "-client > web:80 http GET /",
        ],
    );
    let header = with("[{headers: [\"X-Key: true\", X-There]}]");
    expect(&header, &["+client > web:80 http GET / x-key=true x-there=", "-client > web:80 http GET / x-key=true"]);
    expect(
        &header,
        &[
            "-client > web:80 http GET / x-key=TRUE x-there=1",
            "-client > web:80 http GET / x-key=true x-key=true x-there=",
        ],
    );
    expect(&with("[{headers: [\"X-Key: a,b\"]}]"), &["+client > web:80 http GET / x-key=a x-key=b"]);
    expect(
        &with("[{headers: [\"Host: a.example\"]}]"),
        &["+client > web:80 http GET / host=a.example", "-client > web:80 http GET / host=b.example"],
    );
    expect(&with("[{headers: [\"X-Key:true\"]}]"), &["-client > web:80 http GET / x-key=true"]);
    let matches = with("[{headerMatches: [{name: X-Key, value: \"1\"}, {name: X-There}]}]");
    expect(&matches, &["+client > web:80 http GET / x-key=1 x-there=", "-client > web:80 http GET / x-key=2 x-there="]);
    for action in ["LOG", "ADD", "DELETE", "REPLACE"] {
        let rule = format!("[{{headerMatches: [{{name: X-Key, value: \"1\", mismatch: {action}}}]}}]");
        expect(&with(&rule), &["+client > web:80 http GET /", "-client > web:80"]);
    }
}

#[test]
fn rules_of_one_peer_and_port_add_up() {
    let deep = "{fromEndpoints: [{matchLabels: {app: client}}], toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{path: /public}]}}]}";
    let with = |other: &str| ingress(&format!("[{deep}, {other}]"));
    let secret = ["+client > web:80 http GET /public", "+client > web:80 http GET /secret"];
    let kept = ["+client > web:80 http GET /public", "-client > web:80 http GET /secret"];
    let port = "toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]";
    for (other, flows) in [
        (format!("{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {port}}}"), secret),
        ("{fromEndpoints: [{matchLabels: {app: client}}]}".to_owned(), secret),
        (format!("{{{port}}}"), secret),
        (format!("{{fromEndpoints: [{{matchLabels: {{app: client2}}}}], {port}}}"), kept),
    ] {
        expect(&with(&other), &flows);
        // Hardened: what looks into requests is not emptied by what does not.
        let hardened = format!("{SETTINGS}{{cilium: {{compatibility: Hardened}}}}\n---\n{}", with(&other));
        expect(&hardened, &kept);
        expect(&hardened, &["-client > web:80"]);
    }
    let hardened = format!("{SETTINGS}{{cilium: {{compatibility: Hardened}}}}\n---\n{}", with(&format!("{{{port}}}")));
    expect(&hardened, &["+client2 > web:80 http GET /secret", "+world > web:80"]);
}

#[test]
fn a_query_is_no_end_of_a_path() {
    let rule = "[{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{path: \"/.*\\\\.png\"}, {path: \"/search\\\\?q=.*x\"}]}}]}]";
    let flows = ["+client > web:80 http GET /a.png", "+client > web:80 http GET /search?q=x"];
    expect(&ingress(rule), &flows);
    expect(&ingress(rule), &["+client > web:80 http GET /secret?.png"]);
    let hardened = format!("{SETTINGS}{{cilium: {{compatibility: Hardened}}}}\n---\n{}", ingress(rule));
    expect(&hardened, &flows);
    expect(&hardened, &["-client > web:80 http GET /secret?.png"]);
    let found = findings(&ingress(rule));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.contains("may be a query"), "{found:?}");
}

#[test]
fn server_names() {
    let with = |names: &str| {
        egress(&format!("[{{toPorts: [{{ports: [{{port: \"443\", protocol: TCP}}], serverNames: [{names}]}}]}}]"))
    };
    let plain = with("One.example.com");
    expect(&plain, &["+client > world:443 tls sni=ONE.example.com", "-client > world:443 tls sni=two.example.com"]);
    expect(
        &plain,
        &["-client > world:443 tls", "-client > world:443", "-client > world:443 http GET / host=one.example.com"],
    );
    let one = with("\"*.example.com\"");
    expect(
        &one,
        &[
            "+client > world:443 tls sni=a.example.com",
            "-client > world:443 tls sni=a.b.example.com",
            "-client > world:443 tls sni=example.com",
        ],
    );
    let deep = with("\"**.example.com\"");
    expect(&deep, &["+client > world:443 tls sni=a.b.example.com", "-client > world:443 tls sni=example.com"]);
    let any = with("\"*\"");
    expect(&any, &["+client > world:443 tls sni=x", "-client > world:443 tls"]);
    expect(
        &with("\"a*.example.com\""),
        &["+client > world:443 tls sni=ab.example.com", "-client > world:443 tls sni=b.example.com"],
    );
}

#[test]
fn dns_questions() {
    let with = |names: &str| {
        egress(&format!(
            "[{{toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s:k8s-app: kube-dns}}}}], toPorts: [{{ports: [{{port: \"53\", protocol: ANY}}], rules: {{dns: [{names}]}}}}]}}]"
        ))
    };
    let some = with("{matchName: cilium.io}, {matchPattern: \"*.cilium.io\"}");
    expect(
        &some,
        &[
            "+client > dns:53 dns qname=Cilium.io.",
            "+client > dns:53 dns qname=x.cilium.io",
            "-client > dns:53 dns qname=x.y.cilium.io",
        ],
    );
    expect(&some, &["-client > dns:53 udp", "-client > dns:53", "-client > web:53 dns qname=cilium.io"]);
    expect(&with("{matchPattern: \"*\"}"), &["+client > dns:53 dns qname=any.thing", "-client > dns:53 udp"]);
    expect(&with(""), &["+client > dns:53 dns qname=any.thing"]);
    expect(
        &with("{matchPattern: \"*cilium.io\"}"),
        &["+client > dns:53 dns qname=xcilium.io", "-client > dns:53 dns qname=sub.cilium.io"],
    );
}

#[test]
fn requirements_narrow_the_endpoints_of_every_rule() {
    let requires = policy("{endpointSelector: {}, ingress: [{fromRequires: [{matchLabels: {env: prod}}]}]}");
    let rules = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: q}\nspec: ";
    let with = |rule: &str| format!("{requires}---\n{rules}{{{WEB}, ingress: [{rule}]}}\n");
    expect(&with("{fromEndpoints: [{}]}"), &["+client > web:80", "-client2 > web:80", "-client > client2:80"]);
    expect(&with("{fromEntities: [cluster]}"), &["+client2 > web:80", "+other > web:80"]);
}

#[test]
fn specs_are_rules_of_their_own() {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p}}\nspecs: [{{{WEB}, ingress: [{{}}]}}, {{{CLIENT}, egress: [{{toEntities: [world]}}]}}]\n"
    );
    expect(&text, &["-client2 > web:80", "-client > client2:80", "+client > world:80", "+client2 > client:80"]);
    let compiled = compiled(&text);
    let names: Vec<_> =
        compiled.model.policies.iter().flat_map(|policy| &policy.rules).map(|rule| &*rule.name).collect();
    assert_eq!(names, ["specs[0].allow-localhost", "specs[1].egress[0]"]);
    // A broken version keeps all of them.
    let broken: Arc<str> = text.replace("toEntities", "toEntity").into();
    let kept = compile_onto(&source::parse("p.yaml", &broken), &LastGood::of(&compiled));
    assert!(kept.has_errors());
    assert_eq!(kept.model.policies.iter().filter(|policy| !policy.broken).count(), 2);
    // And so does one that says in which namespace it always was.
    let broken: Arc<str> = broken.replace("{name: p}", "{name: p, namespace: default}").into();
    let kept = compile_onto(&source::parse("p.yaml", &broken), &LastGood::of(&compiled));
    assert_eq!(kept.model.policies.iter().filter(|policy| !policy.broken).count(), 2);
}

#[test]
fn what_is_refused_closes_what_it_selects() {
    for (spec, code, part) in [
        (format!("{{{WEB}, ingress: [{{fromEndpoint: []}}]}}"), Code::UnknownField, "fromEndpoint"),
        (format!("{{{WEB}, Ingress: []}}"), Code::UnknownField, "Ingress"),
        (format!("{{{WEB}, ingress: [{{fromGroups: [{{}}]}}]}}"), Code::NotSupported, "fromGroups"),
        (format!("{{{WEB}, egress: [{{toCIDRSet: [{{cidrGroupRef: g}}]}}]}}"), Code::NotSupported, "cidrGroupRef"),
        (format!("{{{WEB}, ingress: [{{authentication: {{mode: required}}}}]}}"), Code::NotSupported, "authentication"),
        (format!("{{{WEB}, ingress: [{{fromNodes: [{{matchLabels: {{a: b}}}}]}}]}}"), Code::NotSupported, "nodes"),
        (format!("{{{WEB}, ingress: [{{fromEntities: [everyone]}}]}}"), Code::BadEnumValue, "everyone"),
        (
            format!("{{{WEB}, ingress: [{{fromEntities: [world], fromCIDR: [1.1.1.1/32]}}]}}"),
            Code::Conflict,
            "fromCIDR",
        ),
        (format!("{{{WEB}, ingressDeny: [{{fromRequires: [{{}}]}}]}}"), Code::NotSupported, "fromRequires"),
        (format!("{{{WEB}, egressDeny: [{{toFQDNs: [{{matchName: a}}]}}]}}"), Code::WrongDirection, "toFQDNs"),
        (format!("{{{WEB}, egress: [{{toFQDNs: [{{matchName: a*}}]}}]}}"), Code::BadValue, "a*"),
        (format!("{{{WEB}, ingress: [{{fromCIDR: [1.2.3]}}]}}"), Code::BadValue, "1.2.3"),
        (
            format!("{{{WEB}, ingress: [{{fromCIDRSet: [{{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}}]}}"),
            Code::OutOfRange,
            "11.0.0.0",
        ),
        (
            format!(
                "{{{WEB}, ingress: [{{icmps: [{{fields: [{{type: 8}}]}}], toPorts: [{{ports: [{{port: \"1\"}}]}}]}}]}}"
            ),
            Code::Conflict,
            "icmps",
        ),
        (format!("{{{WEB}, nodeSelector: {{}}, ingress: [{{}}]}}"), Code::Conflict, "nodeSelector"),
        ("{ingress: [{}]}".to_owned(), Code::MissingField, "endpointSelector"),
        ("{nodeSelector: {}, ingress: [{}]}".to_owned(), Code::OutsideNamespace, "nodes"),
        (
            format!("{{{WEB}, ingress: [{{fromEndpoints: [{{matchLabels: {{container:a: b}}}}]}}]}}"),
            Code::NotSupported,
            "container",
        ),
        (
            format!(
                "{{{WEB}, ingress: [{{fromEndpoints: [{{matchLabels: {{io.cilium.k8s.policy.cluster: east}}}}]}}]}}"
            ),
            Code::NotSupported,
            "east",
        ),
        ("7".to_owned(), Code::WrongType, "spec"),
    ] {
        refuses(&spec, code, part);
        let (registry, _) = Registry::parse("w.yaml", &WORKLOADS.into());
        let world = World::new(compiled(&policy(&spec)).model, Arc::new(registry), 1);
        let answer = Question::from_json(&flow("client > web:80")).unwrap().answer(&world, 0).unwrap();
        assert_eq!(answer.verdict, Action::Deny, "{spec}");
    }
    let twice = format!(
        "{}---\n{}",
        ingress("[{fromEntities: [all]}]"),
        ingress("[]").replace("{name: p}", "{name: p, namespace: default}")
    );
    assert!(compiled(&twice).model.policies.iter().all(|policy| policy.broken));
}

#[test]
fn port_rules_that_cilium_refuses() {
    let port_rule = |rule: &str| format!("{{{WEB}, ingress: [{{toPorts: [{rule}]}}]}}");
    for (rule, code, part) in [
        ("{}", Code::MissingField, "ports"),
        ("{ports: []}", Code::EmptyList, "ports"),
        ("{ports: [{port: 80}]}", Code::WrongType, "port"),
        ("{ports: [{port: \"80\", endPort: 70}]}", Code::OutOfRange, "before"),
        ("{ports: [{port: \"080\"}]}", Code::BadValue, "080"),
        ("{ports: [{port: \"80\", protocol: HTTP}]}", Code::BadEnumValue, "HTTP"),
        ("{ports: [{port: \"80\"}], rules: {http: [{}]}}", Code::Conflict, "TCP alone"),
        ("{ports: [{port: \"0\", protocol: TCP}], rules: {http: [{}]}}", Code::Conflict, "port `0`"),
        ("{ports: [{port: \"53\"}], rules: {dns: [{matchName: a}]}}", Code::WrongDirection, "DNS"),
        ("{ports: [{port: \"80\", protocol: TCP}], rules: {HTTP: [{}]}}", Code::UnknownField, "HTTP"),
        ("{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{}], dns: []}}", Code::Conflict, "one `rules`"),
        ("{ports: [{port: \"80\", protocol: TCP}], rules: {kafka: [{topic: a}]}}", Code::NotSupported, "kafka"),
        ("{ports: [{port: \"80\", protocol: TCP}], rules: {l7proto: x}}", Code::NotSupported, "l7proto"),
        (
            "{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{}]}, serverNames: [a]}",
            Code::Conflict,
            "serverNames",
        ),
        ("{ports: [{port: \"80\", protocol: TCP}], terminatingTLS: {}}", Code::NotSupported, "terminatingTLS"),
        ("{ports: [{port: \"80\", protocol: TCP}], listener: {}}", Code::NotSupported, "listener"),
        ("{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{path: \"/a/**\"}]}}", Code::BadRegex, "repetition"),
        ("{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{path: \"(?=a)\"}]}}", Code::BadRegex, "(?="),
        (
            "{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{headerMatches: [{name: a, mismatch: DROP}]}]}}",
            Code::BadEnumValue,
            "DROP",
        ),
        (
            "{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{headerMatches: [{name: a, secret: {name: b}}]}]}}",
            Code::NotSupported,
            "secret",
        ),
    ] {
        refuses(&port_rule(rule), code, part);
    }
    let many = (1..=41).map(|port| format!("{{port: \"{port}\"}}")).collect::<Vec<_>>().join(", ");
    refuses(&port_rule(&format!("{{ports: [{many}]}}")), Code::OutOfRange, "41 ports");
    let deny = "{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{}]}}";
    refuses(&format!("{{{WEB}, ingressDeny: [{{toPorts: [{deny}]}}]}}"), Code::WrongDirection, "rules");
    refuses(
        &format!(
            "{{{WEB}, egress: [{{toPorts: [{{ports: [{{port: \"53\", endPort: 54}}], rules: {{dns: [{{matchName: a}}]}}}}]}}]}}"
        ),
        Code::Conflict,
        "range",
    );
}

#[test]
fn traps_are_told() {
    for (spec, part) in [
        (format!("{{{WEB}, ingress: []}}"), "closes nothing"),
        (format!("{{{WEB}, ingressDeny: [{{}}]}}"), "denies nothing"),
        (format!("{{{WEB}, ingress: [{{fromEndpoints: null}}]}}"), "allows nothing"),
        (format!("{{{WEB}, ingress: [{{fromEndpoints: []}}]}}"), "about nobody"),
        (format!("{{{WEB}, ingress: [{{fromEndpoints: [{{matchLabels: null}}]}}]}}"), "selects everybody"),
        (
            format!(
                "{{{WEB}, ingress: [{{fromEndpoints: [{{matchLabels: {{k8s.io.kubernetes.pod.namespace: a}}}}]}}]}}"
            ),
            "no pod has",
        ),
        (
            format!(
                "{{{WEB}, ingress: [{{fromEndpoints: [{{matchExpressions: [{{key: a, operator: in, values: [b]}}]}}]}}]}}"
            ),
            "read as `In`",
        ),
        (format!("{{{WEB}, ingress: [{{fromCIDR: [10.0.0.1/8]}}]}}"), "do not count"),
    ] {
        warns(&spec, Code::Suspicious, part);
    }
}
