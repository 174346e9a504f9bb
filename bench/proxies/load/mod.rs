//! What sends requests.

mod h2load;
mod wrk;

use std::net::SocketAddr;
use std::path::Path;

use crate::process::Failure;
use crate::rules::Rules;

/// How the load behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Each connection sends a request as soon as the last one is answered.
    Requests { connections: usize, is_new_connection: bool, is_denied: bool },
    /// The same in so many streams of each connection.
    Streams { connections: usize, streams: usize },
}

/// What one run of a load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Answered requests.
    pub(crate) count: f64,
    pub(crate) seconds: f64,
    pub(crate) latency: Option<Latency>,
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
    pub(crate) rules: Rules,
    pub(crate) seconds: u64,
}

impl Load {
    /// Runs it once. An answer other than the expected one is an error.
    pub(crate) fn run(self, target: &Target<'_>) -> Result<Done, Failure> {
        match self {
            Self::Requests { connections, is_new_connection, is_denied } => {
                wrk::run(target, connections, is_new_connection, is_denied)
            }
            Self::Streams { connections, streams } => h2load::run(target, connections, streams),
        }
    }
}
