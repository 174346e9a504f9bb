//! One `FirewallPolicy` or `ClusterFirewallPolicy`.

use std::sync::Arc;

use super::context::Context;
use super::metadata::{self, Scope};
use super::peer::{self, Role};
use super::{FIREWALL, Read, STACK, name, options, rule};
use crate::diagnostic::Code;
use crate::dialect::{Mention, Mentioned, Refused, name_of};
use crate::facts::Direction;
use crate::model::{Atom, Directions, Expr, Mode, PeerAtom, Policy, PolicyName, Rule, Tier};
use crate::settings::Settings;
use crate::source::fields::{list, word};
use crate::source::{Document, Fields, Findings, Node, Span, Value};

/// Reads a document as far as it goes.
pub(super) fn read(document: &Document, settings: &Settings) -> Read {
    let scope = if document.kind == FIREWALL { Scope::Namespaced } else { Scope::Cluster };
    let namespace: Option<Arc<str>> = match scope {
        Scope::Namespaced => Some(document.namespace.as_str().into()),
        Scope::Cluster => None,
    };
    let mut context =
        Context { findings: Findings::of(document), settings, namespace: namespace.clone(), mentions: Vec::new() };
    let spec = metadata::spec(document, scope, &mut context.findings);
    let parts = spec.and_then(|spec| Parts::read(spec, document, scope, &mut context));
    let refusal = refusal(document, scope, parts.as_ref());
    let Context { findings, mut mentions, .. } = context;
    let findings = if document.broken {
        // Its syntax error is told already, and what stands before it is no whole policy.
        Findings::of(document)
    } else {
        findings
    };
    let Some(parts) = parts else { return Read { policy: None, replaces: Vec::new(), findings, mentions, refusal } };
    let replaces = parts.replaces;
    let policy = parts.subject.map(|subject| {
        let policy = Policy {
            name: name_of(document),
            location: document.location.clone(),
            stack: STACK,
            tier: parts.tier.unwrap_or(Tier::Application),
            priority: 0,
            mode: parts.mode.unwrap_or_default(),
            replaces: replaces.iter().map(|(name, _)| name.clone()).collect(),
            subject,
            closes: parts.closes,
            rules: parts.rules,
            http_options: parts.http_options,
            jwt_rules: Vec::new(),
            broken: false,
        };
        let place = document
            .root
            .get("metadata")
            .and_then(|node| node.get("name"))
            .map_or(document.root.span, |node| node.span);
        let finding = findings.unconfirmed(
            Code::SelectsNothing,
            place,
            format!("`{}` protects no workload", policy.name),
            "no workload matches its `subject`; check labels, accounts and the namespace",
        );
        mentions.push(Arc::new(Mention { of: Mentioned::Protected(policy.subject.clone()), finding }));
        Arc::new(policy)
    });
    Read { policy, replaces, findings, mentions, refusal }
}

/// What stands in for the document if it is refused: as much of its subject as is sure.
fn refusal(document: &Document, scope: Scope, parts: Option<&Parts>) -> Refused {
    if parts.is_some_and(|parts| parts.mode == Some(Mode::Audit)) {
        return Refused::harmless(document);
    }
    let everybody = || match scope {
        Scope::Namespaced => None,
        Scope::Cluster => Some(Expr::True),
    };
    let subject =
        parts.filter(|parts| parts.subject_is_whole).and_then(|parts| parts.subject.clone()).or_else(everybody);
    let tier = match (scope, parts.and_then(|parts| parts.tier)) {
        (Scope::Namespaced, _) => Tier::Application,
        (Scope::Cluster, tier) => tier.unwrap_or(Tier::Admin),
    };
    Refused::closing(document, STACK, tier, subject)
}

struct Parts {
    tier: Option<Tier>,
    mode: Option<Mode>,
    subject: Option<Expr>,
    /// A document with a syntax error may have been cut inside of its subject.
    subject_is_whole: bool,
    replaces: Vec<(PolicyName, Span)>,
    closes: Directions,
    rules: Vec<Rule>,
    http_options: Vec<crate::model::HttpOptions>,
}

