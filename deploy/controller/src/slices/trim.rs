//! What of an object is told: all of a policy that is not its status; of an object that says who is where, what the
//! registry reads of it, so that nothing else makes a new version.

use eastwall_policy::dialect;
use eastwall_policy::registry::ANNOTATION_GROUPS;
use serde_json::{Map, Value, json};

use crate::cluster::{Key, Object};

/// What an object is for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A policy, an emergency, or the settings that they are read by.
    Policy,
    /// Who is where.
    Place,
}

/// What an object of this kind is; nothing for one that proxies are not told of.
pub(super) fn part(key: &Key) -> Option<Part> {
    match (&*key.api_version, &*key.kind) {
        ("v1", "Pod" | "Namespace" | "Node" | "Service") | ("discovery.k8s.io/v1", "EndpointSlice") => {
            Some(Part::Place)
        }
        (_, kind) if dialect::reads().any(|reads| reads.group == group(key) && reads.kinds.contains(&kind)) => {
            Some(Part::Policy)
        }
        _ => None,
    }
}

/// The API group; empty for the core group.
pub(super) fn group(key: &Key) -> &str {
    key.api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// A policy.
pub(super) fn policy(object: &Object) -> Value {
    let mut told = head(object, POLICY_METADATA);
    for (name, value) in object.value.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            told.insert(name.clone(), value.clone());
        }
    }
    Value::Object(told)
}

/// An object that says who is where. `probes`: with those of a pod, which only its own proxy lets pass.
pub(super) fn place(object: &Object, probes: bool) -> Value {
    let (metadata, shape) = match (&*object.key.kind, probes) {
        ("Pod", true) => (DESCRIBED, POD_WITH_PROBES),
        ("Pod", false) => (DESCRIBED, POD),
        ("Namespace", _) => (DESCRIBED, Members(&[])),
        ("Node", _) => (NAMED, NODE),
        ("Service", _) => (NAMED, SERVICE),
        _ => (LABELLED, ENDPOINT_SLICE),
    };
    let mut told = head(object, metadata);
    if let Value::Object(rest) = kept(&object.value, shape) {
        told.extend(rest);
    }
    if let Some(phase) = told.get_mut("status").and_then(|status| status.get_mut("phase"))
        && has_ended(object)
    {
        *phase = "Succeeded".into();
    }
    Value::Object(told)
}

