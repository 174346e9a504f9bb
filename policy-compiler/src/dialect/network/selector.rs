//! `LabelSelector`, with labels that Kubernetes can have.

use super::context::Context;
use crate::diagnostic::Code;
use crate::dialect::selector;
use crate::model::{Selector, SelectorRequirement};
use crate::source::Node;

/// Reads a selector; `None` after an error.
pub(super) fn read(node: &Node, what: &str, context: &mut Context<'_>) -> Option<Selector> {
    let selector = selector::read(node, what, &mut context.findings)?;
    if let Some((written, kind)) = selector.requirements.iter().find_map(misspelt) {
        let help = "up to 63 letters, digits, `-`, `_` and `.`, a letter or digit first and last; a key may have a DNS name and `/` in front";
        context.findings.report_with(Code::BadValue, node.span, format!("`{written}` is no {kind} of a label"), help);
        return None;
    }
    Some(selector)
}

/// What no label can be.
fn misspelt(requirement: &SelectorRequirement) -> Option<(&str, &'static str)> {
    if !is_key(&requirement.key) {
        return Some((&requirement.key, "key"));
    }
    let value = requirement.values.iter().find(|value| !value.is_empty() && !is_name(value))?;
    Some((value, "value"))
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((prefix, name)) => is_name(name) && prefix.len() <= 253 && prefix.split('.').all(is_dns_label),
    }
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= 63 && text.bytes().all(inner) && has_ends(text, |byte| byte.is_ascii_alphanumeric())
}

fn is_dns_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().all(|byte| plain(byte) || byte == b'-') && has_ends(text, plain)
}

fn has_ends(text: &str, is_end: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().zip(bytes.last()).is_some_and(|(first, last)| is_end(*first) && is_end(*last))
}
