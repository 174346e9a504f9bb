//! The unit of the index: the policies of one stack and tier that are written for the same subjects.
//!
//! Policies with equal subjects always come together, whatever workloads there are, so a unit is compiled once, when
//! the table is built, and never again for a change of the registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::facts::Direction;
use crate::model::interpret::leg::Leg;
use crate::model::interpret::tier;
use crate::model::{Atom, Effect, Expr, Mode, Model, PeerAtom, Policy, PolicyName, Rule, Stack, Tier};
use crate::table::attribute::{Whose, needed};
use crate::table::bank::{Bank, BankBuilder};
use crate::table::gate;
use crate::table::hash::{HashedMap, Seed};
use crate::table::need::Need;
use crate::table::normal::Normal;
use crate::table::state::Methods;

/// Policies that stand and fall together.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) stack: Stack,
    pub(super) tier: Tier,
    /// In the table that acts.
    pub(super) enforced: bool,
    /// In the shadow table.
    pub(super) shadow: bool,
    /// Positions of its policies in the model, ascending.
    pub(super) policies: Vec<u32>,
    inbound: Side,
    outbound: Side,
}

/// A unit in one direction.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// By [`Act`].
    banks: [Option<Bank>; ACTS.len()],
    /// The first policy that closes the direction.
    pub(super) closes: Option<u32>,
    /// The first policy that has an error and closes the direction therefore.
    pub(super) breaks: Option<u32>,
    /// What its rules look at, by the ports that they are for.
    pub(super) looks: Vec<Look>,
}

/// What rules do when their condition holds, and how surely it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A Deny possibly matches.
    Deny,
    /// An Allow surely matches.
    Allow,
    /// A Pass surely matches.
    Pass,
    /// A Pass possibly matches: what follows it is not sure.
    PossiblePass,
}

/// Every act; the index of each is its number.
pub(super) const ACTS: [Act; 4] = [Act::Deny, Act::Allow, Act::Pass, Act::PossiblePass];

/// What the rules for some ports look at.
#[derive(Debug)]
pub(super) struct Look {
    ports: Normal,
    /// Lower-case header names.
    pub(super) headers: Vec<Arc<str>>,
    /// Some rule is an allow.
    pub(super) allows: bool,
    /// Some rule looks into requests.
    pub(super) requests: bool,
}

/// Units by what their subjects need, to find those that select a workload.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// Subjects that any workload may be.
    anyone: Vec<u32>,
    by_attribute: HashedMap<Vec<u32>>,
    /// Units whose subject asks for more than what a workload is: judged anew for every connection.
    pub(super) varying: Vec<u32>,
}

/// Groups the policies of a model, in the order of stacks and tiers.
pub(super) fn units(model: &Model, methods: &Methods, seed: &Seed) -> Vec<Unit> {
    let replaced: BTreeSet<&PolicyName> =
        model.policies.iter().filter(|policy| policy.mode == Mode::Audit).flat_map(|policy| &policy.replaces).collect();
    let mut numbers: HashMap<Grouping, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut groups: Vec<(Grouping, Vec<u32>)> = Vec::new();
    for (position, policy) in (0u32..).zip(&model.policies) {
        let enforced = policy.mode == Mode::Enforce;
        let shadow = !enforced || !replaced.contains(&policy.name);
        let subject = Normal::of(&policy.subject, false);
        let grouping = Grouping { stack: policy.stack, tier: policy.tier, enforced, shadow, subject };
        let number = *numbers.entry(grouping).or_insert_with_key(|grouping| {
            groups.push((grouping.clone(), Vec::new()));
            groups.len() - 1
        });
        if let Some((_, policies)) = groups.get_mut(number) {
            policies.push(position);
        }
    }
    groups.sort_by_key(|(grouping, policies)| (grouping.stack, grouping.tier, policies.first().copied()));
    let starts: Vec<u32> = model
        .policies
        .iter()
        .scan(0u32, |next, policy| {
            let start = *next;
            *next = next.saturating_add(u32::try_from(policy.rules.len()).unwrap_or(u32::MAX));
            Some(start)
        })
        .collect();
    let side = |policies: &[u32], direction| {
        let held = policies.iter().filter_map(|position| {
            let index = *position as usize;
            Some((*position, *starts.get(index)?, model.policies.get(index)?))
        });
        side(held, direction, methods, seed)
    };
    groups
        .into_iter()
        .map(|(Grouping { stack, tier, enforced, shadow, .. }, policies)| Unit {
            stack,
            tier,
            enforced,
            shadow,
            inbound: side(&policies, Direction::Inbound),
            outbound: side(&policies, Direction::Outbound),
            policies,
        })
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Grouping {
    stack: Stack,
    tier: Tier,
    enforced: bool,
    shadow: bool,
    subject: Normal,
}

fn side<'a>(
    policies: impl Iterator<Item = (u32, u32, &'a Policy)>,
    direction: Direction,
    methods: &Methods,
    seed: &Seed,
) -> Side {
    let mut banks = ACTS.map(|act| BankBuilder::new(act.need()));
    let mut side = Side::default();
    let mut looks: HashMap<Normal, Look, foldhash::fast::RandomState> = HashMap::default();
    for (position, start, policy) in policies {
        if policy.closes.contains(direction) && !policy.broken {
            side.closes = side.closes.or(Some(position));
        }
        if tier::breaks_direction(policy, direction) {
            side.breaks = side.breaks.or(Some(position));
        }
        for (number, rule) in (start..).zip(&policy.rules).filter(|(_, rule)| rule.direction == direction) {
            for (act, bank) in ACTS.into_iter().zip(&mut banks) {
                if act.effect() == rule.effect {
                    bank.add(number, rule, methods, seed);
                }
            }
            look(rule, &mut looks);
        }
    }
    side.banks = banks.map(|bank| bank.finish(seed));
    side.looks = looks.into_values().collect();
    side
}

fn look(rule: &Rule, looks: &mut HashMap<Normal, Look, foldhash::fast::RandomState>) {
    let ports = ports(Normal::of(&rule.condition, false));
    let held = looks.entry(ports).or_insert_with_key(|ports| Look {
        ports: ports.clone(),
        headers: Vec::new(),
        allows: false,
        requests: false,
    });
    held.allows |= rule.effect == Effect::Allow;
    visit(&rule.condition, &mut |atom| {
        held.requests |= matches!(
            atom,
            Atom::Protocol(_) | Atom::Text { .. } | Atom::Present(_) | Atom::RemoteIp(_) | Atom::DeclaredProbe
        );
        if let Some(name) = atom.header()
            && !held.headers.iter().any(|held| **held == *name)
        {
            held.headers.push(name.into());
        }
    });
}

/// What a condition says of port and transport alone.
fn ports(condition: Normal) -> Normal {
    match condition {
        Normal::Literal { atom: Atom::Port(_) | Atom::Transport(_), .. } | Normal::True | Normal::False => condition,
        Normal::Literal { .. } => Normal::True,
        Normal::All(parts) => Normal::all(parts.into_iter().map(ports)),
        Normal::Any(parts) => Normal::any(parts.into_iter().map(ports)),
    }
}

fn visit(condition: &Expr, see: &mut impl FnMut(&Atom)) {
    match condition {
        Expr::True | Expr::False => {}
        Expr::Is(atom) => see(atom),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| visit(part, see)),
        Expr::Not(inner) => visit(inner, see),
    }
}

