//! Kubernetes' own policies: `NetworkPolicy`, and the tiers around it (`AdminNetworkPolicy`, `BaselineAdminNetworkPolicy`,
//! `ClusterNetworkPolicy`).
//!
//! All of them ask who is at an address and which port is meant, never what is said there.

mod cluster;
mod context;
mod namespaced;
mod port;
mod selector;

use std::sync::Arc;

use self::context::Context;
use super::members::Members;
use super::{Memos, Mention, Mentioned, Outcome, Refused};
use crate::diagnostic::Code;
use crate::model::{Atom, Expr, PeerAtom, Policy, PolicyName, Stack, Tier};
use crate::settings::Settings;
use crate::source::{Document, Findings};

/// What is read here.
pub(super) const FRONT_END: super::FrontEnd = super::FrontEnd {
    reads: &[
        ("networking.k8s.io", &["v1"], &[NAMESPACED]),
        ("policy.networking.k8s.io", &["v1alpha1"], &[ADMIN, BASELINE]),
        ("policy.networking.k8s.io", &["v1alpha2"], &[CLUSTER]),
    ],
    compile,
};

const NAMESPACED: &str = "NetworkPolicy";
const ADMIN: &str = "AdminNetworkPolicy";
const BASELINE: &str = "BaselineAdminNetworkPolicy";
const CLUSTER: &str = "ClusterNetworkPolicy";

/// The namespace of a document that names none, as `kubectl` would have it.
const DEFAULT_NAMESPACE: &str = "default";

fn compile(documents: &[&Document], settings: &Settings, memos: &mut Memos) -> Outcome {
    let mut outcome = Outcome::default();
    for document in documents {
        outcome.extend(&memos.network.of(document, || one(document, settings)));
    }
    outcome.diagnostics.extend(cluster::same_priorities(&outcome.policies));
    outcome
}

fn one(document: &Document, settings: &Settings) -> Outcome {
    let mut outcome = Outcome::default();
    let mut context = Context::of(document, name_of(document), settings);
    let policy = if document.broken { None } else { read(document, &mut context) };
    match policy {
        Some(policy) if !context.findings.has_errors() => {
            outcome.mentions.append(&mut context.mentions);
            outcome.mentions.push(protected(&policy, &context.findings, document));
            outcome.policies.push(Arc::new(policy));
        }
        _ => outcome.refused.push(refused(document, settings)),
    }
    outcome.diagnostics.extend(context.findings.into_diagnostics());
    outcome
}

/// The fields of Kubernetes' ObjectMeta.
const OBJECT_META: [&str; 16] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "clusterName",
];

fn read(document: &Document, context: &mut Context<'_>) -> Option<Policy> {
    let mut top = Members::of(&document.root, "a policy", &mut context.findings)?;
    top.accept(&["apiVersion", "kind", "metadata", "status"]);
    if document.name.is_empty() {
        context.findings.report_with(
            Code::MissingField,
            document.root.span,
            "`metadata.name` is missing",
            "add a name",
        );
    }
    // A misspelt `namespace` would protect another one.
    if let Some(node) = document.root.get("metadata") {
        let mut metadata = Members::of(node, "`metadata`", &mut context.findings)?;
        metadata.accept(&OBJECT_META);
        if document.kind != NAMESPACED && !document.namespace.is_empty() {
            let message = format!("a {} has no namespace: it is about the whole cluster", document.kind);
            let help = "remove it, and name the namespace in `subject`";
            context.findings.report_with(Code::Suspicious, metadata.place("namespace"), message, help);
        }
        metadata.finish(&mut context.findings);
    }
    let spec = match document.kind.as_str() {
        // SPEC: a NetworkPolicy without a spec is one whose fields are all left out.
        NAMESPACED => top.find("spec"),
        _ => Some(top.require("spec", &mut context.findings)?),
    };
    top.finish(&mut context.findings);
    match (document.kind.as_str(), spec) {
        (NAMESPACED, spec) => namespaced::policy(document, spec, context),
        (_, Some(spec)) => cluster::policy(document, spec, context),
        (_, None) => None,
    }
}

/// A refused document closes what its selector would have selected, as far as that can be read.
fn refused(document: &Document, settings: &Settings) -> Refused {
    let name = name_of(document);
    let mut context = Context::of(document, name.clone(), settings);
    let spec = document.root.get("spec").filter(|_| !document.broken);
    let subject = match document.kind.as_str() {
        NAMESPACED => {
            let own = Expr::Is(Atom::Subject(PeerAtom::Namespace(name.namespace.clone())));
            Some(spec.and_then(|spec| namespaced::subject(spec, &mut context)).unwrap_or(own))
        }
        _ => spec.and_then(|spec| cluster::subject(spec, &mut context)),
    };
    let tier = match document.kind.as_str() {
        NAMESPACED => Tier::Application,
        BASELINE => Tier::Baseline,
        // Of a tier that cannot be read nothing that it could have denied may pass.
        CLUSTER if spec.and_then(|spec| spec.get("tier")).and_then(|node| node.text()) == Some("Baseline") => {
            Tier::Baseline
        }
        _ => Tier::Admin,
    };
    let mut refused = Refused::closing(document, Stack::Network, tier, Some(subject.unwrap_or(Expr::True)));
    if let Some(closure) = &mut refused.closure {
        closure.name = name.clone();
    }
    refused.name = name;
    refused
}

fn protected(policy: &Policy, findings: &Findings, document: &Document) -> Arc<Mention> {
    let field = if document.kind == NAMESPACED { "podSelector" } else { "subject" };
    let place = document.root.get("spec").and_then(|spec| spec.get(field)).unwrap_or(&document.root);
    let finding = findings.unconfirmed(
        Code::SelectsNothing,
        place.span,
        format!("`{}` protects no workload", policy.name),
        format!("no workload matches its `{field}`; check labels and the namespace"),
    );
    Arc::new(Mention { of: Mentioned::Protected(policy.subject.clone()), finding })
}

/// Kind, namespace (`default` where a namespaced policy names none; none of a cluster-wide one) and name.
fn name_of(document: &Document) -> PolicyName {
    let namespace = match (document.kind.as_str(), document.namespace.as_str()) {
        (NAMESPACED, "") => DEFAULT_NAMESPACE,
        (NAMESPACED, namespace) => namespace,
        _ => "",
    };
    PolicyName { kind: document.kind.as_str().into(), namespace: namespace.into(), name: document.name.as_str().into() }
}
