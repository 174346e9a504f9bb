//! `toPorts`: ports, and what may pass on them.

use super::context::Context;
use super::members::{Members, items};
use super::port::{self, Ports};
use super::{http, names};
use crate::diagnostic::Code;
use crate::facts::{Direction, Protocol};
use crate::model::{Atom, Each, Effect, Expr, Text};
use crate::source::{Node, Value};

/// One item of `toPorts`.
pub(super) struct PortRule {
    /// Ports and their transports.
    pub(super) ports: Expr,
    /// What it asks of the bytes; `None` where everything may pass.
    pub(super) content: Option<Expr>,
}

/// Reads the list.
pub(super) fn list(node: &Node, effect: Effect, context: &mut Context<'_>) -> Option<Vec<PortRule>> {
    let items = items(node, "toPorts", context.findings)?;
    items.iter().map(|item| member(item, effect, context)).collect::<Vec<_>>().into_iter().collect()
}

fn member(node: &Node, effect: Effect, context: &mut Context<'_>) -> Option<PortRule> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "an item of `toPorts`", context.findings)?;
    let ports = members.require("ports", context.findings).and_then(|node| port::read(node, context));
    let mut content = None;
    if effect == Effect::Deny {
        for name in ["rules", "serverNames"] {
            if members.find(name).is_some() {
                let help = "deny whole ports, or write what may pass in `ingress` and `egress`";
                let message = format!("`{name}` cannot stand in a deny rule");
                context.findings.report_with(Code::WrongDirection, members.place(name), message, help);
            }
        }
    } else {
        let help = "let Cilium enforce this policy, or remove the field";
        for name in ["terminatingTLS", "originatingTLS"] {
            members.refuse(name, "Eastwall has no certificates of other policies", help, context.findings);
        }
        members.refuse("listener", "Eastwall runs no listeners of Envoy", help, context.findings);
        let rules = members.find("rules");
        let families = rules.and_then(|rules| families(rules, ports.as_ref(), context));
        let server_names = members.find("serverNames").and_then(|node| names::server_names(node, context));
        let server_names = server_names.filter(|names| !names.is_empty());
        if families.is_some() && server_names.is_some() {
            context.findings.report_with(
                Code::Conflict,
                members.place("serverNames"),
                "`serverNames` and rules for layer 7 exclude each other",
                "what is inside TLS can only be seen where it ends",
            );
        }
        content = families.or_else(|| {
            let is = server_names?;
            Some(Expr::Is(Atom::Text { of: Text::Sni, each: Each::Some, is }))
        });
    }
    members.finish(context.findings);
    let ports = ports?;
    (context.findings.errors() == before).then_some(PortRule { ports: ports.condition, content })
}

/// The one family of rules that is written; `None` where there is none.
fn families(node: &Node, ports: Option<&Ports>, context: &mut Context<'_>) -> Option<Expr> {
    let mut members = Members::of(node, "`rules`", context.findings)?;
    members.refuse("kafka", "Eastwall does not read Kafka", "allow the port without `rules`", context.findings);
    let help = "allow the port without `rules`";
    members.refuse("l7proto", "parsers of Cilium's proxy are not read", help, context.findings);
    members.refuse("l7", "parsers of Cilium's proxy are not read", help, context.findings);
    let http = members.find("http");
    let dns = members.find("dns");
    let place = members.place("dns");
    members.finish(context.findings);
    if http.is_some() && dns.is_some() {
        context.findings.report_with(
            Code::Conflict,
            place,
            "`http` and `dns` in one `rules`",
            "one port speaks one protocol: write two items of `toPorts`",
        );
    }
    let (family, node) = match (http, dns) {
        (Some(node), _) => ("http", node),
        (None, Some(node)) => ("dns", node),
        (None, None) => return None,
    };
    if let Some(span) = ports.and_then(|ports| ports.zero) {
        context.findings.report_with(
            Code::Conflict,
            span,
            "port `0` cannot have rules for layer 7",
            "name the ports that the rules are about",
        );
    }
    if family == "http" {
        if let Some(span) = ports.and_then(|ports| ports.beyond_tcp) {
            let help = "write `protocol: TCP` beside each port";
            context.findings.report_with(Code::Conflict, span, "HTTP rules are about TCP alone", help);
        }
        return http::read(node, context);
    }
    if context.direction == Direction::Inbound {
        let help = "write them in `egress` of those who ask";
        context.findings.report_with(Code::WrongDirection, place, "DNS rules cannot stand in `ingress`", help);
    }
    if let Some(span) = ports.and_then(|ports| ports.range) {
        context.findings.report(Code::Conflict, span, "DNS rules cannot stand beside a range of ports");
    }
    dns_names(node, context)
}

/// SPEC: no name at all is every question.
fn dns_names(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let list = items(node, "dns", context.findings)?;
    let help = "the proxy reads no queries yet, so there it allows nothing; a rule without `rules` allows the port";
    if context.direction == Direction::Outbound {
        context.findings.report_with(Code::NotEnforced, node.span, "the names of queries cannot be seen", help);
    }
    let patterns: Vec<_> = list.iter().map(|item| names::selector(item, "dns", context)).collect();
    let is = patterns.into_iter().collect::<Option<Vec<_>>>()?;
    let question =
        if is.is_empty() { Expr::True } else { Expr::Is(Atom::Text { of: Text::Qname, each: Each::Some, is }) };
    Some(Expr::all([Expr::Is(Atom::Protocol(vec![Protocol::Dns])), question]))
}

/// Whether a list is there and says nothing, which is as if it were not there.
pub(super) fn is_empty(node: Option<&Node>) -> bool {
    node.is_none_or(|node| matches!(&node.value, Value::List(items) if items.is_empty()))
}
