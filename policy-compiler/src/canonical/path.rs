//! The canonical path and the validated query.
//!
//! One pass from raw to canonical. Canonical input comes out byte for byte as it went in.

use super::octet::{escape, is_unreserved};
use super::{Options, Refusal};
use crate::model::HttpOption;

/// Appends the canonical form of `raw` (a path without query) to `out`: dot segments resolved, unreserved escapes
/// decoded once, other escapes kept with upper-case digits, `//` merged. After a refusal `out` is as it was.
///
/// # Errors
/// Whatever has more than one interpretation is refused, unless `options` choose one.
pub fn path(raw: &[u8], options: Options, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let [b'/', rest @ ..] = raw else { return Err(Refusal::RelativePath) };
    if is_plain(rest) {
        out.extend_from_slice(raw);
        return Ok(());
    }
    let start = out.len();
    let result = Resolver::new(out, options).run(rest);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Validates a raw query (without `?`), which is matched and forwarded as it came: parameters are decoded one by one
/// where a rule asks for them.
///
/// # Errors
/// Malformed escapes, `#`, and octets that cannot stand in a request target.
pub fn query(raw: &[u8]) -> Result<(), Refusal> {
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                escape(tail).ok_or(Refusal::MalformedEscape)?;
            }
            b'#' => return Err(Refusal::Fragment),
            0..=0x20 | 0x7F => return Err(Refusal::TargetCharacter),
            0x80.. => return Err(Refusal::NonAsciiTarget),
            _ => {}
        }
    }
    Ok(())
}

/// Canonical already, as seen without resolving anything: no escape, no empty segment, no segment with a leading dot,
/// no octet of the table. What it misses goes the long way round, to the same bytes.
fn is_plain(after_slash: &[u8]) -> bool {
    let mut previous = b'/';
    for &byte in after_slash {
        let awkward = matches!(byte, 0..=0x20 | b'#' | b'%' | b';' | b'?' | b'\\' | 0x7F..);
        if awkward || (previous == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        previous = byte;
    }
    true
}

/// Writes segments to the end of `out` and takes them back on `..`. INVARIANT: `out` ends in `/` where a segment begins.
struct Resolver<'a> {
    out: &'a mut Vec<u8>,
    options: Options,
    /// Where the path begins in `out`.
    start: usize,
    /// Where the segment that is being written begins in `out`.
    segment: usize,
    /// The segment holds a delimiter that was kept as data.
    hides: bool,
    slashes: bool,
    dots: bool,
}

impl<'a> Resolver<'a> {
    fn new(out: &'a mut Vec<u8>, options: Options) -> Self {
        let start = out.len();
        out.push(b'/');
        Self { segment: out.len(), out, options, start, hides: false, slashes: false, dots: false }
    }

    fn run(mut self, after_slash: &[u8]) -> Result<(), Refusal> {
        let mut rest = after_slash;
        while let [byte, tail @ ..] = rest {
            rest = tail;
            match *byte {
                b'/' => self.slash()?,
                b'%' => {
                    let value = escape(tail).ok_or(Refusal::MalformedEscape)?;
                    rest = tail.get(2..).unwrap_or_default();
                    self.escaped(value)?;
                }
                b'\\' => self.delimiter(self.options.backslash, b"\\", Refusal::Backslash)?,
                b';' if self.options.path_parameters == HttpOption::Keep => {
                    self.hides = true;
                    self.out.push(b';');
                }
                b';' => return Err(Refusal::PathParameters),
                b'#' => return Err(Refusal::Fragment),
                b'?' | 0..=0x20 | 0x7F => return Err(Refusal::TargetCharacter),
                0x80.. => return Err(Refusal::NonAsciiTarget),
                byte => self.out.push(byte),
            }
        }
        self.finish_segment()?;
        if self.slashes && self.dots {
            // `/x//../admin` is `/admin` for who merges first and `/x/admin` for who resolves first.
            return Err(Refusal::SlashesWithDots);
        }
        Ok(())
    }

    fn escaped(&mut self, value: u8) -> Result<(), Refusal> {
        match value {
            b'/' => self.delimiter(self.options.escaped_slash, b"%2F", Refusal::EscapedSlash),
            b'\\' => self.delimiter(self.options.backslash, b"%5C", Refusal::Backslash),
            b';' => Err(Refusal::PathParameters),
            0..=0x1F | 0x7F => Err(Refusal::EscapedControl),
            0x80.. => Err(Refusal::EscapedNonAscii),
            value if is_unreserved(value) => {
                self.out.push(value);
                Ok(())
            }
            value => {
                let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
                self.out.extend_from_slice(&[b'%', digit(value >> 4), digit(value & 0xF)]);
                Ok(())
            }
        }
    }

    /// Something that some take for `/`.
    fn delimiter(&mut self, option: HttpOption, kept: &[u8], refusal: Refusal) -> Result<(), Refusal> {
        match option {
            HttpOption::Reject => Err(refusal),
            HttpOption::Keep => {
                self.hides = true;
                self.out.extend_from_slice(kept);
                Ok(())
            }
            HttpOption::Decode => self.slash(),
        }
    }

    fn slash(&mut self) -> Result<(), Refusal> {
        let empty = self.out.len() == self.segment;
        self.slashes |= empty;
        self.finish_segment()?;
        if !self.out.ends_with(b"/") || (empty && self.options.merge_slashes != HttpOption::Reject) {
            self.out.push(b'/');
        }
        self.segment = self.out.len();
        Ok(())
    }

    fn finish_segment(&mut self) -> Result<(), Refusal> {
        let segment = self.out.get(self.segment..).unwrap_or_default();
        if self.hides && hides_dots(segment) {
            return Err(Refusal::HiddenDotSegment);
        }
        self.hides = false;
        let up = match segment {
            b"." => false,
            b".." => true,
            _ => return Ok(()),
        };
        self.dots = true;
        self.out.truncate(self.segment);
        if up {
            self.out.pop();
            let parent = self.out.get(self.start..).and_then(|path| memchr::memrchr(b'/', path));
            let parent = parent.ok_or(Refusal::AboveRoot)?;
            self.out.truncate(self.start + parent + 1);
        }
        Ok(())
    }
}

/// Whether a segment with kept delimiters has a dot segment for a server that takes them for what they look like.
fn hides_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let end = (0..rest.len()).find(|&at| {
            let tail = rest.get(at..).unwrap_or_default();
            tail.starts_with(b"\\") || tail.starts_with(b"%2F") || tail.starts_with(b"%5C")
        });
        let piece = end.map_or(rest, |end| rest.get(..end).unwrap_or_default());
        let name = piece.split(|&byte| byte == b';').next().unwrap_or_default();
        // A lone `.` or `..` that is the whole segment is resolved, not hidden.
        if matches!(name, b"." | b"..") && name.len() < segment.len() {
            return true;
        }
        let Some(end) = end else { return false };
        let width = if rest.get(end) == Some(&b'%') { 3 } else { 1 };
        rest = rest.get(end + width..).unwrap_or_default();
    }
}
