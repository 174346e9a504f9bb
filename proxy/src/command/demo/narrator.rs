//! What the demo prints: plain text, colours only on a terminal.

use std::io::IsTerminal as _;

/// Prints the story.
#[derive(Debug)]
pub(super) struct Narrator {
    colours: bool,
}

impl Narrator {
    pub(super) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: std::io::stdout().is_terminal() && !plain }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A new chapter.
    pub(super) fn chapter(&self, title: &str) {
        println!("\n{}", self.paint("1", &format!("== {title}")));
    }

    /// One sentence.
    pub(super) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Something by the way.
    pub(super) fn aside(&self, text: &str) {
        println!("   {}", self.paint("2", &format!("({text})")));
    }

    /// A file or a log line, as it is.
    pub(super) fn quote(&self, text: &str) {
        for line in text.lines() {
            println!("     {}", self.paint("2", line));
        }
    }

    /// One thing that was tried, what came of it, and whether it is what should come of it.
    pub(super) fn tried(&self, what: &str, outcome: &str, as_expected: bool) {
        let mark = if as_expected { self.paint("32", "ok  ") } else { self.paint("31", "NOT OK") };
        println!("   {mark} {what:<58} {outcome}");
    }
}
