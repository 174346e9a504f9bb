//! `Server`: one port of some pods, and everything that is decided there.

use super::authentication;
use super::authorization::{Grant, Grants};
use super::default::access;
use super::document::{Reader, namespace_atom, namespace_of, selector};
use super::precedence::{self, Chosen};
use super::route::Route;
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::facts::{Direction, Protocol, Transport};
use crate::model::{
    Atom, CidrScope, Directions, Effect, Expr, Mode, PeerAtom, Policy, PolicyName, PortAtom, Rule, Stack, Tier,
};
use crate::registry::Labels;
use crate::settings::{LinkerdAccess, Settings};
use crate::source::fields::{integer, text, word};
use crate::source::{Document, Findings, Node, Value};

/// One `Server`.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: PolicyName,
    pub(super) location: Location,
    /// Seconds since the epoch; one without is the youngest.
    pub(super) created: i64,
    pub(super) labels: Labels,
    pub(super) subject: Expr,
    port: PortAtom,
    /// What is spoken there; `None` where routes do not apply, since requests are not looked at.
    speaks: Spoken,
    access: Option<LinkerdAccess>,
}

/// `proxyProtocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// Detected: routes apply to HTTP, and the rest passes by what holds for the whole `Server`.
    Anything,
    /// Nothing else passes.
    Only(&'static [Protocol]),
    /// Bytes.
    Opaque,
}

/// Reads one document; `None` after an error.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Server> {
    let before = reader.findings.errors();
    let mut spec = reader.spec()?;
    let findings = &mut reader.findings;
    let (pods, external) = (spec.find("podSelector"), spec.find("externalWorkloadSelector"));
    let port = spec.require("port", findings).and_then(|node| port(node, findings));
    let speaks = spec.find("proxyProtocol");
    let speaks = speaks.map_or(Some(Spoken::Anything), |node| word(node, "`proxyProtocol`", PROTOCOLS, findings));
    let access = spec.find("accessPolicy").map(|node| word(node, "`accessPolicy`", &LinkerdAccess::WORDS, findings));
    spec.finish(findings);
    let own = Expr::Is(namespace_atom(namespace_of(reader.document)));
    let subject = match (pods, external) {
        (Some(node), None) => selector(node, "podSelector", findings).map(|selector| {
            let labels =
                (!selector.requirements.is_empty()).then(|| Expr::Is(Atom::Subject(PeerAtom::Labels(selector))));
            Expr::all(std::iter::once(own).chain(labels))
        }),
        (None, Some(node)) => {
            let help = "workloads outside the cluster are not protected here";
            findings.report_with(Code::NotEnforced, node.span, "an `externalWorkloadSelector` selects no pod", help);
            Some(Expr::False)
        }
        _ => {
            let span = reader.document.root.span;
            let message = "a Server has exactly one of `podSelector` and `externalWorkloadSelector`";
            findings.report_with(Code::Conflict, span, message, "`podSelector: {}` selects every pod of the namespace");
            None
        }
    };
    let server = Server {
        name: reader.name.clone(),
        location: reader.document.location.clone(),
        created: reader.document.created.unwrap_or(i64::MAX),
        labels: labels_of(reader.document),
        subject: subject?,
        port: port?,
        speaks: speaks?,
        access: access.flatten(),
    };
    (reader.findings.errors() == before).then_some(server)
}

/// Whom a document that is refused would have been about, as far as that can be read.
pub(super) fn subject_of(document: &Document) -> Option<Expr> {
    let own = Expr::Is(namespace_atom(namespace_of(document)));
    let node = document.root.get("spec").and_then(|spec| spec.get("podSelector"));
    let selector = node.and_then(|node| selector(node, "podSelector", &mut Findings::of(document)));
    match selector {
        Some(selector) if !selector.requirements.is_empty() => {
            Some(Expr::all([own, Expr::Is(Atom::Subject(PeerAtom::Labels(selector)))]))
        }
        _ => Some(own),
    }
}

fn labels_of(document: &Document) -> Labels {
    let labels = document.root.get("metadata").and_then(|metadata| metadata.get("labels"));
    let Some(Value::Map(entries)) = labels.map(|node| &node.value) else { return Labels::new() };
    let texts = entries.iter().filter_map(|(key, node)| Some(((&*key.text).into(), node.text()?.into())));
    texts.collect()
}

fn port(node: &Node, findings: &mut Findings) -> Option<PortAtom> {
    if matches!(&node.value, Value::Text(_)) {
        return Some(PortAtom::Named(text(node, "`port`", findings)?.into()));
    }
    let number: u16 = integer(node, "`port`", 1..=65_535, findings).and_then(|port: u32| u16::try_from(port).ok())?;
    Some(PortAtom::Range(number, number))
}

