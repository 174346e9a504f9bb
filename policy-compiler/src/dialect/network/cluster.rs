//! The tiers around NetworkPolicy: `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` (v1alpha1), and
//! `ClusterNetworkPolicy` (v1alpha2), which is both.
//!
//! SPEC: rules are asked in the order of priorities and of their lists; the first one that matches decides. These
//! policies never close a direction.

use std::sync::Arc;

use super::context::{Context, peer, subject as subject_atom};
use super::namespaced::of_namespaces;
use super::{ADMIN, BASELINE, CLUSTER, port, selector};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::cidr;
use crate::dialect::members::Members;
use crate::facts::Direction;
use crate::model::{
    CidrScope, Directions, Effect, Expr, Mode, NodeScope, Pattern, PeerAtom, Policy, Rule, Stack, Tier,
};
use crate::source::fields::{integer, list, listed, text, word};
use crate::source::{Document, Node, Value};

/// Reads a policy; `None` after an error.
pub(super) fn policy(document: &Document, spec: &Node, context: &mut Context<'_>) -> Option<Policy> {
    let before = context.findings.errors();
    let mut members = Members::of(spec, "`spec`", &mut context.findings)?;
    let kind = document.kind.as_str();
    let (tier, priority) = match kind {
        BASELINE => {
            if document.name != SINGLETON && !document.name.is_empty() {
                let message = format!("a {BASELINE} must be called `{SINGLETON}`, found `{}`", document.name);
                context.findings.report_with(Code::NotSingleton, document.root.span, message, "write `name: default`");
            }
            (Some(Tier::Baseline), Some(LAST))
        }
        ADMIN => (Some(Tier::Admin), priority(&mut members, context)),
        _ => {
            let words = [("Admin", Tier::Admin), ("Baseline", Tier::Baseline)];
            let tier = members.require("tier", &mut context.findings);
            let tier = tier.and_then(|node| word(node, "`tier`", &words, &mut context.findings));
            (tier, priority(&mut members, context))
        }
    };
    members.require("subject", &mut context.findings);
    let subject = subject(spec, context);
    let mut rules = Vec::new();
    for (direction, section, peers) in [(Direction::Inbound, "ingress", "from"), (Direction::Outbound, "egress", "to")]
    {
        let items = members.list(section, &mut context.findings).unwrap_or_default();
        let most = if kind == CLUSTER { 25 } else { 100 };
        limit(items, most, section, context);
        if tier == Some(Tier::Baseline) {
            passes(items, context);
        }
        context.direction = direction;
        for (index, item) in items.iter().enumerate() {
            rules.extend(rule(item, &format!("{section}[{index}]"), peers, kind, context));
        }
    }
    members.finish(&mut context.findings);
    let (tier, priority, subject) = (tier?, priority?, subject?);
    (context.findings.errors() == before).then(|| Policy {
        name: context.name.clone(),
        location: document.location.clone(),
        stack: Stack::Network,
        tier,
        priority,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject,
        closes: Directions::default(),
        rules,
        http_options: Vec::new(),
        jwt_rules: Vec::new(),
        broken: false,
    })
}

/// Behind the Baseline tier there is no other: who is passed is let in.
fn passes(rules: &[Node], context: &mut Context<'_>) {
    for action in rules.iter().filter_map(|rule| rule.get("action")).filter(|node| node.text() == Some("Pass")) {
        let help = "write `Accept` if that is meant";
        let message = "no tier comes after Baseline: `Pass` lets everything pass that the rule matches";
        context.findings.report_with(Code::Suspicious, action.span, message, help);
    }
}

