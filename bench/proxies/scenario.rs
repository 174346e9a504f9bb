//! What is loaded, and how.

use crate::floor::Floor;
use crate::load::Load;
use crate::peers::{Peer, Protocol};

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

const EVERY_SIZE: &[usize] = &[10, 1_000, 10_000];
const EVERYBODY: &[Peer] = &[Peer::Eastwall, Peer::Haproxy, Peer::Nginx, Peer::Envoy];

/// All of them, those first that tell the most.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "http1",
        about: "HTTP/1.1 on 64 connections that stay open",
        protocol: Protocol::Http1,
        load: Load::Requests { connections: 64, is_new_connection: false, is_denied: false },
        workers: 1,
        sizes: EVERY_SIZE,
        peers: EVERYBODY,
    },
    Scenario {
        name: "http2",
        about: "HTTP/2 with prior knowledge, 16 streams on each of 4 connections",
        protocol: Protocol::Http2,
        load: Load::Streams { connections: 4, streams: 16 },
        workers: 1,
        sizes: EVERY_SIZE,
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
];
