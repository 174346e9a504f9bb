//! What an end is known by, as hashes: its namespace, account, labels, networks, proven identity. A condition that
//! needs one of them is found by it, and is then asked whole.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::facts::Place;
use crate::model::interpret::leg::{Leg, Party};
use crate::model::interpret::peer::cluster_account;
use crate::model::{Atom, Pattern, PeerAtom, Selector, SelectorOperator, Text};
use crate::registry::Workload;
use crate::table::hash::Seed;
use crate::table::normal::Normal;

/// Which end's attributes a condition is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The protected workload's.
    Subject,
    /// The other end's.
    Peer,
}

/// One attribute, as it is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Attribute<'a> {
    Account { namespace: &'a str, account: &'a str },
    AccountAnywhere(&'a str),
    Namespace(&'a str),
    Label { key: &'a str, value: &'a str },
    Network(IpNet),
    Principal(&'a [u8]),
}

/// How telling the attributes of a condition are: the lower the fewer conditions share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Account,
    Principal,
    AccountAnywhere,
    Label,
    Network,
    Namespace,
}

/// The attributes of which a condition needs at least one.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    rank: Rank,
    /// Their hashes.
    pub(super) hashes: Vec<u64>,
    /// Prefix lengths of the networks among them, `true` for IPv6.
    pub(super) lengths: Vec<(bool, u8)>,
}

/// What a condition cannot hold without; `None` if there is no such thing.
pub(super) fn needed(condition: &Normal, whose: Whose, seed: &Seed) -> Option<Needed> {
    match condition {
        Normal::True | Normal::False | Normal::Literal { negated: true, .. } => None,
        Normal::Literal { atom, negated: false } => match (atom, whose) {
            (Atom::Subject(atom), Whose::Subject) | (Atom::Peer(atom) | Atom::Located(atom), Whose::Peer) => {
                of_peer(atom, seed)
            }
            (Atom::Text { of: Text::PeerPrincipal, is, .. }, Whose::Peer) => of_principals(is, seed),
            _ => None,
        },
        Normal::All(parts) => {
            let account = account_of(parts, whose)
                .map(|(namespace, account)| one(Rank::Account, seed.of(Attribute::Account { namespace, account })));
            account.or_else(|| {
                parts
                    .iter()
                    .filter_map(|part| needed(part, whose, seed))
                    .min_by_key(|held| (held.rank, held.hashes.len()))
            })
        }
        Normal::Any(parts) => {
            let mut all = Needed { rank: Rank::Account, hashes: Vec::new(), lengths: Vec::new() };
            for part in parts {
                let held = needed(part, whose, seed)?;
                all.rank = all.rank.max(held.rank);
                all.hashes.extend(held.hashes);
                all.lengths.extend(held.lengths);
            }
            Some(all)
        }
    }
}

/// Namespace and account where a conjunction asks for exactly one of each, as they are proven where they are.
pub(super) fn account_of(parts: &[Normal], whose: Whose) -> Option<(&str, &str)> {
    let (mut namespace, mut account) = (None, None);
    for part in parts {
        let Normal::Literal { atom, negated: false } = part else { continue };
        let atom = match (atom, whose) {
            (Atom::Subject(atom), Whose::Subject) | (Atom::Peer(atom), Whose::Peer) => atom,
            _ => continue,
        };
        match atom {
            PeerAtom::Namespace(name) => namespace = Some(&**name),
            PeerAtom::ServiceAccount(name) => account = Some(&**name),
            _ => {}
        }
    }
    namespace.zip(account)
}

fn one(rank: Rank, hash: u64) -> Needed {
    Needed { rank, hashes: vec![hash], lengths: Vec::new() }
}

fn of_peer(atom: &PeerAtom, seed: &Seed) -> Option<Needed> {
    match atom {
        PeerAtom::Namespace(name) => Some(one(Rank::Namespace, seed.of(Attribute::Namespace(name)))),
        PeerAtom::ServiceAccount(name) => Some(one(Rank::AccountAnywhere, seed.of(Attribute::AccountAnywhere(name)))),
        PeerAtom::Labels(selector) => of_selector(selector, seed),
        PeerAtom::Principal { is, .. } => of_principals(is, seed),
        PeerAtom::Cidr { net, .. } => {
            let net = net.trunc();
            let hashes = vec![seed.of(Attribute::Network(net))];
            let lengths = vec![(matches!(net, IpNet::V6(_)), net.prefix_len())];
            Some(Needed { rank: Rank::Network, hashes, lengths })
        }
        // The labels of a namespace can be known by other workloads of it than the one at the address.
        PeerAtom::NamespaceLabels(_)
        | PeerAtom::Proven
        | PeerAtom::Service { .. }
        | PeerAtom::ServiceNamed { .. }
        | PeerAtom::Node(_)
        | PeerAtom::Workload
        | PeerAtom::External
        | PeerAtom::Fqdn(_)
        | PeerAtom::Annotations(_) => None,
    }
}