/// SPEC: which of two policies of one priority comes first is undefined. Here it is the one whose name sorts first.
pub(super) fn same_priorities(policies: &[Arc<Policy>]) -> Vec<Diagnostic> {
    let mut tiers: Vec<&Arc<Policy>> = policies.iter().filter(|policy| policy.tier.is_ordered(policy.stack)).collect();
    tiers.sort_by(|a, b| (a.tier, a.priority, &a.name).cmp(&(b.tier, b.priority, &b.name)));
    let pairs = tiers.windows(2).filter_map(|pair| match pair {
        [one, other] if (one.tier, one.priority) == (other.tier, other.priority) => Some((one, other)),
        _ => None,
    });
    pairs
        .map(|(one, other)| {
            let message = format!("`{}` has the priority {} of `{}`", other.name, other.priority, one.name);
            let help =
                "the one whose name sorts first is asked first; other systems may choose otherwise: give each its own";
            let mut finding = Diagnostic::new(Code::Suspicious, other.location.clone(), message).help(help);
            finding.policy = Some(other.name.to_string());
            finding
        })
        .collect()
}

fn priority(members: &mut Members<'_>, context: &mut Context<'_>) -> Option<u32> {
    let node = members.require("priority", &mut context.findings)?;
    integer(node, "`priority`", 0..=1000, &mut context.findings)
}

/// Whom a policy is about.
pub(super) fn subject(spec: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let node = spec.get("subject")?;
    let mut members = Members::of(node, "`subject`", &mut context.findings)?;
    let (namespaces, pods) = (members.find("namespaces"), members.find("pods"));
    members.finish(&mut context.findings);
    let atoms = match (namespaces, pods) {
        (Some(namespaces), None) => vec![of_namespaces(selector::read(namespaces, "namespaces", context)?)],
        (None, Some(pods)) => of_pods(pods, context)?,
        _ => {
            let help = "write `namespaces: {}` for every namespace";
            let message = "`subject` has exactly one of `namespaces` and `pods`";
            context.findings.report_with(Code::Conflict, node.span, message, help);
            return None;
        }
    };
    Some(Expr::all(atoms.into_iter().map(subject_atom)))
}

/// `pods`: both selectors must hold.
///
/// SPEC: a ClusterNetworkPolicy may leave out the one of namespaces, and means all; the older kinds may not.
fn of_pods(node: &Node, context: &mut Context<'_>) -> Option<Vec<PeerAtom>> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "`pods`", &mut context.findings)?;
    let namespaces = match &*context.name.kind {
        CLUSTER => members.find("namespaceSelector"),
        _ => members.require("namespaceSelector", &mut context.findings),
    };
    let pods = members.require("podSelector", &mut context.findings);
    members.finish(&mut context.findings);
    let home = namespaces.and_then(|node| selector::read(node, "namespaceSelector", context));
    let pods = selector::read(pods?, "podSelector", context)?;
    let labels = (!pods.requirements.is_empty()).then_some(PeerAtom::Labels(pods));
    let atoms = std::iter::once(home.map_or(PeerAtom::Workload, of_namespaces)).chain(labels).collect();
    (context.findings.errors() == before).then_some(atoms)
}

fn limit(items: &[Node], most: usize, what: &str, context: &mut Context<'_>) {
    if let Some(node) = items.get(most) {
        let message = format!("`{what}` has {} items, and may have {most}", items.len());
        context.findings.report_with(Code::OutOfRange, node.span, message, "write a second policy");
    }
}

