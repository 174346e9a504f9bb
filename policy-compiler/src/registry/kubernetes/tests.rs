//! A small cluster's dump, and what each object can say wrongly.

use std::sync::Arc;

use super::Objects;
use crate::diagnostic::Code;
use crate::facts::{Place, Transport};
use crate::registry::{ApplicationProtocol, Registry, TargetPort, Workload};
use crate::settings::Settings;
use crate::source::parse;

mod nodes;

/// As `kubectl get -A -o yaml` prints it, shortened.
const DUMP: &str = r#"
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop, labels: {team: blue, kubernetes.io/metadata.name: lie}, annotations: {note: a}, uid: 1-2}
  spec: {finalizers: [kubernetes]}
  status: {phase: Active}
- apiVersion: v1
  kind: Node
  metadata: {name: n1, labels: {a: b}}
  status:
    addresses: [{type: InternalIP, address: 192.168.1.10}, {type: Hostname, address: n1}, {type: InternalIP, address: "fd00:1::10"}]
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: orders, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z", generation: 3, managedFields: [{manager: x}]}
  spec: {replicas: 1, template: {metadata: {labels: {app: orders}}, spec: {containers: []}}}
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata: {name: orders-5d4f8, namespace: shop, ownerReferences: [{kind: Deployment, name: orders, controller: true}]}
  spec: {replicas: 1, template: {metadata: {labels: {app: orders}}, spec: {containers: []}}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop}
  spec:
    template:
      metadata: {labels: {app: web}, annotations: {b: c}}
      spec: {serviceAccountName: web, containers: [{name: c, ports: [{containerPort: 3000, name: http}]}]}
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: report, namespace: shop}
  spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: report}}, spec: {containers: []}}}}}
- apiVersion: v1
  kind: Pod
  metadata:
    name: orders-5d4f8-abcde
    namespace: shop
    labels: {app: orders, pod-template-hash: 5d4f8}
    annotations: {a: ""}
    ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: orders-5d4f8, controller: true}]
  spec:
    serviceAccountName: orders
    nodeName: n1
    initContainers:
    - {name: setup, ports: [{containerPort: 1}]}
    - name: sidecar
      restartPolicy: Always
      ports: [{containerPort: 15020, name: stats}]
      readinessProbe: {httpGet: {path: ready, port: stats, scheme: HTTP}}
    containers:
    - name: main
      ports: [{containerPort: 8080, name: web}, {containerPort: 9090, name: grpc-api, protocol: TCP}, {containerPort: 53, protocol: UDP, name: dns}]
      livenessProbe: {httpGet: {path: "/healthz?full=1", port: web}, periodSeconds: 5}
      readinessProbe: {grpc: {port: 9090, service: x}}
      startupProbe: {tcpSocket: {port: "8080"}}
    - name: other
      livenessProbe: {exec: {command: [ls]}}
      readinessProbe: {httpGet: {host: 127.0.0.1, port: 1, path: /}}
  status:
    phase: Running
    podIP: 10.0.0.2
    podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]
    conditions: [{type: Ready, status: "True"}]
- apiVersion: v1
  kind: Pod
  metadata: {name: orders-new, namespace: shop, labels: {app: orders}}
  spec: {containers: []}
  status: {phase: Pending, podIP: 10.0.0.3, conditions: [{type: Ready, status: "False"}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: report-29-x, namespace: shop, labels: {app: report}, ownerReferences: [{kind: Job, name: report-29000000}]}
  spec: {containers: []}
  status: {phase: Succeeded, podIP: 10.0.0.2}
- apiVersion: v1
  kind: Pod
  metadata: {name: agent, namespace: kube-system, labels: {app: agent}}
  spec: {hostNetwork: true, nodeName: n1, containers: []}
  status: {phase: Running, podIP: 192.168.1.10}
- apiVersion: v1
  kind: Service
  metadata: {name: orders, namespace: shop}
  spec:
    clusterIP: 10.96.0.7
    clusterIPs: [10.96.0.7, "fd00:96::7"]
    selector: {app: orders}
    ports: [{port: 80, targetPort: web, name: http, appProtocol: kubernetes.io/h2c}, {port: 53, protocol: UDP, targetPort: 53}]
- apiVersion: v1
  kind: Service
  metadata: {name: kubernetes, namespace: default}
  spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443, targetPort: 6443}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
  addressType: IPv4
  endpoints: [{addresses: [192.168.1.10], conditions: {ready: true}}, {addresses: [192.168.1.11], conditions: {ready: false}}]
  ports: [{name: https, port: 6443, protocol: TCP}]
