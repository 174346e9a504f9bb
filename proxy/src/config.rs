//! What the data plane is told: validated once, never checked again.

use std::time::Duration;

/// How traffic reaches the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// An explicit listener and upstream, for trials and tests, without privileges.
    Gateway,
    /// nftables REDIRECT inside one pod.
    Sidecar,
    /// One process per node that enters each pod's network namespace.
    Node,
}

/// Every bound, with its default. Each is a flag and a member of the configuration file; each refusal has a reason label.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of a request or response head, start line and trailers included.
    pub(crate) head_bytes: usize,
    /// Header lines of one message.
    pub(crate) header_fields: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub(crate) streams: u32,
    /// Time to receive a whole head.
    pub(crate) head_timeout: Duration,
    /// Time without a byte in either direction after which a connection is closed.
    pub(crate) idle_timeout: Duration,
    /// Time to see enough first bytes to know the protocol, on an undeclared port with L7 rules.
    pub(crate) detect_timeout: Duration,
    /// Time to connect upstream.
    pub(crate) connect_timeout: Duration,
    /// Concurrent connections.
    pub(crate) connections: usize,
    /// Concurrent connections of one source address.
    pub(crate) connections_per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 60 * 1024,
            header_fields: 100,
            streams: 250,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            detect_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            connections: 10_000,
            connections_per_source: 1_000,
        }
    }
}
