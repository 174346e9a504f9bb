//! Ports: always those of the destination pod, after Service translation.

use super::context::Context;
use crate::diagnostic::Code;
use crate::dialect::members::Members;
use crate::facts::Transport;
use crate::model::{Atom, Expr, PortAtom};
use crate::source::fields::{integer, text, word};
use crate::source::{Node, Value};

/// An item of `ports` of a NetworkPolicy: a port, by number or name, of one transport (TCP where none is named).
pub(super) fn of_network_policy(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "an item of `ports`", &mut context.findings)?;
    let transport = protocol(members.find("protocol"), context);
    let (port, end) = (members.find("port"), members.find("endPort"));
    members.finish(&mut context.findings);
    let port = match (port, end) {
        (None, None) => Some(Expr::True),
        (None, Some(end)) => {
            context.findings.report_with(Code::MissingField, end.span, "`endPort` needs `port`", "add the first port");
            None
        }
        (Some(port), end) if is_number(port) => {
            let low = number(port, "`port`", context);
            let high = end.map_or(low, |end| number(end, "`endPort`", context));
            range(low.zip(high), node, context)
        }
        (Some(_), Some(end)) => {
            let help = "a range goes from a number to a number";
            context.findings.report_with(Code::Conflict, end.span, "`endPort` stands beside a named port", help);
            None
        }
        (Some(port), None) => named(port, transport, context),
    };
    let condition = Expr::all([carried_by(transport?), port?]);
    (context.findings.errors() == before).then_some(condition)
}

/// An item of `ports` of an AdminNetworkPolicy.
pub(super) fn of_admin(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "an item of `ports`", &mut context.findings)?;
    let kinds = [members.find("portNumber"), members.find("namedPort"), members.find("portRange")];
    members.finish(&mut context.findings);
    let condition = match kinds {
        [Some(node), None, None] => {
            let mut members = Members::of(node, "`portNumber`", &mut context.findings)?;
            let transport = protocol(members.find("protocol"), context);
            let port = members.require("port", &mut context.findings).and_then(|node| number(node, "`port`", context));
            members.finish(&mut context.findings);
            Expr::all([carried_by(transport?), range(port.zip(port), node, context)?])
        }
        [None, Some(node), None] => named(node, None, context)?,
        [None, None, Some(node)] => {
            let mut members = Members::of(node, "`portRange`", &mut context.findings)?;
            let transport = protocol(members.find("protocol"), context);
            let bounds = bounds(&mut members, context);
            members.finish(&mut context.findings);
            Expr::all([carried_by(transport?), range(bounds, node, context)?])
        }
        _ => {
            one_of(node, "`portNumber`, `namedPort` or `portRange`", context);
            return None;
        }
    };
    (context.findings.errors() == before).then_some(condition)
}

/// An item of `protocols` of a ClusterNetworkPolicy.
pub(super) fn of_cluster(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "an item of `protocols`", &mut context.findings)?;
    let carried = TRANSPORTS.map(|(name, transport)| (members.find(name), name, transport));
    let by_its_name = members.find("destinationNamedPort");
    members.finish(&mut context.findings);
    let mut said = carried.into_iter().filter_map(|(node, name, transport)| Some((node?, name, transport)));
    let condition = match (said.next(), said.next(), by_its_name) {
        (None, None, Some(node)) => named(node, None, context)?,
        (Some((node, name, transport)), None, None) => {
            let mut members = Members::of(node, &format!("`{name}`"), &mut context.findings)?;
            let port = members.find("destinationPort");
            members.finish(&mut context.findings);
            let port = port.map_or(Some(Expr::True), |port| destination_port(port, context));
            Expr::all([carried_by(transport), port?])
        }
        _ => {
            one_of(node, "`tcp`, `udp`, `sctp` or `destinationNamedPort`", context);
            return None;
        }
    };
    (context.findings.errors() == before).then_some(condition)
}

fn destination_port(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let mut members = Members::of(node, "`destinationPort`", &mut context.findings)?;
    let kinds = [members.find("number"), members.find("range")];
    members.finish(&mut context.findings);
    match kinds {
        [Some(one), None] => {
            let port = number(one, "`number`", context);
            range(port.zip(port), one, context)
        }
        [None, Some(node)] => {
            let mut members = Members::of(node, "`range`", &mut context.findings)?;
            let bounds = bounds(&mut members, context);
            members.finish(&mut context.findings);
            if bounds.is_some_and(|(start, end)| start == end) {
                let message = "a range of one port: `start` is less than `end`";
                context.findings.report_with(Code::OutOfRange, node.span, message, "write the port as `number`");
            }
            range(bounds, node, context)
        }
        _ => {
            one_of(node, "`number` or `range`", context);
            None
        }
    }
}

fn bounds(members: &mut Members<'_>, context: &mut Context<'_>) -> Option<(u16, u16)> {
    let start = members.require("start", &mut context.findings).and_then(|node| number(node, "`start`", context));
    let end = members.require("end", &mut context.findings).and_then(|node| number(node, "`end`", context));
    start.zip(end)
}

fn one_of(node: &Node, what: &str, context: &mut Context<'_>) {
    context.findings.report_with(
        Code::Conflict,
        node.span,
        format!("an item has exactly one of {what}"),
        "write one item for each",
    );
}

/// SPEC: a name is looked up on the destination pod, and has to be declared for the transport that is used. Where the
/// policy says no `transport` it is whatever the container declares.
fn named(node: &Node, transport: Option<Transport>, context: &mut Context<'_>) -> Option<Expr> {
    let name = text(node, "a port name", &mut context.findings)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let valid = (1..=15).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !valid {
        let help = "a port name has up to 15 lower-case letters, digits and `-`, a letter among them; a number is written without quotes";
        context.findings.report_with(Code::BadValue, node.span, format!("`{name}` is no port name"), help);
        return None;
    }
    let name = name.into();
    context.mention_port(node.span, &name, transport);
    Some(Expr::Is(Atom::Port(PortAtom::Named(name))))
}

fn range(bounds: Option<(u16, u16)>, node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let (low, high) = bounds?;
    if low > high {
        let help = "the first port comes first";
        context.findings.report_with(Code::OutOfRange, node.span, format!("{low} to {high} is no range"), help);
        return None;
    }
    Some(Expr::Is(Atom::Port(PortAtom::Range(low, high))))
}

fn number(node: &Node, what: &str, context: &mut Context<'_>) -> Option<u16> {
    integer(node, what, 1..=65_535, &mut context.findings).and_then(|port| u16::try_from(port).ok())
}

fn is_number(node: &Node) -> bool {
    !matches!(&node.value, Value::Text(_))
}

fn protocol(node: Option<&Node>, context: &mut Context<'_>) -> Option<Transport> {
    let words = [("TCP", Transport::Tcp), ("UDP", Transport::Udp), ("SCTP", Transport::Sctp)];
    node.map_or(Some(Transport::Tcp), |node| word(node, "`protocol`", &words, &mut context.findings))
}

fn carried_by(transport: Transport) -> Expr {
    Expr::Is(Atom::Transport(transport))
}

const TRANSPORTS: [(&str, Transport); 3] =
    [("tcp", Transport::Tcp), ("udp", Transport::Udp), ("sctp", Transport::Sctp)];
