//! What the data path tells: one event a verdict, one at the end of a connection. Borrowed, so that telling costs no
//! allocation where nothing is logged.

use std::net::SocketAddr;
use std::time::Duration;

use eastwall_policy::canonical::Refusal;
use eastwall_policy::facts::{Direction, Protocol};
use eastwall_policy::registry::WorkloadId;
use eastwall_policy::verdict::Verdict;
use eastwall_policy::world::World;

/// One verdict: of a request or stream, or (opaque and denied connections) of the connection itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestEvent<'a> {
    /// The world that judged.
    pub(crate) world: &'a World,
    /// What was said.
    pub(crate) verdict: &'a Verdict,
    /// Why it is no canonical request, where the verdict is a reject.
    pub(crate) refusal: Option<Refusal>,
    /// Direction.
    pub(crate) direction: Direction,
    /// As declared or detected.
    pub(crate) protocol: Protocol,
    /// Where it comes from.
    pub(crate) source: SocketAddr,
    /// The original destination.
    pub(crate) destination: SocketAddr,
    /// The workload at the source, where one is known.
    pub(crate) source_workload: Option<WorkloadId>,
    /// The workload at the destination, where one is known.
    pub(crate) destination_workload: Option<WorkloadId>,
    /// The proven identity of the peer.
    pub(crate) principal: Option<&'a str>,
    /// Method, where there is one.
    pub(crate) method: Option<&'a [u8]>,
    /// Canonical path.
    pub(crate) path: Option<&'a [u8]>,
    /// Canonical host.
    pub(crate) host: Option<&'a [u8]>,
    /// Port of the authority.
    pub(crate) host_port: Option<u16>,
    /// Server name of a ClientHello.
    pub(crate) sni: Option<&'a [u8]>,
    /// Status of the answer: the upstream's for what passed, ours for what did not; `None` where there is none.
    pub(crate) status: Option<u16>,
    /// Time the decision took.
    pub(crate) decision: Duration,
    /// Time from the first byte of the request to the end of its answer.
    pub(crate) duration: Duration,
    /// Whether the table was swapped under it and cut it.
    pub(crate) revoked: bool,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionEnd {
    /// Bytes from the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
}

/// What an analyst should see, beside the verdict that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AlertKind {
    /// A request that is no valid canonical request: somebody may be trying to be read in two ways.
    EvasionAttempt,
    /// Bytes that are not what the rule or the port says.
    ProtocolMismatch,
    /// A source address that its pod does not own.
    SpoofedSource,
    /// A certificate that names another identity than the workload at the peer's address.
    IdentityMismatch,
    /// Plaintext from a workload that has proven its identity before.
    Downgrade,
    /// An emergency opens what policies close.
    BreakGlass,
    /// A certificate that proves nothing.
    CertificateRefused,
    /// A tunnel to somewhere else than to whom it was opened.
    TunnelRelay,
}

impl AlertKind {
    /// As metrics and lines name it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::EvasionAttempt => "evasion-attempt",
            Self::ProtocolMismatch => "protocol-mismatch",
            Self::SpoofedSource => "spoofed-source",
            Self::IdentityMismatch => "identity-mismatch",
            Self::Downgrade => "downgrade",
            Self::BreakGlass => "break-glass",
            Self::CertificateRefused => "certificate-refused",
            Self::TunnelRelay => "tunnel-relay",
        }
    }

    /// How soon somebody should look: nobody spoofs an address by mistake; a wrong protocol is often a wrong port.
    pub(crate) const fn severity(self) -> &'static str {
        match self {
            Self::SpoofedSource | Self::IdentityMismatch | Self::BreakGlass => "critical",
            Self::EvasionAttempt | Self::Downgrade | Self::TunnelRelay => "high",
            Self::ProtocolMismatch | Self::CertificateRefused => "medium",
        }
    }
}

/// One alert and its evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alert<'a> {
    /// What happened.
    pub(crate) kind: AlertKind,
    /// The world that judged.
    pub(crate) world: &'a World,
    /// Direction.
    pub(crate) direction: Direction,
    /// Where it comes from.
    pub(crate) source: SocketAddr,
    /// The original destination.
    pub(crate) destination: SocketAddr,
    /// The workload at the source, where one is known.
    pub(crate) source_workload: Option<WorkloadId>,
    /// The workload at the destination, where one is known.
    pub(crate) destination_workload: Option<WorkloadId>,
    /// The refusal that goes with it, where there is one.
    pub(crate) decision_id: Option<super::DecisionId>,
    /// What was seen, in words of ours.
    pub(crate) detail: &'a str,
    /// The bytes that show it (a prefix is logged).
    pub(crate) evidence: &'a [u8],
}

/// Writes the enum and its labels from one list.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $label:literal;)+) => {
        /// The bound that a connection, or a stream of one, met.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Limit {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Limit {
            /// Every label.
            #[cfg(test)]
            pub(crate) const LABELS: &[&str] = &[$($label),+];

            /// As the metric names it.
            pub(crate) const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

limits! {
    /// Connections of the whole proxy.
    Connections: "connections";
    /// Connections of one source address.
    ConnectionsPerSource: "connections-per-source";
    /// The head, or any other frame that was begun, did not come in time.
    HeadTimeout: "head-timeout";
    /// A head in HTTP/2 grew beyond what is worth an answer.
    HeadBytes: "head-bytes";
    /// A ClientHello is longer than allowed.
    HelloBytes: "hello-bytes";
    /// Streams that were reset, or provoked to be.
    StreamResets: "stream-resets";
    /// A stream moved no byte for too long.
    StreamIdle: "stream-idle-timeout";
    /// The client did not say in time what it speaks, and nothing allows what is unknown.
    DetectTimeout: "detect-timeout";
    /// The upstream did not answer in time.
    ConnectTimeout: "connect-timeout";
    /// No byte for too long.
    IdleTimeout: "idle-timeout";
    /// The original destination is the listener itself.
    Loop: "loop";
    /// The original destination is loopback, or an address that is not the pod's.
    ForeignDestination: "foreign-destination";
    /// A source address that its pod does not own.
    SpoofedSource: "spoofed-source";
    /// A request of HBONE that is no CONNECT to an address.
    TunnelRequest: "tunnel-request";
    /// A CONNECT to another address than the one that was called.
    TunnelRelay: "tunnel-relay";
}
