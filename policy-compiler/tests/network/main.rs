//! Kubernetes' own policies beside a straight-line reading of their documentation: random policies and flows, one verdict.
//!
//! The evaluator here knows nothing of the model. It walks policies as data, in the words of the API: the Admin tier in
//! order, then NetworkPolicy, then the Baseline tier in order, at the source for egress and at the destination for ingress.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

use std::sync::Arc;

use eastwall_policy::dialect::compile;
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Name, namespace, its team, app, address, ports (name, number, transport).
type Pod = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, u16, &'static str)],
);

const PODS: [Pod; 4] = [
    ("web", "shop", "blue", "web", "10.0.0.1", &[("http", 8080, "TCP")]),
    ("orders", "shop", "blue", "orders", "10.0.0.2", &[("http", 9090, "TCP"), ("dns", 53, "UDP")]),
    ("clerk", "office", "red", "web", "10.0.1.1", &[("http", 8080, "TCP"), ("admin", 9000, "TCP")]),
    ("batch", "office", "red", "batch", "10.0.1.2", &[]),
];
const STRANGER: &str = "203.0.113.7";

fn registry() -> Arc<Registry> {
    let entries: Vec<Value> = PODS
        .iter()
        .map(|(name, namespace, team, app, ip, ports)| {
            let ports: Vec<Value> = ports
                .iter()
                .map(|(name, port, protocol)| json!({"name": name, "port": port, "protocol": protocol}))
                .collect();
            json!({"name": name, "namespace": namespace, "namespaceLabels": {"team": team}, "labels": {"app": app}, "ips": [ip], "ports": ports})
        })
        .collect();
    let (registry, findings) = Registry::parse("w.yaml", &json!(entries).to_string().into());
    assert!(findings.is_empty(), "{findings:?}");
    Arc::new(registry)
}

// === the straight-line reading ===

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    Allow,
    Deny,
    Pass,
}

struct Flow {
    from: &'static str,
    to: &'static str,
    port: u16,
    transport: &'static str,
}

fn pod(ip: &str) -> Option<&'static Pod> {
    PODS.iter().find(|pod| pod.4 == ip)
}

fn labels_match(selector: &Value, label: (&str, &str)) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| key == label.0 && value == label.1));
    let expressions = selector["matchExpressions"].as_array().is_none_or(|all| {
        all.iter().all(|one| {
            let mine = one["key"] == label.0;
            let listed = one["values"].as_array().is_some_and(|values| values.iter().any(|value| value == label.1));
            match one["operator"].as_str().unwrap() {
                "In" => mine && listed,
                "NotIn" => !(mine && listed),
                "Exists" => mine,
                _ => !mine,
            }
        })
    });
    equal && expressions
}

fn peer_matches(peer: &Value, ip: &str, own_namespace: &str) -> bool {
    if let Some(networks) = peer["networks"].as_array() {
        return networks.iter().any(|net| within(net.as_str().unwrap(), ip));
    }
    if peer["ipBlock"].is_object() {
        let block = &peer["ipBlock"];
        let inside = |net: &Value| within(net.as_str().unwrap(), ip);
        let excepted = block["except"].as_array().is_some_and(|nets| nets.iter().any(inside));
        return pod(ip).is_none() && inside(&block["cidr"]) && !excepted;
    }
    let Some((_, namespace, team, app, ..)) = pod(ip) else { return false };
    if peer["namespaces"].is_object() {
        return labels_match(&peer["namespaces"], ("team", team));
    }
    let parts = if peer["pods"].is_object() { &peer["pods"] } else { peer };
    let home = match parts["namespaceSelector"].is_object() {
        true => labels_match(&parts["namespaceSelector"], ("team", team)),
        false => *namespace == own_namespace,
    };
    home && (!parts["podSelector"].is_object() || labels_match(&parts["podSelector"], ("app", app)))
}

fn within(net: &str, ip: &str) -> bool {
    net.parse::<ipnet::IpNet>().unwrap().contains(&ip.parse::<std::net::IpAddr>().unwrap())
}

fn port_matches(port: &Value, flow: &Flow) -> bool {
    let transport = port["protocol"].as_str().unwrap_or("TCP");
    if transport != flow.transport {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::String(name) => pod(flow.to).is_some_and(|pod| {
            pod.5.iter().any(|(held, number, kind)| held == name && *number == flow.port && *kind == transport)
        }),
        first => {
            let first = first.as_u64().unwrap();
            let last = port["endPort"].as_u64().unwrap_or(first);
            (first..=last).contains(&u64::from(flow.port))
        }
    }
}

fn list_or_any(list: &Value, matches: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_none_or(|items| items.is_empty() || items.iter().any(matches))
}

