//! `AuthorizationPolicy` to the model.
//!
//! SPEC: a deny of any policy first; then, if any ALLOW policy applies, one of them must match; else allowed. A rule is
//! OR(from) and OR(to) and AND(when); inside an item fields are ANDed, the values of a field ORed, `notX` is the
//! negation of the whole list. What an HTTP field means on TCP depends on the enforcement point.

use super::part::{Key, Layer, Mesh};
use super::subject;
use crate::diagnostic::Code;
use crate::facts::{Direction, Protocol, Transport};
use crate::model::{Atom, Directions, Effect, Expr, Mode, Policy, PolicyName, Rule, Stack, Tier};
use crate::settings::{IstioEnforcementPoint, Settings};
use crate::source::{Document, Fields, Findings, Node, Span, fields};

const HTTP: [Protocol; 3] = [Protocol::Http, Protocol::Http2, Protocol::Grpc];

/// Istio's cap on `serviceAccounts`.
const MAX_SERVICE_ACCOUNTS: usize = 16;

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
    findings: &mut Findings,
) -> Option<Policy> {
    let mut top = super::top(document, findings)?;
    let mut spec = match top.optional("spec", findings) {
        Some(spec) => Some(Fields::of(spec, "`spec`", findings)?),
        None => None,
    };
    top.finish(findings);
    let mut field = |name: &'static str, findings: &mut Findings| spec.as_mut()?.optional(name, findings);

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
    let selector = field("selector", findings);
    let targets = [field("targetRef", findings), field("targetRefs", findings)].into_iter().flatten().next();
    if let (Some(_), Some(target)) = (selector, targets) {
        findings.report(Code::Conflict, target.span, "`selector` and `targetRefs` exclude each other");
    }
    let subject = subject::of(&name, selector, &settings.istio.root_namespace, findings);
    let translation = Translation {
        mesh: Mesh::new(&settings.istio, &settings.trust_domain),
        own_namespace: &name.namespace,
        effect,
        point: settings.istio.enforcement_point,
    };
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
    if findings.has_errors() {
        return None;
    }
    if let Some(target) = targets {
        findings.report_with(
            Code::NotEnforced,
            target.span,
            "`targetRefs` attach to gateways and waypoints; a sidecar takes no notice of this policy, and neither does Eastwall",
            "use a `selector` to protect workloads",
        );
        return None;
    }
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
        mode: mode(document, findings),
        replaces: Vec::new(),
        subject,
        closes,
        rules: translated,
        http_options: Vec::new(),
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

fn dry_run_annotation(document: &Document) -> Option<&Node> {
    document.root.get("metadata")?.get("annotations")?.get("istio.io/dry-run")
}

/// Whether the document says of itself that it only shadows.
pub(super) fn is_dry_run(document: &Document) -> bool {
    dry_run_annotation(document).and_then(Node::text) == Some("true")
}

fn mode(document: &Document, findings: &mut Findings) -> Mode {
    match dry_run_annotation(document) {
        Some(annotation) if !matches!(annotation.text(), Some("true" | "false")) => {
            findings.report_with(
                Code::Suspicious,
                annotation.span,
                "annotation `istio.io/dry-run` is neither `\"true\"` nor `\"false\"`: the policy is enforced",
                "write `\"true\"` or `\"false\"`",
            );
            Mode::Enforce
        }
        _ if is_dry_run(document) => Mode::Audit,
        _ => Mode::Enforce,
    }
}

struct Translation<'a> {
    mesh: Mesh<'a>,
    own_namespace: &'a str,
    effect: Effect,
    point: IstioEnforcementPoint,
}

/// One field, translated.
struct Part {
    expr: Expr,
    layer: Layer,
}

const SOURCE: [(Key, &str, &str); 7] = [
    (Key::Principal, "principals", "notPrincipals"),
    (Key::RequestPrincipal, "requestPrincipals", "notRequestPrincipals"),
    (Key::Namespace, "namespaces", "notNamespaces"),
    (Key::ServiceAccount, "serviceAccounts", "notServiceAccounts"),
    (Key::TrustDomain, "trustDomains", "notTrustDomains"),
    (Key::SourceIp, "ipBlocks", "notIpBlocks"),
    (Key::RemoteIp, "remoteIpBlocks", "notRemoteIpBlocks"),
];

const OPERATION: [(Key, &str, &str); 4] = [
    (Key::Host, "hosts", "notHosts"),
    (Key::Port, "ports", "notPorts"),
    (Key::Method, "methods", "notMethods"),
    (Key::Path, "paths", "notPaths"),
];

