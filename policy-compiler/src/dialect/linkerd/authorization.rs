//! `AuthorizationPolicy` and `ServerAuthorization`: who may reach what.

use std::collections::BTreeMap;

use super::super::members::{self, Members};
use super::server::Server;
use super::{GATEWAY, GROUP, GRPC_ROUTE, HTTP_ROUTE, SERVER, authentication, identity, namespace_of, network};
use crate::diagnostic::Code;
use crate::dialect::selector;
use crate::model::{Atom, Expr, PeerAtom, Selector};
use crate::settings::Settings;
use crate::source::{Document, Findings, Node, Span};

/// One document, read.
pub(super) struct Authorization<'d> {
    pub(super) document: &'d Document,
    pub(super) target: Target,
    clients: Clients,
}

/// What an authorization is for, in its own namespace.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    Server(String),
    /// Servers by their own labels.
    Servers(Selector),
    /// Every `Server` of the namespace.
    Namespace,
    Route {
        group: String,
        kind: String,
        name: String,
    },
    /// Something that it cannot reach.
    Nothing,
}

enum Clients {
    /// Known from the document itself.
    Known(Expr),
    /// All of these.
    Required(Vec<Required>),
}

enum Required {
    Known(Expr),
    Mesh(Reference),
    Network(Reference),
}

struct Reference {
    key: (String, String),
    span: Span,
}

type Named = BTreeMap<(String, String), Expr>;

impl Authorization<'_> {
    /// Whether it is for a `Server`, and not for one of its routes alone.
    pub(super) fn is_for(&self, server: &Server<'_>) -> bool {
        namespace_of(self.document) == server.namespace()
            && match &self.target {
                Target::Server(name) => *name == server.document.name,
                Target::Servers(selector) => selector.matches(&server.labels()),
                Target::Namespace => true,
                Target::Route { .. } | Target::Nothing => false,
            }
    }

    /// Who is authorised; false where an authentication that it requires is not there.
    pub(super) fn clients(&self, mesh: &Named, networks: &Named) -> Expr {
        match &self.clients {
            Clients::Known(clients) => clients.clone(),
            Clients::Required(all) => Expr::all(all.iter().map(|required| match required {
                Required::Known(expr) => expr.clone(),
                Required::Mesh(reference) => mesh.get(&reference.key).cloned().unwrap_or(Expr::False),
                Required::Network(reference) => networks.get(&reference.key).cloned().unwrap_or(Expr::False),
            })),
        }
    }

    /// References to authentications that are not there.
    pub(super) fn dangling(&self, mesh: &Named, networks: &Named) -> Vec<(Span, String)> {
        let Clients::Required(all) = &self.clients else { return Vec::new() };
        let missing = all.iter().filter_map(|required| match required {
            Required::Mesh(reference) if !mesh.contains_key(&reference.key) => {
                Some(("MeshTLSAuthentication", reference))
            }
            Required::Network(reference) if !networks.contains_key(&reference.key) => {
                Some(("NetworkAuthentication", reference))
            }
            _ => None,
        });
        missing
            .map(|(kind, Reference { key: (namespace, name), span })| (*span, format!("{kind} {namespace}/{name}")))
            .collect()
    }
}

/// `group`, `kind`, `name` and `namespace` of a reference.
struct ObjectReference<'n> {
    group: &'n str,
    kind: &'n str,
    name: Option<&'n str>,
    namespace: Option<&'n str>,
    span: Span,
}

fn object<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<ObjectReference<'n>> {
    let mut fields = Members::of(node, what, findings)?;
    let group = members::text(fields.find("group"), "group", findings).map_or("", |(group, _)| group);
    let kind = fields.require("kind", findings);
    let name = members::text(fields.find("name"), "name", findings).map(|(name, _)| name);
    let namespace = members::text(fields.find("namespace"), "namespace", findings).map(|(name, _)| name);
    fields.finish(findings);
    let (kind, span) = members::text(kind, "kind", findings)?;
    let group = if group == "core" { "" } else { group };
    Some(ObjectReference { group, kind, name, namespace, span })
}

