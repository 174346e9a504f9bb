//! What lets clients in: `AuthorizationPolicy` and the older `ServerAuthorization`.

use super::authentication::{self, Authentications};
use super::document::{Reader, selector};
use super::route::Route;
use super::server::Server;
use super::{AUTHORIZATION_POLICY, GATEWAY_GROUP, GROUP, GRPC_ROUTE, HTTP_ROUTE, MESH_TLS, NETWORK, SERVER};
use crate::diagnostic::{Code, Location};
use crate::dialect::members::{self, Members};
use crate::model::{Expr, PolicyName, Selector};
use crate::source::Node;
use crate::source::fields::{boolean, text};

/// One permission: for whom, and who gave it.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// Who gave it.
    pub(super) name: String,
    /// Where that stands.
    pub(super) location: Location,
    /// What it asks of the client.
    pub(super) client: Expr,
    to: Target,
    namespace: std::sync::Arc<str>,
}

/// What a permission is for.
#[derive(Clone, Debug)]
enum Target {
    Server(String),
    Servers(Selector),
    Namespace,
    Route { kind: String, name: String },
}

/// Every permission.
#[derive(Debug, Default)]
pub(super) struct Grants(Vec<Grant>);

impl Grants {
    /// Reads one document.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader<'_>,
        authentications: &Authentications,
        servers: &[Server],
        routes: &[Route],
    ) {
        let before = reader.findings.errors();
        let Some(mut spec) = reader.spec() else { return };
        let read = match reader.document.kind.as_str() {
            AUTHORIZATION_POLICY => policy(&mut spec, reader, authentications),
            _ => server_authorization(&mut spec, reader),
        };
        spec.finish(&mut reader.findings);
        let Some((to, client)) = read else { return };
        if reader.findings.errors() != before {
            return;
        }
        let grant = Grant {
            name: reader.name.to_string(),
            location: reader.document.location.clone(),
            client,
            to,
            namespace: reader.namespace(),
        };
        let is_dangling = match &grant.to {
            Target::Server(_) | Target::Servers(_) => !servers.iter().any(|server| grant.is_for_server(server)),
            Target::Namespace => false,
            Target::Route { .. } => !routes.iter().any(|route| grant.is_for_route(&route.name)),
        };
        if is_dangling {
            let help = "check kind, name and namespace of what it is for";
            let span = reader.document.root.span;
            reader.findings.report_with(Code::NobodyYet, span, "what this is for does not exist", help);
        }
        self.0.push(grant);
    }

    /// Those for the whole of a `Server`.
    pub(super) fn of_server<'a>(&'a self, server: &'a Server) -> impl Iterator<Item = &'a Grant> {
        self.0.iter().filter(|grant| grant.is_for_server(server))
    }

    /// Those for one route.
    pub(super) fn of_route<'a>(&'a self, route: &'a PolicyName) -> impl Iterator<Item = &'a Grant> {
        self.0.iter().filter(|grant| grant.is_for_route(route))
    }
}

impl Grant {
    fn is_for_server(&self, server: &Server) -> bool {
        self.namespace == server.name.namespace
            && match &self.to {
                Target::Server(name) => *name == *server.name.name,
                Target::Servers(selector) => selector.matches(&server.labels),
                Target::Namespace => true,
                Target::Route { .. } => false,
            }
    }

    fn is_for_route(&self, route: &PolicyName) -> bool {
        matches!(&self.to, Target::Route { kind, name }
            if self.namespace == route.namespace && *kind == *route.kind && *name == *route.name)
    }
}

/// Group, kind, name and namespace of a reference.
struct Reference<'n> {
    group: &'n str,
    kind: &'n str,
    name: &'n str,
    namespace: Option<&'n str>,
}

fn reference<'n>(node: &'n Node, what: &str, reader: &mut Reader<'_>) -> Option<Reference<'n>> {
    let findings = &mut reader.findings;
    let mut fields = Members::of(node, what, findings)?;
    // The core group has an empty name.
    let group = members::text(fields.find("group"), "group", findings).map_or("", |(group, _)| group);
    let kind = fields.require("kind", findings).and_then(|node| text(node, "`kind`", findings));
    let name = fields.require("name", findings).and_then(|node| text(node, "`name`", findings));
    let namespace = fields.find("namespace").and_then(|node| text(node, "`namespace`", findings));
    fields.finish(findings);
    Some(Reference { group, kind: kind?, name: name?, namespace })
}

