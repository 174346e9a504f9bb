//! Who is where, as Kubernetes objects tell it: Pods and what makes them, Namespaces, Nodes, Services, EndpointSlices.
//!
//! Objects are read leniently, since they have many fields that say nothing about access; what is looked at must have
//! its type. [`Objects::of`] reads each document on its own, [`Objects::join`] makes the registry.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, Node as ClusterNode, Service, Workload};
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::source::{Document, Findings};

mod container;
mod field;
mod join;
mod owner;
mod pod;
mod service;
#[cfg(test)]
mod tests;

/// What the Kubernetes objects among a set of documents say.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Pods first, then templates of which no Pod is there.
    pods: Vec<Pod>,
    services: Vec<Exposed>,
    slices: Vec<Slice>,
    nodes: Vec<ClusterNode>,
    /// First address of each range that a node gives its pods from, in the order of `nodes`.
    first_of_ranges: Vec<Vec<IpAddr>>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Documents that were read, by kind.
    pub counts: Vec<(String, usize)>,
    /// What is wrong with them.
    pub diagnostics: Vec<Diagnostic>,
    /// Some object could not be read: the registry lacks it, so a caller that enforces keeps its old one.
    pub incomplete: bool,
}

/// A Pod, or the template of Pods.
#[derive(Clone, Debug)]
struct Pod {
    workload: Workload,
    /// It takes requests.
    ready: bool,
    /// For findings about it.
    place: Place,
}

/// A Service as it is written, before its endpoints are known.
#[derive(Clone, Debug)]
struct Exposed {
    service: Service,
    selector: Labels,
    /// `appProtocol` of each port, in the order of `service.ports`.
    applications: Vec<Option<super::ApplicationProtocol>>,
    place: Place,
}

/// An EndpointSlice.
#[derive(Clone, Debug)]
struct Slice {
    namespace: Arc<str>,
    service: Arc<str>,
    endpoints: Vec<Endpoint>,
    /// Number by the name of the Service's port.
    ports: Vec<(Option<Arc<str>>, u16)>,
}

/// A ready endpoint.
#[derive(Clone, Debug)]
struct Endpoint {
    /// Namespace and name of the Pod that it is.
    pod: Option<(Arc<str>, Arc<str>)>,
    addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default)]
struct Namespace {
    labels: Labels,
    annotations: Labels,
}

/// Where an object stands.
#[derive(Clone, Debug)]
struct Place {
    location: Location,
    /// `Pod shop/orders`.
    object: String,
}

impl Place {
    fn of(document: &Document) -> Self {
        Self { location: document.location.clone(), object: shown(document) }
    }

    fn finding(&self, code: Code, message: String, help: &str) -> Diagnostic {
        let mut finding = Diagnostic::new(code, self.location.clone(), message).help(help);
        finding.policy = Some(self.object.clone());
        finding
    }
}

fn shown(document: &Document) -> String {
    let Document { kind, namespace, name, .. } = document;
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

/// What a kind is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pod,
    /// Makes Pods from a template.
    Template,
    Namespace,
    Node,
    Service,
    EndpointSlice,
}

/// Groups and kinds that are read, whatever their version: what is looked at is the same in all of them.
const KINDS: &[(&str, &str, Kind)] = &[
    ("", "Pod", Kind::Pod),
    ("apps", "Deployment", Kind::Template),
    ("apps", "StatefulSet", Kind::Template),
    ("apps", "DaemonSet", Kind::Template),
    ("apps", "ReplicaSet", Kind::Template),
    ("", "ReplicationController", Kind::Template),
    ("batch", "Job", Kind::Template),
    ("batch", "CronJob", Kind::Template),
    ("", "Namespace", Kind::Namespace),
    ("", "Node", Kind::Node),
    ("", "Service", Kind::Service),
    ("discovery.k8s.io", "EndpointSlice", Kind::EndpointSlice),
];

fn kind_of(document: &Document) -> Option<Kind> {
    let group = document.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    // Of a broken document the group may stand behind the error.
    let is_anyones = document.broken && document.api_version.is_empty();
    KINDS
        .iter()
        .find(|(known, kind, _)| (is_anyones || *known == group) && *kind == document.kind)
        .map(|(_, _, kind)| *kind)
}

/// Whether a document is an object that says who is where.
#[must_use]
pub fn is_object(document: &Document) -> bool {
    kind_of(document).is_some()
}

