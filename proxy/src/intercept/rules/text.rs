//! Writing the text.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::unproxied::{Admission, Opening};
use super::{
    Bypass, COUNTERS, Counts, Exclusion, Family, MARK_LISTENER, MARK_RETURN, MARK_UPSTREAM, PortRange, Ruleset, TABLE,
};

/// Conntrack mark of the proxy's connections to its own pod's application (node mode, over loopback).
const CT_TO_APPLICATION: u32 = 2;
/// Conntrack mark of the proxy's connections that leave the pod.
const CT_LEAVING: u32 = 3;
/// Conntrack mark of connections that are not redirected.
const CT_BYPASS: u32 = 4;
/// Conntrack zone of the node proxy's sockets, so that they may have the address *and port* of the client.
const ZONE: u32 = 2;

/// Errors and echo pass everywhere; IPv6 does not work without neighbour discovery.
const ICMP: &str = "destination-unreachable, time-exceeded, parameter-problem, echo-request, echo-reply";
const ICMPV6: &str = "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, \
     echo-reply, nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, \
     mld-listener-report, mld-listener-done, mld2-listener-report";

pub(super) fn write(rules: &Ruleset, counts: &Counts) -> String {
    let mut out = Writer { text: super::removal(), counts };
    out.pod_table(rules);
    if let Exclusion::Marked { addresses, devices } = &rules.exclusion {
        out.device_table(addresses, devices);
    }
    out.text
}

struct Writer<'a> {
    text: String,
    counts: &'a Counts,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn chain(&mut self, name: &str, hook: Option<&str>, rules: &[String]) {
        self.line(&format!("  chain {name} {{"));
        if let Some(hook) = hook {
            self.line(&format!("    type {hook}; policy accept;"));
        }
        rules.iter().filter(|rule| !rule.is_empty()).for_each(|rule| self.line(&format!("    {rule}")));
        self.line("  }");
    }

    fn counter(&mut self, name: &str) {
        let count = self.counts.get(name).copied().unwrap_or_default();
        self.line(&format!("  counter {name} {{ packets {} bytes {} }}", count.packets, count.bytes));
    }

    fn pod_table(&mut self, rules: &Ruleset) {
        self.line(&format!("table inet {TABLE} {{"));
        COUNTERS.iter().for_each(|name| self.counter(name));
        for (side, admission) in [("in", &rules.unproxied.inbound), ("out", &rules.unproxied.outbound)] {
            if let Admission::Closed(openings) = admission {
                self.set(side, "v4", openings.iter().filter(|o| o.peers.0.is_ipv4()));
                self.set(side, "v6", openings.iter().filter(|o| o.peers.0.is_ipv6()));
            }
        }
        if rules.needs_return_route() {
            let zone = format!("meta mark {MARK_UPSTREAM} meta l4proto tcp ct original zone set {ZONE}");
            self.chain("zone", Some("filter hook output priority raw"), &[zone]);
        }
        self.chain("arrive", Some("filter hook prerouting priority mangle"), &arrive(rules));
        self.chain("redirect_in", Some("nat hook prerouting priority dstnat"), &redirect_in(rules));
        self.chain("leave", Some("route hook output priority mangle"), &leave(rules));
        self.chain("redirect_out", Some("nat hook output priority -100"), &redirect_out(rules));
        self.chain("gate_in_tcp", None, &gate_in_tcp(rules));
        self.chain("unproxied_in", None, &unproxied(rules, "in"));
        self.chain("gate_in", Some("filter hook input priority filter"), &gate_in(rules));
        self.chain("gate_out_tcp", None, &gate_out_tcp(rules));
        self.chain("unproxied_out", None, &unproxied(rules, "out"));
        self.chain("gate_out", Some("filter hook output priority filter"), &gate_out());
        self.line("}");
    }

    fn set<'o>(&mut self, side: &str, family: &str, openings: impl Iterator<Item = &'o Opening>) {
        let kind = if family == "v4" { "ipv4_addr" } else { "ipv6_addr" };
        self.line(&format!("  set allowed_{side}_{family} {{"));
        self.line(&format!("    type {kind} . inet_proto . inet_service; flags interval;"));
        let elements: Vec<String> = openings.map(element).collect();
        if !elements.is_empty() {
            self.line(&format!("    elements = {{ {} }}", elements.join(", ")));
        }
        self.line("  }");
    }

    /// What a raw socket sends does not pass the output hook, but it passes the device.
    fn device_table(&mut self, addresses: &[IpAddr], devices: &[String]) {
        self.line(&format!("table netdev {TABLE} {{"));
        self.counter("spoofed_at_device");
        let (v4, v6) = by_family(addresses);
        for (index, device) in devices.iter().enumerate() {
            let rules = [
                format!("ip saddr != {} counter name spoofed_at_device drop", list(&v4, "0.0.0.0")),
                format!("ip6 saddr != {} counter name spoofed_at_device drop", list(&v6, "::, fe80::/10")),
                format!("arp saddr ip != {} counter name spoofed_at_device drop", list(&v4, "0.0.0.0")),
            ];
            let hook = format!("filter hook egress device \"{device}\" priority filter");
            self.chain(&format!("device_{index}"), Some(&hook), &rules);
        }
        self.line("}");
    }
}

