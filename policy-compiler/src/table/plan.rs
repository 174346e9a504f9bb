//! A connection resolved: which units judge it, and which of their conditions over connections it meets.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::analysis::exposure;
use crate::canonical;
use crate::facts::{Connection, Direction, Place};
use crate::model::interpret::leg::{Leg, legs};
use crate::model::interpret::{may_be_probe, probe, proof, scope};
use crate::model::{Model, Stack, Tier};
use crate::pace;
use crate::registry::{Registry, WorkloadId};
use crate::table::Table;
use crate::table::attribute::{Attributes, of_workload};
use crate::table::unit::{ACTS, Act, Side, Unit};
use crate::verdict::Proof;
use crate::world::{CanonicalScope, ScopedJwtRule};

/// What is known of the workloads of one registry in the light of one table, found out when first asked for.
#[derive(Debug)]
pub(crate) struct Residents(Box<[Resident]>);

#[derive(Debug, Default)]
struct Resident {
    /// Units that select it, ascending.
    units: OnceLock<Box<[u32]>>,
    /// Hashes of what it can be known by as a peer.
    attributes: OnceLock<Box<[u64]>>,
}

/// Everything that a connection decides.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) legs: Vec<PlannedLeg>,
    tiers: Vec<PlannedTier>,
    live: Vec<Live>,
    gates: Vec<u32>,
    pub(super) source: Option<IpAddr>,
    pub(crate) proof: Proof,
    /// A policy that the shadow table has more or has less selects an end.
    pub(super) audited: bool,
    pub(crate) canonical: CanonicalScope,
}

/// One side of the flow.
#[derive(Clone, Debug)]
pub(super) struct PlannedLeg {
    live: Range<usize>,
    tiers: Range<usize>,
    /// Somebody is at the end of the way: not a Service without a ready endpoint.
    pub(super) has_endpoint: bool,
    /// The workload and its port, where the connection could carry a declared probe.
    pub(super) probed: Option<(WorkloadId, u16)>,
    /// The destination and its port, where it declares an HTTP probe on it.
    pub(super) declares: Option<(WorkloadId, u16)>,
}

/// The units of one tier of one stack that have a say.
#[derive(Clone, Debug)]
pub(super) struct PlannedTier {
    live: Range<usize>,
    pub(super) stack: Stack,
    pub(super) tier: Tier,
    /// Its units are asked rule by rule.
    pub(super) is_ordered: bool,
    /// By [`Which`].
    closers: [Option<Closer>; WHICH.len()],
}

/// Which of the two tables is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// What acts.
    Enforced,
    /// What would act if the policies in mode Audit did.
    Shadow,
}

/// Both; the index of each is its number.
const WHICH: [Which; 2] = [Which::Enforced, Which::Shadow];

/// The policy that closes a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closer {
    pub(super) policy: u32,
    pub(super) broken: bool,
}

/// One unit that has a say.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) unit: u32,
    pub(super) direction: Direction,
    stack: Stack,
    tier: Tier,
    enforced: bool,
    shadow: bool,
    closes: Option<u32>,
    breaks: Option<u32>,
    /// Ranges of [`Plan::gates`], by [`Act`].
    open: [Range<u32>; ACTS.len()],
}

// === impl Residents ===

impl Residents {
    /// Nothing found out yet.
    pub(crate) fn of(registry: &Registry) -> Self {
        Self(registry.workloads.iter().map(|_| Resident::default()).collect())
    }

    fn attributes(&self, id: WorkloadId, table: &Table, model: &Model, registry: &Registry) -> &[u64] {
        let (Some(resident), Some(workload)) = (self.0.get(id.0 as usize), registry.workload(id)) else { return &[] };
        resident.attributes.get_or_init(|| of_workload(workload, &model.settings.trust_domain, &table.seed).into())
    }

    fn units(&self, leg: &Leg<'_>, table: &Table) -> &[u32] {
        let Some(resident) = self.0.get(leg.subject.0 as usize) else { return &[] };
        resident.units.get_or_init(|| {
            let attributes = self.attributes(leg.subject, table, leg.model, leg.registry);
            let mut units = table.subjects.candidates(attributes);
            units.retain(|number| table.unit(*number).is_some_and(|unit| unit.selects(leg)));
            units.into()
        })
    }
}

// === impl Plan ===

