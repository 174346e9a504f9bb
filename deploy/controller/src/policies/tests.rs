use eastwall_policy::source::Document;
use serde_json::{Value, json};

use super::*;
use crate::cluster::{Change, Key, Store};

pub(crate) fn object(value: Value) -> Object {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().into();
    Object {
        key: Key {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        },
        uid: "u".into(),
        generation: value.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default(),
        value: Arc::new(value),
    }
}

pub(crate) fn policy(generation: i64, rule: impl Into<Value>) -> Object {
    let rule: Value = rule.into();
    object(json!({
        "apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy",
        "metadata": {"name": "orders", "namespace": "shop", "generation": generation, "uid": "u"},
        "spec": {"subject": [{"pods": {"matchLabels": {"app": "orders"}}}], "ingress": [rule]},
    }))
}

pub(crate) fn good() -> Value {
    json!({"from": [{"any": true}], "tcp": {}})
}

pub(crate) fn pod(name: &str, app: &str, address: &str) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": address},
    }))
}

pub(crate) fn policies() -> Policies {
    Policies::new(Arc::new(Metrics::new().unwrap()))
}

const FILE: &str = "firewallpolicy.eastwall.dev/shop/orders";

#[test]
fn a_refused_policy_keeps_its_last_good_generation() {
    let (store, policies) = (Store::default(), policies());
    store.apply([Change::Put(policy(1, good()))]);
    let view = policies.view(&store.load());
    assert_eq!(view.in_force.get(FILE), Some(&1));
    assert!(view.findings(FILE).is_empty() && !view.is_refused(view.document(FILE).unwrap()));

    store.apply([Change::Put(policy(2, json!({"from": [{"any": true}], "tpc": {}})))]);
    let view = policies.view(&store.load());
    let document: &Document = view.document(FILE).unwrap();
    assert!(view.is_refused(document));
    assert_eq!(view.in_force.get(FILE), Some(&1), "the last good one");
    let lines: Vec<String> = view.findings(FILE).iter().map(|finding| line(finding, Some(document))).collect();
    let expected = "spec.ingress[0].tpc: unknown field `tpc` [EW0201]; did you mean `tcp`?";
    assert!(lines.iter().any(|line| line == expected), "{lines:?}");

    store.apply([Change::Put(policy(3, good()))]);
    assert_eq!(policies.view(&store.load()).in_force.get(FILE), Some(&3));
}

#[test]
fn what_never_was_good_is_in_force_in_no_generation() {
    let (store, policies) = (Store::default(), policies());
    store.apply([Change::Put(policy(1, json!({"tpc": {}}))), Change::Put(pod("a", "orders", "10.0.0.2"))]);
    let view = policies.view(&store.load());
    assert_eq!(view.in_force.get(FILE), None);
    assert!(view.compiled.model.policies[0].broken, "what it selects is closed");
}

#[test]
fn pods_change_the_registry_and_no_policy() {
    let (store, policies) = (Store::default(), policies());
    store.apply([Change::Put(policy(1, good()))]);
    let first = policies.view(&store.load());
    store.apply([Change::Put(pod("a", "orders", "10.0.0.2"))]);
    let second = policies.view(&store.load());
    assert_eq!((first.registry.workloads.len(), second.registry.workloads.len()), (0, 1));
    assert!(Arc::ptr_eq(&first.compiled.model, &second.compiled.model));
    // A status that was written is no new document either.
    let mut written = (*policy(1, good()).value).clone();
    written["status"] = json!({"observedGeneration": 1});
    store.apply([Change::Put(object(written))]);
    assert!(Arc::ptr_eq(&second.compiled.model, &policies.view(&store.load()).compiled.model));
    store.apply([Change::Delete(policy(1, good()).key)]);
    assert!(policies.view(&store.load()).compiled.model.policies.is_empty());
}

#[test]
fn files_are_called_as_kubectl_calls_objects() {
    let key = |api_version: &str, kind: &str, namespace: &str| Key {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: "x".into(),
    };
    assert_eq!(&*file(&key("v1", "Pod", "shop")), "pod/shop/x");
    assert_eq!(
        &*file(&key("eastwall.dev/v1alpha1", "ClusterFirewallPolicy", "")),
        "clusterfirewallpolicy.eastwall.dev/x"
    );
}
