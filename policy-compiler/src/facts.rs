//! What is known of a flow when a verdict is asked for.
//!
//! Kleene logic rests on one distinction: *absent* is known, *unknown* is not.

use std::net::IpAddr;

use crate::registry::{NodeId, WorkloadId};

/// A value that may not be there, or may not be visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fact<T> {
    /// It is there, and this is it.
    Known(T),
    /// It is known not to be there: a positive match is false.
    #[default]
    Absent,
    /// It cannot be seen: never enough for an allow, always enough for a deny.
    Unknown,
}

/// Kleene truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// Surely not.
    False,
    /// Cannot be said.
    Unknown,
    /// Surely.
    True,
}

impl Truth {
    /// Kleene conjunction.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Kleene disjunction.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// Every condition true: what an allow needs.
    #[must_use]
    pub fn surely(self) -> bool {
        self == Self::True
    }

    /// No condition false: enough for a deny.
    #[must_use]
    pub fn possibly(self) -> bool {
        self != Self::False
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Which way a flow is judged: at the source (outbound, egress) or at the destination (inbound, ingress).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// At the destination: ingress rules.
    Inbound,
    /// At the source: egress rules.
    Outbound,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP, the default wherever a transport is left out.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What the registry says about who is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Exactly one registered workload owns the address.
    Workload(WorkloadId),
    /// A node: registered (`Some`), or an address inside `cluster.nodeNetworks` that no registered node has (`None`).
    Node(Option<NodeId>),
    /// Inside `cluster.networks` and not registered, claimed by two owners, or no address at all.
    Unknown,
    /// Outside the cluster's networks: known to be no workload and in no namespace.
    External,
}

/// One end of a flow.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The address, where there is one. IPv4-mapped IPv6 addresses are IPv4.
    pub address: Option<IpAddr>,
    /// Who the registry says is there.
    pub place: Place,
    /// The identity proven by mTLS: a SPIFFE id or a DNS name. `None`: plaintext.
    pub principal: Option<&'a str>,
}

/// The protocol of a flow, as declared, detected or stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.x.
    Http,
    /// HTTP/2 (not known to be gRPC).
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// TLS that is passed through.
    Tls,
    /// TCP whose bytes are none of the above.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// DNS over UDP or TCP.
    Dns,
}

impl Protocol {
    /// HTTP/1, HTTP/2 or gRPC: has requests.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    /// The transport that carries it (DNS here means over UDP).
    #[must_use]
    pub fn transport(self) -> Transport {
        match self {
            Self::Udp | Self::Dns => Transport::Udp,
            Self::Sctp => Transport::Sctp,
            _ => Transport::Tcp,
        }
    }
}

/// A connection, before any request on it: what is fixed for its whole life.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Where it comes from.
    pub source: End<'a>,
    /// Where it goes: the original destination. `place` is unused when the address is a Service's.
    pub destination: End<'a>,
    /// Destination port as dialled (a Service port when the address is a Service's).
    pub port: u16,
    /// Transport.
    pub transport: Transport,
    /// The Service that was dialled, when the address belongs to one (index into the registry).
    pub service: Option<crate::registry::ServiceId>,
    /// The name that the proxy itself resolved to the destination address.
    pub fqdn: Option<&'a str>,
    /// The direction to judge; `None` judges the whole way.
    pub direction: Option<Direction>,
}

/// One header line: ranges into [`Headers::bytes`]. Names are lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Start and end of the lower-case name.
    pub name: (u32, u32),
    /// Start and end of the value, without surrounding whitespace.
    pub value: (u32, u32),
}

/// Header lines in order of arrival, without allocation: ranges into one buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// The buffer that the fields point into.
    pub bytes: &'a [u8],
    /// The lines.
    pub fields: &'a [Field],
}

impl<'a> Headers<'a> {
    /// Name and value of each line.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        let part = move |(from, to): (u32, u32)| bytes.get(from as usize..to as usize).unwrap_or_default();
        self.fields.iter().map(move |field| (part(field.name), part(field.value)))
    }

    /// The values of every line with this lower-case name.
    pub fn values<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.iter().filter(move |(candidate, _)| *candidate == name).map(|(_, value)| value)
    }
}

/// The canonical request, or as much of it as can be seen: of opaque TCP the protocol alone ([`Request::opaque`]).
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Protocol; unknown while bytes have not been seen.
    pub protocol: Fact<Protocol>,
    /// Method, case kept.
    pub method: Fact<&'a [u8]>,
    /// Canonical path, without query.
    pub path: Fact<&'a [u8]>,
    /// Raw query without `?`, validated.
    pub query: Fact<&'a [u8]>,
    /// Canonical host: lower case, no trailing dot, no port.
    pub host: Fact<&'a [u8]>,
    /// Port of the authority, where it has one.
    pub host_port: Option<u16>,
    /// Header lines.
    pub headers: Fact<Headers<'a>>,
    /// `Upgrade` token, lower case; `connect` for CONNECT.
    pub upgrade: Fact<&'a [u8]>,
    /// Server name of the TLS ClientHello, normalised like a host.
    pub sni: Fact<&'a [u8]>,
    /// First application protocol that the client offers.
    pub alpn: Fact<&'a [u8]>,
    /// Claims of a token that whoever operates the cluster accepts: what native rules see.
    pub jwt: Fact<&'a serde_json::Value>,
    /// Claims of a token that a `RequestAuthentication` of the destination accepts: what rules of the mesh see.
    pub mesh_jwt: Fact<&'a serde_json::Value>,
    /// Address of the original client, as the trusted proxies tell it; absent: the peer's own address counts.
    pub remote_ip: Option<IpAddr>,
    /// Name asked for in a DNS query.
    pub qname: Fact<&'a [u8]>,
    /// Seconds since the Unix epoch at which the request is judged.
    pub now: i64,
}

