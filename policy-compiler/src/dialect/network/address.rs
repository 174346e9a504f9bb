//! Networks as they are written: `10.1.0.0/16`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::context::Context;
use crate::diagnostic::Code;
use crate::source::Node;
use crate::source::fields::text;

/// Reads one network. Bits behind the prefix do not count; IPv4-mapped networks are IPv4.
pub(super) fn network(node: &Node, context: &mut Context<'_>) -> Option<IpNet> {
    let written = text(node, "a network", &mut context.findings)?;
    let Ok(net) = written.parse::<IpNet>() else {
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

/// Whether `hole` lies inside `whole`.
pub(super) fn contains(whole: &IpNet, hole: &IpNet) -> bool {
    whole.contains(hole)
}

fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    mapped.and_then(|v4| IpNet::new(IpAddr::from(v4), v6.prefix_len() - 96).ok()).unwrap_or(net)
}
