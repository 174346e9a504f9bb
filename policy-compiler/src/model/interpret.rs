//! The reference interpreter: slow, obviously right, the oracle that the table is tested against.
//!
//! It walks every policy and every rule for every request. Nothing here is meant to be fast; everything here is meant
//! to be read beside the schema's chapters on semantics.

pub(crate) mod leg;
pub(crate) mod pattern;
pub(crate) mod peer;
pub(crate) mod possible;
pub(crate) mod probe;
pub(crate) mod scope;
mod text;
pub(crate) mod tier;
pub(crate) mod truth;

use crate::facts::{Connection, Direction, Fact, Request, Transport};
use crate::model::{Model, Stack, Tier};
use crate::registry::Registry;
use crate::settings::Probes;
use crate::verdict::{Action, Audit, Proof, Reason, RuleId, Verdict};
use crate::world::ConnectionVerdict;

use leg::{Leg, legs};
pub use scope::canonical_scope;
use tier::{Answer, Table};

/// What one leg, or all of them together, came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement {
    pub(crate) action: Action,
    pub(crate) reason: Reason,
    pub(crate) rule: Option<RuleId>,
}

/// The verdict on one request of one connection.
#[must_use]
pub fn request_verdict(
    model: &Model,
    registry: &Registry,
    connection: &Connection<'_>,
    request: &Request<'_>,
) -> Verdict {
    let legs = legs(model, registry, connection);
    let enforced = combine(legs.iter().map(|leg| judge(leg, request, Table::Enforced)));
    let audit = legs.iter().any(tier::shadow_differs).then(|| {
        let shadow = combine(legs.iter().map(|leg| judge(leg, request, Table::Shadow)));
        Audit { action: shadow.action, reason: shadow.reason, rule: shadow.rule }
    });
    Verdict { action: enforced.action, reason: enforced.reason, rule: enforced.rule, proof: proof(connection), audit }
}

/// What can be said of a connection before any request is seen. Sound: a request verdict never contradicts it while
/// `now` is the same.
#[must_use]
pub fn connection_verdict(
    model: &Model,
    registry: &Registry,
    connection: &Connection<'_>,
    now: i64,
) -> ConnectionVerdict {
    let mut always = true;
    let mut denial = None;
    for leg in legs(model, registry, connection) {
        let outlook = possible::outlook(&leg, now);
        always &= !outlook.may_deny;
        if !outlook.may_allow {
            denial = denial.or(outlook.denial);
        }
    }
    let unseen = || request_verdict(model, registry, connection, &Request::opaque(Fact::Unknown, now));
    match denial {
        Some((reason, rule)) => {
            ConnectionVerdict::Deny(Verdict { action: Action::Deny, reason, rule: Some(rule), ..unseen() })
        }
        None if always => ConnectionVerdict::Opaque(unseen()),
        None => ConnectionVerdict::Inspect,
    }
}

/// By which proof the peer was known.
pub(crate) fn proof(connection: &Connection<'_>) -> Proof {
    if connection.source.principal.is_some() { Proof::Mtls } else { Proof::Address }
}

/// All legs must allow. Of several denials the first names the rule; of several permissions the last one that a rule
/// gave (legs are in the order of the way, and the inbound side is the guarantee).
fn combine(judgements: impl Iterator<Item = Judgement>) -> Judgement {
    let mut allowed: Option<Judgement> = None;
    for judgement in judgements {
        if judgement.action != Action::Allow {
            return judgement;
        }
        let open = judgement.reason == Reason::Unprotected;
        if allowed.as_ref().is_none_or(|held| !open || held.reason == Reason::Unprotected) {
            allowed = Some(judgement);
        }
    }
    allowed.unwrap_or(Judgement { action: Action::Allow, reason: Reason::NotSubject, rule: None })
}

