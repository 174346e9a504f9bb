//! The rules against a real kernel: network namespaces, nft and ip, as root. Without root these tests fail; they are
//! never skipped.

mod net;
mod node;
mod relay;
mod sidecar;
