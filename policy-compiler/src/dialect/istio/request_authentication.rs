//! `RequestAuthentication`: which tokens a workload accepts.
//!
//! Tokens are verified elsewhere, by the rules that are read here: rules of an `AuthorizationPolicy` see the claims of an
//! accepted token. What else this kind changes is how claims read (`spaceDelimitedClaims`), and that a request without
//! any token is refused (`presence: REQUIRED`).

use std::sync::Arc;

use super::jwt_rule::{self, Item};
use super::target::Attachment;
use crate::diagnostic::{Code, Location};
use crate::facts::{Direction, Transport};
use crate::model::{Atom, Directions, Each, Effect, Expr, Mode, Pattern, Policy, PolicyName, Rule, Stack, Text, Tier};
use crate::settings::{Istio, IstioEnforcementPoint};
use crate::source::{Document, Fields, Findings, Value, fields};

/// One document, read.
#[derive(Debug)]
pub(super) struct RequestAuthentication {
    name: PolicyName,
    location: Location,
    subject: Expr,
    rules: Vec<Item>,
    /// Whether the enforcement point looks at tokens at all.
    looks: bool,
}

/// Reads one document; `None` where it selects nothing here. After an error what could be read still counts.
pub(super) fn read(
    document: &Document,
    name: PolicyName,
    istio: &Istio,
    findings: &mut Findings,
) -> Option<RequestAuthentication> {
    let mut top = super::top(document, findings)?;
    let spec = super::optional(&mut top, "spec", findings);
    top.finish(findings);
    let mut rules = Vec::new();
    let mut attachment = Attachment::everything();
    if let Some(spec) = spec {
        let mut spec = Fields::of(spec, "`spec`", findings)?;
        attachment = Attachment::read(&mut spec, findings);
        if let Some(list) = super::optional(&mut spec, "jwtRules", findings) {
            let items = match &list.value {
                Value::List(items) => items.as_slice(),
                _ => fields::list(list, "`jwtRules`", findings).unwrap_or_default(),
            };
            rules = items.iter().filter_map(|item| jwt_rule::read(item, findings)).collect();
        }
        spec.finish(findings);
    }
    let subject = attachment.subject(&name, document, istio, findings)?;
    let looks = istio.enforcement_point != IstioEnforcementPoint::Ztunnel;
    if !looks {
        let message =
            "ztunnel takes no notice of a `RequestAuthentication`, and neither does Eastwall: no token is looked at";
        let help = "attach it to a waypoint, or set `istio.enforcementPoint`";
        findings.report_with(Code::NotEnforced, document.root.span, message, help);
    }
    Some(RequestAuthentication { name, location: document.location.clone(), subject, rules, looks })
}

impl RequestAuthentication {
    /// What it refuses by itself.
    pub(super) fn policy(&self) -> Policy {
        let required = self.rules.iter().find(|rule| rule.required);
        Policy {
            name: self.name.clone(),
            location: self.location.clone(),
            stack: Stack::Istio,
            tier: Tier::Application,
            priority: 0,
            mode: Mode::Enforce,
            replaces: Vec::new(),
            subject: self.subject.clone(),
            closes: Directions::default(),
            rules: required.map(|rule| token_required(&rule.location)).into_iter().collect(),
            http_options: Vec::new(),
            jwt_rules: self.rules.iter().filter(|_| self.looks).map(|rule| Arc::clone(&rule.accepts)).collect(),
            broken: false,
        }
    }
}

fn token_required(location: &Location) -> Rule {
    let token = Expr::Is(Atom::Present(Text::StringClaim(Vec::new())));
    Rule {
        name: "token-required".into(),
        location: location.clone(),
        direction: Direction::Inbound,
        effect: Effect::Deny,
        condition: Expr::all([
            Expr::Is(Atom::Transport(Transport::Tcp)),
            Expr::Is(Atom::Protocol(super::HTTP.into())),
            !token,
        ]),
        expires: None,
    }
}

/// Which claims are lists, delimited by spaces: of which workloads, and of whose tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct SpacedClaims {
    entries: Vec<SpacedClaim>,
}

#[derive(Clone, Debug)]
struct SpacedClaim {
    name: Arc<str>,
    /// The workloads that the document selects, and the issuer where the rule names one.
    of: Expr,
}

impl SpacedClaims {
    /// No document says so of any claim.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn of(documents: &[RequestAuthentication]) -> Self {
        let mut entries = Vec::new();
        for document in documents {
            for rule in &document.rules {
                let issuer = rule.accepts.issuer.as_ref().map(|issuer| {
                    let is = vec![Pattern::Exact(issuer.as_bytes().into())];
                    Expr::Is(Atom::Text { of: Text::StringClaim(vec!["iss".into()]), each: Each::Some, is })
                });
                let of = Expr::all([document.subject.clone(), issuer.unwrap_or(Expr::True)]);
                entries
                    .extend(rule.space_delimited.iter().map(|name| SpacedClaim { name: name.clone(), of: of.clone() }));
            }
        }
        Self { entries }
    }

    /// A claim of which any string matches; where it is such a list, any word.
    ///
    /// SPEC: `scope` and `permission` always are. Only claims at the top of a token can be.
    pub(super) fn claim(&self, path: &[Arc<str>], pattern: &Pattern) -> Expr {
        let read = |of: Text| Expr::Is(Atom::Text { of, each: Each::Some, is: vec![pattern.clone()] });
        let whole = || read(Text::StringClaim(path.to_vec()));
        let words = || read(Text::SpacedClaim(path.to_vec()));
        let [name] = path else { return whole() };
        if matches!(&**name, "scope" | "permission") {
            return words();
        }
        let spaced = Expr::any(self.entries.iter().filter(|entry| entry.name == *name).map(|entry| entry.of.clone()));
        match spaced {
            Expr::False => whole(),
            Expr::True => words(),
            spaced => Expr::any([Expr::all([spaced.clone(), words()]), Expr::all([!spaced, whole()])]),
        }
    }
}
