//! The protocol members of a rule: `http`, `grpc`, `tls`, `tcp`, `udp`, `dns`.

use super::context::Context;
use super::rule::Action;
use super::{http, port};
use crate::diagnostic::Code;
use crate::facts::{Protocol, Transport};
use crate::model::{Atom, Expr, PortAtom};
use crate::source::fields::list;
use crate::source::{Fields, Node, Span};

/// What a rule says of ports and protocol.
pub(super) struct Wire {
    /// Ports and protocol.
    pub(super) condition: Expr,
}

/// Reads `ports` and the protocol members. `needs_ports` is a peer that makes `ports` necessary in an Allow, `by_name`
/// one that makes a protocol necessary that carries names.
pub(super) fn read(
    fields: &mut Fields<'_>,
    action: Action,
    needs_ports: Option<Span>,
    by_name: Option<Span>,
    context: &mut Context<'_>,
) -> Option<Wire> {
    let present: Vec<&'static str> = MEMBERS.iter().copied().filter(|member| fields.has(member)).collect();
    let ports_node = fields.optional("ports", &mut context.findings);
    let has_ports = fields.has("ports");
    let nodes: Vec<_> =
        MEMBERS.iter().map(|member| (*member, fields.optional(member, &mut context.findings))).collect();
    let member = match (present.as_slice(), action) {
        ([member], _) => Some(*member),
        ([], Action::Deny) => None,
        ([], Action::Allow) => {
            let help = "add one of `http`, `grpc`, `tls`, `tcp`, `udp`, `dns`; opaque access is written `tcp: {}`";
            context.findings.report_with(Code::NeedsProtocol, fields.span(), "an Allow must name its protocol", help);
            return None;
        }
        ([first, second, ..], _) => {
            let message = format!("`{first}` and `{second}` in one rule");
            let help = "a rule has one protocol: write two rules";
            context.findings.report_with(Code::NeedsProtocol, fields.key_span(second), message, help);
            return None;
        }
    };
    if let (Action::Allow, Some(span), Some("tcp" | "udp" | "dns")) = (action, by_name, member) {
        let help = "write `tls`, `http` or `grpc`: what is asked for has to carry the name too";
        context.findings.report_with(
            Code::Conflict,
            span,
            "an Allow by `fqdn` needs a protocol that carries names",
            help,
        );
        return None;
    }
    let before = context.findings.errors();
    let ports = ports_node.and_then(|node| port::list_of(node, context));
    let protocol = match member {
        None => Some(Expr::True),
        Some(member) => {
            let node = nodes.iter().find(|(name, _)| *name == member).and_then(|(_, node)| *node);
            node.and_then(|node| of_member(member, node, action, context))
        }
    };
    if context.findings.errors() != before || (has_ports && ports.is_none()) {
        return None;
    }
    if ports.is_none() {
        if let (Action::Allow, Some(span)) = (action, needs_ports) {
            let help = "declared ports are those of a workload: add `ports`";
            let message = "a rule with `cidr`, `fqdn` or `node` must name its `ports`";
            context.findings.report_with(Code::NeedsPorts, span, message, help);
            return None;
        }
        if let (Action::Deny, Some(member @ ("http" | "grpc" | "tls" | "dns"))) = (action, member) {
            let message = format!("a Deny with `{member}` must name its `ports`");
            let help = "it closes those ports to every other protocol, so that no other one slips past; add `ports`";
            context.findings.report_with(Code::NeedsPorts, fields.key_span(member), message, help);
            return None;
        }
    }
    let ports = ports.unwrap_or(match action {
        // SPEC: the ports that the workload declares, never an undeclared one.
        Action::Allow => Expr::Is(Atom::Port(PortAtom::Declared)),
        Action::Deny => Expr::True,
    });
    Some(Wire { condition: Expr::all([ports, protocol?]) })
}

fn of_member(member: &str, node: &Node, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let (protocols, matches): (&[Protocol], _) = match member {
        "http" => {
            (&[Protocol::Http, Protocol::Http2, Protocol::Grpc], any_of(node, "`http`", http::http, action, context)?)
        }
        "grpc" => (&[Protocol::Grpc], any_of(node, "`grpc`", http::grpc, action, context)?),
        "tls" => (&[Protocol::Tls], any_of(node, "`tls`", http::tls, action, context)?),
        "dns" => return dns(any_of(node, "`dns`", http::dns, action, context)?, action),
        "tcp" => return opaque(node, "`tcp`", Transport::Tcp, context),
        _ => return opaque(node, "`udp`", Transport::Udp, context),
    };
    let is_protocol = Expr::Is(Atom::Protocol(protocols.to_vec()));
    Some(match action {
        Action::Allow => Expr::all([is_protocol, matches]),
        // SPEC: a Deny with L7 fields closes its ports to other protocols.
        Action::Deny if matches == Expr::True => Expr::True,
        Action::Deny => Expr::any([!is_protocol, matches]),
    })
}

/// `dns: [{}]` is port 53 at L4, or whatever is seen to be DNS. A Deny closes its ports to other protocols.
fn dns(matches: Expr, action: Action) -> Option<Expr> {
    let carried = Expr::any([Transport::Udp, Transport::Tcp].map(|transport| Expr::Is(Atom::Transport(transport))));
    let is_dns =
        Expr::any([Expr::Is(Atom::Port(PortAtom::Range(53, 53))), Expr::Is(Atom::Protocol(vec![Protocol::Dns]))]);
    Some(match action {
        Action::Allow => Expr::all([carried, is_dns, matches]),
        Action::Deny if matches == Expr::True => Expr::True,
        Action::Deny => Expr::any([!Expr::Is(Atom::Protocol(vec![Protocol::Dns])), matches]),
    })
}

/// `tcp: {}` covers whatever the bytes are, HTTP and TLS too.
fn opaque(node: &Node, what: &str, transport: Transport, context: &mut Context<'_>) -> Option<Expr> {
    let fields = Fields::of(node, &format!("{what} (written `{{}}`)"), &mut context.findings)?;
    let before = context.findings.errors();
    fields.finish(&mut context.findings);
    (context.findings.errors() == before).then_some(Expr::Is(Atom::Transport(transport)))
}

type ReadMatch = fn(&Node, Action, &mut Context<'_>) -> Option<Expr>;

fn any_of(node: &Node, what: &str, read: ReadMatch, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let items = list(node, what, &mut context.findings)?;
    let matches: Vec<_> = items.iter().filter_map(|item| read(item, action, context)).collect();
    if matches.len() != items.len() {
        return None;
    }
    Some(if matches.contains(&Expr::True) { Expr::True } else { Expr::any(matches) })
}

const MEMBERS: &[&str] = &["http", "grpc", "tls", "tcp", "udp", "dns"];
