//! The cluster as proxies are told of it: made anew of what changed, shared by all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eastwall_policy::{dialect, source};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::group::{Digest, Entry, Group, differing};
use super::trim::{self, Part};
use crate::cluster::{Cluster, Key, Object, Store};

/// An immutable state.
#[derive(Debug, Default)]
pub struct Directory {
    /// Counts states; the one after this differs in `changed` from it.
    pub(super) number: u64,
    /// Everything has been read once.
    pub(super) complete: bool,
    /// What every proxy is told.
    pub(super) shared: Arc<Group>,
    /// What of `shared` is not as in the state before.
    pub(super) changed: Vec<Key>,
    /// Policies that can select workloads of one namespace alone.
    pub(super) namespaces: BTreeMap<Arc<str>, Arc<Group>>,
    /// By namespace and name.
    pods: BTreeMap<Name, Arc<Pod>>,
    /// Pods by node.
    nodes: BTreeMap<Arc<str>, Vec<Arc<Pod>>>,
    /// What it was made of.
    told: BTreeMap<Key, Told>,
}

/// Namespace and name.
type Name = (Arc<str>, Arc<str>);

/// What identity and ownership depend on.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
    pub(crate) service_account: Arc<str>,
    /// Empty until it is scheduled.
    pub(crate) node: Arc<str>,
    /// Its address is the node's: nothing tells it from others there.
    pub(crate) host_network: bool,
    /// It has run to its end, or failed.
    pub(crate) ended: bool,
    /// The pod with its probes, which only its own proxy is told.
    pub(super) probed: Option<Arc<Entry>>,
    pub(super) digest: Digest,
}

/// One object and what is told of it.
#[derive(Clone, Debug)]
struct Told {
    object: Arc<Object>,
    entry: Arc<Entry>,
    pod: Option<Arc<Pod>>,
}

/// Whose Istio policies hold for the whole mesh.
#[derive(Debug)]
enum Roots {
    /// The settings cannot be read: the proxies may still hold older ones.
    Anyones,
    Namespace(String),
}

impl Directory {
    /// Follows a cluster; ends when nobody follows it any more.
    pub(super) fn follow(store: &Store, gather: Duration) -> watch::Receiver<Arc<Self>> {
        let mut clusters = store.follow();
        let sender = watch::Sender::new(Arc::new(Self::default().after(&clusters.borrow_and_update())));
        let receiver = sender.subscribe();
        tokio::spawn(async move {
            loop {
                let changed = tokio::select! {
                    changed = clusters.changed() => changed,
                    () = sender.closed() => return,
                };
                if changed.is_err() {
                    return;
                }
                // What comes together is told together.
                tokio::time::sleep(gather).await;
                let cluster = clusters.borrow_and_update().clone();
                let before = Arc::clone(&sender.borrow());
                sender.send_replace(Arc::new(before.after(&cluster)));
            }
        });
        receiver
    }

    /// The state of a cluster; what is the same as in this one is taken over.
    #[must_use]
    pub fn after(&self, cluster: &Cluster) -> Self {
        let roots = roots(cluster);
        let mut told = BTreeMap::new();
        let mut shared = BTreeMap::new();
        let mut namespaces: BTreeMap<Arc<str>, BTreeMap<Key, Arc<Entry>>> = BTreeMap::new();
        let mut pods = BTreeMap::new();
        let mut nodes: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
        for (key, object) in &*cluster.objects {
            let Some(part) = trim::part(key) else { continue };
            let held = self.told.get(key).filter(|held| Arc::ptr_eq(&held.object, object));
            let one = held.cloned().unwrap_or_else(|| Told::of(object, part));
            let group = match part {
                Part::Policy if is_local(key, &roots) => namespaces.entry(Arc::clone(&key.namespace)).or_default(),
                _ => &mut shared,
            };
            group.insert(key.clone(), Arc::clone(&one.entry));
            if let Some(pod) = &one.pod {
                nodes.entry(Arc::clone(&pod.node)).or_default().push(Arc::clone(pod));
                pods.insert((Arc::clone(&pod.namespace), Arc::clone(&pod.name)), Arc::clone(pod));
            }
            told.insert(key.clone(), one);
        }
        let changed: Vec<Key> = differing(&self.shared.entries, &shared).cloned().collect();
        let shared = if changed.is_empty() { Arc::clone(&self.shared) } else { Arc::new(Group::new(shared)) };
        let namespaces = namespaces.into_iter().map(|(name, entries)| {
            let held = self.namespaces.get(&name);
            let held = held.filter(|held| differing(&held.entries, &entries).next().is_none());
            (name, held.map_or_else(|| Arc::new(Group::new(entries)), Arc::clone))
        });
        Self {
            number: self.number + 1,
            complete: cluster.complete,
            shared,
            changed,
            namespaces: namespaces.collect(),
            pods,
            nodes,
            told,
        }
    }