/// An `AuthorizationPolicy`.
pub(super) fn policy<'d>(
    document: &'d Document,
    settings: &Settings,
    findings: &mut Findings,
) -> Option<Authorization<'d>> {
    let mut spec = authentication::spec(document, findings)?;
    let target = spec.require("targetRef", findings);
    let required = spec.require("requiredAuthenticationRefs", findings);
    spec.finish(findings);
    let target = target.and_then(|node| self::target(node, namespace_of(document), findings));
    let required = members::items(required?, "requiredAuthenticationRefs", findings)?;
    let mut all = Vec::new();
    for node in required {
        let one = self::required(node, namespace_of(document), settings, findings)?;
        let is_network = matches!(one, Required::Network(_));
        if all.iter().any(|other| matches!(other, Required::Network(_)) == is_network) {
            let message = "two authentications of one sort: a client must be in every one of them";
            let help = "name one identity and one network at most, and list several in the authentication";
            findings.report_with(Code::Conflict, node.span, message, help);
        }
        all.push(one);
    }
    Some(Authorization { document, target: target?, clients: Clients::Required(all) })
}

fn target(node: &Node, own: &str, findings: &mut Findings) -> Option<Target> {
    let reference = object(node, "`targetRef`", findings)?;
    let Some(name) = reference.name else {
        findings.report_with(Code::MissingField, node.span, "`name` is missing", "name the target");
        return None;
    };
    let is_elsewhere = reference.namespace.is_some_and(|namespace| namespace != own);
    match (reference.group, reference.kind) {
        _ if is_elsewhere => {
            let message = "an `AuthorizationPolicy` reaches its own namespace alone: it grants nothing";
            findings.report_with(Code::Suspicious, node.span, message, "move it beside its target");
            Some(Target::Nothing)
        }
        (GROUP, SERVER) => Some(Target::Server(name.to_owned())),
        ("", "Namespace") if name == own => Some(Target::Namespace),
        ("", "Namespace") => {
            let message = format!("`{name}` is not the namespace of the policy: it grants nothing");
            findings.report_with(
                Code::Suspicious,
                node.span,
                message,
                format!("write `name: {own}`, or move the policy"),
            );
            Some(Target::Nothing)
        }
        (group @ (GROUP | GATEWAY), kind @ HTTP_ROUTE) | (group @ GATEWAY, kind @ GRPC_ROUTE) => {
            Some(Target::Route { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned() })
        }
        (group, kind) => {
            let message = format!("`{kind}` of group `{group}` is no target of an `AuthorizationPolicy`");
            let help = format!(
                "`Server` and `HTTPRoute` are of `{GROUP}`, `HTTPRoute` and `GRPCRoute` of `{GATEWAY}`, `Namespace` of none"
            );
            findings.report_with(Code::BadEnumValue, reference.span, message, help);
            None
        }
    }
}

fn required(node: &Node, own: &str, settings: &Settings, findings: &mut Findings) -> Option<Required> {
    let reference = object(node, "an item of `requiredAuthenticationRefs`", findings)?;
    let Some(name) = reference.name else {
        findings.report_with(Code::MissingField, node.span, "`name` is missing", "name the authentication");
        return None;
    };
    let namespace = reference.namespace.unwrap_or(own);
    let found = Reference { key: (namespace.to_owned(), name.to_owned()), span: node.span };
    match (reference.group, reference.kind) {
        (GROUP, "MeshTLSAuthentication") => Some(Required::Mesh(found)),
        (GROUP, "NetworkAuthentication") => Some(Required::Network(found)),
        ("", "ServiceAccount") => {
            let identity = identity::of_account(namespace, name, settings);
            Some(Required::Known(identity::any_of([identity.as_str()], settings)))
        }
        (group, kind) => {
            let message = format!("`{kind}` of group `{group}` is no authentication");
            let help = format!(
                "`MeshTLSAuthentication` and `NetworkAuthentication` are of `{GROUP}`, `ServiceAccount` of none"
            );
            findings.report_with(Code::BadEnumValue, reference.span, message, help);
            None
        }
    }
}

