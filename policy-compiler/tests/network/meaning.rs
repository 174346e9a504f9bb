//! What a policy means, by example.

use eastwall_policy::analysis::check::check;
use eastwall_policy::registry::Registry;
use eastwall_policy::world::World;
use serde_json::json;

use super::cast::{STRANGER, UNREGISTERED, compiled, decide, registry, world};

/// A ClusterNetworkPolicy for every pod.
fn cluster(tier: &str, priority: u32, rules: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {}-{priority}}}\nspec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, {rules}}}\n",
        tier.to_lowercase()
    )
}

fn egress(rules: &str) -> String {
    cluster("Admin", 1, &format!("egress: [{rules}]"))
}

fn allows(text: &str, from: &str, to: &str) -> bool {
    let asked = json!({"src": {"ip": from}, "dst": {"ip": to, "port": 8080}, "protocol": "tcp"});
    decide(&world(text), &asked).0
}

/// A plugin sees the endpoint, never the Service in front of it, nor the endpoint's other addresses.
#[test]
fn networks_are_about_the_address_that_is_reached() {
    let accept_services =
        egress("{action: Accept, to: [{networks: [10.96.0.0/16]}]}, {action: Deny, to: [{namespaces: {}}]}");
    let deny_services = egress("{action: Deny, to: [{networks: [10.96.0.0/16]}]}");
    let deny_v6 = egress("{action: Deny, to: [{networks: [\"fd00::/8\"]}]}");
    let accept_pods =
        egress("{action: Accept, to: [{networks: [10.0.0.0/24]}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}");
    for (text, to, expected) in [
        (&accept_services, "10.96.0.1", false),
        (&deny_services, "10.96.0.1", true),
        // Of `orders`, which has both families, the one that is reached counts.
        (&deny_v6, "10.96.0.1", true),
        (&deny_v6, "10.0.0.2", true),
        (&deny_v6, "fd00:96::1", false),
        (&deny_v6, "fd00::2", false),
        (&accept_pods, "10.96.0.1", true),
        (&accept_pods, "10.96.0.2", false),
        // Nobody is behind it: not known, so no allow and always a deny.
        (&accept_services, "10.96.0.3", false),
        (&deny_v6, "10.96.0.3", false),
    ] {
        assert_eq!(allows(text, "10.0.1.2", to), expected, "{text} {to}");
    }
}

/// A headless Service is dialled at an address of the endpoint, and a question that names it alone does not say which.
#[test]
fn which_of_several_addresses_is_reached_may_not_be_known() {
    let workloads = "
- {name: web, namespace: shop, ips: [10.0.0.1]}
- {name: orders, namespace: shop, ips: [10.0.0.2, \"fd00::2\"]}
- {kind: Service, name: orders, namespace: shop, ports: [{port: 8080}], endpoints: [shop/orders]}
";
    let (registry, _) = Registry::parse("w.yaml", &workloads.into());
    let registry = std::sync::Arc::new(registry);
    let asked = json!({"src": {"ip": "10.0.0.1"}, "dst": {"service": "shop/orders", "port": 8080}, "protocol": "tcp"});
    for (rules, expected) in [
        ("{action: Deny, to: [{networks: [\"fd00::/8\"]}]}", false),
        ("{action: Deny, to: [{networks: [10.0.1.0/24]}]}", true),
        ("{action: Accept, to: [{networks: [\"fd00::/8\"]}]}, {action: Deny, to: [{namespaces: {}}]}", false),
        (
            "{action: Accept, to: [{networks: [10.0.0.0/8, \"fd00::/8\"]}]}, {action: Deny, to: [{namespaces: {}}]}",
            false,
        ),
    ] {
        let world = World::new(compiled(&egress(rules)).model, std::sync::Arc::clone(&registry), 1);
        assert_eq!(decide(&world, &asked).0, expected, "{rules}");
    }
}

/// A plugin knows addresses, and nothing of certificates: what a peer proves neither opens nor closes anything.
#[test]
fn what_a_peer_proves_does_not_count() {
    let allow_blue = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: office}
spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}
";
    let cilium = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: office}
spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {\"k8s:io.kubernetes.pod.namespace\": shop}}]}]}
";
    let account = cilium.replace(
        "io.kubernetes.pod.namespace\": shop",
        "io.cilium.k8s.policy.serviceaccount\": web, \"k8s:io.kubernetes.pod.namespace\": shop",
    );
    let deny_red = cluster("Admin", 1, "ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: red}}}]}]");
    let shop = "spiffe://cluster.local/ns/shop/sa/web";
    let office = "spiffe://cluster.local/ns/office/sa/batch";
    let foreign = "spiffe://elsewhere/ns/shop/sa/web";
    for (text, from, principal, expected) in [
        (allow_blue, "10.0.1.2", shop, false),
        (allow_blue, "10.0.0.1", office, true),
        (allow_blue, "10.0.0.1", foreign, true),
        (allow_blue, STRANGER, shop, false),
        (allow_blue, UNREGISTERED, shop, false),
        (cilium, "10.0.1.2", shop, false),
        (cilium, "10.0.0.1", office, true),
        (&account, "10.0.1.2", shop, false),
        (&account, "10.0.0.1", office, true),
        (&deny_red, "10.0.1.2", shop, false),
        (&deny_red, "10.0.0.1", office, true),
        (&deny_red, STRANGER, office, true),
    ] {
        let asked = json!({"src": {"ip": from, "principal": principal}, "dst": {"ip": "10.0.1.1", "port": 8080}, "protocol": "tcp"});
        let (allowed, because) = decide(&world(text), &asked);
        assert_eq!(allowed, expected, "{text} {asked} {because}");
    }
}

