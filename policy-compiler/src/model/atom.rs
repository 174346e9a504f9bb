//! The facts that a rule can ask about, each with its exact Kleene meaning.

use std::sync::Arc;

use ipnet::IpNet;

use super::Pattern;
use crate::facts::{Protocol, Transport};
use crate::registry::Labels;

/// One question about a flow.
#[derive(Clone, Debug, PartialEq)]
pub enum Atom {
    /// About the workload that the policy protects (`notFrom` of an egress rule).
    Subject(PeerAtom),
    /// About the other end: the source of an inbound flow, the destination of an outbound one.
    Peer(PeerAtom),
    /// About the other end as its address alone tells, whatever it proves: what a network plugin knows.
    Located(PeerAtom),
    /// About the port of the destination pod, after Service translation.
    Port(PortAtom),
    /// The flow's protocol is one of these. Unknown protocol: unknown.
    Protocol(Vec<Protocol>),
    /// The flow's transport. Always known.
    Transport(Transport),
    /// TLS is on the wire or was terminated here. (A `tls` match of the native dialect uses `Protocol`.)
    Text {
        /// Which value or values of the request.
        of: Text,
        /// How several values combine.
        each: Each,
        /// A value matches when any of these does.
        is: Vec<Pattern>,
    },
    /// The value is there at all, empty or not. Unknown stays unknown.
    Present(Text),
    /// Client address as the trusted proxies tell it ([`crate::facts::Request::client`]), else the peer's; no address:
    /// unknown.
    RemoteIp(IpNet),
    /// The request is exactly an HTTP probe that the destination workload declares: its port, method and path. Who
    /// sends it is another question.
    DeclaredProbe,
}

impl Atom {
    /// What it asks about the other end.
    #[must_use]
    pub fn of_other_end(&self) -> Option<&PeerAtom> {
        match self {
            Self::Peer(peer) | Self::Located(peer) => Some(peer),
            _ => None,
        }
    }

    /// Whether it asks what a token claims that whoever operates the cluster accepts ([`crate::facts::Request::jwt`]).
    #[must_use]
    pub fn asks_claims(&self) -> bool {
        matches!(self, Self::Text { of: Text::Claim(_), .. } | Self::Present(Text::Claim(_)))
    }

    /// The header that it looks at, lower case.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Text { of: Text::Header(name), .. } | Self::Present(Text::Header(name)) => Some(name),
            Self::RemoteIp(_) => Some("x-forwarded-for"),
            _ => None,
        }
    }
}

/// Values of a request that patterns are matched against. Absent: a pattern is false. Unknown: unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Text {
    /// Method, case-sensitive.
    Method,
    /// Canonical path.
    Path,
    /// The canonical path with and without one trailing slash, as two values. `/` is one value.
    PathEitherSlash,
    /// Path, and `?query` where there is one, as one value.
    PathAndQuery,
    /// Host without port.
    Host,
    /// Host with `:port` where the request has one.
    Authority,
    /// Values of a header line, by lower-case name. `Each` says how they are cut.
    Header(Arc<str>),
    /// Percent-decoded values of a query parameter; `a` alone is an empty value.
    Query(Arc<str>),
    /// Requested upgrade, lower case; `connect` for CONNECT.
    Upgrade,
    /// Server name of the ClientHello.
    Sni,
    /// First ALPN protocol offered.
    Alpn,
    /// A claim by its path. Strings as they are, numbers and booleans as JSON text, an array as its elements.
    Claim(Vec<Arc<str>>),
    /// A claim, its strings alone: a number or boolean is no value (Envoy).
    StringClaim(Vec<Arc<str>>),
    /// The same, but where it is one string its words: what stands between spaces. Elements of an array stay whole, as
    /// does a string without a word.
    SpacedClaim(Vec<Arc<str>>),
    /// `iss + "/" + sub` of the accepted token.
    RequestPrincipal,
    /// The proven identity of the peer, as given; absent on plaintext.
    PeerPrincipal,
    /// Name asked for in DNS.
    Qname,
}

/// How several values of one name combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Each {
    /// Native allow: at least one value, and every one matches. Header values are trimmed comma parts.
    Every,
    /// Native deny: any value matches. Header values are whole lines and trimmed comma parts.
    Some,
    /// Envoy: header lines joined with `,` are one value.
    Joined,
    /// Linkerd: any whole line matches.
    Line,
}

