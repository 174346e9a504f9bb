//! The one spelling of each thing that metrics and log lines name.

use eastwall_policy::facts::{Direction, Protocol};
use eastwall_policy::registry::{Registry, WorkloadId};
use eastwall_policy::verdict::{Action, Proof};

pub(super) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

pub(super) const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tls => "tls",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
        Protocol::Dns => "dns",
    }
}

pub(super) const fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Reject => "reject",
    }
}

pub(super) const fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::Address => "address",
        Proof::Mtls => "mtls",
    }
}

/// The serialised spelling of an enum of unit variants: the library's own label, so that it is written once.
pub(super) fn serialized(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(label)) => label,
        _ => UNKNOWN.to_owned(),
    }
}

/// `namespace/name`, or [`UNKNOWN`].
pub(super) fn workload(registry: &Registry, id: Option<WorkloadId>) -> String {
    match id.and_then(|id| registry.workload(id)) {
        Some(workload) => format!("{}/{}", workload.namespace, workload.name),
        None => UNKNOWN.to_owned(),
    }
}

/// Stands where nobody is known.
pub(super) const UNKNOWN: &str = "unknown";
