//! Objects of the API as the compiler's documents, and findings about them in words of the API.

use std::sync::Arc;

use eastwall_policy::diagnostic::Diagnostic;
use eastwall_policy::dialect;
use eastwall_policy::source::{self, Document, Sources};
use serde_json::Value;

use crate::cluster::{Key, Object};

/// The file that an object counts as: `firewallpolicy.eastwall.dev/shop/orders`, as `kubectl` would name it.
#[must_use]
pub(crate) fn file(key: &Key) -> Arc<str> {
    let group = key.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = key.kind.to_lowercase();
    let resource = if group.is_empty() { kind } else { format!("{kind}.{group}") };
    let parts = [resource.as_str(), &key.namespace, &key.name];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/").into()
}

/// Whether it says who is where; else it is a policy.
pub(super) fn is_of_registry(object: &Object) -> bool {
    let group = object.key.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    !dialect::reads().any(|reads| reads.group == group && reads.kinds.contains(&&*object.key.kind))
}

/// A policy's object as a document, without its status. Indented, so that a finding has a line of its own.
#[must_use]
pub(crate) fn read(file: &str, object: &Value) -> Sources {
    source::parse(file, &text(object))
}

fn text(object: &Value) -> Arc<str> {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
    }
    format!("{object:#}").into()
}

/// A policy that was read.
#[derive(Debug)]
pub(super) struct Read {
    object: Arc<Object>,
    text: Arc<str>,
    pub(super) sources: Sources,
}

impl Read {
    /// Reads an object, unless it says what it said before; whether it says something new.
    pub(super) fn again(before: Option<Self>, object: &Arc<Object>, file: &str) -> (Self, bool) {
        match before {
            Some(before) if Arc::ptr_eq(&before.object, object) => (before, false),
            before => {
                let text = text(&object.value);
                match before {
                    // Its status was written.
                    Some(before) if before.text == text => (Self { object: Arc::clone(object), ..before }, false),
                    _ => (Self { object: Arc::clone(object), sources: source::parse(file, &text), text }, true),
                }
            }
        }
    }

    pub(super) fn generation(&self) -> i64 {
        self.object.generation
    }
}

/// A finding about an object in one line: where it is, what it is, what to do.
#[must_use]
pub(crate) fn line(finding: &Diagnostic, document: Option<&Document>) -> String {
    let field = document.and_then(|document| document.field_at(&finding.location));
    let place = match (field, document) {
        (Some(field), _) => format!("{field}: "),
        (None, Some(_)) => String::new(),
        (None, None) => format!("{}: ", finding.location),
    };
    let help = finding.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default();
    format!("{place}{} [{}]{help}", finding.message, finding.code)
}
