//! Every connection between groups of ends, and what the policies of one or two worlds do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ends::{End, Ends, Group};
use super::program::{Program, Programs, Side};
use super::{Budget, Undecided};
use crate::canonical::Options;
use crate::facts::{self, Connection, Direction, Transport};
use crate::model::interpret::leg::{Leg, legs};
use crate::model::interpret::scope::canonical_scope;
use crate::registry::WorkloadId;
use crate::world::World;

/// The programs that all must allow a connection, of each world.
pub(super) type Outcome = Vec<Arc<[Program]>>;

/// What some connections come to: between two groups, on some ports.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Indices of the groups, which the destination does not tell apart.
    pub(super) sources: Arc<[usize]>,
    pub(super) destination: usize,
    pub(super) transport: Transport,
    /// First and last.
    pub(super) ports: (u16, u16),
    /// A port that stands for all: one that is declared, where there is one.
    pub(super) port: u16,
    /// What canonicalisation accepts, in each world.
    pub(super) options: Vec<Options>,
    pub(super) outcome: Outcome,
}

impl Entry {
    /// One of the sources, which stands for all.
    pub(super) fn source(&self) -> usize {
        self.sources.first().copied().unwrap_or_default()
    }
}

/// What the sides of a connection answer about its ends: world, whether inbound, whose side, answers. What no side says
/// stands first, of each world: whether the source has to prove itself and does not, and which sides an emergency opens.
type Signature = (Vec<(bool, [bool; 2])>, Vec<(usize, bool, usize, Arc<[u8]>)>);

/// See the module.
#[derive(Debug)]
pub(super) struct Survey<'w> {
    pub(super) worlds: Vec<&'w World>,
    pub(super) ends: Ends,
    pub(super) programs: Programs,
    direction: Option<Direction>,
    now: i64,
    sides: BTreeMap<(usize, bool, WorkloadId), Side>,
    /// One workload of each way in which worlds treat what a workload sends.
    senders: Vec<(usize, WorkloadId)>,
    /// Which way is whose.
    sender_of: BTreeMap<(usize, WorkloadId), usize>,
    has_options: bool,
}

impl<'w> Survey<'w> {
    /// # Errors
    /// The budget is used up.
    pub(super) fn new(
        worlds: Vec<&'w World>,
        direction: Option<Direction>,
        now: i64,
        budget: &mut Budget,
    ) -> Result<Self, Undecided> {
        let has_options =
            worlds.iter().any(|world| world.model().policies.iter().any(|policy| !policy.http_options.is_empty()));
        Ok(Self {
            ends: Ends::of(&worlds, budget)?,
            worlds,
            programs: Programs::default(),
            direction,
            now,
            sides: BTreeMap::new(),
            senders: Vec::new(),
            sender_of: BTreeMap::new(),
            has_options,
        })
    }

    /// The sources, in sets that nothing tells apart at this destination: work grows with what its policies ask, not
    /// with the pairs of ends.
    pub(super) fn sources_of(&mut self, destination: usize) -> Vec<Arc<[usize]>> {
        let mut sets: Vec<Vec<usize>> = Vec::new();
        let mut known: hashbrown::HashMap<Signature, usize, foldhash::fast::RandomState> =
            hashbrown::HashMap::default();
        for source in 0..self.ends.sources.len() {
            let next = sets.len();
            let at =
                self.signature(source, destination).map_or(next, |signature| *known.entry(signature).or_insert(next));
            match sets.get_mut(at) {
                Some(set) => set.push(source),
                None => sets.push(vec![source]),
            }
        }
        sets.into_iter().map(Into::into).collect()
    }

