//! Rules that another rule makes unreachable.

use std::sync::Arc;

use super::{acts, implies::implies};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Effect, Policy, Rule, Stack};

/// An Allow under a Deny that covers it, in its own tier or an earlier one of its stack; a rule that says no more than
/// another of its own policy; and in an ordered tier a rule behind one that covers it.
pub(super) fn unreachable(policies: &[Arc<Policy>]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    // What the routes of Linkerd become stands in the order of their precedence: each is followed by its own refusal.
    let looked_at =
        || policies.iter().map(|policy| &**policy).filter(|policy| acts(policy) && policy.stack != Stack::Linkerd);
    let is_ordered = |policy: &Policy| policy.tier.is_ordered(policy.stack);
    let denies: Vec<(&Policy, &Rule)> = looked_at()
        .filter(|policy| !is_ordered(policy))
        .flat_map(|policy| of(policy, Effect::Deny).map(move |rule| (policy, rule)))
        .collect();
    let mut before: Vec<(&Policy, &Rule)> = Vec::new();
    let mut budget = MOST_PAIRS;
    for policy in looked_at() {
        for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| policy.wrote(rule)) {
            let ordered = is_ordered(policy);
            let earlier = policy.rules.iter().take(index).map(|other| (policy, other));
            let same = earlier.filter(|(_, other)| !ordered && other.effect == rule.effect && outlives(other, rule));
            let under = denies.iter().copied().filter(|(other, _)| {
                !ordered && rule.effect == Effect::Allow && other.stack == policy.stack && other.tier <= policy.tier
            });
            let behind = before
                .iter()
                .copied()
                .filter(|(other, _)| ordered && (other.stack, other.tier) == (policy.stack, policy.tier));
            for (other_policy, other) in under.chain(same).chain(behind) {
                if budget == 0 {
                    return findings;
                }
                budget -= 1;
                let covered = other.direction == rule.direction
                    && implies(&policy.subject, &other_policy.subject)
                    && implies(&rule.condition, &other.condition);
                if covered {
                    findings.push(finding(policy, rule, other_policy, other));
                    break;
                }
            }
            if ordered {
                before.push((policy, rule));
            }
        }
    }
    findings
}

fn finding(policy: &Policy, rule: &Rule, other_policy: &Policy, other: &Rule) -> Diagnostic {
    let why = match (rule.effect, other.effect) {
        _ if policy.tier.is_ordered(policy.stack) => "is asked first and covers everything that it covers",
        (Effect::Allow, Effect::Deny) => "denies everything that it allows",
        _ => "covers everything that it covers",
    };
    let of_whom = if other_policy.name == policy.name { String::new() } else { format!(" of `{}`", other_policy.name) };
    let message = format!("rule `{}` never decides: rule `{}`{of_whom} {why}", rule.name, other.name);
    let mut finding = Diagnostic::new(Code::Unreachable, rule.location.clone(), message)
        .help(format!("the other rule stands at {}; remove this one, or narrow that one", other.location));
    finding.policy = Some(policy.name.to_string());
    finding
}

fn of(policy: &Policy, effect: Effect) -> impl Iterator<Item = &Rule> {
    policy.rules.iter().filter(move |rule| rule.effect == effect)
}

/// A rule that is gone before the other one does not stand in its way.
fn outlives(other: &Rule, rule: &Rule) -> bool {
    match (other.expires, rule.expires) {
        (None, _) => true,
        (Some(other), Some(rule)) => other >= rule,
        (Some(_), None) => false,
    }
}

/// Pairs that are compared: enough for every hand-written policy, and an end for generated ones.
pub(super) const MOST_PAIRS: usize = 2_000_000;
