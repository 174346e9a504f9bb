//! `NetworkPolicy`: closes directions of the pods that it selects, and opens them for some peers and ports again.

use super::context::{Context, peer, subject as subject_atom};
use super::{port, selector};
use crate::diagnostic::Code;
use crate::dialect::cidr;
use crate::dialect::members::Members;
use crate::facts::Direction;
use crate::model::{
    CidrScope, Directions, Effect, Expr, Mode, NodeScope, PeerAtom, Policy, Rule, Selector, Stack, Tier,
};
use crate::settings::AllowLocalhost;
use crate::source::fields::word;
use crate::source::{Document, Node};

/// Reads a policy; `None` after an error.
pub(super) fn policy(document: &Document, spec: Option<&Node>, context: &mut Context<'_>) -> Option<Policy> {
    let before = context.findings.errors();
    let own = subject_atom(PeerAtom::Namespace(context.namespace()));
    let (subject, closes, mut rules) = match spec {
        None => (own, Directions { inbound: true, outbound: false }, Vec::new()),
        Some(spec) => {
            let mut members = Members::of(spec, "`spec`", &mut context.findings)?;
            members.find("podSelector");
            let closes = directions(&mut members, context);
            let mut rules = Vec::new();
            for (direction, section, peers) in SECTIONS {
                let items = members.list(section, &mut context.findings).unwrap_or_default();
                if !closes.contains(direction) && !items.is_empty() {
                    let help = "add the direction to `policyTypes`, or remove the rules";
                    let message = format!("`{section}` is ignored: `policyTypes` does not name the direction");
                    context.findings.report_with(Code::Suspicious, members.place(section), message, help);
                    continue;
                }
                context.direction = direction;
                for (index, item) in items.iter().enumerate() {
                    rules.extend(rule(item, &format!("{section}[{index}]"), peers, context));
                }
            }
            members.finish(&mut context.findings);
            (subject(spec, context)?, closes, rules)
        }
    };
    // SPEC: traffic from the pod's own node always passes. Cilium can be told otherwise, and is joined with this.
    if closes.inbound && context.settings.cilium.allow_localhost != AllowLocalhost::Policy {
        rules.push(Rule {
            name: "own-node".into(),
            location: document.location.clone(),
            direction: Direction::Inbound,
            effect: Effect::Allow,
            condition: peer(PeerAtom::Node(NodeScope::Own)),
            expires: None,
        });
    }
    (context.findings.errors() == before).then(|| Policy {
        name: context.name.clone(),
        location: document.location.clone(),
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
    })
}

/// The pods of the policy's own namespace that it selects.
pub(super) fn subject(spec: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let own = subject_atom(PeerAtom::Namespace(context.namespace()));
    match spec.get("podSelector").filter(|node| node.value != crate::source::Value::Null) {
        None => Some(own),
        Some(node) => {
            let selector = selector::read(node, "podSelector", context)?;
            let labels = (!selector.requirements.is_empty()).then(|| subject_atom(PeerAtom::Labels(selector)));
            Some(Expr::all(std::iter::once(own).chain(labels)))
        }
    }
}

/// SPEC: without `policyTypes` a policy closes ingress, and egress only if it has egress rules.
fn directions(members: &mut Members<'_>, context: &mut Context<'_>) -> Directions {
    let types = members.list("policyTypes", &mut context.findings).unwrap_or_default();
    if !types.is_empty() {
        let words = [("Ingress", Direction::Inbound), ("Egress", Direction::Outbound)];
        let read =
            types.iter().filter_map(|node| word(node, "an item of `policyTypes`", &words, &mut context.findings));
        let read: Vec<Direction> = read.collect();
        return Directions {
            inbound: read.contains(&Direction::Inbound),
            outbound: read.contains(&Direction::Outbound),
        };
    }
    let egress = members.list("egress", &mut context.findings);
    if egress.is_some_and(<[Node]>::is_empty) {
        let help = "to close egress write `policyTypes: [Egress]` (with `Ingress` where that is meant too)";
        context.findings.report_with(
            Code::Suspicious,
            members.place("egress"),
            "an empty `egress` closes nothing without `policyTypes`",
            help,
        );
    }
    Directions { inbound: true, outbound: egress.is_some_and(|items| !items.is_empty()) }
}

fn rule(node: &Node, name: &str, peers: &'static str, context: &mut Context<'_>) -> Option<Rule> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "a rule", &mut context.findings)?;
    let list = all_if_empty(peers, "everybody, outside of the cluster too", &mut members, context);
    let ports = all_if_empty("ports", "every port of every transport", &mut members, context);
    members.finish(&mut context.findings);
    looks_like_and(list, peers, context);
    let whom: Vec<Expr> = list.iter().filter_map(|item| one(item, context)).collect();
    let where_to: Vec<Expr> = ports.iter().filter_map(|item| port::of_network_policy(item, context)).collect();
    let any = |list: Vec<Expr>| if list.is_empty() { Expr::True } else { Expr::any(list) };
    (context.findings.errors() == before).then(|| Rule {
        name: name.into(),
        location: context.findings.location(node.span),
        direction: context.direction,
        effect: Effect::Allow,
        condition: Expr::all([any(whom), any(where_to)]),
        expires: None,
    })
}

