//! Istio: `AuthorizationPolicy`, `PeerAuthentication` and `RequestAuthentication`, as the enforcement point of the
//! settings enforces them.
//!
//! Identities are proven ones alone: a workload that is only registered at an address has no principal here, as it has
//! none in Istio, so `principals` is false for it and `notPrincipals` true.

mod authorization;
mod bypass;
mod form;
mod jwt_rule;
mod key;
mod peer_authentication;
mod request_authentication;
mod rule;
mod subject;
mod target;
mod trust_domain;

use std::sync::Arc;

use super::{Memos, Mention, Mentioned, Outcome, Refused};
use crate::diagnostic::Code;
use crate::facts::Protocol;
use crate::model::{Expr, Policy, PolicyName, Stack, Tier};
use crate::settings::Settings;
use crate::source::{Document, Fields, Findings, Node};

/// API group of the kinds read here.
const GROUP: &str = "security.istio.io";

/// Kinds read here.
const KINDS: &[&str] = &[AUTHORIZATION, PEER_AUTHENTICATION, REQUEST_AUTHENTICATION];
const AUTHORIZATION: &str = "AuthorizationPolicy";
const PEER_AUTHENTICATION: &str = "PeerAuthentication";
const REQUEST_AUTHENTICATION: &str = "RequestAuthentication";

/// What has requests.
const HTTP: [Protocol; 3] = [Protocol::Http, Protocol::Http2, Protocol::Grpc];

/// Versions of the group, all with the same schema.
const VERSIONS: &[&str] = &["v1", "v1beta1"];

/// What is read here.
pub(super) const FRONT_END: super::FrontEnd = super::FrontEnd { reads: &[(GROUP, VERSIONS, KINDS)], compile };

/// Reads all documents of this dialect together: levels of `PeerAuthentication` override each other, and
/// `RequestAuthentication` says how an `AuthorizationPolicy` reads claims.
fn compile(documents: &[&Document], settings: &Settings, memos: &mut Memos) -> Outcome {
    let mut outcome = Outcome::default();
    let mut requests = Vec::new();
    read_kind(REQUEST_AUTHENTICATION, documents, settings, &mut outcome, |document, name, findings| {
        only_authorizations_dry_run(document, findings);
        let read = request_authentication::read(document, name, &settings.istio, findings);
        let policy = read.as_ref().filter(|_| !findings.has_errors()).map(|one| one.policy());
        requests.extend(read);
        policy
    });
    let mut peers = Vec::new();
    read_kind(PEER_AUTHENTICATION, documents, settings, &mut outcome, |document, name, findings| {
        only_authorizations_dry_run(document, findings);
        peers.extend(peer_authentication::read(document, name, &settings.istio.root_namespace, findings));
        None
    });
    let spaced = request_authentication::SpacedClaims::of(&requests);
    for document in of_kind(AUTHORIZATION, documents) {
        let read = || {
            one(document, settings, |document, name, findings| {
                authorization::policy(document, name, settings, &spaced, findings)
            })
        };
        // Where other documents have a say it is read each time.
        if spaced.is_empty() {
            outcome.extend(&memos.istio.of(document, read));
        } else {
            outcome.extend(&read());
        }
    }
    let peers = peer_authentication::policies(peers, &settings.istio.root_namespace);
    outcome.policies.extend(peers.into_iter().map(Arc::new));
    outcome
}

/// Reads every document of one kind.
fn read_kind(
    kind: &str,
    documents: &[&Document],
    settings: &Settings,
    outcome: &mut Outcome,
    mut read: impl FnMut(&Document, PolicyName, &mut Findings) -> Option<Policy>,
) {
    for document in of_kind(kind, documents) {
        outcome.extend(&one(document, settings, &mut read));
    }
}

fn of_kind<'a>(kind: &str, documents: &'a [&Document]) -> impl Iterator<Item = &'a Document> {
    documents.iter().copied().filter(move |document| document.kind == kind)
}

fn one(
    document: &Document,
    settings: &Settings,
    mut read: impl FnMut(&Document, PolicyName, &mut Findings) -> Option<Policy>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut findings = Findings::of(document);
    if !document.broken
        && let Some(name) = name(document, &mut findings)
        && let Some(policy) = read(document, name, &mut findings)
    {
        outcome.mentions.push(protected(&policy, &findings, document));
        outcome.policies.push(Arc::new(policy));
    }
    if document.broken || findings.has_errors() {
        outcome.refused.push(refused(document, settings));
    }
    outcome.diagnostics.extend(findings.into_diagnostics());
    outcome
}

fn only_authorizations_dry_run(document: &Document, findings: &mut Findings) {
    if let Some(annotation) = authorization::dry_run_annotation(document) {
        let message = "annotation `istio.io/dry-run` goes with `AuthorizationPolicy` alone";
        findings.report_with(Code::Conflict, annotation.span, message, "remove the annotation");
    }
}

/// A refused document closes what its selector would have selected, as far as that can still be read.
fn refused(document: &Document, settings: &Settings) -> Refused {
    if document.kind == AUTHORIZATION && authorization::is_dry_run(document) {
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

fn protected(policy: &Policy, findings: &Findings, document: &Document) -> Arc<Mention> {
    let message = "the policy selects no workload";
    let finding = findings.unconfirmed(
        Code::SelectsNothing,
        document.root.span,
        message,
        "check namespace and labels of `selector`",
    );
    Arc::new(Mention { of: Mentioned::Protected(policy.subject.clone()), finding })
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

/// The value of a field.
///
/// SPEC: the Kubernetes API drops a field that is `null`, so Istio takes it for one that is not there: a trap.
fn optional<'n>(fields: &mut Fields<'n>, name: &'static str, findings: &mut Findings) -> Option<&'n Node> {
    let found = fields.find(name);
    if found.is_none() && fields.has(name) {
        let message = format!("`{name}` has no value: Istio takes no notice of it");
        findings.report_with(Code::Suspicious, fields.key_span(name), message, "write a value, or leave the field out");
    }
    found
}
