//! What is wrong with a document, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is accepted, and probably does not do what its author means.
    Warning,
    /// Worth knowing.
    Note,
}

/// A place in a file that a person can open: line and column count from 1, in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The file as it was named on the command line or found in a folder; `-` for standard input.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One finding: a stable code, a message, the place, and help.
///
/// Messages are lower case, without a full stop, the user's own text in backticks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable code, `EW0101`; the first two digits name the family.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub location: Location,
    /// Length in bytes of the text that the finding is about, for the snippet; 0 when only the place is known.
    pub length: usize,
    /// A few words that stand under the marked text.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// The policy that the finding is about, `kind namespace/name`, where it is known.
    pub policy: Option<String>,
}
