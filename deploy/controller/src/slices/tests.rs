//! The slice of a proxy gives the verdicts of the whole cluster; who may ask for which.

use std::net::IpAddr;
use std::sync::Arc;

use eastwall_policy::facts::{Connection, Direction, Protocol, Request, Transport};
use eastwall_policy::registry::Registry;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use eastwall_policy::{dialect, source};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::caller::{AUDIENCE, Caller, Reviewed};
use super::directory::Directory;
use super::slice::{Serves, Slice};
use crate::cluster::{Change, Cluster, Key, Object, Store};

fn object(value: Value) -> Object {
    let text = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let key = Key {
        api_version: text("/apiVersion").into(),
        kind: text("/kind").into(),
        namespace: text("/metadata/namespace").into(),
        name: text("/metadata/name").into(),
    };
    Object { key, uid: text("/metadata/uid").into(), generation: 0, value: Arc::new(value) }
}

fn cluster(values: impl IntoIterator<Item = Value>) -> Cluster {
    let store = Store::default();
    store.apply(values.into_iter().map(|value| Change::Put(object(value))));
    store.complete();
    store.load()
}

fn directory(cluster: &Cluster) -> Arc<Directory> {
    Arc::new(Directory::default().after(cluster))
}

const NAMESPACES: [&str; 3] = ["shop", "office", "istio-system"];

/// Two pods a namespace, at 10.0.N.1 and 10.0.N.2.
fn pod(namespace: usize, index: usize, app: &str, account: &str) -> Value {
    let name = format!("pod-{index}");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACES[namespace], "uid": format!("uid-{namespace}-{index}"),
            "labels": {"app": app}, "managedFields": [{}], "resourceVersion": "7",
            "annotations": {"config.linkerd.io/default-inbound-policy": "deny", "note": "x", "example.dev/eastwall.dev/hbone": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {"serviceAccountName": account, "nodeName": format!("n{index}"), "containers": [{
            "name": "c", "image": "i", "env": [{"name": "SECRET", "value": "x"}],
            "ports": [{"name": "http", "containerPort": 80}],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5}}]},
        "status": {"phase": "Running", "podIP": format!("10.0.{namespace}.{index}"),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "now"}]}
    })
}

fn places() -> Vec<Value> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": name}}, "status": {}});
    let node = |index: usize| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{index}")},
            "spec": {"podCIDRs": [format!("10.244.{index}.0/24")]},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.0.{index}")}, {"type": "Hostname", "address": "x"}],
                "images": [1, 2, 3]}})
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http", "appProtocol": "http"}]}});
    let endpoints = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web", "x": "y"}},
        "addressType": "IPv4", "ports": [{"port": 80, "name": null}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true},
            "targetRef": {"kind": "Pod", "name": "pod-1", "namespace": "shop", "uid": "1"}, "nodeName": "n1"}]});
    let mut all: Vec<Value> = NAMESPACES.into_iter().map(namespace).collect();
    all.extend([1, 2].map(node));
    all.extend([service, endpoints]);
    all
}

