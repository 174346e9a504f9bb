//! Names as Kubernetes and SPIFFE spell them.

use super::context::Context;
use crate::diagnostic::Code;
use crate::source::fields::text;
use crate::source::{Findings, Node};

/// A name of an object: RFC 1123, lower case.
pub(super) fn object<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<&'n str> {
    let written = text(node, what, findings)?;
    if is_object_name(written) {
        return Some(written);
    }
    let help = if written.contains('*') {
        "names have no wildcards; `any: true` says everybody"
    } else {
        "lower-case letters, digits, `-` and `.`, at most 253"
    };
    findings.report_with(Code::BadValue, node.span, format!("`{written}` is no name for {what}"), help);
    None
}

fn is_object_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let fits = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 253 && bytes.iter().all(fits) && edge(bytes.first()) && edge(bytes.last())
}

/// An identity that mTLS proves: a SPIFFE id or a DNS name, exact.
pub(super) fn principal<'n>(node: &'n Node, context: &mut Context<'_>) -> Option<&'n str> {
    let written = text(node, "`principal`", &mut context.findings)?;
    let spiffe = |id: &str| {
        let (domain, path) = id.split_once('/').unwrap_or((id, ""));
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let domain_fits = |c: char| name(c) && !c.is_ascii_uppercase();
        !domain.is_empty()
            && domain.chars().all(domain_fits)
            && !path.is_empty()
            && path.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.chars().all(name))
    };
    let valid = match written.strip_prefix("spiffe://") {
        Some(id) => spiffe(id),
        None => is_object_name(written),
    };
    if valid {
        return Some(written);
    }
    let help = if written.contains('*') {
        "a principal is one identity, without wildcards; list several items"
    } else {
        "write a SPIFFE id such as `spiffe://cluster.local/ns/shop/sa/web`, or a DNS name"
    };
    context.findings.report_with(Code::BadValue, node.span, format!("`{written}` is no identity"), help);
    None
}
