//! What becomes of everything that the proxy does not see: UDP, SCTP, ICMP and the rest.

use std::net::IpAddr;

use super::PortRange;

/// Both directions of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Unproxied {
    /// What arrives.
    pub(crate) inbound: Admission,
    /// What leaves.
    pub(crate) outbound: Admission,
}

/// What may pass in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// No policy closes the direction.
    Open,
    /// Dropped and counted, but for these.
    Closed(Vec<Opening>),
}

impl Default for Admission {
    fn default() -> Self {
        Self::Closed(Vec::new())
    }
}

/// A transport that rules of layer 4 can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Datagram {
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Datagram {
    /// As nft names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One allowed rectangle: peers by ports. Both ends are included; both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opening {
    /// Lowest and highest peer address.
    pub(crate) peers: (IpAddr, IpAddr),
    /// Transport.
    pub(crate) transport: Datagram,
    /// Destination ports.
    pub(crate) ports: PortRange,
}

impl Unproxied {
    /// A conntrack mark that stands for exactly this content: answers pass only while what let the question through
    /// is still in force. Never 0, and never one of the small marks of proxied flows.
    pub(crate) fn mark(&self) -> u32 {
        // FNV-1a over the debug form: stable for one build, and a new build may cut answers once.
        let hash =
            format!("{self:?}").bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        hash | 0x8000_0000
    }
}