    /// `None` of ends that are taken one by one: they are few, and more than policies can matter (nodes and probes,
    /// addresses with several owners).
    fn signature(&mut self, source: usize, destination: usize) -> Option<Signature> {
        let (from, to) =
            (self.ends.sources.get(source)?.end.clone(), self.ends.destinations.get(destination)?.end.clone());
        let (mut beside, mut signature) = Signature::default();
        for number in 0..self.worlds.len() {
            let world = *self.worlds.get(number)?;
            let tried = connection(world, &from, &to, 1, Transport::Tcp, self.direction);
            beside.push(self.beside_policies(world, &tried));
            let is_workload = |end: facts::End<'_>| matches!(end.place, facts::Place::Workload(_));
            if !is_workload(tried.source)
                || (tried.service.is_none() && tried.destination.place == facts::Place::Unknown)
            {
                return None;
            }
            let service = tried.service.and_then(|id| world.registry().service(id));
            let ports = service.into_iter().flat_map(|service| &service.ports).map(|held| (held.port, held.transport));
            let ports: Vec<(u16, Transport)> = ports.collect();
            // Beside the ports of a Service one that it does not have.
            let other = (1..=u16::MAX).find(|port| ports.iter().all(|(held, _)| held != port))?;
            for (port, transport) in ports.into_iter().chain([(other, Transport::Tcp)]) {
                for leg in &legs(world.model(), world.registry(), &Connection { port, transport, ..tried }) {
                    let inbound = leg.direction == Direction::Inbound;
                    self.side(number, inbound, leg.subject);
                    let whose = if inbound { leg.subject.0 as usize } else { self.sender(number, leg.subject)? };
                    let side = self.sides.get(&(number, inbound, leg.subject))?;
                    if !side.is_open() {
                        signature.push((number, inbound, whose, side.who(leg)));
                    }
                }
            }
        }
        Some((beside, signature))
    }

    /// Whether a connection is refused for want of a proof, and whether emergencies open its outbound and inbound side.
    fn beside_policies(&self, world: &World, connection: &Connection<'_>) -> (bool, [bool; 2]) {
        let opened = [Direction::Outbound, Direction::Inbound].map(|direction| {
            let side = Connection { direction: Some(direction), ..*connection };
            world.opened_by(&side).any(|glass| glass.acts(self.now))
        });
        (world.lacks_proof(connection), opened)
    }

    /// The way in which a world treats what a workload sends, by number.
    fn sender(&mut self, world: usize, subject: WorkloadId) -> Option<usize> {
        if let Some(known) = self.sender_of.get(&(world, subject)) {
            return Some(*known);
        }
        let side = self.sides.get(&(world, false, subject))?;
        let same = |(world, subject): &(usize, WorkloadId)| {
            self.sides.get(&(*world, false, *subject)).is_some_and(|held| held.is_same(side))
        };
        let at = self.senders.iter().position(same).unwrap_or(self.senders.len());
        if at == self.senders.len() {
            self.senders.push((world, subject));
        }
        self.sender_of.insert((world, subject), at);
        Some(at)
    }

