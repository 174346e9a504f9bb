//! Identity by certificate: X.509-SVIDs (SPIFFE), the authorities that are believed, and what a peer's certificate proves.
//!
//! [`Identities`] holds what is in force; a source of a thread of its own ([`follow`]) replaces it whole, so that a
//! handshake sees one state. Nothing here opens a connection.

mod delegated;
mod files;
mod identities;
mod peer;
mod settings;
mod source;
mod svid;
mod trust;
mod verifier;
mod workload_api;

pub(crate) use delegated::{Account, Pods, Served};
pub(crate) use identities::{Identities, Whose};
pub(crate) use peer::{Peer, PeerRefused};
pub(crate) use settings::{MutualTlsConfig, MutualTlsSettings};
pub(crate) use source::follow;
pub(crate) use svid::Svid;

use std::sync::Arc;

use crate::intercept::rules::Ports;

/// What connections of HBONE need.
#[derive(Debug)]
pub(crate) struct MutualTls {
    /// Who this proxy can prove to be, and whom it believes.
    pub(crate) identities: Arc<Identities>,
    /// Port of a pod at which HBONE arrives.
    pub(crate) port: u16,
    ports: Ports,
}

impl MutualTls {
    pub(crate) fn new(identities: Arc<Identities>, port: u16, ports: Ports) -> Self {
        Self { identities, port, ports }
    }

    /// Whether a port of a pod leads to its own proxy.
    pub(crate) fn is_own_port(&self, port: u16) -> bool {
        port == self.port || self.ports.contains(port)
    }
}
