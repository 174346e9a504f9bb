//! One `spec`: whom it protects, which directions it closes, and its rules.

use std::sync::Arc;

use super::context::{Context, Role};
use super::members::{Members, items};
use super::section::{self, Entry};
use super::{hardened, labels};
use crate::diagnostic::Code;
use crate::facts::Direction;
use crate::model::Atom;
use crate::model::{Directions, Effect, Expr, Mode, NodeScope, PeerAtom, Policy, PolicyName, Rule, Stack, Tier};
use crate::settings::{AllowLocalhost, Compatibility};
use crate::source::{Node, Value, fields};

/// What one `spec` says.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// It, in normal form.
    pub(super) policy: Arc<Policy>,
    /// Rules that `fromRequires` and `toRequires` narrow, by their place in the policy.
    pub(super) by_endpoints: Vec<usize>,
    /// What it asks of the endpoints of every rule for its subjects.
    pub(super) required: Vec<(Direction, Expr)>,
}

/// Reads one `spec`; `None` after an error, and for a host policy. `prefix` stands before the names of its rules.
pub(super) fn read(node: &Node, prefix: &str, name: &PolicyName, context: &mut Context<'_>) -> Option<Spec> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "`spec`", context.findings)?;
    members.accept(&["labels", "description", "log"]);
    let subject = subject(&mut members, context);
    let mut closes = Directions::default();
    let mut rules = Vec::new();
    let mut by_endpoints = Vec::new();
    let mut required = Vec::new();
    let mut is_silent = true;
    for (direction, sections) in SECTIONS {
        context.direction = direction;
        let mut entries: Vec<(Effect, usize, &Node, Entry)> = Vec::new();
        for (section, effect) in sections {
            let list = members.find(section).and_then(|node| items(node, section, context.findings));
            for (index, node) in list.unwrap_or_default().iter().enumerate() {
                is_silent = false;
                close(&mut closes, direction, true);
                if let Some(entry) = section::read(node, effect, context) {
                    entries.push((effect, index, node, entry));
                }
            }
        }
        let claims = match context.settings.cilium.compatibility {
            Compatibility::Hardened => hardened::claims(entries.iter().map(|(.., entry)| entry)),
            Compatibility::Exact => Vec::new(),
        };
        for (effect, index, node, entry) in entries {
            required.extend(entry.required.iter().cloned().map(|expr| (direction, expr)));
            if entry.peers == Expr::False {
                continue;
            }
            if entry.by_endpoints && effect == Effect::Allow {
                by_endpoints.push(rules.len());
            }
            let section = sections.iter().find(|(_, of)| *of == effect).map_or("", |(section, _)| section);
            let condition = Expr::all([entry.peers.clone(), entry.content()]);
            rules.push(Rule {
                name: format!("{prefix}{section}[{index}]").into(),
                location: context.findings.location(node.span),
                direction,
                effect,
                condition: if effect == Effect::Allow {
                    hardened::narrow(condition, &entry, &claims)
                } else {
                    condition
                },
                expires: None,
            });
        }
    }
    if let Some(node) = members.find("enableDefaultDeny") {
        is_silent = false;
        default_deny(node, &mut closes, context);
    }
    members.finish(context.findings);
    if is_silent && context.findings.errors() == before {
        let help = "write `ingress: [{}]` or `egress: [{}]` to allow nothing";
        context.findings.report_with(Code::Suspicious, node.span, "a policy without rules closes nothing", help);
    }
    let subject = subject?;
    if closes.inbound && context.settings.cilium.allow_localhost != AllowLocalhost::Policy {
        rules.push(localhost(prefix, node, context));
    }
    if context.findings.errors() != before {
        return None;
    }
    let policy = Policy {
        name: name.clone(),
        location: context.findings.location(node.span),
        stack: Stack::Network,
        tier: Tier::Application,
        priority: 0,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject,
        closes,
        rules,
        http_options: Vec::new(),
        jwt_rules: Vec::new(),
        broken: false,
    };
    Some(Spec { policy: Arc::new(policy), by_endpoints, required })
}

/// The workloads of `endpointSelector`; `None` after an error, and where nodes are selected.
pub(super) fn subject(members: &mut Members<'_>, context: &mut Context<'_>) -> Option<Expr> {
    let endpoints = members.find("endpointSelector");
    let nodes = members.find("nodeSelector");
    context.role = Role::Subject;
    let before = context.findings.errors();
    let read = endpoints.and_then(|node| labels::read(node, "`endpointSelector`", context));
    let of_nodes = nodes.map(|node| labels::read(node, "`nodeSelector`", context));
    context.role = Role::Peer;
    match (endpoints, of_nodes) {
        (Some(_), Some(_)) => {
            let place = members.place("nodeSelector");
            context.findings.report(Code::Conflict, place, "`endpointSelector` and `nodeSelector` exclude each other");
            None
        }
        (None, None) => {
            let help = "write `endpointSelector: {}` to protect every workload in reach of the policy";
            let place = members.place("endpointSelector");
            context.findings.report_with(Code::MissingField, place, "`endpointSelector` is missing", help);
            None
        }
        (None, Some(_)) if context.namespace.is_some() => {
            let help = "write a CiliumClusterwideNetworkPolicy";
            let place = members.place("nodeSelector");
            let message = "a policy of a namespace cannot protect nodes";
            context.findings.report_with(Code::OutsideNamespace, place, message, help);
            None
        }
        (None, Some(_)) => {
            if context.findings.errors() == before {
                context.findings.report_with(
                    Code::NotEnforced,
                    members.place("nodeSelector"),
                    "a policy for nodes acts on nothing here: Eastwall protects workloads",
                    "leave it to Cilium's host firewall",
                );
            }
            None
        }
        (Some(_), None) => read,
    }
}

/// SPEC: says for each direction whether this policy closes it, whatever rules it has.
fn default_deny(node: &Node, closes: &mut Directions, context: &mut Context<'_>) {
    let Some(mut members) = Members::of(node, "`enableDefaultDeny`", context.findings) else { return };
    for (name, direction) in [("ingress", Direction::Inbound), ("egress", Direction::Outbound)] {
        let written = members.find(name);
        if let Some(value) = written.and_then(|node| fields::boolean(node, &format!("`{name}`"), context.findings)) {
            close(closes, direction, value);
        }
    }
    members.finish(context.findings);
}

fn close(closes: &mut Directions, direction: Direction, value: bool) {
    match direction {
        Direction::Inbound => closes.inbound = value,
        Direction::Outbound => closes.outbound = value,
    }
}

/// SPEC: the node of a pod may always reach it, unless Cilium is told otherwise.
fn localhost(prefix: &str, node: &Node, context: &Context<'_>) -> Rule {
    Rule {
        name: format!("{prefix}allow-localhost").into(),
        location: context.findings.location(node.span),
        direction: Direction::Inbound,
        effect: Effect::Allow,
        condition: Expr::Is(Atom::Located(PeerAtom::Node(NodeScope::Own))),
        expires: None,
    }
}

/// Whether the rule is about nodes alone, as far as can be read.
pub(super) fn is_about_nodes(node: &Node) -> bool {
    let there = |name: &str| node.get(name).is_some_and(|node| node.value != Value::Null);
    there("nodeSelector") && !there("endpointSelector")
}

const SECTIONS: [(Direction, [(&str, Effect); 2]); 2] = [
    (Direction::Inbound, [("ingress", Effect::Allow), ("ingressDeny", Effect::Deny)]),
    (Direction::Outbound, [("egress", Effect::Allow), ("egressDeny", Effect::Deny)]),
];
