//! Which proxies follow, and what they have put in force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eastwall_protocol::v1alpha1 as protocol;
use protocol::acknowledgement::Result as Outcome;
use tokio::sync::{oneshot, watch};

use super::directory::Directory;
use super::slice::Slice;
use crate::cluster::Key;

/// The proxies that follow now.
#[derive(Debug)]
pub struct Fleet {
    /// By the uid of the proxy's pod.
    proxies: Mutex<BTreeMap<Arc<str>, Proxy>>,
    directory: watch::Receiver<Arc<Directory>>,
    changed: watch::Sender<u64>,
}

/// How many proxies have a policy in force as it stands in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// Proxies that follow and are to have it.
    pub proxies: usize,
    /// Those of them that have it in force.
    pub in_force: usize,
    /// Those that refused it.
    pub refused: usize,
}

#[derive(Debug)]
struct Proxy {
    stream: u64,
    /// What it is to have.
    slice: Arc<Slice>,
    acknowledged: Option<Acknowledged>,
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

impl Fleet {
    pub(super) fn new(directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self { proxies: Mutex::default(), directory, changed: watch::Sender::new(0) }
    }

    /// How many proxies have this policy in force as it stands in the cluster now.
    #[must_use]
    pub fn programmed(&self, key: &Key) -> Programmed {
        let mut counts = Programmed::default();
        for proxy in self.proxies().values() {
            let Some(wanted) = proxy.slice.get(key) else { continue };
            counts.proxies += 1;
            let Some(acknowledged) = &proxy.acknowledged else { continue };
            let is_current = acknowledged.slice.get(key).is_some_and(|entry| entry.digest == wanted.digest);
            if is_current && acknowledged.refused.contains(key) {
                counts.refused += 1;
            } else if is_current && acknowledged.outcome != Outcome::NotInForce {
                counts.in_force += 1;
            }
        }
        counts
    }

    /// How many proxies follow, and how many of them have acknowledged all that they are to have.
    #[must_use]
    pub fn counts(&self) -> Programmed {
        let mut counts = Programmed::default();
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
    pub(super) fn enter(&self, uid: &Arc<str>, slice: &Arc<Slice>) -> (Place<'_>, oneshot::Receiver<()>) {
        let (sender, replaced) = oneshot::channel();
        let mut proxies = self.proxies();
        let stream = proxies.get(uid).map_or(0, |earlier| earlier.stream + 1);
        let proxy = Proxy { stream, slice: Arc::clone(slice), acknowledged: None, _replaced: sender };
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
