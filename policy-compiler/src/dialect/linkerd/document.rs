//! What every reader of this dialect needs of a document.

use std::sync::Arc;

use crate::diagnostic::Code;
use crate::dialect::members::Members;
use crate::model::{Atom, PeerAtom, PolicyName, Selector, SelectorOperator, SelectorRequirement};
use crate::settings::Settings;
use crate::source::fields::{text, word};
use crate::source::{Document, Findings, Node, Value};

/// One document while it is read.
pub(super) struct Reader<'d> {
    pub(super) document: &'d Document,
    pub(super) findings: Findings,
    pub(super) settings: &'d Settings,
    pub(super) name: PolicyName,
}

impl<'d> Reader<'d> {
    pub(super) fn of(document: &'d Document, settings: &'d Settings) -> Self {
        Self { document, findings: Findings::of(document), settings, name: name_of(document) }
    }

    /// Namespace of the document.
    pub(super) fn namespace(&self) -> Arc<str> {
        Arc::clone(&self.name.namespace)
    }

    /// The members of `spec`, once those beside it are known to be right.
    pub(super) fn spec(&mut self) -> Option<Members<'d>> {
        let mut top = Members::of(&self.document.root, "a policy", &mut self.findings)?;
        top.accept(&["apiVersion", "kind", "metadata", "status"]);
        if self.document.name.is_empty() {
            let span = self.document.root.span;
            self.findings.report_with(Code::MissingField, span, "`metadata.name` is missing", "add a name");
        }
        let spec = top.require("spec", &mut self.findings);
        top.finish(&mut self.findings);
        Members::of(spec?, "`spec`", &mut self.findings)
    }

    /// The place of a node.
    pub(super) fn location(&self, node: &Node) -> crate::diagnostic::Location {
        self.findings.location(node.span)
    }
}

/// The namespace of a document that names none, as `kubectl` would have it.
pub(super) fn namespace_of(document: &Document) -> &str {
    if document.namespace.is_empty() { "default" } else { &document.namespace }
}

/// Kind, namespace and name.
pub(super) fn name_of(document: &Document) -> PolicyName {
    PolicyName {
        kind: document.kind.as_str().into(),
        namespace: namespace_of(document).into(),
        name: document.name.as_str().into(),
    }
}

/// Workloads of a namespace, as subjects.
pub(super) fn namespace_atom(namespace: &str) -> Atom {
    Atom::Subject(PeerAtom::Namespace(namespace.into()))
}

/// A label selector; empty selects everything. `None` after an error.
pub(super) fn selector(node: &Node, what: &str, findings: &mut Findings) -> Option<Selector> {
    let before = findings.errors();
    let mut members = Members::of(node, &format!("`{what}`"), findings)?;
    let labels = members.find("matchLabels");
    let expressions = members.list("matchExpressions", findings).unwrap_or_default();
    members.finish(findings);
    let mut requirements = Vec::new();
    if let Some(labels) = labels {
        let Value::Map(entries) = &labels.value else {
            findings.report(Code::WrongType, labels.span, "`matchLabels` is a mapping of keys to values");
            return None;
        };
        for (key, value) in entries {
            let value = text(value, &format!("the value of `{}`", key.text), findings);
            requirements.extend(value.map(|value| SelectorRequirement {
                key: (&*key.text).into(),
                operator: SelectorOperator::In,
                values: vec![value.into()],
            }));
        }
    }
    requirements.extend(expressions.iter().filter_map(|item| requirement(item, findings)));
    (findings.errors() == before).then_some(Selector { requirements })
}

fn requirement(node: &Node, findings: &mut Findings) -> Option<SelectorRequirement> {
    let mut members = Members::of(node, "an item of `matchExpressions`", findings)?;
    let key = members.require("key", findings).and_then(|node| text(node, "`key`", findings));
    let operator = members.require("operator", findings).and_then(|node| word(node, "`operator`", OPERATORS, findings));
    let values = members.list("values", findings).unwrap_or_default();
    members.finish(findings);
    let operator = operator?;
    if matches!(operator, SelectorOperator::In | SelectorOperator::NotIn) == values.is_empty() {
        let message = "`In` and `NotIn` have `values`, `Exists` and `DoesNotExist` have none";
        findings.report(Code::Conflict, node.span, message);
        return None;
    }
    let values = values.iter().map(|value| Some(text(value, "an item of `values`", findings)?.into()));
    Some(SelectorRequirement { key: key?.into(), operator, values: values.collect::<Option<_>>()? })
}

const OPERATORS: &[(&str, SelectorOperator)] = &[
    ("In", SelectorOperator::In),
    ("NotIn", SelectorOperator::NotIn),
    ("Exists", SelectorOperator::Exists),
    ("DoesNotExist", SelectorOperator::DoesNotExist),
];
