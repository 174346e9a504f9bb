//! `apiVersion`, `kind`, `metadata`: who a document is.

use super::name;
use crate::diagnostic::Code;
use crate::source::{Document, Fields, Findings, Node};

/// Whether a kind lives in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Namespaced,
    Cluster,
}

/// Reads everything but `spec`, and returns `spec`.
pub(super) fn spec<'d>(document: &'d Document, scope: Scope, findings: &mut Findings) -> Option<&'d Node> {
    let mut fields = Fields::of(&document.root, "the document", findings)?;
    fields.accept(&["apiVersion", "kind", "status"]);
    if let Some(metadata) = fields.required("metadata", findings) {
        identity(metadata, scope, findings);
    }
    let spec = fields.required("spec", findings);
    fields.finish(findings);
    spec
}

fn identity(metadata: &Node, scope: Scope, findings: &mut Findings) {
    let Some(mut fields) = Fields::of(metadata, "`metadata`", findings) else { return };
    if let Some(node) = fields.required("name", findings) {
        name::object(node, "`metadata.name`", findings);
    }
    match scope {
        Scope::Cluster => {
            if let Some(node) = fields.optional("namespace", findings) {
                let help = "remove `namespace`: this kind is for the whole cluster";
                findings.report_with(Code::Conflict, node.span, "a cluster-scoped kind has no namespace", help);
            }
        }
        Scope::Namespaced => match fields.optional("namespace", findings) {
            Some(node) => {
                name::object(node, "`metadata.namespace`", findings);
            }
            None if fields.has("namespace") => {}
            None => {
                let help = "say which namespace it protects: no default is guessed";
                findings.report_with(Code::MissingField, metadata.span, "`metadata.namespace` is missing", help);
            }
        },
    }
    fields.accept(OBJECT_META);
    fields.finish(findings);
}

/// What the Kubernetes API puts beside name and namespace.
pub(super) const OBJECT_META: &[&str] = &[
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
