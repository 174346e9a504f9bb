//! What emergencies open. Policies are compared as if there were none, so that one that acts hides nothing; what it lets
//! pass beside them is told of it alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::exposure::from_anyone;
use crate::analysis::space::{Budget, Change, Comparison, Kind, Options, compare_within};
use crate::facts::Direction;
use crate::flow::in_words;
use crate::model::{BreakGlass, Model, content};
use crate::registry::WorkloadId;
use crate::world::World;

/// One emergency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Emergency {
    /// What became of it.
    pub now: State,
    /// Its name.
    pub emergency: String,
    /// Where it stands.
    pub location: String,
    /// Why, in words of whoever wrote it.
    pub reason: String,
    /// When it begins.
    pub begins: String,
    /// When it ends.
    pub expires: String,
    /// Whose policies do not act meanwhile.
    pub workloads: Vec<String>,
}

/// See [`Emergency`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It acts, or will.
    Opens,
    /// It would, but is not there any more.
    Gone,
}

impl Emergency {
    fn new(now: State, glass: &BreakGlass, world: &World) -> Self {
        let selected = (0u32..).zip(&world.registry().workloads).filter(|(id, _)| {
            let connection = from_anyone(WorkloadId(*id), Direction::Inbound);
            world.opened_by(&connection).any(|held| std::ptr::eq(&**held, glass))
        });
        Self {
            now,
            emergency: glass.name.to_string(),
            location: glass.location.to_string(),
            reason: glass.reason.to_string(),
            begins: in_words(glass.begins),
            expires: in_words(glass.expires),
            workloads: selected.map(|(_, held)| format!("{}/{}", held.namespace, held.name)).collect(),
        }
    }
}

impl std::fmt::Display for Emergency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { now, emergency, location, reason, begins, expires, workloads } = self;
        let whose = if workloads.is_empty() { "no workload".to_owned() } else { workloads.join("; ") };
        match now {
            State::Opens => writeln!(f, "emergency: {emergency} at {location} opens {whose}")?,
            State::Gone => writeln!(f, "emergency over: {emergency} at {location}, which is gone, opened {whose}")?,
        }
        writeln!(f, "  from {begins} until {expires}: {reason}")
    }
}

/// The same policies without an emergency.
pub(super) fn without(world: &World) -> World {
    with(world, Vec::new())
}

/// Emergencies of `world` that are not over and have no equal in `other`, and the reverse.
pub(super) fn differences(other: &World, world: &World, now: i64) -> Vec<Emergency> {
    let opens = alone(world, other, now).into_iter().map(|glass| Emergency::new(State::Opens, glass, world));
    let gone = alone(other, world, now).into_iter().map(|glass| Emergency::new(State::Gone, glass, other));
    opens.chain(gone).collect()
}

/// What each emergency that `other` has no equal of lets pass that policies refuse, judged when it acts.
pub(super) fn opened(other: &World, world: &World, options: Options, budget: &mut Budget) -> Comparison {
    let closed = without(world);
    let mut all = Comparison::default();
    for glass in alone(world, other, options.now) {
        let open = with(world, vec![Arc::clone(glass)]);
        let at = Options { now: options.now.max(glass.begins), ..options };
        let Comparison { changes, undecided } = compare_within(&closed, &open, at, budget);
        all.changes.extend(changes.into_iter().filter(|Change { kind, .. }| *kind == Kind::Allowed));
        all.undecided.extend(undecided);
    }
    all
}

/// Those of `world` alone, by what they open and when.
fn alone<'w>(world: &'w World, other: &World, now: i64) -> Vec<&'w Arc<BreakGlass>> {
    let digest = |glass: &Arc<BreakGlass>| content::of_emergency(glass);
    let mut known: BTreeSet<_> = other.model().break_glass.iter().map(digest).collect();
    let held = world.model().break_glass.iter().filter(|glass| !glass.is_over(now));
    held.filter(|glass| known.insert(digest(glass))).collect()
}

fn with(world: &World, break_glass: Vec<Arc<BreakGlass>>) -> World {
    let model = Model { break_glass, ..Model::clone(world.model()) };
    world.with_policies(Arc::new(model), Arc::clone(world.registry()), world.generation().number)
}
