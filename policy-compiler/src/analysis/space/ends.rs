//! Everybody who can be at an end of a flow, in groups that no rule tells apart.
//!
//! Members of a group give the same answer to every question that any of the policies asks about an end, are selected by
//! the same policies, and declare the same ports: what holds of one holds of all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::addresses::Cells;
use super::element::{Element, Lift};
use super::machine::Machine;
use super::product;
use super::variable::values;
use super::{Budget, Undecided};
use crate::facts::{self, Direction, Fact, Place, Request, Transport, Truth};
use crate::model::interpret::leg::{Destination, Leg};
use crate::model::interpret::peer::cluster_account;
use crate::model::interpret::{tier, truth};
use crate::model::{Atom, Expr, NodeScope, Pattern, PeerAtom, PortAtom, Stack, Text, content};
use crate::registry::{Claimant, InboundMutualTls, Registry, ServiceId, Workload, WorkloadId};
use crate::world::World;

/// One end of a flow, as `decide` is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// What a person calls it.
    pub(super) name: String,
    pub(super) workload: Option<WorkloadId>,
    pub(super) service: Option<ServiceId>,
    pub(super) address: Option<IpAddr>,
    pub(super) principal: Option<Arc<str>>,
    pub(super) fqdn: Option<Arc<str>>,
}

/// Ends that no rule tells apart.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// One of them.
    pub(super) end: End,
    /// The names of all.
    pub(super) members: Vec<String>,
    /// Those that are registered workloads.
    pub(super) workloads: Vec<WorkloadId>,
    /// What those prove to be that are nobody registered.
    pub(super) strangers: Vec<Arc<str>>,
}

/// Both roles.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) sources: Vec<Group>,
    pub(super) destinations: Vec<Group>,
}

impl Group {
    fn of(end: End) -> Self {
        let strangers = end.principal.iter().filter(|_| end.workload.is_none()).cloned().collect();
        Self { members: vec![end.name.clone()], workloads: end.workload.into_iter().collect(), strangers, end }
    }

    /// Only strangers, of whom one proves to be what one of these workloads is: to name them as well says nothing.
    pub(super) fn adds_nothing_to(&self, workloads: &BTreeSet<WorkloadId>, world: &World) -> bool {
        let identities =
            self.strangers.iter().filter_map(|held| cluster_account(held, &world.model().settings.trust_domain));
        let held = |(namespace, account): (&str, &str)| {
            workloads
                .iter()
                .filter_map(|id| world.registry().workload(*id))
                .any(|workload| *workload.namespace == *namespace && *workload.service_account == *account)
        };
        self.strangers.len() == self.members.len() && identities.into_iter().any(held)
    }
}

impl End {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), workload: None, service: None, address: None, principal: None, fqdn: None }
    }

    fn at(name: impl Into<String>, address: IpAddr) -> Self {
        Self { address: Some(address), ..Self::new(name) }
    }

    /// As `decide` finds it in a world.
    pub(super) fn placed(&self, world: &World) -> facts::End<'_> {
        let principal = self.principal.as_deref();
        if let Some((id, workload)) = self.workload.and_then(|id| Some((id, world.registry().workload(id)?))) {
            return match self.address.as_ref().or_else(|| workload.ips.first()) {
                Some(address) if workload.host_network => facts::End { principal, ..world.source(*address) },
                address => {
                    facts::End { address: address.map(IpAddr::to_canonical), place: Place::Workload(id), principal }
                }
            };
        }
        if let Some(service) = self.service.and_then(|id| world.registry().service(id)) {
            let address = self.address.or_else(|| service.ips.first().copied());
            return facts::End { address, place: Place::Unknown, principal };
        }
        match self.address {
            Some(address) => facts::End { principal, ..world.source(address) },
            None => facts::End { address: None, place: Place::Unknown, principal },
        }
    }
}

/// Whatever the policies of some worlds ask about ends.
struct Questions {
    /// Each once.
    atoms: Vec<Atom>,
    /// Something depends on which node an end is or is on.
    nodes: bool,
    nets: BTreeSet<IpNet>,
    /// Patterns of proven identities.
    principals: Vec<Pattern>,
    asks_proof: bool,
    /// Some workload takes proven peers alone.
    refuses_plaintext: bool,
    accounts: Accounts,
    fqdns: Vec<Pattern>,
    annotations: BTreeSet<Arc<str>>,
}

