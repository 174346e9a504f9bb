//! One YAML document as a tree of nodes, each with its place in the file.
//!
//! The tree knows of no schema. What policies may not use is refused here (tags, directives, merge keys, complex
//! keys), and what could make a small file large (aliases, nesting) is bounded.

use granit_parser::{Event, Parser, ScalarStyle};

use super::Bounds;
use crate::diagnostic::Code;
use crate::pace;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte, in the whole file.
    pub start: u32,
    /// Length in bytes, up to the end of the first line for what has several.
    pub length: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`, unquoted.
    Bool(bool),
    /// A number as it is written, unquoted.
    Number(Box<str>),
    /// Everything else that is one word or text.
    Text(Box<str>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file; no key twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Where.
    pub span: Span,
    /// Its text.
    pub text: Box<str>,
}

/// Why a document has no tree.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeError {
    /// Code.
    pub code: Code,
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
    /// What to do.
    pub help: Option<&'static str>,
}

impl Node {
    /// The value of a key, where the node is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| &*k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text, where it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, as a person says it.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Whether both say the same in the same order, wherever they stand.
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(one), Value::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.same_value(other))
            }
            (Value::Map(one), Value::Map(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|((one, node), (other, value))| one.text == other.text && node.same_value(value))
            }
            (one, other) => one == other,
        }
    }

    /// The same as JSON. Numbers that JSON does not have become text.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_string())),
            Value::Text(text) => Json::String(text.to_string()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(key, node)| (key.text.to_string(), node.to_json())).collect())
            }
        }
    }

    fn weight(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::weight).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.weight()).sum(),
            _ => 0,
        }
    }
}

/// Reads one document. `text` is the document alone, `offset` and `line` (from 0) say where it starts in its file.
/// With an error comes as much of the tree as was read before it, so that a broken document can still say who it is.
/// `values` is what its file may still hold.
pub(super) fn read(
    text: &str,
    offset: usize,
    line: u32,
    bounds: &Bounds,
    values: &mut usize,
) -> (Option<Node>, Option<TreeError>) {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: bounds.depth,
        block_nesting_limit: bounds.depth,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder {
        text,
        offset,
        line,
        bounds,
        values,
        open: Vec::new(),
        anchors: Anchors::default(),
        copied: 0,
        root: None,
    };
    for event in parser {
        pace::tick();
        let outcome = match event {
            Ok((event, span)) => {
                let span = builder.span(&span);
                builder.event(event, span)
            }
            Err(error) => {
                let mark = *error.marker();
                let span = builder.span(&granit_parser::Span::empty(mark));
                let message = syntax_message(&error.info());
                let at = mark.byte_offset().unwrap_or(0);
                let before = text.get(..at).and_then(|text| text.rsplit('\n').next()).unwrap_or_default();
                let after = text.get(at..).and_then(|text| text.split('\n').next()).unwrap_or_default();
                let is_template = before.contains("{{") || after.contains("{{");
                let help = if is_template { Some(TEMPLATE) } else { syntax_help(&message) };
                Err(TreeError { code: Code::Syntax, span, message, help })
            }
        };
        if let Err(error) = outcome {
            return (builder.partial(), Some(error));
        }
    }
    (builder.root, None)
}

fn syntax_message(info: &str) -> String {
    // The parser repeats the place; the finding has it already.
    let message = info.split(" at byte ").next().unwrap_or(info);
    let message = message.split(" at line ").next().unwrap_or(message);
    message.chars().take(200).collect()
}

/// What stands in charts and test suites.
const TEMPLATE: &str = "render it first (`helm template` and the like), and read what comes out";

/// The usual cause.
fn syntax_help(message: &str) -> Option<&'static str> {
    const USUAL: &[(&str, &str)] = &[
        ("mapping values are not allowed", "quote a value that holds `: `, and check the indentation of this line"),
        ("tab", "indent with spaces"),
        ("unclosed", "close it before the document ends"),
        ("anchor", "an alias names an anchor (`&name`) that stands before it in the same document"),
        ("expected key", "lines of one mapping or list begin in the same column"),
        ("directives", "remove the line that begins with `%`"),
        ("recursion", "no policy nests that deep"),
    ];
    USUAL.iter().find(|(cause, _)| message.contains(cause)).map(|(_, help)| *help)
}

struct Builder<'t> {
    text: &'t str,
    offset: usize,
    line: u32,
    bounds: &'t Bounds,
    values: &'t mut usize,
    open: Vec<Open>,
    anchors: Anchors,
    copied: usize,
    root: Option<Node>,
}

type Anchors = hashbrown::HashMap<usize, Node, foldhash::fast::RandomState>;

struct Open {
    span: Span,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key>, seen: hashbrown::HashSet<Box<str>, foldhash::fast::RandomState> },
}

impl Builder<'_> {
    fn span(&self, span: &granit_parser::Span) -> Span {
        let start = span.start.byte_offset().unwrap_or(0);
        let end = span.end.byte_offset().unwrap_or(start).max(start);
        let marked = self.text.get(start..end).unwrap_or_default();
        let first = marked.split(['\n', '\r']).next().unwrap_or_default();
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Span {
            start: number(self.offset + start),
            length: number(first.trim_end().len()),
            line: self.line.saturating_add(number(span.start.line())),
            column: number(span.start.col()).saturating_add(1),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), TreeError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), span)?;
                self.spend(1, span)?;
                if text.contains('\0') {
                    // Half of the programs that a name meets end it there.
                    return Err(refused(span, "a NUL character", Some("remove it")));
                }
                let value = match style {
                    ScalarStyle::Plain => plain(&text),
                    _ => Value::Text(text.into()),
                };
                self.place(Node { span, value }, anchor, style == ScalarStyle::Plain)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), span)?;
                self.open(Open { span, anchor, kind: OpenKind::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), span)?;
                let kind = OpenKind::Map { entries: Vec::new(), key: None, seen: hashbrown::HashSet::default() };
                self.open(Open { span, anchor, kind })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => {
                    let anchor = open.anchor;
                    self.place(open.close(), anchor, false)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(refused(span, "an alias inside of what it names", None));
                };
                self.copied = self.copied.saturating_add(node.weight());
                if self.copied > self.bounds.aliased_nodes {
                    return Err(TreeError {
                        code: Code::TooLarge,
                        span,
                        message: format!("aliases expand to more than {} values", self.bounds.aliased_nodes),
                        help: Some("write the values out, or split the document"),
                    });
                }
                let node = node.clone();
                self.spend(node.weight(), span)?;
                self.place(node, 0, false)
            }
            _ => Ok(()),
        }
    }

    /// Counts values of the file. What is over the bound is never kept.
    fn spend(&mut self, values: usize, span: Span) -> Result<(), TreeError> {
        match self.values.checked_sub(values) {
            Some(left) => {
                *self.values = left;
                Ok(())
            }
            None => {
                *self.values = 0;
                Err(TreeError {
                    code: Code::TooLarge,
                    span,
                    message: format!("the file holds more than {} values", self.bounds.values),
                    help: Some("split it into several files"),
                })
            }
        }
    }

    fn open(&mut self, open: Open) -> Result<(), TreeError> {
        self.spend(1, open.span)?;
        self.refuse_as_key(open.span)?;
        self.open.push(open);
        Ok(())
    }

    fn refuse_as_key(&self, span: Span) -> Result<(), TreeError> {
        let at = (span.start as usize).saturating_sub(self.offset);
        match self.open.last() {
            Some(Open { kind: OpenKind::Map { key: None, .. }, .. })
                if at.checked_sub(1).and_then(|before| self.text.get(before..=at)) == Some("{{") =>
            {
                let message = "a template is not YAML".to_owned();
                Err(TreeError { code: Code::Syntax, span, message, help: Some(TEMPLATE) })
            }
            Some(Open { kind: OpenKind::Map { key: None, .. }, .. }) => Err(refused(
                span,
                "a key that is not plain text",
                Some("keys are words; quote a template such as `\"{id}\"`"),
            )),
            _ => Ok(()),
        }
    }

    fn place(&mut self, node: Node, anchor: usize, is_plain: bool) -> Result<(), TreeError> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            // An anchor keeps a copy: bounded with the copies that aliases make.
            self.copied = self.copied.saturating_add(node.weight());
            if self.copied > self.bounds.aliased_nodes {
                return Err(TreeError {
                    code: Code::TooLarge,
                    span: node.span,
                    message: format!("anchors and aliases hold more than {} values", self.bounds.aliased_nodes),
                    help: Some("write the values out, or split the document"),
                });
            }
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, key, seen } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let text: Box<str> = match node.value {
                        Value::Text(text) | Value::Number(text) => text,
                        Value::Bool(value) => value.to_string().into(),
                        Value::Null => "null".into(),
                        Value::List(_) | Value::Map(_) => {
                            return Err(refused(node.span, "a key that is not plain text", None));
                        }
                    };
                    if is_plain && &*text == "<<" {
                        return Err(refused(node.span, "a merge key `<<`", Some("write the fields out")));
                    }
                    if !seen.insert(text.clone()) {
                        return Err(TreeError {
                            code: Code::DuplicateKey,
                            span: node.span,
                            message: format!("`{text}` stands twice in this mapping"),
                            help: Some("keep one of them: neither is taken silently"),
                        });
                    }
                    *key = Some(Key { span: node.span, text });
                }
            },
        }
        Ok(())
    }

    fn partial(mut self) -> Option<Node> {
        while let Some(open) = self.open.pop() {
            let node = open.close();
            match self.open.last_mut() {
                None => self.root = Some(node),
                Some(Open { kind: OpenKind::List(items), .. }) => items.push(node),
                Some(Open { kind: OpenKind::Map { entries, key, .. }, .. }) => {
                    if let Some(key) = key.take() {
                        entries.push((key, node));
                    }
                }
            }
        }
        self.root
    }
}

