//! Label selectors as Kubernetes has them: an empty one selects everything.

use super::super::members::Members;
use crate::diagnostic::Code;
use crate::model::{Selector, SelectorOperator, SelectorRequirement};
use crate::source::{Findings, Node, Value, fields};

/// Reads a selector; `None` after an error.
pub(super) fn read(node: &Node, what: &str, findings: &mut Findings) -> Option<Selector> {
    let before = findings.errors();
    let mut members = Members::of(node, what, findings)?;
    let mut requirements = Vec::new();
    match members.find("matchLabels").map(|node| (node, &node.value)) {
        None => {}
        Some((_, Value::Map(entries))) => {
            for (key, value) in entries {
                requirements.push(SelectorRequirement {
                    key: (&*key.text).into(),
                    operator: SelectorOperator::In,
                    values: vec![label(value, &key.text, findings)?.into()],
                });
            }
        }
        Some((node, _)) => {
            Members::of(node, "`matchLabels`", findings);
        }
    }
    for item in members.list("matchExpressions", findings).unwrap_or_default() {
        requirements.extend(requirement(item, findings));
    }
    members.finish(findings);
    (findings.errors() == before).then_some(Selector { requirements })
}

fn requirement(node: &Node, findings: &mut Findings) -> Option<SelectorRequirement> {
    let mut members = Members::of(node, "an item of `matchExpressions`", findings)?;
    let key = members.require("key", findings).and_then(|node| fields::text(node, "`key`", findings));
    let operator =
        members.require("operator", findings).and_then(|node| fields::word(node, "`operator`", &OPERATORS, findings));
    let values = members.list("values", findings).unwrap_or_default();
    let place = members.place("values");
    members.finish(findings);
    let (key, operator) = (key?, operator?);
    let needs_values = matches!(operator, SelectorOperator::In | SelectorOperator::NotIn);
    if needs_values == values.is_empty() {
        let message = "`In` and `NotIn` have `values`, `Exists` and `DoesNotExist` have none";
        findings.report_with(Code::Conflict, place, message, "compare operator and values");
        return None;
    }
    let read: Option<Vec<_>> = values.iter().map(|node| Some(label(node, key, findings)?.into())).collect();
    Some(SelectorRequirement { key: key.into(), operator, values: read? })
}

/// The value of a label, which may be empty.
pub(super) fn label<'n>(node: &'n Node, key: &str, findings: &mut Findings) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => fields::text(node, &format!("the value of `{key}`"), findings),
    }
}

const OPERATORS: [(&str, SelectorOperator); 4] = [
    ("In", SelectorOperator::In),
    ("NotIn", SelectorOperator::NotIn),
    ("Exists", SelectorOperator::Exists),
    ("DoesNotExist", SelectorOperator::DoesNotExist),
];
