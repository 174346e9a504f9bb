//! Who is where.

use std::sync::Arc;

use eastwall_policy::dialect::{Compiled, compile};
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use serde_json::{Value, json};

/// A pod, as a network plugin knows it.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    /// A label of the namespace.
    pub(crate) team: &'static str,
    /// A label of its own.
    pub(crate) app: &'static str,
    pub(crate) node: &'static str,
    /// It shares its node's address.
    pub(crate) host_network: bool,
    pub(crate) ips: &'static [&'static str],
    /// Name, number, transport.
    pub(crate) ports: &'static [(&'static str, u16, &'static str)],
}

/// A Service, for TCP alone.
#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    pub(crate) ips: &'static [&'static str],
    pub(crate) port: u16,
    /// Name of the endpoints' port.
    pub(crate) target: &'static str,
    /// Names of pods.
    pub(crate) endpoints: &'static [&'static str],
}

pub(crate) const PODS: [Pod; 5] = [
    Pod {
        name: "web",
        namespace: "shop",
        team: "blue",
        app: "web",
        node: "n1",
        host_network: false,
        ips: &["10.0.0.1"],
        ports: &[("http", 8080, "TCP")],
    },
    Pod {
        name: "orders",
        namespace: "shop",
        team: "blue",
        app: "orders",
        node: "n1",
        host_network: false,
        ips: &["10.0.0.2", "fd00::2"],
        ports: &[("http", 9090, "TCP"), ("dns", 53, "UDP")],
    },
    Pod {
        name: "clerk",
        namespace: "office",
        team: "red",
        app: "web",
        node: "n2",
        host_network: false,
        ips: &["10.0.1.1"],
        ports: &[("http", 8080, "TCP"), ("admin", 9000, "TCP")],
    },
    Pod {
        name: "batch",
        namespace: "office",
        team: "red",
        app: "batch",
        node: "n2",
        host_network: false,
        ips: &["10.0.1.2"],
        ports: &[],
    },
    Pod {
        name: "agent",
        namespace: "office",
        team: "red",
        app: "web",
        node: "n1",
        host_network: true,
        ips: &["192.168.1.1"],
        ports: &[("http", 8080, "TCP")],
    },
];

pub(crate) const SERVICES: [Service; 4] = [
    Service {
        name: "front",
        ips: &["10.96.0.1", "fd00:96::1"],
        port: 8080,
        target: "http",
        endpoints: &["web", "orders"],
    },
    Service { name: "both", ips: &["10.96.0.2"], port: 8080, target: "http", endpoints: &["orders", "clerk"] },
    Service { name: "empty", ips: &["10.96.0.3"], port: 8080, target: "http", endpoints: &[] },
    Service { name: "agents", ips: &["10.96.0.4"], port: 8080, target: "http", endpoints: &["agent"] },
];

/// Name and address.
pub(crate) const NODES: [(&str, &str); 2] = [("n1", "192.168.1.1"), ("n2", "192.168.1.2")];
/// Outside of the cluster.
pub(crate) const STRANGER: &str = "203.0.113.7";
/// Inside, and nobody says who is there.
pub(crate) const UNREGISTERED: &str = "10.0.9.9";

pub(crate) fn registry() -> Arc<Registry> {
    let pods = PODS.iter().map(|pod| {
        let ports: Vec<Value> = pod
            .ports
            .iter()
            .map(|(name, port, protocol)| json!({"name": name, "port": port, "protocol": protocol}))
            .collect();
        json!({
            "name": pod.name, "namespace": pod.namespace, "serviceAccount": pod.name, "node": pod.node,
            "namespaceLabels": {"team": pod.team}, "labels": {"app": pod.app},
            "hostNetwork": pod.host_network, "ips": pod.ips, "ports": ports,
        })
    });
    let services = SERVICES.iter().map(|service| {
        let namespace_of = |name: &str| PODS.iter().find(|pod| pod.name == name).unwrap().namespace;
        let endpoints: Vec<String> =
            service.endpoints.iter().map(|name| format!("{}/{name}", namespace_of(name))).collect();
        json!({
            "kind": "Service", "name": service.name, "namespace": "shop", "ips": service.ips,
            "ports": [{"port": service.port, "targetPort": service.target}], "endpoints": endpoints,
        })
    });
    let nodes = NODES.iter().map(|(name, ip)| json!({"kind": "Node", "name": name, "ips": [ip]}));
    let entries: Vec<Value> = pods.chain(services).chain(nodes).collect();
    let (registry, findings) = Registry::parse("w.yaml", &json!(entries).to_string().into());
    assert!(findings.is_empty(), "{findings:?}");
    Arc::new(registry)
}

pub(crate) fn compiled(text: &str) -> Compiled {
    compile(&source::parse("p.yaml", &text.into()))
}

pub(crate) fn world(text: &str) -> World {
    let compiled = compiled(text);
    assert!(!compiled.has_errors(), "{text} {:?}", compiled.diagnostics);
    World::new(compiled.model, registry(), 1)
}

/// Whether a flow passes, as `decide` is asked; what it answers.
pub(crate) fn decide(world: &World, question: &Value) -> (bool, String) {
    let answer = Question::from_json(question).unwrap().answer(world, 0).unwrap();
    (answer.verdict == Action::Allow, answer.because())
}
