//! Matches that cannot apply to what a port is declared to speak.

use std::sync::Arc;

use super::acts;
use crate::diagnostic::{Code, Diagnostic};
use crate::facts::{Direction, Protocol, Transport};
use crate::model::{Atom, Effect, Expr, Policy, PortAtom, Rule, Stack};
use crate::registry::{ApplicationProtocol, DeclaredPort, Registry};

/// Ingress Allow rules of which no declared port of a protected workload can speak the protocol.
pub(super) fn protocols(policies: &[Arc<Policy>], registry: &Registry) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for policy in policies.iter().filter(|policy| acts(policy) && policy.stack == Stack::Native) {
        let rules =
            policy.rules.iter().filter(|rule| rule.direction == Direction::Inbound && rule.effect == Effect::Allow);
        for rule in rules {
            let Some(wanted) = protocols_of(&rule.condition) else { continue };
            let named = ports_of(&rule.condition);
            let ports: Vec<&DeclaredPort> = registry
                .workloads
                .iter()
                .filter(|workload| policy.subject.selects(workload))
                .flat_map(|workload| &workload.ports)
                .filter(|port| named.iter().any(|atom| names(atom, port)))
                .collect();
            let all_clash = ports.iter().all(|port| clashes(port, wanted));
            if let Some(port) = ports.first().filter(|_| all_clash) {
                findings.push(finding(policy, rule, port, wanted));
            }
        }
    }
    findings
}

fn finding(policy: &Policy, rule: &Rule, port: &DeclaredPort, wanted: &[Protocol]) -> Diagnostic {
    let name = port.name.as_deref().map(|name| format!(" `{name}`")).unwrap_or_default();
    let speaks = match (port.transport, port.application) {
        (Transport::Tcp, Some(application)) => format!("{application:?}").to_lowercase(),
        (transport, _) => format!("{transport:?}").to_lowercase(),
    };
    let wants = format!("{:?}", wanted.first().copied().unwrap_or(Protocol::Tcp)).to_lowercase();
    let message =
        format!("rule `{}` matches {wants}, and port {}{name} is declared to speak {speaks}", rule.name, port.port);
    let mut finding = Diagnostic::new(Code::ProtocolMismatch, rule.location.clone(), message)
        .help("a declared protocol is believed and enforced: match that one, or correct the name or `appProtocol` of the port");
    finding.policy = Some(policy.name.to_string());
    finding
}

/// The protocols that a condition surely asks for.
fn protocols_of(condition: &Expr) -> Option<&[Protocol]> {
    match condition {
        Expr::Is(Atom::Protocol(protocols)) => Some(protocols),
        Expr::All(parts) => parts.iter().find_map(protocols_of),
        _ => None,
    }
}

fn ports_of(condition: &Expr) -> Vec<&PortAtom> {
    match condition {
        Expr::Is(Atom::Port(port)) => vec![port],
        Expr::All(parts) => parts.iter().flat_map(ports_of).collect(),
        Expr::Any(parts) if parts.iter().all(|part| matches!(part, Expr::Is(Atom::Port(_)))) => {
            parts.iter().flat_map(ports_of).collect()
        }
        _ => Vec::new(),
    }
}

fn names(atom: &PortAtom, port: &DeclaredPort) -> bool {
    match atom {
        PortAtom::Range(low, high) => (*low..=*high).contains(&port.port),
        PortAtom::Named(name) => port.name.as_ref() == Some(name),
        PortAtom::Declared => true,
        // Which ports an annotation lists is no part of the policy.
        PortAtom::Annotated(_) => false,
    }
}

fn clashes(port: &DeclaredPort, wanted: &[Protocol]) -> bool {
    if port.transport != Transport::Tcp {
        return wanted.iter().all(|protocol| !matches!(protocol, Protocol::Udp | Protocol::Dns | Protocol::Sctp));
    }
    let spoken: &[Protocol] = match port.application {
        None => return false,
        Some(ApplicationProtocol::Http) => &[Protocol::Http, Protocol::Http2, Protocol::Grpc],
        Some(ApplicationProtocol::Http2 | ApplicationProtocol::Grpc) => &[Protocol::Http2, Protocol::Grpc],
        Some(ApplicationProtocol::Tls) => &[Protocol::Tls],
        Some(ApplicationProtocol::Tcp) => &[],
    };
    !wanted.iter().any(|protocol| spoken.contains(protocol))
}
