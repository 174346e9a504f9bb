//! What the compiler says of the cluster: the policies as they stand in the API, each with its last good version, and who
//! is registered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use eastwall_policy::diagnostic::{Diagnostic, Style, as_text};
use eastwall_policy::dialect::{self, Compiled, LastGood};
use eastwall_policy::registry::Registry;
use eastwall_policy::registry::kubernetes::{Objects, is_object};
use eastwall_policy::source::{Document, Sources};

use crate::cluster::{Cluster, Object};
use crate::metrics::Metrics;

mod document;

pub(crate) use document::{file, line, read};

/// Compiles the cluster when asked, and only what changed.
#[derive(Debug)]
pub struct Policies {
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
}

/// What was compiled last, and of what.
#[derive(Debug, Default)]
struct Held {
    view: Arc<View>,
    /// By file.
    read: BTreeMap<Arc<str>, document::Read>,
    /// The objects that say who is where, as they were when the registry was made.
    objects: Vec<Arc<Object>>,
    version: u64,
    told: BTreeSet<String>,
}

/// The cluster as the compiler sees it. Immutable.
#[derive(Debug, Default)]
pub struct View {
    /// The documents of all policies.
    pub sources: Sources,
    /// What came of them.
    pub compiled: Compiled,
    /// What a refused one falls back on.
    pub last_good: LastGood,
    /// Who is where.
    pub registry: Arc<Registry>,
    /// The generation of each policy that is in force, by file; nothing of one that never was good.
    pub in_force: BTreeMap<Arc<str>, i64>,
    /// Where the document of each file stands.
    positions: BTreeMap<Arc<str>, usize>,
    /// What was found in each file.
    findings: BTreeMap<Arc<str>, Vec<Diagnostic>>,
}

impl View {
    /// What the compiler found in a document.
    #[must_use]
    pub fn findings(&self, file: &str) -> &[Diagnostic] {
        self.findings.get(file).map(Vec::as_slice).unwrap_or_default()
    }

    /// The document that was made of an object.
    #[must_use]
    pub fn document(&self, file: &str) -> Option<&Document> {
        self.sources.documents.get(*self.positions.get(file)?)
    }

    /// Whether the compiler refuses it.
    #[must_use]
    pub fn is_refused(&self, document: &Document) -> bool {
        document.broken || self.compiled.refused.binary_search(&dialect::name_of(document)).is_ok()
    }
}

impl Policies {
    /// Nothing compiled yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, held: Mutex::default() }
    }

    /// The view of this state of the cluster. It computes: not for the thread of an event loop.
    #[must_use]
    pub fn view(&self, cluster: &Cluster) -> Arc<View> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have brought a newer state.
        if cluster.version > held.version {
            held.take(cluster, &self.metrics);
            held.version = cluster.version;
        }
        Arc::clone(&held.view)
    }
}

impl Held {
    fn take(&mut self, cluster: &Cluster, metrics: &Metrics) {
        let started = Instant::now();
        let (objects, policies): (Vec<&Arc<Object>>, Vec<&Arc<Object>>) =
            cluster.objects.values().partition(|object| document::is_of_registry(object));
        let is_same_registry =
            self.objects.len() == objects.len() && self.objects.iter().zip(&objects).all(|(a, b)| Arc::ptr_eq(a, b));
        let is_same_policies = !self.read(&policies);
        if is_same_registry && is_same_policies && self.version != 0 {
            return;
        }
        let registry = if is_same_registry { None } else { registry(&objects) };
        self.objects = objects.into_iter().cloned().collect();
        let registry = registry.unwrap_or_else(|| Arc::clone(&self.view.registry));
        self.view = Arc::new(if is_same_policies {
            View {
                sources: self.view.sources.clone(),
                compiled: self.view.compiled.clone(),
                last_good: self.view.last_good.clone(),
                in_force: self.view.in_force.clone(),
                positions: self.view.positions.clone(),
                findings: self.view.findings.clone(),
                registry,
            }
        } else {
            self.compile(registry)
        });
        metrics.compiled(started.elapsed(), self.view.compiled.refused.len());
    }

    /// Reads the policies that changed; whether any document is another than before.
    fn read(&mut self, policies: &[&Arc<Object>]) -> bool {
        let mut before = std::mem::take(&mut self.read);
        let mut is_changed = false;
        for object in policies {
            let file = file(&object.key);
            let known = before.remove(&file);
            let (read, is_new) = document::Read::again(known, object, &file);
            is_changed |= is_new;
            self.read.insert(file, read);
        }
        is_changed || !before.is_empty()
    }

    fn compile(&mut self, registry: Arc<Registry>) -> View {
        let sources = self.read.values().fold(Sources::default(), |sources, read| sources.and(read.sources.clone()));
        let compiled = dialect::compile_onto(&sources, &self.view.last_good);
        let mut findings: BTreeMap<Arc<str>, Vec<Diagnostic>> = BTreeMap::new();
        for finding in &compiled.diagnostics {
            findings.entry(Arc::clone(&finding.location.file)).or_default().push(finding.clone());
        }
        self.tell(&compiled.diagnostics);
        let last_good = LastGood::of(&compiled);
        let in_force = BTreeMap::new();
        let files = sources.documents.iter().map(|document| Arc::clone(&document.location.file));
        let positions = files.zip(0..).collect();
        let mut view = View { sources, compiled, last_good, registry, in_force, positions, findings };
        for document in &view.sources.documents {
            let file = &document.location.file;
            let generation = match self.read.get(file) {
                Some(read) if !view.is_refused(document) => Some(read.generation()),
                _ => self.view.in_force.get(file).copied(),
            };
            view.in_force.extend(generation.map(|generation| (Arc::clone(file), generation)));
        }
        view
    }

    /// Logs each mistake once, not once for each change of something else.
    fn tell(&mut self, findings: &[Diagnostic]) {
        let errors = findings.iter().filter(|finding| finding.is_error());
        let texts: BTreeSet<String> = errors.map(|error| as_text(error, Style::Plain)).collect();
        for text in texts.difference(&self.told) {
            tracing::error!("a policy is refused, its last good version stays (or what it selects is closed):\n{text}");
        }
        self.told = texts;
    }
}

/// Who is where; nothing where some object cannot be read.
fn registry(objects: &[&Arc<Object>]) -> Option<Arc<Registry>> {
    let documents: Vec<Document> =
        objects.iter().map(|object| Document::of_object(&file(&object.key), &object.value)).collect();
    debug_assert!(documents.iter().all(is_object));
    let objects = Objects::of(&documents);
    for finding in objects.diagnostics.iter().filter(|finding| finding.is_error()) {
        tracing::error!("an object cannot be read, the registry stays as it was:\n{}", as_text(finding, Style::Plain));
    }
    (!objects.incomplete).then(|| Arc::new(objects.join(Registry::default()).0))
}

#[cfg(test)]
pub(crate) mod tests;