    /// The pod of this name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(&(namespace.into(), name.into()))
    }

    /// The policies of the native kinds, each with its generation.
    pub(super) fn native(&self) -> impl Iterator<Item = (&Key, i64)> {
        let policies = self
            .told
            .iter()
            .filter(|(key, _)| trim::group(key) == crate::GROUP && trim::part(key) == Some(Part::Policy));
        policies.map(|(key, told)| (key, told.object.generation))
    }

    /// The pods of a node.
    pub(super) fn pods_of(&self, node: &str) -> &[Arc<Pod>] {
        self.nodes.get(node).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Told {
    fn of(object: &Arc<Object>, part: Part) -> Self {
        let key = &object.key;
        let value = match part {
            Part::Policy => trim::policy(object),
            Part::Place => trim::place(object, false),
        };
        let is_pod = part == Part::Place && &*key.kind == "Pod";
        let pod = is_pod.then(|| Arc::new(Pod::of(object)));
        Self { object: Arc::clone(object), entry: Arc::new(Entry::new(key.clone(), &value)), pod }
    }
}

impl Pod {
    fn of(object: &Object) -> Self {
        let at = |pointer: &str| object.value.pointer(pointer);
        let text = |pointer| at(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(Arc::<str>::from);
        let account = text("/spec/serviceAccountName").or_else(|| text("/spec/serviceAccount"));
        let probed = trim::has_probes(object);
        let probed = probed.then(|| Arc::new(Entry::new(object.key.clone(), &trim::place(object, true))));
        let mut pod = Self {
            namespace: Arc::clone(&object.key.namespace),
            name: Arc::clone(&object.key.name),
            uid: Arc::clone(&object.uid),
            service_account: account.unwrap_or_else(|| "default".into()),
            node: text("/spec/nodeName").unwrap_or_default(),
            host_network: at("/spec/hostNetwork") == Some(&Value::Bool(true)),
            ended: trim::has_ended(object),
            probed,
            digest: Digest::default(),
        };
        let mut hash = Sha256::new();
        for part in [&pod.namespace, &pod.name, &pod.service_account] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update([u8::from(pod.has_identity())]);
        hash.update(pod.probed.as_ref().map(|entry| entry.digest).unwrap_or_default());
        pod.digest = hash.finalize().into();
        pod
    }

    /// Whether it gets a certificate.
    pub(crate) fn has_identity(&self) -> bool {
        !self.host_network && !self.ended
    }
}

/// Whether a policy can select workloads of its own namespace alone, and nothing elsewhere looks at it.
fn is_local(key: &Key, roots: &Roots) -> bool {
    match (trim::group(key), &*key.kind) {
        _ if key.namespace.is_empty() => false,
        // Policies of other namespaces name them.
        ("policy.linkerd.io", "MeshTLSAuthentication" | "NetworkAuthentication") => false,
        ("security.istio.io", _) => match roots {
            Roots::Anyones => false,
            Roots::Namespace(root) => *root != *key.namespace,
        },
        _ => true,
    }
}

fn roots(cluster: &Cluster) -> Roots {
    let settings = cluster.objects.values().filter(|object| &*object.key.kind == "DialectSettings");
    let settings = settings.map(|object| trim::policy(object).to_string() + "\n").collect::<Vec<_>>().join("---\n");
    let compiled = dialect::compile(&source::parse("settings", &settings.into()));
    if compiled.has_errors() {
        return Roots::Anyones;
    }
    Roots::Namespace(compiled.model.settings.istio.root_namespace.to_string())
}