fn rule(node: &Node, position: &str, peers: &'static str, kind: &str, context: &mut Context<'_>) -> Option<Rule> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "a rule", &mut context.findings)?;
    let name = members.find("name").and_then(|node| rule_name(node, context));
    let action = members.require("action", &mut context.findings);
    let action = action.and_then(|node| word(node, "`action`", actions(kind), &mut context.findings));
    let whom = members.require(peers, &mut context.findings);
    let whom = whom.and_then(|node| crate::dialect::members::items(node, peers, &mut context.findings));
    let (field, read): (_, fn(&Node, &mut Context<'_>) -> Option<Expr>) = match kind {
        CLUSTER => ("protocols", port::of_cluster),
        _ => ("ports", port::of_admin),
    };
    let ports = members.list(field, &mut context.findings);
    members.finish(&mut context.findings);
    let (whom, mut effect) = (whom?, action?);
    if ports.is_some_and(<[Node]>::is_empty) {
        let help = "write at least one item, or leave the field out for every protocol and port";
        context.findings.report_with(Code::EmptyList, node.span, format!("`{field}` is empty"), help);
    }
    if whom.is_empty() {
        let help = "name somebody: `namespaces: {}` stands for every pod";
        context.findings.report_with(Code::EmptyList, node.span, format!("`{peers}` is empty"), help);
    }
    let most = if kind == CLUSTER { 25 } else { 100 };
    limit(whom, most, peers, context);
    limit(ports.unwrap_or_default(), most, field, context);
    no_names(whom, ports.unwrap_or_default(), context);
    let each: Vec<Option<Whom>> = whom.iter().map(|item| one(item, effect, context)).collect();
    let ports: Option<Vec<Expr>> = ports.map(|list| list.iter().filter_map(|item| read(item, context)).collect());
    if context.findings.errors() != before {
        return None;
    }
    let mut any = Vec::new();
    let mut is_foreign = false;
    for whom in each.into_iter().flatten() {
        match whom {
            Whom::Known(condition) => any.push(condition),
            Whom::Foreign => is_foreign = true,
        }
    }
    // SPEC: a peer of a later API fails closed. The whole of an Accept matches nothing; a Deny or Pass denies all.
    let condition = match (is_foreign, effect) {
        (true, Effect::Allow) => Expr::False,
        (true, _) => {
            effect = Effect::Deny;
            Expr::True
        }
        // SPEC: without a list every port of every transport is meant.
        (false, _) => Expr::all([Expr::any(any), ports.map_or(Expr::True, Expr::any)]),
    };
    Some(Rule {
        name: name.unwrap_or(position).into(),
        location: context.findings.location(node.span),
        direction: context.direction,
        effect,
        condition,
        expires: None,
    })
}

fn rule_name<'n>(node: &'n Node, context: &mut Context<'_>) -> Option<&'n str> {
    let name = text(node, "`name`", &mut context.findings)?;
    if name.chars().count() > LONGEST_NAME {
        let message = format!("the name of a rule has up to {LONGEST_NAME} characters");
        context.findings.report_with(Code::OutOfRange, node.span, message, "shorten it");
    }
    Some(name)
}

/// SPEC: what is no pod declares no ports by name.
fn no_names(whom: &[Node], ports: &[Node], context: &mut Context<'_>) {
    let has = |node: &Node, fields: &[&str]| {
        fields.iter().any(|field| node.get(field).is_some_and(|node| node.value != Value::Null))
    };
    let named = ports.iter().find(|port| has(port, &["namedPort", "destinationNamedPort"]));
    if let Some(port) = named.filter(|_| whom.iter().any(|peer| has(peer, &["networks", "nodes", "domainNames"]))) {
        let message = "a port name beside `networks`, `nodes` or `domainNames`, which declare no ports";
        let help = "write a rule of its own for them, with port numbers";
        context.findings.report_with(Code::Conflict, port.span, message, help);
    }
}

fn actions(kind: &str) -> &'static [(&'static str, Effect)] {
    match kind {
        CLUSTER => &[("Accept", Effect::Allow), ("Deny", Effect::Deny), ("Pass", Effect::Pass)],
        ADMIN => &[("Allow", Effect::Allow), ("Deny", Effect::Deny), ("Pass", Effect::Pass)],
        _ => &[("Allow", Effect::Allow), ("Deny", Effect::Deny)],
    }
}

/// What one peer says.
enum Whom {
    Known(Expr),
    /// None of the fields that this version knows.
    Foreign,
}

