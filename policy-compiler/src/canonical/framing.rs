//! Where a message ends: Content-Length and Transfer-Encoding, strictly.

use super::Refusal;

/// What the framing fields of one head say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Framing {
    /// Content-Length.
    pub length: Option<u64>,
    /// Transfer-Encoding is exactly `chunked`.
    pub chunked: bool,
}

impl Framing {
    /// Takes one header line into account; lines of other names are none of its business.
    ///
    /// # Errors
    /// A second length, a second encoding, one beside the other, or a value that is not canonical.
    pub fn line(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Refusal::SeveralLengths);
            }
            if self.chunked {
                return Err(Refusal::LengthWithEncoding);
            }
            self.length = Some(length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.length.is_some() {
                return Err(Refusal::LengthWithEncoding);
            }
            if self.chunked || value != b"chunked" {
                return Err(Refusal::TransferEncoding);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// One decimal number without sign, list, or leading zero: a second spelling of a number is a second reading.
fn length(value: &[u8]) -> Result<u64, Refusal> {
    let canonical = matches!(value, [b'0'] | [b'1'..=b'9', ..]);
    if !canonical || value.len() > LONGEST_LENGTH {
        return Err(Refusal::MalformedLength);
    }
    value.iter().try_fold(0_u64, |length, digit| match digit {
        b'0'..=b'9' => Ok(length * 10 + u64::from(digit - b'0')),
        _ => Err(Refusal::MalformedLength),
    })
}

/// 18 digits are an exabyte and fit every integer type that a server may count with.
const LONGEST_LENGTH: usize = 18;