fn network_policies(policies: &[Value], flow: &Flow, inbound: bool) -> Option<bool> {
    let (own, other) = if inbound { (flow.to, flow.from) } else { (flow.from, flow.to) };
    let (_, namespace, _, app, ..) = pod(own)?;
    let (word, section, peers) = if inbound { ("Ingress", "ingress", "from") } else { ("Egress", "egress", "to") };
    let mut isolated = false;
    let mut allowed = false;
    for policy in policies.iter().filter(|policy| policy["kind"] == "NetworkPolicy") {
        let spec = &policy["spec"];
        if policy["metadata"]["namespace"] != *namespace || !labels_match(&spec["podSelector"], ("app", app)) {
            continue;
        }
        let closes = match spec["policyTypes"].as_array() {
            Some(types) if !types.is_empty() => types.iter().any(|held| held == word),
            _ => inbound || spec["egress"].as_array().is_some_and(|rules| !rules.is_empty()),
        };
        if !closes {
            continue;
        }
        isolated = true;
        allowed |= spec[section].as_array().is_some_and(|rules| {
            rules.iter().any(|rule| {
                list_or_any(&rule[peers], |peer| peer_matches(peer, other, namespace))
                    && list_or_any(&rule["ports"], |port| port_matches(port, flow))
            })
        });
    }
    isolated.then_some(allowed)
}

fn ordered(policies: &[Value], tier: &str, flow: &Flow, inbound: bool) -> Option<Word> {
    let (own, other) = if inbound { (flow.to, flow.from) } else { (flow.from, flow.to) };
    let (_, _, team, app, ..) = pod(own)?;
    let (section, peers) = if inbound { ("ingress", "from") } else { ("egress", "to") };
    let mut tiers: Vec<&Value> = policies.iter().filter(|policy| policy["spec"]["tier"] == tier).collect();
    tiers.sort_by_key(|policy| (policy["spec"]["priority"].as_u64(), policy["metadata"]["name"].to_string()));
    for policy in tiers {
        let subject = &policy["spec"]["subject"];
        let selected = match subject["namespaces"].is_object() {
            true => labels_match(&subject["namespaces"], ("team", team)),
            false => {
                labels_match(&subject["pods"]["namespaceSelector"], ("team", team))
                    && labels_match(&subject["pods"]["podSelector"], ("app", app))
            }
        };
        for rule in policy["spec"][section].as_array().into_iter().flatten().filter(|_| selected) {
            let ports = rule["protocols"].as_array().is_none_or(|list| {
                list.iter().any(|one| {
                    if let Some(name) = one["destinationNamedPort"].as_str() {
                        return ["TCP", "UDP"]
                            .iter()
                            .any(|kind| port_matches(&json!({"protocol": kind, "port": name}), flow));
                    }
                    let (kind, port) = one.as_object().unwrap().iter().next().unwrap();
                    let port = &port["destinationPort"];
                    let wanted = match (&port["number"], &port["range"]) {
                        (Value::Null, Value::Null) => json!({"protocol": kind.to_uppercase()}),
                        (Value::Null, range) => {
                            json!({"protocol": kind.to_uppercase(), "port": range["start"], "endPort": range["end"]})
                        }
                        (number, _) => json!({"protocol": kind.to_uppercase(), "port": number}),
                    };
                    port_matches(&wanted, flow)
                })
            });
            if ports && rule[peers].as_array().unwrap().iter().any(|peer| peer_matches(peer, other, "")) {
                return Some(match rule["action"].as_str().unwrap() {
                    "Accept" => Word::Allow,
                    "Deny" => Word::Deny,
                    _ => Word::Pass,
                });
            }
        }
    }
    None
}

fn expected(policies: &[Value], flow: &Flow) -> bool {
    [false, true].into_iter().all(|inbound| {
        match ordered(policies, "Admin", flow, inbound) {
            Some(Word::Allow) => return true,
            Some(Word::Deny) => return false,
            Some(Word::Pass) | None => {}
        }
        if let Some(allowed) = network_policies(policies, flow, inbound) {
            return allowed;
        }
        ordered(policies, "Baseline", flow, inbound) != Some(Word::Deny)
    })
}

// === random policies and flows ===

