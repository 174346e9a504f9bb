//! What one tier of one stack says.

use super::leg::Leg;
use super::truth;
use crate::facts::{Direction, Request, Truth};
use crate::model::{Directions, Effect, Mode, Policy, Rule, Stack, Tier};
use crate::pace;

/// Which of the two tables is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// What acts.
    Enforced,
    /// The enforced one with the policies in mode Audit added, and those that they replace taken away.
    Shadow,
}

/// What a tier says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer<'a> {
    /// A Deny possibly matches.
    Deny(&'a Policy, &'a Rule),
    /// An Allow surely matches.
    Allow(&'a Policy, &'a Rule),
    /// A policy closes the direction and no rule matches.
    Closed(&'a Policy),
    /// The same, and that policy has an error and no last good version.
    Broken(&'a Policy),
    /// A rule leaves it to the next tier.
    Pass(&'a Policy, &'a Rule),
    /// Ask the next tier.
    Silent,
}

/// What the rules of a tier say, before it is asked who closes the direction.
enum Said<'a> {
    Deny(&'a Policy, &'a Rule),
    Allow(&'a Policy, &'a Rule),
    Pass(&'a Policy, &'a Rule),
    Nothing,
}

/// What one tier of one stack says of a request.
pub(crate) fn answer<'a>(leg: &Leg<'a>, request: &Request<'_>, table: Table, stack: Stack, tier: Tier) -> Answer<'a> {
    let policies = selecting(leg, table, stack, tier);
    let said =
        if tier.is_ordered(stack) { first_of(&policies, leg, request) } else { strongest_of(&policies, leg, request) };
    match (said, closer(&policies, leg)) {
        (Said::Deny(policy, rule), _) => Answer::Deny(policy, rule),
        (Said::Allow(policy, rule), _) => Answer::Allow(policy, rule),
        (_, Some(policy)) if policy.broken => Answer::Broken(policy),
        (Said::Nothing, Some(policy)) => Answer::Closed(policy),
        (Said::Pass(policy, rule), _) => Answer::Pass(policy, rule),
        (Said::Nothing, None) => Answer::Silent,
    }
}

/// An unordered tier: a Deny beats an Allow.
fn strongest_of<'a>(policies: &[&'a Policy], leg: &Leg<'a>, request: &Request<'_>) -> Said<'a> {
    let of = |effect| rules_of(policies, leg).filter(move |(_, rule)| rule.effect == effect);
    if let Some((policy, rule)) = of(Effect::Deny).find(|(_, rule)| truth::of(&rule.condition, leg, request).possibly())
    {
        return Said::Deny(policy, rule);
    }
    let allow = of(Effect::Allow)
        .find(|(_, rule)| !is_expired(rule, request.now) && truth::of(&rule.condition, leg, request).surely());
    allow.map_or(Said::Nothing, |(policy, rule)| Said::Allow(policy, rule))
}

/// An ordered tier: the first rule that acts.
fn first_of<'a>(policies: &[&'a Policy], leg: &Leg<'a>, request: &Request<'_>) -> Said<'a> {
    let mut may_have_passed = false;
    for (policy, rule) in rules_of(policies, leg).filter(|(_, rule)| !is_expired(rule, request.now)) {
        let truth = truth::of(&rule.condition, leg, request);
        match rule.effect {
            Effect::Deny if truth.possibly() => return Said::Deny(policy, rule),
            Effect::Allow if truth.surely() && may_have_passed => return Said::Pass(policy, rule),
            Effect::Allow if truth.surely() => return Said::Allow(policy, rule),
            Effect::Pass if truth.surely() => return Said::Pass(policy, rule),
            Effect::Pass => may_have_passed |= truth.possibly(),
            Effect::Deny | Effect::Allow => {}
        }
    }
    Said::Nothing
}

