//! Objects that come from an API instead of a file: a document without a text, and the field that a finding is about.

use std::sync::Arc;

use super::{Document, Key, Node, Root, Span, Value};
use crate::diagnostic::Location;

impl Document {
    /// An object as a document that has no text: of a finding about it only its file is known. What people write is
    /// better given to [`super::parse`] as text.
    #[must_use]
    pub fn of_object(file: &Arc<str>, object: &serde_json::Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        let place = Location { file: Arc::clone(file), line: 1, column: 1 };
        Self {
            api_version: text("/apiVersion").to_owned(),
            kind: text("/kind").to_owned(),
            namespace: text("/metadata/namespace").to_owned(),
            name: text("/metadata/name").to_owned(),
            created: text("/metadata/creationTimestamp").parse().ok().map(jiff::Timestamp::as_second),
            root: Root::new(node(object), None),
            broken: false,
            ..Self::unreadable(place)
        }
    }

    /// The field that stands at a place of this document, as `kubectl explain` writes it with positions in lists:
    /// `spec.ingress[0].http`. `None` for the document itself, and where no field begins.
    #[must_use]
    pub fn field_at(&self, place: &Location) -> Option<String> {
        let mut path = String::new();
        (place.file == self.location.file && find(&self.root, place, &mut path)).then_some(path)
    }
}

/// Extends `path` to what begins at the place, or leaves it as it was.
fn find(node: &Node, place: &Location, path: &mut String) -> bool {
    let is_here = |span: Span| (span.line, span.column) == (place.line, place.column);
    let before = path.len();
    match &node.value {
        Value::Map(entries) => {
            for (key, member) in entries {
                path.push_str(if before == 0 { "" } else { "." });
                path.push_str(&key.text);
                if is_here(key.span) || find(member, place, path) || is_here(member.span) {
                    return true;
                }
                path.truncate(before);
            }
        }
        Value::List(items) => {
            for (position, item) in items.iter().enumerate() {
                path.push_str(&format!("[{position}]"));
                // A block mapping begins where its first key does: the field says more.
                if find(item, place, path) || is_here(item.span) {
                    return true;
                }
                path.truncate(before);
            }
        }
        _ => {}
    }
    false
}

fn node(value: &serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.to_string().into()),
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(node).collect()),
        Json::Object(members) => {
            let key = |text: &String| Key { span: Span::default(), text: text.as_str().into() };
            Value::Map(members.iter().map(|(name, member)| (key(name), node(member))).collect())
        }
    };
    Node { span: Span::default(), value }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Document;
    use crate::source::parse;

    #[test]
    fn an_object_reads_as_its_text_does() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "n", "creationTimestamp": "1970-01-02T00:00:00Z", "labels": {"x": "1", "y": ""}},
            "spec": {"port": 80, "host": true, "none": null, "list": [1.5, {"deep": []}]},
        });
        let written = &parse("f", &object.to_string().into()).documents[0];
        let made = Document::of_object(&"f".into(), &object);
        let who = |document: &Document| {
            let Document { api_version, kind, namespace, name, created, broken, .. } = document.clone();
            (api_version, kind, namespace, name, created, broken)
        };
        assert_eq!(who(&made), who(written));
        assert!(made.root.same_value(&written.root));
    }

    #[test]
    fn a_place_is_a_field() {
        let text = "apiVersion: v1\nkind: A\nspec:\n  rules:\n  - name: x\n    ports: [80, {port: 1}]\n";
        let document = &parse("f", &text.into()).documents[0];
        let at =
            |line: u32, column: u32| document.field_at(&crate::diagnostic::Location { file: "f".into(), line, column });
        assert_eq!(at(3, 1).unwrap(), "spec");
        assert_eq!(at(5, 5).unwrap(), "spec.rules[0].name");
        assert_eq!(at(6, 13).unwrap(), "spec.rules[0].ports[0]");
        assert_eq!(at(6, 18).unwrap(), "spec.rules[0].ports[1].port");
        assert_eq!(at(9, 9), None);
    }
}
