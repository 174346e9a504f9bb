//! The name servers of a pod, as the file says that its resolver reads.

use std::net::IpAddr;

use super::rules::PortRange;
use super::rules::unproxied::{Datagram, Opening};

/// Ways to the servers that a `resolv.conf` names, over UDP. Those on loopback need none.
pub(crate) fn openings(text: &str) -> Vec<Opening> {
    let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    // An address of IPv6 may name its device.
    let written = servers.filter_map(|rest| rest.split_whitespace().next()?.split('%').next());
    let mut openings: Vec<Opening> = written
        .filter_map(|written| written.parse::<IpAddr>().ok())
        .map(|server| server.to_canonical())
        .filter(|server| !server.is_loopback() && !server.is_unspecified())
        .map(|server| Opening { peers: (server, server), transport: Datagram::Udp, ports: PortRange(DNS, DNS) })
        .collect();
    openings.sort_unstable();
    openings.dedup();
    openings
}

const DNS: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_file() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("search shop.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n", &["10.96.0.10"]),
            ("nameserver\t169.254.20.10\n nameserver fd00::a # the second\n", &["169.254.20.10", "fd00::a"]),
            ("nameserver fe80::1%eth0\nnameserver ::ffff:10.0.0.1\nnameserver 10.0.0.1\n", &["10.0.0.1", "fe80::1"]),
            ("nameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0\n", &[]),
            ("# nameserver 10.0.0.1\nnameserver\nnameserver 10.0.0.0/8\nnameservers 10.0.0.1\n", &[]),
        ];
        for (text, expected) in cases {
            let servers: Vec<String> = openings(text).iter().map(|opening| opening.peers.0.to_string()).collect();
            assert_eq!(servers, *expected, "{text:?}");
        }
    }
}
