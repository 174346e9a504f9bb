//! The documentation read in a straight line, and held beside what is decided: random policies and flows, one verdict.
//!
//! The evaluator here knows nothing of the model. It walks policies as data, in the words of the API: the Admin tier in
//! order, then NetworkPolicy, then the Baseline tier in order, at the source for egress and at the destination for
//! ingress, for every endpoint of a Service. It knows addresses alone, whatever a source proves. What nobody registered
//! is `None`: not known, never enough to let anything pass and always enough to deny.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::cast::{NODES, PODS, Pod, SERVICES, STRANGER, UNREGISTERED, decide, world};
use super::policies::{cluster_policy, network_policy};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    Allow,
    Deny,
    Pass,
}

/// One end; no address where a Service has nobody behind it.
#[derive(Clone, Copy, Debug)]
struct End {
    ip: Option<&'static str>,
    who: Who,
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Pod(&'static Pod),
    Node(&'static str),
    Outside,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    from: End,
    to: End,
    /// Whose container ports count.
    declares: Option<&'static Pod>,
    port: Option<u16>,
    transport: &'static str,
}

fn end(ip: &'static str) -> End {
    let pod = PODS.iter().find(|pod| !pod.host_network && pod.ips.contains(&ip));
    let node = NODES.iter().find(|(_, address)| *address == ip);
    let who = match (pod, node) {
        (Some(pod), _) => Who::Pod(pod),
        (_, Some((name, _))) => Who::Node(name),
        _ if ip == STRANGER => Who::Outside,
        _ => Who::Unknown,
    };
    End { ip: Some(ip), who }
}

/// Every way that a connection to an address can go.
fn flows(from: &'static str, to: &'static str, port: u16, transport: &'static str) -> Vec<Flow> {
    let from = end(from);
    let Some(service) = SERVICES.iter().find(|service| service.ips.contains(&to)) else {
        let to = end(to);
        let declares = if let Who::Pod(pod) = to.who { Some(pod) } else { None };
        return vec![Flow { from, to, declares, port: Some(port), transport }];
    };
    let is_served = transport == "TCP" && port == service.port;
    let endpoints = service.endpoints.iter().filter(|_| is_served);
    let each = endpoints.map(|name| {
        let pod = PODS.iter().find(|pod| pod.name == *name).unwrap();
        let same_family = pod.ips.iter().find(|ip| ip.contains(':') == to.contains(':'));
        let (_, number, _) = pod.ports.iter().find(|port| port.0 == service.target).unwrap();
        let to = end(same_family.unwrap_or(&pod.ips[0]));
        Flow { from, to, declares: Some(pod), port: Some(*number), transport }
    });
    let mut each: Vec<Flow> = each.collect();
    if each.is_empty() {
        let nobody = End { ip: None, who: Who::Unknown };
        each.push(Flow { from, to: nobody, declares: None, port: None, transport });
    }
    each
}

fn all(parts: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let parts: Vec<_> = parts.into_iter().collect();
    if parts.contains(&Some(false)) { Some(false) } else { (!parts.contains(&None)).then_some(true) }
}

fn any(parts: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    all(parts.into_iter().map(|part| part.map(|held| !held))).map(|none| !none)
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

/// `own` is the namespace of a NetworkPolicy; cluster-wide policies have none.
fn peer_matches(peer: &Value, end: End, own: Option<&str>) -> Option<bool> {
    if let Some(networks) = peer["networks"].as_array() {
        return end.ip.map(|ip| networks.iter().any(|net| within(net, ip)));
    }
    if peer["nodes"].is_object() {
        return match end.who {
            Who::Node(_) => Some(true),
            Who::Unknown => None,
            Who::Pod(_) | Who::Outside => Some(false),
        };
    }
    if peer["ipBlock"].is_object() {
        let block = &peer["ipBlock"];
        let is_loose = matches!(end.who, Who::Outside | Who::Unknown);
        return Some(end.ip.is_some_and(|ip| {
            let excepted = block["except"].as_array().is_some_and(|nets| nets.iter().any(|net| within(net, ip)));
            is_loose && within(&block["cidr"], ip) && !excepted
        }));
    }
    let pod = match end.who {
        Who::Pod(pod) => pod,
        Who::Unknown => return None,
        Who::Node(_) | Who::Outside => return Some(false),
    };
    if peer["namespaces"].is_object() {
        return Some(labels_match(&peer["namespaces"], ("team", pod.team)));
    }
    let parts = if peer["pods"].is_object() { &peer["pods"] } else { peer };
    let home = match parts["namespaceSelector"].is_object() {
        true => labels_match(&parts["namespaceSelector"], ("team", pod.team)),
        false => own.is_none_or(|own| own == pod.namespace),
    };
    Some(home && (!parts["podSelector"].is_object() || labels_match(&parts["podSelector"], ("app", pod.app))))
}

fn within(net: &Value, ip: &str) -> bool {
    let net: ipnet::IpNet = net.as_str().unwrap().parse().unwrap();
    net.contains(&ip.parse::<std::net::IpAddr>().unwrap())
}

fn port_matches(port: &Value, flow: &Flow) -> Option<bool> {
    let transport = port["protocol"].as_str().unwrap_or("TCP");
    if transport != flow.transport {
        return Some(false);
    }
    match &port["port"] {
        Value::Null => Some(true),
        Value::String(name) => match (flow.declares, flow.to.who) {
            (Some(pod), _) => Some(
                pod.ports
                    .iter()
                    .any(|(held, number, kind)| held == name && Some(*number) == flow.port && *kind == transport),
            ),
            (None, Who::Outside) => Some(false),
            (None, _) => None,
        },
        first => {
            let first = first.as_u64().unwrap();
            let last = port["endPort"].as_u64().unwrap_or(first);
            flow.port.map(|port| (first..=last).contains(&u64::from(port)))
        }
    }
}

fn list_or_any(list: &Value, matches: impl Fn(&Value) -> Option<bool>) -> Option<bool> {
    match list.as_array() {
        Some(items) if !items.is_empty() => any(items.iter().map(matches)),
        _ => Some(true),
    }
}

/// The pod whose policies are asked, and the other end.
fn ends(flow: &Flow, inbound: bool) -> Option<(&'static Pod, End)> {
    let (own, other) = if inbound { (flow.to, flow.from) } else { (flow.from, flow.to) };
    if let Who::Pod(pod) = own.who { Some((pod, other)) } else { None }
}

fn network_policies(policies: &[Value], flow: &Flow, inbound: bool) -> Option<bool> {
    let (pod, other) = ends(flow, inbound)?;
    let (word, section, peers) = if inbound { ("Ingress", "ingress", "from") } else { ("Egress", "egress", "to") };
    let mut isolated = false;
    let mut allowed = inbound && matches!(other.who, Who::Node(node) if node == pod.node);
    for policy in policies.iter().filter(|policy| policy["kind"] == "NetworkPolicy") {
        let spec = &policy["spec"];
        if policy["metadata"]["namespace"] != pod.namespace || !labels_match(&spec["podSelector"], ("app", pod.app)) {
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
                let whom = list_or_any(&rule[peers], |peer| peer_matches(peer, other, Some(pod.namespace)));
                let port = list_or_any(&rule["ports"], |port| port_matches(port, flow));
                all([whom, port]) == Some(true)
            })
        });
    }
    // Where a Service has nobody behind it there is nothing to allow.
    isolated.then_some(allowed && flow.port.is_some())
}

