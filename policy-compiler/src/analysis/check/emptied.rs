//! Rules for layer 7 that say nothing, because another rule of the same tier lets the whole connection pass.

use std::sync::Arc;

use super::implies::implies;
use super::{about, acts, looks_into_requests};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Atom, Effect, Expr, Policy, Rule};

/// An Allow that looks into requests, beside an Allow that does not and covers all of its peers and ports.
pub(super) fn by_condition(policies: &[Arc<Policy>]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let allows = |deep: bool| {
        let unordered = policies
            .iter()
            .map(|policy| &**policy)
            .filter(|policy| acts(policy) && !policy.tier.is_ordered(policy.stack));
        let rules = unordered.flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
        rules.filter(move |(_, rule)| rule.effect == Effect::Allow && looks_into_requests(&rule.condition) == deep)
    };
    let plain: Vec<(&Policy, &Rule)> = allows(false).collect();
    let mut budget = super::shadow::MOST_PAIRS;
    for (policy, rule) in allows(true) {
        for (other_policy, other) in &plain {
            if budget == 0 {
                return findings;
            }
            budget -= 1;
            let same = (other_policy.stack, other_policy.tier) == (policy.stack, policy.tier)
                && other.direction == rule.direction
                && (other.expires.is_none() || other.expires >= rule.expires && rule.expires.is_some());
            if same
                && implies(&policy.subject, &other_policy.subject)
                && implies(&connection_of(&rule.condition), &other.condition)
            {
                findings.push(finding(policy, rule, other_policy, other));
                break;
            }
        }
    }
    findings
}

/// What a condition says of the connection. HTTP, gRPC and TLS come over TCP, which a rule for layer 4 asks for.
fn connection_of(condition: &Expr) -> Expr {
    use crate::facts::Transport;
    match condition {
        Expr::Is(Atom::Protocol(any)) if any.iter().all(|protocol| protocol.transport() == Transport::Tcp) => {
            Expr::all([condition.clone(), Expr::Is(Atom::Transport(Transport::Tcp))])
        }
        Expr::All(parts) => Expr::all(parts.iter().map(connection_of)),
        other => other.clone(),
    }
}

fn finding(policy: &Policy, rule: &Rule, other_policy: &Policy, other: &Rule) -> Diagnostic {
    let of_whom = if other_policy.name == policy.name { String::new() } else { format!(" of `{}`", other_policy.name) };
    let message = format!(
        "what rule `{}` asks of requests has no effect: rule `{}`{of_whom} lets every byte of these peers pass",
        rule.name, other.name
    );
    let help = format!("the other rule stands at {}; narrow it, or remove this one", other.location);
    about(Code::Emptied, policy, rule, message, help)
}
