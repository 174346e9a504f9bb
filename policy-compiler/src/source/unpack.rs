//! One YAML document to documents: lists (`List` and `PodList`) hold several.
//!
//! SPEC: the items of a typed list may leave out `apiVersion` and `kind`; those of a `List` have them.

use std::sync::Arc;

use super::root::Written;
use super::{Bounds, Document, Node, Root, Sources, Span, Value, location};
use crate::diagnostic::{Code, Diagnostic, Snippet};

/// One YAML document of a file.
pub(super) struct Whole<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) text: &'a Arc<str>,
    pub(super) range: std::ops::Range<usize>,
    pub(super) broken: bool,
    pub(super) bounds: &'a Bounds,
}

/// Adds the document, or the items of the list that it is.
pub(super) fn unpack(whole: &Whole<'_>, root: Node, sources: &mut Sources) {
    Unpacking { whole, sources }.node(root, &Typed::default(), 0);
}

/// What a list says of its items.
#[derive(Default)]
struct Typed {
    api_version: String,
    kind: String,
}

struct Unpacking<'w, 's> {
    whole: &'w Whole<'w>,
    sources: &'s mut Sources,
}

impl Unpacking<'_, '_> {
    fn node(&mut self, mut root: Node, inherited: &Typed, depth: usize) {
        let own = Typed {
            api_version: text_or(&root, "apiVersion", &inherited.api_version),
            kind: text_or(&root, "kind", &inherited.kind),
        };
        let Some(item_kind) = own.kind.strip_suffix("List") else { return self.document(root, own, depth) };
        let Value::Map(entries) = &mut root.value else { return self.document(root, own, depth) };
        let items = entries.iter().position(|(key, _)| &*key.text == "items");
        let items = items.map(|at| entries.remove(at).1);
        let is_typed = !item_kind.is_empty();
        match items {
            Some(Node { value: Value::List(items), span }) => {
                if depth >= DEEPEST {
                    return self.too_deep(span, &own);
                }
                let items_are = Typed {
                    api_version: if is_typed { own.api_version.clone() } else { String::new() },
                    kind: item_kind.to_owned(),
                };
                for item in items {
                    self.node(item, &items_are, depth + 1);
                }
                if self.whole.broken {
                    // Nobody knows what stood behind the error.
                    self.nameless(root.span, items_are);
                }
            }
            // What a client in Go writes for a list without items.
            Some(Node { value: Value::Null, .. }) if !self.whole.broken => {}
            Some(items) if !is_typed => self.no_list(&items, &own),
            Some(items) => {
                // A kind of its own that happens to end in `List`.
                if let Value::Map(entries) = &mut root.value {
                    entries.push((super::Key { span: items.span, text: "items".into() }, items));
                }
                self.document(root, own, depth);
            }
            None if !is_typed && !self.whole.broken => self.no_list(&root, &own),
            None => self.document(root, own, depth),
        }
    }

    /// `depth` is how many lists it stands in.
    fn document(&mut self, root: Node, typed: Typed, depth: usize) {
        let metadata = |key: &str| root.get("metadata").map(|metadata| text_or(metadata, key, "")).unwrap_or_default();
        let document = Document {
            namespace: metadata("namespace"),
            name: metadata("name"),
            created: metadata("creationTimestamp").parse().ok().map(jiff::Timestamp::as_second),
            api_version: typed.api_version,
            kind: typed.kind,
            ..self.empty(root.span)
        };
        let Whole { text, range, bounds, broken, .. } = self.whole;
        let written =
            (depth == 0 && !broken).then(|| Written { text: Arc::clone(text), range: range.clone(), bounds: **bounds });
        let document = Document { root: Root::new(root, written), ..document };
        if !document.broken && (document.api_version.is_empty() || document.kind.is_empty()) {
            self.sources.diagnostics.push(not_an_object(&document));
            self.sources.documents.push(Document { broken: true, ..document });
            return;
        }
        self.sources.documents.push(document);
    }

    /// A document of which nothing is known but its kind, if that.
    fn nameless(&mut self, span: Span, typed: Typed) {
        let document = Document { api_version: typed.api_version, kind: typed.kind, broken: true, ..self.empty(span) };
        self.sources.documents.push(document);
    }

    fn empty(&self, span: Span) -> Document {
        Document {
            location: location(self.whole.file, span),
            file_text: Arc::clone(self.whole.text),
            range: self.whole.range.clone(),
            broken: self.whole.broken,
            ..Document::unreadable(location(self.whole.file, span))
        }
    }

    fn too_deep(&mut self, span: Span, typed: &Typed) {
        let message = format!("lists hold lists more than {DEEPEST} levels deep");
        let finding = self.finding(Code::TooLarge, span, message).help("put the innermost items into one list");
        self.sources.diagnostics.push(finding);
        self.nameless(span, Typed { kind: String::new(), api_version: typed.api_version.clone() });
    }

    fn no_list(&mut self, node: &Node, typed: &Typed) {
        let message = match &node.value {
            Value::Map(_) if node.get("kind").is_some() => "a `List` without `items`".to_owned(),
            _ => format!("`items` of a `List` is a list, found {}", node.describe()),
        };
        let finding = self.finding(Code::NotAnObject, node.span, message);
        self.sources.diagnostics.push(finding.help("write `items: []` for a list that holds nothing"));
        self.nameless(node.span, Typed { kind: String::new(), api_version: typed.api_version.clone() });
    }

