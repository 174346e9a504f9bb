//! The admin API: health and metrics over TCP, everything else on a Unix socket that checks the peer.
//!
//! The application shares the sidecar's loopback, so whatever TCP serves, it serves to the application. No policy is
//! accepted on either.

pub(crate) mod client;
mod decision;
mod lifecycle;
mod probe;
mod route;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use lifecycle::{Lifecycle, Unserved};
pub(crate) use probe::{ProbeSettings, Probes};
pub(crate) use server::start;
pub(crate) use socket::{Bound, SocketPath, bind, is_permitted, peer_uid};

use crate::observe::Recorder;
use crate::policy::{Live, Reloader};

/// What the admin server can see and ask for.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// The world in force.
    pub(crate) live: Arc<Live>,
    /// Metrics, recent verdicts, decisions.
    pub(crate) recorder: Recorder,
    /// Reloads.
    pub(crate) reloader: Reloader,
    /// Drain.
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// Ports of the pod that may be asked about.
    pub(crate) probes: Arc<Probes>,
}
