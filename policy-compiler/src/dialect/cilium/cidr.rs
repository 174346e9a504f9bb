//! `fromCIDR`, `fromCIDRSet` and their egress twins: addresses outside the cluster.
//!
//! SPEC: a network never matches what Cilium manages, so neither a pod nor a node; `0.0.0.0/0` is the world of IPv4.

use ipnet::IpNet;

use super::context::Context;
use super::members::{Members, items};
use crate::diagnostic::Code;
use crate::dialect::cidr;
use crate::model::{CidrScope, Expr, PeerAtom};
use crate::source::Node;

/// Any of a list of networks or addresses.
pub(super) fn list(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let items = items(node, name, context.findings)?;
    let any: Option<Vec<Expr>> =
        items.iter().map(|item| Some(outside(cidr::network_or_address(item, context.findings)?, context))).collect();
    Some(Expr::any(any?))
}

/// Any of a list of networks, each without its exceptions.
pub(super) fn set(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let items = items(node, name, context.findings)?;
    let any: Vec<Option<Expr>> = items.iter().map(|item| member(item, name, context)).collect();
    Some(Expr::any(any.into_iter().collect::<Option<Vec<_>>>()?))
}

fn member(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, &format!("an item of `{name}`"), context.findings)?;
    let help = "write the networks themselves as `cidr`";
    members.refuse("cidrGroupRef", "groups of networks are not read", help, context.findings);
    members.refuse("cidrGroupSelector", "groups of networks are not read", help, context.findings);
    let net = members.find("cidr");
    let except = members.list("except", context.findings).unwrap_or_default();
    if net.is_none() && context.findings.errors() == before {
        members.require("cidr", context.findings);
    }
    members.finish(context.findings);
    let whole = cidr::network(net?, context.findings)?;
    let mut parts = vec![outside(whole, context)];
    for item in except {
        let hole = cidr::network(item, context.findings)?;
        if !whole.contains(&hole.addr()) {
            context.findings.report_with(
                Code::OutOfRange,
                item.span,
                format!("`{hole}` does not lie inside `{whole}`"),
                "an exception is carved out of the `cidr` beside it alone",
            );
        }
        parts.push(!outside(hole, context));
    }
    (context.findings.errors() == before).then(|| Expr::all(parts))
}

fn outside(net: IpNet, context: &Context<'_>) -> Expr {
    context.of(PeerAtom::Cidr { net, scope: CidrScope::Outside })
}