    fn finding(&self, code: Code, span: Span, message: String) -> Diagnostic {
        let mut finding = Diagnostic::new(code, location(self.whole.file, span), message);
        finding.length = span.length as usize;
        finding.snippet = Snippet::of(self.whole.text, span.start as usize, span.column);
        finding
    }
}

fn text_or(node: &Node, key: &str, otherwise: &str) -> String {
    node.get(key).and_then(Node::text).unwrap_or(otherwise).to_owned()
}

fn not_an_object(document: &Document) -> Diagnostic {
    let message = match (&document.root.value, document.api_version.is_empty()) {
        (Value::Map(_), true) => "the document has no `apiVersion`".to_owned(),
        (Value::Map(_), false) => "the document has no `kind`".to_owned(),
        _ => format!("expected an object with `apiVersion`, `kind` and `metadata`, found {}", document.root.describe()),
    };
    let mut diagnostic = Diagnostic::new(Code::NotAnObject, document.location.clone(), message)
        .help("a policy begins with `apiVersion: eastwall.dev/v1alpha1` and `kind: FirewallPolicy`");
    diagnostic.length = document.root.span.length as usize;
    diagnostic.snippet = Snippet::of(&document.file_text, document.root.span.start as usize, document.root.span.column);
    diagnostic
}

/// Lists within lists: `kubectl get -o yaml` nests none, a `List` of typed lists nests one.
const DEEPEST: usize = 4;

#[cfg(test)]
mod tests {
    use crate::diagnostic::Code;
    use crate::source::parse;

    fn seen(text: &str) -> Vec<(String, String, String, bool)> {
        let sources = parse("x.yaml", &text.into());
        let documents = sources.documents.into_iter();
        documents.map(|d| (d.api_version, d.kind, d.name, d.broken)).collect()
    }

    fn document(api_version: &str, kind: &str, name: &str, broken: bool) -> (String, String, String, bool) {
        (api_version.to_owned(), kind.to_owned(), name.to_owned(), broken)
    }

    #[test]
    fn lists_are_unpacked() {
        let text = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"x/v1\", \"kind\": \"A\"},\n {\"apiVersion\": \"x/v2\", \"kind\": \"BList\", \"items\": [{\"metadata\": {\"name\": \"b\"}}]}]}";
        assert_eq!(seen(text), [document("x/v1", "A", "", false), document("x/v2", "B", "b", false)]);
        for none in ["items: []", "items:"] {
            assert!(parse("x", &format!("apiVersion: v1\nkind: List\n{none}\n").into()).diagnostics.is_empty());
            assert_eq!(seen(&format!("apiVersion: v1\nkind: PodList\n{none}\n")), []);
        }
        // Kinds of their own.
        for text in ["apiVersion: x/v1\nkind: AllowList", "apiVersion: x/v1\nkind: AllowList\nitems: {a: 1}"] {
            assert_eq!(seen(text), [document("x/v1", "AllowList", "", false)]);
        }
    }

    #[test]
    fn a_list_that_holds_no_list_is_an_error() {
        for text in ["apiVersion: v1\nkind: List", "apiVersion: v1\nkind: List\nitems: {a: 1}"] {
            let sources = parse("x", &text.into());
            assert_eq!(sources.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::NotAnObject], "{text}");
            assert_eq!(seen(text), [document("v1", "", "", true)]);
        }
    }

    #[test]
    fn lists_in_lists_end_somewhere() {
        let nested = |levels: usize| {
            let item = "{apiVersion: x/v1, kind: A, metadata: {name: a}}".to_owned();
            (0..levels).fold(item, |inner, _| format!("{{apiVersion: v1, kind: List, items: [{inner}]}}"))
        };
        assert_eq!(seen(&nested(4)), [document("x/v1", "A", "a", false)]);
        let sources = parse("x", &nested(5).as_str().into());
        assert_eq!(sources.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::TooLarge]);
        assert!(sources.documents.iter().all(|document| document.broken && document.name.is_empty()));
        assert_eq!(sources.documents.len(), 1);
    }

    #[test]
    fn what_stands_behind_an_error_in_a_list_is_not_forgotten() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: x/v1, kind: A, metadata: {name: a}}\n- [\n";
        let names: Vec<_> = seen(text).into_iter().map(|(_, kind, name, broken)| (kind, name, broken)).collect();
        assert_eq!(names, [("A".to_owned(), "a".to_owned(), true), (String::new(), String::new(), true)]);
    }

    #[test]
    fn when_a_document_was_created() {
        let created = |written: &str| {
            let text = format!("apiVersion: v1\nkind: A\nmetadata: {{name: a, creationTimestamp: {written}}}");
            parse("x", &text.into()).documents[0].created
        };
        for (written, expected) in [
            ("\"1970-01-02T00:00:00Z\"", Some(86_400)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01T00:00:00.900000Z", Some(0)),
            ("null", None),
            ("yesterday", None),
            ("7", None),
        ] {
            assert_eq!(created(written), expected, "{written}");
        }
    }
}
