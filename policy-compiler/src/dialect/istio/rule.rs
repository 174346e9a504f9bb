//! One rule of an `AuthorizationPolicy` as one condition.
//!
//! SPEC: OR(from) and OR(to) and AND(when); inside an item fields are ANDed, the values of a field ORed, `notX` is the
//! negation of the whole list. What an HTTP field means on TCP depends on the enforcement point.

use super::bypass;
use super::key::{Key, Layer, Reading, Surroundings};
use crate::diagnostic::Code;
use crate::model::{Atom, Expr};
use crate::settings::{Compatibility, Istio, IstioEnforcementPoint};
use crate::source::{Fields, Findings, Node, Span, Value, fields};

/// Istio's cap on `serviceAccounts`.
const MAX_SERVICE_ACCOUNTS: usize = 16;

/// What the rules of one policy have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translation<'a> {
    pub(super) given: Surroundings<'a>,
    pub(super) denies: bool,
    pub(super) istio: &'a Istio,
}

/// One field, translated.
#[derive(Clone, Debug)]
struct Part {
    expr: Expr,
    layer: Layer,
    /// It names the ports that the rule is about.
    names_ports: bool,
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
    pub(super) fn rule(&self, node: &Node, findings: &mut Findings) -> Option<Expr> {
        let mut rule = Fields::of(node, "a rule", findings)?;
        let mut clauses: Vec<Vec<Vec<Part>>> = Vec::new();
        for (name, inner, members) in [("from", "source", &SOURCE[..]), ("to", "operation", &OPERATION[..])] {
            let Some(list) = super::optional(&mut rule, name, findings) else { continue };
            let items = fields::list(list, &format!("`{name}`"), findings)?;
            clauses.push(items.iter().filter_map(|item| self.item(item, name, inner, members, findings)).collect());
        }
        if let Some(when) = super::optional(&mut rule, "when", findings) {
            for condition in ignoring_empty(when, "when", findings)? {
                clauses.push(vec![self.condition(condition, findings)?]);
            }
        }
        rule.finish(findings);
        if self.denies {
            self.warn_of_tcp(&clauses, node, findings);
        }
        Some(self.combine(clauses))
    }

    /// AND over clauses of OR over items of AND over parts, with the parts that a point cannot see handled its way.
    fn combine(&self, clauses: Vec<Vec<Vec<Part>>>) -> Expr {
        let needs = clauses.iter().flatten().flatten().map(|part| part.layer).fold(Layer::Connection, Ord::max);
        let http = || Expr::Is(Atom::Protocol(super::HTTP.into()));
        let blind = self.istio.enforcement_point == IstioEnforcementPoint::Ztunnel;
        if !self.denies {
            if blind && needs != Layer::Connection {
                return Expr::False;
            }
            let rule = join(clauses, |part| Some(part.expr));
            // A rule with an HTTP field is no rule on TCP.
            return if needs == Layer::Http { Expr::all([http(), rule]) } else { rule };
        }
        // ztunnel drops what it cannot see; a clause of which nothing is left never matches, and lets pass what the rule
        // denies. Hardened, what a sidecar would deny is denied too.
        let of_connection =
            blind.then(|| join(clauses.clone(), |part| (part.layer == Layer::Connection).then_some(part.expr)));
        if let Some(rule) = of_connection.clone().filter(|_| !self.is_hardened()) {
            return rule;
        }
        // A sidecar drops HTTP fields of a DENY on TCP: the rule grows wider there.
        let of_requests = join(clauses, |part| match part.layer {
            Layer::Http => Some(Expr::any([!http(), part.expr])),
            Layer::Connection | Layer::Proxy => Some(part.expr),
        });
        Expr::any(of_connection.into_iter().chain([of_requests]))
    }

    fn is_hardened(&self) -> bool {
        self.istio.compatibility == Compatibility::Hardened
    }

