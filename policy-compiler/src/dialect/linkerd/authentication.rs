//! `MeshTLSAuthentication` and `NetworkAuthentication`: who a client is, and where it is.

use super::super::members::{self, Members};
use super::{identity, namespace_of, network};
use crate::diagnostic::Code;
use crate::model::Expr;
use crate::settings::Settings;
use crate::source::{Document, Findings, Node};

/// Clients with any of the identities.
pub(super) fn mesh(document: &Document, settings: &Settings, findings: &mut Findings) -> Option<Expr> {
    let mut spec = spec(document, findings)?;
    let written = spec.list("identities", findings);
    let references = spec.list("identityRefs", findings);
    let place = spec.place("identities");
    spec.finish(findings);
    if written.unwrap_or_default().is_empty() && references.unwrap_or_default().is_empty() {
        let help = "write `identities` or `identityRefs`; `*` is every identity of the mesh";
        findings.report_with(Code::MissingField, place, "an authentication without an identity", help);
        return None;
    }
    if written.is_some() && references.is_some() {
        findings.report_with(
            Code::Conflict,
            place,
            "`identities` and `identityRefs` exclude each other",
            "make two authentications of it",
        );
    }
    let mut identities = identities(written.unwrap_or_default(), findings)?;
    for node in references.unwrap_or_default() {
        identities.push(reference(node, namespace_of(document), settings, findings)?);
    }
    Some(identity::any_of(identities.iter().map(String::as_str), settings))
}

/// Identities as they are written, with a word on asterisks that match nobody.
pub(super) fn identities(nodes: &[Node], findings: &mut Findings) -> Option<Vec<String>> {
    let mut identities = Vec::new();
    for node in nodes {
        let written = crate::source::fields::text(node, "an identity", findings)?;
        let literal = written != "*" && written.strip_prefix("*.").unwrap_or(written).contains('*');
        if literal {
            let message = format!("`*` inside of `{written}` is no wildcard: it stands for itself");
            let help = "a wildcard is `*` alone, or a leading `*.`";
            findings.report_with(Code::Suspicious, node.span, message, help);
        }
        identities.push(written.to_owned());
    }
    Some(identities)
}

fn reference(node: &Node, own: &str, settings: &Settings, findings: &mut Findings) -> Option<String> {
    let mut members = Members::of(node, "an item of `identityRefs`", findings)?;
    let group = members::text(members.find("group"), "group", findings).map_or("", |(group, _)| group);
    let kind = members.require("kind", findings);
    let name = members::text(members.find("name"), "name", findings).map(|(name, _)| name);
    let namespace = members::text(members.find("namespace"), "namespace", findings).map_or(own, |(name, _)| name);
    members.finish(findings);
    let (kind, span) = members::text(kind, "kind", findings)?;
    match (group, kind, name) {
        ("" | "core", "ServiceAccount", Some(name)) => Some(identity::of_account(namespace, name, settings)),
        // A namespace of no name is the document's own.
        ("" | "core", "Namespace", name) => Some(identity::of_namespace(name.unwrap_or(own), settings)),
        ("" | "core", "ServiceAccount", None) => {
            findings.report_with(Code::MissingField, node.span, "`name` is missing", "name the service account");
            None
        }
        _ => {
            let message = format!("`{kind}` is nobody's identity");
            findings.report_with(Code::BadEnumValue, span, message, "write `ServiceAccount` or `Namespace`");
            None
        }
    }
}

/// Clients with an address in any of the networks.
pub(super) fn network(document: &Document, findings: &mut Findings) -> Option<Expr> {
    let mut spec = spec(document, findings)?;
    let networks = spec.require("networks", findings).and_then(|node| members::items(node, "networks", findings));
    let place = spec.place("networks");
    spec.finish(findings);
    let networks = networks?;
    if networks.is_empty() {
        findings.report_with(Code::EmptyList, place, "`networks` is an empty list", "write at least one network");
    }
    network::list(networks, findings)
}

/// The members of `spec`; everything beside it belongs to Kubernetes.
pub(super) fn spec<'d>(document: &'d Document, findings: &mut Findings) -> Option<Members<'d>> {
    let mut top = Members::of(&document.root, "a policy", findings)?;
    top.accept(&["apiVersion", "kind", "metadata", "status"]);
    let spec = top.require("spec", findings);
    top.finish(findings);
    Members::of(spec?, "`spec`", findings)
}
