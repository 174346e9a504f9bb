//! The chunked coding, strictly: canonical hexadecimal sizes, extensions by their grammar and bounded, CRLF everywhere.

use eastwall_policy::canonical::{Refusal, octet};

/// What one step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This many bytes were framing.
    Framing(usize),
    /// This many bytes are data.
    Data(usize),
    /// The last chunk's line has ended after this many bytes of framing: trailers follow.
    Last(usize),
}

/// Reads chunk framing; trailers are not its business.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extension: usize,
    extensions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit, and among the digits.
    Size,
    /// After `;`, and among the letters of the name.
    ExtensionName {
        empty: bool,
    },
    /// After `=`.
    ExtensionValue,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionQuotedPair,
    ExtensionEnd,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { state: State::Size, size: 0, digits: 0, extension: 0, extensions: 0 }
    }

    /// Looks at the front of `input`, which is not empty, up to the next border between framing and data.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        if self.state == State::Data {
            let here = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len());
            self.size -= here as u64;
            if self.size == 0 {
                self.state = State::DataReturn;
            }
            return Ok(Step::Data(here));
        }
        for (at, &byte) in input.iter().enumerate() {
            self.framing(byte)?;
            if self.state == State::Data {
                if self.size == 0 {
                    return Ok(Step::Last(at + 1));
                }
                return Ok(Step::Framing(at + 1));
            }
        }
        Ok(Step::Framing(input.len()))
    }

    fn framing(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(Refusal::MalformedChunk)?;
                self.digits += 1;
                self.size = self.size << 4 | u64::from(digit);
                // 15 digits are an exabyte and fit every integer that a server may count with.
                if self.digits > 15 {
                    return Err(Refusal::MalformedChunk);
                }
                State::Size
            }
            (State::Size, b';') if self.digits > 0 => State::ExtensionName { empty: true },
            (State::Size, b'\r') if self.digits > 0 => State::SizeLineFeed,
            (State::Size, _) => return Err(Refusal::MalformedChunk),
            (State::ExtensionName { .. }, byte) if octet::is_token(byte) => State::ExtensionName { empty: false },
            (State::ExtensionName { empty: false }, b'=') => State::ExtensionValue,
            (State::ExtensionValue, b'"') => State::ExtensionQuoted,
            (State::ExtensionValue | State::ExtensionToken, byte) if octet::is_token(byte) => State::ExtensionToken,
            (State::ExtensionQuoted, b'"') => State::ExtensionEnd,
            (State::ExtensionQuoted, b'\\') => State::ExtensionQuotedPair,
            (State::ExtensionQuoted | State::ExtensionQuotedPair, byte) if octet::is_field_value(byte) => {
                State::ExtensionQuoted
            }
            (State::ExtensionName { empty: false } | State::ExtensionToken | State::ExtensionEnd, b';') => {
                State::ExtensionName { empty: true }
            }
            (State::ExtensionName { empty: false } | State::ExtensionToken | State::ExtensionEnd, b'\r') => {
                State::SizeLineFeed
            }
            (State::SizeLineFeed, b'\n') => {
                self.digits = 0;
                self.extension = 0;
                State::Data
            }
            (State::SizeLineFeed, _) => return Err(Refusal::BareCr),
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size,
            (State::DataReturn | State::DataLineFeed, _) => return Err(Refusal::MalformedChunk),
            _ => return Err(Refusal::MalformedExtension),
        };
        if !matches!(
            self.state,
            State::Size | State::SizeLineFeed | State::Data | State::DataReturn | State::DataLineFeed
        ) {
            self.extension += 1;
            self.extensions += 1;
            if self.extension > LONGEST_EXTENSION || self.extensions > ALL_EXTENSIONS {
                return Err(Refusal::ExtensionTooLarge);
            }
        }
        Ok(())
    }
}

/// Extensions are read and dropped; nobody needs long ones, and endless ones are work without data.
const LONGEST_EXTENSION: usize = 256;

/// Of one body together.
const ALL_EXTENSIONS: usize = 16 * 1024;
