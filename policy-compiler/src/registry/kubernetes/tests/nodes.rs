//! Which addresses are a node's.

use super::{address, joined};
use crate::facts::Place;
use crate::settings::Settings;

#[test]
fn the_first_address_of_a_nodes_range_is_the_nodes() {
    let node = |name: &str, address: &str, ranges: &str| {
        let status = format!("{{addresses: [{{type: InternalIP, address: {address}}}]}}");
        format!(
            "---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, spec: {{podCIDRs: [{ranges}]}}, status: {status}}}\n"
        )
    };
    let pod = |name: &str, ip: &str, host: bool| {
        let spec = format!("{{nodeName: n1, hostNetwork: {host}}}");
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {spec}, status: {{podIP: {ip}}}}}\n"
        )
    };
    let cluster = [
        node("n1", "192.0.2.1", "10.244.0.0/24, \"fd00:244::/64\""),
        node("n2", "192.0.2.2", "10.244.1.77/24"),
        node("n3", "192.0.2.3", "10.244.2.0/24, 10.244.3.9/32"),
        node("n4", "10.244.4.1", "10.244.4.0/24"),
        node("n5", "192.0.2.5", "10.244.5.0/24"),
        node("n6", "192.0.2.6", "10.244.5.0/24"),
        pod("a", "10.244.2.1", false),
        pod("b", "10.244.1.1", true),
        "---\n{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.244.0.3}}\n".into(),
    ];
    let (registry, findings) = joined(&cluster.concat(), "");
    assert_eq!(findings, [""; 0]);
    let at = |text: &str| match registry.place(address(text), &Settings::default()) {
        Place::Node(Some(id)) => registry.node(id).map_or("", |node| &*node.name),
        Place::Workload(_) => "pod",
        _ => "",
    };
    for (ip, owner) in [
        ("10.244.0.1", "n1"),
        ("fd00:244::1", "n1"),
        ("10.244.1.1", "n2"),
        ("10.244.4.1", "n4"),
        // Whoever says to have an address has it, and is not contested.
        ("10.244.2.1", "pod"),
        // Two nodes of one range: nobody's.
        ("10.244.5.1", ""),
        ("10.244.0.0", ""),
        ("10.244.0.2", ""),
        ("10.244.3.9", ""),
    ] {
        assert_eq!(at(ip), owner, "{ip}");
    }
    let (registry, _) = joined(&cluster.concat(), "- {kind: Node, name: n1, ips: [192.0.2.9]}\n");
    assert!(
        !matches!(registry.place(address("10.244.0.1"), &Settings::default()), Place::Node(_)),
        "the file's entry stands for all"
    );
}