fn ordered(policies: &[Value], tier: &str, flow: &Flow, inbound: bool) -> Option<Word> {
    let (pod, other) = ends(flow, inbound)?;
    let (section, peers) = if inbound { ("ingress", "from") } else { ("egress", "to") };
    let mut tiers: Vec<&Value> = policies.iter().filter(|policy| policy["spec"]["tier"] == tier).collect();
    tiers.sort_by_key(|policy| (policy["spec"]["priority"].as_u64(), policy["metadata"]["name"].to_string()));
    let mut may_have_passed = false;
    for policy in tiers {
        let subject = &policy["spec"]["subject"];
        let selected = match subject["namespaces"].is_object() {
            true => labels_match(&subject["namespaces"], ("team", pod.team)),
            false => {
                labels_match(&subject["pods"]["namespaceSelector"], ("team", pod.team))
                    && labels_match(&subject["pods"]["podSelector"], ("app", pod.app))
            }
        };
        for rule in policy["spec"][section].as_array().into_iter().flatten().filter(|_| selected) {
            let ports = list_or_any(&rule["protocols"], |one| protocol_matches(one, flow));
            let whom = any(rule[peers].as_array().unwrap().iter().map(|peer| peer_matches(peer, other, None)));
            match (rule["action"].as_str().unwrap(), all([ports, whom])) {
                (_, Some(false)) | ("Accept", None) => {}
                ("Deny", _) => return Some(Word::Deny),
                ("Accept", Some(true)) if may_have_passed => return Some(Word::Pass),
                ("Accept", Some(true)) => return Some(Word::Allow),
                (_, Some(true)) => return Some(Word::Pass),
                (_, None) => may_have_passed = true,
            }
        }
    }
    None
}

