//! Tells HTTP/1, HTTP/2 and TLS apart by the first bytes that a client sends.

/// What every HTTP/2 client with prior knowledge sends first: RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A method longer than this is none that anybody has registered; RFC 9110 sets no bound.
const METHOD_MAX: usize = 32;

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A request line of HTTP/1.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// A TLS handshake record.
    Tls,
    /// None of these, whatever follows.
    Other,
    /// More bytes are needed.
    More,
}

/// Looks at the first bytes. A longer input never contradicts a shorter one that had an answer.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Sniffed {
    match bytes {
        [] | [22] => return Sniffed::More,
        [22, 3, ..] => return Sniffed::Tls,
        _ => {}
    }
    let compared = bytes.len().min(PREFACE.len());
    if bytes.get(..compared) == PREFACE.get(..compared) {
        return if compared == PREFACE.len() { Sniffed::Http2 } else { Sniffed::More };
    }
    http1(bytes)
}

/// `METHOD SP target SP HTTP/1.x`: the method and the first byte of the target must be right, and where a line is
/// whole it must end in the version. So a text protocol that begins with a word and a space is not taken for HTTP.
fn http1(bytes: &[u8]) -> Sniffed {
    // Empty lines before a request line are ignored by servers, RFC 9112 section 2.2.
    let mut start = bytes;
    while let Some(rest) = start.strip_prefix(b"\r\n") {
        start = rest;
    }
    if start.is_empty() || start == b"\r" {
        return if bytes.len() > 64 { Sniffed::Other } else { Sniffed::More };
    }
    let method = start.iter().take_while(|byte| is_token(**byte)).count();
    if method == 0 || method > METHOD_MAX {
        return Sniffed::Other;
    }
    let Some(rest) = start.get(method..) else { return Sniffed::More };
    match rest {
        [] | [b' '] => return Sniffed::More,
        [b' ', b'/' | b'*' | b'h' | b'H', ..] => {}
        // The authority form of CONNECT.
        [b' ', ..] if start.starts_with(b"CONNECT ") => {}
        _ => return Sniffed::Other,
    }
    match memchr::memchr(b'\n', rest) {
        Some(end) => {
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match line.split(|byte| *byte == b' ').next_back() {
                Some(version) if version.starts_with(b"HTTP/1.") => Sniffed::Http1,
                _ => Sniffed::Other,
            }
        }
        // A target as long as this is HTTP's or nobody's; the codec has the last word.
        None if rest.len() > 1024 => Sniffed::Http1,
        None => Sniffed::More,
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Sniffed::Http1),
            (b"\r\nGET / HTTP/1.1\r\n", Sniffed::Http1),
            (b"CONNECT a:1 HTTP/1.1\r\n", Sniffed::Http1),
            (b"OPTIONS * HTTP/1.1\r\n", Sniffed::Http1),
            (b"GET http://a/ HTTP/1.0\n", Sniffed::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n....", Sniffed::Http2),
            (b"\x16\x03\x01\x02", Sniffed::Tls),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Sniffed::Other),
            (b"GET /\r\n", Sniffed::Other),
            (b"GET / \r\n", Sniffed::Other),
            (b"HELO example\r\n", Sniffed::Other),
            (b"*1\r\n$4\r\nPING\r\n", Sniffed::Other),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Sniffed::Other),
            (b"\x16\x02", Sniffed::Other),
            (b"PRI * HTTP/2.1\r\n", Sniffed::Other),
            (b"PR", Sniffed::More),
            (b"GE", Sniffed::More),
            (b"GET ", Sniffed::More),
            (b"GET /index", Sniffed::More),
            (b"\x16", Sniffed::More),
            (b"", Sniffed::More),
        ] {
            assert_eq!(sniff(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_answer_stays() {
        for bytes in [&b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"[..], PREFACE, b"\x16\x03\x01\x00", b"EHLO mail\r\nx"] {
            let mut answer = None;
            for end in 0..=bytes.len() {
                let now = sniff(&bytes[..end]);
                if let Some(before) = answer {
                    assert_eq!(now, before);
                } else if now != Sniffed::More {
                    answer = Some(now);
                }
            }
            assert!(answer.is_some());
        }
    }
}
