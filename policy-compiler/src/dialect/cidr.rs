//! Networks as Kubernetes, Cilium and Linkerd write them: `10.1.0.0/16`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::diagnostic::Code;
use crate::source::{Findings, Node, fields};

/// Reads a network. Bits behind the prefix do not count; IPv4-mapped networks are IPv4.
pub(super) fn network(node: &Node, findings: &mut Findings) -> Option<IpNet> {
    let written = fields::text(node, "a network", findings)?;
    net(written, with_prefix(written), node, findings)
}

/// Reads a network, or one address.
pub(super) fn network_or_address(node: &Node, findings: &mut Findings) -> Option<IpNet> {
    let written = fields::text(node, "a network", findings)?;
    let parsed =
        if written.contains('/') { with_prefix(written) } else { written.parse::<IpAddr>().ok().map(IpNet::from) };
    net(written, parsed, node, findings)
}

fn with_prefix(written: &str) -> Option<IpNet> {
    let (ip, prefix) = written.split_once('/')?;
    let plain = prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    IpNet::new(ip.parse().ok()?, prefix.parse().ok().filter(|_| plain)?).ok()
}

fn net(written: &str, parsed: Option<IpNet>, node: &Node, findings: &mut Findings) -> Option<IpNet> {
    let Some(net) = parsed else {
        let help = "write an address and a prefix length, such as `10.1.0.0/16`";
        findings.report_with(Code::BadValue, node.span, format!("`{written}` is no network"), help);
        return None;
    };
    if net.trunc() != net {
        let message = format!("bits behind the prefix of `{written}` are set and do not count");
        findings.report_with(Code::Suspicious, node.span, message, format!("write `{}`", net.trunc()));
    }
    Some(unmapped(net.trunc()))
}

fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    mapped.and_then(|v4| IpNet::new(v4.into(), v6.prefix_len() - 96).ok()).unwrap_or(net)
}
