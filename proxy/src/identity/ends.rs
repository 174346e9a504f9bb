//! The two ends of a connection, and what one world says of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use eastwall_policy::facts::{Connection, Direction, End, Place, Transport};
use eastwall_policy::registry::{ApplicationProtocol, DeclaredPort, ServiceId, TargetPort, WorkloadId};
use eastwall_policy::world::{Flow, World};

use crate::intercept::{Accepted, Dialer};

/// What is fixed for the life of a connection: addresses, direction and proof.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// The address that the connection came from.
    pub(crate) source: SocketAddr,
    /// The address that the client dialled.
    pub(crate) destination: SocketAddr,
    /// Which side of the flow this proxy stands on.
    pub(crate) direction: Direction,
    /// The identity that the peer's certificate proves.
    pub(crate) principal: Option<Arc<str>>,
    /// The pod whose namespace the connection was accepted in (`namespace/name`), in node mode.
    pub(crate) pod: Option<Arc<str>>,
    /// This proxy's own side must be a workload: the traffic was redirected, so it stands in front of a pod; or there
    /// is a workloads file, which then says who may be behind a gateway.
    must_be_registered: bool,
}

/// A connection resolved against one world.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The world.
    pub(crate) world: Arc<World>,
    /// What it says of this connection.
    pub(crate) flow: Flow,
    /// The workload at the source, where one is known.
    pub(crate) source_workload: Option<WorkloadId>,
    /// The workload at the destination, where one is known.
    pub(crate) destination_workload: Option<WorkloadId>,
    /// What the destination's port is declared to speak.
    pub(crate) declared: Option<ApplicationProtocol>,
    /// Whose upstream connections may be used.
    pub(crate) pool_key: PoolKey,
}

/// Upstream connections are shared only between requests of the same source identity to the same destination, through
/// the same network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    source: IpAddr,
    account: Option<(Arc<str>, Arc<str>, Arc<str>)>,
    principal: Option<Arc<str>>,
    pod: Option<Arc<str>>,
    destination: SocketAddr,
}

impl Judged {
    /// The policy whose tokens every HTTP request to this destination has to be looked at for, whatever rules say.
    pub(crate) fn asks_for_tokens(&self) -> Option<u32> {
        if matches!(self.declared, Some(ApplicationProtocol::Tcp | ApplicationProtocol::Tls)) {
            return None;
        }
        self.world.canonical_scope(&self.flow).jwt_rules.first().map(|scoped| scoped.policy)
    }
}

impl Ends {
    /// The ends of an accepted connection. `has_registry`: somebody says who is registered.
    pub(crate) fn new(accepted: &Accepted, has_registry: bool) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            source: canonical(accepted.remote.0),
            destination: canonical(accepted.destination.0),
            direction: accepted.direction,
            principal: None,
            pod: accepted.pod.clone(),
            must_be_registered: has_registry || !matches!(accepted.dialer, Dialer::Fixed(_)),
        }
    }

    /// Resolves both ends against a world.
    pub(crate) fn judge(&self, world: Arc<World>) -> Judged {
        let registry = Arc::clone(world.registry());
        let settings = &world.model().settings;
        let place = |end: Direction, address: IpAddr| {
            let place = registry.place(address, settings);
            // In a pod's own namespace, an address of that pod's side that is not the pod's proves nothing.
            match (&self.pod, place) {
                (Some(pod), Place::Workload(id)) if end != self.direction && !self.is_pod(&world, id, pod) => {
                    Place::Unknown
                }
                (Some(_), Place::Node(_) | Place::External) if end != self.direction => Place::Unknown,
                _ => place,
            }
        };
        // An outbound proxy stands at the source, an inbound one at the destination.
        let source = place(Direction::Inbound, self.source.ip());
        let destination = place(Direction::Outbound, self.destination.ip());
        let own = match self.direction {
            Direction::Inbound => destination,
            Direction::Outbound => source,
        };
        // A pod that nobody registered would have no subject to judge: closed.
        let own_address = match self.direction {
            Direction::Inbound => self.destination.ip(),
            Direction::Outbound => self.source.ip(),
        };
        let world = match own {
            Place::Workload(_) => world,
            _ if world.has_subject_at(own_address) => world,
            _ if self.must_be_registered && !world.is_sealed() => {
                Arc::new(World::unregistered(world.generation().number))
            }
            _ => world,
        };
        let service = registry.service_at(self.destination.ip());
        let flow = world.flow(&Connection {
            source: End { address: Some(self.source.ip()), place: source, principal: self.principal.as_deref() },
            destination: End { address: Some(self.destination.ip()), place: destination, principal: None },
            port: self.destination.port(),
            transport: Transport::Tcp,
            service,
            fqdn: None,
            direction: Some(self.direction),
        });
        let workload = |place| match place {
            Place::Workload(id) => Some(id),
            _ => None,
        };
        let (source_workload, destination_workload) = (workload(source), workload(destination));
        let declared = match service {
            Some(id) => declared_by_endpoints(&world, id, self.destination.port()),
            None => destination_workload.and_then(|id| declared_by(&world, id, self.destination.port())),
        };
        let account = source_workload.and_then(|id| registry.workload(id)).map(|workload| {
            (Arc::clone(&workload.namespace), Arc::clone(&workload.service_account), Arc::clone(&workload.name))
        });
        let pool_key = PoolKey {
            source: self.source.ip(),
            account,
            principal: self.principal.clone(),
            pod: self.pod.clone(),
            destination: self.destination,
        };
        Judged { world, flow, source_workload, destination_workload, declared, pool_key }
    }

    fn is_pod(&self, world: &World, id: WorkloadId, pod: &str) -> bool {
        world.registry().workload(id).is_some_and(|workload| {
            pod.split_once('/')
                .is_some_and(|(namespace, name)| *workload.namespace == *namespace && *workload.name == *name)
        })
    }
}

/// What a workload declares that it speaks on a TCP port.
fn declared_by(world: &World, id: WorkloadId, port: u16) -> Option<ApplicationProtocol> {
    let declared = |declared: &&DeclaredPort| declared.port == port && declared.transport == Transport::Tcp;
    world.registry().workload(id)?.ports.iter().find(declared)?.application
}

/// What every ready endpoint of a Service declares behind one of its ports; `None` where they differ.
fn declared_by_endpoints(world: &World, id: ServiceId, port: u16) -> Option<ApplicationProtocol> {
    let registry = world.registry();
    let service = registry.service(id)?;
    if !service.elsewhere.is_empty() {
        // What is no workload declares nothing.
        return None;
    }
    let target = &service.ports.iter().find(|held| held.port == port && held.transport == Transport::Tcp)?.target;
    let mut declared = service.endpoints.iter().map(|endpoint| {
        let number = match target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => registry
                .workload(*endpoint)
                .and_then(|workload| workload.ports.iter().find(|held| held.name.as_ref() == Some(name)))
                .map(|held| held.port),
        };
        number.and_then(|number| declared_by(world, *endpoint, number))
    });
    let first = declared.next()?;
    declared.all(|other| other == first).then_some(first)?
}