/// Namespaces and service accounts that rules name.
#[derive(Default)]
struct Accounts {
    namespaces: BTreeSet<Arc<str>>,
    names: BTreeSet<Arc<str>>,
    /// Those that one condition asks for together.
    pairs: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Something is asked of the namespace or the account, named or not.
    are_asked: bool,
}

impl Accounts {
    fn note(&mut self, condition: &Expr) {
        match condition {
            Expr::True | Expr::False => {}
            Expr::Is(Atom::Peer(peer)) => match peer {
                PeerAtom::Namespace(name) => self.are_asked |= self.namespaces.insert(Arc::clone(name)),
                PeerAtom::ServiceAccount(name) => self.are_asked |= self.names.insert(Arc::clone(name)),
                PeerAtom::NamespaceLabels(_) | PeerAtom::Service { .. } | PeerAtom::ServiceNamed { .. } => {
                    self.are_asked = true;
                }
                _ => {}
            },
            Expr::Is(_) => {}
            Expr::Any(parts) => parts.iter().for_each(|part| self.note(part)),
            Expr::All(parts) => {
                parts.iter().for_each(|part| self.note(part));
                let namespace = parts.iter().find_map(|part| match part {
                    Expr::Is(Atom::Peer(PeerAtom::Namespace(name))) => Some(name),
                    _ => None,
                });
                let account = parts.iter().find_map(|part| match part {
                    Expr::Is(Atom::Peer(PeerAtom::ServiceAccount(name))) => Some(name),
                    _ => None,
                });
                self.pairs.extend(namespace.zip(account).map(|(one, other)| (Arc::clone(one), Arc::clone(other))));
            }
            Expr::Not(inner) => self.note(inner),
        }
    }

    /// Namespaces with accounts that rules can tell apart, and those of the registry: all combinations where they are
    /// few, else those that somebody has or one condition names.
    fn told_apart(&self, registry: &Registry) -> BTreeSet<(Arc<str>, Arc<str>)> {
        if !self.are_asked {
            return BTreeSet::new();
        }
        let other: Arc<str> = Arc::from("other");
        let held = || registry.workloads.iter();
        let mut namespaces: BTreeSet<Arc<str>> = held().map(|held| Arc::from(&*held.namespace)).collect();
        namespaces.extend(self.namespaces.iter().cloned().chain([Arc::clone(&other)]));
        let mut names = self.names.clone();
        names.insert(Arc::clone(&other));
        if namespaces.len() * names.len() <= COMBINATIONS {
            let with = |namespace: &Arc<str>| {
                let namespace = Arc::clone(namespace);
                names.iter().map(move |name| (Arc::clone(&namespace), Arc::clone(name)))
            };
            return namespaces.iter().flat_map(with).collect();
        }
        let mut pairs = self.pairs.clone();
        pairs.extend(held().map(|held| (Arc::from(&*held.namespace), Arc::from(&*held.service_account))));
        pairs.extend(namespaces.into_iter().map(|namespace| (namespace, Arc::clone(&other))));
        pairs.extend(names.into_iter().map(|name| (Arc::clone(&other), name)));
        pairs
    }
}

/// Of namespaces and accounts.
const COMBINATIONS: usize = 1024;

impl Questions {
    fn of(worlds: &[&World]) -> Self {
        let mut questions = Self {
            atoms: Vec::new(),
            nodes: false,
            nets: BTreeSet::new(),
            principals: Vec::new(),
            asks_proof: false,
            refuses_plaintext: false,
            accounts: Accounts::default(),
            fqdns: Vec::new(),
            annotations: BTreeSet::new(),
        };
        let mut seen = hashbrown::HashSet::<[u8; 32], foldhash::fast::RandomState>::default();
        for world in worlds {
            let model = world.model();
            questions.nets.extend(model.settings.networks.iter().chain(&model.settings.node_networks));
            for policy in &model.policies {
                for rule in &policy.rules {
                    questions.accounts.note(&rule.condition);
                    visit(&rule.condition, &mut |atom| {
                        if seen.insert(content::of_atom(atom)) {
                            questions.note(atom);
                        }
                    });
                }
            }
        }
        let is_strict = |world: &&World| {
            world.registry().workloads.iter().any(|held| held.inbound_mutual_tls() == InboundMutualTls::Strict)
        };
        questions.refuses_plaintext = worlds.iter().any(is_strict);
        questions.asks_proof |= questions.refuses_plaintext;
        questions.nodes |=
            worlds.iter().any(|world| world.registry().workloads.iter().any(|held| !held.probes.is_empty()));
        questions
    }

