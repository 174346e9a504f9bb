//! Findings as text for a person and as JSON for a program.
//!
//! Policy files are written by others: control characters never reach the terminal.

use std::fmt::Write as _;

use super::{Diagnostic, Severity};

/// Whether text may hold colour escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// For a terminal.
    Coloured,
}

/// One finding as a block of text, with a line break at its end.
#[must_use]
pub fn as_text(diagnostic: &Diagnostic, style: Style) -> String {
    let paint = Paint { style };
    let mut out = String::new();
    let (word, colour) = match diagnostic.severity {
        Severity::Error => ("error", RED),
        Severity::Warning => ("warning", YELLOW),
        Severity::Note => ("note", BLUE),
    };
    let head = paint.with(colour, &format!("{word}[{}]", diagnostic.code));
    let _ = writeln!(out, "{head}: {}", paint.with(BOLD, &printable(&diagnostic.message)));
    let number = diagnostic.location.line.to_string();
    let margin = " ".repeat(number.len());
    let bar = paint.with(BLUE, "|");
    let place = printable(&diagnostic.location.to_string());
    let _ = writeln!(out, "{margin}{} {place}", paint.with(BLUE, "-->"));
    if let Some(snippet) = &diagnostic.snippet {
        let column = (diagnostic.location.column.saturating_sub(1).saturating_sub(snippet.cut)) as usize;
        let shown = printable(&snippet.text);
        // `printable` keeps one character a character, so columns still fit.
        let under = snippet.text.chars().skip(column).collect::<String>();
        let marked = under.char_indices().take_while(|(at, _)| *at < diagnostic.length.max(1)).count().max(1);
        let label = diagnostic.label.as_deref().map(printable).unwrap_or_default();
        let marks = format!("{} {label}", "^".repeat(marked));
        let _ = writeln!(out, "{margin} {bar}");
        let _ = writeln!(out, "{} {bar} {shown}", paint.with(BLUE, &number));
        let _ = writeln!(out, "{margin} {bar} {}{}", " ".repeat(column), paint.with(colour, marks.trim_end()));
    }
    if let Some(policy) = &diagnostic.policy {
        let _ = writeln!(out, "{margin} {} in {}", paint.with(BLUE, "="), printable(policy));
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "{margin} {} help: {}", paint.with(BLUE, "="), printable(help));
    }
    out
}

/// One finding as a JSON object: `code`, `severity`, `message`, `file`, `line`, `column`, `length`, `label`, `help`,
/// `policy`, `snippet`.
#[must_use]
pub fn as_json(diagnostic: &Diagnostic) -> serde_json::Value {
    serde_json::json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "file": &*diagnostic.location.file,
        "line": diagnostic.location.line,
        "column": diagnostic.location.column,
        "length": diagnostic.length,
        "label": diagnostic.label,
        "help": diagnostic.help,
        "policy": diagnostic.policy,
        "snippet": diagnostic.snippet.as_ref().map(|snippet| &snippet.text),
    })
}

struct Paint {
    style: Style,
}

impl Paint {
    fn with(&self, colour: &str, text: &str) -> String {
        match self.style {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("\x1b[{colour}m{text}\x1b[0m"),
        }
    }
}

fn printable(text: &str) -> String {
    let invisible =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() || invisible(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const BOLD: &str = "1";

#[cfg(test)]
mod tests {
    use super::{Style, as_text};
    use crate::diagnostic::{Code, Diagnostic, Location, Snippet};

    #[test]
    fn a_finding_marks_its_text() {
        let text = "a: 1\nspec: {metods: [GET]}\n";
        let mut diagnostic = Diagnostic::new(
            Code::UnknownField,
            Location { file: "p.yaml".into(), line: 2, column: 8 },
            "unknown field `metods`",
        )
        .help("did you mean `methods`?");
        diagnostic.length = 6;
        diagnostic.snippet = Snippet::of(text, 12, diagnostic.location.column);
        let expected = "error[EW0201]: unknown field `metods`\n --> p.yaml:2:8\n  |\n2 | spec: {metods: [GET]}\n  |        ^^^^^^\n  = help: did you mean `methods`?\n";
        assert_eq!(as_text(&diagnostic, Style::Plain), expected);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let location = Location { file: "\x1b[2Jx".into(), line: 1, column: 1 };
        let mut diagnostic = Diagnostic::new(Code::Syntax, location, "bad \x07 \u{202e}");
        diagnostic.snippet = Snippet::of("\x1b]0;x", 0, 1);
        let text = as_text(&diagnostic, Style::Plain);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'));
    }
}