    /// Everything between some sources, which the destination does not tell apart, and the destination.
    pub(super) fn between(&mut self, sources: &Arc<[usize]>, destination: usize, see: &mut impl FnMut(Entry)) {
        let source = sources.first().copied().unwrap_or_default();
        let (Some(from), Some(to)) = (self.ends.sources.get(source), self.ends.destinations.get(destination)) else {
            return;
        };
        let (from, to) = (from.end.clone(), to.end.clone());
        for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
            let mut run: Option<Entry> = None;
            for (ports, port) in self.port_ranges(&from, &to, transport) {
                let (outcome, options) = self.outcome(&from, &to, port, transport);
                match &mut run {
                    // Neighbours that come to the same are one range, but for a declared port: that keeps its name.
                    Some(entry) if entry.outcome == outcome && entry.options == options => {
                        entry.ports.1 = ports.1;
                        if ports.0 == ports.1 && entry.port == entry.ports.0 {
                            entry.port = port;
                        }
                    }
                    _ => {
                        let sources = Arc::clone(sources);
                        let next = Entry { sources, destination, transport, ports, port, options, outcome };
                        if let Some(done) = run.replace(next) {
                            see(done);
                        }
                    }
                }
            }
            run.into_iter().for_each(&mut *see);
        }
    }

    /// Whether the worlds have the same to say about everything between two groups, as far as that is seen at once.
    pub(super) fn is_same(&mut self, source: usize, destination: usize) -> bool {
        if self.worlds.windows(2).any(|pair| match pair {
            [one, other] => one.model().settings != other.model().settings,
            _ => false,
        }) {
            return false;
        }
        let (Some(from), Some(to)) = (self.ends.sources.get(source), self.ends.destinations.get(destination)) else {
            return true;
        };
        let (from, to) = (from.end.clone(), to.end.clone());
        let beside = |world: &&World| {
            self.beside_policies(world, &connection(world, &from, &to, 1, Transport::Tcp, self.direction))
        };
        if self.worlds.windows(2).any(|pair| pair.first().map(beside) != pair.last().map(beside)) {
            return false;
        }
        let subjects = |survey: &Self, end: &End, inbound: bool| -> Vec<WorkloadId> {
            let Some(world) = survey.worlds.first() else { return Vec::new() };
            let registry = world.registry();
            match end.placed(world).place {
                facts::Place::Workload(id) => vec![id],
                facts::Place::Unknown if end.service.is_none() => {
                    let claimants = end.address.map(|address| registry.claimants(address)).unwrap_or_default();
                    let mut all = Vec::new();
                    for claimant in claimants {
                        match claimant {
                            crate::registry::Claimant::Workload(id) => all.push(*id),
                            crate::registry::Claimant::Service(id) if inbound => {
                                all.extend(
                                    registry.service(*id).map(|held| held.endpoints.clone()).unwrap_or_default(),
                                );
                            }
                            _ => {}
                        }
                    }
                    all
                }
                _ => {
                    let service = end.service.and_then(|id| registry.service(id));
                    service.map(|service| service.endpoints.clone()).unwrap_or_default()
                }
            }
        };
        let outbound = subjects(self, &from, false);
        let inbound = subjects(self, &to, true);
        let asked = |direction| self.direction.is_none_or(|only| only == direction);
        let (out_asked, in_asked) = (asked(Direction::Outbound), asked(Direction::Inbound));
        (!out_asked || outbound.into_iter().all(|id| self.is_same_side(false, id)))
            && (!in_asked || inbound.into_iter().all(|id| self.is_same_side(true, id)))
    }

    fn is_same_side(&mut self, inbound: bool, subject: WorkloadId) -> bool {
        for world in 0..self.worlds.len() {
            self.side(world, inbound, subject);
        }
        let side = |world| self.sides.get(&(world, inbound, subject));
        (1..self.worlds.len()).all(|world| match (side(0), side(world)) {
            (Some(one), Some(other)) => one.is_same(other),
            _ => false,
        }) && !self.has_options
    }

    fn side(&mut self, world: usize, inbound: bool, subject: WorkloadId) {
        let key = (world, inbound, subject);
        let Some(asked) = self.worlds.get(world) else { return };
        if !self.sides.contains_key(&key) {
            let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
            let connection = crate::analysis::exposure::from_anyone(subject, direction);
            if let Some(leg) = legs(asked.model(), asked.registry(), &connection).first() {
                let side = Side::of(leg, self.now, &mut self.programs.residues);
                self.sides.insert(key, side);
            }
        }
    }

    fn outcome(&mut self, from: &End, to: &End, port: u16, transport: Transport) -> (Outcome, Vec<Options>) {
        let mut outcome = Vec::new();
        let mut options = Vec::new();
        for number in 0..self.worlds.len() {
            let Some(world) = self.worlds.get(number).copied() else { continue };
            let connection = connection(world, from, to, port, transport, self.direction);
            let (lacks_proof, [out, inbound]) = self.beside_policies(world, &connection);
            let mut all: Vec<Program> = Vec::new();
            let judged = legs(world.model(), world.registry(), &connection);
            let is_opened = |leg: &&Leg<'_>| if leg.direction == Direction::Inbound { inbound } else { out };
            for leg in judged.iter().filter(|leg| !is_opened(leg)) {
                all.extend(self.program(number, leg, lacks_proof && leg.direction == Direction::Inbound));
            }
            all.sort_unstable();
            all.dedup();
            outcome.push(all.into());
            if self.has_options {
                options.push(canonical_scope(world.model(), world.registry(), &connection).options);
            }
        }
        (outcome, options)
    }

    fn program(&mut self, world: usize, leg: &Leg<'_>, lacks_proof: bool) -> Option<Program> {
        let inbound = leg.direction == Direction::Inbound;
        self.side(world, inbound, leg.subject);
        let side = self.sides.get_mut(&(world, inbound, leg.subject))?;
        if side.is_open() && !lacks_proof {
            return None;
        }
        let who = side.who(leg);
        let program = side.program(leg, &who, lacks_proof, &mut self.programs);
        self.programs.steps(program).is_none_or(|steps| !steps.is_open()).then_some(program)
    }

    /// The ranges of ports between which nothing can tell, each with one port of it.
    fn port_ranges(&mut self, from: &End, to: &End, transport: Transport) -> Vec<((u16, u16), u16)> {
        let mut bounds = BTreeSet::from([1u32]);
        let mut declared = BTreeSet::new();
        for number in 0..self.worlds.len() {
            let Some(world) = self.worlds.get(number).copied() else { continue };
            let registry = world.registry();
            let connection = connection(world, from, to, 1, transport, self.direction);
            let service = connection.service.and_then(|id| registry.service(id));
            let mut subjects: Vec<(bool, WorkloadId)> = Vec::new();
            if let Some(service) = service {
                declared.extend(service.ports.iter().filter(|port| port.transport == transport).map(|port| port.port));
                subjects.extend(service.endpoints.iter().map(|id| (true, *id)));
            }
            for leg in legs(world.model(), registry, &connection) {
                subjects.push((leg.direction == Direction::Inbound, leg.subject));
            }
            for leg in legs(world.model(), registry, &Connection { direction: None, ..connection }) {
                let Some(workload) = leg.destination.workload.and_then(|id| registry.workload(id)) else { continue };
                if service.is_none() {
                    declared.extend(workload.ports.iter().map(|port| port.port));
                    declared.extend(workload.probes.iter().map(|probe| probe.port));
                }
            }
            for (inbound, subject) in subjects {
                self.side(number, inbound, subject);
                let Some(side) = self.sides.get(&(number, inbound, subject)) else { continue };
                if service.is_some() {
                    continue;
                }
                side.port_bounds(&mut bounds);
                if let facts::Place::Workload(id) = connection.destination.place {
                    for list in side.annotations().filter_map(|key| registry.workload(id)?.annotation(key)) {
                        annotated(list, &mut bounds);
                    }
                }
            }
        }
        for port in &declared {
            bounds.insert(u32::from(*port));
            bounds.insert(u32::from(*port) + 1);
        }
        bounds.retain(|bound| (1..=u32::from(u16::MAX)).contains(bound));
        let starts: Vec<u16> = bounds.into_iter().filter_map(|bound| u16::try_from(bound).ok()).collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
        starts.iter().zip(ends).map(|(first, last)| ((*first, last), *first)).collect()
    }

    pub(super) fn source(&self, at: usize) -> Option<&Group> {
        self.ends.sources.get(at)
    }

    pub(super) fn destination(&self, at: usize) -> Option<&Group> {
        self.ends.destinations.get(at)
    }
}

/// The connection as `decide` makes it.
pub(super) fn connection<'e>(
    world: &World,
    from: &'e End,
    to: &'e End,
    port: u16,
    transport: Transport,
    direction: Option<Direction>,
) -> Connection<'e> {
    let destination = to.placed(world);
    let service = match (to.service, to.workload, to.address) {
        (Some(id), _, _) => Some(id),
        (None, None, Some(address)) => world.registry().service_at(address),
        _ => None,
    };
    Connection {
        source: from.placed(world),
        destination: facts::End { principal: None, ..destination },
        port,
        transport,
        service,
        fqdn: to.fqdn.as_deref(),
        direction,
    }
}

/// The bounds of a list such as `8080,9000-9010`.
fn annotated(list: &str, bounds: &mut BTreeSet<u32>) {
    for part in list.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
            bounds.insert(u32::from(low));
            bounds.insert(u32::from(high) + 1);
        }
    }
}
