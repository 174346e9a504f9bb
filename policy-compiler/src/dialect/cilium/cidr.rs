//! `fromCIDR`, `fromCIDRSet` and their egress twins: addresses outside the cluster.
//!
//! SPEC: a network never matches what Cilium manages, so neither a pod nor a node; `0.0.0.0/0` is the world of IPv4.

use std::net::IpAddr;

use ipnet::IpNet;

use super::context::Context;
use super::members::{Members, items};
use crate::diagnostic::Code;
use crate::model::{CidrScope, Expr, PeerAtom};
use crate::source::{Node, fields};

/// Any of a list of networks or addresses.
pub(super) fn list(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let items = items(node, name, context.findings)?;
    let any: Option<Vec<Expr>> =
        items.iter().map(|item| Some(outside(network(item, true, context)?, context))).collect();
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
    let cidr = members.find("cidr");
    let except = members.list("except", context.findings).unwrap_or_default();
    if cidr.is_none() && context.findings.errors() == before {
        members.require("cidr", context.findings);
    }
    members.finish(context.findings);
    let whole = network(cidr?, false, context)?;
    let mut parts = vec![outside(whole, context)];
    for item in except {
        let hole = network(item, false, context)?;
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

/// A network, or one address where `address` says so. Bits behind the prefix do not count.
fn network(node: &Node, address: bool, context: &mut Context<'_>) -> Option<IpNet> {
    let written = fields::text(node, "a network", context.findings)?;
    let parsed = match written.split_once('/') {
        Some((ip, prefix)) if is_prefix(prefix) => {
            ip.parse::<IpAddr>().ok().zip(prefix.parse().ok()).and_then(|(ip, prefix)| IpNet::new(ip, prefix).ok())
        }
        Some(_) => None,
        None if address => written.parse::<IpAddr>().ok().map(IpNet::from),
        None => None,
    };
    let Some(net) = parsed else {
        let help = "write an address and a prefix length, such as `10.1.0.0/16`";
        context.findings.report_with(Code::BadValue, node.span, format!("`{written}` is no network"), help);
        return None;
    };
    if net.trunc() != net {
        let message = format!("bits behind the prefix of `{written}` are set and do not count");
        context.findings.report_with(Code::Suspicious, node.span, message, format!("write `{}`", net.trunc()));
    }
    Some(unmapped(net.trunc()))
}

fn is_prefix(text: &str) -> bool {
    text == "0" || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// IPv4-mapped addresses are IPv4 everywhere here.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    mapped.and_then(|v4| IpNet::new(v4.into(), v6.prefix_len() - 96).ok()).unwrap_or(net)
}
