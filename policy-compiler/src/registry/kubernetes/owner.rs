//! Which Pods are of which Deployment: a template is a workload of its own only where none of its Pods is there.

use std::sync::Arc;

use super::field::{self, Name};
use crate::source::{Document, Findings, Node, Value};

/// Who owns whom, and who is represented by a Pod.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// The owner of each ReplicaSet and Job.
    above: Map<Key, Key>,
    /// Owners of Pods.
    owning: Vec<Key>,
    templates: Set<Key>,
}

/// Kind, namespace, name.
type Key = (Arc<str>, Arc<str>, Arc<str>);
type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = hashbrown::HashSet<K, foldhash::fast::RandomState>;

impl Owners {
    /// Notes whose Pod this is.
    pub(super) fn pod(&mut self, document: &Document, name: &Name) {
        let Some(owner) = owner(document, name) else { return };
        // Where the ReplicaSet or Job itself is not among the files, its name tells whose it is.
        if let Some(guessed) = guess(&owner, document) {
            self.above.entry(owner.clone()).or_insert(guessed);
        }
        self.owning.push(owner);
    }

    /// Notes a template and whose it is.
    pub(super) fn template(&mut self, document: &Document, name: &Name) {
        let key = key(document, name);
        if let Some(owner) = owner(document, name) {
            self.above.insert(key.clone(), owner);
        }
        self.templates.insert(key);
    }

    /// Whether something else stands for this template: a Pod made of it, or the template that it is a copy of.
    pub(super) fn is_represented(&self, document: &Document, name: &Name) -> bool {
        let key = key(document, name);
        if self.above.get(&key).is_some_and(|above| self.templates.contains(above)) {
            return true;
        }
        let mut owned = self.owning.iter();
        owned.any(|owner| *owner == key || self.above.get(owner) == Some(&key))
    }
}

fn key(document: &Document, name: &Name) -> Key {
    (document.kind.as_str().into(), Arc::clone(&name.namespace), Arc::clone(&name.name))
}

/// The controller among the owners. An owner that cannot be read owns nothing here.
fn owner(document: &Document, name: &Name) -> Option<Key> {
    let mut unheard = Findings::of(document);
    let metadata = field::mapping(&document.root, "metadata", &mut unheard)?;
    let references = field::items(metadata, "ownerReferences", &mut unheard);
    let is_controller = |one: &&Node| one.get("controller").is_some_and(|node| node.value == Value::Bool(true));
    let reference = references.iter().find(is_controller).or_else(|| references.first())?;
    let mut text = |member: &str| field::text(reference, member, &mut unheard).map(Arc::<str>::from);
    Some((text("kind")?, Arc::clone(&name.namespace), text("name")?))
}

/// SPEC: a Deployment names its ReplicaSets `<name>-<pod-template-hash>`, a CronJob its Jobs `<name>-<minutes>`.
fn guess(owner: &Key, pod: &Document) -> Option<Key> {
    let (kind, namespace, name) = owner;
    let (stem, end) = name.rsplit_once('-')?;
    let made_by = match &**kind {
        "ReplicaSet" => {
            let labels = pod.root.get("metadata")?.get("labels")?;
            (labels.get("pod-template-hash")?.text()? == end).then_some("Deployment")?
        }
        "Job" => (!end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit())).then_some("CronJob")?,
        _ => return None,
    };
    Some((made_by.into(), Arc::clone(namespace), stem.into()))
}
