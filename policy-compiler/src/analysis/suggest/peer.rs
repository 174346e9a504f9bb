//! The ends and the port of a recorded flow, as a native policy names them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::facts::{Connection, Direction, End, Place};
use crate::registry::{Registry, TargetPort, Workload, WorkloadId};

/// The service account that a policy protects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    pub(super) namespace: String,
    pub(super) account: String,
}

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Account { namespace: String, account: String },
    Service { namespace: String, name: String },
    Principal(String),
    Address(IpAddr),
    Node,
}

/// A port of the destination workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Port {
    Named(String),
    Number(u16),
}

impl Subject {
    /// The workload whose policies a flow is judged by.
    pub(super) fn of(connection: &Connection<'_>, direction: Direction, registry: &Registry) -> Option<Self> {
        let workload = match direction {
            Direction::Outbound => workload_at(connection.source, registry),
            Direction::Inbound => destination(connection, registry),
        }?;
        Some(Self { namespace: workload.namespace.to_string(), account: workload.service_account.to_string() })
    }
}

impl Peer {
    /// `None` where nobody knows who it is: no rule could allow that.
    pub(super) fn of(connection: &Connection<'_>, direction: Direction, registry: &Registry) -> Option<Self> {
        let account = |workload: &Workload| Self::Account {
            namespace: workload.namespace.to_string(),
            account: workload.service_account.to_string(),
        };
        let end = match direction {
            Direction::Inbound => connection.source,
            Direction::Outbound => connection.destination,
        };
        if direction == Direction::Outbound
            && let Some(service) = connection.service.and_then(|id| registry.service(id))
        {
            // A Service whose endpoints are one account is that account: a rule for it holds for both ways to it.
            let accounts: BTreeSet<Self> =
                service.endpoints.iter().filter_map(|id| registry.workload(*id)).map(account).collect();
            let named = Self::Service { namespace: service.namespace.to_string(), name: service.name.to_string() };
            return Some(if accounts.len() == 1 { accounts.into_iter().next().unwrap_or(named) } else { named });
        }
        let workload = workload_at(end, registry);
        if let Some(principal) = end.principal {
            // An identity that is proven, and is not what stands at the address, is named as it is.
            let own = workload.filter(|workload| {
                principal.ends_with(&format!("/ns/{}/sa/{}", workload.namespace, workload.service_account))
            });
            return Some(own.map_or_else(|| Self::Principal(principal.to_owned()), account));
        }
        match (end.place, workload) {
            (_, Some(workload)) => Some(account(workload)),
            (Place::Node(_), None) => Some(Self::Node),
            (Place::External, None) => end.address.map(Self::Address),
            (Place::Unknown | Place::Workload(_), None) => {
                end.address.filter(|address| !registry.is_contested(*address)).map(Self::Address)
            }
        }
    }

    /// A member of `from` or `to` in a policy of this namespace.
    pub(super) fn member(&self, own: &str) -> Value {
        let qualified = |kind: &str, namespace: &str, name: &str| match namespace == own {
            true => json!({ kind: name }),
            false => json!({ kind: name, "namespace": namespace }),
        };
        match self {
            Self::Account { namespace, account } => qualified("serviceAccount", namespace, account),
            Self::Service { namespace, name } => qualified("service", namespace, name),
            Self::Principal(principal) => json!({ "principal": principal }),
            Self::Address(address) => {
                let length = if address.is_ipv4() { 32 } else { 128 };
                json!({ "cidr": format!("{address}/{length}") })
            }
            Self::Node => json!({ "node": "Any" }),
        }
    }

    /// A word for the name of a rule.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Account { namespace, account } => format!("{namespace}-{account}"),
            Self::Service { namespace, name } => format!("{namespace}-{name}"),
            Self::Principal(principal) => principal.trim_start_matches("spiffe://").to_owned(),
            Self::Address(address) => address.to_string(),
            Self::Node => "node".into(),
        }
    }
}

impl Port {
    /// The port of the destination workload: by the name that it declares, where it does.
    pub(super) fn of(connection: &Connection<'_>, registry: &Registry) -> Option<Self> {
        let (port, workload) = match connection.service.and_then(|id| registry.service(id)) {
            None => (Some(connection.port), destination(connection, registry)),
            Some(service) => {
                let workload = service.endpoints.iter().find_map(|id| registry.workload(*id));
                let entry = service
                    .ports
                    .iter()
                    .find(|entry| entry.port == connection.port && entry.transport == connection.transport)?;
                let number = match &entry.target {
                    TargetPort::Number(number) => Some(*number),
                    TargetPort::Name(name) => return Some(Self::Named(name.to_string())),
                };
                (number, workload)
            }
        };
        let port = port?;
        let declared = workload.into_iter().flat_map(|workload| &workload.ports);
        let mut declared = declared.filter(|held| held.port == port && held.transport == connection.transport);
        match declared.find_map(|held| held.name.as_ref()) {
            Some(name) => Some(Self::Named(name.to_string())),
            None => Some(Self::Number(port)),
        }
    }

    /// A member of `ports`.
    pub(super) fn member(&self) -> Value {
        match self {
            Self::Named(name) => json!(name),
            Self::Number(number) => json!(number),
        }
    }

    /// A word for the name of a rule.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

fn destination<'r>(connection: &Connection<'_>, registry: &'r Registry) -> Option<&'r Workload> {
    match connection.service.and_then(|id| registry.service(id)) {
        Some(service) => service.endpoints.iter().find_map(|id: &WorkloadId| registry.workload(*id)),
        None => workload_at(connection.destination, registry),
    }
}

fn workload_at<'r>(end: End<'_>, registry: &'r Registry) -> Option<&'r Workload> {
    match end.place {
        Place::Workload(id) => registry.workload(id),
        _ => None,
    }
}
