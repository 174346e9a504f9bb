//! Cilium: `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy`, united with NetworkPolicy in one tier.
//!
//! Who an end is comes from its address, as in Cilium: a network never matches a pod or a node. Rules are ORed, so that
//! the rules for layer 7 of one peer and port add up, and a rule for layer 4 beside them lets everything pass; a deny
//! of any policy comes first.

mod cidr;
mod context;
mod entity;
mod hardened;
mod http;
mod icmp;
mod l7;
mod labels;
mod names;
mod peers;
mod port;
mod re2;
mod regex;
mod section;
mod service;
mod spec;

use std::sync::Arc;

use self::context::{Context, Role};
use self::spec::Spec;
use super::members::{self, Members};
use super::{Memos, Mention, Mentioned, Outcome, Refused, name_of};
use crate::diagnostic::Code;
use crate::facts::Direction;
use crate::model::{Atom, Expr, PeerAtom, PolicyName, Stack, Tier};
use crate::settings::Settings;
use crate::source::{Document, Findings, Node, Value};

/// What is read here.
pub(super) const FRONT_END: super::FrontEnd =
    super::FrontEnd { reads: &[("cilium.io", &["v2"], &[NAMESPACED, CLUSTERWIDE])], compile };

const NAMESPACED: &str = "CiliumNetworkPolicy";
const CLUSTERWIDE: &str = "CiliumClusterwideNetworkPolicy";

/// Reads all documents of this dialect together, since `fromRequires` of one narrows the rules of another.
fn compile(documents: &[&Document], settings: &Settings, memos: &mut Memos) -> Outcome {
    let mut outcome = Outcome::default();
    let mut specs: Vec<Spec> = Vec::new();
    for document in documents {
        let read = memos.cilium.of(document, || one(document, settings));
        outcome.extend(&read.outcome);
        specs.extend(read.specs.iter().cloned());
    }
    require(&mut specs);
    outcome.policies.extend(specs.into_iter().map(|spec| spec.policy));
    outcome
}

/// What one document says: its policies are those of its specs.
#[derive(Debug)]
pub(super) struct Read {
    outcome: Outcome,
    specs: Vec<Spec>,
}

impl super::memo::Reading for Read {
    fn forget_mentions(&mut self) {
        self.outcome.forget_mentions();
    }
}

fn one(document: &Document, settings: &Settings) -> Read {
    let mut outcome = Outcome::default();
    let mut findings = Findings::of(document);
    let mut specs = if document.broken { Vec::new() } else { read(document, settings, &mut findings) };
    if document.broken || findings.has_errors() {
        specs.clear();
        outcome.refused.push(refused(document, settings));
    }
    outcome.mentions.extend(specs.iter().map(|spec| protected(spec, &findings, document)));
    outcome.diagnostics.extend(findings.into_diagnostics());
    Read { outcome, specs }
}

/// The rules of one document. Of a document with an error only what could be read.
fn read(document: &Document, settings: &Settings, findings: &mut Findings) -> Vec<Spec> {
    let Some(mut top) = Members::of(&document.root, "a policy", findings) else { return Vec::new() };
    top.accept(&["apiVersion", "kind", "metadata", "status"]);
    if document.name.is_empty() {
        findings.report_with(Code::MissingField, document.root.span, "`metadata.name` is missing", "add a name");
    }
    let one = top.find("spec");
    let several = top.list("specs", findings).unwrap_or_default();
    if one.is_none() && several.is_empty() && !findings.has_errors() {
        let help = "a policy has a `spec`, or `specs`";
        findings.report_with(Code::MissingField, document.root.span, "`spec` is missing", help);
    }
    top.finish(findings);
    let name = name_of(document);
    let mut specs = Vec::new();
    each(one, several, |node, prefix| {
        let mut context = context(&name, settings, findings);
        specs.extend(spec::read(node, &prefix, &name, &mut context));
    });
    specs
}

/// `spec`, and each of `specs` with the prefix of its rules.
fn each<'n>(one: Option<&'n Node>, several: &'n [Node], mut visit: impl FnMut(&'n Node, String)) {
    if let Some(node) = one {
        visit(node, String::new());
    }
    for (index, node) in several.iter().enumerate() {
        visit(node, format!("specs[{index}]."));
    }
}

fn context<'a>(name: &PolicyName, settings: &'a Settings, findings: &'a mut Findings) -> Context<'a> {
    let namespace = (!name.namespace.is_empty()).then(|| Arc::clone(&name.namespace));
    Context { findings, settings, namespace, role: Role::Peer, direction: Direction::Inbound }
}

/// SPEC: what `fromRequires` asks is asked of the endpoints of every rule for the same workload.
fn require(specs: &mut [Spec]) {
    let mut required: Vec<(Direction, Expr, Arc<str>)> = Vec::new();
    for spec in specs.iter() {
        for (direction, condition) in &spec.required {
            let either = Expr::any([!spec.policy.subject.clone(), condition.clone()]);
            required.push((*direction, either, Arc::clone(&spec.policy.name.namespace)));
        }
    }
    if required.is_empty() {
        return;
    }
    for spec in specs {
        let own = Arc::clone(&spec.policy.name.namespace);
        for index in &spec.by_endpoints {
            let Some(rule) = Arc::make_mut(&mut spec.policy).rules.get_mut(*index) else { continue };
            let direction = rule.direction;
            let apart = |other: &Arc<str>| !other.is_empty() && !own.is_empty() && *other != own;
            let of_rule = required.iter().filter(|(held, _, from)| *held == direction && !apart(from));
            let whole = std::mem::replace(&mut rule.condition, Expr::True);
            rule.condition =
                Expr::all(std::iter::once(whole).chain(of_rule.map(|(_, condition, _)| condition.clone())));
        }
    }
}

/// A refused document closes both directions of what its selectors would have selected, as far as that can be read.
/// What is about nodes alone would not have acted.
fn refused(document: &Document, settings: &Settings) -> Refused {
    let name = name_of(document);
    let one = document.root.get("spec").filter(|node| node.value != Value::Null);
    let several: &[Node] = match document.root.get("specs").map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    };
    let mut subjects = Vec::new();
    let mut unheard = Findings::of(document);
    let mut is_readable = !document.broken && (one.is_some() || !several.is_empty());
    let mut is_harmless = is_readable && name.namespace.is_empty();
    each(one, several, |node, _| {
        let mut context = context(&name, settings, &mut unheard);
        is_harmless &= spec::is_about_nodes(node);
        let read = Members::of(node, "`spec`", context.findings)
            .and_then(|mut members| spec::subject(&mut members, &mut context));
        match read {
            Some(subject) => subjects.push(subject),
            None if spec::is_about_nodes(node) && context.namespace.is_none() => {}
            None => is_readable = false,
        }
    });
    let subject = match (is_readable, name.namespace.is_empty()) {
        (true, _) => Expr::any(subjects),
        (false, true) => Expr::True,
        (false, false) => Expr::Is(Atom::Subject(PeerAtom::Namespace(Arc::clone(&name.namespace)))),
    };
    match is_harmless {
        true => Refused::harmless(document),
        false => Refused::closing(document, Stack::Network, Tier::Application, Some(subject)),
    }
}

fn protected(spec: &Spec, findings: &Findings, document: &Document) -> Arc<Mention> {
    let finding = findings.unconfirmed(
        Code::SelectsNothing,
        document.root.span,
        "the policy selects no workload",
        "check namespace and labels of `endpointSelector`",
    );
    Arc::new(Mention { of: Mentioned::Protected(spec.policy.subject.clone()), finding })
}