/// Whether a pod has no address and no identity any more: it ran to its end, or is being deleted and none of its
/// containers runs. Told as its end, so that what becomes of its containers before is no news.
pub(super) fn has_ended(object: &Object) -> bool {
    let at = |pointer: &str| object.value.pointer(pointer);
    if matches!(at("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed")) {
        return true;
    }
    let items = |pointer: String| at(&pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // A container of which nothing is told may run.
    let all_stopped = ["container", "initContainer", "ephemeralContainer"].iter().all(|sort| {
        let told = items(format!("/status/{sort}Statuses"));
        told.len() >= items(format!("/spec/{sort}s")).len()
            && told
                .iter()
                .all(|one| one.get("state").is_some_and(|state| state.get("running").is_none_or(Value::is_null)))
    });
    at("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) && all_stopped
}

/// Whether a pod's spec declares a probe.
pub(super) fn has_probes(object: &Object) -> bool {
    let containers = ["/spec/containers", "/spec/initContainers"].map(|list| object.value.pointer(list));
    let mut containers = containers.into_iter().flatten().filter_map(Value::as_array).flatten();
    containers
        .any(|one| ["livenessProbe", "readinessProbe", "startupProbe"].iter().any(|probe| one.get(probe).is_some()))
}

/// What is kept of a value.
#[derive(Clone, Copy)]
enum Shape {
    /// All of it.
    All,
    /// Members of these names.
    Members(&'static [(&'static str, Self)]),
    /// All of the members for whose names this holds.
    Named(fn(&str) -> bool),
    /// Of each item of a list for which this holds.
    Each(fn(&Value) -> bool, &'static Self),
}

use Shape::{All, Each, Members, Named};

fn kept(value: &Value, shape: Shape) -> Value {
    match (shape, value) {
        (Members(members), Value::Object(held)) => {
            let member = |(name, shape): &(&str, Shape)| Some(((*name).to_owned(), kept(held.get(*name)?, *shape)));
            Value::Object(members.iter().filter_map(member).collect())
        }
        (Named(holds), Value::Object(held)) => Value::Object(
            held.iter().filter(|(name, _)| holds(name)).map(|(name, value)| (name.clone(), value.clone())).collect(),
        ),
        (Each(holds, shape), Value::Array(items)) => {
            items.iter().filter(|item| holds(item)).map(|item| kept(item, *shape)).collect()
        }
        // What is not of its type is for the registry to refuse.
        _ => value.clone(),
    }
}

fn every(_: &Value) -> bool {
    true
}

fn has(item: &Value, member: &str, text: &str) -> bool {
    item.get(member).and_then(Value::as_str) == Some(text)
}

fn is_ip(address: &Value) -> bool {
    address.get("type").and_then(Value::as_str).is_some_and(|what| what.ends_with("IP"))
}

fn is_ready(condition: &Value) -> bool {
    has(condition, "type", "Ready")
}

fn is_sidecar(container: &Value) -> bool {
    has(container, "restartPolicy", "Always")
}

/// Others say what they like, often at length, and every change of them would be news to every proxy.
fn is_read(annotation: &str) -> bool {
    annotation.split_once('/').is_some_and(|(group, _)| ANNOTATION_GROUPS.contains(&group))
}

const NAMED: Shape = Members(&[("name", All), ("namespace", All)]);
const LABELLED: Shape = Members(&[("name", All), ("namespace", All), ("labels", All)]);
const DESCRIBED: Shape =
    Members(&[("name", All), ("namespace", All), ("labels", All), ("annotations", Named(is_read))]);
/// Where the oldest of two wins, the time counts.
const POLICY_METADATA: Shape =
    Members(&[("name", All), ("namespace", All), ("creationTimestamp", All), ("labels", All), ("annotations", All)]);

const POD: Shape = Members(&[("spec", POD_SPEC), ("status", POD_STATUS)]);
const POD_SPEC: Shape = Members(&[
    ("serviceAccountName", All),
    ("serviceAccount", All),
    ("nodeName", All),
    ("hostNetwork", All),
    ("containers", Each(every, &CONTAINER)),
    ("initContainers", Each(is_sidecar, &CONTAINER)),
]);
const POD_WITH_PROBES: Shape = Members(&[("spec", POD_SPEC_WITH_PROBES), ("status", POD_STATUS)]);
const POD_SPEC_WITH_PROBES: Shape = Members(&[
    ("serviceAccountName", All),
    ("serviceAccount", All),
    ("nodeName", All),
    ("hostNetwork", All),
    ("containers", Each(every, &PROBED_CONTAINER)),
    ("initContainers", Each(is_sidecar, &PROBED_CONTAINER)),
]);
const CONTAINER: Shape = Members(&[("restartPolicy", All), ("ports", CONTAINER_PORTS)]);
const PROBED_CONTAINER: Shape = Members(&[
    ("restartPolicy", All),
    ("ports", CONTAINER_PORTS),
    ("livenessProbe", PROBE),
    ("readinessProbe", PROBE),
    ("startupProbe", PROBE),
]);
const CONTAINER_PORTS: Shape = Each(every, &Members(&[("name", All), ("containerPort", All), ("protocol", All)]));
const PROBE: Shape = Members(&[("httpGet", All), ("tcpSocket", All), ("grpc", All)]);
const POD_STATUS: Shape = Members(&[
    ("phase", All),
    ("podIP", All),
    ("podIPs", Each(every, &Members(&[("ip", All)]))),
    ("conditions", Each(is_ready, &Members(&[("type", All), ("status", All)]))),
]);
const NODE: Shape = Members(&[
    ("spec", Members(&[("podCIDRs", All)])),
    ("status", Members(&[("addresses", Each(is_ip, &Members(&[("type", All), ("address", All)])))])),
]);
const SERVICE: Shape = Members(&[(
    "spec",
    Members(&[("type", All), ("clusterIP", All), ("clusterIPs", All), ("selector", All), ("ports", SERVICE_PORTS)]),
)]);
const SERVICE_PORTS: Shape = Each(
    every,
    &Members(&[("name", All), ("port", All), ("targetPort", All), ("protocol", All), ("appProtocol", All)]),
);
const ENDPOINT_SLICE: Shape = Members(&[
    ("addressType", All),
    ("ports", Each(every, &Members(&[("name", All), ("port", All)]))),
    (
        "endpoints",
        Each(
            every,
            &Members(&[
                ("addresses", All),
                ("conditions", Members(&[("ready", All)])),
                ("targetRef", Members(&[("kind", All), ("namespace", All), ("name", All)])),
            ]),
        ),
    ),
]);

fn head(object: &Object, metadata: Shape) -> Map<String, Value> {
    let mut metadata = object.value.get("metadata").map(|held| kept(held, metadata)).unwrap_or_default();
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        // The whole object once more.
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let Key { api_version, kind, .. } = &object.key;
    Map::from_iter([
        ("apiVersion".to_owned(), json!(&**api_version)),
        ("kind".to_owned(), json!(&**kind)),
        ("metadata".to_owned(), metadata),
    ])
}
