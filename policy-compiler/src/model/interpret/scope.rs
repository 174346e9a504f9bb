//! What canonicalisation needs to know of the rules in scope.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::leg::{Leg, legs};
use super::possible::{self, Truths};
use super::tier::{self, Table};
use super::{STACKS, TIERS, truth};
use crate::canonical;
use crate::facts::{Connection, Direction, Truth};
use crate::model::{Atom, Effect, Expr, HttpOption, HttpOptions, Model, Policy, Rule};
use crate::registry::Registry;
use crate::world::{CanonicalScope, ScopedJwtRule};

/// The opt-ins in force on the destination's port, the headers that rules in scope look at, whether any rule in scope
/// looks into requests at all, and the tokens that count. Policies in mode Audit never act, so they have no say here, but
/// for what has to be known to judge by them.
#[must_use]
pub fn canonical_scope(model: &Model, registry: &Registry, connection: &Connection<'_>) -> CanonicalScope {
    let judged = legs(model, registry, connection);
    let mut headers = BTreeSet::new();
    let (mut allows, mut looks) = (false, false);
    let (mut asks_claims, mut jwt_rules) = (false, Vec::new());
    for leg in &judged {
        for rule in rules_in_scope(leg, Table::Enforced).chain(rules_in_scope(leg, Table::Shadow)) {
            visit(&rule.condition, &mut |atom| asks_claims |= atom.asks_claims());
        }
        if leg.direction == Direction::Inbound {
            for policy in selecting(leg, Table::Enforced) {
                let position = model.policies.iter().position(|held| std::ptr::eq(&**held, policy));
                let Some(position) = position.and_then(|position| u32::try_from(position).ok()) else { continue };
                let scoped = |rule| ScopedJwtRule { policy: position, rule: Arc::clone(rule) };
                jwt_rules.extend(policy.jwt_rules.iter().map(scoped));
            }
        }
        for rule in rules_in_scope(leg, Table::Enforced) {
            allows |= rule.effect == Effect::Allow;
            visit(&rule.condition, &mut |atom| {
                looks |= looks_into_requests(atom);
                headers.extend(atom.header().map(Arc::<str>::from));
            });
        }
    }
    // The opt-ins belong to the destination, whichever side asks.
    let whole = Connection { direction: Some(Direction::Inbound), ..*connection };
    let mut scope = CanonicalScope {
        options: options(&legs(model, registry, &whole)),
        watched_headers: headers.into_iter().collect(),
        opaque: allows && !looks,
        asks_claims,
        jwt_rules,
    };
    scope.finish();
    scope
}

/// Every policy of a table that selects the leg's workload.
fn selecting<'a>(leg: &Leg<'a>, table: Table) -> impl Iterator<Item = &'a Policy> + use<'a> {
    let leg = *leg;
    STACKS
        .into_iter()
        .flat_map(move |stack| TIERS.into_iter().flat_map(move |tier| tier::selecting(&leg, table, stack, tier)))
}

/// Rules of policies that select the leg's workload and whose port and transport could be this one's, whoever asks.
fn rules_in_scope<'a>(leg: &Leg<'a>, table: Table) -> impl Iterator<Item = &'a Rule> + use<'a> {
    let leg = *leg;
    selecting(&leg, table)
        .flat_map(move |policy| tier::rules(policy, &leg))
        .filter(move |rule| !on_port(&rule.condition, &leg).is_only(Truth::False))
}

fn on_port(condition: &Expr, leg: &Leg<'_>) -> Truths {
    possible::truths(condition, &|atom| match atom {
        Atom::Port(_) | Atom::Transport(_) => truth::connection(atom, leg).map_or(Truths::ALL, Truths::just),
        _ => Truths::ALL,
    })
}

fn looks_into_requests(atom: &Atom) -> bool {
    match atom {
        Atom::Protocol(_) | Atom::Text { .. } | Atom::Present(_) | Atom::RemoteIp(_) | Atom::DeclaredProbe => true,
        Atom::Subject(_) | Atom::Peer(_) | Atom::Located(_) | Atom::Port(_) | Atom::Transport(_) => false,
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

/// The strictest of what the policies of every possible destination say of this port. A destination that no policy
/// opts in has the default, so one such endpoint of a Service makes all strict.
fn options(destinations: &[Leg<'_>]) -> canonical::Options {
    strictest(&destinations.iter().map(leg_options).collect::<Vec<_>>())
}

/// The strictest of the options of several destinations.
pub(crate) fn strictest(each: &[canonical::Options]) -> canonical::Options {
    let strictest = |of: fn(&canonical::Options) -> HttpOption| each.iter().map(of).max().unwrap_or_default();
    canonical::Options {
        escaped_slash: strictest(|o| o.escaped_slash),
        backslash: strictest(|o| o.backslash),
        path_parameters: strictest(|o| o.path_parameters),
        merge_slashes: strictest(|o| o.merge_slashes),
        method_override: strictest(|o| o.method_override),
        underscore_headers: strictest(|o| o.underscore_headers),
    }
}

fn leg_options(leg: &Leg<'_>) -> canonical::Options {
    strictest_of_policies(selecting(leg, Table::Enforced), leg)
}

/// The strictest of what these policies say of the leg's port.
pub(crate) fn strictest_of_policies<'a>(
    policies: impl Iterator<Item = &'a Policy>,
    leg: &Leg<'_>,
) -> canonical::Options {
    let stated: Vec<&HttpOptions> = policies
        .flat_map(|policy| &policy.http_options)
        .filter(|options| !on_port(&options.ports, leg).is_only(Truth::False))
        .collect();
    let strictest =
        |of: fn(&HttpOptions) -> Option<HttpOption>| stated.iter().filter_map(|o| of(o)).max().unwrap_or_default();
    canonical::Options {
        escaped_slash: strictest(|o| o.escaped_slash),
        backslash: strictest(|o| o.backslash),
        path_parameters: strictest(|o| o.path_parameters),
        merge_slashes: strictest(|o| o.merge_slashes),
        method_override: strictest(|o| o.method_override),
        underscore_headers: strictest(|o| o.underscore_headers),
    }
}
