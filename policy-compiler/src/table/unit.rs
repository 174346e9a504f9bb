//! The unit of the index: the policies of one stack and tier that are written for the same subjects.
//!
//! Policies with equal subjects always come together, whatever workloads there are, so a unit is compiled once, when
//! the table is built, and never again for a change of the registry. Which policies are one unit is said in
//! [`super::grouping`].

use std::sync::Arc;

use hashbrown::HashMap;

use crate::facts::Direction;
use crate::model::interpret::leg::Leg;
use crate::model::interpret::tier;
use crate::model::position::{Positions, count};
use crate::model::{Atom, Effect, Expr, JwtRule, Model, PeerAtom, Policy, Rule, Stack, Tier};
use crate::pace;
use crate::table::asked::Asked;
use crate::table::attribute::{Whose, needed};
use crate::table::bank::{Bank, BankBuilder};
use crate::table::gate::{self, Gates};
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
    content: Content,
    rules: Runs,
}

/// What a unit's policies alone say, wherever they stand in the model: where none of them has changed it is the same in
/// the next table.
#[derive(Clone, Debug)]
pub(super) struct Content {
    index: Arc<Index>,
    /// Numbers of its policies among those that were indexed, ascending; `None`: all of them. Rules of the others are
    /// found, and passed over.
    left: Option<Arc<[u32]>>,
    sides: Arc<Sides>,
}

/// The rules of policies, found by what they ask.
#[derive(Debug)]
struct Index {
    /// The first rule of each policy, and behind the last one the number of all.
    starts: Box<[u32]>,
    inbound: Indexed,
    outbound: Indexed,
}

/// An index in one direction.
#[derive(Debug)]
struct Indexed {
    /// By [`Act`].
    banks: [Option<Bank>; ACTS.len()],
    /// What the rules of each policy look at, with its number, ascending.
    looks: Box<[(u32, Arc<Look>)]>,
}

/// A unit in both directions.
#[derive(Debug)]
struct Sides {
    inbound: Side,
    outbound: Side,
}

/// Where the rules of an index stand among all rules of the model: runs of neighbours, each by its first rule here and
/// there.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<(u32, Option<u32>)>);

/// A unit in one direction, its rules aside.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// The first policy that closes the direction, by its number in the unit.
    pub(super) closes: Option<u32>,
    /// The first policy that has an error and closes the direction therefore.
    pub(super) breaks: Option<u32>,
    /// What its rules look at, by the ports that they are for.
    pub(super) looks: Vec<Arc<Look>>,
    /// Tokens that its policies accept, each with the policy's number in the unit.
    pub(super) jwt_rules: Vec<(u32, Arc<JwtRule>)>,
}

/// The rules of a unit that act in one way, by their positions among those of the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acting<'a> {
    bank: &'a Bank,
    rules: &'a Runs,
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
#[derive(Clone, Debug)]
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

// === impl Index ===

impl Index {
    fn of(policies: &[&Arc<Policy>], methods: &Methods, seed: &Seed) -> Self {
        let ends = policies.iter().scan(0u32, |end, policy| {
            *end = end.saturating_add(count(policy));
            Some(*end)
        });
        let starts: Box<[u32]> = std::iter::once(0).chain(ends).collect();
        let of = |direction| Indexed::of(policies, &starts, direction, methods, seed);
        Self { inbound: of(Direction::Inbound), outbound: of(Direction::Outbound), starts }
    }

    fn rules(&self) -> u32 {
        self.starts.last().copied().unwrap_or_default()
    }

