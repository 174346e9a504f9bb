//! The sides on which a flow is judged: outbound at the source, inbound at the destination.

use std::net::IpAddr;

use crate::facts::{Connection, Direction, End, Place, Transport};
use crate::model::Model;
use crate::registry::{Claimant, Registry, Service, ServiceId, TargetPort, Workload, WorkloadId};

/// One side of a flow: which workload's policies are asked, about which two ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg<'a> {
    pub(crate) model: &'a Model,
    pub(crate) registry: &'a Registry,
    pub(crate) direction: Direction,
    /// The workload whose policies are asked.
    pub(crate) subject: WorkloadId,
    pub(crate) source: End<'a>,
    pub(crate) destination: Destination<'a>,
    pub(crate) transport: Transport,
    /// The name that the proxy itself resolved to the destination.
    pub(crate) fqdn: Option<&'a str>,
}

/// Where a flow ends up, after Service translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    /// The endpoint. Of a Service without one: the Service's address, with nobody known behind it.
    pub(crate) end: End<'a>,
    /// The workload whose declared ports count: the endpoint, `hostNetwork` ones too.
    pub(crate) workload: Option<WorkloadId>,
    /// The Service that was dialled, and the address that was dialled.
    pub(crate) dialled: Option<(ServiceId, Option<IpAddr>)>,
    /// Port of the endpoint; `None` where the Service has no ready endpoint.
    pub(crate) port: Option<u16>,
}

/// One end of a flow as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party<'a> {
    pub(crate) end: End<'a>,
    /// Reached through this Service, at this address.
    pub(crate) dialled: Option<(ServiceId, Option<IpAddr>)>,
    /// The endpoint behind the Service, also where its address is a node's.
    pub(crate) endpoint: Option<WorkloadId>,
    /// The name that the proxy itself resolved to its address.
    pub(crate) fqdn: Option<&'a str>,
}

// === impl Leg ===

impl<'a> Leg<'a> {
    /// The workload whose policies are asked.
    pub(crate) fn workload(&self) -> Option<&'a Workload> {
        self.registry.workload(self.subject)
    }

    /// The protected workload as an end. Who it is comes from the registry alone: it was selected by that.
    pub(crate) fn subject_party(&self) -> Party<'a> {
        let address = match self.direction {
            Direction::Outbound => self.source.address,
            Direction::Inbound => self.destination.end.address,
        };
        let end = End { address, place: Place::Workload(self.subject), principal: None };
        Party { end, dialled: None, endpoint: None, fqdn: None }
    }

    /// The other end.
    pub(crate) fn peer_party(&self) -> Party<'a> {
        let believed = |end: End<'a>| End { place: self.registry.believed(end.place), ..end };
        match self.direction {
            Direction::Inbound => Party { end: believed(self.source), dialled: None, endpoint: None, fqdn: None },
            Direction::Outbound => Party {
                end: believed(self.destination.end),
                dialled: self.destination.dialled,
                endpoint: self.destination.workload,
                fqdn: self.fqdn,
            },
        }
    }

    /// The other end as its address alone tells.
    pub(crate) fn located_party(&self) -> Party<'a> {
        let party = self.peer_party();
        Party { end: End { principal: None, ..party.end }, ..party }
    }
}

/// The legs of a connection, in the order of its way. An end that is no registered workload is not judged; of an address
/// with several owners every workload is: a second claim to its address must not take a workload's protection away.
pub(crate) fn legs<'a>(model: &'a Model, registry: &'a Registry, connection: &Connection<'a>) -> Vec<Leg<'a>> {
    let asked = |direction| connection.direction.is_none_or(|only| only == direction);
    let destinations = destinations(model, registry, connection);
    let leg = |direction, subject, destination| Leg {
        model,
        registry,
        direction,
        subject,
        source: connection.source,
        destination,
        transport: connection.transport,
        fqdn: connection.fqdn,
    };
    let mut legs = Vec::new();
    if asked(Direction::Outbound) {
        for subject in subjects(registry, connection.source) {
            legs.extend(destinations.iter().map(|destination| leg(Direction::Outbound, subject, *destination)));
        }
    }
    if asked(Direction::Inbound) {
        let claimed = claimed(model, registry, connection);
        legs.extend(destinations.iter().chain(&claimed).filter_map(|destination| match destination.end.place {
            Place::Workload(subject) => Some(leg(Direction::Inbound, subject, *destination)),
            _ => None,
        }));
    }
    legs
}