fn one(node: &Node, effect: Effect, context: &mut Context<'_>) -> Option<Whom> {
    let outbound = context.direction == Direction::Outbound;
    let Value::Map(entries) = &node.value else {
        context.findings.report(Code::WrongType, node.span, "a peer is a mapping");
        return None;
    };
    let known: &[&'static str] = match (outbound, &*context.name.kind) {
        (false, _) => &["namespaces", "pods"],
        (true, BASELINE) => &["namespaces", "pods", "nodes", "networks"],
        (true, _) => &["namespaces", "pods", "nodes", "networks", "domainNames"],
    };
    let said: Vec<&str> =
        entries.iter().filter(|(_, node)| node.value != Value::Null).map(|(key, _)| &*key.text).collect();
    let kind = match said.as_slice() {
        [] => {
            let help = format!("write one of {}", listed(known));
            context.findings.report_with(Code::MissingField, node.span, "a peer names nobody", help);
            return None;
        }
        [one] => match known.iter().find(|kind| *kind == one) {
            Some(kind) => *kind,
            None => {
                let help = format!("the peers of this direction are {}; the rule fails closed", listed(known));
                context.findings.report_with(
                    Code::Suspicious,
                    node.span,
                    format!("`{one}` is no peer that is known here"),
                    help,
                );
                return Some(Whom::Foreign);
            }
        },
        _ => {
            let help = "a peer has exactly one field: write one item for each";
            context.findings.report_with(Code::Conflict, node.span, "a peer of several kinds", help);
            return None;
        }
    };
    let value = node.get(kind)?;
    Some(Whom::Known(match kind {
        "namespaces" => pods(vec![of_namespaces(selector::read(value, "namespaces", context)?)], node, context),
        "pods" => pods(of_pods(value, context)?, node, context),
        "nodes" => {
            if !selector::read(value, "nodes", context)?.requirements.is_empty() {
                let help = "the registry knows no labels of nodes: write `nodes: {}`, or their addresses as `networks`";
                let message = "`nodes` with a selector is not supported";
                context.findings.report_with(Code::NotSupported, value.span, message, help);
                return None;
            }
            peer(PeerAtom::Node(NodeScope::Any))
        }
        "networks" => {
            let items = list(value, "`networks`", &mut context.findings)?;
            limit(items, 25, "networks", context);
            // SPEC: networks match whatever address is reached, those of pods too. A Service is its endpoints.
            let of = |net| peer(PeerAtom::Cidr { net, scope: CidrScope::Reached });
            let each: Vec<Option<Expr>> =
                items.iter().map(|item| cidr::network(item, &mut context.findings).map(of)).collect();
            Expr::any(each.into_iter().collect::<Option<Vec<_>>>()?)
        }
        _ => {
            if effect != Effect::Allow {
                let help = "which names an address has is known of those alone that were resolved";
                let message = "`domainNames` only goes with a rule that accepts";
                context.findings.report_with(Code::Conflict, node.span, message, help);
                return None;
            }
            let items = list(value, "`domainNames`", &mut context.findings)?;
            limit(items, 25, "domainNames", context);
            let each: Vec<Option<Pattern>> = items.iter().map(|item| domain(item, context)).collect();
            peer(PeerAtom::Fqdn(each.into_iter().collect::<Option<Vec<_>>>()?))
        }
    }))
}

fn pods(atoms: Vec<PeerAtom>, node: &Node, context: &mut Context<'_>) -> Expr {
    context.mention(node.span, &atoms);
    Expr::all(std::iter::once(PeerAtom::Workload).chain(atoms).map(peer))
}

/// SPEC: `*.x` stands for one or more labels in front of `x`, never for `x` itself.
fn domain(node: &Node, context: &mut Context<'_>) -> Option<Pattern> {
    let written = text(node, "a domain name", &mut context.findings)?;
    let lower = written.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    let (wild, rest) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if !rest.split('.').all(label) {
        let help = "write a DNS name; `*.` at the front stands for one or more labels";
        context.findings.report_with(Code::BadValue, node.span, format!("`{written}` is no domain name"), help);
        return None;
    }
    let bytes: Arc<[u8]> = if wild { format!(".{rest}").as_bytes().into() } else { rest.as_bytes().into() };
    Some(if wild { Pattern::SuffixIgnoreCase(bytes) } else { Pattern::ExactIgnoreCase(bytes) })
}

const SINGLETON: &str = "default";
/// SPEC: `maxLength` of a rule's `name`.
const LONGEST_NAME: usize = 100;
/// The one BaselineAdminNetworkPolicy has no priority: it comes after every ClusterNetworkPolicy.
const LAST: u32 = 1001;