impl Parts {
    fn read(spec: &Node, document: &Document, scope: Scope, context: &mut Context<'_>) -> Option<Self> {
        let mut fields = Fields::of(spec, "`spec`", &mut context.findings)?;
        let tier = match scope {
            Scope::Namespaced => Some(Tier::Application),
            Scope::Cluster => fields.required("tier", &mut context.findings).and_then(|node| {
                word(node, "`tier`", &[("Admin", Tier::Admin), ("Baseline", Tier::Baseline)], &mut context.findings)
            }),
        };
        let mode = match fields.optional("mode", &mut context.findings) {
            Some(node) => {
                word(node, "`mode`", &[("Enforce", Mode::Enforce), ("Audit", Mode::Audit)], &mut context.findings)
            }
            None => Some(Mode::Enforce),
        };
        let subject = subject(&mut fields, document, context);
        let subject_is_whole = !document.broken || !is_last(spec, "subject");
        let replaces = replaces(&mut fields, document, mode, context);
        let (mut rules, mut ruled) = (Vec::new(), Directions::default());
        for (name, direction) in [("ingress", Direction::Inbound), ("egress", Direction::Outbound)] {
            let Some(node) = fields.optional(name, &mut context.findings) else { continue };
            rules.extend(rule::list_of(node, direction, context));
            match direction {
                Direction::Inbound => ruled.inbound = true,
                Direction::Outbound => ruled.outbound = true,
            }
        }
        let http_options = match fields.optional("httpOptions", &mut context.findings) {
            Some(node) => options::list_of(node, context),
            None => Vec::new(),
        };
        let closes = directions(&mut fields, tier, ruled, context);
        let says_nothing = !ruled.inbound && !ruled.outbound && !fields.has("directions") && !fields.has("httpOptions");
        if says_nothing && !fields.has("ingress") && !fields.has("egress") {
            let help = match tier {
                Some(Tier::Admin) => "add `ingress` or `egress` rules",
                _ => "write `directions: [Ingress, Egress]` to close both directions, or add rules",
            };
            context.findings.report_with(
                Code::NoEffect,
                fields.span(),
                "the policy closes nothing and has no rules",
                help,
            );
        }
        fields.finish(&mut context.findings);
        Some(Self { tier, mode, subject, subject_is_whole, replaces, closes, rules, http_options })
    }
}

fn is_last(spec: &Node, key: &str) -> bool {
    match &spec.value {
        Value::Map(entries) => entries.last().is_none_or(|(last, _)| &*last.text == key),
        _ => true,
    }
}

pub(super) fn subject(fields: &mut Fields<'_>, document: &Document, context: &mut Context<'_>) -> Option<Expr> {
    let named = fields.required("subject", &mut context.findings);
    let named = named.and_then(|node| peer::list_of(node, "`subject`", Role::Subject, context));
    let excepted = fields.optional("notSubject", &mut context.findings);
    let excepted = excepted.and_then(|node| peer::list_of(node, "`notSubject`", Role::Subject, context));
    let own = match &context.namespace {
        Some(_) if document.namespace.is_empty() => return None,
        Some(own) => Expr::Is(Atom::Subject(PeerAtom::Namespace(Arc::clone(own)))),
        None => Expr::True,
    };
    let excepted = excepted.map_or(Expr::True, |excepted| !excepted.condition);
    Some(Expr::all([own, named?.condition, excepted]))
}

fn replaces(
    fields: &mut Fields<'_>,
    document: &Document,
    mode: Option<Mode>,
    context: &mut Context<'_>,
) -> Vec<(PolicyName, Span)> {
    let Some(node) = fields.optional("replaces", &mut context.findings) else { return Vec::new() };
    if mode == Some(Mode::Enforce) {
        let help = "add `mode: Audit`; an enforced policy replaces by being the same document";
        context.findings.report_with(
            Code::Conflict,
            fields.key_span("replaces"),
            "`replaces` needs `mode: Audit`",
            help,
        );
    }
    let items = list(node, "`replaces`", &mut context.findings).unwrap_or_default();
    let (kind, namespace) = (
        document.kind.as_str(),
        match &context.namespace {
            Some(namespace) => Arc::clone(namespace),
            None => "".into(),
        },
    );
    let mut names = Vec::new();
    for item in items {
        if let Some(name) = name::object(item, "an item of `replaces`", &mut context.findings) {
            let name = PolicyName { kind: kind.into(), namespace: Arc::clone(&namespace), name: name.into() };
            names.push((name, item.span));
        }
    }
    names
}

/// What the policy closes: `directions`, or the directions that have rules. Admin closes nothing.
fn directions(fields: &mut Fields<'_>, tier: Option<Tier>, ruled: Directions, context: &mut Context<'_>) -> Directions {
    let Some(node) = fields.optional("directions", &mut context.findings) else {
        return if tier == Some(Tier::Admin) { Directions::default() } else { ruled };
    };
    if tier == Some(Tier::Admin) {
        let help = "remove it: an Admin policy denies and allows, and closes nothing; `tier: Baseline` closes";
        let span = fields.key_span("directions");
        context.findings.report_with(Code::WrongDirection, span, "an Admin policy has no `directions`", help);
        return Directions::default();
    }
    let mut closes = Directions::default();
    for item in list(node, "`directions`", &mut context.findings).unwrap_or_default() {
        let words = [("Ingress", Direction::Inbound), ("Egress", Direction::Outbound)];
        match word(item, "`directions`", &words, &mut context.findings) {
            Some(Direction::Inbound) => closes.inbound = true,
            Some(Direction::Outbound) => closes.outbound = true,
            None => return closes,
        }
    }
    for (rules, word, ruled, closed) in
        [("ingress", "Ingress", ruled.inbound, closes.inbound), ("egress", "Egress", ruled.outbound, closes.outbound)]
    {
        if ruled && !closed {
            let message = format!("`{rules}` has rules, and `directions` lacks `{word}`");
            let help = format!("add `{word}` to `directions`, or remove the rules");
            context.findings.report_with(Code::WrongDirection, fields.key_span(rules), message, help);
        }
    }
    closes
}
