//! A `Server` with its routes and authorizations, as one policy.

use std::sync::Arc;

use super::rank::{self, Age, Rank};
use super::route::Route;
use super::server::{self, ProxyProtocol, Server};
use super::{HTTP_ROUTE, Lost, Parts, default, name_of, namespace_of, network};
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::dialect::{Mention, Mentioned, Outcome, Refused, selector};
use crate::facts::{Direction, Protocol};
use crate::model::{Atom, Directions, Effect, Expr, Mode, Policy, PolicyName, PortAtom, Rule, Stack, Tier};
use crate::settings::{Compatibility, LinkerdAccess, Settings};
use crate::source::{Document, Findings};

/// Refused `Server`s come first: nothing that they could have denied may pass.
const REFUSED: u32 = 0;
const SERVERS: u32 = 1;
/// Ports that no `Server` selects come last.
pub(super) const DEFAULT: u32 = 2;

/// The policy of every `Server`.
pub(super) fn all(parts: &Parts<'_>, settings: &Settings, outcome: &mut Outcome) {
    // Of several on one port the oldest wins, then the name.
    let mut servers: Vec<&Server<'_>> = parts.servers.iter().collect();
    servers.sort_by_key(|server| (server.namespace(), server.document.created, &server.document.name));
    for (index, server) in servers.iter().enumerate() {
        let older = servers.get(..index).unwrap_or_default();
        let policy = Compiler { server, parts, settings }.policy(older);
        outcome.diagnostics.extend(warnings(server, parts, settings));
        let lost: Vec<&Lost> = parts.lost.iter().filter(|lost| lost.is_part_of(server)).collect();
        if lost.is_empty() {
            outcome.mentions.push(protected(server, &policy));
            outcome.policies.push(Arc::new(policy));
            continue;
        }
        // The last good version of the whole stands in for one that misses a part.
        let closure = if lost.iter().any(|lost| lost.closes) {
            closed(policy.name.clone(), policy.location.clone(), policy.subject.clone(), server.traffic())
        } else {
            policy.clone()
        };
        outcome.refused.push(Refused { name: policy.name, location: policy.location, closure: Some(closure) });
    }
    dangling(parts, outcome);
}

struct Compiler<'c, 'd> {
    server: &'c Server<'d>,
    parts: &'c Parts<'d>,
    settings: &'c Settings,
}

impl Compiler<'_, '_> {
    fn policy(&self, older: &[&Server<'_>]) -> Policy {
        let own = self.server;
        let before =
            older.iter().filter(|other| other.namespace() == own.namespace() && may_meet(&other.port, &own.port));
        let base = Expr::all([own.traffic(), !Expr::any(before.map(|other| other.claim()))]);
        let mut rules = self.rules(&base);
        rules.push(rule("no authorization", &own.document.location, Effect::Deny, base));
        Policy { rules, ..empty(name_of(own.document), own.document.location.clone(), own.pods.clone(), SERVERS) }
    }

    fn rules(&self, base: &Expr) -> Vec<Rule> {
        let own = self.server;
        let grants = self.grants();
        let everybody_granted = Expr::any(grants.iter().map(|(_, _, clients)| clients.clone()));
        let mut rules = Vec::new();
        let routes: Vec<&Route<'_>> = routes_of(own, self.parts).collect();
        let protocol = own.protocol.accepts().map_or(Expr::True, is);
        if !routes.is_empty() {
            self.add_routes(&routes, base, &everybody_granted, &mut rules);
            let is_lenient = self.settings.linkerd.compatibility == Compatibility::Exact;
            if own.protocol != ProxyProtocol::Detect || !is_lenient {
                return rules;
            }
        }
        // SPEC: what is no HTTP is authorised by the `Server` alone, even beside routes.
        let protocol = if routes.is_empty() { protocol } else { !is(&HTTP) };
        for (name, location, clients) in grants {
            let condition = Expr::all([base.clone(), protocol.clone(), clients]);
            rules.push(rule(&name, &location, Effect::Allow, condition));
        }
        if routes.is_empty() && own.protocol.has_http_routes() {
            let probe = Expr::all([base.clone(), protocol, default::probes(self.settings)]);
            rules.push(rule("probes", &own.document.location, Effect::Allow, probe));
        }
        rules
    }

    /// Who is authorised by the `Server` itself, each with its name.
    fn grants(&self) -> Vec<(String, Location, Expr)> {
        let own = self.server;
        let here = &own.document.location;
        let mut grants = vec![("loopback".to_owned(), here.clone(), network::loopback())];
        if own.access != LinkerdAccess::Deny {
            grants.push(("accessPolicy".to_owned(), here.clone(), default::clients(own.access, self.settings)));
        }
        for authorization in self.parts.authorizations.iter().filter(|one| one.is_for(own)) {
            let clients = authorization.clients(&self.parts.mesh, &self.parts.networks);
            let document = authorization.document;
            grants.push((format!("{} {}", document.kind, document.name), document.location.clone(), clients));
        }
        grants
    }

    /// Every match of every route, the best first: who is authorised, and nobody else.
    fn add_routes(&self, routes: &[&Route<'_>], base: &Expr, granted: &Expr, rules: &mut Vec<Rule>) {
        let http = is(self.server.protocol.accepts().unwrap_or(&HTTP));
        let mut ways = Vec::new();
        for route in routes {
            let hosts: &[_] = if route.hosts.is_empty() { &[(rank::HostRank::Any, Expr::True)] } else { &route.hosts };
            for (number, matches) in route.rules.iter().enumerate() {
                for one in matches {
                    for (host, host_condition) in hosts {
                        for (path, path_condition) in &one.paths {
                            let (headers, queries, method) = (one.headers, one.queries, one.method);
                            let rank = Rank { host: *host, path: *path, headers, queries, method };
                            let asked = [host_condition.clone(), path_condition.clone(), one.others.clone()];
                            ways.push((rank, *route, number, Expr::all(asked)));
                        }
                    }
                }
            }
        }
        ways.sort_by(|a, b| rank::best_first((&a.0, age(a.1, a.2)), (&b.0, age(b.1, b.2))));
        for (_, route, number, asked) in ways {
            let own = self.parts.authorizations.iter().filter(|one| one.is_for_route(route));
            let own = own.map(|one| one.clients(&self.parts.mesh, &self.parts.networks));
            let clients = Expr::any(own.chain([granted.clone()]));
            let matched = Expr::all([base.clone(), http.clone(), asked]);
            let name = format!("{} {} rules[{number}]", route.document.kind, route.document.name);
            let here = &route.document.location;
            rules.push(rule(&name, here, Effect::Allow, Expr::all([matched.clone(), clients])));
            rules.push(rule(&format!("{name} unauthorized"), here, Effect::Deny, matched));
        }
    }
}

fn age<'d>(route: &Route<'d>, number: usize) -> Age<'d> {
    (route.document.created, route.document.name.as_str(), number)
}

