//! What a flow could still come to before any request is seen.
//!
//! Every condition is evaluated to the *set* of truth values that it could take: what the connection knows (who the
//! ends are, the port, the transport) has one value, unknown ones included; what only a request tells has all three.
//! Sets are combined as if their parts were independent, so they may be too large, never too small: a "never" and an
//! "always" read off them are sound.

use super::leg::Leg;
use super::tier::{self, Table};
use super::{STACKS, TIERS, may_be_probe, truth};
use crate::facts::Truth;
use crate::model::{Atom, Effect, Expr, Policy, Rule, Stack, Text, Tier};
use crate::verdict::{Reason, RuleId};

/// A set of truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truths(u8);

const VALUES: [Truth; 3] = [Truth::False, Truth::Unknown, Truth::True];

impl Truths {
    pub(crate) const ALL: Self = Self(0b111);
    const NONE: Self = Self(0);

    pub(crate) fn just(truth: Truth) -> Self {
        Self(match truth {
            Truth::False => 0b001,
            Truth::Unknown => 0b010,
            Truth::True => 0b100,
        })
    }

    pub(crate) fn has(self, truth: Truth) -> bool {
        self.0 & Self::just(truth).0 != 0
    }

    /// No value other than this one.
    pub(crate) fn is_only(self, truth: Truth) -> bool {
        self == Self::just(truth)
    }

    fn map(self, with: impl Fn(Truth) -> Truth) -> Self {
        VALUES
            .into_iter()
            .filter(|value| self.has(*value))
            .fold(Self::NONE, |held, value| Self(held.0 | Self::just(with(value)).0))
    }

    fn both(self, other: Self, with: impl Fn(Truth, Truth) -> Truth) -> Self {
        VALUES
            .into_iter()
            .filter(|value| other.has(*value))
            .fold(Self::NONE, |held, right| Self(held.0 | self.map(|left| with(left, right)).0))
    }
}

/// The truth values that a condition could take, where `atom` says which an atom could.
pub(crate) fn truths(condition: &Expr, atom: &impl Fn(&Atom) -> Truths) -> Truths {
    match condition {
        Expr::True => Truths::just(Truth::True),
        Expr::False => Truths::just(Truth::False),
        Expr::Is(held) => atom(held),
        Expr::All(parts) => parts
            .iter()
            .map(|part| truths(part, atom))
            .fold(Truths::just(Truth::True), |held, part| held.both(part, Truth::and)),
        Expr::Any(parts) => parts
            .iter()
            .map(|part| truths(part, atom))
            .fold(Truths::just(Truth::False), |held, part| held.both(part, Truth::or)),
        Expr::Not(inner) => truths(inner, atom).map(|value| !value),
    }
}

/// What the requests of a connection could come to.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    /// Some request might be allowed.
    pub(crate) may_allow: bool,
    /// Some request might be denied.
    pub(crate) may_deny: bool,
    /// Why every request is denied, where `may_allow` is false.
    pub(crate) denial: Option<(Reason, RuleId)>,
}

/// What every request of this leg could come to in the enforced table.
pub(crate) fn outlook(leg: &Leg<'_>, now: i64) -> Outlook {
    let mut whole = Outlook { may_allow: true, may_deny: false, denial: None };
    for stack in STACKS {
        let part = stack_outlook(leg, now, stack);
        whole.may_deny |= part.may_deny;
        if !part.may_allow && whole.may_allow {
            whole.may_allow = false;
            whole.denial = part.denial;
        }
    }
    if leg.destination.port.is_none()
        && let Some(policy) = STACKS.into_iter().find_map(|stack| tier::closing(leg, Table::Enforced, stack))
    {
        let denial = whole.denial.or_else(|| Some((Reason::NoEndpoint, leg.model.id(policy, None))));
        return Outlook { may_allow: false, may_deny: true, denial };
    }
    if !whole.may_allow && may_be_probe(leg) && !STACKS.into_iter().any(|stack| admin_denies(leg, stack)) {
        whole.may_allow = true;
    }
    whole
}