// === impl Objects ===

impl Objects {
    /// Reads the objects among these documents; the others are somebody else's.
    #[must_use]
    pub fn of<'d>(documents: impl IntoIterator<Item = &'d Document>) -> Self {
        let mut objects = Self::default();
        let mut seen = Seen::default();
        let mut owners = owner::Owners::default();
        let mut templates = Vec::new();
        for document in documents {
            let Some(kind) = kind_of(document) else { continue };
            objects.count(&document.kind);
            if document.broken {
                objects.incomplete = true;
                continue;
            }
            let mut findings = Findings::of(document);
            if let Some(name) = field::name(document, kind, &mut findings)
                && objects.is_first(document, &name, &mut seen, &mut findings)
            {
                match kind {
                    Kind::Pod => {
                        owners.pod(document, &name);
                        objects.pods.extend(pod::read(document, name, &mut findings));
                    }
                    Kind::Template => {
                        owners.template(document, &name);
                        if let Some(pod) = pod::template(document, name.clone(), &mut findings) {
                            templates.push((document, name, pod));
                        }
                    }
                    Kind::Namespace => objects.namespace(document, &name, &mut findings),
                    Kind::Node => objects.node(document, &name, &mut findings),
                    Kind::Service => objects.services.extend(service::read(document, name, &mut findings)),
                    Kind::EndpointSlice => objects.slices.extend(service::slice(document, &name, &mut findings)),
                }
            }
            objects.incomplete |= findings.has_errors();
            objects.diagnostics.extend(findings.into_diagnostics());
        }
        let alone = templates.into_iter().filter(|(document, name, _)| !owners.is_represented(document, name));
        objects.pods.extend(alone.map(|(_, _, pod)| pod));
        objects
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn count(&mut self, kind: &str) {
        match self.counts.iter_mut().find(|(known, _)| known == kind) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((kind.to_owned(), 1)),
        }
    }

    /// Whether nothing of this kind and name was read before. The same object twice, as two dumps have it, is one.
    fn is_first<'d>(
        &self,
        document: &'d Document,
        name: &field::Name,
        seen: &mut Seen<'d>,
        findings: &mut Findings,
    ) -> bool {
        let group = document.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let key = (group, document.kind.as_str(), Arc::clone(&name.namespace), Arc::clone(&name.name));
        match seen.entry(key) {
            hashbrown::hash_map::Entry::Vacant(entry) => {
                entry.insert(document);
                true
            }
            hashbrown::hash_map::Entry::Occupied(first) => {
                let first = first.get();
                if first.root.same_value(&document.root) {
                    return false;
                }
                findings.report_with(
                    Code::DuplicateWorkload,
                    document.root.get("metadata").map_or(document.root.span, |metadata| metadata.span),
                    format!("a second `{}`, which is not the same", shown(document)),
                    format!("the first one stands at {}: keep the newer one", first.location),
                );
                false
            }
        }
    }

    fn namespace(&mut self, document: &Document, name: &field::Name, findings: &mut Findings) {
        let metadata = document.root.get("metadata").unwrap_or(&document.root);
        let labels = field::labels(metadata, "labels", findings);
        let annotations = field::labels(metadata, "annotations", findings);
        self.namespaces.insert(Arc::clone(&name.name), Namespace { labels, annotations });
    }

    fn node(&mut self, document: &Document, name: &field::Name, findings: &mut Findings) {
        let status = field::mapping(&document.root, "status", findings);
        let mut ips = Vec::new();
        for address in status.map(|status| field::items(status, "addresses", findings)).unwrap_or_default() {
            // Names are of no use here: packets have addresses.
            if field::text(address, "type", findings).is_some_and(|what| what.ends_with("IP")) {
                ips.extend(field::address(address, "address", findings));
            }
        }
        ips.dedup();
        let spec = field::mapping(&document.root, "spec", findings);
        let ranges = spec.map(|spec| field::items(spec, "podCIDRs", findings)).unwrap_or_default();
        self.first_of_ranges.push(ranges.iter().filter_map(|range| field::first_of_range(range, findings)).collect());
        self.nodes.push(ClusterNode { name: Arc::clone(&name.name), ips });
    }
}

type Seen<'d> = hashbrown::HashMap<(&'d str, &'d str, Arc<str>, Arc<str>), &'d Document, foldhash::fast::RandomState>;