fn of_selector(selector: &Selector, seed: &Seed) -> Option<Needed> {
    let listed = selector.requirements.iter().filter(|requirement| requirement.operator == SelectorOperator::In);
    let requirement = listed.min_by_key(|requirement| requirement.values.len())?;
    let label = |value: &std::sync::Arc<str>| seed.of(Attribute::Label { key: &requirement.key, value });
    Some(Needed { rank: Rank::Label, hashes: requirement.values.iter().map(label).collect(), lengths: Vec::new() })
}

fn of_principals(is: &[Pattern], seed: &Seed) -> Option<Needed> {
    let hashes = is.iter().map(|pattern| match pattern {
        Pattern::Exact(bytes) => Some(seed.of(Attribute::Principal(bytes))),
        _ => None,
    });
    Some(Needed { rank: Rank::Principal, hashes: hashes.collect::<Option<_>>()?, lengths: Vec::new() })
}

/// The attributes of one end of a flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes<'a> {
    /// Hashes of all but the networks: those of the registered workload.
    registered: &'a [u64],
    /// Those that a certificate adds.
    proven: Vec<u64>,
    /// Every address that a network could hold.
    addresses: Vec<IpAddr>,
    /// Something about the end is not known: any condition possibly holds.
    pub(super) uncertain: bool,
}

impl<'a> Attributes<'a> {
    /// What is known of a party; `registered` are the hashes of the workload at its address, where there is one.
    pub(super) fn of(party: &Party<'_>, leg: &Leg<'_>, registered: &'a [u64], seed: &Seed) -> Self {
        let mut found = Self { registered, ..Self::default() };
        let workload = match party.end.place {
            Place::Workload(id) => leg.registry.workload(id),
            _ => None,
        };
        match party.end.principal {
            Some(principal) => {
                found.proven.push(seed.of(Attribute::Principal(principal.as_bytes())));
                let proven = cluster_account(principal, &leg.model.settings.trust_domain);
                if let Some((namespace, account)) = proven {
                    push_account(&mut found.proven, namespace, account, seed);
                }
                // A certificate says who, but not with which labels.
                let held = workload.map(|workload| (&*workload.namespace, &*workload.service_account));
                found.uncertain |= held.is_none() || held != proven;
            }
            None => {
                found.uncertain |= workload.is_none() && !matches!(party.end.place, Place::Node(_) | Place::External);
            }
        }
        let dialled = party.dialled.and_then(|(_, address)| address);
        let endpoint = party.endpoint.filter(|_| party.dialled.is_some()).and_then(|id| leg.registry.workload(id));
        let others = endpoint.map(|workload| workload.ips.as_slice()).unwrap_or_default();
        let addresses = party.end.address.into_iter().chain(dialled).chain(others.iter().copied());
        found.addresses.extend(addresses.map(|address| address.to_canonical()));
        found.uncertain |= found.addresses.is_empty();
        found
    }

    /// The hashes of all attributes; `lengths` are the prefix lengths of networks that are worth a try.
    pub(super) fn each(&self, lengths: &[(bool, u8)], seed: &Seed, mut see: impl FnMut(u64)) {
        self.registered.iter().chain(&self.proven).copied().for_each(&mut see);
        for address in &self.addresses {
            for (_, length) in lengths.iter().filter(|(v6, _)| *v6 == address.is_ipv6()) {
                if let Ok(net) = IpNet::new(*address, *length) {
                    see(seed.of(Attribute::Network(net.trunc())));
                }
            }
        }
    }
}

/// The attributes of a registered workload, networks apart.
pub(super) fn of_workload(workload: &Workload, trust_domain: &str, seed: &Seed) -> Vec<u64> {
    let Workload { namespace, service_account, labels, .. } = workload;
    let mut found = Vec::with_capacity(labels.len() + 4);
    push_account(&mut found, namespace, service_account, seed);
    found.extend(labels.iter().map(|(key, value)| seed.of(Attribute::Label { key, value })));
    // Who is registered here is possibly who a certificate would prove.
    found.push(seed.of(Attribute::Principal(workload.spiffe_id(trust_domain).as_bytes())));
    found
}

fn push_account(hashes: &mut Vec<u64>, namespace: &str, account: &str, seed: &Seed) {
    hashes.push(seed.of(Attribute::Account { namespace, account }));
    hashes.push(seed.of(Attribute::AccountAnywhere(account)));
    hashes.push(seed.of(Attribute::Namespace(namespace)));
}