impl super::Authorization<'_> {
    fn is_for_route(&self, route: &Route<'_>) -> bool {
        let super::authorization::Target::Route { group, kind, name } = &self.target else { return false };
        namespace_of(self.document) == namespace_of(route.document)
            && *group == route.group()
            && *kind == route.document.kind
            && *name == route.document.name
    }
}

/// The routes that count for a `Server`: those of HTTP, or, where it is gRPC, those of gRPC.
fn routes_of<'p, 'd>(server: &'p Server<'d>, parts: &'p Parts<'d>) -> impl Iterator<Item = &'p Route<'d>> {
    attached(server, parts).filter(|route| counts(route, server))
}

fn attached<'p, 'd>(server: &'p Server<'d>, parts: &'p Parts<'d>) -> impl Iterator<Item = &'p Route<'d>> {
    parts.routes.iter().filter(|route| {
        namespace_of(route.document) == server.namespace() && route.servers.contains(&server.document.name)
    })
}

fn counts(route: &Route<'_>, server: &Server<'_>) -> bool {
    if route.is_grpc() { server.protocol == ProxyProtocol::Grpc } else { server.protocol.has_http_routes() }
}

/// Whether two ports can be one: two numbers only if they are the same, a name with whatever it is given to.
fn may_meet(one: &PortAtom, other: &PortAtom) -> bool {
    one == other || [one, other].into_iter().any(|port| matches!(port, PortAtom::Named(_)))
}

const HTTP: [Protocol; 3] = [Protocol::Http, Protocol::Http2, Protocol::Grpc];

fn is(protocols: &[Protocol]) -> Expr {
    Expr::Is(Atom::Protocol(protocols.to_vec()))
}

pub(super) fn rule(name: &str, location: &Location, effect: Effect, condition: Expr) -> Rule {
    let location = location.clone();
    Rule { name: name.into(), location, direction: Direction::Inbound, effect, condition, expires: None }
}

/// A policy without rules. None of this dialect closes a direction, because a `Server` is one port of a workload and
/// Linkerd takes TCP alone: what is left over is denied by a rule.
pub(super) fn empty(name: PolicyName, location: Location, subject: Expr, priority: u32) -> Policy {
    Policy {
        name,
        location,
        stack: Stack::Linkerd,
        tier: Tier::Application,
        priority,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject,
        closes: Directions::default(),
        rules: Vec::new(),
        http_options: Vec::new(),
        jwt_rules: Vec::new(),
        broken: false,
    }
}

