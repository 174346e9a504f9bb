//! The policies of a model grouped into units, and what is taken over of the table before.
//!
//! A unit whose policies have all stayed is the same. Where few have changed its index stays, without the rules that are
//! gone, and what is new gets a unit of its own beside it: the units of one tier are asked together. Where more have
//! changed all is indexed anew, so that what is gone takes little room and a decision asks two indices at most.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::position::{Positions, count};
use crate::model::{Mode, Model, Policy, PolicyName};
use crate::pace;
use crate::table::hash::Seed;
use crate::table::normal::Normal;
use crate::table::state::Methods;
use crate::table::unit::{Content, Kind, Unit};

/// Groups the policies of a model, in the order of stacks and tiers. `before` knows the units of an earlier table with
/// the same methods and seed.
pub(super) fn units(
    model: &Model,
    positions: &Positions,
    methods: &Methods,
    seed: &Seed,
    before: &Before<'_>,
) -> Vec<Unit> {
    let mut units = Vec::new();
    for (kind, group) in groups(model) {
        let mut add = |policies: &[Member<'_>], content: Content| {
            let policies = policies.iter().map(|(position, _)| *position).collect();
            units.push(Unit::new(kind, policies, content, positions));
        };
        let (kept, content, others) = before.divide(&group);
        if let Some(content) = content {
            add(&kept, content);
        }
        if !others.is_empty() {
            let anew = || Content::of(&others.iter().map(|(_, policy)| *policy).collect::<Vec<_>>(), methods, seed);
            add(&others, before.whole(&others).unwrap_or_else(anew));
        }
    }
    units
}

/// A policy and its position in the model.
type Member<'m> = (u32, &'m Arc<Policy>);

/// Policies that always come together, by position.
fn groups(model: &Model) -> Vec<(Kind, Vec<Member<'_>>)> {
    let replaced: BTreeSet<&PolicyName> =
        model.policies.iter().filter(|policy| policy.mode == Mode::Audit).flat_map(|policy| &policy.replaces).collect();
    let mut numbers: HashMap<_, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut groups: Vec<(Kind, Vec<Member<'_>>)> = Vec::new();
    for (position, policy) in (0u32..).zip(&model.policies) {
        pace::step();
        let enforced = policy.mode == Mode::Enforce;
        let shadow = !enforced || !replaced.contains(&policy.name);
        let kind = Kind { stack: policy.stack, tier: policy.tier, enforced, shadow };
        let number = *numbers.entry((kind, Normal::of(&policy.subject, false))).or_insert_with(|| {
            groups.push((kind, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, policies)) = groups.get_mut(number) {
            policies.push((position, policy));
        }
    }
    groups.sort_by_key(|(kind, policies)| (kind.stack, kind.tier, policies.first().map(|(position, _)| *position)));
    groups
}

/// The units of an earlier table, found by their policies.
#[derive(Debug, Default)]
pub(super) struct Before<'a> {
    units: &'a [Unit],
    /// In which unit a policy is, and its number there.
    places: HashMap<*const Policy, (u32, u32), foldhash::fast::RandomState>,
}

impl<'a> Before<'a> {
    /// The units of a table that was built from this model.
    pub(super) fn of(units: &'a [Unit], model: &Model) -> Self {
        let places = (0u32..).zip(units).flat_map(|(unit, held)| {
            (0u32..).zip(&held.policies).filter_map(move |(number, position)| {
                Some((Arc::as_ptr(model.policies.get(*position as usize)?), (unit, number)))
            })
        });
        Self { units, places: places.collect() }
    }

    /// Whether a policy is in one of them.
    pub(super) fn has(&self, policy: &Arc<Policy>) -> bool {
        self.places.contains_key(&Arc::as_ptr(policy))
    }

    fn place(&self, policy: &Arc<Policy>) -> Option<(u32, u32)> {
        self.places.get(&Arc::as_ptr(policy)).copied()
    }

    fn content(&self, unit: u32) -> Option<&'a Content> {
        self.units.get(unit as usize).map(Unit::content)
    }

    /// The policies of a group that keep their index, with it, and the others.
    fn divide<'m>(&self, group: &[Member<'m>]) -> (Vec<Member<'m>>, Option<Content>, Vec<Member<'m>>) {
        let anew = || (Vec::new(), None, group.to_vec());
        let units = group.iter().filter_map(|(_, policy)| self.place(policy)).map(|(unit, _)| unit);
        let Some(largest) = units.max_by_key(|unit| self.content(*unit).map(Content::indexed)) else { return anew() };
        let Some(content) = self.content(largest) else { return anew() };
        let number = |policy| self.place(policy).filter(|(unit, _)| *unit == largest).map(|(_, number)| number);
        let (mut kept, mut numbers, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (position, policy) in group {
            match number(policy) {
                Some(number) => {
                    kept.push((*position, *policy));
                    numbers.push((number, *policy));
                }
                None => others.push((*position, *policy)),
            }
        }
        let rules = |members: &[Member<'_>]| members.iter().map(|(_, policy)| count(policy)).sum::<u32>();
        let changed = content.indexed() - rules(&kept) + rules(&others);
        // In another order other rules are the first.
        if changed > content.indexed() / MOST || !numbers.is_sorted_by_key(|(number, _)| *number) {
            return anew();
        }
        (kept, Some(content.keeping(&numbers)), others)
    }

    /// What is taken over where these are all policies of a unit.
    fn whole(&self, group: &[Member<'_>]) -> Option<Content> {
        let (unit, _) = self.place(group.first()?.1)?;
        let held = self.units.get(unit as usize)?;
        let is_next = |((_, policy), number): (&Member<'_>, u32)| self.place(policy) == Some((unit, number));
        (held.policies.len() == group.len() && group.iter().zip(0u32..).all(is_next)).then(|| held.content().clone())
    }
}

/// So large a part of the indexed rules may be gone, or stand beside the index.
///
/// PERF: of a hundred documents every twelfth change that meets another one indexes all of them.
const MOST: u32 = 8;
