//! The part of the cluster that one proxy is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use eastwall_protocol::v1alpha1 as protocol;
use sha2::{Digest as _, Sha256};

use super::directory::{Directory, Pod};
use super::group::{Entry, Group, differing};
use super::trim::{self, Part};
use crate::cluster::Key;

/// Whom a proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// One pod.
    Pod {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// Every pod of a node.
    Node(Arc<str>),
}

/// What one proxy is told, of one state of the cluster.
#[derive(Debug)]
pub struct Slice {
    directory: Arc<Directory>,
    pods: Vec<Arc<Pod>>,
    namespaces: BTreeMap<Arc<str>, Arc<Group>>,
    /// Its own pods, where they have probes: in place of what everybody is told.
    own: BTreeMap<Key, Arc<Entry>>,
    version: Arc<str>,
}

/// From one slice to a later one.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) put: Vec<Arc<Entry>>,
    pub(super) deleted: Vec<Key>,
}

impl Slice {
    /// What a proxy that serves these is told.
    #[must_use]
    pub fn of(directory: &Arc<Directory>, serves: &Serves) -> Self {
        let pods: Vec<Arc<Pod>> = match serves {
            Serves::Pod { namespace, name } => directory.pod(namespace, name).into_iter().cloned().collect(),
            Serves::Node(node) => directory.pods_of(node).to_vec(),
        };
        let of_namespaces: BTreeSet<&Arc<str>> = pods.iter().map(|pod| &pod.namespace).collect();
        let namespaces: BTreeMap<Arc<str>, Arc<Group>> = of_namespaces
            .into_iter()
            .filter_map(|name| Some((Arc::clone(name), Arc::clone(directory.namespaces.get(name)?))))
            .collect();
        let probed = pods.iter().filter_map(|pod| pod.probed.as_ref());
        let own = probed.map(|entry| (entry.key.clone(), Arc::clone(entry))).collect();
        let mut hash = Sha256::new();
        hash.update(directory.shared.digest);
        namespaces.values().for_each(|group| hash.update(group.digest));
        hash.update([0]);
        pods.iter().for_each(|pod| hash.update(pod.digest));
        let mut version = String::new();
        for byte in hash.finalize().iter().take(VERSION_BYTES) {
            // Text takes everything.
            let _ = write!(version, "{byte:02x}");
        }
        Self { directory: Arc::clone(directory), pods, namespaces, own, version: version.into() }
    }

    /// The same for the same content, whoever serves it.
    #[must_use]
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Every object, as JSON.
    pub fn objects(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        self.entries().map(|entry| (&entry.key, &*entry.json))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let shared = self.directory.shared.entries.iter().map(|(key, entry)| self.own.get(key).unwrap_or(entry));
        shared.chain(self.namespaces.values().flat_map(|group| group.entries.values()))
    }

    /// The policies among them.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries().filter(|entry| trim::part(&entry.key) == Some(Part::Policy))
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        let shared = || self.directory.shared.entries.get(key);
        let of_namespace = || self.namespaces.get(&key.namespace)?.entries.get(key);
        self.own.get(key).or_else(shared).or_else(of_namespace)
    }

    /// The pods that it is for and that have an identity.
    pub(super) fn workloads(&self) -> Vec<protocol::Workload> {
        let with_identity = self.pods.iter().filter(|pod| pod.has_identity());
        let told = with_identity.map(|pod| protocol::Workload {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            service_account: pod.service_account.to_string(),
        });
        told.collect()
    }

    /// What leads from an earlier slice of the same proxy to this one.
    pub(super) fn since(&self, before: &Self) -> Difference {
        let mut keys: BTreeSet<&Key> = BTreeSet::new();
        let (old, new) = (&before.directory, &self.directory);
        if old.number + 1 == new.number {
            keys.extend(&new.changed);
        } else if !Arc::ptr_eq(&old.shared, &new.shared) {
            keys.extend(differing(&old.shared.entries, &new.shared.entries));
        }
        let none = Group::default();
        for name in before.namespaces.keys().chain(self.namespaces.keys()) {
            let old = before.namespaces.get(name).map_or(&none, |group| group);
            let new = self.namespaces.get(name).map_or(&none, |group| group);
            if !std::ptr::eq(old, new) {
                keys.extend(differing(&old.entries, &new.entries));
            }
        }
        keys.extend(before.own.keys().chain(self.own.keys()));
        let mut difference = Difference::default();
        for key in keys {
            match (before.get(key), self.get(key)) {
                (Some(old), Some(new)) if old.digest == new.digest => {}
                (_, Some(new)) => difference.put.push(Arc::clone(new)),
                (Some(_), None) => difference.deleted.push(key.clone()),
                (None, None) => {}
            }
        }
        difference
    }
}

/// Enough that two versions never meet by chance.
const VERSION_BYTES: usize = 16;
