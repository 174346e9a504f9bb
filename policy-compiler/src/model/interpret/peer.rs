//! Who an end is, and what a rule's questions about it come to.

use std::net::IpAddr;

use ipnet::IpNet;

use super::leg::Party;
use super::pattern;
use crate::facts::{Place, Truth};
use crate::model::{CidrScope, NodeScope, PeerAtom, PlaintextPrincipal, Selector};
use crate::registry::{Labels, Registry, Workload};
use crate::settings::Settings;

/// Who an end is: its proven identity where there is one, else the workload registered at its address.
#[derive(Clone, Copy, Debug)]
enum Identity<'a> {
    /// Namespace and account of a workload of this cluster.
    Account { namespace: &'a str, account: &'a str },
    /// Known to be no workload of this cluster: external, a node, or proven under a foreign identity.
    Nobody,
    /// Nobody knows.
    Unknown,
}

/// The truth of one question about one end. `subject` is the protected workload (for `node: Own`).
pub(crate) fn truth(
    atom: &PeerAtom,
    party: &Party<'_>,
    subject: Option<&Workload>,
    registry: &Registry,
    settings: &Settings,
) -> Truth {
    match atom {
        PeerAtom::Namespace(name) => match identity(party, registry, settings) {
            Identity::Account { namespace, .. } => (namespace == &**name).into(),
            Identity::Nobody => Truth::False,
            Identity::Unknown => Truth::Unknown,
        },
        PeerAtom::ServiceAccount(name) => match identity(party, registry, settings) {
            Identity::Account { account, .. } => (account == &**name).into(),
            Identity::Nobody => Truth::False,
            Identity::Unknown => Truth::Unknown,
        },
        PeerAtom::NamespaceLabels(selector) => match identity(party, registry, settings) {
            Identity::Account { namespace, .. } => namespace_labels(selector, namespace, party, registry),
            Identity::Nobody => Truth::False,
            Identity::Unknown => Truth::Unknown,
        },
        PeerAtom::Labels(selector) => {
            of_workload(party, registry, settings, |workload| selects(selector, &workload.labels))
        }
        PeerAtom::Annotations(selector) => {
            of_workload(party, registry, settings, |workload| selector.matches_by(|key| workload.annotation(key)))
        }
        PeerAtom::Principal { is, plaintext } => principal(is, *plaintext, party, registry, settings),
        PeerAtom::Proven => party.end.principal.is_some().into(),
        PeerAtom::Cidr { net, scope } => cidr(net, *scope, party, registry),
        PeerAtom::Service { namespace, name } => service(namespace, name, party, registry, settings),
        PeerAtom::ServiceNamed { name, namespaces } => {
            let of_name = registry.services.iter().filter(|service| service.name == *name);
            of_name.fold(Truth::False, |truth, found| {
                let labels = namespace_labels(namespaces, &found.namespace, party, registry);
                truth.or(service(&found.namespace, name, party, registry, settings).and(labels))
            })
        }
        PeerAtom::Node(scope) => node(*scope, party, subject, registry),
        PeerAtom::Workload => match party.end.place {
            Place::Workload(_) => Truth::True,
            Place::Unknown => Truth::Unknown,
            Place::Node(_) | Place::External => Truth::False,
        },
        PeerAtom::External => match party.end.place {
            Place::External => Truth::True,
            Place::Unknown => Truth::Unknown,
            Place::Node(_) | Place::Workload(_) => Truth::False,
        },
        PeerAtom::Fqdn(is) => {
            let resolved = |name: &str| is.iter().any(|pattern| pattern::matches(pattern, name.as_bytes()));
            party.fqdn.is_some_and(resolved).into()
        }
    }
}

/// A question about the workload at the address: with a proven principal its answer counts only if that is its own.
fn of_workload(
    party: &Party<'_>,
    registry: &Registry,
    settings: &Settings,
    answer: impl FnOnce(&Workload) -> bool,
) -> Truth {
    match (registered(party, registry), party.end.principal) {
        (Some(workload), None) => answer(workload).into(),
        (Some(workload), Some(_)) if is_same(workload, identity(party, registry, settings)) => answer(workload).into(),
        (_, Some(_)) => Truth::Unknown,
        (None, None) => unregistered(party),
    }
}