fn arrive(rules: &Ruleset) -> Vec<String> {
    let ports = listeners(rules);
    let mut lines = vec![
        "iifname \"lo\" accept".to_owned(),
        "meta l4proto != tcp accept".to_owned(),
        "ip daddr 127.0.0.0/8 counter name spoofed drop".to_owned(),
        "ip6 daddr ::1 counter name spoofed drop".to_owned(),
        "fib saddr type local counter name spoofed drop".to_owned(),
        format!("tcp dport {ports} counter name direct_hit reject with tcp reset"),
    ];
    let Bypass { inbound_ports, inbound_networks, .. } = &rules.bypass;
    lines.extend(bypass("dport", inbound_ports, "saddr", inbound_networks));
    lines
}

fn redirect_in(rules: &Ruleset) -> Vec<String> {
    vec![
        "iifname \"lo\" accept".to_owned(),
        format!("ct mark {CT_BYPASS} accept"),
        format!("{}meta l4proto tcp fib daddr type local redirect to :{}", family(rules.family), rules.ports.inbound),
    ]
}

fn leave(rules: &Ruleset) -> Vec<String> {
    let uid = rules.uid;
    let mut lines = vec!["meta l4proto != tcp accept".to_owned()];
    match &rules.exclusion {
        Exclusion::Uid => {
            lines.push("oifname \"lo\" accept".to_owned());
            lines.push(format!("ct state new meta skuid {uid} ct mark set {CT_LEAVING} accept"));
        }
        Exclusion::Marked { addresses, .. } => {
            let (v4, v6) = by_family(addresses);
            let own = format!("ct state new meta mark {MARK_UPSTREAM} meta skuid {uid}");
            lines.extend([
                format!("oifname \"lo\" {own} ct mark set {CT_TO_APPLICATION}"),
                "oifname \"lo\" accept".to_owned(),
                format!("ct mark {CT_TO_APPLICATION} ct direction reply meta mark set {MARK_RETURN} accept"),
                format!("ct direction original ip saddr != {} counter name spoofed drop", list(&v4, "0.0.0.0")),
                format!("ct direction original ip6 saddr != {} counter name spoofed drop", list(&v6, "fe80::/10")),
                format!("{own} ct mark set {CT_LEAVING} accept"),
            ]);
        }
    }
    let Bypass { outbound_ports, outbound_networks, .. } = &rules.bypass;
    lines.extend(bypass("dport", outbound_ports, "daddr", outbound_networks));
    lines
}

fn redirect_out(rules: &Ruleset) -> Vec<String> {
    vec![
        "oifname \"lo\" accept".to_owned(),
        format!("ct mark {{ {CT_LEAVING}, {CT_BYPASS} }} accept"),
        format!("{}meta l4proto tcp redirect to :{}", family(rules.family), rules.ports.outbound),
    ]
}

fn gate_in(rules: &Ruleset) -> Vec<String> {
    let ports = listeners(rules);
    vec![
        theft(rules, rules.ports.inbound),
        theft(rules, rules.ports.outbound),
        format!("iifname \"lo\" tcp dport {} ct status dnat accept", rules.ports.outbound),
        format!("iifname \"lo\" tcp dport {ports} counter name direct_hit reject with tcp reset"),
        "iifname \"lo\" accept".to_owned(),
        "meta l4proto tcp goto gate_in_tcp".to_owned(),
        "goto unproxied_in".to_owned(),
    ]
}

fn gate_in_tcp(rules: &Ruleset) -> Vec<String> {
    let mut lines = vec![
        format!("tcp dport {} ct status dnat accept", rules.ports.inbound),
        format!("ct mark {CT_LEAVING} ct direction reply accept"),
        format!("ct mark {CT_BYPASS} counter name bypass_in accept"),
    ];
    lines.extend(other_family(rules, &rules.unproxied.inbound, "unproxied_in_passed"));
    lines.push("counter name refused_in reject with tcp reset".to_owned());
    lines
}

fn gate_out() -> Vec<String> {
    vec![
        "oifname \"lo\" accept".to_owned(),
        "meta l4proto tcp goto gate_out_tcp".to_owned(),
        "goto unproxied_out".to_owned(),
    ]
}

fn gate_out_tcp(rules: &Ruleset) -> Vec<String> {
    let mut lines = vec![
        format!("tcp sport {} ct status dnat ct direction reply accept", rules.ports.inbound),
        format!("tcp dport {} ct status dnat ct direction original accept", rules.ports.outbound),
        format!("ct mark {CT_LEAVING} accept"),
    ];
    if rules.needs_return_route() {
        lines.push(format!("ct mark {CT_TO_APPLICATION} ct direction reply meta mark {MARK_RETURN} accept"));
    }
    lines.extend([
        format!("ct mark {CT_BYPASS} counter name bypass_out accept"),
        // The kernel's own refusals; they carry nothing and must get out, or a refused peer waits.
        "tcp flags & (fin | syn | rst) == rst accept".to_owned(),
    ]);
    lines.extend(other_family(rules, &rules.unproxied.outbound, "unproxied_out_passed"));
    lines.push("counter name refused_out reject with tcp reset".to_owned());
    lines
}