    fn policies(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    fn in_direction(&self, direction: Direction) -> &Indexed {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

impl Indexed {
    fn of(policies: &[&Arc<Policy>], starts: &[u32], direction: Direction, methods: &Methods, seed: &Seed) -> Self {
        let mut banks = ACTS.map(|act| BankBuilder::new(act.need()));
        let mut looks = Vec::new();
        for ((policy, start), held) in (0u32..).zip(starts).zip(policies) {
            let mut looked = HashMap::default();
            for (number, rule) in (*start..).zip(&held.rules).filter(|(_, rule)| rule.direction == direction) {
                pace::tick();
                for (act, bank) in ACTS.into_iter().zip(&mut banks) {
                    if act.effect() == rule.effect {
                        bank.add(number, rule, methods, seed);
                    }
                }
                look(rule, &mut looked);
            }
            looks.extend(looked.into_values().map(|look| (policy, Arc::new(look))));
        }
        Self { banks: banks.map(|bank| bank.finish(seed)), looks: looks.into() }
    }
}

// === impl Side ===

impl Side {
    /// Of policies, each with its number among those that were indexed.
    fn of(policies: &[(u32, &Arc<Policy>)], indexed: &Indexed, direction: Direction) -> Self {
        let mut side = Self::default();
        for (number, (_, policy)) in (0u32..).zip(policies) {
            if policy.closes.contains(direction) && !policy.broken {
                side.closes = side.closes.or(Some(number));
            }
            if tier::breaks_direction(policy, direction) {
                side.breaks = side.breaks.or(Some(number));
            }
            if direction == Direction::Inbound {
                side.jwt_rules.extend(policy.jwt_rules.iter().map(|rule| (number, Arc::clone(rule))));
            }
        }
        let mut looks: HashMap<&Normal, Arc<Look>, foldhash::fast::RandomState> = HashMap::default();
        for (number, look) in &indexed.looks {
            if policies.binary_search_by_key(number, |(number, _)| *number).is_ok() {
                pace::tick();
                let held = looks.entry(&look.ports).or_insert_with(|| Arc::clone(look));
                if !held.covers(look) {
                    Arc::make_mut(held).add(look);
                }
            }
        }
        side.looks = looks.into_values().collect();
        side
    }
}

// === impl Content ===

impl Content {
    /// Of policies that are indexed now.
    pub(super) fn of(policies: &[&Arc<Policy>], methods: &Methods, seed: &Seed) -> Self {
        let index = Arc::new(Index::of(policies, methods, seed));
        let sides = Sides::of((0u32..).zip(policies.iter().copied()), &index);
        Self { index, left: None, sides }
    }

    /// The same index, of whose policies these are left: each with its number among those that it has now, ascending.
    pub(super) fn keeping(&self, policies: &[(u32, &Arc<Policy>)]) -> Self {
        if policies.len() == self.policies() {
            return self.clone();
        }
        let indexed = |number: u32| match &self.left {
            None => Some(number),
            Some(left) => left.get(number as usize).copied(),
        };
        let left = || policies.iter().filter_map(|(number, policy)| Some((indexed(*number)?, *policy)));
        let sides = Sides::of(left(), &self.index);
        Self { index: Arc::clone(&self.index), left: Some(left().map(|(number, _)| number).collect()), sides }
    }

    /// Whether both have the same index.
    #[cfg(test)]
    pub(super) fn is_index_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.index, &other.index)
    }

    /// How many policies it has.
    fn policies(&self) -> usize {
        self.left.as_ref().map_or(self.index.policies(), |left| left.len())
    }

    /// How many rules are indexed, those of policies that are gone included.
    pub(super) fn indexed(&self) -> u32 {
        self.index.rules()
    }

    /// Where its rules stand in the model; `policies` are the positions of its policies.
    fn runs(&self, policies: &[u32], positions: &Positions) -> Runs {
        let mut left = policies.iter().copied();
        let starts = self.index.starts.windows(2).zip(0u32..).filter_map(|(rules, number)| {
            let [start, end] = rules else { return None };
            let is_left = self.left.as_ref().is_none_or(|left| left.binary_search(&number).is_ok());
            let position = if is_left { left.next().and_then(|position| positions.start(position)) } else { None };
            Some((position, end - start))
        });
        Runs::of(starts)
    }
}

impl Sides {
    fn of<'a>(policies: impl Iterator<Item = (u32, &'a Arc<Policy>)>, index: &Index) -> Arc<Self> {
        let policies: Vec<(u32, &Arc<Policy>)> = policies.collect();
        let of = |direction| Side::of(&policies, index.in_direction(direction), direction);
        Arc::new(Self { inbound: of(Direction::Inbound), outbound: of(Direction::Outbound) })
    }
}

// === impl Unit ===

/// What a unit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) stack: Stack,
    pub(super) tier: Tier,
    pub(super) enforced: bool,
    pub(super) shadow: bool,
}