/// Whether labels satisfy a selector.
pub(crate) fn selects(selector: &Selector, labels: &Labels) -> bool {
    selector.matches(labels)
}

/// Namespace and account of a SPIFFE id of this trust domain; `None` for every other identity.
pub(crate) fn cluster_account<'p>(principal: &'p str, trust_domain: &str) -> Option<(&'p str, &'p str)> {
    let mut parts = principal.strip_prefix("spiffe://")?.split('/');
    let domain = parts.next()?;
    let (Some("ns"), Some(namespace), Some("sa"), Some(account), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    (domain == trust_domain && !namespace.is_empty() && !account.is_empty()).then_some((namespace, account))
}

fn identity<'a>(party: &Party<'a>, registry: &'a Registry, settings: &Settings) -> Identity<'a> {
    if let Some(principal) = party.end.principal {
        return match cluster_account(principal, &settings.trust_domain) {
            Some((namespace, account)) => Identity::Account { namespace, account },
            None => Identity::Nobody,
        };
    }
    match (party.end.place, registered(party, registry)) {
        (_, Some(workload)) => Identity::Account { namespace: &workload.namespace, account: &workload.service_account },
        (Place::Node(_) | Place::External, None) => Identity::Nobody,
        (Place::Workload(_) | Place::Unknown, None) => Identity::Unknown,
    }
}

/// The workload that the registry has at the address.
fn registered<'a>(party: &Party<'_>, registry: &'a Registry) -> Option<&'a Workload> {
    match party.end.place {
        Place::Workload(id) => registry.workload(id),
        _ => None,
    }
}

/// What a question about pods comes to where no workload is registered.
fn unregistered(party: &Party<'_>) -> Truth {
    match party.end.place {
        Place::Node(_) | Place::External => Truth::False,
        Place::Workload(_) | Place::Unknown => Truth::Unknown,
    }
}

fn is_same(workload: &Workload, identity: Identity<'_>) -> bool {
    matches!(identity, Identity::Account { namespace, account }
        if *workload.namespace == *namespace && *workload.service_account == *account)
}

/// A namespace's labels as its registered workloads tell them: the one at the address first; of others they must all
/// agree. A namespace of which the registry has nobody: unknown.
fn namespace_labels(selector: &Selector, namespace: &str, party: &Party<'_>, registry: &Registry) -> Truth {
    if let Some(workload) = registered(party, registry).filter(|workload| &*workload.namespace == namespace) {
        return selects(selector, &workload.namespace_labels).into();
    }
    let mut answers = registry
        .workloads
        .iter()
        .filter(|workload| &*workload.namespace == namespace)
        .map(|workload| selects(selector, &workload.namespace_labels));
    match answers.next() {
        Some(first) if answers.all(|other| other == first) => first.into(),
        _ => Truth::Unknown,
    }
}

fn principal(
    is: &[crate::model::Pattern],
    plaintext: PlaintextPrincipal,
    party: &Party<'_>,
    registry: &Registry,
    settings: &Settings,
) -> Truth {
    let matches = |identity: &str| is.iter().any(|pattern| pattern::matches(pattern, identity.as_bytes()));
    match (party.end.principal, plaintext) {
        (Some(principal), _) => matches(principal).into(),
        (None, PlaintextPrincipal::Absent) => Truth::False,
        (None, PlaintextPrincipal::Registered) => match registered(party, registry) {
            Some(held) if matches(&held.spiffe_id(&settings.trust_domain)) => Truth::Unknown,
            Some(_) => Truth::False,
            None => unregistered(party),
        },
    }
}

fn cidr(net: &IpNet, scope: CidrScope, party: &Party<'_>, registry: &Registry) -> Truth {
    let is_service = |address: IpAddr| registry.service_at(address).is_some();
    let is_workload = |address: IpAddr| matches!(party.end.place, Place::Workload(_)) || registry.is_contested(address);
    let within = |address: IpAddr| net.contains(&address.to_canonical());
    let dialled = party.dialled.and_then(|(_, address)| address);
    let Some(address) = party.end.address.or(dialled) else { return Truth::Unknown };
    match scope {
        CidrScope::Every => {
            let endpoint = party.endpoint.and_then(|id| registry.workload(id)).filter(|_| party.dialled.is_some());
            let mut others = endpoint.map(|workload| workload.ips.as_slice()).unwrap_or_default().iter().copied();
            (within(address) || dialled.is_some_and(within) || others.any(within)).into()
        }
        CidrScope::Reached => reached(net, party, registry),
        CidrScope::Outside => {
            let named = is_workload(address)
                || matches!(party.end.place, Place::Node(_))
                || party.dialled.is_some()
                || is_service(address);
            (!named && within(address)).into()
        }
        CidrScope::NotWorkload => match dialled {
            Some(dialled) => within(dialled).into(),
            None => (!is_workload(address) && within(address)).into(),
        },
    }
}

/// Whether the address that is reached lies in a network.
fn reached(net: &IpNet, party: &Party<'_>, registry: &Registry) -> Truth {
    let within = |address: IpAddr| net.contains(&address.to_canonical());
    let endpoint = party.endpoint.and_then(|id| registry.workload(id));
    match (party.dialled, endpoint) {
        // A Service that was named without an address: at which of its own the endpoint is reached is not known.
        (Some((_, None)), Some(Workload { ips, .. })) => {
            let mut answers = ips.iter().map(|ip| within(*ip));
            match answers.next() {
                Some(first) if answers.all(|other| other == first) => first.into(),
                _ => Truth::Unknown,
            }
        }
        // Nobody is behind the Service.
        (Some((_, dialled)), None) if party.end.address == dialled => Truth::Unknown,
        _ => party.end.address.map_or(Truth::Unknown, |address| within(address).into()),
    }
}

fn service(namespace: &str, name: &str, party: &Party<'_>, registry: &Registry, settings: &Settings) -> Truth {
    let Some(id) = registry.find_service(namespace, name) else { return Truth::False };
    if registry.is_doubted() {
        return Truth::Unknown;
    }
    if party.dialled.is_some_and(|(dialled, _)| dialled == id) {
        return Truth::True;
    }
    let Some(service) = registry.service(id) else { return Truth::False };
    match (party.end.place, party.end.principal) {
        (Place::Workload(at), None) => service.endpoints.contains(&at).into(),
        // Being an endpoint is, like a label, something of the workload at the address.
        (Place::Workload(at), Some(_)) => match registry.workload(at) {
            Some(workload) if is_same(workload, identity(party, registry, settings)) => {
                service.endpoints.contains(&at).into()
            }
            _ => Truth::Unknown,
        },
        (Place::Unknown, _) => Truth::Unknown,
        (Place::External, _) => Truth::False,
        (Place::Node(_), _) if party.endpoint.is_some_and(|at| service.endpoints.contains(&at)) => Truth::True,
        // The node's address is shared: an endpoint may be behind it, or anyone else.
        (Place::Node(_), _) => {
            let here = |ip: &IpAddr| party.end.address.is_some_and(|at| at.to_canonical() == ip.to_canonical());
            let shares = service
                .endpoints
                .iter()
                .filter_map(|endpoint| registry.workload(*endpoint))
                .any(|workload| workload.host_network && workload.ips.iter().any(here));
            if shares { Truth::Unknown } else { Truth::False }
        }
    }
}

fn node(scope: NodeScope, party: &Party<'_>, subject: Option<&Workload>, registry: &Registry) -> Truth {
    match (party.end.place, scope) {
        (Place::Node(_), NodeScope::Any) => Truth::True,
        (Place::Node(Some(id)), NodeScope::Own) => {
            match (registry.node(id), subject.and_then(|subject| subject.node.as_ref())) {
                (Some(node), Some(own)) => (node.name == *own).into(),
                _ => Truth::Unknown,
            }
        }
        (Place::Node(None), NodeScope::Own) | (Place::Unknown, _) => Truth::Unknown,
        (Place::Workload(_) | Place::External, _) => Truth::False,
    }
}