fn closed(name: PolicyName, location: Location, subject: Expr, traffic: Expr) -> Policy {
    let rules = vec![rule("refused", &location, Effect::Deny, traffic)];
    let closes = Directions { inbound: true, outbound: false };
    Policy { rules, broken: true, closes, ..empty(name, location, subject, REFUSED) }
}

/// A refused `Server` closes its port of its pods, as far as both can still be read.
pub(super) fn refused(document: &Document) -> Refused {
    let mut unheard = Findings::of(document);
    let pods = document.root.get("spec").and_then(|spec| spec.get("podSelector"));
    let labels = pods.filter(|_| !document.broken).and_then(|node| {
        let read = selector::read(node, "podSelector", &mut unheard)?;
        Some(Expr::Is(Atom::Subject(crate::model::PeerAtom::Labels(read))))
    });
    let namespace = server::namespace(namespace_of(document));
    let subject = Expr::all([namespace, labels.unwrap_or(Expr::True)]);
    let closure = closed(name_of(document), document.location.clone(), subject, Expr::True);
    Refused { name: name_of(document), location: document.location.clone(), closure: Some(closure) }
}

fn protected(server: &Server<'_>, policy: &Policy) -> Arc<Mention> {
    let finding = Findings::of(server.document).unconfirmed(
        Code::SelectsNothing,
        server.document.root.span,
        "the `Server` selects no workload",
        "check namespace and labels of `podSelector`",
    );
    Arc::new(Mention { of: Mentioned::Protected(policy.subject.clone()), finding })
}

/// What is valid, and probably not meant.
fn warnings(server: &Server<'_>, parts: &Parts<'_>, settings: &Settings) -> Vec<Diagnostic> {
    let findings = Findings::of(server.document);
    let warn = |message: String, help: &str| {
        findings.diagnostic(Code::Suspicious, server.document.root.span, message).help(help)
    };
    let mut found = Vec::new();
    let routes: Vec<&Route<'_>> = routes_of(server, parts).collect();
    let is_granted = server.access != LinkerdAccess::Deny
        || parts
            .authorizations
            .iter()
            .any(|one| one.is_for(server) || routes.iter().any(|route| one.is_for_route(route)));
    if !is_granted {
        let message = "nothing authorises anybody for this `Server`: it denies everything".to_owned();
        found.push(warn(message, "write an `AuthorizationPolicy` for it, or an `accessPolicy`"));
    }
    if !routes.is_empty() && !settings.linkerd.probe_networks.is_empty() {
        let message = "a route is attached: requests without a route are refused, probes as well".to_owned();
        found.push(warn(message, "write a route for the probes, with a `NetworkAuthentication` of their networks"));
    }
    for route in attached(server, parts).filter(|route| !counts(route, server)) {
        let kind = &route.document.kind;
        let message = format!("this `{kind}` does nothing at `{}`", name_of(server.document));
        let help = if route.document.kind == HTTP_ROUTE {
            "it needs a `proxyProtocol` of HTTP, or `unknown`"
        } else {
            "it needs `proxyProtocol: gRPC`"
        };
        let of_route = Findings::of(route.document);
        found.push(of_route.diagnostic(Code::NotEnforced, route.document.root.span, message).help(help));
    }
    found
}

/// References to what is not there.
fn dangling(parts: &Parts<'_>, outcome: &mut Outcome) {
    for authorization in &parts.authorizations {
        let findings = Findings::of(authorization.document);
        for (span, name) in authorization.dangling(&parts.mesh, &parts.networks) {
            let message = format!("there is no `{name}`: the policy grants nothing");
            let help = "write it, or correct the reference";
            outcome.diagnostics.push(findings.diagnostic(Code::Suspicious, span, message).help(help));
        }
    }
    for route in &parts.routes {
        let is_there = |name: &String| {
            let same = |server: &&Server<'_>| server.document.name == *name;
            parts.servers.iter().filter(same).any(|server| server.namespace() == namespace_of(route.document))
        };
        for name in route.servers.iter().filter(|name| !is_there(name)) {
            let message =
                format!("there is no `Server {}/{name}`: the route does nothing", namespace_of(route.document));
            let finding = Findings::of(route.document).diagnostic(Code::Suspicious, route.document.root.span, message);
            outcome.diagnostics.push(finding.help("write the `Server`, or correct `parentRefs`"));
        }
    }
}

/// The name of a policy that no document is.
pub(super) fn nameless(kind: &str, name: &str) -> PolicyName {
    PolicyName { kind: Arc::from(kind), namespace: Arc::from(""), name: Arc::from(name) }
}
