//! Pods before which no proxy stands: whatever policies say of them, nobody refuses anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwall_injector::{NamespaceChoice, Sidecar};
use serde_json::Value;
use tokio::sync::watch;

use crate::cluster::{Cluster, Object, Store};
use crate::status::Programmed;

/// Namespace and name of each, and what it lacks.
pub(crate) type Uncovered = BTreeMap<(Arc<str>, Arc<str>), Lack>;

/// Why no proxy stands before a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lack {
    /// It is to have a sidecar, and has none: it is older than the label, or the webhook was not asked.
    NoSidecar,
    /// Its sidecar, or the proxy of its node, does not follow.
    NotConnected,
    /// The proxy of its node does not get its traffic: it is older than the CNI plugin, or its namespace is exempt there.
    NotCaptured,
    /// Its node has no proxy.
    NoProxy,
    /// The label of its namespace says that it is left alone.
    LeftAlone,
}

impl Lack {
    /// As metrics and statuses name it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NoSidecar => "no-sidecar",
            Self::NotConnected => "proxy-not-connected",
            Self::NotCaptured => "not-captured",
            Self::NoProxy => "no-proxy",
            Self::LeftAlone => "left-alone",
        }
    }

    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] =
        [Self::NoSidecar, Self::NotConnected, Self::NotCaptured, Self::NoProxy, Self::LeftAlone];
}

/// How it looks.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    /// Service accounts (`namespace/name`) of the proxies of nodes.
    pub(crate) node_accounts: Vec<String>,
    /// How long a pod may be without a proxy before it is told: one that starts, or whose proxy follows another replica.
    pub(crate) grace: Duration,
}

/// Looks for as long as anybody listens.
pub(crate) async fn look(
    store: Arc<Store>,
    programmed: watch::Receiver<Programmed>,
    looks: Looks,
    told: watch::Sender<Uncovered>,
) {
    let mut since = Since::default();
    loop {
        tokio::time::sleep(OFTEN).await;
        let cluster = store.load();
        if !cluster.complete {
            continue;
        }
        let lacking = lacking(&cluster, &programmed.borrow(), &looks.node_accounts);
        let uncovered = since.lasting(lacking, looks.grace, Instant::now());
        told.send_if_modified(|held| {
            let differs = *held != uncovered;
            *held = uncovered;
            differs
        });
    }
}

/// A pod of this name and uid.
type Which = ((Arc<str>, Arc<str>), Arc<str>);

/// Since when each pod is without a proxy.
#[derive(Default)]
struct Since(BTreeMap<Which, Instant>);

impl Since {
    fn lasting(&mut self, lacking: BTreeMap<Which, Lack>, grace: Duration, now: Instant) -> Uncovered {
        self.0.retain(|which, _| lacking.contains_key(which));
        let lasts = |(which, lack): (Which, Lack)| {
            let since = *self.0.entry(which.clone()).or_insert(now);
            (now.duration_since(since) >= grace).then_some((which.0, lack))
        };
        lacking.into_iter().filter_map(lasts).collect()
    }
}

fn lacking(cluster: &Cluster, programmed: &Programmed, node_accounts: &[String]) -> BTreeMap<Which, Lack> {
    // Whoever is not heard may stand before any of them.
    if programmed.is_partial {
        return BTreeMap::new();
    }
    let of_kind = |kind: &'static str| {
        let all = cluster.objects.values();
        all.filter(move |object| &*object.key.kind == kind && &*object.key.api_version == "v1")
    };
    let namespaces: BTreeMap<&str, &Arc<Object>> = of_kind("Namespace").map(|one| (&*one.key.name, one)).collect();
    let text =
        |pod: &'_ Arc<Object>, at: &str| pod.value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_of_node = |pod: &&Arc<Object>| {
        let account = format!("{}/{}", pod.key.namespace, text(pod, "/spec/serviceAccountName"));
        node_accounts.contains(&account)
    };
    let with_proxy: BTreeSet<String> =
        of_kind("Pod").filter(is_of_node).map(|pod| text(pod, "/spec/nodeName")).collect();
    let runs = |pod: &&Arc<Object>| {
        text(pod, "/status/phase") == "Running"
            && !text(pod, "/status/podIP").is_empty()
            && pod.value.pointer("/spec/hostNetwork") != Some(&Value::Bool(true))
    };
    let mut lacking = BTreeMap::new();
    for pod in of_kind("Pod").filter(runs) {
        let name = (Arc::clone(&pod.key.namespace), Arc::clone(&pod.key.name));
        if programmed.served.contains(&name) {
            continue;
        }
        let namespace = namespaces.get(&*pod.key.namespace);
        let labels = namespace.and_then(|one| one.value.pointer("/metadata/labels")?.as_object());
        let choice = NamespaceChoice::of(labels).unwrap_or(NamespaceChoice::Enabled);
        let is_left_alone = labels.and_then(|labels| labels.get(INTERCEPTION)).is_some_and(|word| word == "disabled");
        let node = text(pod, "/spec/nodeName");
        let lack = match Sidecar::of(&pod.value, choice) {
            Sidecar::Present => Lack::NotConnected,
            Sidecar::Missing => Lack::NoSidecar,
            Sidecar::Unasked if is_left_alone => Lack::LeftAlone,
            Sidecar::Unasked if programmed.nodes.contains(&*node) => Lack::NotCaptured,
            Sidecar::Unasked if with_proxy.contains(&node) => Lack::NotConnected,
            Sidecar::Unasked => Lack::NoProxy,
        };
        lacking.insert((name, Arc::clone(&pod.uid)), lack);
    }
    lacking
}

