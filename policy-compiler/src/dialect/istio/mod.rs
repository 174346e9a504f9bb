//! Istio: `AuthorizationPolicy` and `PeerAuthentication`, as a sidecar enforces them.
//!
//! Identities are proven ones alone: a workload that is only registered at an address has no principal here, as it has
//! none in Istio, so `principals` is false for it and `notPrincipals` true.

mod authorization;
mod form;
mod part;
mod peer_authentication;
mod subject;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Policy, PolicyName};
use crate::settings::Settings;
use crate::source::{Document, Fields, Findings};

/// API group of the kinds read here.
const GROUP: &str = "security.istio.io";

/// Versions of the group with the same schema.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// Whether a document is read here. A kind of the group that is not (`RequestAuthentication`) is no authorization:
/// without it no token is ever accepted.
pub(super) fn reads(document: &Document) -> bool {
    document.api_version.split_once('/').is_some_and(|(group, version)| group == GROUP && VERSIONS.contains(&version))
        && matches!(&*document.kind, "AuthorizationPolicy" | "PeerAuthentication")
}

/// What came of one document. It is refused if a diagnostic is an error.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Policies of the model: none, one, or what several `PeerAuthentication`s together mean by this one.
    pub(super) policies: Vec<Policy>,
    /// Findings.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Reads all documents of this dialect together, since levels of `PeerAuthentication` override each other; one answer
/// for each document, in order.
pub(super) fn compile(documents: &[&Document], settings: &Settings) -> Vec<Read> {
    let mut peer_authentications = Vec::new();
    let mut reads: Vec<Read> = Vec::with_capacity(documents.len());
    for document in documents {
        let mut findings = Findings::of(document);
        let mut read = Read::default();
        if let Some(name) = name(document, &mut findings) {
            if document.kind == "PeerAuthentication" {
                peer_authentications.extend(peer_authentication::read(document, name, &mut findings));
            } else {
                read.policies.extend(authorization::policy(document, name, settings, &mut findings));
            }
        }
        read.diagnostics = findings.into_diagnostics();
        reads.push(read);
    }
    for policy in peer_authentication::policies(peer_authentications, &settings.istio.root_namespace) {
        if let Some(index) = documents.iter().position(|document| document.location == policy.location)
            && let Some(read) = reads.get_mut(index)
        {
            read.policies.push(policy);
        }
    }
    reads
}

/// Kind, namespace (`default` where none is written, as `kubectl` would have it) and name.
fn name(document: &Document, findings: &mut Findings) -> Option<PolicyName> {
    if document.name.is_empty() {
        findings.report_with(Code::MissingField, document.root.span, "`metadata.name` is missing", "add a name");
        return None;
    }
    let namespace = if document.namespace.is_empty() { "default" } else { &document.namespace };
    Some(PolicyName {
        kind: document.kind.as_str().into(),
        namespace: namespace.into(),
        name: document.name.as_str().into(),
    })
}

/// The top of a document: everything but `spec` belongs to Kubernetes.
fn top<'d>(document: &'d Document, findings: &mut Findings) -> Option<Fields<'d>> {
    let mut top = Fields::of(&document.root, "a policy", findings)?;
    top.accept(&["apiVersion", "kind", "metadata", "status"]);
    Some(top)
}

/// `metadata.creationTimestamp`, empty in files that never were in a cluster.
fn created(document: &Document) -> String {
    let metadata = document.root.get("metadata");
    metadata.and_then(|m| m.get("creationTimestamp")).and_then(|t| t.text()).unwrap_or_default().to_owned()
}