/// SPEC: left out, the selector of namespaces selects all.
#[test]
fn pods_without_namespaces_are_those_of_all() {
    let text = egress("{action: Deny, to: [{pods: {podSelector: {matchLabels: {app: web}}}}]}");
    for (to, expected) in [("10.0.0.1", false), ("10.0.1.1", false), ("10.0.0.2", true), (STRANGER, true)] {
        assert_eq!(allows(&text, "10.0.1.2", to), expected, "{to}");
    }
}

/// A label without a value is another one than no label.
#[test]
fn a_label_may_be_empty() {
    let workloads = "
- {name: empty, namespace: shop, labels: {app: \"\"}, ips: [10.0.0.1]}
- {name: full, namespace: shop, labels: {app: web}, ips: [10.0.0.2]}
- {name: none, namespace: shop, ips: [10.0.0.3]}
- {name: orders, namespace: shop, labels: {app: orders}, ips: [10.0.0.4]}
";
    let (registry, findings) = Registry::parse("w.yaml", &workloads.into());
    assert!(findings.is_empty(), "{findings:?}");
    let registry = std::sync::Arc::new(registry);
    for selector in ["{matchLabels: {app: \"\"}}", "{matchExpressions: [{key: app, operator: In, values: [\"\"]}]}"] {
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{podSelector: {{matchLabels: {{app: orders}}}}, ingress: [{{from: [{{podSelector: {selector}}}]}}]}}\n"
        );
        let compiled = compiled(&text);
        assert!(compiled.diagnostics.is_empty(), "{:?}", compiled.diagnostics);
        let world = World::new(compiled.model, std::sync::Arc::clone(&registry), 1);
        for (from, expected) in [("10.0.0.1", true), ("10.0.0.2", false), ("10.0.0.3", false)] {
            let asked = json!({"src": {"ip": from}, "dst": {"ip": "10.0.0.4", "port": 80}, "protocol": "tcp"});
            assert_eq!(decide(&world, &asked).0, expected, "{selector} {from}");
        }
    }
}

/// SPEC: a peer of a later API fails closed, and so does a document that cannot be read.
#[test]
fn what_is_not_understood_closes() {
    let verdict = |text: &str| {
        let world = World::new(compiled(text).model, registry(), 1);
        let asked = json!({"src": {"ip": "10.0.0.1"}, "dst": {"ip": STRANGER, "port": 80}, "protocol": "tcp"});
        decide(&world, &asked).0
    };
    let policy = |action: &str, peer: &str| egress(&format!("{{action: {action}, to: [{peer}]}}"));
    let after = cluster("Admin", 2, "egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}]");
    assert!(!verdict(&policy("Deny", "{galaxies: {}}")));
    assert!(!verdict(&policy("Pass", "{galaxies: {}}")));
    assert!(verdict(&policy("Accept", "{galaxies: {}}")), "it matches nothing, and nothing else closes");
    assert!(!verdict(&format!("{}{after}", policy("Accept", "{galaxies: {}}"))));
    assert!(!verdict(&policy("Accept", "{networks: [nonsense]}")));
}

/// A port name that no workload declares matches nothing.
#[test]
fn a_port_name_that_nobody_declares_is_told() {
    let np = |port: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{podSelector: {{}}, ingress: [{{ports: [{{port: 1}}, {port}]}}]}}\n"
        )
    };
    let cnp = |name: &str| {
        egress(&format!("{{action: Deny, to: [{{namespaces: {{}}}}], protocols: [{{destinationNamedPort: {name}}}]}}"))
    };
    for (text, name) in [
        (np("{port: http}"), None),
        (np("{port: dns, protocol: UDP}"), None),
        (np("{port: htpp}"), Some("htpp")),
        (np("{port: dns}"), Some("dns")),
        (cnp("dns"), None),
        (cnp("dsn"), Some("dsn")),
    ] {
        let found: Vec<String> = check(&compiled(&text), Some(&registry()), 0)
            .iter()
            .filter(|finding| finding.code.as_str() == "EW0501")
            .map(|finding| finding.message.clone())
            .collect();
        let expected: Vec<String> = name.iter().map(|name| format!("no workload declares a port `{name}`")).collect();
        assert_eq!(found, expected, "{text}");
    }
}
