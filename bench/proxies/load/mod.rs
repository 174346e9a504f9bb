//! What sends requests.

mod bulk;
mod grpc;
mod h2load;
mod handshakes;
pub(crate) mod hbone;
mod paced;
mod socket;
pub(crate) mod threads;
pub(crate) mod wire;
mod wrk;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

pub(crate) use self::bulk::Way;
use crate::backend::Origin;
use crate::process::Failure;
use crate::rules::Rules;

/// How the load behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Each connection sends a request as soon as the last one is answered.
    Requests { connections: usize, is_new_connection: bool, is_denied: bool },
    /// The same in so many streams of each connection.
    Streams { connections: usize, streams: usize },
    /// So many requests a second.
    Paced { connections: usize, rate: usize },
    /// Large bodies.
    Bulk { connections: usize, way: Way, bytes: u64 },
    /// WebSocket messages.
    Messages { connections: usize },
    /// gRPC calls, so many at a time on each connection.
    Calls { connections: usize, calls: usize, is_streaming: bool },
    /// Requests of HTTP/1.1, so many at a time in tunnels of each connection of mutual TLS.
    Tunnels { connections: usize, tunnels: usize },
    /// Connections of mutual TLS that carry nothing, so many at a time.
    Handshakes { at_a_time: usize },
}

/// What one run of a load came to.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Answered requests, messages that came back, or MiB that moved.
    pub(crate) count: f64,
    pub(crate) seconds: f64,
    pub(crate) latency: Option<Latency>,
    /// Nanoseconds until each answer, ascending, where the harness itself timed them.
    pub(crate) times: Vec<u64>,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// Where the load goes, and for how long.
pub(crate) struct Target<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) at: SocketAddr,
    /// Where tunnels lead.
    pub(crate) to: SocketAddr,
    /// Where it comes from, where that is said to be proven.
    pub(crate) client: IpAddr,
    pub(crate) rules: Rules,
    pub(crate) seconds: f64,
}

impl Done {
    fn untimed(count: f64, seconds: f64) -> Self {
        Self { count, seconds, latency: None, times: Vec::new() }
    }
}

impl Latency {
    /// Of ascending nanoseconds; `None` where there are none.
    pub(crate) fn of(times: &[u64]) -> Option<Self> {
        let at = |part: f64| Some(*times.get((times.len().checked_sub(1)? as f64 * part) as usize)? as f64 / 1e3);
        Some(Self { p50: at(0.5)?, p99: at(0.99)?, p999: at(0.999)? })
    }
}

impl Target<'_> {
    /// For programs that know no parts of a second.
    fn whole_seconds(&self) -> u64 {
        self.seconds.ceil() as u64
    }
}

impl Load {
    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Requests { .. } | Self::Streams { .. } | Self::Paced { .. } | Self::Tunnels { .. } => "request",
            Self::Handshakes { .. } => "handshake",
            Self::Bulk { .. } => "MiB",
            Self::Messages { .. } | Self::Calls { .. } => "message",
        }
    }

    /// What has to stand behind the proxy.
    pub(crate) fn origin(self) -> Origin {
        match self {
            Self::Requests { .. }
            | Self::Streams { .. }
            | Self::Paced { .. }
            | Self::Tunnels { .. }
            | Self::Handshakes { .. } => Origin::Short,
            Self::Bulk { way: Way::Down, bytes, .. } => Origin::File(bytes),
            Self::Bulk { way: Way::Up, .. } | Self::Messages { .. } | Self::Calls { .. } => Origin::Reads,
        }
    }

    /// Runs it once. An answer other than the expected one is an error.
    pub(crate) fn run(self, target: &Target<'_>) -> Result<Done, Failure> {
        match self {
            Self::Requests { connections, is_new_connection, is_denied } => {
                wrk::run(target, connections, is_new_connection, is_denied)
            }
            Self::Streams { connections, streams } => h2load::run(target, connections, streams),
            Self::Paced { connections, rate } => paced::run(target, connections, rate),
            Self::Bulk { connections, way, bytes } => bulk::run(target, connections, way, bytes),
            Self::Tunnels { connections, tunnels } => hbone::run(target, connections, tunnels),
            Self::Handshakes { at_a_time } => handshakes::run(target, at_a_time),
            Self::Messages { connections } => socket::run(target, connections),
            Self::Calls { connections, calls, is_streaming } => grpc::run(target, connections, calls, is_streaming),
        }
    }
}
