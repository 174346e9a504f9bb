//! Which workloads a policy of Istio selects.

use serde_saphyr::Spanned;

use super::code;
use super::findings::Findings;
use super::schema::WorkloadSelector;
use crate::model::{Atom, Expr, PeerAtom, PolicyName, Selector, SelectorOperator, SelectorRequirement};

/// Every workload of the policy's namespace, of all namespaces if that is the root namespace; of them those that have
/// every label.
pub(super) fn of(
    name: &PolicyName,
    selector: Option<&Spanned<WorkloadSelector>>,
    root_namespace: &str,
    findings: &mut Findings<'_>,
) -> Expr {
    let namespace = if *name.namespace == *root_namespace { Expr::True } else { namespace(&name.namespace) };
    Expr::all([namespace, labels(selector, findings)])
}

/// Workloads of one namespace.
pub(super) fn namespace(name: &str) -> Expr {
    Expr::Is(Atom::Subject(PeerAtom::Namespace(name.into())))
}

/// Workloads with every label of the selector.
pub(super) fn labels(selector: Option<&Spanned<WorkloadSelector>>, findings: &mut Findings<'_>) -> Expr {
    let Some(labels) = selector.and_then(|selector| selector.value.match_labels.as_ref()) else { return Expr::True };
    let mut requirements = Vec::new();
    for (key, value) in labels {
        if key.is_empty() || key.contains('*') || value.value.contains('*') {
            findings.error_at(
                Some(value),
                code::VALUE,
                format!("label `{key}: {}` in a selector: no key is empty, and `*` is no wildcard here", value.value),
                "write labels as they are on the pods",
            );
        }
        requirements.push(SelectorRequirement {
            key: key.as_str().into(),
            operator: SelectorOperator::In,
            values: vec![value.value.as_str().into()],
        });
    }
    if requirements.is_empty() {
        return Expr::True;
    }
    Expr::Is(Atom::Subject(PeerAtom::Labels(Selector { requirements })))
}
