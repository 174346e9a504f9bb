//! A file's text cut into its documents, before any of them is parsed.
//!
//! SPEC: YAML 1.2.2, 9.1: `---` and `...` at the start of a line, followed by white space or the end, are markers
//! wherever they stand, inside quoted and block text too. So a document with a syntax error ends where the next begins.

/// One document's part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Byte range in the file, its `---` line included.
    pub(super) range: std::ops::Range<usize>,
    /// Line of its start, from 0.
    pub(super) line: u32,
}

/// Cuts a text into no more than so many parts. Parts without content (only comments and blanks) are left out.
pub(super) fn split(text: &str, most: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut start_line = 0u32;
    let mut line_start = 0;
    let mut line = 0u32;
    let mut cut = |from: usize, to: usize, line: u32| {
        if parts.len() < most && text.get(from..to).is_some_and(has_content) {
            parts.push(Part { range: from..to, line });
        }
    };
    while line_start < text.len() {
        let rest = text.get(line_start..).unwrap_or_default();
        let end = memchr::memchr2(b'\n', b'\r', rest.as_bytes()).map_or(rest.len(), |at| {
            if rest.get(at..).is_some_and(|tail| tail.starts_with("\r\n")) { at + 2 } else { at + 1 }
        });
        if is_marker(rest, "---") {
            cut(start, line_start, start_line);
            (start, start_line) = (line_start, line);
        } else if is_marker(rest, "...") {
            cut(start, line_start, start_line);
            (start, start_line) = (line_start + end, line.saturating_add(1));
        }
        line_start += end;
        line = line.saturating_add(1);
    }
    cut(start, text.len(), start_line);
    parts
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn has_content(part: &str) -> bool {
    let body = if is_marker(part, "---") { part.get(3..).unwrap_or_default() } else { part };
    body.split(['\n', '\r']).any(|line| {
        let line = line.trim_start_matches([' ', '\t']);
        !line.is_empty() && !line.starts_with('#') && !line.starts_with("%YAML ")
    })
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn documents_are_cut_at_markers() {
        let cases: &[(&str, &[(&str, u32)])] = &[
            ("", &[]),
            ("# only\n---\n---\n\n", &[]),
            ("a: 1", &[("a: 1", 0)]),
            ("---\na: 1\n---\nb: 2\n", &[("---\na: 1\n", 0), ("---\nb: 2\n", 2)]),
            ("--- {a: 1}\r\n--- # x\r\nb: 2", &[("--- {a: 1}\r\n", 0), ("--- # x\r\nb: 2", 1)]),
            ("a: 1\r---\rb: 2", &[("a: 1\r", 0), ("---\rb: 2", 1)]),
            ("a: |\n  ---\n  x\n...\nb: 2", &[("a: |\n  ---\n  x\n", 0), ("b: 2", 4)]),
            ("---x: 1", &[("---x: 1", 0)]),
            ("%YAML 1.2\n---\na: 1", &[("---\na: 1", 1)]),
            ("%TAG !e! x\n---\na: 1", &[("%TAG !e! x\n", 0), ("---\na: 1", 1)]),
            ("a: \"open\n---\nb: 2", &[("a: \"open\n", 0), ("---\nb: 2", 1)]),
        ];
        for (text, expected) in cases {
            let parts: Vec<_> =
                split(text, usize::MAX).into_iter().map(|part| (&text[part.range], part.line)).collect();
            assert_eq!(&parts, expected, "{text:?}");
        }
    }
}