/// SPEC: a list without items is the same as no list, the widest of all, and reads like the narrowest.
fn all_if_empty<'n>(
    name: &'static str,
    everything: &str,
    members: &mut Members<'n>,
    context: &mut Context<'_>,
) -> &'n [Node] {
    let list = members.list(name, &mut context.findings);
    if list.is_some_and(<[Node]>::is_empty) {
        let message = format!("an empty `{name}` is {everything}");
        let help = format!("leave `{name}` out if that is meant; to allow nothing remove the rule");
        context.findings.report_with(Code::Suspicious, members.place(name), message, help);
    }
    list.unwrap_or_default()
}

/// Two items, one of namespaces and the next of pods: often one item was meant, and this opens much more.
fn looks_like_and(list: &[Node], peers: &str, context: &mut Context<'_>) {
    let only = |node: &Node, field: &str, other: &str| node.get(field).is_some() && node.get(other).is_none();
    for pair in list.windows(2) {
        if let [first, second] = pair
            && only(first, "namespaceSelector", "podSelector")
            && only(second, "podSelector", "namespaceSelector")
        {
            let message = format!("two items of `{peers}`: all pods of these namespaces, or these pods of the own one");
            let help = "where pods of these namespaces are meant, remove the second `-`: one item with both selectors";
            context.findings.report_with(Code::Suspicious, second.span, message, help);
        }
    }
}

/// One peer: pods by labels, or a block of addresses.
fn one(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let mut members = Members::of(node, "a peer", &mut context.findings)?;
    let (pods, namespaces, block) =
        (members.find("podSelector"), members.find("namespaceSelector"), members.find("ipBlock"));
    let place = members.place("ipBlock");
    let before = context.findings.errors();
    members.finish(&mut context.findings);
    match (block, pods, namespaces) {
        (Some(block), None, None) => ip_block(block, context),
        (Some(_), ..) => {
            let help = "a block stands alone: write an item of its own for it";
            context.findings.report_with(Code::Conflict, place, "`ipBlock` stands beside a selector", help);
            None
        }
        (None, None, None) => {
            if context.findings.errors() == before {
                let help =
                    "write `podSelector`, `namespaceSelector` or `ipBlock`; leave the whole list out for everybody";
                context.findings.report_with(Code::MissingField, node.span, "a peer names nobody", help);
            }
            None
        }
        (None, pods, namespaces) => {
            let pods = match pods {
                Some(pods) => Some(selector::read(pods, "podSelector", context)?),
                None => None,
            };
            let home = match namespaces {
                Some(namespaces) => of_namespaces(selector::read(namespaces, "namespaceSelector", context)?),
                None => PeerAtom::Namespace(context.namespace()),
            };
            let labels = pods.filter(|pods| !pods.requirements.is_empty()).map(PeerAtom::Labels);
            let atoms: Vec<PeerAtom> = std::iter::once(home).chain(labels).collect();
            context.mention(node.span, &atoms);
            Some(Expr::all(std::iter::once(PeerAtom::Workload).chain(atoms).map(peer)))
        }
    }
}

/// SPEC: an empty selector means every namespace, and pods alone.
pub(super) fn of_namespaces(selector: Selector) -> PeerAtom {
    if selector.requirements.is_empty() { PeerAtom::Workload } else { PeerAtom::NamespaceLabels(selector) }
}

/// SPEC: whether a block matches pods is left to the network plugin. As in Cilium, with which this is joined, it never
/// matches a pod or a node.
fn ip_block(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "`ipBlock`", &mut context.findings)?;
    let cidr =
        members.require("cidr", &mut context.findings).and_then(|node| cidr::network(node, &mut context.findings));
    let except = members.list("except", &mut context.findings).unwrap_or_default();
    members.finish(&mut context.findings);
    let whole = cidr?;
    let outside = |net| peer(PeerAtom::Cidr { net, scope: CidrScope::Outside });
    let mut parts = vec![outside(whole)];
    for item in except {
        let Some(hole) = cidr::network(item, &mut context.findings) else { continue };
        if !whole.contains(&hole) || hole == whole {
            let help = "an exception is carved out of the `cidr` beside it alone";
            let message = format!("`{hole}` does not lie strictly inside `{whole}`");
            context.findings.report_with(Code::OutOfRange, item.span, message, help);
        }
        parts.push(!outside(hole));
    }
    if whole.prefix_len() > 0 && context.settings.networks.iter().any(|net| net.contains(&whole)) {
        let help = "name pods by their labels: a block matches addresses that nobody registered, and no pod or node";
        let message = format!("`{whole}` lies inside the cluster, and a block never matches its pods");
        context.findings.report_with(Code::Suspicious, node.span, message, help);
    }
    (context.findings.errors() == before).then(|| Expr::all(parts))
}

const SECTIONS: [(Direction, &str, &str); 2] =
    [(Direction::Inbound, "ingress", "from"), (Direction::Outbound, "egress", "to")];
