//! Who is where: workloads, services and nodes, and which address belongs to whom.
//!
//! A registry is immutable; a change of the workloads file makes a new one. It knows nothing of policies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use crate::facts::{Place, Transport};
use crate::pace;
use crate::settings::Settings;

pub mod kubernetes;
pub(crate) mod load;

/// Index of a workload in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId(pub u32);

/// Index of a service in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

/// Index of a node in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Labels or annotations.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A port that a workload declares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeclaredPort {
    /// Name, where it has one.
    pub name: Option<Arc<str>>,
    /// Number.
    pub port: u16,
    /// Transport.
    pub transport: Transport,
    /// Application protocol, declared by `appProtocol` or by the name (`http`, `grpc-metrics`, ...).
    pub application: Option<ApplicationProtocol>,
}

/// What a port is declared to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplicationProtocol {
    /// HTTP/1 or HTTP/2 with prior knowledge, told apart by the preface.
    Http,
    /// HTTP/2 with prior knowledge, gRPC included.
    Http2,
    /// gRPC.
    Grpc,
    /// TLS passed through.
    Tls,
    /// Opaque.
    Tcp,
}

/// A probe that a pod's spec declares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Exact port.
    pub port: u16,
    /// Exact path of an HTTP probe; `None` for a TCP connect.
    pub path: Option<Arc<str>>,
    /// Method, `GET` by default.
    pub method: Arc<str>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Pod or workload name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Service account, `default` where none is given.
    pub service_account: Arc<str>,
    /// Labels of the pod.
    pub labels: Labels,
    /// Labels of its namespace; `kubernetes.io/metadata.name` is always there.
    pub namespace_labels: Labels,
    /// Annotations of the pod.
    pub annotations: Labels,
    /// Annotations of its namespace.
    pub namespace_annotations: Labels,
    /// Name of the node it runs on.
    pub node: Option<Arc<str>>,
    /// Shares its node's network namespace: its address is the node's.
    pub host_network: bool,
    /// Path of its network namespace, for node mode.
    pub netns: Option<Arc<str>>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Ports it declares.
    pub ports: Vec<DeclaredPort>,
    /// Probes its spec declares.
    pub probes: Vec<Probe>,
}

impl Workload {
    /// The value of an annotation: the pod's own, else its namespace's.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).or_else(|| self.namespace_annotations.get(key)).map(|value| &**value)
    }
}

/// The annotation that says whether a workload takes plaintext: `strict`, `permissive` or `disabled`.
pub const INBOUND_MUTUAL_TLS: &str = "eastwall.dev/inbound-mtls";

/// The annotation that says that a workload can be reached through HBONE.
pub const HBONE: &str = "eastwall.dev/hbone";

/// The same of Istio's ambient mesh: its node proxy serves the pod.
const AMBIENT: &str = "ambient.istio.io/redirection";

/// What stands before the `/` of every annotation of a pod or namespace that a verdict can depend on.
pub const ANNOTATION_GROUPS: [&str; 3] = ["ambient.istio.io", "config.linkerd.io", "eastwall.dev"];

/// Which peers a workload takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundMutualTls {
    /// In plaintext alone.
    Disabled,
    /// Both in plaintext and with mutual TLS.
    #[default]
    Permissive,
    /// With mutual TLS alone, but for the probes that it declares.
    Strict,
}

impl std::fmt::Display for InboundMutualTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Permissive => "permissive",
            Self::Strict => "strict",
        })
    }
}

impl Workload {
    /// Which peers it takes. Whoever writes a pod cannot weaken what its namespace demands: `strict` at either is
    /// strict. A word that nobody knows is strict too.
    #[must_use]
    pub fn inbound_mutual_tls(&self) -> InboundMutualTls {
        let read = |annotations: &Labels| {
            annotations.get(INBOUND_MUTUAL_TLS).map(|word| match &**word {
                "disabled" => InboundMutualTls::Disabled,
                "permissive" => InboundMutualTls::Permissive,
                _ => InboundMutualTls::Strict,
            })
        };
        match (read(&self.annotations), read(&self.namespace_annotations)) {
            (Some(InboundMutualTls::Strict), _) | (_, Some(InboundMutualTls::Strict)) => InboundMutualTls::Strict,
            (Some(own), _) => own,
            (None, namespace) => namespace.unwrap_or_default(),
        }
    }