- apiVersion: v1
  kind: Service
  metadata: {name: agents, namespace: kube-system}
  spec: {clusterIP: None, clusterIPs: [None], selector: {app: agent}, ports: [{port: 9100}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: agents-1, namespace: kube-system, labels: {kubernetes.io/service-name: agents}}
  addressType: IPv4
  endpoints:
  - {addresses: [192.168.1.10], conditions: {ready: true}, targetRef: {kind: Pod, name: agent, namespace: kube-system}}
  - {addresses: [10.0.0.99], targetRef: {kind: Pod, name: gone, namespace: kube-system}}
  ports: [{port: 9100}]
- apiVersion: v1
  kind: Service
  metadata: {name: alias, namespace: shop}
  spec: {type: ExternalName, externalName: x.example, selector: {app: orders}}
- apiVersion: serving.knative.dev/v1
  kind: Service
  metadata: {name: other, namespace: shop}
  spec: {ports: 7}
"#;

fn joined(text: &str, file: &str) -> (Registry, Vec<String>) {
    let objects = Objects::of(&parse("dump.yaml", &text.into()).documents);
    assert!(!objects.incomplete, "{:?}", objects.diagnostics);
    let (file, diagnostics) = Registry::parse("w.yaml", &file.into());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let (registry, findings) = objects.join(file);
    let findings = objects.diagnostics.iter().chain(&findings);
    (registry, findings.map(|one| format!("{} {} {}", one.location.line, one.code, one.message)).collect())
}

fn workload<'r>(registry: &'r Registry, namespace: &str, name: &str) -> &'r Workload {
    registry.workload(registry.find_workload(namespace, name).unwrap()).unwrap()
}

