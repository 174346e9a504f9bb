//! `AuthorizationPolicy` to the model.
//!
//! SPEC: a deny of any policy first; then, if any ALLOW policy applies, one of them must match; else allowed. A rule is
//! OR(from) and OR(to) and AND(when); inside an item fields are ANDed, the values of a field ORed, `notX` is the
//! negation of the whole list. What an HTTP field means on TCP depends on the enforcement point.


use serde_saphyr::Spanned;

use super::findings::Findings;
use super::part::{Key, Layer, Mesh};
use super::schema::{self, Condition, Operation, Source, Texts};
use super::{code, subject};
use crate::facts::{Direction, Protocol, Transport};
use crate::model::{Atom, Directions, Effect, Expr, Mode, Policy, PolicyName, Rule, Stack, Tier};
use crate::settings::{IstioEnforcementPoint, Settings};

const HTTP: [Protocol; 3] = [Protocol::Http, Protocol::Http2, Protocol::Grpc];

/// Istio's cap on `serviceAccounts`.
const MAX_SERVICE_ACCOUNTS: usize = 16;

/// One document; `None` where it acts on nothing here (a note says why) or has an error.
pub(super) fn policy(
    document: &schema::Document<schema::AuthorizationPolicy>,
    name: PolicyName,
    settings: &Settings,
    findings: &mut Findings<'_>,
) -> Option<Policy> {
    let nothing = schema::AuthorizationPolicy::default();
    let spec = document.spec.as_ref().unwrap_or(&nothing);
    let errors = findings.errors();
    let action = spec.action.as_ref().map_or("ALLOW", |action| action.value.as_str());
    let effect = match action {
        "ALLOW" | "AUDIT" => Effect::Allow,
        "DENY" => Effect::Deny,
        "CUSTOM" => {
            findings.error_at(
                spec.action.as_ref(),
                code::UNSUPPORTED,
                "action `CUSTOM` asks an external authorizer, which Eastwall does not call",
                "express the condition with ALLOW or DENY rules, or keep this policy out of Eastwall's sources",
            );
            return None;
        }
        other => {
            findings.error_at(
                spec.action.as_ref(),
                code::VALUE,
                format!("unknown action `{other}`"),
                "one of `ALLOW`, `DENY`, `AUDIT`",
            );
            return None;
        }
    };
    if let Some(provider) = &spec.provider {
        findings.error_at(Some(provider), code::VALUE, "`provider` goes with action `CUSTOM` alone", "remove `provider`");
    }
    let rules = spec.rules.as_deref().unwrap_or_default();
    if effect == Effect::Deny && rules.is_empty() {
        findings.error_at(
            spec.action.as_ref(),
            code::EMPTY,
            "a `DENY` policy without rules denies nothing",
            "write `rules: [{}]` to deny everything",
        );
    }
    let targets = spec.target_ref.as_ref().map(|one| one.referenced).or(spec.target_refs.as_ref().map(|all| all.referenced));
    if let (Some(_), Some(target)) = (&spec.selector, &targets) {
        findings.error_at(Some(target), code::VALUE, "`selector` and `targetRefs` exclude each other", "keep one of them");
    }
    let subject = subject::of(&name, spec.selector.as_ref(), &settings.istio.root_namespace, findings);
    let translation = Translation {
        mesh: Mesh::new(&settings.istio, &settings.trust_domain),
        own_namespace: &name.namespace,
        effect,
        point: settings.istio.enforcement_point,
    };
    let mut translated = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let condition = translation.rule(&rule.value, findings);
        translated.push(Rule {
            name: format!("rules[{index}]").into(),
            location: findings.location(rule.referenced),
            direction: Direction::Inbound,
            effect,
            condition: Expr::all([Expr::Is(Atom::Transport(Transport::Tcp)), condition]),
            expires: None,
        });
    }
    if findings.errors() != errors {
        return None;
    }
    if let Some(target) = &targets {
        findings.note_at(
            Some(target),
            code::NOT_HERE,
            "`targetRefs` attach to gateways and waypoints; a sidecar takes no notice of this policy, and neither does Eastwall",
            "use a `selector` to protect workloads",
        );
        return None;
    }
    if action == "AUDIT" {
        findings.note_at(
            spec.action.as_ref(),
            code::NOT_HERE,
            "action `AUDIT` never changes a verdict; Eastwall's access log has every verdict without it",
            "nothing to do",
        );
        return None;
    }
    let closes = Directions { inbound: effect == Effect::Allow, outbound: false };
    if closes.inbound {
        translated.push(beyond_tcp(findings));
    }
    Some(Policy {
        location: findings.start(),
        stack: Stack::Istio,
        tier: Tier::Application,
        mode: if dry_run(document, findings) { Mode::Audit } else { Mode::Enforce },
        replaces: Vec::new(),
        subject,
        closes,
        rules: translated,
        http_options: Vec::new(),
        broken: false,
        name,
    })
}