fn selector(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Value> + Clone {
    let one = prop::sample::select(values);
    prop_oneof![
        1 => Just(json!({})),
        3 => one.clone().prop_map(move |value| json!({"matchLabels": {key: value}})),
        1 => (one, prop::sample::select(vec!["In", "NotIn"]))
            .prop_map(move |(value, operator)| json!({"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]})),
        1 => prop::sample::select(vec!["Exists", "DoesNotExist"])
            .prop_map(move |operator| json!({"matchExpressions": [{"key": key, "operator": operator}]})),
    ]
}

fn pods() -> impl Strategy<Value = Value> + Clone {
    selector("app", &["web", "orders", "batch"])
}

fn namespaces() -> impl Strategy<Value = Value> + Clone {
    selector("team", &["blue", "red"])
}

fn np_peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => pods().prop_map(|pods| json!({"podSelector": pods})),
        2 => namespaces().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        2 => (pods(), namespaces()).prop_map(|(pods, namespaces)| json!({"podSelector": pods, "namespaceSelector": namespaces})),
        1 => Just(json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.128/25"]}})),
        1 => Just(json!({"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.0/28"]}})),
    ]
}

fn np_port() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"port": "http"}),
        json!({"port": 8080}),
        json!({"protocol": "UDP", "port": "dns"}),
        json!({"protocol": "UDP"}),
        json!({"port": 8000, "endPort": 9000}),
        json!({"protocol": "SCTP", "port": 9090}),
    ])
}

fn network_policy() -> impl Strategy<Value = Value> {
    let rules = |peers: &'static str| {
        let rule = (
            prop::option::of(prop::collection::vec(np_peer(), 0..3)),
            prop::option::of(prop::collection::vec(np_port(), 0..3)),
        );
        prop::collection::vec(
            rule.prop_map(move |(whom, ports)| {
                let mut rule = json!({});
                if let Some(whom) = whom {
                    rule[peers] = whom.into();
                }
                if let Some(ports) = ports {
                    rule["ports"] = ports.into();
                }
                rule
            }),
            0..3,
        )
    };
    let types = prop::sample::select(vec![
        json!(null),
        json!([]),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
    ]);
    (prop::sample::select(vec!["shop", "office"]), pods(), types, prop::option::of(rules("from")), prop::option::of(rules("to"))).prop_map(
        |(namespace, pods, types, ingress, egress)| {
            let mut spec = json!({"podSelector": pods, "policyTypes": types});
            for (section, rules) in [("ingress", ingress), ("egress", egress)] {
                if let Some(rules) = rules {
                    spec[section] = rules.into();
                }
            }
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "", "namespace": namespace}, "spec": spec})
        },
    )
}

