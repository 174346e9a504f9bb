//! Classes of octets, as the RFCs define them.

/// RFC 9110 5.6.2 `tchar`: what names, methods and options are made of.
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// A whole, non-empty RFC 9110 `token`.
#[must_use]
pub fn is_whole_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token)
}

/// RFC 9110 5.5: what a field value may hold. Obs-text (0x80-0xFF) passes: it is matched and forwarded as bytes, so an
/// octet that is no UTF-8 cannot make a pattern fail open.
#[must_use]
pub const fn is_field_value(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7F) || byte == b'\t'
}

/// RFC 3986 2.3: an escape of one of these means the same as the octet itself.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The value of two hexadecimal digits at the front of `digits`.
pub(super) fn escape(digits: &[u8]) -> Option<u8> {
    let nibble = |byte: &u8| char::from(*byte).to_digit(16);
    let (high, low) = (digits.first().and_then(nibble)?, digits.get(1).and_then(nibble)?);
    u8::try_from(high << 4 | low).ok()
}

/// Without the optional whitespace around it (RFC 9110 5.6.3: space and tab, nothing else).
#[must_use]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