fn protocol_matches(one: &Value, flow: &Flow) -> Option<bool> {
    if let Some(name) = one["destinationNamedPort"].as_str() {
        return port_matches(&json!({"protocol": flow.transport, "port": name}), flow);
    }
    let (kind, port) = one.as_object().unwrap().iter().next().unwrap();
    let (kind, port) = (kind.to_uppercase(), &port["destinationPort"]);
    let wanted = match (&port["number"], &port["range"]) {
        (Value::Null, Value::Null) => json!({"protocol": kind}),
        (Value::Null, range) => json!({"protocol": kind, "port": range["start"], "endPort": range["end"]}),
        (number, _) => json!({"protocol": kind, "port": number}),
    };
    port_matches(&wanted, flow)
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

const SOURCES: [&str; 8] =
    ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2", STRANGER, UNREGISTERED, "192.168.1.1", "192.168.1.2"];
const DESTINATIONS: [&str; 13] = [
    "10.0.0.1",
    "10.0.0.2",
    "fd00::2",
    "10.0.1.1",
    "10.0.1.2",
    STRANGER,
    UNREGISTERED,
    "192.168.1.1",
    "10.96.0.1",
    "fd00:96::1",
    "10.96.0.2",
    "10.96.0.3",
    "10.96.0.4",
];
/// What a source may prove, its own or not.
const IDENTITIES: [&str; 3] = [
    "spiffe://cluster.local/ns/shop/sa/web",
    "spiffe://cluster.local/ns/office/sa/clerk",
    "spiffe://elsewhere/ns/shop/sa/web",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_are_those_of_a_straight_line_reading(
        mut policies in prop::collection::vec(prop_oneof![network_policy(), cluster_policy()], 1..5),
        identity in prop::option::of(prop::sample::select(&IDENTITIES[..])),
    ) {
        for (index, policy) in policies.iter_mut().enumerate() {
            policy["metadata"]["name"] = format!("p{index}").into();
        }
        let text: Vec<String> = policies.iter().map(Value::to_string).collect();
        let world = world(&text.join("\n---\n"));
        let pairs = SOURCES.into_iter().flat_map(|from| DESTINATIONS.into_iter().map(move |to| (from, to)));
        for (from, to) in pairs.filter(|(from, to)| from != to) {
            for (port, transport) in [(8080, "TCP"), (9090, "TCP"), (53, "UDP"), (8500, "TCP"), (9090, "SCTP")] {
                let asked = json!({
                    "src": {"ip": from, "principal": identity}, "dst": {"ip": to, "port": port},
                    "protocol": transport.to_lowercase(), "transport": transport.to_lowercase(),
                });
                let (allowed, because) = decide(&world, &asked);
                let expected = flows(from, to, port, transport).iter().all(|flow| expected(&policies, flow));
                prop_assert_eq!(allowed, expected, "{} {}", asked, because);
            }
        }
    }
}
