//! Label selectors as Kubernetes has them: an empty one selects everything, and is not the same as none.

use super::members::Members;
use crate::diagnostic::Code;
use crate::model::{Selector, SelectorOperator, SelectorRequirement};
use crate::source::{Findings, Node, Value, fields};

/// Reads a selector; `None` after an error.
pub(super) fn read(node: &Node, what: &str, findings: &mut Findings) -> Option<Selector> {
    let before = findings.errors();
    let mut members = Members::of(node, &format!("`{what}`"), findings)?;
    let labels = members.find("matchLabels");
    let expressions = members.list("matchExpressions", findings).unwrap_or_default();
    let is_hollow = labels.is_none() && members.has("matchLabels") && expressions.is_empty();
    let place = members.place("matchLabels");
    members.finish(findings);
    if is_hollow {
        let help = "indent the labels under `matchLabels`, or write `{}`";
        let message = "`matchLabels` has no value: the selector selects everybody";
        findings.report_with(Code::Suspicious, place, message, help);
    }
    let mut requirements = Vec::new();
    match labels.map(|labels| (labels, &labels.value)) {
        None => {}
        Some((_, Value::Map(entries))) => {
            for (key, node) in entries {
                let value = value(node, &format!("the value of `{}`", key.text), findings);
                requirements.extend(value.map(|value| SelectorRequirement {
                    key: (&*key.text).into(),
                    operator: SelectorOperator::In,
                    values: vec![value.into()],
                }));
            }
        }
        Some((labels, _)) => {
            findings.report(Code::WrongType, labels.span, "`matchLabels` is a mapping of keys to values");
        }
    }
    requirements.extend(expressions.iter().filter_map(|item| requirement(item, findings)));
    // Less than what was written would match more.
    (findings.errors() == before).then_some(Selector { requirements })
}

fn requirement(node: &Node, findings: &mut Findings) -> Option<SelectorRequirement> {
    let mut members = Members::of(node, "an item of `matchExpressions`", findings)?;
    let key = members.require("key", findings).and_then(|node| fields::text(node, "`key`", findings));
    let operator = members.require("operator", findings);
    let operator = operator.and_then(|node| fields::word(node, "`operator`", OPERATORS, findings));
    let listed = members.list("values", findings).unwrap_or_default();
    let place = members.place("values");
    members.finish(findings);
    let (key, operator) = (key?, operator?);
    let needs = matches!(operator, SelectorOperator::In | SelectorOperator::NotIn);
    if needs == listed.is_empty() {
        let (code, message) = if needs {
            (Code::MissingField, "`In` and `NotIn` need `values`")
        } else {
            (Code::Conflict, "`Exists` and `DoesNotExist` have no `values`")
        };
        findings.report(code, place, message);
        return None;
    }
    let values = listed.iter().map(|item| Some(value(item, "an item of `values`", findings)?.into()));
    Some(SelectorRequirement { key: key.into(), operator, values: values.collect::<Option<_>>()? })
}

/// The value of a label, which may be empty.
fn value<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => fields::text(node, what, findings),
    }
}

const OPERATORS: &[(&str, SelectorOperator)] = &[
    ("In", SelectorOperator::In),
    ("NotIn", SelectorOperator::NotIn),
    ("Exists", SelectorOperator::Exists),
    ("DoesNotExist", SelectorOperator::DoesNotExist),
];
