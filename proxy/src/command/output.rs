//! What commands print, in one place. Who reads may have gone (`… | head -1`): that is no error, and the exit code still
//! is the answer.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write as _};
use std::process::ExitCode;

use eastwall_policy::diagnostic::Style;

/// Writes an answer to standard output.
///
/// # Errors
/// The exit code where it cannot be written.
pub(super) fn print(text: impl Display) -> Result<(), ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    written(write!(out, "{text}").and_then(|()| out.flush()))
}

/// What became of writing an answer.
///
/// # Errors
/// The exit code where it cannot be written.
pub(super) fn written(result: std::io::Result<()>) -> Result<(), ExitCode> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!("eastwall: cannot write: {error}"));
            Err(ExitCode::from(2))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Where that is closed the exit code still tells.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Tells how far a long work is, on one line of a terminal.
pub(super) fn progress(line: impl Display) {
    let mut out = std::io::stderr().lock();
    if out.is_terminal() {
        let _ = write!(out, "\r{line}").and_then(|()| out.flush());
    }
}

/// Colours on a terminal alone, and not where `NO_COLOR` is set (<https://no-color.org>).
pub(super) fn style(stream: &impl IsTerminal) -> Style {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !is_plain { Style::Coloured } else { Style::Plain }
}