fn cluster_policy() -> impl Strategy<Value = Value> {
    let peer = |egress: bool| {
        let networks = prop::sample::select(vec!["10.0.0.0/24", "203.0.113.0/24", "0.0.0.0/0"]);
        prop_oneof![
            3 => namespaces().prop_map(|namespaces| json!({"namespaces": namespaces})),
            3 => (namespaces(), pods()).prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
            if egress { 2 } else { 1 } => (networks, namespaces()).prop_map(move |(net, namespaces)| match egress {
                true => json!({"networks": [net]}),
                false => json!({"namespaces": namespaces}),
            }),
        ]
    };
    let protocol = || {
        prop::sample::select(vec![
            json!({"tcp": {}}),
            json!({"tcp": {"destinationPort": {"number": 8080}}}),
            json!({"udp": {"destinationPort": {"range": {"start": 50, "end": 60}}}}),
            json!({"destinationNamedPort": "http"}),
        ])
    };
    let rules = move |egress: bool| {
        let action = prop::sample::select(vec!["Accept", "Deny", "Pass"]);
        let rule = (
            action,
            prop::collection::vec(peer(egress), 1..3),
            prop::option::of(prop::collection::vec(protocol(), 1..3)),
        );
        prop::collection::vec(
            rule.prop_map(move |(action, peers, protocols)| {
                let mut rule = json!({"action": action});
                rule[if egress { "to" } else { "from" }] = peers.into();
                if let Some(protocols) = protocols {
                    rule["protocols"] = protocols.into();
                }
                rule
            }),
            0..4,
        )
    };
    let subject = prop_oneof![
        namespaces().prop_map(|namespaces| json!({"namespaces": namespaces})),
        (namespaces(), pods())
            .prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
    ];
    (prop::sample::select(vec!["Admin", "Baseline"]), 0..4_u32, subject, rules(false), rules(true)).prop_map(
        |(tier, priority, subject, ingress, egress)| {
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": ""},
                "spec": {"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress},
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_are_those_of_a_straight_line_reading(
        mut policies in prop::collection::vec(prop_oneof![network_policy(), cluster_policy()], 1..5),
    ) {
        for (index, policy) in policies.iter_mut().enumerate() {
            policy["metadata"]["name"] = format!("p{index}").into();
        }
        let text: Vec<String> = policies.iter().map(Value::to_string).collect();
        let compiled = compile(&source::parse("p.yaml", &text.join("\n---\n").into()));
        prop_assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        let world = World::new(compiled.model, registry(), 1);
        let ips = || PODS.iter().map(|pod| pod.4).chain([STRANGER]);
        for (from, to) in ips().flat_map(|from| ips().map(move |to| (from, to))).filter(|(from, to)| from != to) {
            for (port, transport) in [(8080, "TCP"), (9090, "TCP"), (53, "UDP"), (8500, "TCP"), (9090, "SCTP")] {
                let flow = Flow { from, to, port, transport };
                let asked = json!({"src": {"ip": from}, "dst": {"ip": to, "port": port}, "protocol": transport.to_lowercase(), "transport": transport.to_lowercase()});
                let got = Question::from_json(&asked).unwrap().answer(&world, 0).unwrap();
                prop_assert_eq!(got.verdict == Action::Allow, expected(&policies, &flow), "{} {}", asked, got.because());
            }
        }
    }
}

/// Documents that are refused, or accepted with a warning, each with the code.
#[test]
fn what_is_wrong_is_told() {
    let np = |spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let cnp = |spec: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
        )
    };
    let rule =
        |rule: &str| cnp(&format!("{{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{rule}]}}"));
    let banp = |name: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{subject: {{namespaces: {{}}}}}}\n"
        )
    };
    for (text, code) in [
        (np("{podSelector: {}}"), None),
        (np("{podSelector: {}, ingress: [{form: []}]}"), Some("EW0201")),
        (np("{podSelector: {}, ingress: [{from: [{}]}]}"), Some("EW0203")),
        (np("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}"), Some("EW0208")),
        (
            np("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [10.0.0.0/8]}}]}]}"),
            Some("EW0209"),
        ),
        (
            np("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}, podSelector: {}}]}]}"),
            Some("EW0301"),
        ),
        (np("{podSelector: {}, ingress: [{ports: [{port: \"80\"}]}]}"), Some("EW0208")),
        (np("{podSelector: {}, ingress: [{ports: [{port: http, endPort: 90}]}]}"), Some("EW0301")),
        (np("{podSelector: {}, ingress: [{ports: [{port: 90, endPort: 80}]}]}"), Some("EW0209")),
        (np("{podSelector: {}, policyTypes: [ingress]}"), Some("EW0204")),
        (np("{podSelector: {}, egress: []}"), Some("EW0507")),
        (np("{podSelector: {}, policyTypes: [Egress], ingress: [{}]}"), Some("EW0507")),
        (np("{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}, {podSelector: {}}]}]}"), Some("EW0507")),
        (rule("{action: Accept, to: [{namespaces: {}}]}"), None),
        (rule("{action: Allow, to: [{namespaces: {}}]}"), Some("EW0204")),
        (rule("{action: Accept, to: []}"), Some("EW0205")),
        (rule("{action: Accept, to: [{galaxies: {}}]}"), Some("EW0507")),
        (rule("{action: Deny, to: [{domainNames: [a.example]}]}"), Some("EW0301")),
        (rule("{action: Deny, to: [{nodes: {matchLabels: {a: b}}}]}"), Some("EW0310")),
        (rule("{action: Deny, to: [{namespaces: {}, networks: [10.0.0.0/8]}]}"), Some("EW0301")),
        (cnp("{tier: Admin, subject: {namespaces: {}}}"), Some("EW0203")),
        (cnp("{tier: Admin, priority: 1001, subject: {namespaces: {}}}"), Some("EW0209")),
        (banp("default"), None),
        (banp("other"), Some("EW0311")),
    ] {
        let compiled = compile(&source::parse("p.yaml", &text.as_str().into()));
        let codes: Vec<&str> = compiled.diagnostics.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, code.into_iter().collect::<Vec<_>>(), "{text}");
    }
}

/// SPEC: a peer of a later API fails closed, and so does a document that cannot be read.
#[test]
fn what_is_not_understood_closes() {
    let policy = |action: &str, peer: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: p}}\nspec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{{action: {action}, to: [{peer}]}}]}}\n"
        )
    };
    let verdict = |text: &str| {
        let world = World::new(compile(&source::parse("p.yaml", &text.into())).model, registry(), 1);
        let asked = json!({"src": {"ip": "10.0.0.1"}, "dst": {"ip": STRANGER, "port": 80}, "protocol": "tcp"});
        Question::from_json(&asked).unwrap().answer(&world, 0).unwrap().verdict
    };
    let after =
        policy("Deny", "{networks: [0.0.0.0/0]}").replace("name: p", "name: q").replace("priority: 1", "priority: 2");
    assert_eq!(verdict(&policy("Deny", "{galaxies: {}}")), Action::Deny);
    assert_eq!(verdict(&policy("Pass", "{galaxies: {}}")), Action::Deny);
    assert_eq!(
        verdict(&policy("Accept", "{galaxies: {}}")),
        Action::Allow,
        "it matches nothing, and nothing else closes"
    );
    assert_eq!(verdict(&format!("{}---\n{after}", policy("Accept", "{galaxies: {}}"))), Action::Deny);
    assert_eq!(verdict(&policy("Accept", "{networks: [nonsense]}")), Action::Deny);
}