/// A question about one end of the flow.
///
/// Who the end *is* comes from the proven principal where there is one (and it must be of the cluster's trust
/// domain to be a workload's), else from the registered workload. `Place::Unknown` without a principal: unknown.
/// `Place::External` and nodes: in no namespace, so false.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerAtom {
    /// Runs in the namespace of this name.
    Namespace(Arc<str>),
    /// Runs under the service account of this name (in whatever namespace; conjoin `Namespace`).
    ServiceAccount(Arc<str>),
    /// Its namespace's labels match.
    NamespaceLabels(Selector),
    /// Its own labels match. With a proven principal, labels count only if the workload at the address has the same
    /// namespace and account, else unknown.
    Labels(Selector),
    /// The proven identity matches. `plaintext` says what a peer without proof is.
    Principal {
        /// Any of these; matched against the identity as given (`spiffe://td/ns/x/sa/y`).
        is: Vec<Pattern>,
        /// What a peer without proof is.
        plaintext: PlaintextPrincipal,
    },
    /// The peer is proven by mTLS at all. Always known.
    Proven,
    /// The address lies in this network. No address: unknown.
    Cidr {
        /// The network.
        net: IpNet,
        /// Which addresses can match at all.
        scope: CidrScope,
    },
    /// An endpoint of this Service, or (as a destination) its address.
    Service {
        /// Namespace.
        namespace: Arc<str>,
        /// Name.
        name: Arc<str>,
    },
    /// An endpoint (or, as a destination, the address) of any Service of this name in a namespace whose labels match:
    /// the disjunction, over the registered Services of this name, of `Service` and the labels of its namespace.
    /// Labels of a namespace of which nobody is registered: unknown. No such Service: false.
    ServiceNamed {
        /// Name.
        name: Arc<str>,
        /// Of the Service's namespace.
        namespaces: Selector,
    },
    /// A node: any, or the subject's own (unknown where the address is a node's but no registered one's).
    Node(NodeScope),
    /// Is a registered workload (any).
    Workload,
    /// Lies outside the cluster. Nobody registered, but inside `cluster.networks`: unknown.
    External,
    /// The name that the proxy itself resolved to the destination address matches. No such name: false.
    Fqdn(Vec<Pattern>),
    /// Its annotations, laid over those of its namespace, match. Known like [`PeerAtom::Labels`].
    Annotations(Selector),
}

/// See [`PeerAtom::Principal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaintextPrincipal {
    /// Known to have none: false (Istio, Linkerd).
    Absent,
    /// Unknown if a matching identity is registered at the address, or nobody knows who is there; else false (native).
    Registered,
}

/// Which addresses a CIDR can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CidrScope {
    /// Every address, of Services and each endpoint too (native deny, Istio).
    Every,
    /// The address that is reached, a workload's or a node's too, never that of the Service in front of it. Nobody
    /// reached, or at one of several addresses that differ: unknown (`networks` of the cluster-wide policies).
    Reached,
    /// Never a registered workload (an address with two owners counts as one), a node or a Service address.
    Outside,
    /// Never a registered workload; nodes and Services do match (`not*` of a native deny).
    NotWorkload,
}

/// See [`PeerAtom::Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeScope {
    /// The node that the subject runs on.
    Own,
    /// Any node.
    Any,
}

/// About the destination port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortAtom {
    /// Both ends included.
    Range(u16, u16),
    /// The destination workload declares a port of this name, number and transport. Destination unknown: unknown.
    Named(Arc<str>),
    /// The destination workload declares this port for this transport. Destination unknown: unknown.
    Declared,
    /// The destination workload's annotation of this key, or else its namespace's, lists the port, as Linkerd writes
    /// lists: `8080,9000-9010`. Destination unknown: unknown.
    Annotated(Arc<str>),
}

/// A Kubernetes label selector. No requirement: everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Selector {
    /// All must hold.
    pub requirements: Vec<SelectorRequirement>,
}

impl Selector {
    /// Whether labels satisfy it.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_by(|key| labels.get(key).map(|value| &**value))
    }

    /// Whether the values that `value` has for its keys satisfy it.
    pub fn matches_by<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements.iter().all(|SelectorRequirement { key, operator, values }| {
            let value = value(key);
            let listed = |value: &str| values.iter().any(|listed| **listed == *value);
            match operator {
                SelectorOperator::In => value.is_some_and(listed),
                SelectorOperator::NotIn => !value.is_some_and(listed),
                SelectorOperator::Exists => value.is_some(),
                SelectorOperator::DoesNotExist => value.is_none(),
            }
        })
    }
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SelectorRequirement {
    /// Label key.
    pub key: Arc<str>,
    /// Operator.
    pub operator: SelectorOperator,
    /// Values for `In` and `NotIn`.
    pub values: Vec<Arc<str>>,
}

/// Kubernetes' operators; `NotIn` is true for a missing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectorOperator {
    /// The label is there with one of the values.
    In,
    /// It is not there, or with another value.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}