impl<'a> Request<'a> {
    /// The address of the client: as given, else as the trusted proxies tell it in `X-Forwarded-For`, else the peer's.
    ///
    /// SPEC: Envoy, `xff_num_trusted_hops`: of the addresses in the header, joined over its lines, the one that the
    /// outermost trusted proxy added, so the n-th from the right. Where that is missing or no address the peer's counts.
    #[must_use]
    pub fn client(&self, peer: Option<IpAddr>, trusted_proxies: u32) -> Fact<IpAddr> {
        let known = |address: Option<IpAddr>| address.map_or(Fact::Unknown, |ip| Fact::Known(ip.to_canonical()));
        if self.remote_ip.is_some() || trusted_proxies == 0 {
            return known(self.remote_ip.or(peer));
        }
        match (self.protocol, self.headers) {
            // What is not HTTP has no header.
            (Fact::Known(protocol), _) if !protocol.is_http() => known(peer),
            (_, Fact::Known(headers)) => known(forwarded_for(&headers, trusted_proxies).or(peer)),
            (_, Fact::Absent) => known(peer),
            (_, Fact::Unknown) => Fact::Unknown,
        }
    }

    /// A request of which nothing has been seen.
    #[must_use]
    pub fn unseen(now: i64) -> Self {
        Self {
            protocol: Fact::Unknown,
            method: Fact::Unknown,
            path: Fact::Unknown,
            query: Fact::Unknown,
            host: Fact::Unknown,
            host_port: None,
            headers: Fact::Unknown,
            upgrade: Fact::Unknown,
            sni: Fact::Unknown,
            alpn: Fact::Unknown,
            jwt: Fact::Unknown,
            mesh_jwt: Fact::Unknown,
            remote_ip: None,
            qname: Fact::Unknown,
            now,
        }
    }

    /// A flow of which nothing is known but the protocol. What is not HTTP cannot be seen, so it is unknown; a ClientHello
    /// or a DNS name is known not to be there once the protocol is known to have none.
    #[must_use]
    pub fn opaque(protocol: Fact<Protocol>, now: i64) -> Self {
        let other = if protocol == Fact::Unknown { Fact::Unknown } else { Fact::Absent };
        Self { protocol, sni: other, alpn: other, qname: other, ..Self::unseen(now) }
    }

    /// A request with a method and a path, and nothing else: no query, host, header or token.
    #[must_use]
    pub fn bare(protocol: Protocol, method: &'a [u8], path: &'a [u8], now: i64) -> Self {
        Self {
            method: Fact::Known(method),
            path: Fact::Known(path),
            query: Fact::Absent,
            host: Fact::Absent,
            headers: Fact::Known(Headers::default()),
            upgrade: Fact::Absent,
            jwt: Fact::Absent,
            mesh_jwt: Fact::Absent,
            ..Self::opaque(Fact::Known(protocol), now)
        }
    }
}

/// The n-th address from the right of all `X-Forwarded-For` lines together.
fn forwarded_for(headers: &Headers<'_>, position: u32) -> Option<IpAddr> {
    let count = || headers.values(b"x-forwarded-for").flat_map(|line| line.split(|byte| *byte == b','));
    let from_left = count().count().checked_sub(usize::try_from(position).ok()?)?;
    std::str::from_utf8(count().nth(from_left)?).ok()?.trim_matches([' ', '\t']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_whom_the_trusted_proxies_name() {
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        for (trusted, lines, expected) in [
            (0, &["1.1.1.1"][..], "10.0.0.9"),
            (1, &["1.1.1.1"], "1.1.1.1"),
            (1, &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            (2, &["6.6.6.6, 1.1.1.1"], "6.6.6.6"),
            (2, &["6.6.6.6", "1.1.1.1"], "6.6.6.6"),
            (3, &["6.6.6.6, 1.1.1.1"], "10.0.0.9"),
            (1, &["6.6.6.6, nobody"], "10.0.0.9"),
            (1, &["6.6.6.6,"], "10.0.0.9"),
            (1, &[], "10.0.0.9"),
            (1, &["::ffff:1.1.1.1"], "1.1.1.1"),
        ] {
            let (mut bytes, mut fields) = (b"x-forwarded-for".to_vec(), Vec::new());
            for line in lines {
                let start = u32::try_from(bytes.len()).unwrap();
                bytes.extend_from_slice(line.as_bytes());
                fields.push(Field { name: (0, 15), value: (start, u32::try_from(bytes.len()).unwrap()) });
            }
            let headers = Fact::Known(Headers { bytes: &bytes, fields: &fields });
            let request = Request { protocol: Fact::Known(Protocol::Http), headers, ..Request::unseen(0) };
            let expected = Fact::Known(expected.parse().unwrap());
            assert_eq!(request.client(Some(peer), trusted), expected, "{trusted} {lines:?}");
        }
        let unseen = Request::unseen(0);
        assert_eq!(unseen.client(Some(peer), 1), Fact::Unknown, "the header may still come");
        let opaque = Request::opaque(Fact::Known(Protocol::Tcp), 0);
        assert_eq!(opaque.client(Some(peer), 1), Fact::Known(peer));
        assert_eq!(opaque.client(None, 1), Fact::Unknown);
    }
}
