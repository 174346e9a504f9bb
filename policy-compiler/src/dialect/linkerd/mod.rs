//! Linkerd: who may reach a port of a pod, by `Server`s, their routes and what authorizes them.
//!
//! Inbound only. The tier is an ordered one: of each `Server` the matches of its routes stand in the order of their
//! precedence, each followed by its own refusal, since a route that is chosen has no second choice. What no `Server`
//! selects is left to the default inbound policy.

mod authentication;
mod authorization;
mod default;
mod document;
mod precedence;
mod route;
mod server;
#[cfg(test)]
mod tests;

use self::authentication::Authentications;
use self::authorization::Grants;
use self::document::Reader;
use self::route::Route;
use self::server::Server;
use super::{Mention, Mentioned, Outcome, Refused};
use crate::diagnostic::Code;
use crate::model::{Expr, Stack, Tier};
use crate::settings::Settings;
use crate::source::Document;

/// What is read here.
pub(super) const FRONT_END: super::FrontEnd = super::FrontEnd {
    reads: &[
        (
            GROUP,
            &["v1alpha1", "v1beta1", "v1beta2", "v1beta3"],
            &[SERVER, SERVER_AUTHORIZATION, AUTHORIZATION_POLICY, MESH_TLS, NETWORK, HTTP_ROUTE],
        ),
        (GATEWAY_GROUP, &["v1", "v1beta1", "v1alpha2"], &[HTTP_ROUTE, GRPC_ROUTE]),
    ],
    compile,
};

const GROUP: &str = "policy.linkerd.io";
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
const SERVER: &str = "Server";
const SERVER_AUTHORIZATION: &str = "ServerAuthorization";
const AUTHORIZATION_POLICY: &str = "AuthorizationPolicy";
const MESH_TLS: &str = "MeshTLSAuthentication";
const NETWORK: &str = "NetworkAuthentication";
const HTTP_ROUTE: &str = "HTTPRoute";
const GRPC_ROUTE: &str = "GRPCRoute";

/// Reads all documents of this dialect together, since they speak of each other by name.
fn compile(documents: &[&Document], settings: &Settings) -> Outcome {
    let mut outcome = Outcome::default();
    let mut servers: Vec<Server> = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    let mut authentications = Authentications::default();
    for document in documents {
        let mut reader = Reader::of(document, settings);
        match document.kind.as_str() {
            _ if document.broken => {}
            SERVER => servers.extend(server::read(&mut reader)),
            HTTP_ROUTE | GRPC_ROUTE => routes.extend(route::read(&mut reader)),
            MESH_TLS | NETWORK => authentications.read(&mut reader),
            // Those that grant are read below, when it is known what there is to grant.
            _ => continue,
        }
        finish(document, reader, &mut outcome);
    }
    let mut grants = Grants::default();
    for document in documents {
        if document.broken || !matches!(document.kind.as_str(), AUTHORIZATION_POLICY | SERVER_AUTHORIZATION) {
            continue;
        }
        let mut reader = Reader::of(document, settings);
        grants.read(&mut reader, &authentications, &servers, &routes);
        finish(document, reader, &mut outcome);
    }
    for document in documents.iter().filter(|document| document.broken) {
        if matches!(document.kind.as_str(), AUTHORIZATION_POLICY | SERVER_AUTHORIZATION) {
            outcome.refused.push(refused(document));
        }
    }
    servers.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    for (index, server) in servers.iter().enumerate() {
        let older = servers.get(..index).unwrap_or_default();
        outcome.mentions.push(protected(server));
        outcome.policies.push(server.policy(older, &routes, &grants, settings, &mut outcome.diagnostics));
    }
    outcome.policies.extend(default::policies(&servers, settings));
    if let Some(server) = servers.first()
        && !settings.linkerd.is_written
    {
        outcome.diagnostics.push(default::not_written(server));
    }
    outcome
}

fn finish(document: &Document, reader: Reader<'_>, outcome: &mut Outcome) {
    if document.broken || reader.findings.has_errors() {
        outcome.refused.push(refused(document));
    }
    outcome.diagnostics.extend(reader.findings.into_diagnostics());
}

/// A document that cannot be read. One that only grants grants nothing; a route that is missing would leave its
/// `Server` to everybody who is authorized for the whole of it, so that what it may be about is closed.
fn refused(document: &Document) -> Refused {
    let mut refused = match document.kind.as_str() {
        AUTHORIZATION_POLICY | SERVER_AUTHORIZATION | MESH_TLS | NETWORK => Refused::harmless(document),
        HTTP_ROUTE | GRPC_ROUTE if route::is_of_no_server(document) => Refused::harmless(document),
        SERVER if !document.broken => {
            let subject = server::subject_of(document);
            Refused::closing(document, Stack::Linkerd, Tier::Application, subject)
        }
        _ => {
            let subject = Expr::Is(document::namespace_atom(document::namespace_of(document)));
            Refused::closing(document, Stack::Linkerd, Tier::Application, Some(subject))
        }
    };
    let name = document::name_of(document);
    if let Some(closure) = &mut refused.closure {
        closure.name = name.clone();
    }
    refused.name = name;
    refused
}

fn protected(server: &Server) -> Mention {
    let mut finding = crate::diagnostic::Diagnostic::new(
        Code::SelectsNothing,
        server.location.clone(),
        format!("`{}` selects no workload", server.name),
    )
    .help("check `podSelector` and the namespace");
    finding.policy = Some(server.name.to_string());
    Mention { of: Mentioned::Protected(server.subject.clone()), finding }
}
