//! The built proxy in gateway mode, between raw sockets: pods are addresses of 127.0.0.0/8.

mod connections;
mod drain;
mod harness;
mod http1;
mod http2;
mod limits;
mod revocation;
mod smuggling;
mod upgrade;
