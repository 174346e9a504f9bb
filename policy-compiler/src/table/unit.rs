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
use crate::model::position::{Positions, count};
use crate::model::{Atom, Effect, Expr, JwtRule, Mode, Model, PeerAtom, Policy, PolicyName, Rule, Stack, Tier};
use crate::pace;
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
    rules: Runs,
    sides: Arc<Sides>,
}

/// What a unit's policies alone say, wherever they stand in the model: where none of them has changed it is the same in
/// the next table.
#[derive(Debug)]
struct Sides {
    inbound: Side,
    outbound: Side,
}

/// Where the rules of a unit stand among all rules of the model: runs of neighbours, each by its first rule here and
/// there.
#[derive(Debug, Default)]
struct Runs(Vec<(u32, u32)>);

/// A unit in one direction.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// By [`Act`].
    banks: [Option<Bank>; ACTS.len()],
    /// The first policy that closes the direction, by its number in the unit.
    pub(super) closes: Option<u32>,
    /// The first policy that has an error and closes the direction therefore.
    pub(super) breaks: Option<u32>,
    /// What its rules look at, by the ports that they are for.
    pub(super) looks: Vec<Look>,
    /// Tokens that its policies accept, each with the policy's number in the unit.
    pub(super) jwt_rules: Vec<(u32, Arc<JwtRule>)>,
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
    /// Some rule asks what a token claims that whoever operates the cluster accepts.
    pub(super) claims: bool,
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

/// Groups the policies of a model, in the order of stacks and tiers. `before` knows the units of an earlier table with
/// the same methods and seed.
pub(super) fn units(
    model: &Model,
    positions: &Positions,
    methods: &Methods,
    seed: &Seed,
    before: &Before<'_>,
) -> Vec<Unit> {
    let replaced: BTreeSet<&PolicyName> =
        model.policies.iter().filter(|policy| policy.mode == Mode::Audit).flat_map(|policy| &policy.replaces).collect();
    let mut numbers: HashMap<Grouping, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut groups: Vec<(Grouping, Vec<u32>)> = Vec::new();
    for (position, policy) in (0u32..).zip(&model.policies) {
        pace::step();
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
    groups
        .into_iter()
        .map(|(Grouping { stack, tier, enforced, shadow, .. }, policies)| {
            let held: Vec<&Arc<Policy>> =
                policies.iter().filter_map(|position| model.policies.get(*position as usize)).collect();
            let sides = before.sides(&held).unwrap_or_else(|| {
                let side = |direction| side(&held, direction, methods, seed);
                Arc::new(Sides { inbound: side(Direction::Inbound), outbound: side(Direction::Outbound) })
            });
            let starts = policies.iter().filter_map(|position| positions.start(*position));
            let rules = Runs::of(starts.zip(held.iter().map(|policy| count(policy))));
            Unit { stack, tier, enforced, shadow, rules, sides, policies }
        })
        .collect()
}

/// The units of an earlier table, found by their policies.
#[derive(Debug, Default)]
pub(super) struct Before<'a>(HashMap<Vec<*const Policy>, &'a Arc<Sides>, foldhash::fast::RandomState>);

impl<'a> Before<'a> {
    /// The units of a table that was built from this model.
    pub(super) fn of(units: &'a [Unit], model: &Model) -> Self {
        let policies = |unit: &Unit| {
            unit.policies
                .iter()
                .filter_map(|position| model.policies.get(*position as usize).map(Arc::as_ptr))
                .collect()
        };
        Self(units.iter().map(|unit| (policies(unit), &unit.sides)).collect())
    }

