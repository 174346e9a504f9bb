//! Cilium's policies beside a straight-line reading of their documentation: random policies and flows, one verdict.
//!
//! The evaluator here knows nothing of the model. It walks the rules of every policy that selects an end, in the words
//! of Cilium: selected and not allowed is denied, a deny comes first, both ends must agree.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

use std::fmt::Write;
use std::sync::Arc;

use eastwall_policy::dialect::compile;
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

const WORKLOADS: &str = "
- {name: web, namespace: default, serviceAccount: web, labels: {app: web}, node: n1, ips: [10.1.0.10], ports: [{name: http, port: 8080}, {name: ask, port: 53, protocol: UDP}]}
- {name: client, namespace: default, serviceAccount: luke, labels: {app: client, env: prod}, node: n1, ips: [10.1.0.11], ports: [{name: http, port: 80}]}
- {name: other, namespace: ns2, serviceAccount: luke, labels: {app: client}, node: n2, ips: [10.2.0.11]}
- {kind: Node, name: n1, ips: [192.168.1.1]}
- {kind: Node, name: n2, ips: [192.168.1.2]}
";

/// One end, as everybody knows it.
#[derive(Debug)]
struct Pod {
    namespace: &'static str,
    account: &'static str,
    labels: &'static [(&'static str, &'static str)],
    node: &'static str,
    ports: &'static [(&'static str, u16, &'static str)],
}

const ENDS: [(&str, Option<Pod>); 6] = [
    (
        "10.1.0.10",
        Some(Pod {
            namespace: "default",
            account: "web",
            labels: &[("app", "web")],
            node: "192.168.1.1",
            ports: &[("http", 8080, "tcp"), ("ask", 53, "udp")],
        }),
    ),
    (
        "10.1.0.11",
        Some(Pod {
            namespace: "default",
            account: "luke",
            labels: &[("app", "client"), ("env", "prod")],
            node: "192.168.1.1",
            ports: &[("http", 80, "tcp")],
        }),
    ),
    (
        "10.2.0.11",
        Some(Pod { namespace: "ns2", account: "luke", labels: &[("app", "client")], node: "192.168.1.2", ports: &[] }),
    ),
    ("192.168.1.1", None),
    ("192.168.1.2", None),
    ("203.0.113.9", None),
];

