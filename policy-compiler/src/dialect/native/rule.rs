//! One rule: peers, ports, protocol, proof, expiry.

use super::context::Context;
use super::peer::{self, Role};
use super::protocol;
use crate::diagnostic::Code;
use crate::facts::Direction;
use crate::model::{Atom, Effect, Expr, PeerAtom, Rule};
use crate::source::fields::{list, text, word};
use crate::source::{Fields, Node};

/// What a rule of this dialect does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Deny,
}

impl From<Action> for Effect {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Deny => Self::Deny,
        }
    }
}

/// Reads `ingress` or `egress`.
pub(super) fn list_of(node: &Node, direction: Direction, context: &mut Context<'_>) -> Vec<Rule> {
    let name = member(direction);
    if matches!(&node.value, crate::source::Value::List(items) if items.is_empty()) {
        let word = if direction == Direction::Inbound { "Ingress" } else { "Egress" };
        let message = format!("`{name}` is an empty list");
        let help = format!("to close the direction write `directions: [{word}]`; an empty list says nothing");
        context.findings.report_with(Code::EmptyList, node.span, message, help);
        return Vec::new();
    }
    let items = list(node, &format!("`{name}`"), &mut context.findings).unwrap_or_default();
    let mut names = hashbrown::HashMap::<&str, u32, foldhash::fast::RandomState>::default();
    for item in items {
        if let Some(node) = item.get("name")
            && let Some(name) = node.text()
            && let Some(first) = names.insert(name, node.span.line)
        {
            let message = format!("a second rule `{name}`");
            let help =
                format!("the first one stands on line {first}; verdicts and tests name rules, so give each its own");
            context.findings.report_with(Code::DuplicateRule, node.span, message, help);
        }
    }
    items.iter().enumerate().filter_map(|(index, item)| rule(item, direction, index, context)).collect()
}

fn rule(node: &Node, direction: Direction, index: usize, context: &mut Context<'_>) -> Option<Rule> {
    let before = context.findings.errors();
    let mut fields = Fields::of(node, &format!("an item of `{}`", member(direction)), &mut context.findings)?;
    let name = fields.optional("name", &mut context.findings);
    let name = name.and_then(|node| text(node, "`name`", &mut context.findings));
    let action = match fields.optional("action", &mut context.findings) {
        Some(node) => {
            word(node, "`action`", &[("Allow", Action::Allow), ("Deny", Action::Deny)], &mut context.findings)?
        }
        None if fields.has("action") => return None,
        None => Action::Allow,
    };
    let (peers, strangers, except_peer, except_subject) = match direction {
        Direction::Inbound => ("from", "to", "notFrom", "notTo"),
        Direction::Outbound => ("to", "from", "notTo", "notFrom"),
    };
    if fields.has(strangers) {
        let message = format!("an {} rule has no `{strangers}`", member(direction));
        let help = format!("`subject` says that end; write `{peers}` for the other one");
        context.findings.report_with(Code::WrongDirection, fields.key_span(strangers), message, help);
        fields.accept(match direction {
            Direction::Inbound => &["to"],
            Direction::Outbound => &["from"],
        });
    }
    let whom = fields.required(peers, &mut context.findings);
    let whom = whom.and_then(|node| peer::list_of(node, quoted(peers), Role::Peer(action), context));
    let mut conditions = Vec::new();
    for (name, role) in [(except_peer, Role::PeerException(action)), (except_subject, Role::SubjectException)] {
        if let Some(node) = fields.optional(name, &mut context.findings)
            && let Some(excepted) = peer::list_of(node, quoted(name), role, context)
        {
            if excepted.condition == Expr::True
                || matches!(&excepted.condition, Expr::Any(parts) if parts.contains(&Expr::True))
            {
                let help = format!("`{name}` excepts everybody: remove the rule, or name who is excepted");
                context.findings.report_with(Code::Suspicious, node.span, "this rule never matches", help);
            }
            conditions.push(!excepted.condition);
        }
    }
    let needs_ports = whom.as_ref().and_then(|whom| whom.needs_ports);
    let by_name = whom.as_ref().and_then(|whom| whom.by_name);
    let wire = protocol::read(&mut fields, action, needs_ports, by_name, context);
    if let Some(condition) = proof(&mut fields, action, context) {
        conditions.push(condition);
    }
    let expires = expires(&mut fields, action, context);
    let span = fields.span();
    fields.finish(&mut context.findings);
    if context.findings.errors() != before {
        return None;
    }
    let (whom, wire) = (whom?, wire?);
    conditions.insert(0, whom.condition);
    conditions.push(wire.condition);
    Some(Rule {
        name: name.map_or_else(|| format!("{}[{index}]", member(direction)).into(), Into::into),
        location: context.findings.location(span),
        direction,
        effect: action.into(),
        condition: Expr::all(conditions),
        expires,
    })
}

fn proof(fields: &mut Fields<'_>, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let node = fields.optional("proof", &mut context.findings)?;
    if action == Action::Deny {
        let help = "remove it: a Deny that asks for proof would let everybody without one pass";
        context.findings.report_with(Code::Conflict, fields.key_span("proof"), "a Deny has no `proof`", help);
        return None;
    }
    let mutual = word(node, "`proof`", &[("Address", false), ("MutualTLS", true)], &mut context.findings)?;
    Some(if mutual { Expr::Is(Atom::Peer(PeerAtom::Proven)) } else { Expr::True })
}

fn expires(fields: &mut Fields<'_>, action: Action, context: &mut Context<'_>) -> Option<i64> {
    let node = fields.optional("expires", &mut context.findings)?;
    if action == Action::Deny {
        let help = "remove it: a Deny never expires by itself, delete it when it is no longer wanted";
        context.findings.report_with(Code::Conflict, fields.key_span("expires"), "a Deny has no `expires`", help);
        return None;
    }
    timestamp(node, "`expires`", context)
}

/// Seconds since the epoch.
pub(super) fn timestamp(node: &Node, what: &str, context: &mut Context<'_>) -> Option<i64> {
    let written = text(node, what, &mut context.findings)?;
    match written.parse::<jiff::Timestamp>() {
        Ok(time) => Some(time.as_second()),
        Err(_) => {
            let help = "write an RFC 3339 time with its zone, such as `\"2027-01-31T00:00:00Z\"`";
            context.findings.report_with(Code::BadValue, node.span, format!("`{written}` is no time"), help);
            None
        }
    }
}

fn member(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "ingress",
        Direction::Outbound => "egress",
    }
}

fn quoted(name: &'static str) -> &'static str {
    match name {
        "from" => "`from`",
        "to" => "`to`",
        "notFrom" => "`notFrom`",
        _ => "`notTo`",
    }
}
