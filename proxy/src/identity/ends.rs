//! The two ends of a connection, and what one world says of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use eastwall_policy::facts::{Connection, Direction, End, Place, Transport};
use eastwall_policy::registry::{
    ApplicationProtocol, Claimant, DeclaredPort, ServiceId, TargetPort, Workload, WorkloadId,
};
use eastwall_policy::verdict::Reason;
use eastwall_policy::world::{Flow, World};

use super::Agreement;
use crate::intercept::Accepted;
use crate::observe::{Alert, AlertKind, Recorder};

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
    agreement: Arc<Agreement>,
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
    /// It leads through HBONE: what was opened in plaintext before the destination took that is not used any more.
    hbone: bool,
}

impl Judged {
    /// The same connection, which nothing is allowed any more.
    pub(crate) fn refused(self, reason: Reason) -> Self {
        let world = Arc::new(World::refusing(reason, self.world.generation().number));
        let nobody = End { address: None, place: Place::Unknown, principal: None };
        let flow = world.flow(&Connection {
            source: nobody,
            destination: nobody,
            port: self.pool_key.destination.port(),
            transport: Transport::Tcp,
            service: None,
            fqdn: None,
            direction: None,
        });
        Self {
            world,
            flow,
            source_workload: None,
            destination_workload: None,
            declared: self.declared,
            pool_key: self.pool_key,
        }
    }

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
    pub(crate) fn new<S>(
        accepted: &Accepted<S>,
        principal: Option<Arc<str>>,
        agreement: &Arc<Agreement>,
        has_registry: bool,
    ) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            source: canonical(accepted.remote.0),
            destination: canonical(accepted.destination.0),
            direction: accepted.direction,
            principal,
            pod: accepted.pod.clone(),
            must_be_registered: has_registry || !accepted.is_gateway(),
            agreement: Arc::clone(agreement),
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
        let at_source = place(Direction::Inbound, self.source.ip());
        let source = if self.is_downgrade(&world, at_source) { Place::Unknown } else { at_source };
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
        let disagrees = self.disagrees(&world, at_source);
        let world = match own {
            _ if disagrees && !world.is_sealed() => {
                Arc::new(World::refusing(Reason::IdentityMismatch, world.generation().number))
            }
            Place::Workload(_) => world,
            _ if self.has_subject_at(&world, own_address) => world,
            _ if self.must_be_registered && !world.is_sealed() => {
                Arc::new(World::refusing(Reason::Unregistered, world.generation().number))
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
        let speaks = |id: &WorkloadId| registry.workload(*id).is_some_and(Workload::speaks_hbone);
        let hbone = match service.and_then(|id| registry.service(id)) {
            Some(service) => service.elsewhere.is_empty() && service.endpoints.iter().all(speaks),
            None => destination_workload.as_ref().is_some_and(speaks),
        };
        let pool_key = PoolKey {
            source: self.source.ip(),
            account,
            principal: self.principal.clone(),
            pod: self.pod.clone(),
            destination: self.destination,
            hbone: hbone && self.direction == Direction::Outbound,
        };
        Judged { world, flow, source_workload, destination_workload, declared, pool_key }
    }

    /// Whether somebody whose policies are asked is reached here. In a pod's own namespace that is the pod: whom else the
    /// registry has at its address may have had it before.
    fn has_subject_at(&self, world: &World, own: IpAddr) -> bool {
        let Some(pod) = &self.pod else { return world.has_subject_at(own) };
        let mut claimants = world.registry().claimants(own).iter();
        claimants.any(|claimant| matches!(claimant, Claimant::Workload(id) if self.is_pod(world, *id, pod)))
    }

    /// The peer proves an identity that the registry does not have where it comes from.
    fn disagrees(&self, world: &World, place: Place) -> bool {
        let Some(principal) = &self.principal else { return false };
        // Of a registry that proves nothing any more no proof can be refuted.
        self.direction == Direction::Inbound
            && !world.registry().workloads.is_empty()
            && !world.registry().is_doubted()
            && !self.agreement.holds(world, principal, self.source.ip(), place)
    }

    /// The peer comes in plaintext, where its identity has come with a proof before.
    fn is_downgrade(&self, world: &World, place: Place) -> bool {
        let Place::Workload(id) = place else { return false };
        self.direction == Direction::Inbound
            && self.principal.is_none()
            && world
                .registry()
                .workload(id)
                .is_some_and(|from| self.agreement.is_downgrade(world, from, self.destination.ip()))
    }

    /// At the begin of a connection: remembers a proof, and raises an alert where proof and place do not agree.
    pub(crate) fn compare(&self, judged: &Judged, recorder: &Recorder) {
        if self.direction == Direction::Outbound {
            return;
        }
        let source = judged.source_workload.and_then(|id| judged.world.registry().workload(id));
        let alert = |kind, detail, evidence: &[u8]| {
            recorder.alert(&Alert {
                kind,
                world: &judged.world,
                direction: self.direction,
                source: self.source,
                destination: self.destination,
                source_workload: judged.source_workload,
                destination_workload: judged.destination_workload,
                decision_id: None,
                detail,
                evidence,
            });
        };
        match (&self.principal, source) {
            (Some(principal), _) if judged.world.refuses() == Some(Reason::IdentityMismatch) => alert(
                AlertKind::IdentityMismatch,
                "a peer proves an identity that is not registered at its address; the evidence is the identity",
                principal.as_bytes(),
            ),
            (Some(principal), Some(source))
                if **principal == *source.spiffe_id(&judged.world.model().settings.trust_domain) =>
            {
                self.agreement.has_proven(&judged.world, source, self.destination.ip());
            }
            (None, _) => {
                let place = judged.world.source(self.source.ip()).place;
                if self.is_downgrade(&judged.world, place) {
                    alert(
                        AlertKind::Downgrade,
                        "a peer comes in plaintext from an address whose workload has proven its identity before",
                        b"",
                    );
                }
            }
            _ => {}
        }
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
