//! What depends on the connection alone: conditions asked once a connection, each distinct one once.

use hashbrown::HashMap;

use crate::facts::{Fact, Place, Request, Truth};
use crate::model::Atom;
use crate::model::interpret::leg::Leg;
use crate::model::interpret::peer::cluster_account;
use crate::model::interpret::truth;
use crate::pace;
use crate::table::attribute::{Attributes, Whose, account_of, needed};
use crate::table::hash::{HashedMap, Seed};
use crate::table::heap;
use crate::table::need::Need;
use crate::table::normal::Normal;

/// A condition over the facts of a connection.
#[derive(Clone, Debug)]
enum Gate {
    /// A constant, or an atom or its negation.
    Leaf(Normal),
    /// Conjunction.
    All(Box<[Self]>),
    /// Disjunction.
    Any(Box<[Self]>),
    /// The peer is one of these accounts, (namespace, account) in order.
    Accounts(Box<[(Box<str>, Box<str>)]>),
}

/// The distinct conditions of one set of clauses, and where to find those that can hold for a peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    gates: Box<[Gate]>,
    /// Conditions that any peer may meet.
    anyone: Box<[u32]>,
    /// Conditions that need an attribute.
    by_attribute: HashedMap<Box<[u32]>>,
    lengths: Box<[(bool, u8)]>,
}

/// Collects distinct conditions.
#[derive(Debug, Default)]
pub(super) struct GatesBuilder {
    numbers: HashMap<Normal, u32, foldhash::fast::RandomState>,
    found: Vec<Normal>,
}

impl Eq for Normal {}

// === impl GatesBuilder ===

impl GatesBuilder {
    /// The number of a condition.
    pub(super) fn number(&mut self, condition: Normal) -> u32 {
        if let Some(number) = self.numbers.get(&condition) {
            return *number;
        }
        let number = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        self.found.push(condition.clone());
        self.numbers.insert(condition, number);
        number
    }

    /// The finished set.
    pub(super) fn finish(self, seed: &Seed) -> Gates {
        let mut anyone = Vec::new();
        let mut by_attribute: HashedMap<Vec<u32>> = HashedMap::default();
        let mut lengths = Vec::new();
        for (number, condition) in (0u32..).zip(&self.found) {
            pace::tick();
            match needed(condition, Whose::Peer, seed) {
                None => anyone.push(number),
                Some(mut needed) => {
                    needed.hashes.sort_unstable();
                    needed.hashes.dedup();
                    lengths.extend(needed.lengths);
                    needed.hashes.into_iter().for_each(|hash| by_attribute.entry(hash).or_default().push(number));
                }
            }
        }
        lengths.sort_unstable();
        lengths.dedup();
        Gates {
            gates: self.found.into_iter().map(gate).collect(),
            anyone: anyone.into(),
            by_attribute: by_attribute.into_iter().map(|(hash, numbers)| (hash, numbers.into())).collect(),
            lengths: lengths.into(),
        }
    }
}

/// A disjunction of this many accounts is worth a search instead of a walk.
const MANY: usize = 4;

fn gate(condition: Normal) -> Gate {
    match condition {
        Normal::All(parts) => Gate::All(parts.into_iter().map(gate).collect()),
        Normal::Any(parts) => {
            let (accounts, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_account);
            if accounts.len() < MANY {
                return Gate::Any(accounts.into_iter().chain(others).map(gate).collect());
            }
            let mut named: Vec<(Box<str>, Box<str>)> = accounts
                .iter()
                .filter_map(|part| match part {
                    Normal::All(parts) => account_of(parts, Whose::Peer).map(|(n, a)| (n.into(), a.into())),
                    _ => None,
                })
                .collect();
            named.sort_unstable();
            Gate::Any(std::iter::once(Gate::Accounts(named.into())).chain(others.into_iter().map(gate)).collect())
        }
        leaf => Gate::Leaf(leaf),
    }
}

/// Whether a condition says "this account of this namespace" and no more.
fn is_account(condition: &Normal) -> bool {
    matches!(condition, Normal::All(parts) if parts.len() == 2 && account_of(parts, Whose::Peer).is_some())
}

// === impl Gates ===