impl Translation<'_> {
    fn rule(&self, rule: &Node, findings: &mut Findings) -> Option<Expr> {
        let mut rule = Fields::of(rule, "a rule", findings)?;
        let mut clauses: Vec<Vec<Vec<Part>>> = Vec::new();
        for (name, inner, members) in [("from", "source", &SOURCE[..]), ("to", "operation", &OPERATION[..])] {
            let Some(list) = rule.optional(name, findings) else { continue };
            let items = fields::list(list, &format!("`{name}`"), findings)?;
            clauses.push(items.iter().filter_map(|item| self.item(item, name, inner, members, findings)).collect());
        }
        if let Some(when) = rule.optional("when", findings) {
            for condition in fields::list(when, "`when`", findings)? {
                clauses.push(vec![self.condition(condition, findings)?]);
            }
        }
        rule.finish(findings);
        Some(self.combine(clauses))
    }

    /// AND over clauses of OR over items of AND over parts, with the parts that a point cannot see handled its way.
    fn combine(&self, clauses: Vec<Vec<Vec<Part>>>) -> Expr {
        let needs = clauses.iter().flatten().flatten().map(|part| part.layer).fold(Layer::Connection, Ord::max);
        let http = || Expr::Is(Atom::Protocol(HTTP.into()));
        let blind = self.point == IstioEnforcementPoint::Ztunnel;
        if self.effect == Effect::Allow {
            if blind && needs != Layer::Connection {
                return Expr::False;
            }
            let rule = join(clauses, |part| Some(part.expr));
            // A rule with an HTTP field is no rule on TCP.
            return if needs == Layer::Http { Expr::all([http(), rule]) } else { rule };
        }
        if blind {
            return join(clauses, |part| (part.layer == Layer::Connection).then_some(part.expr));
        }
        // A sidecar drops HTTP fields of a DENY on TCP: the rule grows wider there.
        join(clauses, |part| match part.layer {
            Layer::Http => Some(Expr::any([!http(), part.expr])),
            Layer::Connection | Layer::Proxy => Some(part.expr),
        })
    }

    /// One item of `from` or `to`.
    fn item(
        &self,
        item: &Node,
        outer: &str,
        inner: &'static str,
        members: &'static [(Key, &'static str, &'static str)],
        findings: &mut Findings,
    ) -> Option<Vec<Part>> {
        let mut item = Fields::of(item, &format!("an item of `{outer}`"), findings)?;
        let node = item.required(inner, findings)?;
        let mut fields = Fields::of(node, &format!("`{inner}`"), findings)?;
        item.finish(findings);
        let mut parts = Vec::new();
        let mut accounts: Option<Span> = None;
        let mut others = false;
        for (key, positive, negative) in members {
            for (name, negated) in [(*positive, false), (*negative, true)] {
                let Some(list) = fields.optional(name, findings) else { continue };
                match key {
                    Key::ServiceAccount => accounts = Some(list.span),
                    Key::Principal | Key::Namespace => others = true,
                    _ => {}
                }
                parts.push(self.field(key, name, false, negated, list, findings)?);
            }
        }
        fields.finish(findings);
        if let Some(span) = accounts.filter(|_| others) {
            let message = "`serviceAccounts` cannot stand beside `principals` or `namespaces`";
            findings.report_with(Code::Conflict, span, message, "name the account alone, or use `principals`");
        }
        if parts.is_empty() && !findings.has_errors() {
            findings.report_with(
                Code::BadValue,
                node.span,
                format!("`{inner}` is empty"),
                format!("leave `{outer}` out to match everything, or say what it matches"),
            );
        }
        Some(parts)
    }

    fn condition(&self, condition: &Node, findings: &mut Findings) -> Option<Vec<Part>> {
        let mut fields = Fields::of(condition, "a condition", findings)?;
        let node = fields.required("key", findings)?;
        let written = fields::text(node, "`key`", findings)?;
        let Some(key) = Key::of_condition(written) else {
            if written.starts_with("experimental.envoy.filters.") {
                let message = format!("`{written}` reads metadata of Envoy's filters, which Eastwall does not run");
                findings.report_with(Code::NotSupported, node.span, message, "remove the condition");
            } else {
                findings.report_with(
                    Code::BadEnumValue,
                    node.span,
                    format!("unknown condition key `{written}`"),
                    "the keys are those of Istio's authorization policy conditions: `source.ip`, `request.headers[name]`, ...",
                );
            }
            return None;
        };
        let mut parts = Vec::new();
        for (name, negated) in [("values", false), ("notValues", true)] {
            let Some(list) = fields.optional(name, findings) else { continue };
            parts.push(self.field(&key, name, true, negated, list, findings)?);
        }
        if parts.is_empty() {
            findings.report(Code::MissingField, condition.span, "a condition needs `values` or `notValues`");
        }
        fields.finish(findings);
        Some(parts)
    }

    fn field(
        &self,
        key: &Key,
        name: &str,
        in_condition: bool,
        negated: bool,
        list: &Node,
        findings: &mut Findings,
    ) -> Option<Part> {
        let values = fields::texts(list, &format!("`{name}`"), findings)?;
        if *key == Key::ServiceAccount && values.len() > MAX_SERVICE_ACCOUNTS {
            let message =
                format!("{} service accounts, where Istio takes at most {MAX_SERVICE_ACCOUNTS}", values.len());
            findings.report_with(Code::OutOfRange, list.span, message, "split the rule");
        }
        let mut any = Vec::with_capacity(values.len());
        for (value, span) in values {
            match key.matches(value, self.own_namespace, &self.mesh) {
                Ok(expr) => any.push(expr),
                Err(bad) => findings.report(Code::BadValue, span, bad.to_string()),
            }
        }
        let any = Expr::any(any);
        Some(Part { expr: if negated { !any } else { any }, layer: key.layer(in_condition) })
    }
}

/// `keep` leaves a part out by `None`; an item of which nothing is left matches never.
fn join(clauses: Vec<Vec<Vec<Part>>>, keep: impl Fn(Part) -> Option<Expr>) -> Expr {
    Expr::all(clauses.into_iter().map(|items| {
        Expr::any(items.into_iter().map(|parts| {
            let kept: Vec<Expr> = parts.into_iter().filter_map(&keep).collect();
            if kept.is_empty() { Expr::False } else { Expr::all(kept) }
        }))
    }))
}