fn address(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_dump_of_a_cluster() {
    let (registry, findings) = joined(DUMP, "");
    assert_eq!(findings, ["99 EW0501 its endpoint `kube-system/gone` is no Pod of these files"]);
    let names: Vec<&str> = registry.workloads.iter().map(|one| &*one.name).collect();
    // The templates of `orders` and `report` have Pods; `web` has none.
    assert_eq!(names, ["orders-5d4f8-abcde", "orders-new", "report-29-x", "agent", "web"]);

    let orders = workload(&registry, "shop", "orders-5d4f8-abcde");
    assert_eq!((&*orders.service_account, orders.node.as_deref()), ("orders", Some("n1")));
    assert_eq!(orders.ips, [address("10.0.0.2"), address("fd00::2")]);
    assert_eq!((&*orders.labels["app"], &*orders.annotations["a"]), ("orders", ""));
    let of_namespace: Vec<_> = orders.namespace_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(of_namespace, ["kubernetes.io/metadata.name=shop", "team=blue"]);
    assert_eq!(&*orders.namespace_annotations["note"], "a");
    let ports: Vec<_> = orders.ports.iter().map(|one| (one.port, one.transport, one.application)).collect();
    assert_eq!(
        ports,
        [
            (8080, Transport::Tcp, Some(ApplicationProtocol::Http2)),
            (9090, Transport::Tcp, Some(ApplicationProtocol::Grpc)),
            (53, Transport::Udp, None),
            (15020, Transport::Tcp, None),
        ]
    );
    let probes: Vec<_> = orders.probes.iter().map(|one| (one.port, one.path.as_deref(), &*one.method)).collect();
    assert_eq!(
        probes,
        [
            (8080, Some("/healthz"), "GET"),
            (9090, Some("/grpc.health.v1.Health/Check"), "POST"),
            (8080, None, "GET"),
            (15020, Some("/ready"), "GET"),
        ]
    );

    let web = workload(&registry, "shop", "web");
    assert!(web.ips.is_empty());
    assert_eq!((&*web.service_account, &*web.annotations["b"], web.ports.len()), ("web", "c", 1));
    assert!(workload(&registry, "shop", "report-29-x").ips.is_empty(), "it has ended");
    let place = |text: &str| registry.place(address(text), &Settings::default());
    assert_eq!(place("10.0.0.2"), Place::Workload(registry.find_workload("shop", "orders-5d4f8-abcde").unwrap()));
    assert!(matches!(place("192.168.1.10"), Place::Node(Some(_))));
    assert!(matches!(place("fd00:1::10"), Place::Node(Some(_))));
}

#[test]
fn who_is_behind_a_service() {
    let (registry, _) = joined(DUMP, "");
    let service = |namespace: &str, name: &str| registry.service(registry.find_service(namespace, name).unwrap());
    let id = |namespace: &str, name: &str| registry.find_workload(namespace, name).unwrap();
    let orders = service("shop", "orders").unwrap();
    assert_eq!(orders.ips, [address("10.96.0.7"), address("fd00:96::7")]);
    assert_eq!(orders.endpoints, [id("shop", "orders-5d4f8-abcde")], "of the Pods that are ready");
    assert_eq!(orders.ports[0].target, TargetPort::Name("web".into()));
    assert_eq!((orders.ports[1].transport, &orders.ports[1].target), (Transport::Udp, &TargetPort::Number(53)));
    let kubernetes = service("default", "kubernetes").unwrap();
    assert_eq!((kubernetes.endpoints.len(), kubernetes.elsewhere.as_slice()), (0, &[address("192.168.1.10")][..]));
    assert_eq!(kubernetes.ports[0].target, TargetPort::Number(6443));
    let agents = service("kube-system", "agents").unwrap();
    assert!(agents.ips.is_empty());
    assert_eq!(agents.endpoints, [id("kube-system", "agent")]);
    assert_eq!(agents.elsewhere, [address("10.0.0.99")]);
    assert!(service("shop", "alias").unwrap().endpoints.is_empty());
    assert!(registry.find_service("shop", "other").is_none(), "another kind of the same name");
}

#[test]
fn the_workloads_file_wins() {
    let file = r#"
- {name: orders-5d4f8-abcde, namespace: shop, serviceAccount: mine, ips: [10.0.0.8], namespaceLabels: {team: red}, labels: {app: orders}}
- {name: stranger, namespace: shop, ips: [10.0.0.3]}
- {kind: Service, name: orders, namespace: shop, ips: [10.96.0.9], endpoints: [shop/stranger, 203.0.113.9]}
- {kind: Node, name: n1, ips: [192.168.1.99]}
"#;
    let (registry, findings) = joined(DUMP, file);
    assert!(findings.iter().any(|one| one.contains("EW0604 `10.0.0.3` belongs to another entry too")), "{findings:?}");
    let orders = workload(&registry, "shop", "orders-5d4f8-abcde");
    assert_eq!((&*orders.service_account, &*orders.namespace_labels["team"]), ("mine", "red"));
    assert_eq!(&*workload(&registry, "shop", "stranger").namespace_labels["team"], "blue");
    assert!(registry.is_contested(address("10.0.0.3")));
    let service = registry.service(registry.find_service("shop", "orders").unwrap()).unwrap();
    assert_eq!((service.ips.as_slice(), service.endpoints.len()), (&[address("10.96.0.9")][..], 1));
    assert_eq!(service.elsewhere, [address("203.0.113.9")]);
    assert_eq!(registry.nodes.len(), 1);
    assert_eq!(registry.nodes[0].ips, [address("192.168.1.99")]);
}

#[test]
fn what_is_looked_at_must_have_its_type() {
    for (object, code) in [
        ("{apiVersion: v1, kind: Pod, metadata: {namespace: a}, spec: {}}", Code::MissingField),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}}", Code::MissingField),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: 7}", Code::WrongType),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {a: 1}}, spec: {}}", Code::WrongType),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: yes}}", Code::WrongType),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}, status: {podIP: 10.0.0.256}}", Code::BadAddress),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: {}}}", Code::WrongType),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{ports: [{containerPort: 0}]}]}}",
            Code::OutOfRange,
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{ports: [{name: a}]}]}}",
            Code::MissingField,
        ),
        ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {}}", Code::MissingField),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: x}}", Code::BadAddress),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{}]}}", Code::MissingField),
        ("{apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: 1}}", Code::WrongType),
        ("{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDRs: 10.0.0.0/8}}", Code::WrongType),
        ("{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDRs: [10.0.0.0/33]}}", Code::BadAddress),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: [a]}}", Code::WrongType),
    ] {
        let objects = Objects::of(&parse("x", &object.into()).documents);
        let codes: Vec<Code> = objects.diagnostics.iter().map(|one| one.code).collect();
        assert_eq!(codes, [code], "{object}: {:?}", objects.diagnostics);
        assert!(objects.incomplete);
    }
    let broken = Objects::of(&parse("x", &"apiVersion: v1\nkind: Pod\nmetadata: [".into()).documents);
    assert!(broken.incomplete && broken.diagnostics.is_empty(), "the syntax error is told elsewhere");
}

