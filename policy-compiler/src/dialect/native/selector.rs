//! Label selectors: `matchLabels` and `matchExpressions`.

use super::context::Context;
use crate::diagnostic::Code;
use crate::model::{Selector, SelectorOperator, SelectorRequirement};
use crate::source::fields::{list, text, word};
use crate::source::{Fields, Node, Value};

/// A selector with at least one requirement: an empty one says everybody, and that must be written `any: true`.
pub(super) fn read(node: &Node, what: &str, context: &mut Context<'_>) -> Option<Selector> {
    let findings = &mut context.findings;
    let before = findings.errors();
    let mut fields = Fields::of(node, what, findings)?;
    let labels = fields.optional("matchLabels", findings);
    let expressions = fields.optional("matchExpressions", findings);
    let is_empty =
        labels.is_none() && expressions.is_none() && !fields.has("matchLabels") && !fields.has("matchExpressions");
    let has_strangers = matches!(&node.value, Value::Map(entries) if !entries.is_empty());
    if is_empty && !has_strangers {
        let help = "an empty selector would say everybody: write `any: true` for that";
        findings.report_with(Code::EmptySelector, node.span, format!("{what} is empty"), help);
        return None;
    }
    fields.finish(findings);
    let mut requirements = Vec::new();
    if let Some(labels) = labels {
        match &labels.value {
            Value::Map(entries) if entries.is_empty() => {
                findings.report(Code::EmptySelector, labels.span, "`matchLabels` is empty");
            }
            Value::Map(entries) => {
                for (key, node) in entries {
                    let value = match &node.value {
                        Value::Text(value) => value,
                        _ => {
                            text(node, &format!("the value of `{}`", key.text), findings);
                            continue;
                        }
                    };
                    requirements.push(SelectorRequirement {
                        key: (&*key.text).into(),
                        operator: SelectorOperator::In,
                        values: vec![(&**value).into()],
                    });
                }
            }
            _ => {
                let message = format!("`matchLabels` is a mapping, found {}", labels.describe());
                findings.report(Code::WrongType, labels.span, message);
            }
        }
    }
    for item in expressions.and_then(|node| list(node, "`matchExpressions`", findings)).unwrap_or_default() {
        requirements.extend(requirement(item, context));
    }
    // Less than what was written would match more.
    (context.findings.errors() == before).then_some(Selector { requirements })
}

fn requirement(node: &Node, context: &mut Context<'_>) -> Option<SelectorRequirement> {
    let findings = &mut context.findings;
    let mut fields = Fields::of(node, "an item of `matchExpressions`", findings)?;
    let key = fields.required("key", findings).and_then(|node| text(node, "`key`", findings));
    let words = [
        ("In", SelectorOperator::In),
        ("NotIn", SelectorOperator::NotIn),
        ("Exists", SelectorOperator::Exists),
        ("DoesNotExist", SelectorOperator::DoesNotExist),
    ];
    let operator = fields.required("operator", findings).and_then(|node| word(node, "`operator`", &words, findings));
    let values = fields.optional("values", findings);
    fields.finish(findings);
    let operator = operator?;
    let values = match (operator, values) {
        (SelectorOperator::In | SelectorOperator::NotIn, Some(node)) => {
            super::requirement::values(node, findings)?.into_iter().map(|(value, _)| value.into()).collect()
        }
        (SelectorOperator::In | SelectorOperator::NotIn, None) => {
            findings.report(Code::MissingField, node.span, "`In` and `NotIn` need `values`");
            return None;
        }
        (_, Some(values)) => {
            findings.report(Code::Conflict, values.span, "`Exists` and `DoesNotExist` have no `values`");
            return None;
        }
        (_, None) => Vec::new(),
    };
    Some(SelectorRequirement { key: key?.into(), operator, values })
}