impl Plan {
    /// Resolves a connection.
    pub(crate) fn new(
        table: &Table,
        model: &Model,
        registry: &Registry,
        residents: &Residents,
        connection: &Connection<'_>,
    ) -> Self {
        let mut plan = Self {
            legs: Vec::new(),
            tiers: Vec::new(),
            live: Vec::new(),
            gates: Vec::new(),
            source: connection.source.address,
            proof: proof(connection),
            audited: false,
            canonical: CanonicalScope::default(),
        };
        let legs = legs(model, registry, connection);
        let mut varying = Vec::new();
        let (mut allows, mut looks) = (false, false);
        for leg in &legs {
            let peer = leg.peer_party();
            let registered = match peer.end.place {
                Place::Workload(id) => residents.attributes(id, table, model, registry),
                _ => &[],
            };
            let attributes = Attributes::of(&peer, leg, registered, &table.seed);
            let selecting = table.selecting(leg, residents, &mut varying);
            let start = plan.live.len();
            for number in selecting {
                let Some(unit) = table.unit(*number) else { continue };
                plan.audited |= unit.enforced != unit.shadow;
                let side = unit.side(leg.direction);
                for look in side.looks.iter().filter(|look| look.is_in_scope(leg)) {
                    plan.canonical.asks_claims |= look.claims;
                    if unit.enforced {
                        allows |= look.allows;
                        looks |= look.requests;
                        plan.canonical.watched_headers.extend(look.headers.iter().cloned());
                    }
                }
                if unit.enforced {
                    let scoped = side.jwt_rules.iter().filter_map(|(policy, rule)| {
                        Some(ScopedJwtRule { policy: unit.position(*policy)?, rule: Arc::clone(rule) })
                    });
                    plan.canonical.jwt_rules.extend(scoped);
                }
                plan.push(*number, unit, side, leg, &attributes, table);
            }
            plan.push_leg(leg, start);
        }
        plan.canonical.finish();
        plan.canonical.opaque = allows && !looks;
        if table.has_http_options {
            plan.canonical.options = options(table, model, registry, residents, connection);
        }
        plan
    }

    /// Whether an end is a registered workload, so that there is something to judge.
    pub(crate) fn has_subject(&self) -> bool {
        !self.legs.is_empty()
    }

    /// Adds a unit, unless it has nothing to say about this connection.
    fn push(&mut self, number: u32, unit: &Unit, side: &Side, leg: &Leg<'_>, peer: &Attributes<'_>, table: &Table) {
        let open = ACTS.map(|act| {
            let start = position(self.gates.len());
            if let Some(acting) = unit.acting(leg.direction, act) {
                let (gates, need) = acting.gates();
                gates.open(leg, peer, need, &table.seed, &mut self.gates);
            }
            start..position(self.gates.len())
        });
        if open.iter().all(Range::is_empty) && side.closes.is_none() && side.breaks.is_none() {
            return;
        }
        self.live.push(Live {
            unit: number,
            direction: leg.direction,
            stack: unit.stack,
            tier: unit.tier,
            enforced: unit.enforced,
            shadow: unit.shadow,
            closes: side.closes.and_then(|policy| unit.position(policy)),
            breaks: side.breaks.and_then(|policy| unit.position(policy)),
            open,
        });
    }

    /// Ends a leg; one that is judged exactly as the one before it (endpoints of one Service are) is dropped.
    fn push_leg(&mut self, leg: &Leg<'_>, start: usize) {
        let port = leg.destination.port;
        let probed = may_be_probe(leg).then_some(leg.subject).zip(port);
        let declares = leg.destination.workload.zip(port).filter(|_| probe::on(leg).is_some());
        let planned =
            PlannedLeg { live: start..self.live.len(), tiers: 0..0, has_endpoint: port.is_some(), probed, declares };
        if let Some(before) = self.legs.last()
            && before.has_endpoint == planned.has_endpoint
            && before.probed.is_none()
            && planned.probed.is_none()
            && before.declares == planned.declares
            && self.is_same(before.live.clone(), planned.live.clone())
        {
            let first = self.live.get(start).and_then(|live| live.open.first());
            let gates = first.map_or(self.gates.len(), |range| range.start as usize);
            self.gates.truncate(gates);
            self.live.truncate(start);
            return;
        }
        let first = self.tiers.len();
        self.push_tiers(start);
        self.legs.push(PlannedLeg { tiers: first..self.tiers.len(), ..planned });
    }

    /// Groups the units of the last leg, which come in the order of stacks and tiers.
    fn push_tiers(&mut self, mut start: usize) {
        let same = |one: &Live, other: &Live| (one.stack, one.tier) == (other.stack, other.tier);
        for units in self.live.get(start..).unwrap_or_default().chunk_by(same) {
            let Some(Live { stack, tier, .. }) = units.first() else { continue };
            let live = start..start + units.len();
            start = live.end;
            self.tiers.push(PlannedTier {
                live,
                stack: *stack,
                tier: *tier,
                is_ordered: tier.is_ordered(*stack),
                closers: WHICH.map(|which| closer(units, which)),
            });
        }
    }