/// The workloads whose egress rules a source is under.
fn subjects(registry: &Registry, source: End<'_>) -> Vec<WorkloadId> {
    match source.place {
        Place::Workload(subject) => vec![subject],
        Place::Unknown => claimants(registry, source)
            .filter_map(|claimant| match claimant {
                Claimant::Workload(id) => Some(id),
                Claimant::Node(_) | Claimant::Service(_) => None,
            })
            .collect(),
        Place::Node(_) | Place::External => Vec::new(),
    }
}

/// Where a connection to an address with several owners could end up, should each of them be there alone.
fn claimed<'a>(model: &Model, registry: &'a Registry, connection: &Connection<'a>) -> Vec<Destination<'a>> {
    let end = connection.destination;
    if connection.service.is_some() || end.place != Place::Unknown {
        return Vec::new();
    }
    claimants(registry, end)
        .flat_map(|claimant| match claimant {
            Claimant::Workload(id) => {
                let end = End { place: Place::Workload(id), ..end };
                vec![Destination { end, workload: Some(id), dialled: None, port: Some(connection.port) }]
            }
            Claimant::Service(id) => behind(id, model, registry, connection),
            Claimant::Node(_) => Vec::new(),
        })
        .collect()
}

fn claimants(registry: &Registry, end: End<'_>) -> impl Iterator<Item = Claimant> {
    end.address.map(|address| registry.claimants(address)).unwrap_or_default().iter().copied()
}

/// Everywhere that the connection could end up: one place, or every ready endpoint of the Service.
fn destinations<'a>(model: &Model, registry: &'a Registry, connection: &Connection<'a>) -> Vec<Destination<'a>> {
    let Some(id) = connection.service else {
        let workload = match connection.destination.place {
            Place::Workload(id) => Some(id),
            _ => None,
        };
        return vec![Destination { end: connection.destination, workload, dialled: None, port: Some(connection.port) }];
    };
    let mut found = behind(id, model, registry, connection);
    if found.is_empty() {
        let end = End { address: connection.destination.address, place: Place::Unknown, principal: None };
        let dialled = Some((id, connection.destination.address));
        found.push(Destination { end, workload: None, dialled, port: None });
    }
    found
}

/// The ready endpoints of a Service, each with its own port.
fn behind<'a>(
    id: ServiceId,
    model: &Model,
    registry: &'a Registry,
    connection: &Connection<'a>,
) -> Vec<Destination<'a>> {
    let dialled = Some((id, connection.destination.address));
    let mut found = Vec::new();
    if let Some(service) = registry.service(id) {
        for endpoint in &service.endpoints {
            let Some(workload) = registry.workload(*endpoint) else { continue };
            let Some(port) = target_port(service, workload, connection.port, connection.transport) else { continue };
            let address = endpoint_address(workload, connection.destination.address);
            // A node's address is the node, never one of the pods that share it.
            let place = match address {
                Some(address) if workload.host_network => registry.place(address, &model.settings),
                _ => Place::Workload(*endpoint),
            };
            let end = End { address, place, principal: connection.destination.principal };
            found.push(Destination { end, workload: Some(*endpoint), dialled, port: Some(port) });
        }
        for address in &service.elsewhere {
            let Some(target) = target(service, connection.port, connection.transport) else { continue };
            let port = match target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(_) => None,
            };
            let place = registry.place(*address, &model.settings);
            let end = End { address: Some(*address), place, principal: connection.destination.principal };
            found.push(Destination { end, workload: None, dialled, port });
        }
    }
    found
}

/// The endpoint's address, of the family that was dialled where it has one.
fn endpoint_address(workload: &Workload, dialled: Option<IpAddr>) -> Option<IpAddr> {
    let same = |ip: &&IpAddr| dialled.is_none_or(|dialled| dialled.to_canonical().is_ipv4() == ip.is_ipv4());
    workload.ips.iter().find(same).or_else(|| workload.ips.first()).copied()
}

/// What a port of the Service is forwarded to.
fn target(service: &Service, port: u16, transport: Transport) -> Option<&TargetPort> {
    let entry = service.ports.iter().find(|entry| entry.port == port && entry.transport == transport)?;
    Some(&entry.target)
}

/// The port of the endpoint behind a port of the Service; `None` where the Service or the endpoint has none.
fn target_port(service: &Service, workload: &Workload, port: u16, transport: Transport) -> Option<u16> {
    match target(service, port, transport)? {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => workload
            .ports
            .iter()
            .find(|declared| declared.name.as_ref() == Some(name) && declared.transport == transport)
            .map(|declared| declared.port),
    }
}
