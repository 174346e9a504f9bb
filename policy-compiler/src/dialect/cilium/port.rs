//! `ports` of a rule: numbers, ranges and names of the destination pod, each with its protocol.

use super::context::Context;
use super::members::{Members, items};
use crate::diagnostic::Code;
use crate::facts::Transport;
use crate::model::{Atom, Expr, PortAtom};
use crate::source::{Node, Span, fields};

/// The ports of one item of `toPorts`.
pub(super) struct Ports {
    /// Any of them.
    pub(super) condition: Expr,
    /// Where one is `0`: all ports of its protocol.
    pub(super) zero: Option<Span>,
    /// Where one is a range.
    pub(super) range: Option<Span>,
    /// Where the protocol of one is not TCP alone.
    pub(super) beyond_tcp: Option<Span>,
}

/// Reads the list.
pub(super) fn read(node: &Node, context: &mut Context<'_>) -> Option<Ports> {
    let before = context.findings.errors();
    let list = items(node, "ports", context.findings)?;
    if list.is_empty() {
        let help = "name at least one port; port `\"0\"` is every port of its protocol";
        context.findings.report_with(Code::EmptyList, node.span, "`ports` is an empty list", help);
    }
    if list.len() > MOST {
        let message = format!("{} ports, where Cilium takes at most {MOST}", list.len());
        context.findings.report_with(Code::OutOfRange, node.span, message, "write a range, or split the rule");
    }
    let mut ports = Ports { condition: Expr::False, zero: None, range: None, beyond_tcp: None };
    // PERF: one question about the transport for all ports that share it.
    let mut grouped: Vec<(Option<Transport>, Vec<Expr>)> = Vec::new();
    for item in list {
        let Some((over, port)) = member(item, &mut ports, context) else { continue };
        match grouped.iter_mut().find(|(held, _)| *held == over) {
            Some((_, ports)) => ports.push(port),
            None => grouped.push((over, vec![port])),
        }
    }
    ports.condition = Expr::any(grouped.into_iter().map(|(over, any)| {
        let over = over.map_or(Expr::True, |over| Expr::Is(Atom::Transport(over)));
        let any = if any.contains(&Expr::True) { Expr::True } else { Expr::any(any) };
        Expr::all([over, any])
    }));
    (context.findings.errors() == before).then_some(ports)
}

/// One port and its transport; no transport is any.
fn member(node: &Node, ports: &mut Ports, context: &mut Context<'_>) -> Option<(Option<Transport>, Expr)> {
    let mut members = Members::of(node, "an item of `ports`", context.findings)?;
    let port = members.require("port", context.findings);
    let end = members.find("endPort");
    let protocol = members.find("protocol");
    members.finish(context.findings);
    let over = match protocol {
        Some(protocol) => transport(protocol, context)?,
        None => Carried::Any,
    };
    if over != Carried::Over(Transport::Tcp) {
        ports.beyond_tcp = Some(protocol.unwrap_or(node).span);
    }
    let port = port?;
    let written = fields::text(port, "`port`", context.findings)?;
    let end = match end {
        Some(end) => Some((u16::try_from(fields::integer(end, "`endPort`", 0..=65535, context.findings)?).ok()?, end)),
        None => None,
    };
    let condition = match number(written) {
        None if is_name(written) => {
            if let Some((_, end)) = end {
                let message = "`endPort` of a named port does not count";
                context.findings.report_with(Code::Suspicious, end.span, message, "write the first port as a number");
            }
            PortAtom::Named(written.to_ascii_lowercase().into()).into()
        }
        None => {
            let help = "write a number from 0 to 65535 in quotes, or the name of a port";
            context.findings.report_with(Code::BadValue, port.span, format!("`{written}` is no port"), help);
            return None;
        }
        Some(0) => {
            ports.zero = Some(port.span);
            if let Some((_, end)) = end.filter(|(last, _)| *last > 0) {
                context.findings.report(Code::Conflict, end.span, "port `0` is every port and has no `endPort`");
            }
            Expr::True
        }
        Some(first) => {
            let last = end.map_or(first, |(last, _)| if last == 0 { first } else { last });
            if let Some((_, end)) = end.filter(|_| last < first) {
                let message = format!("`endPort` {last} is before `port` {first}");
                context.findings.report_with(Code::OutOfRange, end.span, message, "write the lower port first");
            }
            if last > first {
                ports.range = end.map(|(_, end)| end.span);
            }
            PortAtom::Range(first, last).into()
        }
    };
    match over {
        Carried::Any => Some((None, condition)),
        Carried::Over(transport) => Some((Some(transport), condition)),
        Carried::Otherwise => Some((None, Expr::False)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Any,
    Over(Transport),
    /// By something that Eastwall does not judge.
    Otherwise,
}

fn transport(node: &Node, context: &mut Context<'_>) -> Option<Carried> {
    let written = fields::text(node, "`protocol`", context.findings)?;
    // SPEC: Cilium corrects the case of a protocol.
    let found = match written.to_ascii_uppercase().as_str() {
        "ANY" => Carried::Any,
        "TCP" => Carried::Over(Transport::Tcp),
        "UDP" => Carried::Over(Transport::Udp),
        "SCTP" => Carried::Over(Transport::Sctp),
        "ICMP" | "ICMPV6" | "VRRP" | "IGMP" => {
            let message = format!("`{written}` is a protocol that Eastwall does not judge: the port matches nothing");
            context.findings.report_with(Code::NotEnforced, node.span, message, "leave it to Cilium");
            Carried::Otherwise
        }
        _ => {
            let words = [("TCP", ()), ("UDP", ()), ("SCTP", ()), ("ANY", ())];
            fields::word(node, "`protocol`", &words, context.findings)?;
            return None;
        }
    };
    Some(found)
}

impl From<PortAtom> for Expr {
    fn from(port: PortAtom) -> Self {
        Self::Is(Atom::Port(port))
    }
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A leading zero would make it octal for Cilium.
    let plain = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && plain)
}

/// SPEC: RFC 6335: letters, digits and single hyphens inside, at least one letter, at most 15.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.len() <= 15
        && text.chars().all(fits)
        && text.chars().any(|c| c.is_ascii_alphabetic())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// Cilium's cap on the ports of one list.
const MOST: usize = 40;

#[cfg(test)]
mod tests {
    use super::{is_name, number};

    #[test]
    fn numbers_and_names() {
        for (text, expected) in
            [("80", Some(80)), ("0", Some(0)), ("080", None), ("65536", None), ("+1", None), ("", None)]
        {
            assert_eq!(number(text), expected, "{text}");
        }
        for (text, expected) in
            [("http", true), ("0x10", true), ("HTTP-2", true), ("-a", false), ("a--b", false), ("80", false)]
        {
            assert_eq!(is_name(text), expected, "{text}");
        }
    }
}
