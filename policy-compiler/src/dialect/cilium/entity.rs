//! Entities: `host`, `world`, … as far as a registry can tell who they are.
//!
//! What lies inside the cluster and is neither a registered workload nor a node (Cilium's own endpoints, pods that it
//! does not manage) cannot be told apart: it is unknown, so never allowed by such an entity and always denied by it.

use super::context::{Context, Role};
use super::members::items;
use crate::diagnostic::Code;
use crate::model::{CidrScope, Expr, NodeScope, PeerAtom};
use crate::source::fields::{listed, nearest};
use crate::source::{Node, Span, fields};

/// Any of a list of entities.
pub(super) fn list(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let mut words = Vec::new();
    for item in items(node, name, context.findings)? {
        words.push((fields::text(item, &format!("an item of `{name}`"), context.findings)?, item.span));
    }
    let mut any: Vec<Expr> = words.iter().map(|(word, span)| condition(word, *span, context)).collect::<Option<_>>()?;
    let names = |wanted: &str| words.iter().any(|(word, _)| *word == wanted);
    if names("host") && names("remote-node") {
        // Whose node it is need not be known then.
        any.push(context.of(PeerAtom::Node(NodeScope::Any)));
    }
    Some(Expr::any(any))
}

/// One entity, or the label `reserved:<name>`, which says the same.
pub(super) fn condition(name: &str, span: Span, context: &mut Context<'_>) -> Option<Expr> {
    if !NAMES.contains(&name) {
        let help = match nearest(name, NAMES) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the entities are {}", listed(NAMES)),
        };
        context.findings.report_with(Code::BadEnumValue, span, format!("there is no entity `{name}`"), help);
        return None;
    }
    if context.role == Role::Subject {
        // What Eastwall protects is a workload, and those have no reserved label.
        return Some(Expr::False);
    }
    let of = |atom: PeerAtom| context.of(atom);
    let external = || of(PeerAtom::External);
    let node = |scope| of(PeerAtom::Node(scope));
    Some(match name {
        "all" => Expr::True,
        "none" => Expr::False,
        "world" => external(),
        "world-ipv4" => Expr::all([external(), of(everything("0.0.0.0/0")?)]),
        "world-ipv6" => Expr::all([external(), of(everything("::/0")?)]),
        "cluster" => !external(),
        "host" => node(NodeScope::Own),
        "remote-node" => Expr::all([node(NodeScope::Any), !node(NodeScope::Own)]),
        "kube-apiserver" => of(PeerAtom::Service { namespace: "default".into(), name: "kubernetes".into() }),
        _ => Expr::all([!of(PeerAtom::Workload), !node(NodeScope::Any), !external()]),
    })
}

/// Every address of one family that is outside the cluster.
fn everything(network: &str) -> Option<PeerAtom> {
    Some(PeerAtom::Cidr { net: network.parse().ok()?, scope: CidrScope::Outside })
}

const NAMES: &[&str] = &[
    "all",
    "world",
    "world-ipv4",
    "world-ipv6",
    "cluster",
    "host",
    "remote-node",
    "kube-apiserver",
    "ingress",
    "init",
    "health",
    "unmanaged",
    "none",
];