impl Unit {
    /// Of the policies at these positions.
    pub(super) fn new(kind: Kind, policies: Vec<u32>, content: Content, positions: &Positions) -> Self {
        let Kind { stack, tier, enforced, shadow } = kind;
        let rules = content.runs(&policies, positions);
        Self { stack, tier, enforced, shadow, rules, content, policies }
    }

    /// What the next table may take over.
    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// One of its directions.
    pub(super) fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Inbound => &self.content.sides.inbound,
            Direction::Outbound => &self.content.sides.outbound,
        }
    }

    /// Its rules for a direction that act in this way.
    pub(super) fn acting(&self, direction: Direction, act: Act) -> Option<Acting<'_>> {
        let bank = self.content.index.in_direction(direction).banks.get(act as usize)?.as_ref()?;
        Some(Acting { bank, rules: &self.rules })
    }

    /// Where a policy of it stands in the model.
    pub(super) fn position(&self, policy: u32) -> Option<u32> {
        self.policies.get(policy as usize).copied()
    }

    /// All its banks.
    pub(super) fn banks(&self) -> impl Iterator<Item = &Bank> {
        let Index { inbound, outbound, .. } = &*self.content.index;
        [inbound, outbound].into_iter().flat_map(|indexed| &indexed.banks).flatten()
    }

    /// Whether it protects the leg's workload.
    pub(super) fn selects(&self, leg: &Leg<'_>) -> bool {
        let policy = self.policies.first().and_then(|position| leg.model.policies.get(*position as usize));
        policy.is_some_and(|policy| tier::selects(policy, leg))
    }
}

// === impl Acting ===

impl Acting<'_> {
    /// The distinct conditions over a connection, and how surely they have to hold.
    pub(super) fn gates(&self) -> (&Gates, Need) {
        (self.bank.gates(), self.bank.need())
    }

    /// The first rule, in the order of the model, that acts on a request whose connection has these gates open.
    pub(super) fn find(&self, open: &[u32], asked: &Asked<'_>) -> Option<u32> {
        self.rules.position(self.bank.find(open, asked, self.rules)?)
    }

    /// The first rule that acts on every request of a connection with these gates open.
    pub(super) fn find_certain(&self, open: &[u32], now: i64) -> Option<u32> {
        self.rules.position(self.bank.find_certain(open, now, self.rules)?)
    }

    /// The first rule that might act on some request of a connection with these gates open.
    pub(super) fn first_live(&self, open: &[u32], now: i64) -> Option<u32> {
        self.rules.position(self.bank.first_live(open, now, self.rules)?)
    }
}

// === impl Runs ===

impl Runs {
    /// Of policies, each with its first rule among those of the model, if it is still there, and the number of its rules.
    fn of(policies: impl Iterator<Item = (Option<u32>, u32)>) -> Self {
        let mut runs: Vec<(u32, Option<u32>)> = Vec::new();
        let mut here = 0u32;
        for (there, count) in policies.filter(|(_, count)| *count > 0) {
            let goes_on = |(first, position): &(u32, Option<u32>)| match (position, there) {
                (Some(position), Some(there)) => here - first == there - position,
                (None, None) => true,
                _ => false,
            };
            if !runs.last().is_some_and(goes_on) {
                runs.push((here, there));
            }
            here = here.saturating_add(count);
        }
        Self(runs)
    }

    /// `None` where the rule is gone.
    ///
    /// INVARIANT: the order of rules is the same here and there, so the first one here is the first one there.
    fn position(&self, rule: u32) -> Option<u32> {
        let run = self.0.partition_point(|(first, _)| *first <= rule).checked_sub(1)?;
        let (first, position) = self.0.get(run)?;
        Some((*position)? + (rule - first))
    }

    /// Whether the rule is still there.
    pub(super) fn has(&self, rule: u32) -> bool {
        self.position(rule).is_some()
    }
}

impl Look {
    fn covers(&self, other: &Self) -> bool {
        (self.allows || !other.allows)
            && (self.requests || !other.requests)
            && (self.claims || !other.claims)
            && other.headers.iter().all(|name| self.headers.contains(name))
    }

    fn add(&mut self, other: &Self) {
        self.allows |= other.allows;
        self.requests |= other.requests;
        self.claims |= other.claims;
        for name in &other.headers {
            if !self.headers.contains(name) {
                self.headers.push(Arc::clone(name));
            }
        }
    }

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
