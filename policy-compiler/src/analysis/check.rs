//! What is valid and probably not meant: findings that need more than one document, or the workloads.

use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Told};
use crate::dialect::{Compiled, Mentioned};
use crate::model::{Atom, Expr, Mode, Policy, Rule};
use crate::registry::Registry;

mod emptied;
mod expiry;
mod flows;
mod head;
mod implies;
mod mismatch;
mod open;
mod pattern;
mod probe;
mod shadow;
mod usable;

/// All findings beyond those of the documents themselves, at a time in seconds since the epoch. Without a registry
/// nothing is said of who exists.
#[must_use]
pub fn check(compiled: &Compiled, registry: Option<&Registry>, now: i64) -> Vec<Diagnostic> {
    let mut findings = Told::default();
    findings.extend(documents(compiled, registry, now));
    if let Some(registry) = registry {
        findings.extend(open::directions(&compiled.model, registry));
    }
    findings.into_list()
}

/// The same without what concerns no document: who stands open.
#[must_use]
pub fn documents(compiled: &Compiled, registry: Option<&Registry>, now: i64) -> Vec<Diagnostic> {
    let (model, policies) = (&compiled.model, &compiled.model.policies);
    let mut findings = Told::default();
    findings.extend(shadow::unreachable(policies));
    findings.extend(emptied::by_condition(policies));
    findings.extend(expiry::expiring(policies, now));
    findings.extend(head::missing(policies));
    findings.extend(pattern::paths(policies));
    if let Some(registry) = registry {
        findings.extend(mentions(compiled, registry));
        findings.extend(mismatch::protocols(policies, registry));
        findings.extend(usable::never(model, registry));
        findings.extend(probe::refused(model, registry, now));
    }
    findings.into_list()
}

fn mentions(compiled: &Compiled, registry: &Registry) -> Vec<Diagnostic> {
    let is_there = |of: &Mentioned| match of {
        Mentioned::Service { namespace, name } => registry.find_service(namespace, name).is_some(),
        Mentioned::Port { name, transport } => {
            let mut declared = registry.workloads.iter().flat_map(|workload| &workload.ports);
            declared.any(|port| {
                port.name.as_ref() == Some(name) && transport.is_none_or(|transport| port.transport == transport)
            })
        }
        Mentioned::Somebody(who) | Mentioned::Protected(who) => {
            registry.workloads.iter().any(|workload| who.selects(workload))
        }
    };
    compiled.mentions.iter().filter(|mention| !is_there(&mention.of)).map(|mention| mention.finding.confirm()).collect()
}

/// A finding about one rule.
fn about(code: Code, policy: &Policy, rule: &Rule, message: String, help: impl Into<String>) -> Diagnostic {
    let mut finding = Diagnostic::new(code, rule.location.clone(), message).help(help);
    finding.policy = Some(policy.name.to_string());
    finding
}

/// The rules that act in the enforced table, each with its policy.
fn acting(policies: &[Arc<Policy>]) -> impl Iterator<Item = (&Policy, &Rule)> {
    policies
        .iter()
        .filter(|policy| acts(policy))
        .flat_map(|policy| policy.rules.iter().map(move |rule| (&**policy, rule)))
}

/// Shows every atom of a condition that is not under a negation.
fn visit_positive(condition: &Expr, see: &mut impl FnMut(&Atom)) {
    match condition {
        Expr::True | Expr::False | Expr::Not(_) => {}
        Expr::Is(atom) => see(atom),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| visit_positive(part, see)),
    }
}

/// Whether a condition asks anything of a request.
fn looks_into_requests(condition: &Expr) -> bool {
    match condition {
        Expr::True | Expr::False => false,
        Expr::Is(Atom::Subject(_) | Atom::Peer(_) | Atom::Located(_) | Atom::Port(_) | Atom::Transport(_)) => false,
        Expr::Is(_) => true,
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(looks_into_requests),
        Expr::Not(inner) => looks_into_requests(inner),
    }
}

/// A policy that acts in the enforced table.
fn acts(policy: &Policy) -> bool {
    policy.mode == Mode::Enforce && !policy.broken
}
