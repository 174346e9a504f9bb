//! Reads the ClientHello of a TLS connection out of its first bytes, over as many records as it was cut into.
//!
//! SPEC: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3, RFC 7301. Sans-I/O: the caller reads until there is an
//! answer. Whatever two readers could understand differently is an error.

/// What a ClientHello says in clear.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server name as it was sent; `None` where there is none.
    pub server_name: Option<Vec<u8>>,
    /// The first application protocol offered.
    pub application_protocol: Option<Vec<u8>>,
    /// Encrypted ClientHello is there: the server name in clear is not the one that counts.
    pub encrypted: bool,
}

/// Why the first bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a TLS handshake record, or no ClientHello in it.
    #[error("not a TLS ClientHello")]
    NotTls,
    /// A length that does not fit, or the same extension twice.
    #[error("malformed TLS ClientHello")]
    Malformed,
    /// Longer than the bound.
    #[error("TLS ClientHello over the limit")]
    TooLong,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// RFC 8446 section 5.1.
const RECORD_MAX: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// The draft's ESNI, which hides the name likewise.
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;

/// Reads a ClientHello from the start of `bytes`: `Ok(None)` when more bytes are needed. At most `limit` bytes of
/// handshake are gathered.
pub fn read(bytes: &[u8], limit: usize) -> Result<Option<ClientHello>, HelloError> {
    let mut gathered = Vec::new();
    let mut rest = Reader(bytes);
    loop {
        match (rest.0.first(), rest.0.get(1)) {
            (Some(&HANDSHAKE), None | Some(3)) => {}
            (None, _) => return Ok(None),
            _ => return Err(HelloError::NotTls),
        }
        let (Some(_), Some(length)) = (rest.take(3), rest.number(2)) else { return Ok(None) };
        if length == 0 || length > RECORD_MAX {
            return Err(HelloError::Malformed);
        }
        let whole = rest.0.len() >= length;
        let fragment = rest.take(length.min(rest.0.len())).unwrap_or_default();
        if gathered.is_empty() && whole && fragment.len() >= 4 {
            // The usual case: one record, nothing to gather.
            if let Some(hello) = message(fragment, limit)? {
                return Ok(Some(hello));
            }
        }
        gathered.extend_from_slice(fragment);
        if let Some(hello) = message(&gathered, limit)? {
            return Ok(Some(hello));
        }
        if !whole {
            return Ok(None);
        }
    }
}

/// A handshake message that must be a ClientHello; `Ok(None)` when it is not whole yet.
fn message(bytes: &[u8], limit: usize) -> Result<Option<ClientHello>, HelloError> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::NotTls);
    }
    let mut reader = Reader(bytes);
    let (Some(_), Some(length)) = (reader.take(1), reader.number(3)) else { return Ok(None) };
    if length > limit {
        return Err(HelloError::TooLong);
    }
    match reader.take(length) {
        Some(body) => self::body(body).map(Some).ok_or(HelloError::Malformed),
        None => Ok(None),
    }
}

fn body(bytes: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(bytes);
    reader.take(2 + 32)?; // version, random
    reader.block(1)?; // session id
    reader.block(2)?; // cipher suites
    reader.block(1)?; // compression methods
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.block(2)?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = u16::try_from(extensions.number(2)?).ok()?;
        let content = extensions.block(2)?;
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.server_name = Some(server_name(content)?.to_vec()),
            ALPN => hello.application_protocol = Some(first_protocol(content)?.to_vec()),
            ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SERVER_NAME => hello.encrypted = true,
            _ => {}
        }
    }
    Some(hello)
}

/// Exactly one name, of the one type there is.
fn server_name(bytes: &[u8]) -> Option<&[u8]> {
    let mut outer = Reader(bytes);
    let mut list = Reader(outer.block(2)?);
    let kind = list.number(1)?;
    let name = list.block(2)?;
    (kind == 0 && !name.is_empty() && list.0.is_empty() && outer.0.is_empty()).then_some(name)
}

fn first_protocol(bytes: &[u8]) -> Option<&[u8]> {
    let mut outer = Reader(bytes);
    let mut list = Reader(outer.block(2)?);
    let first = list.block(1)?;
    while !list.0.is_empty() {
        list.block(1)?;
    }
    (!first.is_empty() && outer.0.is_empty()).then_some(first)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        self.take(width).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes behind their length, which has `width` bytes.
    fn block(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        let name = name.as_bytes();
        let entry = [&[0][..], &(name.len() as u16).to_be_bytes(), name].concat();
        extension(SERVER_NAME, &[&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let extensions = extensions.concat();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let length = (body.len() as u32).to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message
            .chunks(size)
            .flat_map(|part| [&[HANDSHAKE, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat())
            .collect()
    }

    fn alpn() -> Vec<u8> {
        extension(ALPN, b"\x00\x0c\x02h2\x08http/1.1")
    }

    #[test]
    fn a_hello_is_read_whole_or_in_pieces() {
        let message = hello(&[sni("Orders.Shop"), alpn()]);
        for size in [message.len(), 1, 3, 40] {
            let bytes = records(&message, size);
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut], 16384), Ok(None), "{size} {cut}");
            }
            let hello = read(&bytes, 16384).unwrap().unwrap();
            assert_eq!(hello.server_name.as_deref(), Some(&b"Orders.Shop"[..]));
            assert_eq!(hello.application_protocol.as_deref(), Some(&b"h2"[..]));
            assert!(!hello.encrypted);
        }
    }

    #[test]
    fn what_is_absent_and_what_is_hidden() {
        assert_eq!(read(&records(&hello(&[]), 999), 16384), Ok(Some(ClientHello::default())));
        let hidden = read(&records(&hello(&[sni("public"), extension(ENCRYPTED_CLIENT_HELLO, b"x")]), 999), 16384);
        assert!(hidden.unwrap().unwrap().encrypted);
    }

    #[test]
    fn ambiguity_and_excess_are_refused() {
        let two_names = {
            let entry = b"\x00\x00\x01a\x00\x00\x01b";
            extension(SERVER_NAME, &[&[0, entry.len() as u8][..], entry].concat())
        };
        for (extensions, error) in [
            (vec![sni("a"), sni("b")], HelloError::Malformed),
            (vec![two_names], HelloError::Malformed),
            (vec![sni("")], HelloError::Malformed),
            (vec![extension(SERVER_NAME, b"\x00")], HelloError::Malformed),
            (vec![extension(21, &[0; 3000])], HelloError::TooLong),
        ] {
            assert_eq!(read(&records(&hello(&extensions), 9999), 2000), Err(error));
        }
        assert_eq!(read(b"GET / HTTP/1.1\r\n", 2000), Err(HelloError::NotTls));
        assert_eq!(read(b"\x16\x02", 2000), Err(HelloError::NotTls));
        assert_eq!(read(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 2000), Err(HelloError::NotTls));
        assert_eq!(read(b"\x16\x03\x01\x00\x00", 2000), Err(HelloError::Malformed));
    }
}