/// One requirement of a selector: key, operator, value.
type Requirement = (&'static str, &'static str, &'static str);

#[derive(Clone, Debug)]
enum Peers {
    Missing,
    Endpoints(Vec<Vec<Requirement>>),
    Entities(Vec<&'static str>),
    Networks(Vec<(&'static str, Option<&'static str>)>),
    Names(Vec<&'static str>),
}

/// Port, last port and protocol as written.
type Port = (&'static str, Option<u16>, Option<&'static str>);

#[derive(Clone, Debug)]
enum Content {
    Anything,
    Http(Vec<Http>),
    ServerNames(Vec<&'static str>),
    Dns(Vec<&'static str>),
}

#[derive(Clone, Debug)]
struct Http {
    method: Option<&'static str>,
    path: Option<&'static str>,
    host: Option<&'static str>,
    header: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Rule {
    deny: bool,
    egress: bool,
    peers: Peers,
    /// Each with what may pass on it; none: every port.
    ports: Vec<(Vec<Port>, Content)>,
}

#[derive(Clone, Debug)]
struct Policy {
    clusterwide: bool,
    namespace: &'static str,
    subject: Vec<Requirement>,
    rules: Vec<Rule>,
    default_deny: (Option<bool>, Option<bool>),
}

#[derive(Clone, Debug)]
struct Flow {
    source: usize,
    destination: usize,
    port: u16,
    protocol: &'static str,
    method: &'static str,
    path: &'static str,
    host: &'static str,
    header: Option<&'static str>,
    name: Option<&'static str>,
}

// === as it is written ===

impl Policy {
    fn yaml(&self, index: usize) -> String {
        let mut out = String::from("---\napiVersion: cilium.io/v2\n");
        let name = format!("p{index}");
        if self.clusterwide {
            write!(out, "kind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: {name}}}\n").unwrap();
        } else {
            write!(out, "kind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: {}}}\n", self.namespace)
                .unwrap();
        }
        write!(out, "spec:\n  endpointSelector: {}\n", selector(&self.subject)).unwrap();
        for (section, egress, deny) in [
            ("ingress", false, false),
            ("ingressDeny", false, true),
            ("egress", true, false),
            ("egressDeny", true, true),
        ] {
            let rules: Vec<String> = self.of(egress, deny).map(Rule::yaml).collect();
            if !rules.is_empty() {
                writeln!(out, "  {section}: [{}]", rules.join(", ")).unwrap();
            }
        }
        let switches = [("ingress", self.default_deny.0), ("egress", self.default_deny.1)];
        let switches: Vec<String> =
            switches.iter().filter_map(|(name, value)| Some(format!("{name}: {}", (*value)?))).collect();
        if !switches.is_empty() {
            writeln!(out, "  enableDefaultDeny: {{{}}}", switches.join(", ")).unwrap();
        }
        out
    }

    fn of(&self, egress: bool, deny: bool) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| (rule.egress, rule.deny) == (egress, deny))
    }
}

fn selector(requirements: &[Requirement]) -> String {
    let items: Vec<String> = requirements
        .iter()
        .map(|(key, operator, value)| {
            let values = if operator.ends_with("In") { format!(", values: [{value}]") } else { String::new() };
            format!("{{key: \"{key}\", operator: {operator}{values}}}")
        })
        .collect();
    format!("{{matchExpressions: [{}]}}", items.join(", "))
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}

impl Rule {
    fn yaml(&self) -> String {
        let way = if self.egress { "to" } else { "from" };
        let mut parts = Vec::new();
        match &self.peers {
            Peers::Missing => {}
            Peers::Endpoints(selectors) => {
                let selectors: Vec<String> = selectors.iter().map(|one| selector(one)).collect();
                parts.push(format!("{way}Endpoints: [{}]", selectors.join(", ")));
            }
            Peers::Entities(names) => parts.push(format!("{way}Entities: [{}]", quoted(names))),
            Peers::Networks(networks) => {
                let each = networks.iter().map(|(net, except)| match except {
                    Some(hole) => format!("{{cidr: {net}, except: [{hole}]}}"),
                    None => format!("{{cidr: {net}}}"),
                });
                parts.push(format!("{way}CIDRSet: [{}]", each.collect::<Vec<_>>().join(", ")));
            }
            Peers::Names(names) => {
                let each = names.iter().map(|name| format!("{{matchPattern: '{name}'}}"));
                parts.push(format!("toFQDNs: [{}]", each.collect::<Vec<_>>().join(", ")));
            }
        }
        if !self.ports.is_empty() {
            let each = self.ports.iter().map(|(ports, content)| {
                let ports = ports.iter().map(|(port, end, protocol)| {
                    let end = end.map(|end| format!(", endPort: {end}")).unwrap_or_default();
                    let protocol = protocol.map(|protocol| format!(", protocol: {protocol}")).unwrap_or_default();
                    format!("{{port: '{port}'{end}{protocol}}}")
                });
                format!("{{ports: [{}]{}}}", ports.collect::<Vec<_>>().join(", "), content.yaml())
            });
            parts.push(format!("toPorts: [{}]", each.collect::<Vec<_>>().join(", ")));
        }
        format!("{{{}}}", parts.join(", "))
    }
}

impl Content {
    fn yaml(&self) -> String {
        match self {
            Self::Anything => String::new(),
            Self::ServerNames(names) => format!(", serverNames: [{}]", quoted(names)),
            Self::Dns(names) => {
                let each: Vec<String> = names.iter().map(|name| format!("{{matchPattern: '{name}'}}")).collect();
                format!(", rules: {{dns: [{}]}}", each.join(", "))
            }
            Self::Http(rules) => {
                let each = rules.iter().map(|rule| {
                    let field = |name: &str, value: Option<&str>| value.map(|value| format!("{name}: '{value}'"));
                    let header = rule.header.map(|header| format!("headers: ['{header}']"));
                    let fields =
                        [field("method", rule.method), field("path", rule.path), field("host", rule.host), header];
                    format!("{{{}}}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
                });
                format!(", rules: {{http: [{}]}}", each.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

// === as it is meant ===

/// Whether Cilium lets it pass.
fn passes(policies: &[Policy], flow: &Flow) -> bool {
    let ways = [(true, flow.source, flow.destination), (false, flow.destination, flow.source)];
    ways.into_iter().all(|(egress, subject, peer)| {
        let Some(pod) = &ENDS[subject].1 else { return true };
        let selecting: Vec<&Policy> = policies.iter().filter(|policy| selects(policy, pod)).collect();
        let hits = |deny: bool| {
            let rules = selecting.iter().flat_map(|policy| policy.of(egress, deny).map(move |rule| (*policy, rule)));
            rules.into_iter().any(|(policy, rule)| hits(policy, rule, subject, peer, flow))
        };
        let isolated = selecting.iter().any(|policy| {
            let switch = if egress { policy.default_deny.1 } else { policy.default_deny.0 };
            switch.unwrap_or_else(|| policy.rules.iter().any(|rule| rule.egress == egress))
        });
        let own_node = !egress && ENDS[peer].0 == pod.node;
        !hits(true) && (!isolated || own_node || hits(false))
    })
}

fn selects(policy: &Policy, pod: &Pod) -> bool {
    (policy.clusterwide || policy.namespace == pod.namespace) && policy.subject.iter().all(|one| holds(one, Some(pod)))
}

/// Labels that are missing satisfy `NotIn` and `DoesNotExist`, whoever lacks them.
fn holds((key, operator, value): &Requirement, pod: Option<&Pod>) -> bool {
    let plain = key.strip_prefix("k8s:").unwrap_or(key);
    let label = pod.and_then(|pod| match plain {
        "io.kubernetes.pod.namespace" => Some(pod.namespace),
        "io.cilium.k8s.policy.serviceaccount" => Some(pod.account),
        _ => pod.labels.iter().find(|(name, _)| *name == plain).map(|(_, value)| *value),
    });
    match *operator {
        "In" => label == Some(value),
        "NotIn" => label != Some(value),
        "Exists" => label.is_some(),
        _ => label.is_none(),
    }
}

fn hits(policy: &Policy, rule: &Rule, subject: usize, peer: usize, flow: &Flow) -> bool {
    let (address, pod) = &ENDS[peer];
    let pod = pod.as_ref();
    let is_node = address.starts_with("192.168.");
    let is_world = pod.is_none() && !is_node;
    let own_node = ENDS[subject].1.as_ref().is_some_and(|subject| subject.node == *address);
    let peers = match &rule.peers {
        Peers::Missing => !rule.ports.is_empty(),
        Peers::Endpoints(selectors) => selectors.iter().any(|selector| {
            let names_namespace = selector.iter().any(|(key, ..)| key.ends_with("io.kubernetes.pod.namespace"));
            let scoped = match pod {
                _ if names_namespace => true,
                Some(pod) => policy.clusterwide || pod.namespace == policy.namespace,
                None => false,
            };
            scoped && selector.iter().all(|one| holds(one, pod))
        }),
        Peers::Entities(names) => names.iter().any(|name| match *name {
            "all" => true,
            "world" => is_world,
            "cluster" => !is_world,
            "host" => own_node,
            "remote-node" => is_node && !own_node,
            _ => false,
        }),
        Peers::Networks(networks) => networks.iter().any(|(net, except)| {
            let within = |net: &str| {
                net.parse::<ipnet::IpNet>().unwrap().contains(&address.parse::<std::net::IpAddr>().unwrap())
            };
            is_world && within(net) && !except.is_some_and(within)
        }),
        Peers::Names(names) => {
            is_world && flow.name.is_some_and(|name| names.iter().any(|pattern| glob(pattern, name)))
        }
    };
    peers
        && (rule.ports.is_empty()
            || rule
                .ports
                .iter()
                .any(|(ports, content)| ports.iter().any(|port| is_port(port, rule.deny, flow)) && content.lets(flow)))
}

fn transport(flow: &Flow) -> &'static str {
    match flow.protocol {
        "udp" | "dns" => "udp",
        "sctp" => "sctp",
        _ => "tcp",
    }
}

fn is_port((port, end, protocol): &Port, deny: bool, flow: &Flow) -> bool {
    let over = protocol.is_none_or(|protocol| protocol == "ANY" || protocol.eq_ignore_ascii_case(transport(flow)));
    over && match port.parse::<u16>() {
        Ok(0) => true,
        Ok(first) => first <= flow.port && flow.port <= end.unwrap_or(first),
        // Which of the pods that share a node's address listens there is not known: enough for a deny alone.
        Err(_) if ENDS[flow.destination].0.starts_with("192.168.") => deny,
        Err(_) => ENDS[flow.destination].1.as_ref().is_some_and(|pod| {
            pod.ports.iter().any(|(name, number, over)| {
                name.eq_ignore_ascii_case(port) && *number == flow.port && *over == transport(flow)
            })
        }),
    }
}

/// `*` is any run of letters of a name, so never a dot; alone it is everything; `**.` in front is one label or more.
fn glob(pattern: &str, name: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if let Some(rest) = pattern.strip_prefix("**.") {
        return name.match_indices('.').any(|(at, _)| at > 0 && glob(rest, &name[at + 1..]));
    }
    let (mut pattern, mut name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    loop {
        match (pattern.chars().next(), name.chars().next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                let rest = pattern.split_off(1);
                let run = name.chars().take_while(|c| *c != '.').count();
                return (0..=run).any(|at| glob_rest(&rest, &name[at..]));
            }
            (Some(a), Some(b)) if a == b => {
                pattern.remove(0);
                name.remove(0);
            }
            _ => return false,
        }
    }
}

fn glob_rest(pattern: &str, name: &str) -> bool {
    if pattern.is_empty() {
        name.is_empty()
    } else if pattern == "*" {
        !name.contains('.')
    } else {
        glob(pattern, name)
    }
}

impl Content {
    fn lets(&self, flow: &Flow) -> bool {
        let is_http = matches!(flow.protocol, "http" | "http2" | "grpc");
        match self {
            Self::Anything => true,
            Self::ServerNames(names) => {
                flow.protocol == "tls" && flow.name.is_some_and(|name| names.iter().any(|pattern| glob(pattern, name)))
            }
            Self::Dns(names) => {
                flow.protocol == "dns" && flow.name.is_some_and(|name| names.iter().any(|pattern| glob(pattern, name)))
            }
            Self::Http(rules) => is_http && (rules.is_empty() || rules.iter().any(|rule| rule.lets(flow))),
        }
    }
}

impl Http {
    fn lets(&self, flow: &Flow) -> bool {
        let method = if flow.protocol == "grpc" { "POST" } else { flow.method };
        let method = self.method.is_none_or(|wanted| match wanted {
            "GET|HEAD" => method == "GET" || method == "HEAD",
            "G.*" => method.starts_with('G'),
            literal => method == literal,
        });
        let path = self.path.is_none_or(|wanted| match wanted {
            "/a.*" => flow.path.starts_with("/a"),
            "/[a-b]" => flow.path == "/a" || flow.path == "/b",
            "/a(\\?.*)?$" => flow.path == "/a" || flow.path.starts_with("/a?"),
            ".*c" => flow.path.ends_with('c'),
            literal => flow.path == literal,
        });
        let host = self.host.is_none_or(|wanted| match wanted {
            "a.example(:[0-9]+)?" => {
                let (name, port) =
                    flow.host.split_once(':').map_or((flow.host, None), |(name, port)| (name, Some(port)));
                name.len() == 9
                    && name.starts_with('a')
                    && name.ends_with("example")
                    && port.is_none_or(|port| !port.is_empty())
            }
            "a[.]example" => flow.host == "a.example",
            exact => panic!("no meaning for {exact}"),
        });
        let header = self.header.is_none_or(|wanted| match wanted.split_once(": ") {
            Some((_, value)) => flow.header == Some(value),
            None => flow.header.is_some(),
        });
        method && path && host && header
    }
}

// === what is tried ===

fn requirement() -> impl Strategy<Value = Requirement> {
    select(vec![
        ("app", "In", "client"),
        ("k8s:app", "In", "web"),
        ("app", "NotIn", "client"),
        ("env", "Exists", ""),
        ("env", "DoesNotExist", ""),
        ("k8s:io.kubernetes.pod.namespace", "In", "ns2"),
        ("io.kubernetes.pod.namespace", "NotIn", "ns2"),
        ("io.kubernetes.pod.namespace", "Exists", ""),
        ("io.cilium.k8s.policy.serviceaccount", "In", "luke"),
    ])
}

fn peers(deny: bool, egress: bool) -> impl Strategy<Value = Peers> {
    let selectors = prop::collection::vec(prop::collection::vec(requirement(), 0..3), 0..3);
    let entities = prop::collection::vec(select(vec!["all", "world", "cluster", "host", "remote-node", "none"]), 0..3);
    let networks = prop::collection::vec(
        select(vec![
            ("0.0.0.0/0", None),
            ("203.0.113.0/24", None),
            ("203.0.113.0/24", Some("203.0.113.8/30")),
            ("10.0.0.0/8", None),
            ("192.168.0.0/16", None),
        ]),
        0..3,
    );
    let names = prop::collection::vec(name_pattern(), 1..3).prop_map(Peers::Names);
    prop_oneof![
        1 => Just(Peers::Missing),
        3 => selectors.prop_map(Peers::Endpoints),
        2 => entities.prop_map(Peers::Entities),
        1 => networks.prop_map(Peers::Networks),
        (if egress && !deny { 1 } else { 0 }) => names,
    ]
}

fn name_pattern() -> impl Strategy<Value = &'static str> {
    select(vec!["a.example", "*.example", "**.example", "*", "*example", "A*.Example"])
}

fn port() -> impl Strategy<Value = Port> {
    let port = select(vec![("80", None), ("80", Some(90)), ("8080", None), ("0", None), ("http", None), ("ASK", None)]);
    let protocol = select(vec![None, Some("ANY"), Some("TCP"), Some("UDP")]);
    (port, protocol).prop_map(|((port, end), protocol)| (port, end, protocol))
}

fn http() -> impl Strategy<Value = Http> {
    (
        select(vec![None, Some("GET"), Some("GET|HEAD"), Some("G.*"), Some("get")]),
        select(vec![None, Some("/a"), Some("/a.*"), Some("/[a-b]"), Some("/a(\\?.*)?$"), Some(".*c"), Some("/{id}")]),
        select(vec![None, None, Some("a[.]example"), Some("a.example(:[0-9]+)?")]),
        select(vec![None, None, Some("X-Key: 1"), Some("x-key")]),
    )
        .prop_map(|(method, path, host, header)| Http { method, path, host, header })
}

fn port_rule(deny: bool, egress: bool) -> impl Strategy<Value = (Vec<Port>, Content)> {
    let ports = || prop::collection::vec(port(), 1..3);
    let tcp = select(vec![("80", None, Some("TCP")), ("80", Some(90), Some("TCP")), ("http", None, Some("TCP"))]);
    let tcp = prop::collection::vec(tcp, 1..3);
    let rules = prop::collection::vec(http(), 0..3).prop_map(Content::Http);
    let names = || prop::collection::vec(name_pattern(), 1..3);
    let dns = Just(vec![("53", None, Some("ANY"))]);
    prop_oneof![
        3 => (ports(), Just(Content::Anything)),
        (if deny { 0 } else { 3 }) => (tcp, rules),
        (if deny { 0 } else { 1 }) => (ports(), names().prop_map(Content::ServerNames)),
        (if deny || !egress { 0 } else { 1 }) => (dns, names().prop_map(Content::Dns)),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    (prop::bool::weighted(0.25), any::<bool>()).prop_flat_map(|(deny, egress)| {
        (peers(deny, egress), prop::collection::vec(port_rule(deny, egress), 0..3))
            .prop_map(move |(peers, ports)| Rule { deny, egress, peers, ports })
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let switch = || prop::option::weighted(0.1, any::<bool>());
    (
        prop::bool::weighted(0.3),
        select(vec!["default", "default", "ns2"]),
        prop::collection::vec(select(vec![("app", "In", "web"), ("app", "In", "client"), ("env", "Exists", "")]), 0..2),
        prop::collection::vec(rule(), 1..5),
        (switch(), switch()),
    )
        .prop_map(|(clusterwide, namespace, subject, rules, default_deny)| Policy {
            clusterwide,
            namespace,
            subject,
            rules,
            default_deny,
        })
}

fn flow() -> impl Strategy<Value = Flow> {
    let protocol = select(vec!["tcp", "udp", "sctp", "tls", "dns", "http", "http", "http", "http2", "grpc"]);
    (
        (0..ENDS.len(), 0..ENDS.len(), select(vec![80_u16, 85, 8080, 53, 443]), protocol),
        select(vec!["GET", "HEAD", "POST"]),
        select(vec!["/a", "/b", "/c", "/a/c", "/ab", "/a?c", "/b?a=c"]),
        select(vec!["a.example", "a.example:80", "axexample", "b.example"]),
        select(vec![None, Some("1"), Some("2")]),
        select(vec![None, Some("a.example"), Some("a.b.example"), Some("example"), Some("xexample")]),
    )
        .prop_map(|((source, destination, port, protocol), method, path, host, header, name)| Flow {
            source,
            destination,
            port,
            protocol,
            method,
            path,
            host,
            header,
            name: if protocol == "dns" { name.or(Some("a.example")) } else { name },
        })
}

impl Flow {
    fn question(&self) -> Question {
        let mut asked = json!({
            "src": {"ip": ENDS[self.source].0},
            "dst": {"ip": ENDS[self.destination].0, "port": self.port},
            "protocol": self.protocol, "transport": transport(self),
        });
        if matches!(self.protocol, "http" | "http2" | "grpc") {
            let (path, query) =
                self.path.split_once('?').map_or((self.path, None), |(path, query)| (path, Some(query)));
            asked["method"] = if self.protocol == "grpc" { "POST" } else { self.method }.into();
            asked["path"] = path.into();
            asked["host"] = self.host.into();
            if let Some(query) = query {
                asked["query"] = query.into();
            }
            if let Some(header) = self.header {
                asked["headers"] = json!([["x-key", header]]);
            }
        }
        match (self.protocol, self.name) {
            ("tls", Some(name)) => asked["sni"] = name.into(),
            ("dns", Some(name)) => asked["qname"] = name.into(),
            _ => {}
        }
        if let Some(name) = self.name {
            asked["dst"]["fqdn"] = name.into();
        }
        Question::from_json(&asked).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn policies_mean_what_cilium_says(
        policies in prop::collection::vec(policy(), 1..4),
        flows in prop::collection::vec(flow(), 1..24),
    ) {
        let text: Arc<str> = policies.iter().enumerate().map(|(at, policy)| policy.yaml(at)).collect::<String>().into();
        let compiled = compile(&source::parse("p.yaml", &text));
        prop_assert!(!compiled.has_errors(), "{text}\n{:#?}", compiled.diagnostics);
        let (registry, found) = Registry::parse("w.yaml", &WORKLOADS.into());
        prop_assert!(found.is_empty());
        let world = World::new(compiled.model, Arc::new(registry), 1);
        for flow in flows.iter().filter(|flow| flow.source != flow.destination) {
            let answer = flow.question().answer(&world, 0).unwrap();
            let expected = if passes(&policies, flow) { Action::Allow } else { Action::Deny };
            prop_assert_eq!(answer.verdict, expected, "{:?}\n{}\n{:?}", flow, text, answer);
        }
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(512)
}