/// The rules of some policies for the leg's direction, in order.
pub(crate) fn rules_of<'a, 'p>(
    policies: &'p [&'a Policy],
    leg: &Leg<'_>,
) -> impl Iterator<Item = (&'a Policy, &'a Rule)> + use<'a, 'p> {
    let direction = leg.direction;
    let of_policy = move |policy: &&'a Policy| {
        let policy = *policy;
        let rules = policy.rules.iter().filter(move |rule| rule.direction == direction);
        rules.inspect(|_| pace::tick()).map(move |rule| (policy, rule))
    };
    policies.iter().flat_map(of_policy)
}

/// The policy that closes the leg's direction, a broken one first: it may have said more than is known. Admin closes
/// nothing, unless it is broken.
pub(crate) fn closer<'a>(policies: &[&'a Policy], leg: &Leg<'_>) -> Option<&'a Policy> {
    let closes = |policy: &&&Policy| {
        let plainly = policy.tier != Tier::Admin && policy.closes.contains(leg.direction);
        plainly || breaks_direction(policy, leg.direction)
    };
    let broken = policies.iter().filter(|policy| policy.broken).find(closes);
    broken.or_else(|| policies.iter().find(closes)).copied()
}

/// SPEC: expired when now ≥ expires; the rule is gone, the policy goes on selecting. A Deny never expires.
pub(crate) fn is_expired(rule: &Rule, now: i64) -> bool {
    rule.effect == Effect::Allow && rule.expires.is_some_and(|expires| now >= expires)
}

/// Whether a broken policy closes a direction: one whose directions are not known closes both.
pub(crate) fn breaks_direction(policy: &Policy, direction: Direction) -> bool {
    policy.broken && (policy.closes == Directions::default() || policy.closes.contains(direction))
}

/// The rules of a policy for the leg's direction.
pub(crate) fn rules<'a>(policy: &'a Policy, leg: &Leg<'_>) -> impl Iterator<Item = &'a Rule> + use<'a> {
    let direction = leg.direction;
    policy.rules.iter().filter(move |rule| rule.direction == direction)
}

/// The policies of a tier that select the leg's workload.
pub(crate) fn selecting<'a>(leg: &Leg<'a>, table: Table, stack: Stack, tier: Tier) -> Vec<&'a Policy> {
    let policies = leg.model.policies.iter().map(|policy| &**policy);
    policies
        .filter(|policy| {
            policy.stack == stack && policy.tier == tier && is_in(policy, leg, table) && selects(policy, leg)
        })
        .collect()
}

/// The policy that closes the direction in a stack, if one does.
pub(crate) fn closing<'a>(leg: &Leg<'a>, table: Table, stack: Stack) -> Option<&'a Policy> {
    super::TIERS.into_iter().find_map(|tier| closer(&selecting(leg, table, stack, tier), leg))
}

/// Whether the shadow table can say something else of this leg than the enforced one.
pub(crate) fn shadow_differs(leg: &Leg<'_>) -> bool {
    leg.model
        .policies
        .iter()
        .any(|policy| is_in(policy, leg, Table::Enforced) != is_in(policy, leg, Table::Shadow) && selects(policy, leg))
}

/// Whether the policy protects the leg's workload.
pub(crate) fn selects(policy: &Policy, leg: &Leg<'_>) -> bool {
    // Only subject atoms occur, each known for a registered workload. Should one be unknown all the same, the
    // workload counts as selected: a policy that protects too much is the safe mistake.
    let request = Request::opaque(crate::facts::Fact::Unknown, 0);
    truth::of(&policy.subject, leg, &request) != Truth::False
}

fn is_in(policy: &Policy, leg: &Leg<'_>, table: Table) -> bool {
    match (table, policy.mode) {
        (Table::Enforced, mode) => mode == Mode::Enforce,
        (Table::Shadow, Mode::Audit) => true,
        (Table::Shadow, Mode::Enforce) => !leg
            .model
            .policies
            .iter()
            .any(|candidate| candidate.mode == Mode::Audit && candidate.replaces.contains(&policy.name)),
    }
}