impl Gates {
    /// Appends the conditions that the connection meets, in order.
    pub(super) fn open(&self, leg: &Leg<'_>, peer: &Attributes<'_>, need: Need, seed: &Seed, open: &mut Vec<u32>) {
        let start = open.len();
        if peer.uncertain && need == Need::Possibly {
            open.extend((0u32..).zip(&self.gates).filter(|(_, gate)| gate.met(leg, need)).map(|(number, _)| number));
            return;
        }
        open.extend(self.anyone.iter().copied().filter(|number| self.is_met(*number, leg, need)));
        if self.by_attribute.is_empty() {
            return;
        }
        let mut find = |hash: u64| {
            for number in self.by_attribute.get(&hash).into_iter().flatten() {
                if self.is_met(*number, leg, need) {
                    open.push(*number);
                }
            }
        };
        peer.each(&self.lengths, seed, &mut find);
        if let Some(found) = open.get_mut(start..) {
            found.sort_unstable();
        }
        dedup_from(open, start);
    }

    fn is_met(&self, number: u32, leg: &Leg<'_>, need: Need) -> bool {
        self.gates.get(number as usize).is_some_and(|gate| gate.met(leg, need))
    }

    /// Bytes of the heap.
    pub(super) fn bytes(&self) -> usize {
        let lists = self.by_attribute.values().map(|numbers| size_of_val(&**numbers)).sum::<usize>();
        let slots = self.by_attribute.capacity() * (size_of::<(u64, Box<[u32]>)>() + 1);
        let gates = size_of_val(&*self.gates) + self.gates.iter().map(Gate::bytes).sum::<usize>();
        gates + size_of_val(&*self.anyone) + size_of_val(&*self.lengths) + slots + lists
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.gates.len()
    }
}

/// Drops repeated neighbours behind `start`.
fn dedup_from(list: &mut Vec<u32>, start: usize) {
    let mut kept = start;
    for index in start..list.len() {
        let Some(value) = list.get(index).copied() else { break };
        if kept == start || list.get(kept.wrapping_sub(1)) != Some(&value) {
            if let Some(slot) = list.get_mut(kept) {
                *slot = value;
            }
            kept += 1;
        }
    }
    list.truncate(kept);
}

impl Gate {
    fn bytes(&self) -> usize {
        match self {
            Self::Leaf(condition) => heap::of_normal(condition),
            Self::All(parts) | Self::Any(parts) => size_of_val(&**parts) + parts.iter().map(Self::bytes).sum::<usize>(),
            Self::Accounts(accounts) => {
                let texts = accounts.iter().map(|(namespace, account)| namespace.len() + account.len());
                size_of_val(&**accounts) + texts.sum::<usize>()
            }
        }
    }

    fn met(&self, leg: &Leg<'_>, need: Need) -> bool {
        match self {
            Self::Leaf(condition) => met(condition, leg, need),
            Self::All(parts) => parts.iter().all(|part| part.met(leg, need)),
            Self::Any(parts) => parts.iter().any(|part| part.met(leg, need)),
            Self::Accounts(accounts) => need.met(among(accounts, leg)),
        }
    }
}

/// Whether the peer is one of these accounts.
fn among(accounts: &[(Box<str>, Box<str>)], leg: &Leg<'_>) -> Truth {
    let party = leg.peer_party();
    let workload = match party.end.place {
        Place::Workload(id) => leg.registry.workload(id),
        _ => None,
    };
    let account = match (party.end.principal, workload) {
        (Some(principal), _) => cluster_account(principal, &leg.model.settings.trust_domain),
        (None, Some(workload)) => Some((&*workload.namespace, &*workload.service_account)),
        (None, None) if matches!(party.end.place, Place::Node(_) | Place::External) => None,
        (None, None) => return Truth::Unknown,
    };
    let Some(wanted) = account else { return Truth::False };
    accounts.binary_search_by(|(namespace, account)| (&**namespace, &**account).cmp(&wanted)).is_ok().into()
}

/// Whether a connection meets a condition over its facts.
pub(super) fn met(condition: &Normal, leg: &Leg<'_>, need: Need) -> bool {
    match condition {
        Normal::True => true,
        Normal::False => false,
        Normal::Literal { atom, negated } => need.met_by_literal(of_connection(atom, leg), *negated),
        Normal::All(parts) => parts.iter().all(|part| met(part, leg, need)),
        Normal::Any(parts) => parts.iter().any(|part| met(part, leg, need)),
    }
}

fn of_connection(atom: &Atom, leg: &Leg<'_>) -> Truth {
    truth::connection(atom, leg).unwrap_or_else(|| {
        // The proven identity of the peer: the one text that belongs to the connection.
        let condition = crate::model::Expr::Is(atom.clone());
        truth::of(&condition, leg, &Request::opaque(Fact::Unknown, 0))
    })
}