/// One side of the flow against one table.
pub(crate) fn judge(leg: &Leg<'_>, request: &Request<'_>, table: Table) -> Judgement {
    if is_declared_probe(leg, request) && !admin_denies(leg, request, table) {
        return Judgement { action: Action::Allow, reason: Reason::Probe, rule: None };
    }
    let mut allowed: Option<Judgement> = None;
    let mut closed = None;
    for stack in STACKS {
        let judgement = judge_stack(leg, request, table, stack);
        if judgement.action != Action::Allow {
            return judgement;
        }
        if judgement.reason == Reason::AllowRule && allowed.is_none() {
            allowed = Some(judgement);
        }
        closed = closed.or_else(|| tier::closing(leg, table, stack));
    }
    // SPEC: a Service without a ready endpoint is denied where the direction is closed.
    if leg.destination.port.is_none()
        && let Some(policy) = closed
    {
        return Judgement { action: Action::Deny, reason: Reason::NoEndpoint, rule: Some(leg.model.id(policy, None)) };
    }
    allowed.unwrap_or(Judgement { action: Action::Allow, reason: Reason::Unprotected, rule: None })
}

/// The tiers of one stack in order; after the last the direction is open.
fn judge_stack(leg: &Leg<'_>, request: &Request<'_>, table: Table, stack: Stack) -> Judgement {
    for tier in TIERS {
        let (action, reason, rule) = match tier::answer(leg, request, table, stack, tier) {
            Answer::Broken(policy) => (Action::Deny, Reason::BrokenPolicy, leg.model.id(policy, None)),
            Answer::Deny(policy, rule) => (Action::Deny, Reason::DenyRule, leg.model.id(policy, Some(rule))),
            Answer::Allow(policy, rule) => (Action::Allow, Reason::AllowRule, leg.model.id(policy, Some(rule))),
            Answer::Closed(policy) => {
                let reason = if leg.destination.port.is_none() { Reason::NoEndpoint } else { Reason::NoRule };
                (Action::Deny, reason, leg.model.id(policy, None))
            }
            Answer::Pass(..) | Answer::Silent => continue,
        };
        return Judgement { action, reason, rule: Some(rule) };
    }
    Judgement { action: Action::Allow, reason: Reason::Unprotected, rule: None }
}

/// An Admin Deny comes before the pods' declared probes.
fn admin_denies(leg: &Leg<'_>, request: &Request<'_>, table: Table) -> bool {
    STACKS.into_iter().any(|stack| matches!(tier::answer(leg, request, table, stack, Tier::Admin), Answer::Deny(..)))
}

/// Whether this is exactly a probe that the pod's spec declares: from its own node, with port, method and path.
fn is_declared_probe(leg: &Leg<'_>, request: &Request<'_>) -> bool {
    may_be_probe(leg)
        && leg.workload().is_some_and(|subject| {
            subject.probes.iter().filter(|probe| leg.destination.port == Some(probe.port)).any(|probe| {
                let Some(target) = &probe.path else {
                    return request.protocol == Fact::Known(crate::facts::Protocol::Tcp);
                };
                let (path, query) = match target.split_once('?') {
                    Some((path, query)) => (path, Fact::Known(query.as_bytes())),
                    None => (&**target, Fact::Absent),
                };
                matches!(request.protocol, Fact::Known(protocol) if protocol.is_http())
                    && request.method == Fact::Known(probe.method.as_bytes())
                    && request.path == Fact::Known(path.as_bytes())
                    && request.query == query
                    && request.upgrade == Fact::Absent
            })
        })
}

/// Whether the connection could carry a declared probe at all.
pub(crate) fn may_be_probe(leg: &Leg<'_>) -> bool {
    use crate::facts::Place;
    let Some(subject) = leg.workload() else { return false };
    let Place::Node(Some(node)) = leg.peer_party().end.place else { return false };
    let own = leg.registry.node(node).is_some_and(|node| subject.node.as_ref() == Some(&node.name));
    leg.direction == Direction::Inbound
        && leg.model.settings.probes == Probes::Allow
        && leg.transport == Transport::Tcp
        && own
        && subject.probes.iter().any(|probe| leg.destination.port == Some(probe.port))
}

/// Every stack: where several select a workload all must allow.
pub(crate) const STACKS: [Stack; 4] = [Stack::Native, Stack::Network, Stack::Istio, Stack::Linkerd];

/// Every tier, in the order in which they are asked.
pub(crate) const TIERS: [Tier; 3] = [Tier::Admin, Tier::Application, Tier::Baseline];
