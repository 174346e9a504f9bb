//! `Server`: some pods of its namespace, and one port of theirs.

use super::super::members::Members;
use super::{authentication, namespace_of};
use crate::diagnostic::Code;
use crate::dialect::selector;
use crate::facts::{Protocol, Transport};
use crate::model::{Atom, Expr, PeerAtom, PortAtom};
use crate::registry::Labels;
use crate::settings::LinkerdAccess;
use crate::source::{Document, Findings, Node, Value, fields};

/// One document, read.
pub(super) struct Server<'d> {
    pub(super) document: &'d Document,
    /// Its pods, in its namespace; false for one that is about machines outside of the cluster.
    pub(super) pods: Expr,
    /// Its port.
    pub(super) port: PortAtom,
    pub(super) protocol: ProxyProtocol,
    pub(super) access: LinkerdAccess,
}

/// What Linkerd takes the bytes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyProtocol {
    /// It looks.
    Detect,
    /// HTTP of any version: between proxies HTTP/1 travels as HTTP/2, so Linkerd looks which of them it is.
    Http1,
    Http2,
    Grpc,
    /// Bytes.
    Opaque,
    /// Bytes.
    Tls,
}

impl ProxyProtocol {
    /// Protocols with requests that pass; `None` where any protocol does.
    pub(super) fn accepts(self) -> Option<&'static [Protocol]> {
        match self {
            Self::Detect | Self::Opaque | Self::Tls => None,
            Self::Http1 => Some(&[Protocol::Http, Protocol::Http2, Protocol::Grpc]),
            Self::Http2 | Self::Grpc => Some(&[Protocol::Http2, Protocol::Grpc]),
        }
    }

    /// Whether it has requests, to which routes of HTTP apply.
    pub(super) fn has_http_routes(self) -> bool {
        matches!(self, Self::Detect | Self::Http1 | Self::Http2)
    }
}

impl<'d> Server<'d> {
    pub(super) fn namespace(&self) -> &'d str {
        namespace_of(self.document)
    }

    /// Traffic to the port, on whatever pod: Linkerd takes TCP alone.
    pub(super) fn traffic(&self) -> Expr {
        Expr::all([Expr::Is(Atom::Transport(Transport::Tcp)), Expr::Is(Atom::Port(self.port.clone()))])
    }

    /// Traffic to its port of its pods.
    pub(super) fn claim(&self) -> Expr {
        Expr::all([self.pods.clone(), self.traffic()])
    }

    /// Whether the labels of the `Server` itself match.
    pub(super) fn labels(&self) -> Labels {
        let labels = self.document.root.get("metadata").and_then(|metadata| metadata.get("labels"));
        let Some(Value::Map(entries)) = labels.map(|node| &node.value) else { return Labels::default() };
        entries.iter().filter_map(|(key, node)| Some(((&*key.text).into(), node.text()?.into()))).collect()
    }
}

/// Reads one document; `None` after an error.
pub(super) fn read<'d>(document: &'d Document, findings: &mut Findings) -> Option<Server<'d>> {
    let mut spec = authentication::spec(document, findings)?;
    let port = spec.require("port", findings);
    let protocol = spec.find("proxyProtocol");
    let access = spec.find("accessPolicy");
    let pods = pods(&mut spec, document, findings);
    spec.finish(findings);
    let protocol = match protocol {
        Some(node) => fields::word(node, "`proxyProtocol`", &PROTOCOLS, findings)?,
        None => ProxyProtocol::Detect,
    };
    let access = match access {
        Some(node) => fields::word(node, "`accessPolicy`", &LinkerdAccess::WORDS, findings)?,
        None => LinkerdAccess::Deny,
    };
    Some(Server { document, pods: pods?, port: self::port(port?, findings)?, protocol, access })
}

fn pods(spec: &mut Members<'_>, document: &Document, findings: &mut Findings) -> Option<Expr> {
    let pods = spec.find("podSelector");
    let machines = spec.find("externalWorkloadSelector");
    match (pods, machines) {
        (Some(pods), None) => {
            let selector = selector::read(pods, "podSelector", findings)?;
            let labels = match selector.requirements.is_empty() {
                true => Expr::True,
                false => Expr::Is(Atom::Subject(PeerAtom::Labels(selector))),
            };
            Some(Expr::all([namespace(namespace_of(document)), labels]))
        }
        (None, Some(machines)) => {
            selector::read(machines, "externalWorkloadSelector", findings)?;
            let message = "a `Server` of workloads outside of the cluster acts on no pod";
            let help = "Eastwall enforces at pods; let Linkerd enforce this one";
            findings.report_with(Code::NotEnforced, machines.span, message, help);
            Some(Expr::False)
        }
        (Some(_), Some(machines)) => {
            let message = "`podSelector` and `externalWorkloadSelector` exclude each other";
            findings.report_with(Code::Conflict, machines.span, message, "make two `Server`s of it");
            None
        }
        (None, None) => {
            let place = document.root.get("spec").map_or(document.root.span, |spec| spec.span);
            let help = "`podSelector: {}` selects every pod of the namespace";
            findings.report_with(Code::MissingField, place, "`podSelector` is missing", help);
            None
        }
    }
}

/// Pods of one namespace.
pub(super) fn namespace(name: &str) -> Expr {
    Expr::Is(Atom::Subject(PeerAtom::Namespace(name.into())))
}

/// A number, or the name that the pods give a port.
fn port(node: &Node, findings: &mut Findings) -> Option<PortAtom> {
    if let Value::Number(_) = node.value {
        let number = fields::integer(node, "`port`", 1..=65535, findings)?;
        let number = u16::try_from(number).ok()?;
        return Some(PortAtom::Range(number, number));
    }
    fields::text(node, "`port`", findings).map(|name| PortAtom::Named(name.into()))
}

const PROTOCOLS: [(&str, ProxyProtocol); 6] = [
    ("unknown", ProxyProtocol::Detect),
    ("HTTP/1", ProxyProtocol::Http1),
    ("HTTP/2", ProxyProtocol::Http2),
    ("gRPC", ProxyProtocol::Grpc),
    ("opaque", ProxyProtocol::Opaque),
    ("TLS", ProxyProtocol::Tls),
];
