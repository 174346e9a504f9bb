//! What is wrong with a document, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

pub mod code;
mod render;
mod sarif;
mod told;

pub use code::Code;
pub use render::{Style, as_json, as_text};
pub use sarif::as_sarif;
pub use told::{Told, sort};

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
    pub code: Code,
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
    /// The line that the finding is about, as it stands in the file (a window of it where it is very long).
    pub snippet: Option<Snippet>,
}

/// One line of a file, for showing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// The text, without its line break.
    pub text: String,
    /// Characters of the line that were cut off before `text`.
    pub cut: u32,
}

impl Diagnostic {
    /// A finding whose severity is that of its code.
    #[must_use]
    pub fn new(code: Code, location: Location, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: shortened(message.into()),
            location,
            length: 0,
            label: None,
            help: None,
            policy: None,
            snippet: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(shortened(help.into()));
        self
    }

    /// Whether it refuses its document.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Snippet {
    /// The line of `text` in which byte `at` lies, at this column (from 1); of a long line only a window around it.
    /// The cost does not grow with the line: a file of one long line has many places.
    #[must_use]
    pub fn of(text: &str, at: usize, column: u32) -> Option<Self> {
        let is_break = |c: &char| matches!(c, '\n' | '\r');
        let before = text.get(..at)?;
        let after = text.get(at..)?;
        let behind = before.chars().rev().take_while(|c| !is_break(c)).take(WINDOW).count();
        let ahead = after.chars().take_while(|c| !is_break(c)).take(WINDOW).count();
        let kept = if behind + ahead <= WINDOW { behind } else { behind.min(WINDOW / 2) };
        let start = before.char_indices().rev().take(kept).last().map_or(at, |(index, _)| index);
        let shown = text.get(start..)?.chars().take_while(|c| !is_break(c)).take(WINDOW).collect();
        Some(Self { text: shown, cut: column.saturating_sub(1).saturating_sub(u32::try_from(kept).ok()?) })
    }
}

/// A message repeats what the user wrote, and that may be megabytes: the beginning says enough.
pub(crate) fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Characters of a message.
const LONGEST: usize = 600;

/// Characters of a line that a snippet shows: enough for a rule in one line, too little to flood a terminal.
const WINDOW: usize = 200;