/// Label of a namespace whose pods the proxy of a node leaves alone.
const INTERCEPTION: &str = "eastwall.dev/interception";

const OFTEN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::{Change, Key};

    fn object(kind: &str, namespace: &str, name: &str, value: Value) -> Change {
        let [api_version, kind, namespace, name] = ["v1", kind, namespace, name].map(Arc::from);
        let key = Key { api_version, kind, namespace, name };
        Change::Put(Object { key, uid: "1".into(), generation: 0, value: Arc::new(value) })
    }

    fn pod(namespace: &str, name: &str, spec: &Value) -> Change {
        let status = json!({"phase": "Running", "podIP": "10.0.0.2"});
        object("Pod", namespace, name, json!({"metadata": {}, "spec": spec, "status": status}))
    }

    fn namespace(name: &str, labels: &Value) -> Change {
        object("Namespace", "", name, json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn each_pod_without_a_proxy_has_a_reason() {
        let store = Store::default();
        let sidecar = json!([{"name": "eastwall-redirect"}, {"name": "eastwall-proxy", "restartPolicy": "Always"}]);
        let on = |node: &str| json!({"nodeName": node});
        store.apply([
            namespace("asks", &json!({"eastwall.dev/inject": "enabled"})),
            namespace("plain", &json!({})),
            namespace("alone", &json!({"eastwall.dev/interception": "disabled"})),
            pod("asks", "old", &json!({"nodeName": "with"})),
            pod("asks", "silent", &json!({"nodeName": "with", "initContainers": sidecar})),
            pod("asks", "well", &json!({"nodeName": "with", "initContainers": sidecar})),
            pod("alone", "a", &on("with")),
            pod("plain", "old", &on("with")),
            pod("plain", "well", &on("with")),
            pod("plain", "cut", &on("cut")),
            pod("plain", "bare", &on("bare")),
            pod("plain", "host", &json!({"nodeName": "bare", "hostNetwork": true})),
            object("Pod", "plain", "starts", json!({"spec": {"nodeName": "bare"}, "status": {"phase": "Pending"}})),
            pod("node", "proxy", &json!({"nodeName": "cut", "serviceAccountName": "eastwall", "hostNetwork": true})),
        ]);
        let mut programmed = Programmed::default();
        programmed.nodes.insert("with".into());
        programmed.served.extend([("asks".into(), "well".into()), ("plain".into(), "well".into())]);
        let found = lacking(&store.load(), &programmed, &["node/eastwall".to_owned()]);
        let found: Vec<String> =
            found.iter().map(|(((namespace, name), _), lack)| format!("{namespace}/{name} {}", lack.label())).collect();
        let expected = [
            "alone/a left-alone",
            "asks/old no-sidecar",
            "asks/silent proxy-not-connected",
            "plain/bare no-proxy",
            "plain/cut proxy-not-connected",
            "plain/old not-captured",
        ];
        assert_eq!(found, expected);
        programmed.is_partial = true;
        assert!(lacking(&store.load(), &programmed, &[]).is_empty());
    }

    #[test]
    fn a_pod_is_told_when_it_lasts() {
        let which = |uid: &str| (("shop".into(), "a".into()), uid.into());
        let lacking = |uid: &str| BTreeMap::from([(which(uid), Lack::NoProxy)]);
        let (mut since, start, grace) = (Since::default(), Instant::now(), Duration::from_secs(30));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(since.lasting(lacking("1"), grace, start).is_empty());
        assert_eq!(since.lasting(lacking("1"), grace, after(30)).len(), 1);
        assert!(since.lasting(lacking("2"), grace, after(31)).is_empty(), "another pod of that name");
        assert!(since.lasting(BTreeMap::new(), grace, after(40)).is_empty());
        assert!(since.lasting(lacking("2"), grace, after(62)).is_empty(), "it had one meanwhile");
    }
}