    fn is_same(&self, one: Range<usize>, other: Range<usize>) -> bool {
        let (Some(one), Some(other)) = (self.live.get(one), self.live.get(other)) else { return false };
        one.len() == other.len()
            && one.iter().zip(other).all(|(one, other)| {
                one.unit == other.unit
                    && one.direction == other.direction
                    && ACTS.into_iter().all(|act| self.open(one, act) == self.open(other, act))
            })
    }

    /// What judges a leg, in the order of stacks and tiers.
    pub(super) fn tiers(&self, leg: &PlannedLeg) -> &[PlannedTier] {
        self.tiers.get(leg.tiers.clone()).unwrap_or_default()
    }

    /// The units of a tier that are in a table.
    pub(super) fn units(&self, tier: &PlannedTier, which: Which) -> impl Iterator<Item = &Live> {
        self.live.get(tier.live.clone()).unwrap_or_default().iter().filter(move |live| which.has(live))
    }

    /// Conditions of the unit's rules that hold as surely as they have to for this act.
    pub(super) fn open(&self, live: &Live, act: Act) -> &[u32] {
        let Some(Range { start, end }) = live.open.get(act as usize) else { return &[] };
        self.gates.get(*start as usize..*end as usize).unwrap_or_default()
    }
}

impl Which {
    fn has(self, live: &Live) -> bool {
        match self {
            Self::Enforced => live.enforced,
            Self::Shadow => live.shadow,
        }
    }
}

impl PlannedTier {
    /// The first policy that closes the direction, a broken one first.
    pub(super) fn closer(&self, which: Which) -> Option<Closer> {
        self.closers.get(which as usize).copied().flatten()
    }
}

/// Of the units of one tier. Admin never closes, unless it is broken.
fn closer(units: &[Live], which: Which) -> Option<Closer> {
    let acting = || units.iter().filter(|live| which.has(live));
    if let Some(policy) = acting().filter_map(|live| live.breaks).min() {
        return Some(Closer { policy, broken: true });
    }
    let closes = acting().filter(|live| live.tier != Tier::Admin).filter_map(|live| live.closes).min();
    closes.map(|policy| Closer { policy, broken: false })
}

fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Table {
    /// The units that select a leg's workload, ascending.
    fn selecting<'a>(&self, leg: &Leg<'_>, residents: &'a Residents, varying: &'a mut Vec<u32>) -> &'a [u32] {
        let fixed = residents.units(leg, self);
        if self.subjects.varying.is_empty() {
            return fixed;
        }
        varying.clear();
        varying.extend_from_slice(fixed);
        let held = |number: &&u32| self.unit(**number).is_some_and(|unit| unit.selects(leg));
        varying.extend(self.subjects.varying.iter().filter(held));
        varying.sort_unstable();
        varying
    }
}

/// How many registered workloads no stack closes in this direction. Rules of the Admin tier close nothing.
pub(crate) fn unprotected(
    table: &Table,
    model: &Model,
    registry: &Registry,
    residents: &Residents,
    direction: Direction,
) -> usize {
    let mut varying = Vec::new();
    let ids = (0u32..).zip(&registry.workloads).map(|(id, _)| WorkloadId(id));
    ids.filter(|id| {
        pace::tick();
        let connection = exposure::from_anyone(*id, direction);
        legs(model, registry, &connection).iter().all(|leg| {
            table.selecting(leg, residents, &mut varying).iter().filter_map(|number| table.unit(*number)).all(|unit| {
                let side = unit.side(direction);
                let closes = unit.tier != Tier::Admin && side.closes.is_some();
                !unit.enforced || (!closes && side.breaks.is_none())
            })
        })
    })
    .count()
}

/// The opt-ins belong to the destination, whichever side asks: the strictest of every possible one.
fn options(
    table: &Table,
    model: &Model,
    registry: &Registry,
    residents: &Residents,
    connection: &Connection<'_>,
) -> canonical::Options {
    let whole = Connection { direction: Some(Direction::Inbound), ..*connection };
    let mut varying = Vec::new();
    let each = legs(model, registry, &whole).into_iter().map(|leg| {
        let units = table.selecting(&leg, residents, &mut varying).iter().filter_map(|number| table.unit(*number));
        let policies = units
            .filter(|unit| unit.enforced)
            .flat_map(|unit| &unit.policies)
            .filter_map(|position| Some(&**model.policies.get(*position as usize)?));
        scope::strictest_of_policies(policies, &leg)
    });
    scope::strictest(&each.collect::<Vec<_>>())
}
