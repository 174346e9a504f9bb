//! Files and folders to documents.
//!
//! A document is one YAML document (or JSON object; `kind: List` is unpacked) with its place in its file. Nothing is
//! interpreted here beyond `apiVersion`, `kind` and `metadata`. A document that is broken never holds back the others.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Location, Snippet};

pub mod fields;
mod files;
mod object;
mod parts;
mod reader;
mod root;
mod split;
pub mod tree;
mod unpack;

pub use fields::{Fields, Findings, Unconfirmed};
pub use reader::Reader;
pub use root::Root;
pub use tree::{Key, Node, Span, Value};

/// One document of one file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it starts.
    pub location: Location,
    /// The whole text of its file, for snippets.
    pub file_text: Arc<str>,
    /// Byte range of the document in `file_text`; for an item of a `List`, of the document that holds the list.
    pub range: Range<usize>,
    /// `apiVersion`, empty if missing.
    pub api_version: String,
    /// `kind`, empty if missing.
    pub kind: String,
    /// `metadata.namespace`, empty if missing.
    pub namespace: String,
    /// `metadata.name`, empty if missing.
    pub name: String,
    /// `metadata.creationTimestamp` in seconds since the epoch: what was in a cluster has one. Where the oldest document
    /// wins, one without (`None` is less than any time) comes first, as the zero time does in Kubernetes.
    pub created: Option<i64>,
    /// Everything; of a broken document what stands before the error.
    pub root: Root,
    /// It has a syntax error (already among the diagnostics): it counts as refused, and `root` is only a part.
    pub broken: bool,
}

impl Document {
    fn unreadable(location: Location) -> Self {
        Self {
            location,
            file_text: "".into(),
            range: 0..0,
            api_version: String::new(),
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            created: None,
            root: Root::new(Node { span: Span::default(), value: Value::Null }, None),
            broken: true,
        }
    }

    /// The same to be kept for later: it holds no tree where that can be read again.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        Self { root: self.root.at_rest(), ..self.clone() }
    }
}

/// Documents of any number of files.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// In the order of the files, which are sorted within a folder.
    pub documents: Vec<Document>,
    /// What could not be read.
    pub diagnostics: Vec<Diagnostic>,
}

/// What bounds the reading of files: time and memory stay proportional to what a person can have meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one file.
    pub file_bytes: usize,
    /// Bytes of all files together.
    pub total_bytes: usize,
    /// Documents of one file.
    pub documents: usize,
    /// Values (texts, numbers, lists, mappings) of one file, those that aliases repeat included.
    pub values: usize,
    /// Nesting of lists and mappings.
    pub depth: usize,
    /// Values that anchors keep and aliases repeat, in one document.
    pub aliased_nodes: usize,
    /// Nesting of folders.
    pub folder_depth: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        // 100,000 rules are about 20 MB and 3 million values; no policy nests deeper than about 15, no object of
        // Kubernetes deeper than about 20.
        Self {
            file_bytes: 32 << 20,
            total_bytes: 256 << 20,
            documents: 200_000,
            values: 6_000_000,
            depth: 64,
            aliased_nodes: 10_000,
            folder_depth: 32,
        }
    }
}

/// Reads files, folders (recursively; `*.yaml`, `*.yml`, `*.json`; names that start with a dot are skipped) and
/// standard input (`-`), within the default bounds.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Sources {
    read_within(paths, &Bounds::default())
}

/// The same as [`read`] within bounds of one's own.
#[must_use]
pub fn read_within(paths: &[PathBuf], bounds: &Bounds) -> Sources {
    let mut sources = Sources::default();
    let diagnostics = files::load(paths, bounds, |name, text| sources.add(&name, &text.into(), bounds));
    Sources::unreadable(diagnostics).and(sources)
}

/// Reads one text as if it were a file of this name.
#[must_use]
pub fn parse(file: &str, text: &Arc<str>) -> Sources {
    parse_within(file, text, &Bounds::default())
}

/// The same as [`parse`] within bounds of one's own.
#[must_use]
pub fn parse_within(file: &str, text: &Arc<str>, bounds: &Bounds) -> Sources {
    let mut sources = Sources::default();
    sources.add(&file.into(), text, bounds);
    sources
}

/// The trees of one text, one a YAML document, whatever they are (the workloads file is lists).
#[must_use]
pub fn trees(file: &str, text: &Arc<str>, bounds: &Bounds) -> (Vec<Node>, Vec<Diagnostic>) {
    let (documents, diagnostics) = cut(file, text, bounds);
    (documents.into_iter().map(|(_, tree)| tree).collect(), diagnostics)
}