/// Policies of every dialect that a namespace can have, and of the cluster.
fn policies() -> Vec<Value> {
    let mut all = Vec::new();
    for (at, namespace) in NAMESPACES.into_iter().enumerate() {
        let other = NAMESPACES[(at + 1) % 3];
        let mut add = |api: &str, kind: &str, name: &str, spec: Value| {
            all.push(json!({"apiVersion": api, "kind": kind,
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-02T03:04:05Z"},
                "spec": spec, "status": {"conditions": []}}));
        };
        add(
            "eastwall.dev/v1alpha1",
            "FirewallPolicy",
            "native",
            json!({"subject": [{"serviceAccount": "web"}],
            "ingress": [{"name": "reads", "from": [{"namespace": other}], "ports": [80], "http": [{"methods": ["GET"], "paths": ["/a/**"]}]}]}),
        );
        add(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "network",
            json!({"podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": other}}}]}],
            "egress": [{"to": [{"podSelector": {}}]}]}),
        );
        add(
            "cilium.io/v2",
            "CiliumNetworkPolicy",
            "cilium",
            json!({"endpointSelector": {"matchLabels": {"app": "orders"}},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": other}}]}]}),
        );
        add(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            "istio",
            json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/a/b"]}}]}]}),
        );
        add(
            "policy.linkerd.io/v1beta3",
            "Server",
            "linkerd",
            json!({"podSelector": {"matchLabels": {"app": "orders"}}, "port": "http", "proxyProtocol": "HTTP/1"}),
        );
        add(
            "policy.linkerd.io/v1alpha1",
            "NetworkAuthentication",
            "net",
            json!({"networks": [{"cidr": format!("10.0.{at}.0/24")}]}),
        );
        add(
            "policy.linkerd.io/v1alpha1",
            "AuthorizationPolicy",
            "allow",
            json!({"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "linkerd"},
            "requiredAuthenticationRefs": [{"group": "policy.linkerd.io", "kind": "NetworkAuthentication", "name": "net", "namespace": other}]}),
        );
    }
    all.push(json!({"apiVersion": "eastwall.dev/v1alpha1", "kind": "ClusterFirewallPolicy", "metadata": {"name": "admin"},
        "spec": {"tier": "Admin", "subject": [{"namespace": "shop"}],
            "ingress": [{"name": "never", "action": "Deny", "from": [{"any": true}], "ports": [80], "http": [{"paths": ["/a/admin"]}]}]}}));
    all.push(json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "anp"},
        "spec": {"priority": 1, "subject": {"namespaces": {"matchLabels": {"team": "office"}}},
            "ingress": [{"name": "no", "action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "shop"}}}]}]}}));
    all
}

fn world<'o>(objects: impl Iterator<Item = (&'o Key, &'o [u8])>) -> World {
    let text: String = objects.map(|(_, json)| format!("---\n{}\n", String::from_utf8_lossy(json))).collect();
    let compiled = dialect::compile(&source::parse("objects", &text.into()));
    let errors: Vec<_> = compiled.diagnostics.iter().filter(|one| one.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let (registry, _) = compiled.registry(Registry::default());
    World::new(compiled.model, Arc::new(registry), 1)
}

fn action(world: &World, direction: Direction, source: IpAddr, destination: IpAddr, path: &str) -> Action {
    let connection = Connection {
        source: world.source(source),
        destination: world.destination(destination),
        port: 80,
        transport: Transport::Tcp,
        service: world.registry().service_at(destination),
        fqdn: None,
        direction: Some(direction),
    };
    let request = Request::bare(Protocol::Http, b"GET", path.as_bytes(), 0);
    world.request_verdict(&world.flow(&connection), &request).action
}

/// Every verdict on flows from and to these addresses.
fn verdicts(world: &World, own: &[IpAddr]) -> Vec<Action> {
    let nodes = [[192, 168, 0, 1], [192, 168, 0, 2]].map(IpAddr::from);
    let mut peers: Vec<IpAddr> = (0..3).flat_map(|namespace| [1, 2].map(|i| [10, 0, namespace, i].into())).collect();
    peers.extend(nodes.into_iter().chain([[10, 96, 0, 1].into(), [203, 0, 113, 9].into()]));
    let mut all = Vec::new();
    for own in own {
        for peer in &peers {
            for path in ["/a/x", "/a/b", "/a/admin", "/healthz", "/"] {
                all.push(action(world, Direction::Inbound, *peer, *own, path));
                all.push(action(world, Direction::Outbound, *own, *peer, path));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_slice_gives_the_verdicts_of_the_whole_cluster(
        apps in prop::collection::vec((prop::sample::select(vec!["web", "orders"]), prop::sample::select(vec!["web", "clerk"])), 6),
        kept in prop::collection::vec(any::<bool>(), policies().len()),
        root in prop::sample::select(vec![None, Some("shop"), Some("office")]),
    ) {
        let pods = apps.iter().enumerate().map(|(at, (app, account))| pod(at / 2, at % 2 + 1, app, account));
        let settings = root.map(|root| json!({"apiVersion": "eastwall.dev/v1alpha1", "kind": "DialectSettings",
            "metadata": {"name": "cluster"}, "spec": {"istio": {"rootNamespace": root}}}));
        let chosen = policies().into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(policy, _)| policy);
        // Whoever is named must be there.
        let named = policies().into_iter().filter(|one| one["kind"] == "NetworkAuthentication" || one["kind"] == "Server");
        let cluster = cluster(places().into_iter().chain(pods).chain(chosen).chain(named).chain(settings));
        let all: Vec<(&Key, Vec<u8>)> =
            cluster.objects.iter().map(|(key, object)| (key, object.value.to_string().into_bytes())).collect();
        let whole = world(all.iter().map(|(key, json)| (*key, json.as_slice())));
        let directory = directory(&cluster);
        for (namespace, name) in NAMESPACES.into_iter().enumerate() {
            let serves = Serves::Pod { namespace: name.into(), name: "pod-1".into() };
            let own = [IpAddr::from([10, 0, u8::try_from(namespace).unwrap(), 1])];
            let slice = world(Slice::of(&directory, &serves).objects());
            prop_assert_eq!(verdicts(&slice, &own), verdicts(&whole, &own), "{}", name);
        }
        let own: Vec<IpAddr> = (0..3).map(|namespace| [10, 0, namespace, 2].into()).collect();
        let slice = world(Slice::of(&directory, &Serves::Node("n2".into())).objects());
        prop_assert_eq!(verdicts(&slice, &own), verdicts(&whole, &own));
    }
}

fn names(slice: &Slice) -> Vec<String> {
    slice.objects().map(|(key, _)| format!("{} {}/{}", key.kind, key.namespace, key.name)).collect()
}

#[test]
fn a_slice_has_what_concerns_its_proxy_and_no_more() {
    let pods = [pod(0, 1, "web", "web"), pod(1, 1, "web", "web"), pod(1, 2, "web", "web")];
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}});
    let test = json!({"apiVersion": "eastwall.dev/v1alpha1", "kind": "PolicyTest", "metadata": {"name": "t", "namespace": "shop"}});
    let cluster = cluster(places().into_iter().chain(pods).chain(policies()).chain([secret, test]));
    let slice = Slice::of(&directory(&cluster), &Serves::Pod { namespace: "shop".into(), name: "pod-1".into() });
    let names = names(&slice);
    let has = |name: &str| names.iter().any(|held| held == name);
    assert!(has("FirewallPolicy shop/native") && has("ClusterFirewallPolicy /admin") && has("Pod office/pod-2"));
    assert!(has("AuthorizationPolicy istio-system/istio") && has("NetworkAuthentication office/net"), "{names:?}");
    for name in
        ["FirewallPolicy office/native", "AuthorizationPolicy office/istio", "Secret shop/s", "PolicyTest shop/t"]
    {
        assert!(!has(name), "{name}");
    }
    let text = |kind: &str, namespace: &str| -> String {
        let one = slice.objects().find(|(key, _)| &*key.kind == kind && &*key.namespace == namespace);
        String::from_utf8(one.unwrap().1.to_vec()).unwrap()
    };
    assert!(text("Node", "").contains("podCIDRs"), "the kubelet may probe from the range's first address");
    assert!(text("Pod", "shop").contains("livenessProbe") && !text("Pod", "office").contains("livenessProbe"));
    for (kind, namespace, not) in [
        ("Pod", "shop", "SECRET"),
        ("Pod", "shop", "last-applied"),
        ("Pod", "shop", "\"note\""),
        ("Pod", "shop", "example.dev"),
        ("Pod", "shop", "resourceVersion"),
        ("Node", "", "images"),
        ("EndpointSlice", "shop", "serving"),
        ("FirewallPolicy", "shop", "status"),
    ] {
        assert!(!text(kind, namespace).contains(not), "{kind}: {not}");
    }
}

#[test]
fn what_proxies_do_not_read_makes_no_new_version() {
    let serves = Serves::Pod { namespace: "shop".into(), name: "pod-1".into() };
    let all = || places().into_iter().chain([pod(0, 1, "web", "web"), pod(1, 1, "web", "web")]).chain(policies());
    let first = directory(&cluster(all()));
    let version = Slice::of(&first, &serves).version().clone();
    let after = |change: &dyn Fn(&mut Value)| {
        let mut changed: Vec<Value> = all().collect();
        changed.iter_mut().for_each(change);
        Arc::new(first.after(&cluster(changed)))
    };
    let same = after(&|one| {
        one["metadata"]["resourceVersion"] = json!("8");
        one["metadata"]["managedFields"] = json!([1]);
        if one["kind"] == "Pod" {
            one["metadata"]["annotations"]["note"] = json!("y");
        }
        if one["kind"] == "FirewallPolicy" {
            one["status"] = json!({"x": 1});
        }
        if one["metadata"]["namespace"] == "office" && one["kind"] == "Pod" {
            one["spec"]["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 80}});
        }
    });
    assert_eq!(*Slice::of(&same, &serves).version(), version);
    assert!(same.changed.is_empty());
    for (what, change) in [
        ("a label", &(|one: &mut Value| one["metadata"]["labels"] = json!({"app": "other"})) as &dyn Fn(&mut Value)),
        ("its own probe", &|one| {
            if one["metadata"]["namespace"] == "shop" && one["kind"] == "Pod" {
                one["spec"]["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 80}});
            }
        }),
        ("the end of the pod", &|one| {
            if one["kind"] == "Pod" {
                one["status"]["phase"] = json!("Failed");
            }
        }),
    ] {
        assert_ne!(*Slice::of(&after(change), &serves).version(), version, "{what}");
    }
}

#[test]
fn changes_lead_from_one_slice_to_the_next() {
    let serves = Serves::Node("n1".into());
    let all: Vec<Value> =
        places().into_iter().chain([pod(0, 1, "web", "web"), pod(1, 1, "web", "web")]).chain(policies()).collect();
    let states = [
        all.clone(),
        all.iter().filter(|one| one["metadata"]["namespace"] != "office").cloned().collect(),
        all.iter().chain(&[pod(2, 1, "web", "web")]).cloned().collect(),
        all.iter().filter(|one| one["kind"] != "Pod").cloned().collect(),
        Vec::new(),
    ];
    let mut directories = vec![Arc::new(Directory::default())];
    for state in states {
        let next = directories.last().unwrap().after(&cluster(state));
        directories.push(Arc::new(next));
    }
    let held = |slice: &Slice| -> std::collections::BTreeMap<Key, Vec<u8>> {
        slice.objects().map(|(key, json)| (key.clone(), json.to_vec())).collect()
    };
    for before in &directories {
        for after in &directories {
            let (before, after) = (Slice::of(before, &serves), Slice::of(after, &serves));
            let difference = after.since(&before);
            let mut led = held(&before);
            difference.deleted.iter().for_each(|key| assert!(led.remove(key).is_some()));
            led.extend(difference.put.iter().map(|entry| (entry.key.clone(), entry.json.to_vec())));
            assert!(led == held(&after));
            if before.version() == after.version() {
                assert!(difference.put.is_empty() && difference.deleted.is_empty());
            }
        }
    }
}

fn key(what: &str) -> String {
    format!("authentication.kubernetes.io/{what}")
}

type Alter = dyn Fn(&mut Reviewed);

fn reviewed() -> Reviewed {
    let extra = [("pod-name", "pod-1"), ("pod-uid", "uid-0-1"), ("node-name", "n1")];
    Reviewed {
        user: "system:serviceaccount:shop:web".to_owned(),
        extra: extra.map(|(what, value)| (key(what), vec![value.to_owned()])).into(),
        audiences: vec![AUDIENCE.to_owned()],
    }
}

#[test]
fn a_caller_is_the_pod_that_its_token_is_bound_to() {
    let pods = [pod(0, 1, "web", "web"), pod(0, 2, "web", "web")];
    let directory = directory(&cluster(places().into_iter().chain(pods)));
    let caller = Caller::of(&reviewed(), &directory).unwrap();
    assert_eq!(caller.to_string(), "shop/pod-1");
    let refused: &[(&str, &Alter)] = &[
        ("another audience", &|one| one.audiences = vec!["https://kubernetes.default.svc".to_owned()]),
        ("no audience", &|one| one.audiences.clear()),
        ("a user", &|one| one.user = "admin".to_owned()),
        ("another account", &|one| one.user = "system:serviceaccount:shop:admin".to_owned()),
        ("another namespace", &|one| one.user = "system:serviceaccount:office:web".to_owned()),
        ("no pod", &|one| drop(one.extra.remove(&key("pod-name")))),
        ("no uid", &|one| drop(one.extra.remove(&key("pod-uid")))),
        ("another uid", &|one| drop(one.extra.insert(key("pod-uid"), vec!["uid-0-2".to_owned()]))),
        ("two names", &|one| {
            one.extra.insert(key("pod-name"), vec!["pod-1".to_owned(), "pod-2".to_owned()]);
        }),
        ("another node", &|one| drop(one.extra.insert(key("node-name"), vec!["n2".to_owned()]))),
    ];
    for (what, change) in refused {
        let mut one = reviewed();
        change(&mut one);
        assert!(Caller::of(&one, &directory).is_err(), "{what}");
    }
}

#[test]
fn who_may_serve_whom() {
    let pods = [pod(0, 1, "web", "web"), pod(0, 2, "web", "web")];
    let directory = directory(&cluster(places().into_iter().chain(pods)));
    let own = Serves::Pod { namespace: "shop".into(), name: "pod-1".into() };
    let (other, node) = (Serves::Pod { namespace: "shop".into(), name: "pod-2".into() }, Serves::Node("n1".into()));
    let nobody: &[String] = &[];
    let web = &["shop/web".to_owned()];
    let caller = Caller::of(&reviewed(), &directory).unwrap();
    assert!(caller.may_serve(&own, nobody).is_ok());
    assert!(caller.may_serve(&other, web).is_err());
    assert!(caller.may_serve(&node, nobody).is_err(), "any pod of the node could");
    assert!(caller.may_serve(&node, web).is_ok());
    assert!(caller.may_serve(&Serves::Node("n2".into()), web).is_err());
    let mut unbound = reviewed();
    unbound.extra.remove(&key("node-name"));
    let caller = Caller::of(&unbound, &directory).unwrap();
    assert!(caller.may_serve(&own, web).is_ok() && caller.may_serve(&node, web).is_err());
}