impl Open {
    /// Trees are kept while their documents are.
    fn close(self) -> Node {
        let value = match self.kind {
            OpenKind::List(mut items) => {
                items.shrink_to_fit();
                Value::List(items)
            }
            OpenKind::Map { mut entries, .. } => {
                entries.shrink_to_fit();
                Value::Map(entries)
            }
        };
        Node { span: self.span, value }
    }
}

fn refuse_tag(tagged: bool, span: Span) -> Result<(), TreeError> {
    if tagged { Err(refused(span, "a YAML tag", Some("remove the `!…`; quote what must be text"))) } else { Ok(()) }
}

fn refused(span: Span, what: &str, help: Option<&'static str>) -> TreeError {
    TreeError { code: Code::UnsupportedYaml, span, message: format!("{what} is not allowed in a policy file"), help }
}

/// What an unquoted scalar is, by the YAML 1.2 core schema. (`yes` and `on` are text there, and text they stay.)
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.into()),
        _ => Value::Text(text.into()),
    }
}

fn is_number(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let all = |digits: &str, radix: u32| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, 8);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    digits(whole)
        && fraction.is_none_or(digits)
        && (!whole.is_empty() || fraction.is_some_and(|part| !part.is_empty()))
        && exponent.is_none_or(|part| all(part, 10))
}

