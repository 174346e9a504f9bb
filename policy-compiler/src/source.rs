//! Files and folders to documents.
//!
//! A document is one YAML document (or JSON object; `kind: List` is unpacked) with its place in its file. Nothing is
//! interpreted here beyond `apiVersion`, `kind` and `metadata`.

use std::sync::Arc;

use crate::diagnostic::Location;

/// One document of one file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it starts.
    pub location: Location,
    /// The whole text of its file, for snippets.
    pub file_text: Arc<str>,
    /// Byte range of the document in `file_text`.
    pub range: std::ops::Range<usize>,
    /// `apiVersion`, empty if missing.
    pub api_version: String,
    /// `kind`, empty if missing.
    pub kind: String,
    /// `metadata.namespace`, empty if missing.
    pub namespace: String,
    /// `metadata.name`, empty if missing.
    pub name: String,
}

// To come, with these shapes:
//   pub struct Sources { pub documents: Vec<Document>, pub diagnostics: Vec<Diagnostic> }
//   pub fn read(paths: &[PathBuf]) -> Sources            files, folders (recursive, *.yaml *.yml *.json, hidden and `..data` skipped), `-`
//   pub fn parse(file: &str, text: Arc<str>) -> Sources  one text
