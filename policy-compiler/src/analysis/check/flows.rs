//! Connections to try a rule with: every end that the registry or the rule itself knows of.

use std::net::IpAddr;

use ipnet::IpNet;

use super::visit_positive;
use crate::facts::{Connection, Direction, End, Place, Transport};
use crate::model::{Atom, Expr, Model, Pattern, PeerAtom, PortAtom, Rule};
use crate::registry::{Registry, WorkloadId};

/// An end with its own name, so that it can be borrowed.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    address: Option<IpAddr>,
    place: Place,
    principal: Option<String>,
    fqdn: Option<String>,
}

/// Every workload, plain and proven, every node, somebody outside and somebody unknown.
pub(super) fn everybody(model: &Model, registry: &Registry) -> Vec<Candidate> {
    let plain = |address, place| Candidate { address, place, principal: None, fqdn: None };
    let mut found = Vec::new();
    for (index, workload) in (0u32..).zip(&registry.workloads) {
        let place = Place::Workload(WorkloadId(index));
        let here = plain(workload.ips.first().copied(), place);
        let domain = &model.settings.trust_domain;
        let spiffe = workload.spiffe_id(domain);
        let linkerd = &model.settings.linkerd;
        let mesh = format!(
            "{}.{}.serviceaccount.identity.{}.{}",
            workload.service_account,
            workload.namespace,
            linkerd.control_plane_namespace,
            linkerd.trust_domain.as_ref().unwrap_or(domain)
        );
        found.push(Candidate { principal: Some(spiffe), ..here.clone() });
        found.push(Candidate { principal: Some(mesh), ..here.clone() });
        found.push(here);
    }
    for node in &registry.nodes {
        found.extend(node.ips.iter().map(|ip| plain(Some(*ip), registry.place(*ip, &model.settings))));
    }
    found.push(plain(None, Place::External));
    found.push(plain(None, Place::Unknown));
    found
}

/// The ends that a rule names by address, identity or resolved name.
pub(super) fn named(rule: &Rule, model: &Model, registry: &Registry) -> Vec<Candidate> {
    let mut found = Vec::new();
    visit_positive(&rule.condition, &mut |atom| {
        let mut see = |address: Option<IpAddr>, principal: Option<String>, fqdn: Option<String>| {
            let place = address.map_or(Place::External, |address| registry.place(address, &model.settings));
            found.push(Candidate { address, place, principal, fqdn });
        };
        match atom.of_other_end() {
            Some(PeerAtom::Cidr { net, .. }) => {
                see(Some(net.network()), None, None);
                see(Some(last(net)), None, None);
            }
            Some(PeerAtom::Principal { is, .. }) => {
                is.iter().for_each(|pattern| see(None, Some(example(pattern)), None));
            }
            Some(PeerAtom::Fqdn(is)) => is.iter().for_each(|pattern| see(None, None, Some(example(pattern)))),
            _ => {}
        }
    });
    found
}

fn last(net: &IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => net.broadcast().into(),
        IpNet::V6(net) => net.broadcast().into(),
    }
}

/// A text that the pattern matches, as near as can be said without search.
fn example(pattern: &Pattern) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match pattern {
        Pattern::Exact(bytes)
        | Pattern::ExactIgnoreCase(bytes)
        | Pattern::Prefix(bytes)
        | Pattern::PrefixIgnoreCase(bytes) => text(bytes),
        Pattern::Suffix(bytes) | Pattern::SuffixIgnoreCase(bytes) => format!("x{}", text(bytes)),
        Pattern::OneLabel(bytes) => format!("x.{}", text(bytes).trim_start_matches('.')),
        Pattern::NonEmpty | Pattern::Anything | Pattern::Segments { .. } => "x".into(),
        Pattern::Regex { source, .. } => source.to_string(),
    }
}

/// The ports that a rule names by number.
pub(super) fn ports(condition: &Expr) -> Vec<u16> {
    let mut found = Vec::new();
    visit_positive(condition, &mut |atom| {
        if let Atom::Port(PortAtom::Range(low, high)) = atom {
            found.extend([*low, *high]);
        }
    });
    found
}

/// A connection between the subject and a candidate.
pub(super) fn connection<'a>(
    subject: WorkloadId,
    peer: &'a Candidate,
    direction: Direction,
    (port, transport): (u16, Transport),
    registry: &Registry,
) -> Connection<'a> {
    let address = registry.workload(subject).and_then(|workload| workload.ips.first().copied());
    let here = End { address, place: Place::Workload(subject), principal: None };
    let there = |principal| End { address: peer.address, place: peer.place, principal };
    let (source, destination) = match direction {
        Direction::Inbound => (there(peer.principal.as_deref()), here),
        Direction::Outbound => (here, there(None)),
    };
    let fqdn = peer.fqdn.as_deref();
    Connection { source, destination, port, transport, service: None, fqdn, direction: Some(direction) }
}

impl Candidate {
    /// The workload at this end.
    pub(super) fn workload(&self) -> Option<WorkloadId> {
        match self.place {
            Place::Workload(id) => Some(id),
            _ => None,
        }
    }
}
