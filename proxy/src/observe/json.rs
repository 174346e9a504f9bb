//! One JSON object on one line, written straight into a buffer: whatever bytes a peer sends, the line parses and
//! cannot forge another one.

use std::fmt::{Display, Write as _};

/// Builds one object at the end of a buffer.
#[derive(Debug)]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Closes it.
    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    /// A member whose text is our own or was validated as text.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.wire(key, value.as_bytes());
    }

    /// A member that came over the wire: see [`escape`]; cut after [`LONGEST`] bytes.
    pub(super) fn wire(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        match value.split_at_checked(LONGEST) {
            Some((head, rest)) if !rest.is_empty() => {
                escape(head, self.out);
                self.out.extend_from_slice("…".as_bytes());
            }
            _ => escape(value, self.out),
        }
        self.out.push(b'"');
    }

    /// A member that writes itself, as text.
    pub(super) fn shown(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.out.push(b'"');
        // Writing to a buffer cannot fail.
        let _ = write!(Escaped(self.out), "{value}");
        self.out.push(b'"');
    }

    /// A number.
    pub(super) fn number(&mut self, key: &str, value: impl Into<u64>) {
        self.key(key);
        let _ = write!(Escaped(self.out), "{}", value.into());
    }

    /// Seconds, to the nanosecond.
    pub(super) fn seconds(&mut self, key: &str, value: std::time::Duration) {
        self.key(key);
        let _ = write!(Escaped(self.out), "{}.{:09}", value.as_secs(), value.subsec_nanos());
    }

    /// A value of the library that serialises as a label.
    pub(super) fn label(&mut self, key: &str, value: impl serde::Serialize) {
        self.key(key);
        if serde_json::to_writer(&mut *self.out, &value).is_err() {
            self.out.extend_from_slice(b"null");
        }
    }

    /// An object inside this one.
    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut inner = Object::open(self.out);
        fill(&mut inner);
        inner.close();
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// `fmt` into the buffer, escaped.
struct Escaped<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        escape(text.as_bytes(), self.0);
        Ok(())
    }
}

/// Bytes as the inside of a JSON string.
///
/// What is not printable text (bytes that are no UTF-8, controls, characters that reorder a terminal's line) and the
/// backslash itself are written `\xNN`, byte by byte, so that every line can be read back and none can deceive a reader.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                ' '..='~' if character != '\\' => out.push(character as u8),
                _ if is_plain(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| hexadecimal(byte, out)),
            }
        }
        chunk.invalid().iter().for_each(|byte| hexadecimal(*byte, out));
    }
}

fn is_plain(character: char) -> bool {
    let reorders =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    character != '\\' && !character.is_control() && !reorders
}

fn hexadecimal(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\\\x");
    for digit in [byte >> 4, byte & 15] {
        out.push(char::from_digit(u32::from(digit), 16).map_or(b'?', |digit| digit.to_ascii_uppercase() as u8));
    }
}

/// A path may have 60 KiB; nobody reads that in a log, and a flood of them fills a disk.
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.wire("v", bytes);
        object.close();
        out
    }

    #[test]
    fn every_byte_parses_and_stays_on_one_line() {
        for first in 0..=255u8 {
            for second in [b'a', b'"', b'\\', b'\n', 0x80, 0xc3, 0xff] {
                let out = line(&[first, second]);
                let text = std::str::from_utf8(&out).unwrap();
                let value: serde_json::Value = serde_json::from_str(text).unwrap();
                assert!(value["v"].is_string());
                assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
    }

    #[test]
    fn escapes_are_readable_and_unambiguous() {
        for (bytes, shown) in [
            (&b"/orders/7"[..], "/orders/7"),
            ("/é".as_bytes(), "/é"),
            (b"\xff\xfe", r"\xFF\xFE"),
            (b"\\xFF", r"\x5CxFF"),
            (b"a\nb\x1b[2J", r"a\x0Ab\x1B[2J"),
            ("x\u{202e}y".as_bytes(), r"x\xE2\x80\xAEy"),
            (b"\",\"verdict\":\"allow", "\",\"verdict\":\"allow"),
        ] {
            let value: serde_json::Value = serde_json::from_slice(&line(bytes)).unwrap();
            assert_eq!(value["v"], shown);
            assert_eq!(value.as_object().unwrap().len(), 1);
        }
    }

    #[test]
    fn long_values_are_cut_without_breaking_the_line() {
        let long = "é".repeat(4000);
        let value: serde_json::Value = serde_json::from_slice(&line(long.as_bytes())).unwrap();
        assert!(value["v"].as_str().unwrap().ends_with('…'));
        assert!(value["v"].as_str().unwrap().len() < LONGEST + 20);
    }
}
