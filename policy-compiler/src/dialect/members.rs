//! The fields of one mapping as the Kubernetes API decodes them: strict about names, and `null` is the same as absent.

use crate::diagnostic::Code;
use crate::source::{Fields, Findings, Node, Span, Value, fields};

/// The members of one mapping.
pub(super) struct Members<'n> {
    fields: Fields<'n>,
    node: &'n Node,
}

impl<'n> Members<'n> {
    /// Of a node that must be a mapping; `what` names it in the message.
    pub(super) fn of(node: &'n Node, what: &str, findings: &mut Findings) -> Option<Self> {
        Some(Self { fields: Fields::of(node, what, findings)?, node })
    }

    /// The value of this name, where there is one.
    pub(super) fn find(&mut self, name: &'static str) -> Option<&'n Node> {
        self.fields.accept(&[name]);
        self.node.get(name).filter(|node| node.value != Value::Null)
    }

    /// The value of this name, which must be there.
    pub(super) fn require(&mut self, name: &'static str, findings: &mut Findings) -> Option<&'n Node> {
        let found = self.find(name);
        if found.is_none() {
            let place = self.fields.key_span(name);
            findings.report_with(Code::MissingField, place, format!("`{name}` is missing"), format!("add `{name}`"));
        }
        found
    }

    /// The items of a list of this name; `None` where it is absent or no list.
    pub(super) fn list(&mut self, name: &'static str, findings: &mut Findings) -> Option<&'n [Node]> {
        items(self.find(name)?, name, findings)
    }

    /// A field that Eastwall cannot enforce: an error that names it. What it would have narrowed must not stay open.
    pub(super) fn refuse(&mut self, name: &'static str, why: &str, help: &str, findings: &mut Findings) {
        if self.find(name).is_some() {
            let message = format!("`{name}` is not supported: {why}");
            findings.report_with(Code::NotSupported, self.fields.key_span(name), message, help);
        }
    }

    /// Fields that say nothing about access.
    pub(super) fn accept(&mut self, names: &[&'static str]) {
        self.fields.accept(names);
    }

    /// Whether a key of this name stands there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.has(name)
    }

    /// Where the key of this name stands.
    pub(super) fn place(&self, name: &str) -> Span {
        self.fields.key_span(name)
    }

    /// Every field that was not asked for is an error.
    pub(super) fn finish(self, findings: &mut Findings) {
        self.fields.finish(findings);
    }
}

/// The items of a list, which may be empty.
pub(super) fn items<'n>(node: &'n Node, name: &str, findings: &mut Findings) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) => Some(items),
        _ => fields::list(node, &format!("`{name}`"), findings),
    }
}

/// Text, or nothing where it is empty: what decodes into Go takes no notice of an empty text.
pub(super) fn text<'n>(node: Option<&'n Node>, name: &str, findings: &mut Findings) -> Option<(&'n str, Span)> {
    let node = node?;
    match &node.value {
        Value::Text(text) if text.is_empty() => None,
        _ => Some((fields::text(node, &format!("`{name}`"), findings)?, node.span)),
    }
}
