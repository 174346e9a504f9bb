//! Writes heads, chunks and our own answers. What was judged is what is written: there is no second way out.

use std::io::Write;

use eastwall_policy::canonical::Framing;
use eastwall_policy::facts::Headers;

use super::body::BodyLength;
use super::lines::Lines;
use super::request::{RequestHead, Version};
use super::response::ResponseHead;

/// Appends the request as it goes to the upstream: canonical request line and Host, kept lines as they came, framing
/// in our spelling. It goes as HTTP/1.1, but for an HTTP/1.0 request without Host, which cannot.
pub fn request_head(head: &RequestHead, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method());
    out.push(b' ');
    match head.path() {
        Some(path) => out.extend_from_slice(path),
        None => out.extend_from_slice(head.authority().unwrap_or_default()),
    }
    if let Some(query) = head.query() {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    match head.authority() {
        Some(authority) => {
            out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
            out.extend_from_slice(authority);
            out.extend_from_slice(CRLF);
        }
        None => out.extend_from_slice(b" HTTP/1.0\r\n"),
    }
    kept_lines(&head.lines, head.framing(), out);
    if let Some(protocol) = head.upgrade() {
        upgrade(protocol, out);
    }
    out.extend_from_slice(CRLF);
}

/// Appends the response as it goes to the client. `close`: the connection ends with it.
///
/// A chunked response goes to a client of HTTP/1.0 as its bare data, ended by the connection: `close` must be set then
/// (see [`rechunks`]), as it must for [`BodyLength::UntilClose`].
pub fn response_head(head: &ResponseHead, client: Version, close: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = head.status();
    let _ = write!(out, "{status} ");
    out.extend_from_slice(head.reason());
    out.extend_from_slice(CRLF);
    let Framing { length, chunked } = head.framing();
    kept_lines(&head.lines, Framing { length, chunked: chunked && client == Version::Http11 }, out);
    if head.status() == 101 {
        upgrade(head.upgrade(), out);
    } else if !head.is_interim() && !head.is_tunnel() {
        connection(client, close, out);
    }
    out.extend_from_slice(CRLF);
}

/// Whether a body of this length goes out in chunks.
#[must_use]
pub fn rechunks(length: BodyLength, receiver: Version) -> bool {
    length == BodyLength::Chunked && receiver == Version::Http11
}

/// Appends one chunk. Nothing for no data: an empty chunk is the last one.
pub fn chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    chunk_start(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(CRLF);
}

/// Appends the size line of a chunk whose data is written by other means; [`CRLF`] must follow it.
pub fn chunk_start(length: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "{length:x}\r\n");
}

/// Appends the last chunk and the trailers (which [`super::BodyReader`] has judged).
pub fn last_chunk(trailers: Headers<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter() {
        line(name, value, out);
    }
    out.extend_from_slice(CRLF);
}

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// Further lines.
    pub lines: &'a [(&'static str, &'a str)],
    /// Text, with its line end.
    pub body: &'a str,
    /// To a HEAD request: the body's length without the body.
    pub head: bool,
    /// The client's version.
    pub client: Version,
    /// The connection ends with it.
    pub close: bool,
}

/// Appends an answer of our own.
pub fn answer(answer: &Answer<'_>, out: &mut Vec<u8>) {
    let Answer { status, lines, body, head, client, close } = *answer;
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in lines {
        line(name.as_bytes(), value.as_bytes(), out);
    }
    let _ = write!(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n", body.len());
    connection(client, close, out);
    out.extend_from_slice(CRLF);
    if !head {
        out.extend_from_slice(body.as_bytes());
    }
}

fn kept_lines(lines: &Lines, framing: Framing, out: &mut Vec<u8>) {
    for field in &lines.fields {
        match lines.part(field.name) {
            // Ours to write: Host stands first, framing last, each exactly once.
            b"host" | b"content-length" | b"transfer-encoding" => {}
            _ => line(lines.spelling(field), lines.part(field.value), out),
        }
    }
    if let Some(length) = framing.length {
        let _ = write!(out, "Content-Length: {length}\r\n");
    }
    if framing.chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
}

fn upgrade(protocol: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"Connection: Upgrade\r\n");
    line(b"Upgrade", protocol, out);
}

fn connection(client: Version, close: bool, out: &mut Vec<u8>) {
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if client == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(CRLF);
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Refused")
}

/// The only line end.
pub const CRLF: &[u8] = b"\r\n";

/// What a client that expects `100-continue` is told where the proxy itself answers.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