impl Server {
    /// Everything that is decided at its port, in order. Where an older one has the port too, that one decides.
    pub(super) fn policy(
        &self,
        older: &[Self],
        routes: &[Route],
        grants: &Grants,
        settings: &Settings,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Policy {
        let base = self.base(older);
        let whole: Vec<Grant> = grants.of_server(self).cloned().collect();
        let routes: Vec<&Route> = routes.iter().filter(|route| route.is_of(&self.name)).collect();
        let mut rules = Rules { base, location: self.location.clone(), rules: Vec::new() };
        rules.add("loopback", Effect::Allow, loopback());
        if let Spoken::Only(protocols) = self.speaks {
            rules.add("proxyProtocol", Effect::Deny, !Expr::Is(Atom::Protocol(protocols.to_vec())));
        }
        let http = Expr::Is(Atom::Protocol(vec![Protocol::Http, Protocol::Http2, Protocol::Grpc]));
        let has_routes = !routes.is_empty() && self.speaks != Spoken::Opaque;
        if has_routes {
            for Chosen { route, name, condition, location } in precedence::ordered(&routes) {
                let matched = Expr::all([http.clone(), condition]);
                for grant in grants.of_route(&route.name) {
                    rules.at(&location, &format!("{name} {}", grant.name), Effect::Allow, [&matched, &grant.client]);
                }
                for grant in &whole {
                    rules.at(&location, &format!("{name} {}", grant.name), Effect::Allow, [&matched, &grant.client]);
                }
                if let Some(condition) = self.access.and_then(|given| access(given, settings)) {
                    rules.at(&location, &format!("{name} accessPolicy"), Effect::Allow, [&matched, &condition]);
                }
                // SPEC: the route is chosen first. Who is not authorized for it has no other one.
                rules.at(&location, &name, Effect::Deny, [&matched, &Expr::True]);
            }
            rules.add("no-route", Effect::Deny, http);
        } else {
            rules.add("probe", Effect::Allow, probe(settings));
        }
        for grant in &whole {
            let location = grant.location.clone();
            rules.at(&location, &grant.name, Effect::Allow, [&grant.client, &Expr::True]);
        }
        if let Some(condition) = self.access.and_then(|given| access(given, settings)) {
            rules.add("accessPolicy", Effect::Allow, condition);
        }
        rules.add("unauthorized", Effect::Deny, Expr::True);
        if !rules.rules.iter().any(|rule| rule.effect == Effect::Allow && !matches!(&*rule.name, "loopback" | "probe"))
        {
            let message = format!("nothing authorizes anybody for `{}`: its port is closed", self.name);
            let help = "write an AuthorizationPolicy for it, or an `accessPolicy`";
            let mut finding = Diagnostic::new(Code::Suspicious, self.location.clone(), message).help(help);
            finding.policy = Some(self.name.to_string());
            diagnostics.push(finding);
        }
        Policy {
            name: self.name.clone(),
            location: self.location.clone(),
            stack: Stack::Linkerd,
            tier: Tier::Application,
            priority: 0,
            mode: Mode::Enforce,
            replaces: Vec::new(),
            subject: self.subject.clone(),
            closes: Directions { inbound: true, outbound: false },
            rules: rules.rules,
            http_options: Vec::new(),
            broken: false,
        }
    }

    /// A connection to its port, unless an older one selects that too.
    fn base(&self, older: &[Self]) -> Expr {
        let port = |server: &Self| Expr::Is(Atom::Port(server.port.clone()));
        let rivals = older.iter().filter(|other| other.name.namespace == self.name.namespace && self.may_share(other));
        let not_theirs = rivals.map(|other| !Expr::all([other.subject.clone(), port(other)]));
        Expr::all([tcp(), port(self)].into_iter().chain(not_theirs))
    }

    fn may_share(&self, other: &Self) -> bool {
        match (&self.port, &other.port) {
            (PortAtom::Range(own, _), PortAtom::Range(theirs, _)) => own == theirs,
            _ => true,
        }
    }
}

/// Rules of one port, in order.
struct Rules {
    base: Expr,
    location: Location,
    rules: Vec<Rule>,
}

impl Rules {
    fn add(&mut self, name: &str, effect: Effect, condition: Expr) {
        let location = self.location.clone();
        self.at(&location, name, effect, [&condition, &Expr::True]);
    }

    fn at(&mut self, location: &Location, name: &str, effect: Effect, conditions: [&Expr; 2]) {
        let whole = std::iter::once(&self.base).chain(conditions).cloned();
        self.rules.push(Rule {
            name: name.into(),
            location: location.clone(),
            direction: Direction::Inbound,
            effect,
            condition: Expr::all(whole),
            expires: None,
        });
    }
}

pub(super) fn tcp() -> Expr {
    Expr::Is(Atom::Transport(Transport::Tcp))
}

/// SPEC: a pod may always reach itself by its loopback.
pub(super) fn loopback() -> Expr {
    let networks = ["127.0.0.1/32", "::1/128"].into_iter().filter_map(|text| text.parse().ok());
    Expr::any(networks.map(|net| Expr::Is(Atom::Peer(PeerAtom::Cidr { net, scope: CidrScope::Outside }))))
}

/// SPEC: a port without routes has one for the probes that the pod declares, from the networks of probes.
pub(super) fn probe(settings: &Settings) -> Expr {
    let from = Expr::any(settings.linkerd.probe_networks.iter().copied().map(authentication::within));
    Expr::all([Expr::Is(Atom::DeclaredProbe), from])
}

const PROTOCOLS: &[(&str, Spoken)] = &[
    ("unknown", Spoken::Anything),
    ("HTTP/1", Spoken::Only(&[Protocol::Http])),
    ("HTTP/2", Spoken::Only(&[Protocol::Http2, Protocol::Grpc])),
    ("gRPC", Spoken::Only(&[Protocol::Http2, Protocol::Grpc])),
    ("opaque", Spoken::Opaque),
    ("TLS", Spoken::Opaque),
];