    fn note(&mut self, atom: &Atom) {
        match atom {
            Atom::Subject(peer) | Atom::Peer(peer) | Atom::Located(peer) => {
                match peer {
                    PeerAtom::Cidr { net, .. } => {
                        self.nets.insert(*net);
                    }
                    PeerAtom::Node(NodeScope::Own) => self.nodes = true,
                    PeerAtom::Principal { is, .. } => {
                        self.asks_proof = true;
                        self.principals.extend(is.iter().cloned());
                    }
                    PeerAtom::Proven => self.asks_proof = true,
                    PeerAtom::Fqdn(is) => self.fqdns.extend(is.iter().cloned()),
                    _ => {}
                }
                self.atoms.push(atom.clone());
            }
            Atom::Text { of: Text::PeerPrincipal, is, .. } => {
                self.asks_proof = true;
                self.principals.extend(is.iter().cloned());
                self.atoms.push(atom.clone());
            }
            Atom::Present(Text::PeerPrincipal) => {
                self.asks_proof = true;
                self.atoms.push(atom.clone());
            }
            Atom::Port(PortAtom::Annotated(key)) => {
                self.annotations.insert(Arc::clone(key));
            }
            _ => {}
        }
    }
}

pub(super) fn visit(condition: &Expr, see: &mut impl FnMut(&Atom)) {
    match condition {
        Expr::True | Expr::False => {}
        Expr::Is(atom) => see(atom),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| visit(part, see)),
        Expr::Not(inner) => visit(inner, see),
    }
}

impl Ends {
    /// Everybody whom the policies of these worlds, which share a registry, can tell from others.
    ///
    /// # Errors
    /// The budget is used up over patterns of identities or names.
    pub(super) fn of(worlds: &[&World], budget: &mut Budget) -> Result<Self, Undecided> {
        let Some(first) = worlds.first() else { return Ok(Self { sources: Vec::new(), destinations: Vec::new() }) };
        let registry = first.registry();
        let questions = Questions::of(worlds);
        let mut places = workloads(registry);
        places.extend(addresses(registry, &questions, worlds));
        let mut sources = places.clone();
        if questions.asks_proof {
            sources.extend(proven(&places, worlds));
        }
        sources.extend(strangers(&places, &questions, worlds, budget)?);
        let mut destinations = places;
        destinations.extend(named(&destinations, &questions, first, budget)?);
        let signer = Signer { worlds, questions: &questions };
        let mut destinations = signer.group(destinations, Direction::Inbound);
        destinations.extend((0u32..).zip(&registry.services).flat_map(|(id, service)| {
            let end = End {
                service: Some(ServiceId(id)),
                ..End::new(format!("service {}/{}", service.namespace, service.name))
            };
            at_each(end, &service.ips).map(Group::of)
        }));
        Ok(Self { sources: signer.group(sources, Direction::Outbound), destinations })
    }
}

/// Workloads that have their own addresses, or none.
fn workloads(registry: &Registry) -> Vec<End> {
    let own = (0u32..).zip(&registry.workloads).filter(|(_, held)| !held.host_network || held.ips.is_empty());
    own.flat_map(|(id, held)| {
        let end = End { workload: Some(WorkloadId(id)), ..End::new(format!("{}/{}", held.namespace, held.name)) };
        at_each(end, &held.ips)
    })
    .collect()
}

/// An end at the first of its addresses, which need not be said, and at each of the others.
fn at_each(end: End, addresses: &[IpAddr]) -> impl Iterator<Item = End> {
    let others: Vec<End> = addresses
        .iter()
        .skip(1)
        .map(|address| End { address: Some(*address), name: format!("{} at {address}", end.name), ..end.clone() })
        .collect();
    std::iter::once(end).chain(others)
}

