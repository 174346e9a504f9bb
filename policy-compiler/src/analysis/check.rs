//! What is valid and probably not meant: findings that need more than one document, or the workloads.

use crate::diagnostic::Diagnostic;
use crate::dialect::{Compiled, Mentioned};
use crate::model::{Atom, Expr, Mode, PeerAtom, Policy};
use crate::registry::{Registry, Workload};

mod implies;
mod mismatch;
mod shadow;

/// All findings beyond those of the documents themselves. Without a registry nothing is said of who exists.
#[must_use]
pub fn check(compiled: &Compiled, registry: Option<&Registry>) -> Vec<Diagnostic> {
    let mut findings = shadow::unreachable(&compiled.model.policies);
    if let Some(registry) = registry {
        findings.extend(mentions(compiled, registry));
        findings.extend(mismatch::protocols(&compiled.model.policies, registry));
    }
    findings
}

fn mentions(compiled: &Compiled, registry: &Registry) -> Vec<Diagnostic> {
    let is_there = |of: &Mentioned| match of {
        Mentioned::Service { namespace, name } => registry.find_service(namespace, name).is_some(),
        Mentioned::Somebody(who) | Mentioned::Protected(who) => {
            registry.workloads.iter().any(|workload| selects(who, workload))
        }
    };
    compiled.mentions.iter().filter(|mention| !is_there(&mention.of)).map(|mention| mention.finding.clone()).collect()
}

/// Whether a subject expression holds of a workload. Atoms that are not about a subject hold of nobody.
fn selects(subject: &Expr, workload: &Workload) -> bool {
    match subject {
        Expr::True => true,
        Expr::False => false,
        Expr::All(parts) => parts.iter().all(|part| selects(part, workload)),
        Expr::Any(parts) => parts.iter().any(|part| selects(part, workload)),
        Expr::Not(part) => !selects(part, workload),
        Expr::Is(Atom::Subject(atom)) => match atom {
            PeerAtom::Namespace(name) => workload.namespace == *name,
            PeerAtom::ServiceAccount(name) => workload.service_account == *name,
            PeerAtom::NamespaceLabels(selector) => selector.matches(&workload.namespace_labels),
            PeerAtom::Labels(selector) => selector.matches(&workload.labels),
            PeerAtom::Workload => true,
            _ => false,
        },
        Expr::Is(_) => false,
    }
}

/// A policy that acts in the enforced table.
fn acts(policy: &Policy) -> bool {
    policy.mode == Mode::Enforce && !policy.broken
}
