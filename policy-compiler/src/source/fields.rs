//! Reading a schema out of a tree: every field is asked for by name, and what nobody asked for is an error.
//!
//! A reader goes on after an error, so that one run tells everything that is wrong with a document.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Document, Key, Node, Span, Value};
use crate::diagnostic::{Code, Diagnostic, Location, Snippet, shortened};
use crate::pace;

/// Collects what is wrong with one document.
#[derive(Clone, Debug)]
pub struct Findings {
    of: About,
    list: Vec<Diagnostic>,
}

/// What findings are about.
#[derive(Clone, Debug)]
struct About {
    file: Arc<str>,
    text: Arc<str>,
    policy: Option<Arc<str>>,
}

/// A finding that may turn out to be none, and is put into words only if it is one.
#[derive(Clone, Debug)]
pub struct Unconfirmed {
    of: About,
    code: Code,
    span: Span,
    message: Box<str>,
    help: Cow<'static, str>,
}

impl Unconfirmed {
    /// It is one.
    #[must_use]
    pub fn confirm(&self) -> Diagnostic {
        self.of.diagnostic(self.code, self.span, &*self.message).help(&*self.help)
    }
}

impl About {
    fn diagnostic(&self, code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        let mut diagnostic = Diagnostic::new(code, super::location(&self.file, span), message);
        diagnostic.length = span.length as usize;
        diagnostic.policy = self.policy.as_deref().map(Into::into);
        diagnostic.snippet = Snippet::of(&self.text, span.start as usize, span.column);
        diagnostic
    }
}

impl Findings {
    /// For a text, not yet for a policy.
    #[must_use]
    pub fn new(file: Arc<str>, text: Arc<str>) -> Self {
        Self { of: About { file, text, policy: None }, list: Vec::new() }
    }

    /// For one document.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let mut findings = Self::new(Arc::clone(&document.location.file), Arc::clone(&document.file_text));
        if !document.name.is_empty() {
            let (kind, namespace, name) = (&document.kind, &document.namespace, &document.name);
            let policy = shortened(if namespace.is_empty() {
                format!("{kind} {name}")
            } else {
                format!("{kind} {namespace}/{name}")
            });
            findings.of.policy = Some(policy.into());
        }
        findings
    }

    /// Adds a finding.
    pub fn report(&mut self, code: Code, span: Span, message: impl Into<String>) {
        let diagnostic = self.diagnostic(code, span, message);
        self.push(diagnostic);
    }

    /// Adds a finding with what to do about it.
    pub fn report_with(&mut self, code: Code, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = self.diagnostic(code, span, message).help(help);
        self.push(diagnostic);
    }

    /// Adds a finding made elsewhere.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        // A file of nonsense must not cost memory without end; the first findings say enough. An error always counts.
        if self.list.len() < MOST || (diagnostic.is_error() && !self.has_errors()) {
            self.list.push(diagnostic);
        }
    }

    /// A finding that is not (yet) part of the collection.
    #[must_use]
    pub fn diagnostic(&self, code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        self.of.diagnostic(code, span, message)
    }

    /// A finding if something turns out so.
    #[must_use]
    pub fn unconfirmed(
        &self,
        code: Code,
        span: Span,
        message: impl Into<Box<str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> Unconfirmed {
        Unconfirmed { of: self.of.clone(), code, span, message: message.into(), help: help.into() }
    }

    /// A place of this document.
    #[must_use]
    pub fn location(&self, span: Span) -> Location {
        super::location(&self.of.file, span)
    }

    /// Whether the document is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Diagnostic::is_error)
    }

    /// How many errors there are: a reader compares before and after.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.is_error()).count()
    }

    /// What was found.
    #[must_use]
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.list
    }
}

