//! `LabelSelector`: empty selects everything, and is not the same as absent.

use super::context::Context;
use crate::diagnostic::Code;
use crate::dialect::members::{Members, items};
use crate::model::{Selector, SelectorOperator, SelectorRequirement};
use crate::source::fields::{text, word};
use crate::source::{Node, Value};

/// Reads a selector; `None` after an error.
pub(super) fn read(node: &Node, what: &str, context: &mut Context<'_>) -> Option<Selector> {
    let before = context.findings.errors();
    let mut members = Members::of(node, &format!("`{what}`"), &mut context.findings)?;
    let labels = members.find("matchLabels");
    let expressions = members.list("matchExpressions", &mut context.findings).unwrap_or_default();
    members.finish(&mut context.findings);
    let mut requirements = Vec::new();
    match labels.map(|labels| &labels.value) {
        None => {}
        Some(Value::Map(entries)) => {
            for (key, value) in entries {
                let value = text(value, &format!("the value of `{}`", key.text), &mut context.findings);
                requirements.extend(value.map(|value| SelectorRequirement {
                    key: (&*key.text).into(),
                    operator: SelectorOperator::In,
                    values: vec![value.into()],
                }));
            }
        }
        Some(_) => {
            let span = labels.map_or(node.span, |labels| labels.span);
            context.findings.report(Code::WrongType, span, "`matchLabels` is a mapping of keys to values");
        }
    }
    requirements.extend(expressions.iter().filter_map(|item| requirement(item, context)));
    // Less than what was written would match more.
    (context.findings.errors() == before).then_some(Selector { requirements })
}

fn requirement(node: &Node, context: &mut Context<'_>) -> Option<SelectorRequirement> {
    let findings = &mut context.findings;
    let mut members = Members::of(node, "an item of `matchExpressions`", findings)?;
    let key = members.require("key", findings).and_then(|node| text(node, "`key`", findings));
    let operator = members.require("operator", findings).and_then(|node| word(node, "`operator`", OPERATORS, findings));
    let values = members.find("values");
    members.finish(findings);
    let (key, operator) = (key?, operator?);
    let listed = match values {
        Some(node) => items(node, "values", findings)?,
        None => &[],
    };
    let needs = matches!(operator, SelectorOperator::In | SelectorOperator::NotIn);
    if needs == listed.is_empty() {
        let (code, message) = if needs {
            (Code::MissingField, "`In` and `NotIn` need `values`")
        } else {
            (Code::Conflict, "`Exists` and `DoesNotExist` have no `values`")
        };
        findings.report(code, values.map_or(node.span, |values| values.span), message);
        return None;
    }
    let values = listed.iter().map(|value| Some(text(value, "an item of `values`", findings)?.into()));
    Some(SelectorRequirement { key: key.into(), operator, values: values.collect::<Option<_>>()? })
}

const OPERATORS: &[(&str, SelectorOperator)] = &[
    ("In", SelectorOperator::In),
    ("NotIn", SelectorOperator::NotIn),
    ("Exists", SelectorOperator::Exists),
    ("DoesNotExist", SelectorOperator::DoesNotExist),
];
