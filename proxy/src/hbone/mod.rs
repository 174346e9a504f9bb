//! HBONE: connections inside mutual TLS, as Istio's ambient mesh carries them. Each is one HTTP/2 CONNECT (RFC 9113 8.5)
//! to the address that is called, on a TLS 1.3 connection that all connections of two identities share.
//!
//! A tunnel is a byte stream like a socket: what is in it is judged as it would be without.

mod handshake;
mod inbound;
mod outbound;
mod pool;

pub(crate) use inbound::serve;
pub(crate) use outbound::{Route, open};
pub(crate) use pool::Pool;

/// Port of a pod at which HBONE arrives.
pub(crate) const PORT: u16 = 15008;