/// The fields of one mapping, asked for one by one.
#[derive(Debug)]
pub struct Fields<'n> {
    span: Span,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Of a node that must be a mapping; `what` names it in the message.
    pub fn of(node: &'n Node, what: &str, findings: &mut Findings) -> Option<Self> {
        pace::tick();
        match &node.value {
            Value::Map(entries) => Some(Self { span: node.span, entries, known: Vec::new() }),
            _ => {
                wrong_type(node, &format!("{what} is a mapping"), findings);
                None
            }
        }
    }

    /// Where the mapping stands.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The field of this name, where it is there with a value. A field without a value is an error: an author who
    /// wrote it meant something.
    pub fn optional(&mut self, name: &'static str, findings: &mut Findings) -> Option<&'n Node> {
        self.known.push(name);
        let (key, node) = self.entries.iter().find(|(key, _)| &*key.text == name)?;
        if node.value == Value::Null {
            findings.report_with(
                Code::NullValue,
                key.span,
                format!("`{name}` has no value"),
                "write a value, or leave the field out",
            );
            return None;
        }
        Some(node)
    }

    /// The field of this name, where it is there with a value; one without a value counts as one that is not there.
    pub fn find(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        self.entries.iter().find(|(key, node)| &*key.text == name && node.value != Value::Null).map(|(_, node)| node)
    }

    /// The field of this name, which must be there.
    pub fn required(&mut self, name: &'static str, findings: &mut Findings) -> Option<&'n Node> {
        if !self.has(name) {
            self.known.push(name);
            findings.report_with(
                Code::MissingField,
                self.span,
                format!("`{name}` is missing"),
                format!("add `{name}`"),
            );
            return None;
        }
        if self.entries.iter().any(|(key, node)| &*key.text == name && node.value == Value::Null) {
            self.known.push(name);
            let span = self.key_span(name);
            findings.report_with(Code::NullValue, span, format!("`{name}` has no value"), "write a value");
            return None;
        }
        self.optional(name, findings)
    }

    /// Whether a field of this name stands there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| &*key.text == name)
    }

    /// Where the key of this name stands; the mapping's own place where it does not.
    #[must_use]
    pub fn key_span(&self, name: &str) -> Span {
        self.entries.iter().find(|(key, _)| &*key.text == name).map_or(self.span, |(key, _)| key.span)
    }

    /// Fields that belong to somebody else.
    pub fn accept(&mut self, names: &[&'static str]) {
        let added = names.iter().filter(|name| !self.known.contains(name)).copied().collect::<Vec<_>>();
        self.known.extend(added);
    }

    /// Every field that was not asked for is an error.
    pub fn finish(self, findings: &mut Findings) {
        for (key, _) in self.entries {
            if findings.list.len() >= MOST && findings.has_errors() {
                return;
            }
            if !self.known.contains(&&*key.text) {
                let help = match nearest(&key.text, &self.known) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("the fields here are {}", listed(&self.known)),
                };
                findings.report_with(Code::UnknownField, key.span, format!("unknown field `{}`", key.text), help);
            }
        }
    }
}

/// Text that is not empty.
pub fn text<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) if text.is_empty() => {
            findings.report(Code::BadValue, node.span, format!("{what} is empty"));
            None
        }
        Value::Text(text) => Some(text),
        Value::Number(text) => {
            let help = format!("quote it: `\"{text}\"`");
            findings.report_with(Code::WrongType, node.span, format!("{what} is text, found a number"), help);
            None
        }
        Value::Bool(value) => {
            let help = format!("quote it: `\"{value}\"`");
            findings.report_with(Code::WrongType, node.span, format!("{what} is text, found a boolean"), help);
            None
        }
        _ => {
            wrong_type(node, &format!("{what} is text"), findings);
            None
        }
    }
}

/// A list with at least one item.
pub fn list<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            let help = "write at least one item, or leave the field out";
            findings.report_with(Code::EmptyList, node.span, format!("{what} is an empty list"), help);
            None
        }
        Value::List(items) => Some(items),
        _ => {
            wrong_type(node, &format!("{what} is a list"), findings);
            None
        }
    }
}

/// A list of texts with at least one item.
pub fn texts<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<Vec<(&'n str, Span)>> {
    let items = list(node, what, findings)?;
    let read: Vec<_> = items
        .iter()
        .filter_map(|item| Some((text(item, &format!("an item of {what}"), findings)?, item.span)))
        .collect();
    (read.len() == items.len()).then_some(read)
}

