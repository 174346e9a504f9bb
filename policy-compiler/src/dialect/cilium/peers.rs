//! The members of a rule that say who the other end is.
//!
//! SPEC: one member a rule. None at all means everybody, if the rule has ports; a member that is an empty list means
//! nobody.

use super::context::Context;
use super::members::{Members, items};
use super::{cidr, entity, labels, names, service};
use crate::diagnostic::Code;
use crate::facts::Direction;
use crate::model::{CidrScope, Effect, Expr, NodeScope, PeerAtom};
use crate::source::{Node, Value};

/// Who a rule is about.
pub(super) struct Peers {
    /// The other end; `None` where the rule has no member that says.
    pub(super) condition: Option<Expr>,
    /// They were selected by `fromEndpoints` or `toEndpoints`, so that `fromRequires` and `toRequires` narrow them.
    pub(super) by_endpoints: bool,
    /// What `fromRequires` or `toRequires` asks of the endpoints of every rule.
    pub(super) required: Vec<Expr>,
}

/// The names of the members in one direction.
struct Names {
    endpoints: &'static str,
    requires: &'static str,
    networks: &'static str,
    network_set: &'static str,
    entities: &'static str,
    nodes: &'static str,
    groups: &'static str,
}

const INGRESS: Names = Names {
    endpoints: "fromEndpoints",
    requires: "fromRequires",
    networks: "fromCIDR",
    network_set: "fromCIDRSet",
    entities: "fromEntities",
    nodes: "fromNodes",
    groups: "fromGroups",
};

const EGRESS: Names = Names {
    endpoints: "toEndpoints",
    requires: "toRequires",
    networks: "toCIDR",
    network_set: "toCIDRSet",
    entities: "toEntities",
    nodes: "toNodes",
    groups: "toGroups",
};

type Reader = fn(&Node, &str, &mut Context<'_>) -> Option<Expr>;

/// Reads the members of one rule; `None` after an error.
pub(super) fn read(rule: &mut Members<'_>, effect: Effect, context: &mut Context<'_>) -> Option<Peers> {
    let before = context.findings.errors();
    let names = if context.direction == Direction::Inbound { &INGRESS } else { &EGRESS };
    rule.refuse(
        names.groups,
        "groups live at a cloud provider, which Eastwall does not ask",
        "write the networks of the group with `toCIDRSet` or `fromCIDRSet`",
        context.findings,
    );
    let required = requirements(rule, names.requires, effect, context);
    let mut kinds: Vec<(&'static str, Reader)> = vec![
        (names.endpoints, endpoints),
        (names.networks, cidr::list),
        (names.network_set, cidr::set),
        (names.entities, entity::list),
        (names.nodes, nodes),
    ];
    if context.direction == Direction::Outbound {
        kinds.push(("toServices", service::list));
        if effect == Effect::Allow {
            kinds.push(("toFQDNs", fqdns));
        } else if rule.find("toFQDNs").is_some() {
            let help = "deny the networks with `toCIDRSet`, or allow the names that are meant";
            context.findings.report_with(
                Code::WrongDirection,
                rule.place("toFQDNs"),
                "`toFQDNs` cannot be denied",
                help,
            );
        }
    }
    let mut found: Vec<(&'static str, bool, Expr)> = Vec::new();
    for (name, read) in kinds {
        let Some(node) = rule.find(name) else { continue };
        let is_empty = matches!(&node.value, Value::List(items) if items.is_empty());
        if let Some(condition) = read(node, name, context) {
            found.push((name, is_empty, condition));
        }
    }
    let mut full = found.iter().filter(|(_, is_empty, _)| !is_empty);
    if let (Some((first, ..)), Some((second, ..))) = (full.next(), full.next()) {
        let help = "write two rules: either of them lets pass";
        let message = format!("`{first}` and `{second}` in one rule");
        context.findings.report_with(Code::Conflict, rule.place(second), message, help);
    }
    if context.findings.errors() != before {
        return None;
    }
    let by_endpoints = found.iter().any(|(name, is_empty, _)| *name == names.endpoints && !is_empty);
    for (name, ..) in found.iter().filter(|_| found.iter().all(|(_, is_empty, _)| *is_empty)) {
        let message = format!("`{name}` is an empty list: the rule is about nobody");
        context.findings.report_with(Code::Suspicious, rule.place(name), message, "leave it out to mean everybody");
    }
    let condition = (!found.is_empty()).then(|| Expr::any(found.into_iter().map(|(.., condition)| condition)));
    Some(Peers { condition, by_endpoints, required })
}

fn endpoints(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let what = format!("an item of `{name}`");
    let items = items(node, name, context.findings)?;
    let any: Vec<Option<Expr>> = items.iter().map(|item| labels::read(item, &what, context)).collect();
    Some(Expr::any(any.into_iter().collect::<Option<Vec<_>>>()?))
}

/// Nodes by their labels. The registry knows none, so only every node can be meant.
fn nodes(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let items = items(node, name, context.findings)?;
    for item in items {
        let mut selector = Members::of(item, &format!("an item of `{name}`"), context.findings)?;
        for member in ["matchLabels", "matchExpressions"] {
            let is_empty = |node: &Node| match &node.value {
                Value::Map(entries) => entries.is_empty(),
                Value::List(items) => items.is_empty(),
                _ => false,
            };
            if selector.find(member).is_some_and(|node| !is_empty(node)) {
                let message = format!("`{member}` of `{name}` is not supported: the registry knows no labels of nodes");
                let help = "write `{}` for every node, or the entities `host` and `remote-node`";
                context.findings.report_with(Code::NotSupported, selector.place(member), message, help);
            }
        }
        selector.finish(context.findings);
    }
    let any_node = context.of(PeerAtom::Node(NodeScope::Any));
    Some(if items.is_empty() { Expr::False } else { any_node })
}

/// SPEC: a name stands for addresses outside the cluster that the proxy itself resolved.
fn fqdns(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let items = items(node, name, context.findings)?;
    let patterns: Vec<_> = items.iter().map(|item| names::selector(item, name, context)).collect();
    let patterns = patterns.into_iter().collect::<Option<Vec<_>>>()?;
    if patterns.is_empty() {
        return Some(Expr::False);
    }
    let help = "the proxy resolves no names yet, so there it allows nothing; `eastwall decide` takes `dst.fqdn`";
    context.findings.report_with(Code::NotEnforced, node.span, "the names of `toFQDNs` are resolved by nobody", help);
    let outside = |net| Some(context.of(PeerAtom::Cidr { net, scope: CidrScope::Outside }));
    let outside = [outside("0.0.0.0/0".parse().ok()?)?, outside("::/0".parse().ok()?)?];
    Some(Expr::all([context.of(PeerAtom::Fqdn(patterns)), Expr::any(outside)]))
}

fn requirements(rule: &mut Members<'_>, name: &'static str, effect: Effect, context: &mut Context<'_>) -> Vec<Expr> {
    let Some(items) = rule.list(name, context.findings) else { return Vec::new() };
    if effect == Effect::Deny {
        let message = format!("`{name}` is not supported in a deny rule: it would deny less");
        context.findings.report_with(Code::NotSupported, rule.place(name), message, "deny the endpoints themselves");
        return Vec::new();
    }
    let message =
        format!("`{name}` is deprecated, and narrows the endpoints of Cilium's policies alone, not of NetworkPolicies");
    let help = "write its labels into the selectors of the rules that it narrows";
    context.findings.report_with(Code::Suspicious, rule.place(name), message, help);
    let what = format!("an item of `{name}`");
    items.iter().filter_map(|item| labels::read(item, &what, context)).collect()
}