fn stack_outlook(leg: &Leg<'_>, now: i64, stack: Stack) -> Outlook {
    let (mut may_allow, mut may_deny) = (false, false);
    for tier in TIERS {
        let policies = tier::selecting(leg, Table::Enforced, stack, tier);
        if tier.is_ordered(stack) {
            let ordered = ordered_outlook(&policies, leg, now);
            may_deny |= ordered.may_deny;
            may_allow |= ordered.may_allow;
            match (ordered.end, tier::closer(&policies, leg)) {
                (End::Deny(policy, rule), _) => {
                    let denial = (!may_allow).then(|| (Reason::DenyRule, leg.model.id(policy, Some(rule))));
                    return Outlook { may_allow, may_deny: true, denial };
                }
                (End::Allow, _) => return Outlook { may_allow: true, may_deny, denial: None },
                (_, Some(policy)) if policy.broken => {
                    let denial = (!may_allow).then(|| (Reason::BrokenPolicy, leg.model.id(policy, None)));
                    return Outlook { may_allow, may_deny: true, denial };
                }
                (End::Nothing { may_pass: false }, Some(policy)) => {
                    let denial = (!may_allow).then(|| (Reason::NoRule, leg.model.id(policy, None)));
                    return Outlook { may_allow, may_deny: true, denial };
                }
                (End::Nothing { may_pass: true }, Some(_)) => may_deny = true,
                (End::Pass | End::Nothing { .. }, _) => {}
            }
            continue;
        }
        if let Some(stop) = certain_denial(&policies, leg) {
            let denial = (!may_allow).then_some(stop);
            return Outlook { may_allow, may_deny: true, denial };
        }
        let rules = |effect| {
            policies.iter().flat_map(|policy| tier::rules(policy, leg)).filter(move |rule| rule.effect == effect)
        };
        may_deny |= rules(Effect::Deny).any(|rule| !seen(&rule.condition, leg).is_only(Truth::False));
        for rule in rules(Effect::Allow).filter(|rule| !tier::is_expired(rule, now)) {
            let truths = seen(&rule.condition, leg);
            may_allow |= truths.has(Truth::True);
            if truths.is_only(Truth::True) {
                return Outlook { may_allow: true, may_deny, denial: None };
            }
        }
        if let Some(policy) = tier::closer(&policies, leg) {
            let reason = if policy.broken { Reason::BrokenPolicy } else { Reason::NoRule };
            let denial = (!may_allow).then(|| (reason, leg.model.id(policy, None)));
            return Outlook { may_allow, may_deny: true, denial };
        }
    }
    Outlook { may_allow: true, may_deny, denial: None }
}

/// Where the rules of an ordered tier end, whatever the request.
enum End<'a> {
    Deny(&'a Policy, &'a Rule),
    Allow,
    Pass,
    /// No rule certainly acts. A rule before may have passed to the next tier.
    Nothing {
        may_pass: bool,
    },
}

struct Ordered<'a> {
    may_allow: bool,
    may_deny: bool,
    end: End<'a>,
}

fn ordered_outlook<'a>(policies: &[&'a Policy], leg: &Leg<'_>, now: i64) -> Ordered<'a> {
    let (mut may_allow, mut may_deny, mut may_pass) = (false, false, false);
    for (policy, rule) in tier::rules_of(policies, leg).filter(|(_, rule)| !tier::is_expired(rule, now)) {
        let truths = seen(&rule.condition, leg);
        let possibly = truths.has(Truth::True) || truths.has(Truth::Unknown);
        match rule.effect {
            Effect::Deny if !truths.has(Truth::False) => {
                let end = if may_pass { End::Nothing { may_pass } } else { End::Deny(policy, rule) };
                return Ordered { may_allow, may_deny: true, end };
            }
            Effect::Deny => may_deny |= possibly,
            Effect::Allow => {
                may_allow |= truths.has(Truth::True);
                if truths.is_only(Truth::True) {
                    return Ordered { may_allow, may_deny, end: if may_pass { End::Pass } else { End::Allow } };
                }
            }
            Effect::Pass if truths.is_only(Truth::True) => return Ordered { may_allow, may_deny, end: End::Pass },
            Effect::Pass => may_pass |= possibly,
        }
    }
    Ordered { may_allow, may_deny, end: End::Nothing { may_pass } }
}

/// A Deny that possibly matches whatever the request.
fn certain_denial(policies: &[&Policy], leg: &Leg<'_>) -> Option<(Reason, RuleId)> {
    let denies = policies.iter().flat_map(|policy| tier::rules(policy, leg).map(move |rule| (*policy, rule)));
    denies
        .filter(|(_, rule)| rule.effect == Effect::Deny)
        .find(|(_, rule)| !seen(&rule.condition, leg).has(Truth::False))
        .map(|(policy, rule)| (Reason::DenyRule, leg.model.id(policy, Some(rule))))
}

fn admin_denies(leg: &Leg<'_>, stack: Stack) -> bool {
    let policies = tier::selecting(leg, Table::Enforced, stack, Tier::Admin);
    if !Tier::Admin.is_ordered(stack) {
        return certain_denial(&policies, leg).is_some();
    }
    // What expires is an Allow: without a clock none has.
    let ordered = ordered_outlook(&policies, leg, i64::MIN);
    matches!(ordered.end, End::Deny(..)) && !ordered.may_allow
}

/// The truth values of a condition before any request is seen.
pub(crate) fn seen(condition: &Expr, leg: &Leg<'_>) -> Truths {
    truths(condition, &|atom| match atom {
        Atom::Present(Text::PeerPrincipal) => Truths::just(leg.peer_party().end.principal.is_some().into()),
        _ => truth::connection(atom, leg).map_or(Truths::ALL, Truths::just),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_combine_as_their_members_do() {
        for left in 1..8 {
            for right in 1..8 {
                let both = Truths(left).both(Truths(right), Truth::and);
                for result in VALUES {
                    let expected = VALUES.into_iter().any(|a| {
                        VALUES.into_iter().any(|b| Truths(left).has(a) && Truths(right).has(b) && a.and(b) == result)
                    });
                    assert_eq!(both.has(result), expected, "{left:03b} and {right:03b}: {result:?}");
                }
            }
        }
    }
}
