//! Linkerd: `Server`s, their routes and authorizations, and the default inbound policy.
//!
//! Each `Server` becomes one policy whose rules stand in the order in which Linkerd chooses a route: for every match an
//! Allow of who is authorised, then a Deny, because the best route decides even if a lesser one would let it pass.

mod authentication;
mod authorization;
mod default;
mod identity;
mod matching;
mod network;
mod policy;
mod rank;
mod regex;
mod route;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::authorization::Authorization;
use self::route::Route;
use self::server::Server;
use super::{Memos, Outcome, Refused, name_of, namespace_of};
use crate::diagnostic::Code;
use crate::model::{Expr, PolicyName};
use crate::settings::Settings;
use crate::source::{Document, Findings};

/// Linkerd's own group.
pub(super) const GROUP: &str = "policy.linkerd.io";
/// Routes that many systems share.
const GATEWAY: &str = "gateway.networking.k8s.io";

const SERVER: &str = "Server";
const HTTP_ROUTE: &str = "HTTPRoute";
const GRPC_ROUTE: &str = "GRPCRoute";

/// What is read here.
pub(super) const FRONT_END: super::FrontEnd = super::FrontEnd {
    reads: &[
        (GROUP, &["v1alpha1", "v1beta1", "v1beta2", "v1beta3"], &[SERVER, HTTP_ROUTE]),
        (GROUP, &["v1alpha1", "v1beta1"], &["ServerAuthorization"]),
        (GROUP, &["v1alpha1"], &["AuthorizationPolicy", "MeshTLSAuthentication", "NetworkAuthentication"]),
        (GATEWAY, &["v1", "v1beta1", "v1alpha2"], &[HTTP_ROUTE]),
        (GATEWAY, &["v1", "v1alpha2"], &[GRPC_ROUTE]),
    ],
    compile,
};

/// What the documents say, before they are put together.
#[derive(Default)]
struct Parts<'d> {
    servers: Vec<Server<'d>>,
    routes: Vec<Route<'d>>,
    authorizations: Vec<Authorization<'d>>,
    /// `MeshTLSAuthentication`s by namespace and name.
    mesh: BTreeMap<(String, String), Expr>,
    /// `NetworkAuthentication`s by namespace and name.
    networks: BTreeMap<(String, String), Expr>,
    lost: Vec<Lost>,
    has_policies: bool,
}

/// A refused document that is part of `Server`s: they keep their last good version.
struct Lost {
    namespace: String,
    /// Of a route: the `Server`s that it may have been attached to. `None`: all of the namespace.
    servers: Option<Vec<String>>,
    /// A lost route may have taken requests away from the others, so that its `Server` is closed. A lost authorization
    /// only grants nothing.
    closes: bool,
}

impl Lost {
    fn is_part_of(&self, server: &Server<'_>) -> bool {
        self.namespace == server.namespace()
            && self.servers.as_ref().is_none_or(|names| names.contains(&server.document.name))
    }
}

/// Reads all documents of this dialect together: a `Server` alone says little.
fn compile(documents: &[&Document], settings: &Settings, _: &mut Memos) -> Outcome {
    let mut outcome = Outcome::default();
    let mut parts = Parts::default();
    let twice = repeated(documents);
    for document in documents {
        let mut findings = Findings::of(document);
        let is_lost = document.broken || twice.contains(&name_of(document));
        if !is_lost {
            if document.name.is_empty() {
                findings.report_with(
                    Code::MissingField,
                    document.root.span,
                    "`metadata.name` is missing",
                    "add a name",
                );
            }
            parts.read(document, settings, &mut findings);
        }
        if is_lost || findings.has_errors() {
            parts.has_policies = true;
            outcome.refused.extend(parts.lose(document));
        }
        outcome.diagnostics.extend(findings.into_diagnostics());
    }
    policy::all(&parts, settings, &mut outcome);
    if settings.linkerd.is_written || parts.has_policies {
        outcome.policies.push(Arc::new(default::policy(&parts.servers, documents, settings)));
    }
    if parts.has_policies && !settings.linkerd.is_written {
        outcome.diagnostics.extend(default::not_judged(&parts));
    }
    outcome
}

impl<'d> Parts<'d> {
    fn read(&mut self, document: &'d Document, settings: &Settings, findings: &mut Findings) {
        let key = || (namespace_of(document).to_owned(), document.name.clone());
        let errors = findings.errors();
        match document.kind.as_str() {
            HTTP_ROUTE | GRPC_ROUTE => {
                let read = route::read(document, findings);
                self.has_policies |= read.is_some();
                self.routes.extend(read.filter(|_| findings.errors() == errors));
                return;
            }
            SERVER => self.servers.extend(server::read(document, findings).filter(|_| findings.errors() == errors)),
            "MeshTLSAuthentication" => {
                let read = authentication::mesh(document, settings, findings);
                self.mesh.extend(read.filter(|_| findings.errors() == errors).map(|expr| (key(), expr)));
            }
            "NetworkAuthentication" => {
                let read = authentication::network(document, findings);
                self.networks.extend(read.filter(|_| findings.errors() == errors).map(|expr| (key(), expr)));
            }
            kind => {
                let read = match kind {
                    "ServerAuthorization" => authorization::server_authorization(document, settings, findings),
                    _ => authorization::policy(document, settings, findings),
                };
                self.authorizations.extend(read.filter(|_| findings.errors() == errors));
            }
        }
        self.has_policies = true;
    }

    /// A refused document. What closes is the `Server`, even where the document is only a part of it.
    fn lose(&mut self, document: &Document) -> Option<Refused> {
        if document.kind == SERVER {
            return Some(policy::refused(document));
        }
        let is_route = [HTTP_ROUTE, GRPC_ROUTE].contains(&document.kind.as_str());
        let servers = if is_route && !document.broken { route::servers_of(document) } else { None };
        let namespace = namespace_of(document).to_owned();
        self.lost.push(Lost { namespace, servers, closes: is_route });
        Some(Refused::harmless(document))
    }
}

/// Names that several documents have: none of them is taken, and that is told where all kinds are told it.
fn repeated(documents: &[&Document]) -> BTreeSet<PolicyName> {
    let mut seen = BTreeSet::new();
    let named = documents.iter().filter(|document| !document.name.is_empty());
    named.map(|document| name_of(document)).filter(|name| !seen.insert(name.clone())).collect()
}
