//! What a change of policies opens and closes: workloads that lose or gain protection first, then every flow that meets
//! another verdict, each with a request that shows it and the rules that say so.

mod replay;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::analysis::accepted::{self, Tokens};
use crate::analysis::emergency::{self, Emergency};
use crate::analysis::exposure::from_anyone;
use crate::analysis::space::{Budget, Change, Comparison, Kind, Open, Options, compare_within};
use crate::facts::Direction;
use crate::model::interpret::leg::legs;
use crate::model::interpret::tier::{self, Table};
use crate::model::interpret::{STACKS, TIERS};
use crate::model::{Policy, PolicyName};
use crate::registry::{InboundMutualTls, WorkloadId};
use crate::world::World;

pub use replay::{Replay, replay};

/// The whole account.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Directions of workloads that were closed and are open, or the reverse.
    pub protection: Vec<Protection>,
    /// Workloads that take other peers than before, in plaintext or proven.
    pub mutual_tls: Vec<MutualTls>,
    /// Emergencies that one side alone has and that are not over.
    pub emergencies: Vec<Emergency>,
    /// Tokens that workloads accept, or do not any more.
    pub tokens: Vec<Tokens>,
    /// Flows that meet another verdict.
    pub changes: Vec<Change>,
    /// Flows of which it is not known.
    pub undecided: Vec<Open>,
    /// What recorded flows would meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

/// Which peers some workloads take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MutualTls {
    /// Whose.
    pub workloads: Vec<String>,
    /// What they took.
    pub before: InboundMutualTls,
    /// What they take.
    pub now: InboundMutualTls,
}

/// A direction of some workloads that policies closed on one side alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// Which direction.
    pub direction: Direction,
    /// What became of it.
    pub now: State,
    /// Whose.
    pub workloads: Vec<String>,
    /// The policies that closed it, or close it now, each with its place.
    pub policies: Vec<Closing>,
}

/// See [`Protection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was closed.
    Open,
    /// It was open.
    Closed,
}

/// A policy that closes a direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Closing {
    /// Its name.
    pub policy: String,
    /// Where it stands.
    pub location: String,
    /// The other side has no policy of this name.
    pub only_here: bool,
}

impl Difference {
    /// Whether anything passes now that did not.
    #[must_use]
    pub fn is_wider(&self) -> bool {
        self.changes.iter().any(|change| change.kind == Kind::Allowed)
            || self.protection.iter().any(|protection| protection.now == State::Open)
            || self.emergencies.iter().any(|emergency| emergency.now == emergency::State::Opens)
            || self.tokens.iter().any(|tokens| tokens.wider)
    }

    /// Nothing is different, and nothing left open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { protection, mutual_tls, emergencies, tokens, changes, undecided, replay: _ } = self;
        protection.is_empty()
            && mutual_tls.is_empty()
            && emergencies.is_empty()
            && tokens.is_empty()
            && changes.is_empty()
            && undecided.is_empty()
    }
}

/// Compares two worlds whose registries differ at most in who may come in plaintext.
#[must_use]
pub fn diff(old: &World, new: &World, options: Options) -> Difference {
    let mut budget = Budget::new(options.budget);
    let (before, after) = (emergency::without(old), emergency::without(new));
    let Comparison { mut changes, mut undecided } = compare_within(&before, &after, options, &mut budget);
    let opened = emergency::opened(old, new, options, &mut budget);
    changes.extend(opened.changes);
    undecided.extend(opened.undecided);
    Difference {
        protection: protection(old, new, options.direction),
        mutual_tls: mutual_tls(old, new),
        emergencies: emergency::differences(old, new, options.now),
        tokens: accepted::differences(old, new),
        changes,
        undecided,
        replay: None,
    }
}

fn mutual_tls(old: &World, new: &World) -> Vec<MutualTls> {
    let mut found: BTreeMap<(InboundMutualTls, InboundMutualTls), Vec<String>> = BTreeMap::new();
    for (before, now) in old.registry().workloads.iter().zip(&new.registry().workloads) {
        let modes = (before.inbound_mutual_tls(), now.inbound_mutual_tls());
        if modes.0 != modes.1 {
            found.entry(modes).or_default().push(format!("{}/{}", now.namespace, now.name));
        }
    }
    found.into_iter().map(|((before, now), workloads)| MutualTls { workloads, before, now }).collect()
}

/// Whose directions are closed on one side alone.
fn protection(old: &World, new: &World, only: Option<Direction>) -> Vec<Protection> {
    let mut found: BTreeMap<(State, u8, Vec<Closing>), Vec<String>> = BTreeMap::new();
    for (id, workload) in (0u32..).zip(&old.registry().workloads) {
        for (rank, direction) in [(0, Direction::Inbound), (1, Direction::Outbound)] {
            if only.is_some_and(|only| only != direction) {
                continue;
            }
            let name = format!("{}/{}", workload.namespace, workload.name);
            let (before, after) =
                (closing(old, new, WorkloadId(id), direction), closing(new, old, WorkloadId(id), direction));
            let (state, policies) = match (before.is_empty(), after.is_empty()) {
                (false, true) => (State::Open, before),
                (true, false) => (State::Closed, after),
                _ => continue,
            };
            found.entry((state, rank, policies)).or_default().push(name);
        }
    }
    found
        .into_iter()
        .map(|((now, rank, policies), workloads)| {
            let direction = if rank == 0 { Direction::Inbound } else { Direction::Outbound };
            Protection { direction, now, workloads, policies }
        })
        .collect()
}

/// The policies that close a direction of a workload, in any stack.
fn closing(world: &World, other: &World, workload: WorkloadId, direction: Direction) -> Vec<Closing> {
    let connection = from_anyone(workload, direction);
    let legs = legs(world.model(), world.registry(), &connection);
    let Some(leg) = legs.first() else { return Vec::new() };
    let is_there = |name: &PolicyName| other.model().policies.iter().any(|policy| policy.name == *name);
    let mut found = Vec::new();
    for (stack, tier) in STACKS.into_iter().flat_map(|stack| TIERS.map(|tier| (stack, tier))) {
        let policies = tier::selecting(leg, Table::Enforced, stack, tier);
        found.extend(policies.iter().filter(|policy| tier::closer(&[*policy], leg).is_some()).map(|policy| {
            let Policy { name, location, .. } = policy;
            Closing { policy: name.to_string(), location: location.to_string(), only_here: !is_there(name) }
        }));
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests;
