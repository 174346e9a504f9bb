//! Finds the end of a head or trailer section, line by line, before anything is parsed.
//!
//! The byte checks stand here because httparse takes a bare line feed for the end of a line: every line feed follows a
//! carriage return, every carriage return precedes a line feed, no line is a continuation, nothing is too large.

use eastwall_policy::canonical::Refusal;

/// Bounds of a head, and of a trailer section, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, start line and line ends included.
    pub bytes: usize,
    /// Header lines; at most [`MAX_FIELDS`] count whatever is asked for.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 60 * 1024, fields: 100 }
    }
}

/// The most header lines that any setting allows: the parser's table is on the stack.
pub const MAX_FIELDS: usize = 256;

/// What stands before the header lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// A head: a start line.
    Head,
    /// Trailers: nothing.
    Trailers,
}

/// Where the search stands, so that bytes that trickle in are looked at once.
#[derive(Debug)]
pub(super) struct Scan {
    section: Section,
    /// Everything before is checked.
    position: usize,
    line_start: usize,
    lines: usize,
    /// End of the start line, without its line end.
    start_line: usize,
}

impl Scan {
    pub(super) const fn new(section: Section) -> Self {
        Self { section, position: 0, line_start: 0, lines: 0, start_line: 0 }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.section);
    }

    /// Length of the start line, once it has arrived.
    pub(super) fn start_line(&self) -> Option<usize> {
        (self.lines > 0 && self.section == Section::Head).then_some(self.start_line)
    }

    /// Returns the length of the section, empty line included, once all of it is in `input`, which always begins at
    /// the same byte and only grows.
    pub(super) fn run(&mut self, input: &[u8], limits: HeadLimits) -> Result<Option<usize>, Refusal> {
        let allowed = limits.fields.min(MAX_FIELDS) + usize::from(self.section == Section::Head);
        loop {
            let ahead = input.get(self.position..).unwrap_or_default();
            let Some(found) = memchr::memchr2(b'\r', b'\n', ahead) else {
                self.position = input.len();
                return self.unfinished(input.len(), limits);
            };
            let at = self.position + found;
            self.position = at;
            let end = at + 2;
            if end > limits.bytes {
                // Before anything is said of what stands there: a client that sent no more would be told the same.
                return Err(self.too_large());
            }
            match (input.get(at), input.get(at + 1)) {
                (Some(b'\n'), _) => return Err(Refusal::BareLf),
                (_, Some(b'\n')) => {}
                (_, None) => return self.unfinished(input.len(), limits),
                (_, Some(_)) => return Err(Refusal::BareCr),
            }
            if at == self.line_start {
                // SPEC: RFC 9112 2.2 lets a server skip empty lines before a request line. We do not.
                let before_start_line = self.section == Section::Head && self.lines == 0;
                return if before_start_line { Err(Refusal::MalformedStartLine) } else { Ok(Some(end)) };
            }
            let is_start_line = self.section == Section::Head && self.lines == 0;
            if is_start_line {
                self.start_line = at;
            } else if matches!(input.get(self.line_start), Some(b' ' | b'\t')) {
                return Err(Refusal::FoldedLine);
            }
            self.lines += 1;
            if self.lines > allowed {
                return Err(Refusal::TooManyFields);
            }
            self.position = end;
            self.line_start = end;
        }
    }

    fn unfinished(&self, length: usize, limits: HeadLimits) -> Result<Option<usize>, Refusal> {
        if length >= limits.bytes { Err(self.too_large()) } else { Ok(None) }
    }

    fn too_large(&self) -> Refusal {
        if self.section == Section::Head && self.lines == 0 { Refusal::TargetTooLong } else { Refusal::HeadTooLarge }
    }
}
