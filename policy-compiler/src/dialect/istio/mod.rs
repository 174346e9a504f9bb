//! Istio: `AuthorizationPolicy` and `PeerAuthentication`, as a sidecar enforces them.
//!
//! Identities are proven ones alone: a workload that is only registered at an address has no principal here, as it has
//! none in Istio, so `principals` is false for it and `notPrincipals` true.

mod authorization;
mod form;
mod part;
mod peer_authentication;
mod subject;

use super::{Mention, Mentioned, Outcome, Refused};
use crate::diagnostic::Code;
use crate::model::{Expr, Policy, PolicyName, Stack, Tier};
use crate::settings::Settings;
use crate::source::{Document, Fields, Findings};

/// API group of the kinds read here.
const GROUP: &str = "security.istio.io";

/// Kinds read here. `RequestAuthentication` is no authorization: without it no token is accepted.
const KINDS: &[&str] = &["AuthorizationPolicy", "PeerAuthentication"];

/// Versions of the group, all with the same schema.
const VERSIONS: &[&str] = &["v1", "v1beta1"];

/// What is read here.
pub(super) const FRONT_END: super::FrontEnd = super::FrontEnd { reads: &[(GROUP, VERSIONS, KINDS)], compile };

/// Reads all documents of this dialect together, since levels of `PeerAuthentication` override each other.
fn compile(documents: &[&Document], settings: &Settings) -> Outcome {
    let mut outcome = Outcome::default();
    let mut peer_authentications = Vec::new();
    for document in documents {
        let mut findings = Findings::of(document);
        if !document.broken
            && let Some(name) = name(document, &mut findings)
        {
            if document.kind == "PeerAuthentication" {
                peer_authentications.extend(peer_authentication::read(document, name, &mut findings));
            } else if let Some(policy) = authorization::policy(document, name, settings, &mut findings) {
                outcome.mentions.push(protected(&policy, &findings, document));
                outcome.policies.push(policy);
            }
        }
        if document.broken || findings.has_errors() {
            outcome.refused.push(refused(document, settings));
        }
        outcome.diagnostics.extend(findings.into_diagnostics());
    }
    outcome.policies.extend(peer_authentication::policies(peer_authentications, &settings.istio.root_namespace));
    outcome
}

/// A refused document closes what its selector would have selected, as far as that can still be read.
fn refused(document: &Document, settings: &Settings) -> Refused {
    if authorization::is_dry_run(document) {
        return Refused::harmless(document);
    }
    let selector = document.root.get("spec").and_then(|spec| spec.get("selector"));
    let mut unheard = Findings::of(document);
    let labels = subject::labels(selector, &mut unheard).filter(|_| !document.broken && !unheard.has_errors());
    let namespace = match document.namespace.as_str() {
        root if root == settings.istio.root_namespace => Expr::True,
        "" => subject::namespace(DEFAULT_NAMESPACE),
        other => subject::namespace(other),
    };
    let subject = Expr::all([namespace, labels.unwrap_or(Expr::True)]);
    let mut refused = Refused::closing(document, Stack::Istio, Tier::Application, Some(subject));
    if let Some(closure) = &mut refused.closure {
        // Istio judges at the destination alone.
        closure.closes.outbound = false;
    }
    refused
}

fn protected(policy: &Policy, findings: &Findings, document: &Document) -> Mention {
    let message = "the policy selects no workload";
    let finding = findings
        .diagnostic(Code::SelectsNothing, document.root.span, message)
        .help("check namespace and labels of `selector`");
    Mention { of: Mentioned::Protected(policy.subject.clone()), finding }
}

/// The namespace of a document that names none, as `kubectl` would have it.
const DEFAULT_NAMESPACE: &str = "default";

/// Kind, namespace (`default` where none is written, as `kubectl` would have it) and name.
fn name(document: &Document, findings: &mut Findings) -> Option<PolicyName> {
    if document.name.is_empty() {
        findings.report_with(Code::MissingField, document.root.span, "`metadata.name` is missing", "add a name");
        return None;
    }
    let namespace = if document.namespace.is_empty() { DEFAULT_NAMESPACE } else { &document.namespace };
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
