//! A cluster's dump and its policies in one file: what is decided of who the objects say is where.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::sync::Arc;

use eastwall_policy::analysis::check::check;
use eastwall_policy::dialect::compile;
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source::parse;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;

const CLUSTER: &str = r#"
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: blue}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: office, labels: {team: red}}}
- {apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.1.10}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: orders-1, namespace: shop, labels: {app: orders}}
  spec:
    serviceAccountName: orders
    nodeName: n1
    containers:
    - ports: [{containerPort: 8080, name: http}]
      livenessProbe: {httpGet: {path: /healthz, port: http}}
  status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: web-1, namespace: shop}
  spec: {serviceAccountName: web}
  status: {podIP: 10.0.0.3}
- apiVersion: v1
  kind: Pod
  metadata: {name: clerk-1, namespace: office}
  spec: {serviceAccountName: clerk}
  status: {podIP: 10.0.0.4}
- {apiVersion: v1, kind: Service, metadata: {name: orders, namespace: shop}, spec: {clusterIP: 10.96.0.7, selector: {app: orders}, ports: [{port: 80, targetPort: http}]}}
- {apiVersion: v1, kind: Service, metadata: {name: kubernetes, namespace: default}, spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
  addressType: IPv4
  endpoints: [{addresses: [192.168.1.10]}]
  ports: [{name: https, port: 6443}]
- {apiVersion: v1, kind: Service, metadata: {name: partner, namespace: shop}, spec: {clusterIP: 10.96.0.8, ports: [{port: 443}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: partner, namespace: shop, labels: {kubernetes.io/service-name: partner}}
  addressType: IPv4
  endpoints: [{addresses: [203.0.113.7]}]
  ports: [{port: 8443}]
- {apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: b}}
---
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop, uid: 1-2, resourceVersion: "9", generation: 4, managedFields: [{manager: kubectl}], ownerReferences: [], creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  subject: [{serviceAccount: orders}]
  ingress: [{name: reds, from: [{namespaceSelector: {matchLabels: {team: red}}}], http: [{methods: [GET, HEAD]}]}]
status: {conditions: [{type: Accepted, status: "True"}]}
"#;

fn world(more: &str) -> World {
    let text: Arc<str> = format!("{CLUSTER}{more}").into();
    let compiled = compile(&parse("cluster.yaml", &text));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let (registry, findings) = compiled.registry(Registry::default());
    assert!(findings.is_empty(), "{findings:?}");
    assert!(check(&compiled, Some(&registry), 0).iter().all(|finding| !finding.is_error()));
    World::new(compiled.model, Arc::new(registry), 1)
}

fn asked(world: &World, from: &str, to: &str, path: &str) -> Action {
    let (address, port) = to.rsplit_once(':').unwrap();
    let destination = match address.contains('/') {
        true => format!("\"workload\": \"{address}\""),
        false => format!("\"ip\": \"{address}\""),
    };
    let line = format!(
        "{{\"src\": {{\"ip\": \"{from}\"}}, \"dst\": {{{destination}, \"port\": {port}}}, \"method\": \"GET\", \"path\": \"{path}\"}}"
    );
    Question::parse(&line).unwrap().answer(world, 0).unwrap().verdict
}

#[test]
fn the_objects_say_who_asks() {
    let world = world("");
    for (from, to, path, expected) in [
        ("10.0.0.4", "10.0.0.2:8080", "/", Action::Allow),
        ("10.0.0.4", "shop/orders-1:8080", "/", Action::Allow),
        ("10.0.0.4", "10.96.0.7:80", "/", Action::Allow),
        ("10.0.0.3", "10.0.0.2:8080", "/", Action::Deny),
        ("10.0.0.3", "10.96.0.7:80", "/", Action::Deny),
        ("10.0.0.99", "10.0.0.2:8080", "/", Action::Deny),
        // The kubelet's probe, and nothing else from the node.
        ("192.168.1.10", "10.0.0.2:8080", "/healthz", Action::Allow),
        ("192.168.1.10", "10.0.0.2:8080", "/", Action::Deny),
    ] {
        assert_eq!(asked(&world, from, to, path), expected, "{from} {to} {path}");
    }
}

#[test]
fn an_endpoint_that_is_no_pod_is_judged_by_its_address() {
    let denies = |to: &str, ports: &str| {
        format!(
            "---\napiVersion: eastwall.dev/v1alpha1\nkind: ClusterFirewallPolicy\nmetadata: {{name: doors}}\nspec:\n  tier: Admin\n  \
             subject: [{{any: true}}]\n  egress: [{{action: Deny, to: [{to}], ports: [{ports}]}}]\n"
        )
    };
    for (to, ports, kubernetes, partner) in [
        ("{cidr: 198.51.100.0/24}", "443", Action::Allow, Action::Allow),
        // The address behind the Service's, and the port behind its port.
        ("{node: Any}", "6443", Action::Deny, Action::Allow),
        ("{node: Any}", "443", Action::Allow, Action::Allow),
        ("{cidr: 203.0.113.0/24}", "8443", Action::Allow, Action::Deny),
        ("{service: kubernetes, namespace: default}", "6443", Action::Deny, Action::Allow),
    ] {
        let world = world(&denies(to, ports));
        assert_eq!(asked(&world, "10.0.0.3", "10.96.0.1:443", "/"), kubernetes, "{to} {ports}");
        assert_eq!(asked(&world, "10.0.0.3", "10.96.0.8:443", "/"), partner, "{to} {ports}");
    }
}

#[test]
fn what_is_no_policy_is_told_in_one_note() {
    let more = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: y}}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: z}}\n";
    let compiled = compile(&parse("x.yaml", &format!("{CLUSTER}{more}").as_str().into()));
    let notes: Vec<_> = compiled.diagnostics.iter().map(|one| format!("{} {}", one.code, one.message)).collect();
    assert_eq!(notes, ["EW0405 3 documents are no policy: 2 `ConfigMap`, 1 `Secret` passed over"]);
    assert_eq!(compiled.passed_over, [("ConfigMap".to_owned(), 2), ("Secret".to_owned(), 1)]);
    let read: usize = compiled.objects.counts.iter().map(|(_, count)| count).sum();
    assert_eq!(read, 11);
}
