//! What is loaded, and how.

use crate::churn::Change;
use crate::floor::Floor;
use crate::load::{Load, Way};
use crate::peers::{EVERYBODY, Lines, Mode, Peer, Protocol};

/// One table of the report.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) load: Load,
    pub(crate) workers: usize,
    pub(crate) sizes: &'static [usize],
    pub(crate) peers: &'static [Peer],
}

impl Scenario {
    /// Who is measured with so many rules.
    pub(crate) fn peers(&self, rules: usize) -> impl Iterator<Item = Peer> {
        self.peers.iter().copied().filter(move |peer| *peer != Peer::Envoy || rules <= ENVOY_RULES)
    }

    /// How much longer its rounds are than those of others. A machine that stands still for 10 ms holds up 1 % of the requests
    /// of a second, which is all that the 99th percentile leaves out.
    pub(crate) fn stretch(&self) -> f64 {
        let changes = |peer: &Peer| matches!(peer, Peer::Changing(_));
        if self.peers.iter().any(changes) { LONGER } else { 1.0 }
    }

    /// Whether pods have to be made for it.
    pub(crate) fn needs_root(&self) -> bool {
        self.peers.iter().any(|peer| matches!(peer, Peer::Between(_)))
    }
}

/// Twice untouched: how far two of the same lie apart is what no ratio can be more exact than.
const CHANGING: &[Peer] = &[
    Peer::Eastwall,
    Peer::Changing(Change::Nothing),
    Peer::Changing(Change::Document),
    Peer::Changing(Change::Addresses),
];

/// How many times as long as others the rounds are in which something changes.
pub(crate) const LONGER: f64 = 5.0;

const MIB: u64 = 1_048_576;
/// Envoy asks every rule in turn: with more than these a request takes it so long that nothing is learnt.
const ENVOY_RULES: usize = 10_000;

/// Eastwall without an access log, with one of denials, with one of everything.
const LOGGING: &[Peer] = &[Peer::Eastwall, Peer::Logging(Lines::Denied), Peer::Logging(Lines::All)];