// === impl Act ===

impl Act {
    fn need(self) -> Need {
        match self {
            Self::Deny | Self::PossiblePass => Need::Possibly,
            Self::Allow | Self::Pass => Need::Surely,
        }
    }

    fn effect(self) -> Effect {
        match self {
            Self::Deny => Effect::Deny,
            Self::Allow => Effect::Allow,
            Self::Pass | Self::PossiblePass => Effect::Pass,
        }
    }
}

// === impl Side ===

impl Side {
    /// Its rules that act in this way.
    pub(super) fn bank(&self, act: Act) -> Option<&Bank> {
        self.banks.get(act as usize)?.as_ref()
    }
}

// === impl Unit ===

impl Unit {
    /// One of its directions.
    pub(super) fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// All its banks.
    pub(super) fn banks(&self) -> impl Iterator<Item = &Bank> {
        [&self.inbound, &self.outbound].into_iter().flat_map(|side| &side.banks).flatten()
    }

    /// Whether it protects the leg's workload.
    pub(super) fn selects(&self, leg: &Leg<'_>) -> bool {
        let policy = self.policies.first().and_then(|position| leg.model.policies.get(*position as usize));
        policy.is_some_and(|policy| tier::selects(policy, leg))
    }
}

impl Look {
    /// Whether its rules could be for the leg's port and transport.
    pub(super) fn is_in_scope(&self, leg: &Leg<'_>) -> bool {
        gate::met(&self.ports, leg, Need::Possibly)
    }
}

// === impl Subjects ===

impl Subjects {
    /// Indexes the subjects of units.
    pub(super) fn new(units: &[Unit], model: &Model, seed: &Seed) -> Self {
        let mut subjects = Self::default();
        for (number, unit) in (0u32..).zip(units) {
            let policy = unit.policies.first().and_then(|position| model.policies.get(*position as usize));
            let Some(policy) = policy else { continue };
            if !is_fixed(&policy.subject) {
                subjects.varying.push(number);
                continue;
            }
            match needed(&Normal::of(&policy.subject, false), Whose::Subject, seed) {
                None => subjects.anyone.push(number),
                Some(needed) => {
                    for hash in needed.hashes {
                        subjects.by_attribute.entry(hash).or_default().push(number);
                    }
                }
            }
        }
        subjects
    }

    /// Units whose subject a workload with these attributes could be, ascending.
    pub(super) fn candidates(&self, attributes: &[u64]) -> Vec<u32> {
        let keyed = attributes.iter().filter_map(|hash| self.by_attribute.get(hash)).flatten();
        let mut found: Vec<u32> = self.anyone.iter().chain(keyed).copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Whether a subject depends on nothing but what the workload is.
fn is_fixed(subject: &Expr) -> bool {
    let mut fixed = true;
    visit(subject, &mut |atom| {
        fixed &= matches!(
            atom,
            Atom::Subject(
                PeerAtom::Namespace(_)
                    | PeerAtom::ServiceAccount(_)
                    | PeerAtom::NamespaceLabels(_)
                    | PeerAtom::Labels(_)
                    | PeerAtom::Annotations(_)
                    | PeerAtom::Workload
            )
        );
    });
    fixed
}
