//! Random registries: every kind of end can occur, two owners of one address and shared nodes included.

use std::net::IpAddr;
use std::sync::Arc;

use eastwall_policy::facts::Transport;
use eastwall_policy::registry::{
    ApplicationProtocol, DeclaredPort, Labels, Node, Probe, Registry, Service, ServicePort, TargetPort, Workload,
    WorkloadId,
};
use proptest::prelude::*;

use super::{ACCOUNTS, APPS, NAMESPACES, PORT_NAMES, PORTS, word};

/// Up to five workloads, two Services and two nodes at addresses of the universe.
pub(crate) fn registry() -> impl Strategy<Value = Registry> {
    let workloads = prop::collection::vec(workload(), 1..6);
    (workloads, prop::collection::vec(service(), 0..3), 0..3_usize).prop_map(|(mut workloads, mut services, nodes)| {
        for (index, workload) in workloads.iter_mut().enumerate() {
            workload.name = format!("pod-{index}").into();
            if !workload.ips.is_empty() && !workload.host_network && index != 4 {
                // The last one may sit at another's address: an address with two owners.
                workload.ips[0] = address(&format!("10.0.0.{}", index + 1));
            }
        }
        for (index, service) in services.iter_mut().enumerate() {
            service.name = format!("svc-{index}").into();
            service.endpoints.retain(|endpoint| (endpoint.0 as usize) < workloads.len());
            service.endpoints.dedup();
        }
        let nodes = (1..=nodes)
            .map(|index| Node { name: format!("n{index}").into(), ips: vec![address(&format!("192.168.1.{index}"))] })
            .collect();
        Registry::new(workloads, services, nodes)
    })
}

fn workload() -> impl Strategy<Value = Workload> {
    let who = (word(NAMESPACES), word(ACCOUNTS), word(APPS));
    let place = (
        prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]),
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.8, word(&["n1", "n1", "n2"])),
    );
    let ports = prop::collection::vec(declared_port(), 0..4);
    (who, place, ports, prop::collection::vec(probe(), 0..3), (annotations(), annotations())).prop_map(
        |((namespace, service_account, app), (ip, dual, host_network, node), ports, probes, annotations)| {
            let team: Arc<str> = if &*namespace == "shop" { "blue".into() } else { "red".into() };
            let mut ips = vec![if host_network { address("192.168.1.1") } else { address(ip) }];
            if dual && !host_network {
                ips.push(address(&format!("fd00::{}", ip.rsplit('.').next().unwrap())));
            }
            Workload {
                name: "".into(),
                service_account,
                labels: Labels::from([("app".into(), app)]),
                namespace_labels: Labels::from([
                    ("team".into(), team),
                    ("kubernetes.io/metadata.name".into(), Arc::clone(&namespace)),
                ]),
                namespace,
                annotations: annotations.0,
                namespace_annotations: annotations.1,
                node,
                host_network,
                netns: None,
                ips,
                ports,
                probes,
            }
        },
    )
}

fn annotations() -> impl Strategy<Value = Labels> {
    let annotation = prop_oneof![
        word(&["deny", "open"]).prop_map(|value| ("policy".into(), value)),
        word(&["80", "8080,9000-9999", "http"]).prop_map(|value| ("ports".into(), value)),
    ];
    prop::collection::vec(annotation, 0..3).prop_map(Labels::from_iter)
}

fn declared_port() -> impl Strategy<Value = DeclaredPort> {
    (prop::option::of(word(PORT_NAMES)), prop::sample::select(PORTS), transport()).prop_map(
        |(name, port, transport)| DeclaredPort {
            application: name.as_deref().filter(|name| *name == "http").map(|_| ApplicationProtocol::Http),
            name,
            port,
            transport,
        },
    )
}

fn probe() -> impl Strategy<Value = Probe> {
    (prop::sample::select(PORTS), prop::option::weighted(0.7, word(&["/a", "/a", "/a?q"])))
        .prop_map(|(port, path)| Probe { port, path, method: "GET".into() })
}

fn service() -> impl Strategy<Value = Service> {
    let ports = prop::collection::vec(
        (prop::sample::select(PORTS), transport(), target()).prop_map(|(port, transport, target)| ServicePort {
            name: None,
            port,
            target,
            transport,
        }),
        0..3,
    );
    let ips = prop::sample::select(vec![None, Some("10.96.0.1"), Some("10.96.0.2")]);
    let endpoints = prop::collection::vec((0..5_u32).prop_map(WorkloadId), 0..3);
    let elsewhere = prop::sample::select(vec![None, None, Some("192.168.1.1"), Some("10.0.0.1"), Some("203.0.113.7")]);
    (word(NAMESPACES), ips, ports, endpoints, elsewhere).prop_map(|(namespace, ip, ports, endpoints, other)| Service {
        name: "".into(),
        namespace,
        ips: ip.into_iter().map(address).collect(),
        ports,
        endpoints,
        elsewhere: other.into_iter().map(address).collect(),
    })
}

fn target() -> impl Strategy<Value = TargetPort> {
    prop_oneof![prop::sample::select(PORTS).prop_map(TargetPort::Number), word(PORT_NAMES).prop_map(TargetPort::Name)]
}

/// Mostly TCP.
pub(crate) fn transport() -> impl Strategy<Value = Transport> + Clone {
    prop_oneof![6 => Just(Transport::Tcp), 1 => Just(Transport::Udp), 1 => Just(Transport::Sctp)]
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