#[cfg(test)]
mod tests {
    use super::{Node, TreeError, Value, is_number};
    use crate::diagnostic::Code;
    use crate::source::Bounds;

    fn read(text: &str, offset: usize, line: u32, bounds: &Bounds) -> (Option<Node>, Option<TreeError>) {
        super::read(text, offset, line, bounds, &mut bounds.values.clone())
    }

    #[test]
    fn numbers_are_those_of_the_core_schema() {
        for text in
            ["0", "8080", "-1", "+1", "1.5", ".5", "1.", "1e3", "1.5E-3", "0x1F", "0o17", ".inf", "-.inf", ".nan"]
        {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "-", ".", "e3", "1e", "10.0.0.1", "1-2", "0x", "0b1", "1_000", "x"] {
            assert!(!is_number(text), "{text}");
        }
    }

    #[test]
    fn refusals() {
        let bounds = Bounds { aliased_nodes: 20, ..Bounds::default() };
        for (text, code) in [
            ("a: 1\na: 2", Code::DuplicateKey),
            ("a: !x 1", Code::UnsupportedYaml),
            ("? [a]\n: 1", Code::UnsupportedYaml),
            ("<<: {a: 1}", Code::UnsupportedYaml),
            ("%TAG ! tag:x,2000:\n---\na: 1", Code::Syntax),
            ("a: &x [*x]", Code::UnsupportedYaml),
            ("a: *nowhere", Code::Syntax),
            ("a: [1, 2", Code::Syntax),
            ("a: &a [1,1,1,1,1]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]", Code::TooLarge),
        ] {
            let (_, error) = read(text, 0, 0, &bounds);
            assert_eq!(error.as_ref().map(|e| e.code), Some(code), "{text}: {error:?}");
        }
        let deep = "[".repeat(5000);
        assert!(read(&deep, 0, 0, &bounds).1.is_some());
        let deep = (0..300).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
        assert!(read(&deep, 0, 0, &bounds).1.is_some());
    }

    #[test]
    fn a_broken_document_still_says_who_it_is() {
        let (tree, error) = read("kind: X\nmetadata: {name: y}\nspec: [1,\n", 0, 0, &Bounds::default());
        assert!(error.is_some());
        let tree = tree.unwrap();
        assert_eq!(tree.get("kind").and_then(Node::text), Some("X"));
        assert_eq!(tree.get("metadata").and_then(|m| m.get("name")).and_then(Node::text), Some("y"));
    }

    #[test]
    fn places_count_in_the_whole_file() {
        let (tree, _) = read("a:\n  b: \"é\"\n  c: 7", 100, 10, &Bounds::default());
        let tree = tree.unwrap();
        let c = tree.get("a").unwrap().get("c").unwrap();
        assert_eq!(c.value, Value::Number("7".into()));
        assert_eq!((c.span.line, c.span.column, c.span.start, c.span.length), (13, 6, 100 + 18, 1));
    }

    #[test]
    fn json_is_read_too() {
        let (tree, error) =
            read("{\n\t\"a\": [1, true, null, \"x\\/\\u00e9\"],\n\t\"b\": {}\n}\n", 0, 0, &Bounds::default());
        assert_eq!(error, None);
        assert_eq!(tree.unwrap().to_json(), serde_json::json!({"a": [1, true, null, "x/é"], "b": {}}));
    }
}