/// Nodes, addresses that several claim, and one address for each cell of the networks that rules and settings name.
fn addresses(registry: &Registry, questions: &Questions, worlds: &[&World]) -> Vec<End> {
    let mut ends = Vec::new();
    let mut node_addresses = BTreeSet::new();
    for node in &registry.nodes {
        if let Some(address) = node.ips.first().map(IpAddr::to_canonical) {
            node_addresses.insert(address);
            ends.push(End::at(format!("node {}", node.name), address));
        }
    }
    let mut owned = BTreeSet::new();
    for workload in &registry.workloads {
        for address in workload.ips.iter().map(IpAddr::to_canonical) {
            let others = workload.host_network && !node_addresses.contains(&address);
            if owned.insert(address) && (others || registry.is_contested(address)) {
                let why = if registry.is_contested(address) { "with several owners" } else { "of a host" };
                ends.push(End::at(format!("{address} ({why})"), address));
            }
        }
    }
    owned.extend(node_addresses);
    owned.extend(registry.services.iter().flat_map(|service| &service.ips).map(IpAddr::to_canonical));
    owned.extend(registry.nodes.iter().flat_map(|node| &node.ips).map(IpAddr::to_canonical));
    let cells = Cells::of(questions.nets.iter().copied(), |address| owned.contains(&address));
    ends.extend(cells.into_iter().map(|address| {
        let what = match worlds.first().map(|world| world.source(address).place) {
            Some(Place::External) => "external",
            Some(Place::Node(_)) => "an unregistered node",
            _ => "unregistered, in the cluster",
        };
        let inside: Vec<&IpNet> = questions.nets.iter().filter(|net| net.contains(&address)).collect();
        let nearest = inside.iter().max_by_key(|net| net.prefix_len());
        let name = match nearest {
            Some(net) => format!("addresses of {net} ({what})"),
            None if address.is_ipv4() => format!("other IPv4 addresses ({what})"),
            None => format!("other IPv6 addresses ({what})"),
        };
        End::at(name, address)
    }));
    ends
}

/// Workloads that prove to be themselves by mTLS.
fn proven(places: &[End], worlds: &[&World]) -> Vec<End> {
    let mut ends = Vec::new();
    for end in places {
        let mut identities = BTreeSet::new();
        for world in worlds {
            let Some(workload) = end.workload.and_then(|id| world.registry().workload(id)) else { continue };
            let settings = &world.model().settings;
            let (namespace, account) = (&workload.namespace, &workload.service_account);
            identities.insert(workload.spiffe_id(&settings.trust_domain));
            if world.model().policies.iter().any(|policy| policy.stack == Stack::Linkerd) {
                let linkerd = &settings.linkerd;
                let domain = linkerd.trust_domain.as_ref().unwrap_or(&settings.trust_domain);
                let plane = &linkerd.control_plane_namespace;
                identities.insert(format!("{account}.{namespace}.serviceaccount.identity.{plane}.{domain}"));
            }
        }
        ends.extend(identities.into_iter().map(|identity| End {
            name: format!("{} proven as {identity}", end.name),
            principal: Some(identity.into()),
            ..end.clone()
        }));
    }
    ends
}

/// Identities that rules name, describe or can tell apart, proven from addresses where nobody is registered.
fn strangers(
    places: &[End],
    questions: &Questions,
    worlds: &[&World],
    budget: &mut Budget,
) -> Result<Vec<End>, Undecided> {
    let Some(first) = worlds.first() else { return Ok(Vec::new()) };
    let mut ends = Vec::new();
    let mut identities: BTreeSet<String> = BTreeSet::new();
    if questions.asks_proof {
        identities.extend(witnesses(&questions.principals, "[!-~]+", budget)?);
    }
    for (namespace, account) in questions.accounts.told_apart(first.registry()) {
        let domains = worlds.iter().map(|world| &world.model().settings.trust_domain);
        identities.extend(domains.map(|domain| format!("spiffe://{domain}/ns/{namespace}/sa/{account}")));
    }
    let at = |place: fn(Place) -> bool| {
        let is_nobodys = |address| first.registry().claimants(address).is_empty();
        places
            .iter()
            .find(|end| end.workload.is_none() && end.address.is_some_and(is_nobodys) && place(end.placed(first).place))
    };
    let (inside, outside) = (at(|place| place == Place::Unknown), at(|place| place == Place::External));
    for identity in identities {
        let foreign =
            worlds.iter().all(|world| cluster_account(&identity, &world.model().settings.trust_domain).is_none());
        let identity: Arc<str> = identity.into();
        let everywhere = inside.into_iter().chain(outside.filter(|_| foreign || inside.is_none()));
        ends.extend(everywhere.map(|end| End {
            name: format!("{identity} proven at {}", end.name),
            principal: Some(Arc::clone(&identity)),
            ..end.clone()
        }));
    }
    Ok(ends)
}

