//! Which workloads a policy of Istio selects.

use crate::diagnostic::Code;
use crate::model::{Atom, Expr, PeerAtom, PolicyName, Selector, SelectorOperator, SelectorRequirement};
use crate::source::{Fields, Findings, Node, Value, fields};

/// Every workload of the policy's namespace, of all namespaces if that is the root namespace; of them those that have
/// every label.
pub(super) fn of(name: &PolicyName, selector: Option<&Node>, root_namespace: &str, findings: &mut Findings) -> Expr {
    let namespace = if *name.namespace == *root_namespace { Expr::True } else { namespace(&name.namespace) };
    Expr::all([namespace, labels(selector, findings).unwrap_or(Expr::True)])
}

/// Workloads of one namespace.
pub(super) fn namespace(name: &str) -> Expr {
    Expr::Is(Atom::Subject(PeerAtom::Namespace(name.into())))
}

/// Workloads with every label of the selector; `None` where it names no label.
pub(super) fn labels(selector: Option<&Node>, findings: &mut Findings) -> Option<Expr> {
    let mut selector = Fields::of(selector?, "`selector`", findings)?;
    let labels = super::optional(&mut selector, "matchLabels", findings);
    selector.finish(findings);
    let Value::Map(entries) = &labels?.value else {
        Fields::of(labels?, "`matchLabels`", findings);
        return None;
    };
    let mut requirements = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let written = match &value.value {
            // SPEC: a label may have an empty value.
            Value::Text(text) if text.is_empty() => "",
            _ => fields::text(value, &format!("label `{}`", key.text), findings)?,
        };
        if key.text.is_empty() || key.text.contains('*') || written.contains('*') {
            findings.report_with(
                Code::BadValue,
                value.span,
                format!("label `{}: {written}`: no key is empty, and `*` is no wildcard in a selector", key.text),
                "write labels as they are on the pods",
            );
        }
        requirements.push(SelectorRequirement {
            key: (&*key.text).into(),
            operator: SelectorOperator::In,
            values: vec![written.into()],
        });
    }
    (!requirements.is_empty()).then(|| Expr::Is(Atom::Subject(PeerAtom::Labels(Selector { requirements }))))
}