/// A `ServerAuthorization`.
pub(super) fn server_authorization<'d>(
    document: &'d Document,
    settings: &Settings,
    findings: &mut Findings,
) -> Option<Authorization<'d>> {
    let mut spec = authentication::spec(document, findings)?;
    let server = spec.require("server", findings);
    let client = spec.require("client", findings);
    spec.finish(findings);
    let target = server.and_then(|node| servers(node, findings));
    let clients = client.and_then(|node| self::client(node, namespace_of(document), settings, findings));
    Some(Authorization { document, target: target?, clients: Clients::Known(clients?) })
}

fn servers(node: &Node, findings: &mut Findings) -> Option<Target> {
    let mut fields = Members::of(node, "`server`", findings)?;
    let name = members::text(fields.find("name"), "name", findings);
    let labels = fields.find("selector");
    fields.finish(findings);
    match (name, labels) {
        (Some((name, _)), None) => Some(Target::Server(name.to_owned())),
        (None, Some(labels)) => Some(Target::Servers(selector::read(labels, "selector", findings)?)),
        _ => {
            let help = "`selector` is about labels of the `Server`, not of pods";
            findings.report_with(Code::Conflict, node.span, "`server` has either `name` or `selector`", help);
            None
        }
    }
}

fn client(node: &Node, own: &str, settings: &Settings, findings: &mut Findings) -> Option<Expr> {
    let mut fields = Members::of(node, "`client`", findings)?;
    let networks = fields.list("networks", findings).unwrap_or_default();
    let unauthenticated = network::flag(fields.find("unauthenticated"), "unauthenticated", findings);
    let mesh = fields.find("meshTLS");
    fields.finish(findings);
    let addresses = if networks.is_empty() {
        let message = "without `networks` only clients of the cluster's networks are authorised";
        let help = "write `networks: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}]` for every address";
        findings.report_with(Code::Suspicious, node.span, message, help);
        network::cluster(settings)
    } else {
        network::list(networks, findings)?
    };
    let who = match (unauthenticated, mesh) {
        (true, None) => Expr::True,
        (false, Some(mesh)) => mesh_clients(mesh, own, settings, findings)?,
        _ => {
            let help = "write `unauthenticated: true`, or `meshTLS` with who is meant";
            findings.report_with(Code::Conflict, node.span, "`client` has either `unauthenticated` or `meshTLS`", help);
            return None;
        }
    };
    Some(Expr::all([addresses, who]))
}

fn mesh_clients(node: &Node, own: &str, settings: &Settings, findings: &mut Findings) -> Option<Expr> {
    let mut fields = Members::of(node, "`meshTLS`", findings)?;
    let anybody = network::flag(fields.find("unauthenticatedTLS"), "unauthenticatedTLS", findings);
    let written = fields.list("identities", findings).unwrap_or_default();
    let accounts = fields.list("serviceAccounts", findings).unwrap_or_default();
    fields.finish(findings);
    if anybody != (written.is_empty() && accounts.is_empty()) {
        let help = "write `unauthenticatedTLS: true`, or `identities` and `serviceAccounts`";
        findings.report_with(Code::Conflict, node.span, "`meshTLS` says either that anybody may, or who", help);
        return None;
    }
    if anybody {
        return Some(Expr::Is(Atom::Peer(PeerAtom::Proven)));
    }
    let mut identities = authentication::identities(written, findings)?;
    for node in accounts {
        let mut fields = Members::of(node, "an item of `serviceAccounts`", findings)?;
        let name = fields.require("name", findings);
        let namespace = members::text(fields.find("namespace"), "namespace", findings).map_or(own, |(name, _)| name);
        fields.finish(findings);
        let (name, _) = members::text(name, "name", findings)?;
        identities.push(identity::of_account(namespace, name, settings));
    }
    Some(identity::any_of(identities.iter().map(String::as_str), settings))
}
