//! What the demo prints: plain text, colours only on a terminal.

use eastwall_policy::diagnostic::Style;

use crate::command::output::{print, style};

/// Prints the story.
#[derive(Debug)]
pub(super) struct Narrator {
    colours: bool,
}

impl Narrator {
    pub(super) fn new() -> Self {
        Self { colours: style(&std::io::stdout()) == Style::Coloured }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A new chapter.
    pub(super) fn chapter(&self, title: &str) {
        say(format_args!("\n{}", self.paint("1", &format!("== {title}"))));
    }

    /// One sentence.
    pub(super) fn say(&self, text: &str) {
        say(format_args!("   {text}"));
    }

    /// Something by the way.
    pub(super) fn aside(&self, text: &str) {
        say(format_args!("   {}", self.paint("2", &format!("({text})"))));
    }

    /// A file or a log line, as it is.
    pub(super) fn quote(&self, text: &str) {
        for line in text.lines() {
            say(format_args!("     {}", self.paint("2", line)));
        }
    }

    /// One thing that was tried, what came of it, and whether it is what should come of it.
    pub(super) fn tried(&self, what: &str, outcome: &str, as_expected: bool) {
        let mark = if as_expected { self.paint("32", "ok  ") } else { self.paint("31", "NOT OK") };
        say(format_args!("   {mark} {what:<58} {outcome}"));
    }
}

/// A line of the story. That nobody reads it does not end it: what it set up must be taken down.
fn say(line: impl std::fmt::Display) {
    let _ = print(format_args!("{line}\n"));
}