    /// Whether its proxy takes HBONE.
    #[must_use]
    pub fn speaks_hbone(&self) -> bool {
        [HBONE, AMBIENT].iter().any(|key| self.annotations.get(*key).is_some_and(|word| &**word == "enabled"))
            && self.inbound_mutual_tls() != InboundMutualTls::Disabled
    }

    /// Its SPIFFE id in this trust domain, as Istio spells it.
    #[must_use]
    pub fn spiffe_id(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", self.namespace, self.service_account)
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name.
    pub name: Option<Arc<str>>,
    /// Port of the Service.
    pub port: u16,
    /// Port of the endpoint: number, or the name of a port of the endpoint.
    pub target: TargetPort,
    /// Transport.
    pub transport: Transport,
}

/// See [`ServicePort::target`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name that the endpoint declares.
    Name(Arc<str>),
}

/// A Kubernetes Service: addresses in front of ready endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Cluster addresses; empty for a headless one.
    pub ips: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Ready endpoints.
    pub endpoints: Vec<WorkloadId>,
    /// Addresses of ready endpoints that are no workload: of nodes, or outside of the cluster.
    pub elsewhere: Vec<IpAddr>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name.
    pub name: Arc<str>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// All that is known of who is where.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Workloads; a [`WorkloadId`] is an index.
    pub workloads: Vec<Workload>,
    /// Services; a [`ServiceId`] is an index.
    pub services: Vec<Service>,
    /// Nodes; a [`NodeId`] is an index.
    pub nodes: Vec<Node>,
    by_address: Map<IpAddr, Owner>,
    /// Everybody who claims an address that several do.
    contested: Map<IpAddr, Vec<Claimant>>,
    doubt: Option<Doubt>,
    /// Indexed when first asked for: a change of an address asks for no name.
    workload_names: OnceLock<Names>,
    service_names: OnceLock<Names>,
}

/// Positions by namespace and name; of two of the same name the first.
type Names = Map<Arc<str>, Map<Arc<str>, u32>>;

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// One owner of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claimant {
    /// A workload.
    Workload(WorkloadId),
    /// A node.
    Node(NodeId),
    /// A Service.
    Service(ServiceId),
}

/// See [`Registry::doubted`].
#[derive(Clone, Copy, Debug)]
struct Doubt {
    own_node: Option<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    One(Claimant),
    Several,
}

impl Registry {
    /// Indexes addresses. An address with two owners is nobody's; a `hostNetwork` workload owns none.
    #[must_use]
    pub fn new(workloads: Vec<Workload>, services: Vec<Service>, nodes: Vec<Node>) -> Self {
        let owners = workloads.len() + services.len() + nodes.len();
        let mut by_address: Map<IpAddr, Owner> = Map::with_capacity_and_hasher(owners, Default::default());
        let mut contested: Map<IpAddr, Vec<Claimant>> = Map::default();
        let mut claim = |address: IpAddr, claimant: Claimant| {
            let address = address.to_canonical();
            let held = by_address.entry(address).or_insert(Owner::One(claimant));
            match *held {
                Owner::One(first) if first == claimant => {}
                Owner::One(first) => {
                    *held = Owner::Several;
                    contested.insert(address, vec![first, claimant]);
                }
                Owner::Several => contested.entry(address).or_default().push(claimant),
            }
        };
        for (index, workload) in (0u32..).zip(&workloads) {
            pace::tick();
            if !workload.host_network {
                workload.ips.iter().for_each(|ip| claim(*ip, Claimant::Workload(WorkloadId(index))));
            }
        }
        for (index, node) in (0u32..).zip(&nodes) {
            node.ips.iter().for_each(|ip| claim(*ip, Claimant::Node(NodeId(index))));
        }
        for (index, service) in (0u32..).zip(&services) {
            service.ips.iter().for_each(|ip| claim(*ip, Claimant::Service(ServiceId(index))));
        }
        Self { workloads, services, nodes, by_address, contested, ..Self::default() }
    }

    /// The same entries, with what another registry says of who may come in plaintext: of each workload that it has too.
    #[must_use]
    pub fn with_inbound_mutual_tls_of(&self, other: &Self) -> Self {
        let mut whole = self.clone();
        for workload in &mut whole.workloads {
            let held = other.find_workload(&workload.namespace, &workload.name);
            let Some(held) = held.and_then(|id| other.workload(id)) else { continue };
            let copies = [
                (&held.annotations, &mut workload.annotations),
                (&held.namespace_annotations, &mut workload.namespace_annotations),
            ];
            for (from, to) in copies {
                match from.get(INBOUND_MUTUAL_TLS) {
                    Some(word) => to.insert(INBOUND_MUTUAL_TLS.into(), Arc::clone(word)),
                    None => to.remove(INBOUND_MUTUAL_TLS),
                };
            }
        }
        whole
    }

