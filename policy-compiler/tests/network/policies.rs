//! Random policies, as the API would have them.

use proptest::prelude::*;
use serde_json::{Value, json};

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
        1 => Just(json!({"ipBlock": {"cidr": "10.0.0.0/8"}})),
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

pub(crate) fn network_policy() -> impl Strategy<Value = Value> {
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

pub(crate) fn cluster_policy() -> impl Strategy<Value = Value> {
    let peer = |egress: bool| {
        let networks = prop::sample::select(vec![
            "10.0.0.0/24",
            "10.96.0.0/16",
            "203.0.113.0/24",
            "192.168.1.1/32",
            "fd00::/8",
            "0.0.0.0/0",
        ]);
        prop_oneof![
            3 => namespaces().prop_map(|namespaces| json!({"namespaces": namespaces})),
            3 => (namespaces(), pods()).prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
            if egress { 3 } else { 1 } => (networks, namespaces()).prop_map(move |(net, namespaces)| match egress {
                true => json!({"networks": [net]}),
                false => json!({"namespaces": namespaces}),
            }),
            1 => namespaces().prop_map(move |namespaces| match egress {
                true => json!({"nodes": {}}),
                false => json!({"namespaces": namespaces}),
            }),
            1 => pods().prop_map(|pods| json!({"pods": {"podSelector": pods}})),
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
                let pods_alone = peers.iter().all(|peer| peer["networks"].is_null() && peer["nodes"].is_null());
                let mut protocols: Option<Vec<Value>> = protocols;
                if let Some(list) = protocols.as_mut().filter(|_| !pods_alone) {
                    list.iter_mut()
                        .filter(|one| one["destinationNamedPort"].is_string())
                        .for_each(|one| *one = json!({"tcp": {}}));
                }
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
