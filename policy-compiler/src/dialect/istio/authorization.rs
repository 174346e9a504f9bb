//! `AuthorizationPolicy` to the model.
//!
//! SPEC: a deny of any policy first; then, if any ALLOW policy applies, one of them must match; else allowed.

use super::key::Surroundings;
use super::request_authentication::SpacedClaims;
use super::rule::Translation;
use super::target::Attachment;
use super::trust_domain::TrustDomains;
use crate::diagnostic::Code;
use crate::facts::{Direction, Transport};
use crate::model::{
    Atom, Directions, Effect, Expr, HttpOption, HttpOptions, Mode, Policy, PolicyName, Rule, Stack, Tier,
};
use crate::settings::{Compatibility, Istio, IstioPathNormalization, Settings};
use crate::source::{Document, Fields, Findings, Node, fields};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
    Audit,
    Custom,
}

const ACTIONS: [(&str, Action); 4] =
    [("ALLOW", Action::Allow), ("DENY", Action::Deny), ("AUDIT", Action::Audit), ("CUSTOM", Action::Custom)];

/// One document; `None` where it acts on nothing here (a finding says why) or has an error.
pub(super) fn policy(
    document: &Document,
    name: PolicyName,
    settings: &Settings,
    spaced_claims: &SpacedClaims,
    findings: &mut Findings,
) -> Option<Policy> {
    let mut top = super::top(document, findings)?;
    let mut spec = match super::optional(&mut top, "spec", findings) {
        Some(spec) => Some(Fields::of(spec, "`spec`", findings)?),
        None => None,
    };
    top.finish(findings);
    let attachment = spec.as_mut().map_or_else(Attachment::everything, |spec| Attachment::read(spec, findings));
    let mut field = |name: &'static str, findings: &mut Findings| super::optional(spec.as_mut()?, name, findings);

    let action_node = field("action", findings);
    let action = match action_node {
        Some(node) => fields::word(node, "`action`", &ACTIONS, findings)?,
        None => Action::Allow,
    };
    let action_span = action_node.map_or(document.root.span, |node| node.span);
    if action == Action::Custom {
        findings.report_with(
            Code::NotSupported,
            action_span,
            "action `CUSTOM` asks an external authorizer, which Eastwall does not call",
            "express the condition with ALLOW or DENY rules, or keep this policy out of Eastwall's sources",
        );
    }
    let effect = if action == Action::Deny { Effect::Deny } else { Effect::Allow };
    if let Some(provider) = field("provider", findings).filter(|_| action != Action::Custom) {
        findings.report(Code::Conflict, provider.span, "`provider` goes with action `CUSTOM` alone");
    }
    let translation = Translation {
        given: Surroundings {
            trust_domains: &TrustDomains::new(&settings.istio, &settings.trust_domain),
            own_namespace: &name.namespace,
            spaced_claims,
        },
        denies: effect == Effect::Deny,
        istio: &settings.istio,
    };
    let mode = mode(document, action, findings);
    // `rules: []` is what a client writes for no rules at all.
    let rules = match field("rules", findings).map(|node| (node, &node.value)) {
        Some((_, crate::source::Value::List(items))) => items.as_slice(),
        Some((node, _)) => fields::list(node, "`rules`", findings)?,
        None => &[],
    };
    if let Some(spec) = spec {
        spec.finish(findings);
    }
    if effect == Effect::Deny && rules.is_empty() {
        findings.report_with(
            Code::NoEffect,
            action_span,
            "a `DENY` policy without rules denies nothing",
            "write `rules: [{}]` to deny everything",
        );
    }
    let mut translated = Vec::with_capacity(rules.len() + 1);
    for (index, rule) in rules.iter().enumerate() {
        let Some(condition) = translation.rule(rule, findings) else { continue };
        translated.push(Rule {
            name: format!("rules[{index}]").into(),
            location: findings.location(rule.span),
            direction: Direction::Inbound,
            effect,
            condition: Expr::all([Expr::Is(Atom::Transport(Transport::Tcp)), condition]),
            expires: None,
        });
    }
    let subject = attachment.subject(&name, document, &settings.istio, findings);
    if findings.has_errors() {
        return None;
    }
    let subject = subject?;
    if action == Action::Audit {
        findings.report_with(
            Code::NotEnforced,
            action_span,
            "action `AUDIT` never changes a verdict; the access log has every verdict without it",
            "nothing to do, or write ALLOW with the annotation `istio.io/dry-run: \"true\"` to see a shadow verdict",
        );
        return None;
    }
    let closes = Directions { inbound: effect == Effect::Allow, outbound: false };
    if closes.inbound {
        translated.push(beyond_tcp(document));
    }
    Some(Policy {
        name,
        location: document.location.clone(),
        stack: Stack::Istio,
        tier: Tier::Application,
        priority: 0,
        mode,
        replaces: Vec::new(),
        subject,
        closes,
        rules: translated,
        http_options: http_options(&settings.istio),
        jwt_rules: Vec::new(),
        broken: false,
    })
}

/// Istio intercepts TCP alone: what else reaches the workload is none of an ALLOW policy's business.
fn beyond_tcp(document: &Document) -> Rule {
    Rule {
        name: "not-tcp".into(),
        location: document.location.clone(),
        direction: Direction::Inbound,
        effect: Effect::Allow,
        condition: !Expr::Is(Atom::Transport(Transport::Tcp)),
        expires: None,
    }
}

/// The annotation that makes a policy a dry run.
pub(super) fn dry_run_annotation(document: &Document) -> Option<&Node> {
    document.root.get("metadata")?.get("annotations")?.get("istio.io/dry-run")
}

/// Whether the document says of itself that it only shadows.
pub(super) fn is_dry_run(document: &Document) -> bool {
    dry_run_annotation(document).and_then(|node| parse_bool(node.text()?)) == Some(true)
}

/// A boolean as Go reads it.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn mode(document: &Document, action: Action, findings: &mut Findings) -> Mode {
    let Some(annotation) = dry_run_annotation(document) else { return Mode::Enforce };
    if !matches!(action, Action::Allow | Action::Deny) {
        let message = "annotation `istio.io/dry-run` goes with actions `ALLOW` and `DENY` alone";
        findings.report_with(Code::Conflict, annotation.span, message, "remove the annotation");
    }
    match annotation.text().and_then(parse_bool) {
        Some(true) => Mode::Audit,
        Some(false) => Mode::Enforce,
        None => {
            let message = "annotation `istio.io/dry-run` is neither `\"true\"` nor `\"false\"`";
            findings.report_with(Code::BadValue, annotation.span, message, "write `\"true\"` or `\"false\"`");
            Mode::Enforce
        }
    }
}

/// SPEC: with `DecodeAndMergeSlashes` the mesh decodes `%2F` and `%5C`, and takes `\` for `/`. Every other
/// normalization leaves something ambiguous, which is refused.
fn http_options(istio: &Istio) -> Vec<HttpOptions> {
    let decodes = istio.path_normalization == IstioPathNormalization::DecodeAndMergeSlashes;
    if !decodes || istio.compatibility == Compatibility::Hardened {
        return Vec::new();
    }
    vec![HttpOptions {
        ports: Expr::True,
        escaped_slash: Some(HttpOption::Decode),
        backslash: Some(HttpOption::Decode),
        path_parameters: None,
        merge_slashes: None,
        method_override: None,
        underscore_headers: None,
    }]
}