/// External addresses that were resolved from names of which rules speak.
fn named(places: &[End], questions: &Questions, world: &World, budget: &mut Budget) -> Result<Vec<End>, Undecided> {
    if questions.fqdns.is_empty() {
        return Ok(Vec::new());
    }
    let outside: Vec<&End> =
        places.iter().filter(|end| end.workload.is_none() && end.placed(world).place == Place::External).collect();
    let names = witnesses(&questions.fqdns, r"[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)*", budget)?;
    Ok(names
        .into_iter()
        .flat_map(|name| {
            let name: Arc<str> = name.into();
            outside.iter().take(1).map(move |end| End {
                name: format!("{name} at {}", end.name),
                fqdn: Some(Arc::clone(&name)),
                ..(*end).clone()
            })
        })
        .collect())
}

/// One text for each combination of these patterns that some text of the domain has.
fn witnesses(patterns: &[Pattern], domain: &str, budget: &mut Budget) -> Result<Vec<String>, Undecided> {
    let mut unique: Vec<&Pattern> = Vec::new();
    for pattern in patterns {
        if !unique.contains(&pattern) {
            unique.push(pattern);
        }
    }
    let mut elements = Vec::new();
    for pattern in unique {
        elements.push(Element::new(Lift::Whole, vec![Machine::of(pattern)?]));
    }
    let machine = Machine::expression(&format!("^(?:{domain})$")).map_err(|()| Undecided::Budget)?;
    let mut domain = Element::new(Lift::Whole, vec![machine]);
    let classes = product::classes(&mut domain, &mut elements, false, budget)?;
    let text = |value: &[u16]| values(value).concat();
    Ok(classes.iter().filter_map(|class| String::from_utf8(text(&class.value)).ok()).collect())
}

struct Signer<'a> {
    worlds: &'a [&'a World],
    questions: &'a Questions,
}

/// What an end is, as far as anybody asks.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Signature {
    truths: Vec<u8>,
    selected: Vec<u32>,
    node: Option<String>,
    ports: Vec<String>,
    is_workload: bool,
    is_proven: bool,
    /// In each world.
    inbound: Vec<Option<InboundMutualTls>>,
    /// Who is asked at an address with several owners.
    claimants: Vec<Claimant>,
}