/// All of them, those first that tell the most.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "http1",
        about: "HTTP/1.1 on 64 connections that stay open",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: false },
        workers: 1,
        sizes: &[10, 1_000, 10_000, 100_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "growth",
        about: "HTTP/1.1 on 64 connections that stay open, with ever more rules in turns",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: false },
        workers: 1,
        sizes: &[10],
        peers: &[Peer::Holding(10), Peer::Holding(1_000), Peer::Holding(10_000), Peer::Holding(100_000)],
    },
    Scenario {
        name: "http2",
        about: "HTTP/2 with prior knowledge, 16 streams on each of 4 connections",
        protocol: Protocol::Http2,
        load: Load::Streams { connections: 4, streams: 16 },
        workers: 1,
        sizes: &[10, 1_000, 10_000],
        peers: &[
            Peer::Eastwall,
            Peer::Haproxy,
            Peer::Nginx,
            Peer::Envoy,
            Peer::Floor(Floor::H2),
            Peer::Floor(Floor::Hyper),
        ],
    },
    Scenario {
        name: "http1-new",
        about: "HTTP/1.1, a new connection for each request, 64 at a time",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: true, is_denied: false },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "http1-denied",
        about: "HTTP/1.1 on 64 connections, every request denied",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: true },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "http1-logged",
        about: "HTTP/1.1 on 64 connections that stay open, with an access log",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: false },
        workers: 1,
        sizes: &[1_000],
        peers: LOGGING,
    },
    Scenario {
        name: "http1-denied-logged",
        about: "HTTP/1.1, denied requests on 64 connections that stay open, with an access log",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: true },
        workers: 1,
        sizes: &[1_000],
        peers: LOGGING,
    },
    Scenario {
        name: "http1-paced",
        about: "HTTP/1.1, 5,000 requests a second on 64 connections, each timed from when it was due",
        protocol: Protocol::Http1,
        load: Load::Paced { connections: 64, rate: 5_000 },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "tcp-down",
        about: "opaque TCP, 100 MiB at a time towards each of 4 clients",
        protocol: Protocol::Tcp,
        load: Load::Bulk { connections: 4, way: Way::Down, bytes: 100 * MIB },
        workers: 1,
        sizes: &[1_000],
        peers: &[Peer::Eastwall, Peer::Haproxy, Peer::Envoy],
    },
    Scenario {
        name: "tcp-up",
        about: "opaque TCP, 100 MiB at a time from each of 4 clients",
        protocol: Protocol::Tcp,
        load: Load::Bulk { connections: 4, way: Way::Up, bytes: 100 * MIB },
        workers: 1,
        sizes: &[1_000],
        peers: &[Peer::Eastwall, Peer::Haproxy, Peer::Envoy],
    },
    Scenario {
        name: "http1-down-1m",
        about: "HTTP/1.1, answers of 1 MiB to 16 clients",
        protocol: Protocol::Http1,
        load: Load::Bulk { connections: 16, way: Way::Down, bytes: MIB },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "http1-down-100m",
        about: "HTTP/1.1, answers of 100 MiB to 4 clients",
        protocol: Protocol::Http1,
        load: Load::Bulk { connections: 4, way: Way::Down, bytes: 100 * MIB },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "http1-up-1m",
        about: "HTTP/1.1, bodies of 1 MiB from 16 clients",
        protocol: Protocol::Http1,
        load: Load::Bulk { connections: 16, way: Way::Up, bytes: MIB },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "http1-up-100m",
        about: "HTTP/1.1, bodies of 100 MiB from 4 clients",
        protocol: Protocol::Http1,
        load: Load::Bulk { connections: 4, way: Way::Up, bytes: 100 * MIB },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "grpc-unary",
        about: "gRPC, one message there and back a call, 16 calls at a time on each of 4 connections",
        protocol: Protocol::Http2,
        load: Load::Calls { connections: 4, calls: 16, is_streaming: false },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "grpc-streaming",
        about: "gRPC, 100 messages there and back a call, 16 calls at a time on each of 4 connections",
        protocol: Protocol::Http2,
        load: Load::Calls { connections: 4, calls: 16, is_streaming: true },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "websocket",
        about: "WebSocket, messages of 64 bytes there and back on 64 connections",
        protocol: Protocol::WebSocket,
        load: Load::Messages { connections: 64 },
        workers: 1,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "hbone",
        about: "HTTP/1.1 in 16 tunnels of each of 4 connections of mutual TLS, plain to the backend; ztunnel judges by layer 4",
        protocol: Protocol::Hbone,
        load: Load::Tunnels { connections: 4, tunnels: 16 },
        workers: 1,
        sizes: &[1_000],
        peers: &[Peer::Eastwall, Peer::Ztunnel, Peer::Floor(Floor::Tunnels)],
    },
    Scenario {
        name: "handshakes",
        about: "new connections of mutual TLS 1.3 that carry nothing, 16 at a time",
        protocol: Protocol::Hbone,
        load: Load::Handshakes { at_a_time: 16 },
        workers: 1,
        sizes: &[1_000],
        peers: &[Peer::Eastwall, Peer::Nginx, Peer::Ztunnel, Peer::Floor(Floor::Tunnels)],
    },
    Scenario {
        name: "http1-two-workers",
        about: "HTTP/1.1 on 4 connections that stay open, which share both cores with the load",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 4, is_new_connection: false, is_denied: false },
        workers: 2,
        sizes: &[1_000],
        peers: EVERYBODY,
    },
    Scenario {
        name: "churn",
        about: "HTTP/1.1, 5,000 requests a second on 64 connections while documents or the addresses of workloads change",
        protocol: Protocol::Http1,
        load: Load::Paced { connections: 64, rate: 5_000 },
        workers: 1,
        sizes: &[10_000],
        peers: CHANGING,
    },
    Scenario {
        name: "churn-busy",
        about: "HTTP/1.1 on 64 connections that stay open while documents or the addresses of workloads change",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: false },
        workers: 1,
        sizes: &[10_000],
        peers: CHANGING,
    },
    Scenario {
        name: "modes",
        about: "HTTP/1.1 on 64 connections that stay open, between two network namespaces",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: false },
        workers: 1,
        sizes: &[1_000],
        peers: &[Peer::Between(Mode::Gateway), Peer::Between(Mode::Sidecar), Peer::Between(Mode::Node)],
    },
];
