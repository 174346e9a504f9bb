//! `headers`, `query` and `claims`: requirements on named values.

use std::sync::Arc;

use super::context::Context;
use super::regex;
use super::rule::Action;
use crate::canonical::{is_reserved, octet::is_whole_token};
use crate::diagnostic::Code;
use crate::model::{Atom, Each, Expr, Pattern, Text};
use crate::source::fields::{list, text, texts, word};
use crate::source::{Fields, Findings, Node, Span, Value};

/// Which values are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Header,
    Query,
    Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Matches,
}

/// Reads a list of requirements, all of which must hold; `None` where an item is wrong.
pub(super) fn list_of(node: &Node, what: &str, of: Of, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let items = list(node, what, &mut context.findings)?;
    let read: Vec<_> = items.iter().filter_map(|item| requirement(item, what, of, action, context)).collect();
    (read.len() == items.len()).then(|| Expr::all(read))
}

fn requirement(node: &Node, what: &str, of: Of, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut fields = Fields::of(node, &format!("an item of {what}"), &mut context.findings)?;
    let value_of = match of {
        Of::Header => {
            fields.required("name", &mut context.findings).and_then(|node| header(node, &mut context.findings))
        }
        Of::Query => {
            let name = fields.required("name", &mut context.findings);
            name.and_then(|node| text(node, "`name`", &mut context.findings)).map(|name| Text::Query(name.into()))
        }
        Of::Claim => {
            let path = fields.required("path", &mut context.findings);
            let path = path.and_then(|node| texts(node, "`path`", &mut context.findings));
            path.map(|path| Text::Claim(path.into_iter().map(|(part, _)| part.into()).collect()))
        }
    };
    let words = [
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
        ("Exists", Operator::Exists),
        ("DoesNotExist", Operator::DoesNotExist),
        ("Matches", Operator::Matches),
    ];
    let operator = match fields.optional("operator", &mut context.findings) {
        Some(node) => word(node, "`operator`", &words, &mut context.findings),
        None => Some(Operator::In),
    };
    let given = fields.optional("values", &mut context.findings);
    let has_values = fields.has("values");
    let (span, values_span) = (fields.span(), fields.key_span("values"));
    fields.finish(&mut context.findings);
    let operator = operator?;
    let patterns = match operator {
        Operator::Exists | Operator::DoesNotExist => {
            if has_values {
                let message = "`Exists` and `DoesNotExist` have no `values`";
                context.findings.report_with(Code::Conflict, values_span, message, "remove `values`, or write `In`");
            }
            Vec::new()
        }
        Operator::In | Operator::NotIn | Operator::Matches => {
            let Some(given) = given else {
                if !has_values {
                    context.findings.report_with(
                        Code::MissingField,
                        span,
                        "`values` is missing",
                        "add `values`, or `operator: Exists`",
                    );
                }
                return None;
            };
            let values = values(given, &mut context.findings)?;
            if operator == Operator::Matches {
                let compiled: Vec<_> =
                    values.iter().filter_map(|(source, span)| regex::pattern(source, *span, context)).collect();
                compiled
            } else {
                values.iter().map(|(value, span)| exact(value, *span, of, action, context)).collect()
            }
        }
    };
    let value_of = value_of?;
    if context.findings.errors() != before {
        return None;
    }
    Some(condition(&value_of, of, operator, patterns, action))
}

/// SPEC: NATIVE, "Headers and values". A header or parameter: an Allow needs at least one value and every one to match, a
/// Deny any one. NotIn on an absent name is false in an Allow, true in a Deny. An array claim satisfies In if any
/// element is listed, NotIn if none is.
fn condition(value_of: &Text, of: Of, operator: Operator, patterns: Vec<Pattern>, action: Action) -> Expr {
    let present = Expr::Is(Atom::Present(value_of.clone()));
    let some = |is| Expr::Is(Atom::Text { of: value_of.clone(), each: Each::Some, is });
    let every = |is| Expr::Is(Atom::Text { of: value_of.clone(), each: Each::Every, is });
    match (operator, of, action) {
        (Operator::Exists, ..) => present,
        (Operator::DoesNotExist, ..) => !present,
        (Operator::In | Operator::Matches, Of::Claim, _) | (Operator::In | Operator::Matches, _, Action::Deny) => {
            some(patterns)
        }
        (Operator::In | Operator::Matches, _, Action::Allow) => every(patterns),
        (Operator::NotIn, _, Action::Allow) => Expr::all([present, !some(patterns)]),
        (Operator::NotIn, Of::Claim, Action::Deny) => !some(patterns),
        (Operator::NotIn, _, Action::Deny) => !every(patterns),
    }
}

fn header(node: &Node, findings: &mut Findings) -> Option<Text> {
    let name = text(node, "`name`", findings)?;
    let lower = name.to_ascii_lowercase();
    let refuse = |message: String, help: &str, findings: &mut Findings| {
        findings.report_with(Code::NeverMatches, node.span, message, help);
        None
    };
    match lower.as_str() {
        "host" | ":authority" => {
            refuse(format!("`{name}` is not matched as a header"), "match it with `hosts`", findings)
        }
        ":path" => refuse(format!("`{name}` is not matched as a header"), "match it with `paths`", findings),
        ":method" => refuse(format!("`{name}` is not matched as a header"), "match it with `methods`", findings),
        _ if !is_whole_token(lower.as_bytes()) => {
            refuse(format!("`{name}` is no header name"), "letters, digits and `-`", findings)
        }
        _ if is_reserved(lower.as_bytes()) => {
            let help = "names with this prefix are the proxy's own, and taken out before anything is matched";
            refuse(format!("`{name}` never reaches a rule"), help, findings)
        }
        _ if HOP_BY_HOP.contains(&lower.as_str()) => {
            let help = "it belongs to one connection: each proxy on the way writes its own";
            findings.report_with(Code::Suspicious, node.span, format!("`{name}` says nothing about the request"), help);
            Some(Text::Header(Arc::from(lower)))
        }
        _ => Some(Text::Header(Arc::from(lower))),
    }
}

fn exact(value: &str, span: Span, of: Of, action: Action, context: &mut Context<'_>) -> Pattern {
    if of == Of::Header && action == Action::Allow && (value.contains(',') || value.trim() != value) {
        let help = "in an Allow every trimmed part between commas must be listed: list the parts";
        let message = format!("no part of a header value can be `{value}`");
        context.findings.report_with(Code::Suspicious, span, message, help);
    }
    Pattern::Exact(value.as_bytes().into())
}

/// `values`: at least one text, which may be empty.
pub(super) fn values<'n>(node: &'n Node, findings: &mut Findings) -> Option<Vec<(&'n str, Span)>> {
    let items = list(node, "`values`", findings)?;
    let read: Vec<_> = items
        .iter()
        .filter_map(|item| match &item.value {
            Value::Text(value) => Some((&**value, item.span)),
            _ => text(item, "an item of `values`", findings).map(|value| (value, item.span)),
        })
        .collect();
    (read.len() == items.len()).then_some(read)
}

/// RFC 9110 7.6.1 and framing.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
