//! Which proxies follow, and what they have put in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eastwall_protocol::v1alpha1 as protocol;
use protocol::acknowledgement::Result as Outcome;
use tokio::sync::{oneshot, watch};

use super::caller::Caller;
use super::directory::Directory;
use super::group::Entry;
use super::slice::{Serves, Slice};
use crate::cluster::Key;
use crate::status::{Programmed, Progress};

/// The proxies that follow now.
#[derive(Debug)]
pub struct Fleet {
    /// By the uid of the proxy's pod.
    proxies: Mutex<BTreeMap<Arc<str>, Proxy>>,
    directory: watch::Receiver<Arc<Directory>>,
    changed: watch::Sender<u64>,
}

/// How many proxies have something in force as it stands in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Proxies that follow and are to have it.
    pub proxies: usize,
    /// Those of them that have it in force.
    pub in_force: usize,
    /// Those that refused it.
    pub refused: usize,
}

#[derive(Debug)]
struct Proxy {
    /// Namespace and name of its pod.
    name: Arc<str>,
    stream: u64,
    /// What it is to have.
    slice: Arc<Slice>,
    acknowledged: Option<Acknowledged>,
    serves: Serves,
    /// The pods of its node whose traffic reaches it, by namespace and name.
    captured: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Dropped when another stream of the same proxy takes its place.
    _replaced: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Acknowledged {
    slice: Arc<Slice>,
    outcome: Outcome,
    refused: Vec<Key>,
}

/// One stream's place in the fleet; left when dropped.
#[derive(Debug)]
pub(super) struct Place<'f> {
    fleet: &'f Fleet,
    uid: Arc<str>,
    stream: u64,
}

impl Proxy {
    /// Adds the pods before which it stands. A node's proxy speaks for the pods of its node alone.
    fn tell_whom(&self, directory: &Directory, programmed: &mut Programmed) {
        match &self.serves {
            Serves::Pod { namespace, name } => {
                programmed.served.insert((Arc::clone(namespace), Arc::clone(name)));
            }
            Serves::Node(node) => {
                programmed.nodes.insert(Arc::clone(node));
                let pods = directory.pods_of(node).iter();
                let names = pods.map(|pod| (Arc::clone(&pod.namespace), Arc::clone(&pod.name)));
                programmed.served.extend(names.filter(|name| self.captured.contains(name)));
            }
        }
    }

    /// Whether it has the policy in force, or has refused it; `None` while it has not spoken of it as it stands.
    fn has(&self, wanted: &Entry) -> Option<bool> {
        let Acknowledged { slice, outcome, refused } = self.acknowledged.as_ref()?;
        slice.get(&wanted.key).filter(|entry| entry.digest == wanted.digest)?;
        match outcome {
            Outcome::InForce | Outcome::Partly => Some(!refused.contains(&wanted.key)),
            Outcome::NotInForce | Outcome::Unspecified => None,
        }
    }
}

impl Fleet {
    pub(super) fn new(directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self { proxies: Mutex::default(), directory, changed: watch::Sender::new(0) }
    }

    /// How far the proxies that follow here have come with each policy of the native kinds.
    #[must_use]
    pub fn programmed(&self) -> Programmed {
        let directory = Arc::clone(&self.directory.borrow());
        let mut programmed = Programmed::default();
        for (key, generation) in directory.native() {
            programmed.policies.insert(key.clone(), Progress { generation, ..Progress::default() });
        }
        for proxy in self.proxies().values() {
            if proxy.acknowledged.is_some() {
                proxy.tell_whom(&directory, &mut programmed);
            }
            for entry in proxy.slice.policies() {
                if let Some(progress) = programmed.policies.get_mut(&entry.key) {
                    progress.add((proxy.has(entry) != Some(true)).then_some(&proxy.name));
                }
            }
        }
        programmed
    }

    /// How many proxies have this policy in force as it stands in the cluster now.
    #[must_use]
    pub fn counts_of(&self, key: &Key) -> Counts {
        let mut counts = Counts::default();
        for proxy in self.proxies().values() {
            let Some(wanted) = proxy.slice.get(key) else { continue };
            counts.proxies += 1;
            match proxy.has(wanted) {
                Some(true) => counts.in_force += 1,
                Some(false) => counts.refused += 1,
                None => {}
            }
        }
        counts
    }

    /// How many proxies follow, and how many of them have acknowledged all that they are to have.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for proxy in self.proxies().values() {
            counts.proxies += 1;
            let current = |held: &&Acknowledged| held.slice.version() == proxy.slice.version();
            match proxy.acknowledged.as_ref().filter(current).map(|held| held.outcome) {
                Some(Outcome::InForce) => counts.in_force += 1,
                Some(_) => counts.refused += 1,
                None => {}
            }
        }
        counts
    }

    /// Counts the changes of what [`Fleet::programmed`] says.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.clone()
    }

    /// A proxy begins to follow. The receiver ends when another stream of it takes its place.
    pub(super) fn enter(
        &self,
        caller: &Caller,
        serves: &Serves,
        slice: &Arc<Slice>,
    ) -> (Place<'_>, oneshot::Receiver<()>) {
        let (sender, replaced) = oneshot::channel();
        let uid = &caller.pod.uid;
        let mut proxies = self.proxies();
        let stream = proxies.get(uid).map_or(0, |earlier| earlier.stream + 1);
        let name = caller.to_string().into();
        let proxy = Proxy {
            name,
            stream,
            slice: Arc::clone(slice),
            acknowledged: None,
            serves: serves.clone(),
            captured: BTreeSet::new(),
            _replaced: sender,
        };
        proxies.insert(Arc::clone(uid), proxy);
        drop(proxies);
        self.tell();
        (Place { fleet: self, uid: Arc::clone(uid), stream }, replaced)
    }

    fn proxies(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Proxy>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Place<'_> {
    /// The proxy is to have another slice.
    pub(super) fn wants(&self, slice: &Arc<Slice>) {
        self.change(|proxy| proxy.slice = Arc::clone(slice));
    }

    /// The proxy says whose traffic reaches it.
    pub(super) fn captures(&self, captured: protocol::Captured) {
        let names = captured.pods.into_iter().map(|pod| (pod.namespace.into(), pod.name.into()));
        let names = names.collect();
        self.change(|proxy| proxy.captured = names);
    }

    /// The proxy says what became of a slice.
    pub(super) fn acknowledged(&self, slice: &Arc<Slice>, said: &protocol::Acknowledgement) {
        let refused = said.refusals.iter().filter_map(|refusal| refusal.key.as_ref()).map(key).collect();
        let outcome = said.result();
        let slice = Arc::clone(slice);
        self.change(|proxy| proxy.acknowledged = Some(Acknowledged { slice, outcome, refused }));
    }

    fn change(&self, change: impl FnOnce(&mut Proxy)) {
        if let Some(proxy) = self.fleet.proxies().get_mut(&self.uid).filter(|proxy| proxy.stream == self.stream) {
            change(proxy);
        }
        self.fleet.tell();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut proxies = self.fleet.proxies();
        if proxies.get(&self.uid).is_some_and(|proxy| proxy.stream == self.stream) {
            proxies.remove(&self.uid);
        }
        drop(proxies);
        self.fleet.tell();
    }
}

fn key(key: &protocol::Key) -> Key {
    let protocol::Key { api_version, kind, namespace, name } = key;
    Key {
        api_version: api_version.as_str().into(),
        kind: kind.as_str().into(),
        namespace: namespace.as_str().into(),
        name: name.as_str().into(),
    }
}