fn unproxied(rules: &Ruleset, side: &str) -> Vec<String> {
    let (admission, peer) = match side {
        "in" => (&rules.unproxied.inbound, "saddr"),
        _ => (&rules.unproxied.outbound, "daddr"),
    };
    let mark = rules.unproxied.mark();
    let passed = format!("counter name unproxied_{side}_passed");
    let mut lines = Vec::new();
    if let (Exclusion::Marked { addresses, .. }, "out") = (&rules.exclusion, side) {
        let (v4, v6) = by_family(addresses);
        lines.push(format!("ip saddr != {} counter name spoofed drop", list(&v4, "0.0.0.0")));
        lines.push(format!("ip6 saddr != {} counter name spoofed drop", list(&v6, "::, fe80::/10")));
    }
    lines.push(format!("icmp type {{ {ICMP} }} accept"));
    lines.push(format!("icmpv6 type {{ {ICMPV6} }} accept"));
    lines.push(format!("ct direction reply ct mark {mark} {passed} accept"));
    match admission {
        Admission::Open => lines.push(format!("ct mark set {mark} {passed} accept")),
        Admission::Closed(_) => {
            for (family, ip) in [("v4", "ip"), ("v6", "ip6")] {
                let key = format!("{ip} {peer} . meta l4proto . th dport @allowed_{side}_{family}");
                lines.push(format!(
                    "ct direction original meta l4proto {{ udp, sctp }} {key} ct mark set {mark} {passed} accept"
                ));
            }
            lines.push(format!("counter name unproxied_{side}_dropped drop"));
        }
    }
    lines
}

/// TCP of the IP version that is not redirected: only where no policy closes the direction, and answers to that.
fn other_family(rules: &Ruleset, admission: &Admission, counter: &str) -> [String; 2] {
    let other = match rules.family {
        Family::Both => return [String::new(), String::new()],
        Family::Ipv4 => "ipv6",
        Family::Ipv6 => "ipv4",
    };
    let mark = rules.unproxied.mark();
    let answer = format!("meta nfproto {other} ct direction reply ct mark {mark} counter name {counter} accept");
    match admission {
        Admission::Open => [
            answer,
            format!("meta nfproto {other} ct direction original ct mark set {mark} counter name {counter} accept"),
        ],
        Admission::Closed(_) => [answer, String::new()],
    }
}

/// In node mode the listeners are marked, as no unprivileged process of the pod can mark its own: whoever takes the
/// port of a dead proxy gets nothing. A half-open or closing socket has no mark to compare, and passes to the next rule.
fn theft(rules: &Ruleset, port: u16) -> String {
    match rules.exclusion {
        Exclusion::Uid => String::new(),
        Exclusion::Marked { .. } => format!(
            "tcp dport {port} ct status dnat socket mark != {MARK_LISTENER} counter name direct_hit reject with tcp reset"
        ),
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Both => "",
        Family::Ipv4 => "meta nfproto ipv4 ",
        Family::Ipv6 => "meta nfproto ipv6 ",
    }
}

fn bypass(port: &str, ports: &[PortRange], peer: &str, networks: &[ipnet::IpNet]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |condition: String| lines.push(format!("ct state new {condition} ct mark set {CT_BYPASS}"));
    if !ports.is_empty() {
        line(format!("tcp {port} {{ {} }}", join(ports)));
    }
    for (ip, four) in [("ip", true), ("ip6", false)] {
        let nets: Vec<_> =
            networks.iter().filter(|net| net.addr().is_ipv4() == four).map(ipnet::IpNet::trunc).collect();
        if !nets.is_empty() {
            line(format!("{ip} {peer} {{ {} }}", join(&ipnet::IpNet::aggregate(&nets))));
        }
    }
    lines
}

fn element(opening: &Opening) -> String {
    let (low, high) = opening.peers;
    let peers = if low == high { low.to_string() } else { format!("{low}-{high}") };
    format!("{peers} . {} . {}", opening.transport.name(), opening.ports)
}

fn listeners(rules: &Ruleset) -> String {
    format!("{{ {}, {} }}", rules.ports.outbound, rules.ports.inbound)
}

fn by_family(addresses: &[IpAddr]) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let mut own: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
    own.sort_unstable();
    own.dedup();
    own.into_iter().partition(IpAddr::is_ipv4)
}

fn list(addresses: &[IpAddr], besides: &str) -> String {
    let mut all = join(addresses);
    if !all.is_empty() && !besides.is_empty() {
        all.push_str(", ");
    }
    format!("{{ {all}{besides} }}")
}

fn join<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
