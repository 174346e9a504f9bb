//! What of an object is kept. What nobody reads would cost memory, and every change of it would wake whoever follows the
//! cluster: the status of a Pod changes a dozen times while it starts.
//!
//! INVARIANT: nothing is taken away that the compiler or the registry reads, but for the copy of the object that `kubectl
//! apply` leaves in an annotation, by which no policy selects. Of a `spec` known weight is taken away, so
//! that a field that is read one day is there; of a `status` only what is read is kept.

use std::sync::Arc;

use kube::core::{ApiResource, DynamicObject};
use serde_json::{Map, Value};

use crate::cluster::{Key, Object};

/// Takes away what nobody reads.
pub(super) fn trim(resource: &ApiResource, object: &mut DynamicObject) {
    let metadata = &mut object.metadata;
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.self_link = None;
    metadata.finalizers = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let Some(data) = object.data.as_object_mut() else { return };
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod(data),
        ("", "Node") => keep_of(data, "status", &["addresses"]),
        ("", "Namespace") => data.clear(),
        // The controller's own.
        (crate::GROUP, _) => {}
        _ => {
            data.remove("status");
        }
    }
}

/// The object as the store holds it; none without a name, which no API server gives.
pub(crate) fn object(resource: &ApiResource, object: DynamicObject) -> Option<Object> {
    let DynamicObject { metadata, data, .. } = object;
    let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
    let key = Key {
        api_version: resource.api_version.as_str().into(),
        kind: resource.kind.as_str().into(),
        namespace: text(&metadata.namespace),
        name: metadata.name.as_deref()?.into(),
    };
    let (uid, generation) = (text(&metadata.uid), metadata.generation.unwrap_or_default());
    // Items of a list do not say what they are.
    let mut value = Map::new();
    value.insert("apiVersion".into(), resource.api_version.as_str().into());
    value.insert("kind".into(), resource.kind.as_str().into());
    value.insert("metadata".into(), serde_json::to_value(metadata).ok()?);
    if let Value::Object(data) = data {
        value.extend(data);
    }
    Some(Object { key, uid, generation, value: Arc::new(Value::Object(value)) })
}

fn pod(data: &mut Map<String, Value>) {
    if let Some(spec) = data.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|member, _| !UNREAD_OF_SPEC.contains(&member.as_str()));
        for sort in ["containers", "initContainers", "ephemeralContainers"] {
            for container in items(spec, sort) {
                container.retain(|member, _| !UNREAD_OF_CONTAINER.contains(&member.as_str()));
            }
        }
    }
    let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    keep_of(data, "status", &[&["phase", "podIP", "podIPs", "hostIP", "conditions"], &statuses[..]].concat());
    let Some(status) = data.get_mut("status").and_then(Value::as_object_mut) else { return };
    for condition in items(status, "conditions") {
        condition.retain(|member, _| matches!(member.as_str(), "type" | "status"));
    }
    for sort in statuses {
        for told in items(status, sort) {
            told.retain(|member, _| matches!(member.as_str(), "name" | "state"));
            for state in told.get_mut("state").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
                *state = Value::Object(Map::new());
            }
        }
    }
}

fn items<'v>(data: &'v mut Map<String, Value>, member: &str) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    data.get_mut(member).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn keep_of(data: &mut Map<String, Value>, member: &str, kept: &[&str]) {
    if let Some(part) = data.get_mut(member).and_then(Value::as_object_mut) {
        part.retain(|member, _| kept.contains(&member.as_str()));
    }
}

const UNREAD_OF_SPEC: &[&str] = &[
    "affinity",
    "dnsConfig",
    "imagePullSecrets",
    "priority",
    "readinessGates",
    "resources",
    "schedulerName",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

const UNREAD_OF_CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "resources",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeDevices",
    "volumeMounts",
];

#[cfg(test)]
mod tests {
    use eastwall_policy::registry::Registry;
    use eastwall_policy::registry::kubernetes::Objects;
    use eastwall_policy::source::Document;
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_of_a_pod_is_kept() {
        let whole = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "orders-1", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 2,
                "labels": {"app": "orders"},
                "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "managedFields": [{"manager": "kubelet"}], "creationTimestamp": "2026-01-01T00:00:00Z",
                "deletionTimestamp": "2026-01-01T01:00:00Z",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders", "uid": "o", "controller": true}],
            },
            "spec": {
                "serviceAccountName": "orders", "nodeName": "n1", "hostNetwork": false, "volumes": [{"name": "v"}],
                "tolerations": [{}],
                "containers": [{
                    "name": "c", "image": "i", "env": [{"name": "A"}], "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}}, "volumeMounts": [{}],
                }],
                "initContainers": [{"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 1}], "command": ["x"]}],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "containerStatuses": [{"name": "c", "imageID": "x", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
            },
        });
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let mut object: DynamicObject = serde_json::from_value(whole.clone()).unwrap();
        trim(&resource, &mut object);
        let object = super::object(&resource, object).unwrap();
        let registry = |value: &Value| {
            let objects = Objects::of(&[Document::of_object(&"f".into(), value)]);
            objects.join(Registry::default()).0.workloads
        };
        let mut expected = registry(&whole);
        expected[0].annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        assert_eq!(registry(&object.value), expected);
        assert_eq!(registry(&whole)[0].ips.len(), 2, "it still runs");
        assert_eq!((&*object.uid, object.generation), ("u", 2));
        let text = object.value.to_string();
        for unread in
            ["managedFields", "resourceVersion", "volumes", "imageID", "startedAt", "last-applied", "volumeMounts"]
        {
            assert!(!text.contains(unread), "{unread}: {text}");
        }
    }

    #[test]
    fn a_heartbeat_is_no_change() {
        let node = |time: &str| {
            let value = json!({
                "metadata": {"name": "n1", "resourceVersion": time},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "conditions": [{"lastHeartbeatTime": time}], "images": [{}]},
            });
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"));
            let mut object: DynamicObject = serde_json::from_value(value).unwrap();
            trim(&resource, &mut object);
            super::object(&resource, object).unwrap()
        };
        assert_eq!(node("1"), node("2"));
        assert!(node("1").value.pointer("/status/addresses/0/address").is_some());
    }
}
