//! Fields of an object: what is absent or null is not there, what has the wrong type is an error, and what nobody asks
//! for is nobody's business.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Kind;
use crate::diagnostic::Code;
use crate::registry::Labels;
use crate::source::{Document, Findings, Node, Value, fields};

/// Namespace and name of an object; the namespace of a cluster-scoped one is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

/// Who an object is. Without a namespace it is of `default`, as `kubectl` would have it; without a name of its own it is
/// called as its name would begin.
pub(super) fn name(document: &Document, kind: Kind, findings: &mut Findings) -> Option<Name> {
    let metadata = mapping(&document.root, "metadata", findings);
    let written = metadata.and_then(|metadata| match text(metadata, "name", findings) {
        Some(name) => Some(name),
        None => text(metadata, "generateName", findings).map(|name| name.trim_end_matches('-')),
    });
    let Some(name) = written.filter(|name| !name.is_empty()) else {
        if !findings.has_errors() {
            let span = metadata.map_or(document.root.span, |metadata| metadata.span);
            findings.report_with(Code::MissingField, span, "`metadata.name` is missing", "add a name");
        }
        return None;
    };
    let namespace = match kind {
        Kind::Namespace | Kind::Node => "",
        _ => metadata.and_then(|metadata| text(metadata, "namespace", findings)).unwrap_or("default"),
    };
    Some(Name { namespace: namespace.into(), name: name.into() })
}

/// The member of this name that has a value.
pub(super) fn member<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.get(name).filter(|node| node.value != Value::Null)
}

/// A member that is a mapping.
pub(super) fn mapping<'n>(node: &'n Node, name: &str, findings: &mut Findings) -> Option<&'n Node> {
    let member = member(node, name)?;
    if matches!(member.value, Value::Map(_)) {
        return Some(member);
    }
    wrong_type(member, &format!("`{name}` is a mapping"), findings);
    None
}

/// The items of a member that is a list; none of one that is not there.
pub(super) fn items<'n>(node: &'n Node, name: &str, findings: &mut Findings) -> &'n [Node] {
    match member(node, name).map(|node| (node, &node.value)) {
        None => &[],
        Some((_, Value::List(items))) => items,
        Some((node, _)) => {
            wrong_type(node, &format!("`{name}` is a list"), findings);
            &[]
        }
    }
}

/// A member that is text. Programs write empty text for nothing.
pub(super) fn text<'n>(node: &'n Node, name: &str, findings: &mut Findings) -> Option<&'n str> {
    let member = member(node, name)?;
    if matches!(&member.value, Value::Text(text) if text.is_empty()) {
        return None;
    }
    fields::text(member, &format!("`{name}`"), findings)
}

/// A member that is `true` or `false`; without it, `otherwise`.
pub(super) fn flag(node: &Node, name: &str, otherwise: bool, findings: &mut Findings) -> bool {
    member(node, name).and_then(|member| fields::boolean(member, &format!("`{name}`"), findings)).unwrap_or(otherwise)
}

/// A member that is a port's number.
pub(super) fn port(node: &Node, name: &str, findings: &mut Findings) -> Option<u16> {
    let number = fields::integer(member(node, name)?, &format!("`{name}`"), 1..=65535, findings)?;
    u16::try_from(number).ok()
}

/// A member that is an address.
pub(super) fn address(node: &Node, name: &str, findings: &mut Findings) -> Option<IpAddr> {
    let written = text(node, name, findings)?;
    as_address(node, written, findings)
}

/// Text as an address.
pub(super) fn as_address(node: &Node, written: &str, findings: &mut Findings) -> Option<IpAddr> {
    match written.parse::<IpAddr>() {
        Ok(address) => Some(address.to_canonical()),
        Err(_) => {
            findings.report(Code::BadAddress, node.span, format!("`{written}` is no IP address"));
            None
        }
    }
}

/// The first address that a range has for hosts; none of a range of one address.
pub(super) fn first_of_range(node: &Node, findings: &mut Findings) -> Option<IpAddr> {
    let written = fields::text(node, "a range of addresses", findings)?;
    match written.parse::<IpNet>() {
        Ok(range) if range.prefix_len() < range.max_prefix_len() => {
            range.trunc().hosts().find(|ip| *ip != range.network())
        }
        Ok(_) => None,
        Err(_) => {
            findings.report(Code::BadAddress, node.span, format!("`{written}` is no range of IP addresses"));
            None
        }
    }
}

/// Labels, annotations, or a selector of labels.
pub(super) fn labels(node: &Node, name: &str, findings: &mut Findings) -> Labels {
    let Some(Node { value: Value::Map(entries), .. }) = mapping(node, name, findings) else { return Labels::new() };
    let mut labels = Labels::new();
    for (key, node) in entries {
        let value = match &node.value {
            Value::Text(text) => Some(&**text),
            Value::Null => Some(""),
            _ => fields::text(node, &format!("the value of `{}`", key.text), findings),
        };
        if let Some(value) = value {
            labels.insert(Arc::from(&*key.text), value.into());
        }
    }
    labels
}

fn wrong_type(node: &Node, expected: &str, findings: &mut Findings) {
    findings.report(Code::WrongType, node.span, format!("{expected}, found {}", node.describe()));
}