impl Signer<'_> {
    fn group(&self, ends: Vec<End>, as_subject: Direction) -> Vec<Group> {
        let mut groups: BTreeMap<Signature, usize> = BTreeMap::new();
        let mut ordered: Vec<Group> = Vec::new();
        for end in ends {
            let signature = self.signature(&end, as_subject);
            match groups.get(&signature).and_then(|at| ordered.get_mut(*at)) {
                // At another of its addresses it is the same member.
                Some(group)
                    if end.address.is_some() && end.workload.is_some_and(|id| group.workloads.contains(&id)) => {}
                Some(group) => {
                    let Group { members, workloads, strangers, .. } = Group::of(end);
                    group.members.extend(members);
                    group.workloads.extend(workloads);
                    group.strangers.extend(strangers);
                }
                None => {
                    groups.insert(signature, ordered.len());
                    ordered.push(Group::of(end));
                }
            }
        }
        ordered
    }

    fn signature(&self, end: &End, as_subject: Direction) -> Signature {
        let mut truths = Vec::new();
        let mut selected = Vec::new();
        for world in self.worlds {
            let here = end.placed(world);
            let nobody = facts::End { address: None, place: Place::Unknown, principal: None };
            let subject = match here.place {
                Place::Workload(id) => id,
                _ => WorkloadId(u32::MAX),
            };
            let leg = |direction, source, destination, subject| Leg {
                model: world.model(),
                registry: world.registry(),
                direction,
                subject,
                source,
                destination: Destination { end: destination, workload: end.workload, dialled: None, port: Some(0) },
                transport: Transport::Tcp,
                fqdn: end.fqdn.as_deref(),
            };
            // As the peer of somebody else, and as the workload whose policies are asked.
            let (as_peer, as_subject) = match as_subject {
                Direction::Outbound => (
                    leg(Direction::Inbound, here, nobody, WorkloadId(u32::MAX)),
                    leg(Direction::Outbound, here, nobody, subject),
                ),
                Direction::Inbound => (
                    leg(Direction::Outbound, nobody, here, WorkloadId(u32::MAX)),
                    leg(Direction::Inbound, nobody, here, subject),
                ),
            };
            let request = Request::opaque(Fact::Unknown, 0);
            let value = |atom: &Atom, leg: &Leg<'_>| {
                let truth =
                    truth::connection(atom, leg).unwrap_or_else(|| truth::of(&Expr::Is(atom.clone()), leg, &request));
                match truth {
                    Truth::False => 0,
                    Truth::Unknown => 1,
                    Truth::True => 2,
                }
            };
            for atom in &self.questions.atoms {
                match atom {
                    Atom::Subject(_) if subject.0 == u32::MAX => truths.push(3),
                    Atom::Subject(_) => truths.push(value(atom, &as_subject)),
                    _ => truths.push(value(atom, &as_peer)),
                }
            }
            if subject.0 != u32::MAX {
                let policies = (0u32..).zip(&world.model().policies);
                selected.extend(policies.filter(|(_, held)| tier::selects(held, &as_subject)).map(|(at, _)| at));
                selected.push(u32::MAX);
                let workload = world.registry().workload(subject);
                let emergencies = (0u32..).zip(&world.model().break_glass);
                let opens = emergencies.filter(|(_, glass)| workload.is_some_and(|held| glass.subject.selects(held)));
                selected.extend(opens.map(|(at, _)| at));
            }
            selected.push(u32::MAX);
        }
        Signature {
            truths,
            selected,
            node: self.node(end),
            ports: self.ports(end),
            is_workload: end.workload.is_some(),
            is_proven: self.questions.refuses_plaintext && end.principal.is_some(),
            inbound: self.inbound(end, as_subject),
            claimants: self.claimants(end).to_vec(),
        }
    }

    /// Which peers a destination takes.
    fn inbound(&self, end: &End, role: Direction) -> Vec<Option<InboundMutualTls>> {
        if role == Direction::Outbound {
            return Vec::new();
        }
        let mode = |world: &&World| match end.placed(world).place {
            Place::Workload(id) => world.registry().workload(id).map(Workload::inbound_mutual_tls),
            _ => None,
        };
        self.worlds.iter().map(mode).collect()
    }

    fn claimants(&self, end: &End) -> &[Claimant] {
        match (self.worlds.first(), end.workload, end.address) {
            (Some(world), None, Some(address)) => world.registry().claimants(address),
            _ => &[],
        }
    }

    fn node(&self, end: &End) -> Option<String> {
        if !self.questions.nodes {
            return None;
        }
        let world = self.worlds.first()?;
        let registry = world.registry();
        match end.placed(world).place {
            Place::Workload(id) => registry.workload(id)?.node.as_ref().map(ToString::to_string),
            Place::Node(id) => Some(format!("node {:?}", id.and_then(|id| registry.node(id)).map(|node| &node.name))),
            _ => None,
        }
    }

    /// Ports and probes, and what annotations say of ports.
    fn ports(&self, end: &End) -> Vec<String> {
        let registry = self.worlds.first().map(|world| world.registry());
        let Some(workload) = end.workload.and_then(|id| registry?.workload(id)) else { return Vec::new() };
        let mut ports: Vec<String> = workload
            .ports
            .iter()
            .map(|port| format!("{:?} {} {:?}", port.name, port.port, port.transport))
            .chain(workload.probes.iter().map(|probe| format!("{probe:?}")))
            .collect();
        ports.extend(self.questions.annotations.iter().filter_map(|key| workload.annotation(key).map(str::to_owned)));
        ports.sort_unstable();
        ports
    }
}