    /// The same entries, none of which proves who a peer is any more: anybody may have come to an address since. Who is
    /// protected stays as it is, and so do the addresses of the node that asks, which nobody else has while it runs.
    #[must_use]
    pub fn doubted(&self, own_node: Option<&str>) -> Self {
        let own_node = self.nodes.iter().position(|node| Some(&*node.name) == own_node);
        let own_node = own_node.and_then(|index| u32::try_from(index).ok()).map(NodeId);
        Self { doubt: Some(Doubt { own_node }), ..self.clone() }
    }

    /// Whether it proves nothing: see [`Registry::doubted`].
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.doubt.is_some()
    }

    /// What is left of a place where a peer was found.
    pub(crate) fn believed(&self, place: Place) -> Place {
        match (self.doubt, place) {
            (Some(_), Place::Workload(_)) => Place::Unknown,
            (Some(doubt), Place::Node(Some(id))) if doubt.own_node != Some(id) => Place::Unknown,
            _ => place,
        }
    }

    /// Who is at an address, as a peer.
    #[must_use]
    pub fn place(&self, address: IpAddr, settings: &Settings) -> Place {
        let address = address.to_canonical();
        match self.by_address.get(&address) {
            Some(Owner::One(Claimant::Workload(id))) => Place::Workload(*id),
            Some(Owner::One(Claimant::Node(id))) => Place::Node(Some(*id)),
            Some(Owner::One(Claimant::Service(_)) | Owner::Several) => Place::Unknown,
            None if settings.node_networks.iter().any(|net| net.contains(&address)) => Place::Node(None),
            None if settings.networks.iter().any(|net| net.contains(&address)) => Place::Unknown,
            None => Place::External,
        }
    }

    /// The Service that owns an address.
    #[must_use]
    pub fn service_at(&self, address: IpAddr) -> Option<ServiceId> {
        match self.by_address.get(&address.to_canonical()) {
            Some(Owner::One(Claimant::Service(id))) => Some(*id),
            _ => None,
        }
    }

    /// Whether two owners claim this address, or may by now.
    #[must_use]
    pub fn is_contested(&self, address: IpAddr) -> bool {
        match self.by_address.get(&address.to_canonical()) {
            Some(Owner::Several) => true,
            Some(Owner::One(Claimant::Workload(_))) => self.is_doubted(),
            _ => false,
        }
    }

    /// Everybody who claims an address with several owners; nobody of any other.
    #[must_use]
    pub fn claimants(&self, address: IpAddr) -> &[Claimant] {
        self.contested.get(&address.to_canonical()).map(Vec::as_slice).unwrap_or_default()
    }

    /// The workload with this index.
    #[must_use]
    pub fn workload(&self, id: WorkloadId) -> Option<&Workload> {
        self.workloads.get(id.0 as usize)
    }

    /// The service with this index.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.0 as usize)
    }

    /// The node with this index.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    /// The workload with this namespace and name.
    #[must_use]
    pub fn find_workload(&self, namespace: &str, name: &str) -> Option<WorkloadId> {
        let held = self.workloads.iter().map(|workload| (&workload.namespace, &workload.name));
        self.workload_names.get_or_init(|| names(held)).get(namespace)?.get(name).copied().map(WorkloadId)
    }

    /// The service with this namespace and name.
    #[must_use]
    pub fn find_service(&self, namespace: &str, name: &str) -> Option<ServiceId> {
        let held = self.services.iter().map(|service| (&service.namespace, &service.name));
        self.service_names.get_or_init(|| names(held)).get(namespace)?.get(name).copied().map(ServiceId)
    }
}

/// PERF: rules ask for a Service by name at every connection, so that must not cost a walk over all of them.
fn names<'a>(all: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> Names {
    let mut names = Names::default();
    for (index, (namespace, name)) in (0u32..).zip(all) {
        names.entry(Arc::clone(namespace)).or_default().entry(Arc::clone(name)).or_insert(index);
    }
    names
}