/// Istio intercepts TCP alone: what else reaches the workload is none of an ALLOW policy's business.
fn beyond_tcp(findings: &Findings<'_>) -> Rule {
    Rule {
        name: "not-tcp".into(),
        location: findings.start(),
        direction: Direction::Inbound,
        effect: Effect::Allow,
        condition: !Expr::Is(Atom::Transport(Transport::Tcp)),
        expires: None,
    }
}

fn dry_run(document: &schema::Document<schema::AuthorizationPolicy>, findings: &mut Findings<'_>) -> bool {
    let annotations = document.metadata.annotations.as_ref();
    match annotations.and_then(|all| all.get("istio.io/dry-run")).map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            findings.warning(
                code::VALUE,
                format!("annotation `istio.io/dry-run` is `{other}`, which Istio reads as `false`"),
                "write `\"true\"` or `\"false\"`",
            );
            false
        }
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

impl Translation<'_> {
    fn rule(&self, rule: &schema::Rule, findings: &mut Findings<'_>) -> Expr {
        let mut clauses: Vec<Vec<Vec<Part>>> = Vec::new();
        if let Some(from) = non_empty(rule.from.as_ref(), "from", findings) {
            let mut items = Vec::new();
            for item in from {
                match &item.value.source {
                    Some(source) => items.push(self.source(source, findings)),
                    None => empty(item, "source", findings),
                }
            }
            clauses.push(items);
        }
        if let Some(to) = non_empty(rule.to.as_ref(), "to", findings) {
            let mut items = Vec::new();
            for item in to {
                match &item.value.operation {
                    Some(operation) => items.push(self.operation(operation, findings)),
                    None => empty(item, "operation", findings),
                }
            }
            clauses.push(items);
        }
        for condition in rule.when.as_ref().map_or(&[][..], |when| &when.value) {
            clauses.push(vec![self.condition(condition, findings)]);
        }
        self.combine(clauses)
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

    fn source(&self, source: &Spanned<Source>, findings: &mut Findings<'_>) -> Vec<Part> {
        let Source {
            principals,
            not_principals,
            request_principals,
            not_request_principals,
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            trust_domains,
            not_trust_domains,
            ip_blocks,
            not_ip_blocks,
            remote_ip_blocks,
            not_remote_ip_blocks,
        } = &source.value;
        if [service_accounts, not_service_accounts].into_iter().any(Option::is_some)
            && [principals, not_principals, namespaces, not_namespaces].into_iter().any(Option::is_some)
        {
            findings.error_at(
                Some(source),
                code::VALUE,
                "`serviceAccounts` cannot stand beside `principals` or `namespaces`",
                "name the account alone, or use `principals`",
            );
        }
        for accounts in [service_accounts, not_service_accounts].into_iter().flatten() {
            if accounts.value.len() > MAX_SERVICE_ACCOUNTS {
                findings.error_at(
                    Some(accounts),
                    code::VALUE,
                    format!("{} service accounts, where Istio takes {MAX_SERVICE_ACCOUNTS} at most", accounts.value.len()),
                    "split the rule",
                );
            }
        }
        self.fields(
            source,
            "source",
            [
                (Key::Principal, principals, not_principals),
                (Key::RequestPrincipal, request_principals, not_request_principals),
                (Key::Namespace, namespaces, not_namespaces),
                (Key::ServiceAccount, service_accounts, not_service_accounts),
                (Key::TrustDomain, trust_domains, not_trust_domains),
                (Key::SourceIp, ip_blocks, not_ip_blocks),
                (Key::RemoteIp, remote_ip_blocks, not_remote_ip_blocks),
            ],
            findings,
        )
    }

    fn operation(&self, operation: &Spanned<Operation>, findings: &mut Findings<'_>) -> Vec<Part> {
        let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = &operation.value;
        self.fields(
            operation,
            "operation",
            [
                (Key::Host, hosts, not_hosts),
                (Key::Port, ports, not_ports),
                (Key::Method, methods, not_methods),
                (Key::Path, paths, not_paths),
            ],
            findings,
        )
    }

    fn fields<T, const N: usize>(
        &self,
        item: &Spanned<T>,
        what: &str,
        fields: [(Key, &Texts, &Texts); N],
        findings: &mut Findings<'_>,
    ) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut written = false;
        for (key, values, not_values) in fields {
            written |= values.is_some() || not_values.is_some();
            self.field(&key, false, values, not_values, findings, &mut parts);
        }
        if !written {
            empty(item, what, findings);
        }
        parts
    }

    fn condition(&self, condition: &Spanned<Condition>, findings: &mut Findings<'_>) -> Vec<Part> {
        let Condition { key: written, values, not_values } = &condition.value;
        let mut parts = Vec::new();
        let Some(key) = Key::of_condition(&written.value) else {
            let (message, help) = if written.value.starts_with("experimental.envoy.filters.") {
                (format!("`{}` reads metadata of Envoy's filters, which Eastwall does not run", written.value), "remove the condition")
            } else {
                (
                    format!("unknown condition key `{}`", written.value),
                    "the keys are listed at https://istio.io/latest/docs/reference/config/security/conditions/",
                )
            };
            findings.error_at(Some(written), code::UNSUPPORTED, message, help);
            return parts;
        };
        if values.is_none() && not_values.is_none() {
            findings.error_at(Some(condition), code::EMPTY, "a condition needs `values` or `notValues`", "add one of them");
        }
        self.field(&key, true, values, not_values, findings, &mut parts);
        parts
    }

    fn field(
        &self,
        key: &Key,
        in_condition: bool,
        values: &Texts,
        not_values: &Texts,
        findings: &mut Findings<'_>,
        parts: &mut Vec<Part>,
    ) {
        let layer = key.layer(in_condition);
        for (list, negated) in [(values, false), (not_values, true)] {
            let Some(list) = list else { continue };
            if list.value.is_empty() {
                findings.error_at(Some(list), code::EMPTY, "an empty list", "list at least one value, or leave the field out");
            }
            let mut any = Vec::with_capacity(list.value.len());
            for value in &list.value {
                if value.value.is_empty() {
                    findings.error_at(Some(value), code::EMPTY, "an empty value", "remove it");
                    continue;
                }
                match key.matches(&value.value, self.own_namespace, &self.mesh) {
                    Ok(expr) => any.push(expr),
                    Err(bad) => findings.error_at(Some(value), code::VALUE, bad.to_string(), "correct the value"),
                }
            }
            let any = Expr::any(any);
            parts.push(Part { expr: if negated { !any } else { any }, layer });
        }
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

fn non_empty<'a, T>(list: Option<&'a Spanned<Vec<T>>>, what: &str, findings: &mut Findings<'_>) -> Option<&'a [T]> {
    let list = list?;
    if list.value.is_empty() {
        empty(list, what, findings);
    }
    Some(&list.value)
}

fn empty<T>(item: &Spanned<T>, what: &str, findings: &mut Findings<'_>) {
    findings.error_at(
        Some(item),
        code::EMPTY,
        format!("`{what}` is empty"),
        format!("leave `{what}` out to match everything, or say what it matches"),
    );
}