    /// Istio's own warning: of an HTTP field in a DENY nothing is left on TCP.
    fn warn_of_tcp(&self, clauses: &[Vec<Vec<Part>>], rule: &Node, findings: &mut Findings) {
        let mut parts = clauses.iter().flatten().flatten();
        let names_ports = parts.clone().any(|part| part.names_ports);
        if names_ports || parts.all(|part| part.layer != Layer::Http) {
            return;
        }
        let (message, help) = match (self.istio.enforcement_point, self.is_hardened()) {
            (IstioEnforcementPoint::Ztunnel, false) => (
                "ztunnel sees no HTTP field: a condition with nothing else never matches, so the rule may deny nothing",
                "attach the policy to a waypoint, or set `istio.compatibility: Hardened`",
            ),
            _ => (
                "on TCP that is not HTTP this rule loses its HTTP fields, and denies more",
                "name the HTTP ports with `ports`",
            ),
        };
        findings.report_with(Code::Suspicious, rule.span, message, help);
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
                let Some(list) = super::optional(&mut fields, name, findings) else { continue };
                match key {
                    Key::ServiceAccount => accounts = Some(list.span),
                    Key::Principal | Key::Namespace => others = true,
                    _ => {}
                }
                if !ignoring_empty(list, name, findings)?.is_empty() {
                    parts.push(self.field(key, name, false, negated, list, findings)?);
                }
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
            let pseudo = written.starts_with("request.headers[:");
            if pseudo {
                let message = format!("`{written}` is a pseudo-header other than `:method`, `:path` and `:authority`");
                findings.report_with(Code::NotSupported, node.span, message, "remove the condition");
            } else if let Some((_, instead)) = REPLACED.iter().find(|(key, _)| written.starts_with(key)) {
                let message = format!("condition key `{written}` is no longer one of Istio's");
                findings.report_with(Code::BadEnumValue, node.span, message, *instead);
            } else if written.starts_with("experimental.") {
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
            let Some(list) = super::optional(&mut fields, name, findings) else { continue };
            if !ignoring_empty(list, name, findings)?.is_empty() {
                parts.push(self.field(&key, name, true, negated, list, findings)?);
            }
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
        // A match of a list in a DENY refuses, and one of a `not…` list in an ALLOW.
        let reading = Reading { denies: self.denies != negated, hardened: self.is_hardened() };
        if *key == Key::RemoteIp && self.istio.trusted_proxies == 0 {
            let message = "no proxy is trusted to name the client: this is the peer's own address";
            let help = "set `istio.trustedProxies` where proxies that write `X-Forwarded-For` stand in front";
            findings.report_with(Code::Suspicious, list.span, message, help);
        }
        if !reading.hardened {
            bypass::warn(key, name, &values, reading.denies, findings);
        }
        let mut any = Vec::with_capacity(values.len());
        for (value, span) in values {
            match key.matches(value, reading, self.given) {
                Ok(expr) => any.push(expr),
                Err(bad) => findings.report(Code::BadValue, span, bad.to_string()),
            }
        }
        let any = Expr::any(any);
        let names_ports = *key == Key::Port && !negated;
        Some(Part { expr: if negated { !any } else { any }, layer: key.layer(in_condition), names_ports })
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

/// The items of a list. SPEC: Istio takes no notice of an empty one, which is a trap: the field then asks nothing.
fn ignoring_empty<'n>(list: &'n Node, name: &str, findings: &mut Findings) -> Option<&'n [Node]> {
    match &list.value {
        Value::List(items) if items.is_empty() => {
            let message = format!("`{name}` is an empty list: Istio takes no notice of it, so it matches everything");
            findings.report_with(Code::Suspicious, list.span, message, "write what it matches, or leave it out");
            Some(&[])
        }
        _ => fields::list(list, &format!("`{name}`"), findings),
    }
}

/// Keys of Istio's former policies, and what took their place.
const REPLACED: [(&str, &str); 4] = [
    ("destination.labels", "write the labels into `selector`"),
    ("destination.namespace", "write the namespace into `metadata`"),
    ("destination.name", "write the labels of the workload into `selector`"),
    ("destination.user", "write the labels of the workload into `selector`"),
];
