//! `ports`: numbers, names and ranges of the destination pod.

use super::context::Context;
use crate::diagnostic::Code;
use crate::model::{Atom, Expr, PortAtom};
use crate::source::fields::list;
use crate::source::{Node, Value};

/// Reads a list of ports; `None` where an item is wrong.
pub(super) fn list_of(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let items = list(node, "`ports`", &mut context.findings)?;
    let ports: Vec<_> = items.iter().filter_map(|item| port(item, context)).collect();
    (ports.len() == items.len()).then(|| Expr::any(ports.into_iter().map(|port| Expr::Is(Atom::Port(port)))))
}

fn port(node: &Node, context: &mut Context<'_>) -> Option<PortAtom> {
    let (message, help) = match &node.value {
        Value::Number(_) => {
            let number = crate::source::fields::integer(node, "a port", 1..=65535, &mut context.findings)?;
            let number = u16::try_from(number).ok()?;
            return Some(PortAtom::Range(number, number));
        }
        Value::Text(text) if text.chars().any(|c| c.is_ascii_alphabetic()) => {
            if is_name(text) {
                return Some(PortAtom::Named((&**text).into()));
            }
            (format!("`{text}` is no port name"), "lower-case letters, digits and `-`, at most 15")
        }
        Value::Text(text) => match text.split_once('-').map(|(low, high)| (number(low), number(high))) {
            Some((Some(low), Some(high))) if low <= high => return Some(PortAtom::Range(low, high)),
            Some((Some(_), Some(_))) => (format!("the range `{text}` is empty"), "write the lower end first"),
            None if number(text).is_some() => (format!("`{text}` is quoted"), "write a port number without quotes"),
            _ => (format!("`{text}` is no port"), "write a number, a name with a letter in it, or `\"lo-hi\"`"),
        },
        _ => {
            let message = format!("a port is a number, a name or a range, found {}", node.describe());
            context.findings.report(Code::WrongType, node.span, message);
            return None;
        }
    };
    context.findings.report_with(Code::BadValue, node.span, message, help);
    None
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u16>().ok().filter(|number| digits && *number > 0)
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= 15 && text.chars().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}
