//! The built proxy in gateway mode, between raw sockets: pods are addresses of 127.0.0.0/8.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

mod connections;
mod drain;
mod harness;
mod http1;
mod http2;
mod limits;
mod memory;
mod revocation;
mod smuggling;
mod upgrade;