#[test]
fn the_same_object_twice() {
    let pod = |ip: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{}}\nstatus: {{podIP: {ip}}}\n---\n")
    };
    let read = |text: String| Objects::of(&parse("x", &Arc::from(text)).documents);
    let same = read(pod("10.0.0.1") + &pod("10.0.0.1"));
    assert!(same.diagnostics.is_empty() && same.pods.len() == 1);
    let other = read(pod("10.0.0.1") + &pod("10.0.0.2"));
    let codes: Vec<Code> = other.diagnostics.iter().map(|one| one.code).collect();
    assert_eq!((codes, other.incomplete), (vec![Code::DuplicateWorkload], true));
}

#[test]
fn services_that_disagree_on_a_port_leave_it_undeclared() {
    let text = r#"
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec: {containers: [{ports: [{containerPort: 80, name: http}, {containerPort: 81, name: http-b}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {selector: {app: a}, ports: [{port: 80, appProtocol: http}, {port: 81, appProtocol: tcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: two}
spec: {selector: {app: a}, ports: [{port: 8080, targetPort: http, appProtocol: tcp}]}
"#;
    let (registry, findings) = joined(text, "");
    assert!(findings.is_empty(), "{findings:?}");
    let applications: Vec<_> = registry.workloads[0].ports.iter().map(|port| port.application).collect();
    assert_eq!(applications, [None, Some(ApplicationProtocol::Tcp)]);
}

#[test]
fn a_pod_that_has_ended_gives_its_address_back() {
    let pod = |more: &str, status: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: n{more}}}\nspec: {{containers: [{{name: one}}, {{name: two}}]}}\n\
             status: {{podIP: 10.0.0.2, {status}}}\n"
        )
    };
    let statuses = |one: &str, two: &str| {
        format!(
            "phase: Running, containerStatuses: [{{name: one, state: {{{one}: {{}}}}}}, {{name: two, state: {{{two}: {{}}}}}}]"
        )
    };
    let deleted = ", deletionTimestamp: \"2026-01-01T00:00:00Z\"";
    for (more, status, has_address) in [
        ("", "phase: Running".to_owned(), true),
        ("", "phase: Succeeded".to_owned(), false),
        ("", "phase: Failed".to_owned(), false),
        ("", statuses("terminated", "terminated"), true),
        (deleted, statuses("terminated", "terminated"), false),
        (deleted, statuses("terminated", "waiting"), false),
        (deleted, statuses("running", "terminated"), true),
        (
            deleted,
            statuses("terminated", "terminated") + ", ephemeralContainerStatuses: [{state: {running: {}}}]",
            true,
        ),
        (deleted, "phase: Running, containerStatuses: [{name: one, state: {terminated: {}}}]".to_owned(), true),
        (deleted, "phase: Running, containerStatuses: [{name: one}, {name: two}]".to_owned(), true),
        (deleted, "phase: Running".to_owned(), true),
    ] {
        let objects = Objects::of(&parse("f", &pod(more, &status).into()).documents);
        assert!(!objects.incomplete, "{:?}", objects.diagnostics);
        let (registry, _) = objects.join(Registry::default());
        assert_eq!(!registry.workloads[0].ips.is_empty(), has_address, "{more} {status}");
    }
}