fn policy(spec: &mut Members<'_>, reader: &mut Reader<'_>, known: &Authentications) -> Option<(Target, Expr)> {
    let target = spec.require("targetRef", &mut reader.findings)?;
    let refs = spec.require("requiredAuthenticationRefs", &mut reader.findings);
    let refs = refs.and_then(|node| members::items(node, "requiredAuthenticationRefs", &mut reader.findings))?;
    let to = reference(target, "`targetRef`", reader)?;
    let own = reader.namespace();
    let to = match (to.group, to.kind) {
        (GROUP, SERVER) => Target::Server(to.name.to_owned()),
        (GROUP | GATEWAY_GROUP, HTTP_ROUTE) | (GATEWAY_GROUP, GRPC_ROUTE) => {
            Target::Route { kind: to.kind.to_owned(), name: to.name.to_owned() }
        }
        ("" | "core", "Namespace") if *to.name == *own => Target::Namespace,
        ("" | "core", "Namespace") => {
            let help = "a policy covers its own namespace alone";
            let message = format!("`{}` is not the namespace of this policy: it grants nothing", to.name);
            reader.findings.report_with(Code::NotEnforced, target.span, message, help);
            return None;
        }
        (group, kind) => {
            let help = "a policy is for a `Server`, an `HTTPRoute`, a `GRPCRoute` or its own `Namespace`";
            reader.findings.report_with(
                Code::BadEnumValue,
                target.span,
                format!("`{group}/{kind}` is no target"),
                help,
            );
            return None;
        }
    };
    let mut client = Vec::new();
    let (mut identities, mut networks) = (0, 0);
    for item in refs {
        let one = reference(item, "an item of `requiredAuthenticationRefs`", reader)?;
        let namespace = one.namespace.unwrap_or(&own);
        let found = match (one.group, one.kind) {
            (GROUP, MESH_TLS) => {
                identities += 1;
                known.find(MESH_TLS, namespace, one.name).cloned()
            }
            (GROUP, NETWORK) => {
                networks += 1;
                known.find(NETWORK, namespace, one.name).cloned()
            }
            ("" | "core", "ServiceAccount") => {
                identities += 1;
                Some(authentication::exactly(&authentication::account(one.name, namespace, reader.settings)))
            }
            (group, kind) => {
                let help =
                    "a client is known by a `MeshTLSAuthentication`, a `NetworkAuthentication` or a `ServiceAccount`";
                let message = format!("`{group}/{kind}` is no authentication");
                reader.findings.report_with(Code::BadEnumValue, item.span, message, help);
                return None;
            }
        };
        match found {
            Some(condition) => client.push(condition),
            // SPEC: a policy with a reference to nothing grants nothing.
            None => {
                let message =
                    format!("there is no `{} {namespace}/{}`: this policy grants nothing", one.kind, one.name);
                reader.findings.report_with(Code::NobodyYet, item.span, message, "check kind, name and namespace");
                return None;
            }
        }
    }
    if identities > 1 || networks > 1 {
        let help = "write one policy for each: policies are added up, references of one policy must all hold";
        let message = "at most one identity and one network authentication";
        reader.findings.report_with(Code::Conflict, reader.document.root.span, message, help);
        return None;
    }
    Some((to, Expr::all(client)))
}

fn server_authorization(spec: &mut Members<'_>, reader: &mut Reader<'_>) -> Option<(Target, Expr)> {
    let server = spec.require("server", &mut reader.findings);
    let client = spec.require("client", &mut reader.findings);
    let (server, client) = (server?, client?);
    let mut members = Members::of(server, "`server`", &mut reader.findings)?;
    let (name, chosen) = (members.find("name"), members.find("selector"));
    members.finish(&mut reader.findings);
    let to = match (name, chosen) {
        (Some(name), None) => Target::Server(text(name, "`name`", &mut reader.findings)?.to_owned()),
        (None, Some(node)) => Target::Servers(selector(node, "selector", &mut reader.findings)?),
        _ => {
            let message = "`server` has exactly one of `name` and `selector`";
            reader.findings.report_with(Code::Conflict, server.span, message, "keep one");
            return None;
        }
    };
    let mut members = Members::of(client, "`client`", &mut reader.findings)?;
    let (anyone, mesh) = (members.find("unauthenticated"), members.find("meshTLS"));
    let networks = match members.find("networks") {
        Some(_) => authentication::networks_of(&mut members, &mut reader.findings)?,
        // SPEC: unlike an AuthorizationPolicy, this one means the cluster's addresses where it names none.
        None => authentication::of_cluster(reader.settings),
    };
    members.finish(&mut reader.findings);
    let anyone = match anyone {
        Some(node) => boolean(node, "`unauthenticated`", &mut reader.findings)?,
        None => false,
    };
    let who = match (anyone, mesh) {
        (true, None) => Expr::True,
        (false, Some(node)) => mesh_tls(node, reader)?,
        _ => {
            let message = "`client` has exactly one of `unauthenticated: true` and `meshTLS`";
            reader.findings.report_with(Code::Conflict, client.span, message, "keep one");
            return None;
        }
    };
    Some((to, Expr::all([networks, who])))
}

fn mesh_tls(node: &Node, reader: &mut Reader<'_>) -> Option<Expr> {
    let own = reader.namespace();
    let settings = reader.settings;
    let findings = &mut reader.findings;
    let mut members = Members::of(node, "`meshTLS`", findings)?;
    let unidentified = members.find("unauthenticatedTLS");
    let identities = members.list("identities", findings).unwrap_or_default();
    let accounts = members.list("serviceAccounts", findings).unwrap_or_default();
    members.finish(findings);
    if let Some(node) = unidentified
        && boolean(node, "`unauthenticatedTLS`", findings)?
    {
        return Some(authentication::proven());
    }
    if identities.is_empty() && accounts.is_empty() {
        let help = "name identities, `*` among them for every one";
        findings.report_with(Code::EmptyList, node.span, "`meshTLS` names nobody", help);
        return None;
    }
    let mut any = Vec::new();
    for item in identities {
        any.push(authentication::identity(text(item, "an identity", findings)?));
    }
    for item in accounts {
        let mut members = Members::of(item, "an item of `serviceAccounts`", findings)?;
        let name = members.require("name", findings).and_then(|node| text(node, "`name`", findings));
        let namespace = members.find("namespace").and_then(|node| text(node, "`namespace`", findings));
        members.finish(findings);
        any.push(authentication::exactly(&authentication::account(name?, namespace.unwrap_or(&own), settings)));
    }
    Some(Expr::any(any))
}
