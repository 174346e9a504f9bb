//! Who a client is: mesh identities and networks.
//!
//! SPEC: an identity is a DNS name. `*` and `*.<suffix>` match such names alone; a client whose certificate has a SPIFFE
//! URI is matched by that exact URI and by nothing else. Every other asterisk is a literal.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::document::Reader;
use super::{MESH_TLS, NETWORK};
use crate::diagnostic::Code;
use crate::dialect::members::Members;
use crate::model::{Atom, CidrScope, Expr, Pattern, PeerAtom, PlaintextPrincipal};
use crate::settings::Settings;
use crate::source::fields::text;
use crate::source::{Findings, Node};

/// Every authentication by kind, namespace and name: what it asks of the client.
#[derive(Debug, Default)]
pub(super) struct Authentications {
    known: HashMap<(String, String, String), Expr, foldhash::fast::RandomState>,
}

impl Authentications {
    /// Reads one document.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) {
        let before = reader.findings.errors();
        let Some(mut spec) = reader.spec() else { return };
        let condition = match reader.document.kind.as_str() {
            MESH_TLS => mesh(&mut spec, reader),
            _ => {
                spec.require("networks", &mut reader.findings);
                networks_of(&mut spec, &mut reader.findings)
            }
        };
        spec.finish(&mut reader.findings);
        if let Some(condition) = condition
            && reader.findings.errors() == before
        {
            let key = (reader.document.kind.clone(), reader.namespace().to_string(), reader.document.name.clone());
            self.known.insert(key, condition);
        }
    }

    /// What the authentication of this kind and name asks.
    pub(super) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Expr> {
        debug_assert!(matches!(kind, MESH_TLS | NETWORK));
        self.known.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }
}

fn mesh(spec: &mut Members<'_>, reader: &mut Reader<'_>) -> Option<Expr> {
    let own = reader.namespace();
    let settings = reader.settings;
    let findings = &mut reader.findings;
    let identities = spec.list("identities", findings).unwrap_or_default();
    let refs = spec.list("identityRefs", findings).unwrap_or_default();
    if identities.is_empty() && refs.is_empty() {
        let help = "name identities, or `*` for every one";
        findings.report_with(Code::EmptyList, reader.document.root.span, "nobody is named", help);
        return None;
    }
    let mut any: Vec<Expr> = Vec::new();
    for item in identities {
        any.push(identity(text(item, "an identity", findings)?));
    }
    for item in refs {
        let mut members = Members::of(item, "an item of `identityRefs`", findings)?;
        members.accept(&["group"]);
        let kind = members.require("kind", findings).and_then(|node| text(node, "`kind`", findings));
        let name = members.require("name", findings).and_then(|node| text(node, "`name`", findings));
        let namespace = members.find("namespace").and_then(|node| text(node, "`namespace`", findings));
        members.finish(findings);
        any.push(match kind? {
            "ServiceAccount" => exactly(&account(name?, namespace.unwrap_or(&own), settings)),
            "Namespace" => mesh_name(vec![Pattern::Suffix(bytes(&format!(".{}", home(name?, settings))))]),
            other => {
                let help = "a client is known by its `ServiceAccount` or `Namespace`";
                findings.report_with(Code::BadEnumValue, item.span, format!("`{other}` is no identity"), help);
                return None;
            }
        });
    }
    Some(Expr::any(any))
}

/// One identity as it is written.
pub(super) fn identity(written: &str) -> Expr {
    match written.strip_prefix('*') {
        Some("") => mesh_name(vec![Pattern::NonEmpty]),
        Some(suffix) if suffix.starts_with('.') => mesh_name(vec![Pattern::Suffix(bytes(suffix))]),
        _ => exactly(written),
    }
}

/// The mesh identity of a service account.
pub(super) fn account(name: &str, namespace: &str, settings: &Settings) -> String {
    format!("{name}.{}", home(namespace, settings))
}

fn home(namespace: &str, settings: &Settings) -> String {
    let linkerd = &settings.linkerd;
    let domain = linkerd.trust_domain.as_ref().unwrap_or(&settings.trust_domain);
    format!("{namespace}.serviceaccount.identity.{}.{domain}", linkerd.control_plane_namespace)
}

/// A client with exactly this identity.
pub(super) fn exactly(identity: &str) -> Expr {
    principal(vec![Pattern::Exact(bytes(identity))])
}

/// A client with any identity, or none that is known, over mutual TLS.
pub(super) fn proven() -> Expr {
    Expr::Is(Atom::Peer(PeerAtom::Proven))
}

fn mesh_name(is: Vec<Pattern>) -> Expr {
    Expr::all([principal(is), !principal(vec![Pattern::Prefix(bytes("spiffe://"))])])
}

fn principal(is: Vec<Pattern>) -> Expr {
    Expr::Is(Atom::Peer(PeerAtom::Principal { is, plaintext: PlaintextPrincipal::Absent }))
}

/// `networks`: any network whose `cidr` holds the address and none of its `except`s.
pub(super) fn networks_of(members: &mut Members<'_>, findings: &mut Findings) -> Option<Expr> {
    let items = members.list("networks", findings)?;
    if items.is_empty() {
        findings.report_with(Code::EmptyList, members.place("networks"), "`networks` is empty", "name a network");
        return None;
    }
    let each: Vec<Option<Expr>> = items.iter().map(|item| network(item, findings)).collect();
    Some(Expr::any(each.into_iter().collect::<Option<Vec<_>>>()?))
}

fn network(node: &Node, findings: &mut Findings) -> Option<Expr> {
    let mut members = Members::of(node, "a network", findings)?;
    let cidr = members.require("cidr", findings).and_then(|node| cidr(node, findings));
    let except = members.list("except", findings).unwrap_or_default();
    members.finish(findings);
    let mut parts = vec![within(cidr?)];
    for item in except {
        parts.push(!within(self::cidr(item, findings)?));
    }
    Some(Expr::all(parts))
}

/// A network, or one address.
fn cidr(node: &Node, findings: &mut Findings) -> Option<IpNet> {
    let written = text(node, "a network", findings)?;
    let parsed = written.parse::<IpNet>().ok().or_else(|| written.parse::<IpAddr>().ok().map(IpNet::from));
    if parsed.is_none() {
        let help = "write an address and a prefix length, such as `10.1.0.0/16`";
        findings.report_with(Code::BadValue, node.span, format!("`{written}` is no network"), help);
    }
    Some(parsed?.trunc())
}

/// The client's address lies in this network, whoever is there.
pub(super) fn within(net: IpNet) -> Expr {
    Expr::Is(Atom::Peer(PeerAtom::Cidr { net, scope: CidrScope::Every }))
}

/// The client's address belongs to the cluster.
pub(super) fn of_cluster(settings: &Settings) -> Expr {
    let networks = settings.linkerd.cluster_networks.as_ref().unwrap_or(&settings.networks);
    Expr::any(networks.iter().copied().map(within))
}

fn bytes(text: &str) -> std::sync::Arc<[u8]> {
    text.as_bytes().into()
}
