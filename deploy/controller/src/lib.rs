//! The controller: the only reader of the Kubernetes API. It knows the cluster ([`Cluster`]), tells each proxy the part
//! that concerns it, and answers the API server's webhooks.
//!
//! `kubernetes` follows the API into the [`Store`]; `policies` compiles what is in it; `status` and `webhook` tell people
//! what the compiler says; `lease` decides which replica writes, and `replicas` what it knows of the others'
//! proxies. `slices` tells the proxies, `authority` signs for them.

mod admin;
mod app;
pub mod authority;
mod cluster;
mod config;
mod kubernetes;
mod lease;
mod metrics;
mod policies;
mod replicas;
mod serve;
pub mod slices;
mod status;
mod uncovered;
mod webhook;

pub use app::run;
pub use cluster::{Change, Cluster, Key, Object, Store};
pub use config::Config;
pub use metrics::Metrics;
pub use policies::{Policies, View};
pub use status::{Programmed, Progress};

/// The API group of the native kinds.
const GROUP: &str = "eastwall.dev";