    fn sides(&self, policies: &[&Arc<Policy>]) -> Option<Arc<Sides>> {
        if self.0.is_empty() {
            return None;
        }
        let policies: Vec<*const Policy> = policies.iter().map(|policy| Arc::as_ptr(policy)).collect();
        self.0.get(&policies).map(|sides| Arc::clone(sides))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Grouping {
    stack: Stack,
    tier: Tier,
    enforced: bool,
    shadow: bool,
    subject: Normal,
}

fn side(policies: &[&Arc<Policy>], direction: Direction, methods: &Methods, seed: &Seed) -> Side {
    let mut banks = ACTS.map(|act| BankBuilder::new(act.need()));
    let mut side = Side::default();
    let mut looks: HashMap<Normal, Look, foldhash::fast::RandomState> = HashMap::default();
    let mut start = 0u32;
    for (number, policy) in (0u32..).zip(policies) {
        if policy.closes.contains(direction) && !policy.broken {
            side.closes = side.closes.or(Some(number));
        }
        if tier::breaks_direction(policy, direction) {
            side.breaks = side.breaks.or(Some(number));
        }
        for (number, rule) in (start..).zip(&policy.rules).filter(|(_, rule)| rule.direction == direction) {
            pace::tick();
            for (act, bank) in ACTS.into_iter().zip(&mut banks) {
                if act.effect() == rule.effect {
                    bank.add(number, rule, methods, seed);
                }
            }
            look(rule, &mut looks);
        }
        start = start.saturating_add(count(policy));
        if direction == Direction::Inbound {
            side.jwt_rules.extend(policy.jwt_rules.iter().map(|rule| (number, Arc::clone(rule))));
        }
    }
    side.banks = banks.map(|bank| bank.finish(seed));
    side.looks = looks.into_values().collect();
    side
}

fn look(rule: &Rule, looks: &mut HashMap<Normal, Look, foldhash::fast::RandomState>) {
    let ports = ports(&rule.condition, false);
    let held = looks.entry(ports).or_insert_with_key(|ports| Look {
        ports: ports.clone(),
        headers: Vec::new(),
        allows: false,
        requests: false,
        claims: false,
    });
    held.allows |= rule.effect == Effect::Allow;
    visit(&rule.condition, &mut |atom| {
        held.requests |= matches!(
            atom,
            Atom::Protocol(_) | Atom::Text { .. } | Atom::Present(_) | Atom::RemoteIp(_) | Atom::DeclaredProbe
        );
        held.claims |= atom.asks_claims();
        if let Some(name) = atom.header()
            && !held.headers.iter().any(|held| **held == *name)
        {
            held.headers.push(name.into());
        }
    });
}

/// What a condition, or its negation, says of port and transport alone.
fn ports(condition: &Expr, negated: bool) -> Normal {
    match (condition, negated) {
        (Expr::Is(Atom::Port(_) | Atom::Transport(_)) | Expr::True | Expr::False, _) => Normal::of(condition, negated),
        (Expr::Is(_), _) => Normal::True,
        (Expr::Not(inner), _) => ports(inner, !negated),
        (Expr::All(parts), false) | (Expr::Any(parts), true) => {
            Normal::all(parts.iter().map(|part| ports(part, negated)))
        }
        (Expr::Any(parts), false) | (Expr::All(parts), true) => {
            Normal::any(parts.iter().map(|part| ports(part, negated)))
        }
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
            Direction::Inbound => &self.sides.inbound,
            Direction::Outbound => &self.sides.outbound,
        }
    }

    /// Where a policy of it stands in the model.
    pub(super) fn position(&self, policy: u32) -> Option<u32> {
        self.policies.get(policy as usize).copied()
    }

    /// Where a rule of it stands among all rules of the model.
    pub(super) fn rule(&self, number: u32) -> u32 {
        self.rules.position(number)
    }

    /// All its banks.
    pub(super) fn banks(&self) -> impl Iterator<Item = &Bank> {
        [&self.sides.inbound, &self.sides.outbound].into_iter().flat_map(|side| &side.banks).flatten()
    }

    /// Whether it protects the leg's workload.
    pub(super) fn selects(&self, leg: &Leg<'_>) -> bool {
        let policy = self.policies.first().and_then(|position| leg.model.policies.get(*position as usize));
        policy.is_some_and(|policy| tier::selects(policy, leg))
    }
}

impl Runs {
    /// Of policies, each with its first rule among those of the model, and the number of its rules.
    fn of(policies: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut here = 0u32;
        for (there, count) in policies.filter(|(_, count)| *count > 0) {
            if runs.last().is_none_or(|(first, position)| here - first != there - position) {
                runs.push((here, there));
            }
            here = here.saturating_add(count);
        }
        Self(runs)
    }

    /// INVARIANT: the order of rules is the same here and there, so the first one here is the first one there.
    fn position(&self, rule: u32) -> u32 {
        let run = self.0.partition_point(|(first, _)| *first <= rule).saturating_sub(1);
        self.0.get(run).map_or(u32::MAX, |(first, position)| position + (rule - first))
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
