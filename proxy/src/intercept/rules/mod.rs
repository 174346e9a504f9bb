//! The nftables text of one pod's network namespace. Pure: what is known goes in, text comes out; nothing is run here.
//!
//! TCP is redirected by NAT in the pod's own namespace, in both directions; behind the redirect stands a *gate* that
//! refuses every TCP packet that neither reached a listener of the proxy nor belongs to it. So a flow that was open
//! before the redirect, a packet that NAT did not see and a port without a listener all end in a reset.

#[cfg(test)]
mod tests;
mod text;
pub(crate) mod unproxied;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

pub(crate) use unproxied::{Admission, Unproxied};

/// Name of every table made here.
pub(crate) const TABLE: &str = "eastwall";
/// Packets that come back to the proxy's transparent sockets: `ip rule` sends them to the loopback device.
pub(crate) const MARK_RETURN: u32 = 1;
/// Upstream sockets of the node proxy.
pub(crate) const MARK_UPSTREAM: u32 = 2;
/// Listening sockets of the node proxy, and what they accept.
pub(crate) const MARK_LISTENER: u32 = 3;
/// Routing table of [`MARK_RETURN`], and priority of its rule (after `local`, before `main`).
pub(crate) const ROUTE_TABLE: u32 = 15106;
/// Priority of the `ip rule`.
pub(crate) const ROUTE_PRIORITY: u32 = 106;

/// The proxy's two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Gets what arrives at the pod.
    pub(crate) inbound: u16,
    /// Gets what the pod opens.
    pub(crate) outbound: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { inbound: 15106, outbound: 15101 }
    }
}

impl Ports {
    /// Whether a port is one of the listeners'.
    pub(crate) fn contains(self, port: u16) -> bool {
        port == self.inbound || port == self.outbound
    }
}

/// The IP versions that are redirected. TCP of the other one is refused where the workload is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// Both.
    #[default]
    Both,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

impl Family {
    /// Whether IPv4 is redirected.
    pub(crate) fn v4(self) -> bool {
        self != Self::Ipv6
    }

    /// Whether IPv6 is redirected.
    pub(crate) fn v6(self) -> bool {
        self != Self::Ipv4
    }
}

/// Ports, both ends included. `22` or `6000-6010`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PortRange(pub(crate) u16, pub(crate) u16);

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<u16>().map_err(|_| format!("`{part}` is not a port number"));
        let (low, high) = match text.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => (number(text)?, number(text)?),
        };
        if low == 0 || low > high { Err(format!("`{text}` is no range of ports")) } else { Ok(Self(low, high)) }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(low, high) = self;
        if low == high { write!(f, "{low}") } else { write!(f, "{low}-{high}") }
    }
}

/// TCP that is never redirected, by whoever runs the platform; counted as unevaluated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bypass {
    /// Destination ports of what arrives.
    pub(crate) inbound_ports: Vec<PortRange>,
    /// Source networks of what arrives.
    pub(crate) inbound_networks: Vec<IpNet>,
    /// Destination ports of what leaves.
    pub(crate) outbound_ports: Vec<PortRange>,
    /// Destination networks of what leaves.
    pub(crate) outbound_networks: Vec<IpNet>,
}

/// How the proxy's own traffic is told from the pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// Sidecar: by uid alone, since it has no capability to mark its sockets.
    Uid,
    /// Node: by uid *and* mark; a mark alone proves nothing. The pod's addresses are known, and nothing leaves under another.
    Marked {
        /// Addresses that the pod owns.
        addresses: Vec<IpAddr>,
        /// Its devices, loopback excepted.
        devices: Vec<String>,
    },
}

/// Everything that the text depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Uid that the proxy runs under; no other container of the pod may have it.
    pub(crate) uid: u32,
    /// The listeners.
    pub(crate) ports: Ports,
    /// What is redirected.
    pub(crate) family: Family,
    /// What is not.
    pub(crate) bypass: Bypass,
    /// The mode.
    pub(crate) exclusion: Exclusion,
    /// What becomes of everything but TCP.
    pub(crate) unproxied: Unproxied,
}

/// Packets and bytes of a named counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Packets.
    pub(crate) packets: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

/// Values of the named counters; a new table starts where the one before it stood.
pub(crate) type Counts = BTreeMap<String, Count>;

/// Named counters of the table, in the order of the text.
pub(crate) const COUNTERS: [&str; 10] = [
    "bypass_in",
    "bypass_out",
    "direct_hit",
    "refused_in",
    "refused_out",
    "spoofed",
    "unproxied_in_dropped",
    "unproxied_in_passed",
    "unproxied_out_dropped",
    "unproxied_out_passed",
];

impl Ruleset {
    /// One transaction that replaces whatever stood under [`TABLE`].
    pub(crate) fn text(&self, counts: &Counts) -> String {
        text::write(self, counts)
    }

    /// Whether answers to transparent sockets must be routed back.
    pub(crate) fn needs_return_route(&self) -> bool {
        matches!(self.exclusion, Exclusion::Marked { .. })
    }
}

/// One transaction that removes every table made here, present or not.
pub(crate) fn removal() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable netdev {TABLE}\ndelete table netdev {TABLE}\n")
}