/// The same, each with its bytes in the text, the line that begins it included.
#[must_use]
pub fn cut(file: &str, text: &Arc<str>, bounds: &Bounds) -> (Vec<(Range<usize>, Node)>, Vec<Diagnostic>) {
    let file: Arc<str> = file.into();
    let mut diagnostics = Vec::new();
    let mut documents = Vec::new();
    for part in parts::parts(&file, text, bounds) {
        diagnostics.extend(part.error.map(|error| diagnostic(&file, text, error)));
        documents.extend(part.tree.map(|tree| (part.range, tree)));
    }
    (documents, diagnostics)
}

/// One file's name as people see it, and its text (`-`: standard input).
///
/// # Errors
/// What is wrong with the file.
pub fn text_of(path: &std::path::Path, bounds: &Bounds) -> Result<(String, Arc<str>), Box<Diagnostic>> {
    let text = files::text_of(path, bounds)?;
    Ok((files::shown(path).to_string(), text.into()))
}

impl Sources {
    /// A file that is there and cannot be read is a document of which nothing is known, never an absent one.
    fn unreadable(diagnostics: Vec<Diagnostic>) -> Self {
        let documents = diagnostics.iter().map(|one| Document::unreadable(one.location.clone())).collect();
        Self { documents, diagnostics }
    }

    /// Gives a finding that knows only its place the line that it is about.
    pub fn illustrate(&self, finding: &mut Diagnostic) {
        if finding.snippet.is_some() {
            return;
        }
        let document = self.documents.iter().find(|document| document.location.file == finding.location.file);
        let Some(text) = document.map(|document| &document.file_text) else { return };
        let Some(line) = text.split_inclusive('\n').nth(finding.location.line.saturating_sub(1) as usize) else {
            return;
        };
        finding.snippet = Snippet::of(line, 0, 1);
    }

    /// Documents and diagnostics of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.documents.extend(other.documents);
        self.diagnostics.extend(other.diagnostics);
        self
    }

    fn add(&mut self, file: &Arc<str>, text: &Arc<str>, bounds: &Bounds) {
        for parts::Part { range, tree, error } in parts::parts(file, text, bounds) {
            let broken = error.is_some();
            let place = error.as_ref().map(|error| error.span);
            self.diagnostics.extend(error.map(|error| diagnostic(file, text, error)));
            let root = match tree {
                Some(root) => root,
                // Even a document of which nothing was read is one: it must close what it would have closed.
                None if broken => Node { span: place.unwrap_or_default(), value: Value::Null },
                None => continue,
            };
            if !broken && root.value == Value::Null {
                continue;
            }
            unpack::unpack(&unpack::Whole { file, text, range, broken, bounds }, root, self);
        }
    }
}

fn location(file: &Arc<str>, span: Span) -> Location {
    Location { file: Arc::clone(file), line: span.line.max(1), column: span.column.max(1) }
}

fn diagnostic(file: &Arc<str>, text: &str, error: tree::TreeError) -> Diagnostic {
    let mut diagnostic = Diagnostic::new(error.code, location(file, error.span), error.message);
    diagnostic.length = error.span.length as usize;
    diagnostic.help = error.help.map(str::to_owned);
    diagnostic.snippet = Snippet::of(text, error.span.start as usize, error.span.column);
    diagnostic
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::diagnostic::Code;

    #[test]
    fn a_broken_document_does_not_hold_back_the_others() {
        let text = "\u{feff}apiVersion: v1\nkind: A\nmetadata: {name: a, namespace: n}\r\n---\nkind: B\nspec: [\n---\napiVersion: v1\nkind: C\n";
        let sources = parse("x.yaml", &text.into());
        let seen: Vec<_> = sources.documents.iter().map(|d| (d.kind.as_str(), d.broken, d.location.line)).collect();
        assert_eq!(seen, [("A", false, 1), ("B", true, 5), ("C", false, 8)]);
        assert_eq!(sources.documents[0].namespace, "n");
        assert_eq!(sources.diagnostics.len(), 1);
        assert_eq!(sources.diagnostics[0].code, Code::Syntax);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["[1]", "just text", "kind: A", "apiVersion: v1", "apiVersion: 1\nkind: A"] {
            let sources = parse("x", &text.into());
            assert_eq!(sources.diagnostics.len(), 1, "{text}");
            assert_eq!(sources.diagnostics[0].code, Code::NotAnObject, "{text}");
            assert!(sources.documents[0].broken);
        }
        for text in ["", "---", "# x\n---\n# y", "~", "null"] {
            let sources = parse("x", &text.into());
            assert!(sources.documents.is_empty() && sources.diagnostics.is_empty(), "{text}");
        }
    }
}
