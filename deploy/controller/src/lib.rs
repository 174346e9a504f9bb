//! The controller: the only reader of the Kubernetes API. It knows the cluster ([`Cluster`]), tells each proxy the part
//! that concerns it, and answers the API server's webhooks.

pub mod authority;
mod cluster;
pub mod slices;

pub use cluster::{Change, Cluster, Key, Object, Store};
