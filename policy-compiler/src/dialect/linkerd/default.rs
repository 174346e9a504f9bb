//! The default inbound policy: what holds for ports that no `Server` selects.
//!
//! SPEC: the annotation of the pod, else of its namespace, else the cluster's setting. The cluster's setting is in
//! force when the settings have a `linkerd` section; without one, only annotated workloads have a default policy.

use std::sync::Arc;

use super::policy::{self, DEFAULT, empty, rule};
use super::server::Server;
use super::{Parts, identity, network};
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::facts::Transport;
use crate::model::{Atom, Effect, Expr, PeerAtom, Policy, PortAtom, Selector, SelectorOperator, SelectorRequirement};
use crate::settings::{LinkerdAccess, Settings};
use crate::source::{Document, Findings};

const POLICY: &str = "config.linkerd.io/default-inbound-policy";
const IDENTITY_PORTS: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";

/// Whom a default policy or an `accessPolicy` authorises.
pub(super) fn clients(access: LinkerdAccess, settings: &Settings) -> Expr {
    let authenticated = || identity::any_of(["*"], settings);
    match access {
        // SPEC: `audit` lets pass and logs.
        LinkerdAccess::AllUnauthenticated | LinkerdAccess::Audit => Expr::True,
        LinkerdAccess::ClusterUnauthenticated => network::cluster(settings),
        LinkerdAccess::AllAuthenticated => authenticated(),
        LinkerdAccess::ClusterAuthenticated => Expr::all([authenticated(), network::cluster(settings)]),
        LinkerdAccess::Deny => Expr::False,
    }
}

/// Declared probes from where probes come. They need no identity.
pub(super) fn probes(settings: &Settings) -> Expr {
    Expr::all([Expr::Is(Atom::DeclaredProbe), network::any_of(&settings.linkerd.probe_networks)])
}

/// Ports without a `Server`, of every workload that has a default policy.
pub(super) fn policy(servers: &[Server<'_>], documents: &[&Document], settings: &Settings) -> Policy {
    let is_written = settings.linkerd.is_written;
    let location = documents.first().map_or_else(
        || Location { file: Arc::from("DialectSettings"), line: 1, column: 1 },
        |document| document.location.clone(),
    );
    let unclaimed = !Expr::any(servers.iter().map(Server::claim));
    let base = Expr::all([Expr::Is(Atom::Transport(Transport::Tcp)), unclaimed]);
    let allow = |name: &str, parts: Vec<Expr>| {
        rule(name, &location, Effect::Allow, Expr::all(std::iter::once(base.clone()).chain(parts)))
    };
    let forced = Expr::Is(Atom::Port(PortAtom::Annotated(IDENTITY_PORTS.into())));
    let proven = Expr::any([!forced, identity::any_of(["*"], settings)]);
    let mut rules = vec![allow("loopback", vec![network::loopback()]), allow("probes", vec![probes(settings)])];
    for (word, access) in LinkerdAccess::WORDS.into_iter().filter(|(_, access)| *access != LinkerdAccess::Deny) {
        let written = annotated(SelectorOperator::In, vec![word.into()]);
        rules.push(allow(word, vec![written, clients(access, settings), proven.clone()]));
    }
    let own = settings.linkerd.default_inbound_policy;
    if is_written && own != LinkerdAccess::Deny {
        let unwritten = annotated(SelectorOperator::DoesNotExist, Vec::new());
        rules.push(allow("the cluster's default", vec![unwritten, clients(own, settings), proven]));
    }
    rules.push(rule("no authorization", &location, Effect::Deny, base));
    let subject = if is_written { Expr::True } else { annotated(SelectorOperator::Exists, Vec::new()) };
    let name = policy::nameless("Linkerd", "default-inbound-policy");
    Policy { rules, ..empty(name, location, subject, DEFAULT) }
}

fn annotated(operator: SelectorOperator, values: Vec<Arc<str>>) -> Expr {
    let requirements = vec![SelectorRequirement { key: POLICY.into(), operator, values }];
    Expr::Is(Atom::Subject(PeerAtom::Annotations(Selector { requirements })))
}

/// Linkerd's policies without the settings that say what holds elsewhere.
pub(super) fn not_judged(parts: &Parts<'_>) -> Option<Diagnostic> {
    let document = parts.servers.first()?.document;
    let message = "ports without a `Server` are not judged: the settings do not say what Linkerd's default policy is";
    let help = "write `linkerd: {defaultInboundPolicy: ...}` in a `DialectSettings` named `cluster`";
    Some(Findings::of(document).diagnostic(Code::NotEnforced, document.root.span, message).help(help))
}

#[cfg(test)]
mod tests {
    use crate::registry::{ANNOTATION_GROUPS, HBONE, INBOUND_MUTUAL_TLS};

    #[test]
    fn every_annotation_that_is_read_is_of_a_group_that_proxies_are_told() {
        for key in [super::POLICY, super::IDENTITY_PORTS, HBONE, INBOUND_MUTUAL_TLS] {
            assert!(ANNOTATION_GROUPS.contains(&key.split_once('/').unwrap().0), "{key}");
        }
    }
}