/// A whole number within bounds, both included.
pub fn integer(node: &Node, what: &str, range: std::ops::RangeInclusive<u32>, findings: &mut Findings) -> Option<u32> {
    let Value::Number(text) = &node.value else {
        wrong_type(node, &format!("{what} is a number"), findings);
        return None;
    };
    let number = text.parse::<u32>().ok().filter(|number| range.contains(number));
    if number.is_none() {
        let message = format!("{what} is a whole number from {} to {}, found `{text}`", range.start(), range.end());
        findings.report(Code::OutOfRange, node.span, message);
    }
    number
}

/// `true` or `false`.
pub fn boolean(node: &Node, what: &str, findings: &mut Findings) -> Option<bool> {
    if let Value::Bool(value) = node.value {
        return Some(value);
    }
    wrong_type(node, &format!("{what} is `true` or `false`"), findings);
    None
}

/// One of several words.
pub fn word<T: Copy>(node: &Node, what: &str, words: &[(&'static str, T)], findings: &mut Findings) -> Option<T> {
    let written = text(node, what, findings)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == written) {
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let help = match nearest(written, &known) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("write {}", listed(&known)),
    };
    findings.report_with(Code::BadEnumValue, node.span, format!("`{written}` is no value of {what}"), help);
    None
}

/// The word that was probably meant.
#[must_use]
pub fn nearest<'w>(written: &str, words: &[&'w str]) -> Option<&'w str> {
    let lower = written.to_lowercase();
    let distance = |word: &str| strsim::damerau_levenshtein(&lower, &word.to_lowercase());
    // Long nonsense is nobody's typing error, and comparing it costs its square.
    if written.len() > 64 {
        return None;
    }
    words
        .iter()
        .map(|word| (distance(word), *word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `a`, `b` or `c`.
#[must_use]
pub fn listed(words: &[&str]) -> String {
    let mut words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.pop() {
        None => "none".to_owned(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
    }
}

fn wrong_type(node: &Node, expected: &str, findings: &mut Findings) {
    findings.report(Code::WrongType, node.span, format!("{expected}, found {}", node.describe()));
}

/// Findings that one document can have.
const MOST: usize = 100;

#[cfg(test)]
mod tests {
    use super::{Fields, Findings, integer, nearest, text, texts, word};
    use crate::source::trees;

    fn findings_of(document: &str, read: impl Fn(&mut Fields<'_>, &mut Findings)) -> Vec<String> {
        let source = document.into();
        let (trees, diagnostics) = trees("x", &source, &crate::source::Bounds::default());
        assert!(diagnostics.is_empty());
        let mut findings = Findings::new("x".into(), source);
        let mut fields = Fields::of(&trees[0], "it", &mut findings).unwrap();
        read(&mut fields, &mut findings);
        fields.finish(&mut findings);
        findings.into_diagnostics().into_iter().map(|d| format!("{} {} {}", d.location, d.code, d.message)).collect()
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let found = findings_of("a: 5\nlist: []\nport: 70000\nmode: Allw\nempty:\nstray: 1", |fields, findings| {
            fields.optional("a", findings).and_then(|node| text(node, "`a`", findings));
            fields.optional("list", findings).and_then(|node| texts(node, "`list`", findings));
            fields.optional("port", findings).and_then(|node| integer(node, "`port`", 1..=65535, findings));
            fields.optional("mode", findings).and_then(|node| word(node, "`mode`", &[("Allow", 1)], findings));
            fields.optional("empty", findings);
            fields.required("missing", findings);
        });
        assert_eq!(
            found,
            [
                "x:1:4 EW0202 `a` is text, found a number",
                "x:2:7 EW0205 `list` is an empty list",
                "x:3:7 EW0209 `port` is a whole number from 1 to 65535, found `70000`",
                "x:4:7 EW0204 `Allw` is no value of `mode`",
                "x:5:1 EW0206 `empty` has no value",
                "x:1:1 EW0203 `missing` is missing",
                "x:6:1 EW0201 unknown field `stray`",
            ]
        );
    }

    #[test]
    fn nearest_words() {
        for (written, expected) in [("metods", Some("methods")), ("Path", Some("paths")), ("zzz", None), ("", None)] {
            assert_eq!(nearest(written, &["methods", "paths", "hosts"]), expected, "{written}");
        }
    }
}
