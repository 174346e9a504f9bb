//! Addresses of clients: the peer address of the connection, whoever has it.

use ipnet::IpNet;

use crate::diagnostic::Code;
use crate::dialect::cidr;
use crate::dialect::members::Members;
use crate::model::{Atom, CidrScope, Expr, PeerAtom};
use crate::settings::Settings;
use crate::source::{Findings, Node, fields};

/// An address in any of these networks.
pub(super) fn any_of(networks: &[IpNet]) -> Expr {
    Expr::any(networks.iter().map(|net| within(*net, CidrScope::Every)))
}

/// The networks of the cluster.
pub(super) fn cluster(settings: &Settings) -> Expr {
    any_of(settings.linkerd.cluster_networks.as_deref().unwrap_or(&settings.networks))
}

/// From the pod itself, through its loopback interface.
pub(super) fn loopback() -> Expr {
    let addresses = [std::net::IpAddr::from([127, 0, 0, 1]), std::net::IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])];
    Expr::any(addresses.map(|address| within(IpNet::from(address), CidrScope::Outside)))
}

fn within(net: IpNet, scope: CidrScope) -> Expr {
    Expr::Is(Atom::Peer(PeerAtom::Cidr { net, scope }))
}

/// A list of `{cidr, except}`: in any, and not in an exception of the same item.
pub(super) fn list(items: &[Node], findings: &mut Findings) -> Option<Expr> {
    let read: Vec<Expr> = items.iter().filter_map(|item| one(item, findings)).collect();
    (read.len() == items.len()).then(|| Expr::any(read))
}

fn one(node: &Node, findings: &mut Findings) -> Option<Expr> {
    let mut members = Members::of(node, "an item of `networks`", findings)?;
    let net = members.require("cidr", findings).and_then(|node| cidr::network_or_address(node, findings));
    let excepted = members.list("except", findings).unwrap_or_default();
    members.finish(findings);
    let net = net?;
    let mut except = Vec::new();
    for node in excepted {
        let inner = cidr::network_or_address(node, findings)?;
        if !net.contains(&inner) {
            let message = format!("`{inner}` does not lie in `{net}`");
            findings.report_with(Code::OutOfRange, node.span, message, "an exception is a part of its network");
        }
        except.push(inner);
    }
    Some(Expr::all([any_of(&[net]), !any_of(&except)]))
}

/// `true` or `false`; absent is `false`.
pub(super) fn flag(node: Option<&Node>, name: &str, findings: &mut Findings) -> bool {
    node.and_then(|node| fields::boolean(node, &format!("`{name}`"), findings)).unwrap_or(false)
}
