//! What the cluster holds at one moment, as far as policies and identities depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

/// What an object is called: group and version, kind, namespace (empty for one of the cluster) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `apps/v1`, or `v1` of the core group.
    pub api_version: Arc<str>,
    /// `Pod`, `FirewallPolicy`, …
    pub kind: Arc<str>,
    /// Empty for an object of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// An object as the API server gave it, without what nobody here reads (`managedFields`, …).
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its name.
    pub key: Key,
    /// `metadata.uid`: another object of the same name is another object.
    pub uid: Arc<str>,
    /// `metadata.generation`; 0 where the kind has none.
    pub generation: i64,
    /// The whole object.
    pub value: Arc<serde_json::Value>,
}

/// An immutable state of the cluster. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// All objects.
    pub objects: Arc<BTreeMap<Key, Arc<Object>>>,
    /// Every kind has been listed once: what is not here is not in the cluster.
    pub complete: bool,
    /// Counts changes.
    pub version: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Change {
    /// It was made or changed.
    Put(Object),
    /// It is gone.
    Delete(Key),
    /// A kind was listed anew: these, and no others, are there.
    Replace {
        /// Group and version.
        api_version: Arc<str>,
        /// Kind.
        kind: Arc<str>,
        /// All there are.
        objects: Vec<Object>,
    },
}

/// Holds the state in force; whoever follows it sees the last state, not each one in between.
#[derive(Debug)]
pub struct Store {
    state: watch::Sender<Cluster>,
}

impl Default for Store {
    fn default() -> Self {
        Self { state: watch::Sender::new(Cluster::default()) }
    }
}

impl Store {
    /// Takes changes in, all at once; tells nobody where they change nothing.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        self.state.send_if_modified(|state| {
            let changed = state.take_all(changes);
            state.version += u64::from(changed);
            changed
        });
    }

    /// Every kind was listed once.
    pub fn complete(&self) {
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.complete, true));
    }

    /// The state in force.
    #[must_use]
    pub fn load(&self) -> Cluster {
        self.state.borrow().clone()
    }

    /// Follows the state.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Cluster> {
        self.state.subscribe()
    }
}

impl Cluster {
    /// Whether any of them made a difference.
    fn take_all(&mut self, changes: impl IntoIterator<Item = Change>) -> bool {
        let mut changed = false;
        for change in changes {
            changed |= self.take(change);
        }
        changed
    }

    /// Whether the change made a difference.
    fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Put(object) => {
                if self.objects.get(&object.key).is_some_and(|held| **held == object) {
                    return false;
                }
                Arc::make_mut(&mut self.objects).insert(object.key.clone(), Arc::new(object));
                true
            }
            Change::Delete(key) => {
                self.objects.contains_key(&key) && Arc::make_mut(&mut self.objects).remove(&key).is_some()
            }
            Change::Replace { api_version, kind, objects } => {
                let names: BTreeSet<Key> = objects.iter().map(|object| object.key.clone()).collect();
                let of_kind = |key: &&Key| key.api_version == api_version && key.kind == kind;
                let gone: Vec<Key> =
                    self.objects.keys().filter(of_kind).filter(|key| !names.contains(key)).cloned().collect();
                let gone = gone.into_iter().map(Change::Delete);
                let listed: Vec<Change> = gone.chain(objects.into_iter().map(Change::Put)).collect();
                self.take_all(listed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, name: &str) -> Key {
        Key { api_version: "v1".into(), kind: kind.into(), namespace: "shop".into(), name: name.into() }
    }

    fn object(kind: &str, name: &str, uid: &str) -> Object {
        Object { key: key(kind, name), uid: uid.into(), generation: 0, value: Arc::default() }
    }

    fn names(store: &Store) -> Vec<String> {
        store.load().objects.values().map(|object| format!("{} {}", object.key.name, object.uid)).collect()
    }

    #[test]
    fn a_new_list_replaces_its_own_kind_alone() {
        let store = Store::default();
        store.apply([object("Pod", "a", "1"), object("Pod", "b", "2"), object("Service", "a", "3")].map(Change::Put));
        let listed = vec![object("Pod", "a", "4"), object("Pod", "c", "5")];
        store.apply([Change::Replace { api_version: "v1".into(), kind: "Pod".into(), objects: listed }]);
        assert_eq!(names(&store), ["a 4", "c 5", "a 3"]);
        store.apply([Change::Delete(key("Pod", "c"))]);
        assert_eq!(names(&store), ["a 4", "a 3"]);
    }

    #[test]
    fn what_changes_nothing_wakes_nobody() {
        let store = Store::default();
        store.apply([Change::Put(object("Pod", "a", "1"))]);
        let mut follower = store.follow();
        follower.mark_unchanged();
        store.apply([Change::Put(object("Pod", "a", "1")), Change::Delete(key("Pod", "b"))]);
        assert!(!follower.has_changed().unwrap());
        store.complete();
        assert!(follower.has_changed().unwrap());
        follower.mark_unchanged();
        store.complete();
        assert!(!follower.has_changed().unwrap());
    }
}
