//! Literal bytes in, verdict of the codec out. "attack N" is the number of the case in the project's list.

use std::sync::Arc;

use eastwall_policy::canonical::{Refusal, Scheme};
use eastwall_policy::facts::Fact;
use eastwall_policy::model::HttpOption;
use eastwall_policy::world::CanonicalScope;
use proptest::prelude::*;

use super::*;

use Refusal::*;

fn read_in(input: &[u8], scope: &CanonicalScope) -> Result<Option<RequestHead>, Refusal> {
    let mut head = RequestHead::default();
    let read = head.read(input, HeadLimits::default(), scope, Scheme::Http)?;
    Ok(read.map(|_| head))
}

fn read(input: &[u8]) -> Result<Option<RequestHead>, Refusal> {
    read_in(input, &CanonicalScope::default())
}

fn forwarded(input: &[u8]) -> Result<String, Refusal> {
    let head = read(input)?.expect("a whole head");
    let mut out = Vec::new();
    write::request_head(&head, &mut out);
    Ok(out.escape_ascii().to_string().replace("\\r\\n", "\n"))
}

/// Every head without its `Host: a` and end, unless it ends in an empty line itself.
fn head_of(text: &str) -> Vec<u8> {
    if text.ends_with("\r\n\r\n") {
        return text.as_bytes().to_vec();
    }
    let (start, rest) = text.split_once("\r\n").unwrap_or((text, ""));
    let rest = if rest.is_empty() { String::new() } else { format!("{rest}\r\n") };
    format!("{start}\r\nHost: a\r\n{rest}\r\n").into_bytes()
}

#[test]
fn request_heads_are_accepted_or_refused() {
    let cases: &[(&str, &str, Result<(), Refusal>)] = &[
        ("plain", "GET / HTTP/1.1", Ok(())),
        ("plain", "GET / HTTP/1.0\r\n\r\n", Ok(())),
        ("plain", "get /x?y HTTP/1.1\r\nX-A:b\r\nX-B:\t c \t", Ok(())),
        ("empty value", "GET / HTTP/1.1\r\nX-A:\r\nX-B:  ", Ok(())),
        ("obs-text is data", "GET / HTTP/1.1\r\nX-A: caf\u{e9}", Ok(())),
        ("odd names", "GET / HTTP/1.1\r\nX!#$%&'*+-.^_`|~: b", Ok(())),
        ("leading empty line", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(MalformedStartLine)),
        ("no method", " / HTTP/1.1", Err(MalformedMethod)),
        ("no method", " GET / HTTP/1.1", Err(MalformedMethod)),
        ("method", "G(T / HTTP/1.1", Err(MalformedMethod)),
        ("method", "GET: / HTTP/1.1", Err(MalformedMethod)),
        ("method", "GET\0 / HTTP/1.1", Err(MalformedMethod)),
        ("tab", "GET\t/ HTTP/1.1", Err(MalformedMethod)),
        ("two spaces", "GET  / HTTP/1.1", Err(MalformedStartLine)),
        ("two spaces", "GET /  HTTP/1.1", Err(MalformedStartLine)),
        ("space in target", "GET /a b HTTP/1.1", Err(MalformedStartLine)),
        ("trailing space", "GET / HTTP/1.1 ", Err(MalformedStartLine)),
        ("no target", "GET HTTP/1.1", Err(MalformedStartLine)),
        ("HTTP/0.9", "GET /\r\n", Err(MalformedStartLine)),
        ("version", "GET / HTTP/1.2", Err(UnsupportedVersion)),
        ("version", "GET / HTTP/2.0", Err(UnsupportedVersion)),
        ("version", "PRI * HTTP/2.0\r\n\r\n", Err(UnsupportedVersion)),
        ("version", "GET / HTTP/9.9", Err(UnsupportedVersion)),
        ("version", "GET / HTTP/0.9", Err(MalformedStartLine)),
        ("version", "GET / HTTP/1", Err(MalformedStartLine)),
        ("version", "GET / HTTP/1.10", Err(MalformedStartLine)),
        ("version", "GET / HTTP/01.1", Err(MalformedStartLine)),
        ("version", "GET / http/1.1", Err(MalformedStartLine)),
        ("version", "GET / HTTPS/1.1", Err(MalformedStartLine)),
        ("version", "GET / RTSP/1.1", Err(MalformedStartLine)),
        ("target", "GET /a\0b HTTP/1.1", Err(TargetCharacter)),
        ("target", "GET /a\x7fb HTTP/1.1", Err(TargetCharacter)),
        ("target", "GET /caf\u{e9} HTTP/1.1", Err(NonAsciiTarget)),
        ("target", "GET foo HTTP/1.1", Err(MalformedTarget)),
        ("target", "GET a:443 HTTP/1.1", Err(MalformedTarget)),
        ("attack 1", "GET /../x HTTP/1.1", Err(AboveRoot)),
        ("attack 2", "GET /a%2fb HTTP/1.1", Err(EscapedSlash)),
        ("attack 4", "GET /admin#foo HTTP/1.1", Err(Fragment)),
        ("attack 5", "GET /productpage#x HTTP/1.1", Err(Fragment)),
        ("attack 11", "GET http://evil/admin HTTP/1.1", Err(HostMismatch)),
        ("attack 11", "GET http://a/admin HTTP/1.1", Ok(())),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\0c", Err(ControlInValue)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\x0bc", Err(ControlInValue)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\x7fc", Err(ControlInValue)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\rc", Err(BareCr)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\nX-B: c", Err(BareLf)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\n\nGET / HTTP/1.1", Err(BareLf)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\r\n c", Err(FoldedLine)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A: b\r\n\tc", Err(FoldedLine)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A : b", Err(SpaceBeforeColon)),
        ("attack 20", "GET / HTTP/1.1\r\nX-A\t: b", Err(SpaceBeforeColon)),
        ("attack 20", "GET / HTTP/1.1\nHost: a\r\n\r\n", Err(BareLf)),
        ("attack 20", "GET / HTTP/1.1\rHost: a\r\n\r\n", Err(BareCr)),
        ("attack 20", "GET / HTTP/1.1\r\n X-A: b\r\nHost: a\r\n\r\n", Err(FoldedLine)),
        ("name", "GET / HTTP/1.1\r\n: b", Err(MalformedName)),
        ("name", "GET / HTTP/1.1\r\nNoColon", Err(MalformedName)),
        ("name", "GET / HTTP/1.1\r\nBad[Name: b", Err(MalformedName)),
        ("name", "GET / HTTP/1.1\r\nB d: b", Err(MalformedName)),
        ("name", "GET / HTTP/1.1\r\nX\0A: b", Err(MalformedName)),
        ("name", "GET / HTTP/1.1\r\nX-\u{e9}: b", Err(MalformedName)),
        ("attack 23", "GET / HTTP/1.1\r\n\r\n", Err(MissingHost)),
        ("attack 23", "GET / HTTP/1.1\r\nHost: a", Err(SeveralHosts)),
        ("attack 23", "GET / HTTP/1.1\r\nHost: \r\n\r\n", Err(MalformedHost)),
        ("attack 23", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Err(MalformedHost)),
        ("attack 23", "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", Err(MalformedHost)),
        ("attack 23", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Err(MalformedHost)),
        ("attack 23", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Err(MalformedHost)),
        ("attack 23", "GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", Err(MalformedHost)),
        ("attack 23", "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(HostMismatch)),
        ("attack 23", "GET http://A./ HTTP/1.1\r\nHost: a\r\n\r\n", Ok(())),
        ("attack 23", "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", Err(MalformedHost)),
        ("attack 25", "GET hTTp://a/ HTTP/1.1", Ok(())),
        ("attack 25", "GET hTTpS://a/ HTTP/1.1", Err(WrongScheme)),
        ("attack 25", "GET ftp://a/ HTTP/1.1", Err(WrongScheme)),
        ("attack 27", "GET / HTTP/1.1\r\nConnection: host", Err(NominatedHeader)),
        ("attack 27", "POST / HTTP/1.1\r\nContent-Length: 1\r\nConnection: content-length", Err(NominatedHeader)),
        (
            "attack 35",
            "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA",
            Err(Http2Upgrade),
        ),
        ("attack 35", "GET / HTTP/1.1\r\nUpgrade: H2C", Err(Http2Upgrade)),
        ("attack 35", "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c", Err(Http2Upgrade)),
        ("attack 35", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket, h2c", Err(Http2Upgrade)),
        ("attack 35", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: h2c", Err(Http2Upgrade)),
        ("attack 35", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: HTTP/2.0", Err(Http2Upgrade)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", Err(LengthWithEncoding)),
        ("attack 31", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", Err(LengthWithEncoding)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5", Err(SeveralLengths)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 6", Err(SeveralLengths)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: 5, 5", Err(MalformedLength)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: +5", Err(MalformedLength)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: 0x5", Err(MalformedLength)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: 1_0", Err(MalformedLength)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999", Err(MalformedLength)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length:", Err(MalformedLength)),
        ("attack 31", "POST / HTTP/1.1\r\nContent-Length : 5", Err(SpaceBeforeColon)),
        ("attack 31", "POST / HTTP/1.1\r\nContent_Length: 5", Err(FoldedName)),
        ("attack 31", "POST / HTTP/1.1\r\nTransfer-Encoding : chunked", Err(SpaceBeforeColon)),
        ("attack 31", "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked", Err(FoldedLine)),
        ("attack 31", "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked", Err(TransferEncoding)),
        ("attack 31", "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked", Err(ControlInValue)),
        ("attack 31", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity", Err(TransferEncoding)),
        ("attack 31", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", Err(TransferEncoding)),
        (
            "attack 31",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Err(TransferEncoding),
        ),
        ("attack 32", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked", Err(MisplacedEncoding)),
        ("attack 33", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket, x", Err(MalformedUpgrade)),
        ("attack 33", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b", Err(MalformedUpgrade)),
        (
            "attack 33",
            "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3",
            Err(MalformedUpgrade),
        ),
        ("attack 34", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 3\r\n\r\n", Err(MalformedUpgrade)),
        ("attack 39", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Ok(())),
        ("attack 39", "CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", Err(HostMismatch)),
        ("attack 39", "CONNECT a HTTP/1.1", Err(MalformedTarget)),
        ("attack 39", "CONNECT / HTTP/1.1", Err(MalformedTarget)),
        ("attack 39", "OPTIONS * HTTP/1.1", Ok(())),
        ("attack 39", "GET * HTTP/1.1", Err(MalformedTarget)),
        ("override", "GET / HTTP/1.1\r\nX-HTTP-Method-Override: DELETE", Err(OverrideHeader)),
        ("override", "GET / HTTP/1.1\r\nX-Original-URL: /admin", Err(OverrideHeader)),
        ("expect", "POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1", Ok(())),
        ("expect", "POST / HTTP/1.1\r\nExpect: 200-ok", Err(UnknownExpectation)),
        ("expect", "POST / HTTP/1.0\r\nExpect: 200-ok", Ok(())),
    ];
    for (attack, text, expected) in cases {
        let found = read(&head_of(text)).map(|head| assert!(head.is_some(), "{text:?} is whole"));
        assert_eq!(found, *expected, "{attack}: {text:?}");
    }
}

#[test]
fn what_no_request_begins_with_is_refused_at_once() {
    for (start, expected) in [
        (b"".as_slice(), None),
        (b"G", None),
        (b"GET /", None),
        (b"GET / HTTP/1.1\r", None),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
        (b"\x16\x03\x01", Some(MalformedMethod)),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Some(MalformedStartLine)),
        (b"*1\r\n$4\r\nPING\r\n", Some(MalformedStartLine)),
        (b"GET /\r\n", Some(MalformedStartLine)),
        (b"GET / HTTP/1.1\n", Some(BareLf)),
        (b"GET / HTTP/1.1\rX", Some(BareCr)),
        (b"GET / HTTP/1.1\r\nX: a\rb", Some(BareCr)),
        (b"GET / HTTP/1.1\r\nX: a\n", Some(BareLf)),
        (b"GET / HTTP/1.1\r\n x\r\n", Some(FoldedLine)),
        (&[b'A'; 64], None),
        (&[b'A'; 65], Some(MalformedMethod)),
    ] {
        let found = read(start).map(|head| assert!(head.is_none()));
        assert_eq!(found.err(), expected, "{}", start.escape_ascii());
    }
}

#[test]
fn half_a_head_leaves_nothing_behind() {
    let (limits, scope) = (HeadLimits::default(), CanonicalScope::default());
    let half = b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: something that is longer than the next head";
    let next = b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n";
    let mut request = RequestHead::default();
    assert_eq!(request.read(half, limits, &scope, Scheme::Http), Ok(None));
    assert_eq!(request.read(next, limits, &scope, Scheme::Http), Err(BareLf));
    let mut response = ResponseHead::default();
    assert_eq!(response.read(b"HTTP/1.1 200 OK\r\nX-Long: something longer", limits, Asked::default()), Ok(None));
    assert_eq!(response.read(b"HTTP/1.1 200 OK\nX: b\r\n\r\n", limits, Asked::default()), Err(BareLf));
}

#[test]
fn attack_30_limits_count_what_was_received() {
    let limits = HeadLimits { bytes: 200, fields: 4 };
    let scope = CanonicalScope::default();
    let check = |input: &[u8]| RequestHead::default().read(input, limits, &scope, Scheme::Http);
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes();
    assert!(check(&with("A: 1\r\nB: 2\r\nC: 3\r\n")).unwrap().is_some());
    assert_eq!(check(&with("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n")), Err(TooManyFields));
    // Lines that are removed, or refused later, count like any other.
    assert_eq!(check(&with("Host: a\r\nHost: a\r\nHost: a\r\nHost: a\r\n")), Err(TooManyFields));
    assert_eq!(check(&with("X-Eastwall-A: 1\r\nTE: a\r\nConnection: b\r\nB: 1\r\n")), Err(TooManyFields));
    let filler = |length: usize| with(&format!("A: {}\r\n", "x".repeat(length)));
    let fits = 200 - filler(0).len();
    assert!(check(&filler(fits)).unwrap().is_some());
    assert_eq!(check(&filler(fits + 1)), Err(HeadTooLarge));
    assert_eq!(check(&filler(fits)[..199]), Ok(None));
    assert_eq!(check(format!("GET /{}", "x".repeat(300)).as_bytes()), Err(TargetTooLong));
    assert_eq!(check(format!("GET /{}\n\r\n", "x".repeat(300)).as_bytes()), Err(TargetTooLong));
    assert_eq!(check(format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(300)).as_bytes()), Err(HeadTooLarge));
    // No setting goes beyond the parser's table.
    let many = with(&"A: 1\r\n".repeat(MAX_FIELDS));
    let limits = HeadLimits { bytes: usize::MAX, fields: usize::MAX };
    assert_eq!(RequestHead::default().read(&many, limits, &scope, Scheme::Http), Err(TooManyFields));
}

#[test]
fn attack_13_a_canonical_request_is_forwarded_byte_for_byte() {
    let text = "GET /orders/7?a=%20&b HTTP/1.1\r\nHost: orders.shop:8080\r\nX-RoLe: a, b\r\nAccept: */*\r\n\r\n";
    let mut out = Vec::new();
    write::request_head(&read(text.as_bytes()).unwrap().unwrap(), &mut out);
    assert_eq!(out, text.as_bytes());
}

#[test]
fn what_is_forwarded_is_what_was_judged() {
    for (attack, text, expected) in [
        ("attack 1", "GET /public/%2e%2e/admin?x HTTP/1.1", "GET /admin?x HTTP/1.1\nHost: a\n\n"),
        ("attack 3", "GET //admin HTTP/1.1", "GET /admin HTTP/1.1\nHost: a\n\n"),
        ("empty query", "GET /x? HTTP/1.1", "GET /x? HTTP/1.1\nHost: a\n\n"),
        ("attack 11", "GET http://a/x?y HTTP/1.1", "GET /x?y HTTP/1.1\nHost: a\n\n"),
        ("attack 23", "GET / HTTP/1.1\r\nHost: SVC.:8080\r\n\r\n", "GET / HTTP/1.1\nHost: svc:8080\n\n"),
        ("attack 39", "OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1\nHost: a\n\n"),
        ("attack 39", "OPTIONS http://a HTTP/1.1", "OPTIONS * HTTP/1.1\nHost: a\n\n"),
        ("attack 39", "CONNECT A:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT a:443 HTTP/1.1\nHost: a:443\n\n"),
        ("attack 26", "GET / HTTP/1.1\r\nX-Eastwall-Source: x\r\nx_eastwall_y: z", "GET / HTTP/1.1\nHost: a\n\n"),
        (
            "attack 27",
            "GET / HTTP/1.1\r\nX-One: 1\r\nX-Two: 2\r\nConnection: X-One, close\r\nKeep-Alive: 5",
            "GET / HTTP/1.1\nHost: a\nX-Two: 2\n\n",
        ),
        (
            "attack 33",
            "GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13",
            "GET / HTTP/1.1\nHost: a\nSec-WebSocket-Version: 13\nConnection: Upgrade\nUpgrade: websocket\n\n",
        ),
        ("attack 33", "GET / HTTP/1.1\r\nUpgrade: websocket", "GET / HTTP/1.1\nHost: a\n\n"),
        (
            "HTTP/1.0 does not upgrade",
            "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket",
            "GET / HTTP/1.1\nHost: a\n\n",
        ),
        ("no Host", "GET /x HTTP/1.0\r\n\r\n", "GET /x HTTP/1.0\n\n"),
        ("Host from the target", "GET http://A/x HTTP/1.0\r\n\r\n", "GET /x HTTP/1.1\nHost: a\n\n"),
        (
            "framing",
            "POST / HTTP/1.1\r\ncontent-LENGTH:  5\r\nA:b",
            "POST / HTTP/1.1\nHost: a\nA: b\nContent-Length: 5\n\n",
        ),
        (
            "framing",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nTE: trailers\r\nTrailer: x",
            "POST / HTTP/1.1\nHost: a\nTrailer: x\nTransfer-Encoding: chunked\n\n",
        ),
        (
            "expect",
            "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1",
            "POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 1\n\n",
        ),
        (
            "expect",
            "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1",
            "POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\n",
        ),
    ] {
        assert_eq!(forwarded(&head_of(text)).as_deref(), Ok(expected), "{attack}: {text:?}");
    }
}

#[test]
fn rules_see_what_is_forwarded() {
    let head = read(b"GET /a/../b?c HTTP/1.1\r\nHost: SVC.:80\r\nX-Role:  One \r\nx-ROLE: two\r\nTE: x\r\n\r\n");
    let head = head.unwrap().unwrap();
    let facts = head.facts(7);
    assert_eq!(facts.method, Fact::Known(b"GET".as_slice()));
    assert_eq!(facts.path, Fact::Known(b"/b".as_slice()));
    assert_eq!(facts.query, Fact::Known(b"c".as_slice()));
    assert_eq!(facts.host, Fact::Known(b"svc".as_slice()));
    assert_eq!(facts.host_port, Some(80));
    assert_eq!(facts.upgrade, Fact::Absent);
    assert_eq!(facts.now, 7);
    let Fact::Known(headers) = facts.headers else { panic!("headers are known") };
    let lines: Vec<_> = headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let expected = [("host", "svc:80"), ("x-role", "One"), ("x-role", "two")];
    assert_eq!(lines, expected.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
    // attack 39
    let head = read(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").unwrap().unwrap();
    assert_eq!(head.facts(0).path, Fact::Unknown);
    assert_eq!(head.facts(0).upgrade, Fact::Known(b"connect".as_slice()));
    let head = read(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
    assert_eq!(head.facts(0).path, Fact::Known(b"*".as_slice()));
}

#[test]
fn watched_headers_cannot_be_hidden() {
    let scope = CanonicalScope { watched_headers: vec![Arc::from("x-role")], ..CanonicalScope::default() };
    for (attack, lines, expected) in [
        ("attack 27", "Connection: X-Role\r\nX-Role: user", Some(NominatedHeader)),
        ("attack 27", "Connection: close\r\nConnection: a,x_role\r\n", Some(NominatedHeader)),
        ("folding", "X_Role: admin", Some(FoldedName)),
        ("attack 19", "X-Role: user\r\nx-role: admin", None),
        ("attack 21", "X-Role: user\u{ff}", None),
    ] {
        let found = read_in(&head_of(&format!("GET / HTTP/1.1\r\n{lines}")), &scope);
        assert_eq!(found.err(), expected, "{attack}: {lines}");
    }
}

#[test]
fn a_refusal_that_keeps_the_connection_knows_where_the_message_ends() {
    let mut head = RequestHead::default();
    let text = b"POST /a%2fb HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Original-Url: /\r\n\r\nhello";
    let refusal = head.read(text, HeadLimits::default(), &CanonicalScope::default(), Scheme::Http).unwrap_err();
    assert!(!refusal.closes());
    assert_eq!(head.consumed(), Some(text.len() - 5));
    assert_eq!(head.body_length(), BodyLength::Length(5));
    assert_eq!((head.method(), head.raw_target()), (b"POST".as_slice(), b"/a%2fb".as_slice()));
}

#[test]
fn opt_ins_of_the_port_apply() {
    let mut scope = CanonicalScope::default();
    scope.options.escaped_slash = HttpOption::Decode;
    let head = read_in(b"GET /a%2Fadmin HTTP/1.1\r\nHost: a\r\n\r\n", &scope).unwrap().unwrap();
    assert_eq!(head.path(), Some(b"/a/admin".as_slice()), "attack 2");
}

#[test]
fn connections_are_kept_by_the_rules_of_their_version() {
    for (text, expected) in [
        ("GET / HTTP/1.1", true),
        ("GET / HTTP/1.1\r\nConnection: close", false),
        ("GET / HTTP/1.1\r\nConnection: Keep-Alive, CLOSE", false),
        ("GET / HTTP/1.1\r\nConnection: x\r\nConnection: close", false),
        ("GET / HTTP/1.0", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close", false),
    ] {
        assert_eq!(read(&head_of(text)).unwrap().unwrap().keep_alive(), expected, "{text:?}");
    }
}

#[test]
fn attack_37_pipelined_bytes_stay() {
    let text = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut head, mut body) = (RequestHead::default(), BodyReader::new(HeadLimits::default()));
    let scope = CanonicalScope::default();
    let mut rest = text.as_slice();
    let taken = head.read(rest, HeadLimits::default(), &scope, Scheme::Http).unwrap().unwrap();
    rest = &rest[taken..];
    body.begin(head.body_length());
    let piece = body.read(rest).unwrap();
    assert_eq!((piece.data, piece.consumed, piece.end), (b"abc".as_slice(), 3, true));
    rest = &rest[piece.consumed..];
    let taken = head.read(rest, HeadLimits::default(), &scope, Scheme::Http).unwrap().unwrap();
    assert_eq!((head.path(), taken), (Some(b"/b".as_slice()), rest.len()));
    body.begin(head.body_length());
    assert!(body.is_ended());
}

fn body_of(length: BodyLength, input: &[u8]) -> Result<(Vec<u8>, usize, bool), Refusal> {
    let mut body = BodyReader::new(HeadLimits { bytes: 100, fields: 3 });
    body.begin(length);
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let piece = body.read(&input[at..])?;
        data.extend_from_slice(piece.data);
        at += piece.consumed;
        if piece.end || piece.consumed == 0 {
            return Ok((data, at, piece.end));
        }
    }
}

#[test]
fn chunked_bodies_are_strict() {
    type Case<'a> = (&'a str, &'a [u8], Result<(&'a str, usize), Refusal>);
    let cases: &[Case<'_>] = &[
        ("plain", b"5\r\nhello\r\n0\r\n\r\nGET", Ok(("hello", 15))),
        ("plain", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", Ok(("hello world", 26))),
        ("plain", b"a\r\n0123456789\r\n00\r\n\r\n", Ok(("0123456789", 21))),
        ("plain", b"0005\r\nhello\r\n0\r\n\r\n", Ok(("hello", 18))),
        ("trailers", b"1\r\nx\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\nGET", Ok(("x", 29))),
        ("extension", b"1;a\r\nx\r\n0;b=c;d=\"e \\\" f\";g\r\n\r\n", Ok(("x", 30))),
        ("attack 31", b"0x1\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"+1\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"-1\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b" 1\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"1 \r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"1\t;a\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"1_0\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b";a\r\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"1\nx\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"1\rx\r\n0\r\n\r\n", Err(BareCr)),
        ("attack 31", b"1\r\nx\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"1\r\nx\rx0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"1\r\nxy\r\n0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"5\r\nhello0\r\n\r\n", Err(MalformedChunk)),
        ("attack 31", b"FFFFFFFFFFFFFFFF\r\n", Err(MalformedChunk)),
        ("attack 31", b"10000000000000001\r\nx", Err(MalformedChunk)),
        ("attack 31", b"0000000000000001\r\nx", Err(MalformedChunk)),
        ("extension", b"1;\r\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("extension", b"1;a=\r\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("extension", b"1;a b\r\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("extension", b"1;a=\"b\r\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("extension", b"1;a=\"b\"c\r\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("extension", b"1;a\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("extension", b"1;a\rb\r\nx\r\n0\r\n\r\n", Err(BareCr)),
        ("extension", b"1;\0a\r\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("extension", b"1;bad[=x\r\nx\r\n0\r\n\r\n", Err(MalformedExtension)),
        ("trailers", b"0\r\n\n", Err(BareLf)),
        ("trailers", b"0\r\nX: a\n\r\n", Err(BareLf)),
        ("trailers", b"0\r\nX: a\r\n b\r\n\r\n", Err(FoldedLine)),
        ("trailers", b"0\r\n X: a\r\n\r\n", Err(FoldedLine)),
        ("trailers", b"0\r\nX : a\r\n\r\n", Err(SpaceBeforeColon)),
        ("trailers", b"0\r\nX\r\n\r\n", Err(MalformedName)),
        ("trailers", b"0\r\nX: a\0\r\n\r\n", Err(ControlInValue)),
        ("trailers", b"0\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n", Err(TooManyFields)),
    ];
    for (what, input, expected) in cases {
        let found = body_of(BodyLength::Chunked, input).map(|(data, consumed, end)| {
            assert!(end, "{what}: {}", input.escape_ascii());
            (String::from_utf8(data).unwrap(), consumed)
        });
        let expected = expected.map(|(data, consumed)| (data.to_owned(), consumed));
        assert_eq!(found, expected, "{what}: {}", input.escape_ascii());
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(300));
    assert_eq!(body_of(BodyLength::Chunked, long.as_bytes()), Err(ExtensionTooLarge));
    let many = format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(100);
    assert_eq!(body_of(BodyLength::Chunked, many.as_bytes()), Err(ExtensionTooLarge));
    let trailer = format!("0\r\nA: {}\r\n\r\n", "a".repeat(100));
    assert_eq!(body_of(BodyLength::Chunked, trailer.as_bytes()), Err(HeadTooLarge));
}

#[test]
fn bodies_end_where_they_say() {
    assert_eq!(body_of(BodyLength::Length(3), b"abcdef"), Ok((b"abc".to_vec(), 3, true)));
    assert_eq!(body_of(BodyLength::Length(9), b"abcdef"), Ok((b"abcdef".to_vec(), 6, false)));
    assert_eq!(body_of(BodyLength::None, b"abc"), Ok((Vec::new(), 0, true)));
    assert_eq!(body_of(BodyLength::UntilClose, b"abc"), Ok((b"abc".to_vec(), 3, false)));
    let ends = |length: BodyLength, input: &[u8]| {
        let mut body = BodyReader::new(HeadLimits::default());
        body.begin(length);
        let mut at = 0;
        while at < input.len() {
            at += body.read(&input[at..]).unwrap().consumed;
        }
        body.finish()
    };
    assert_eq!(ends(BodyLength::Length(3), b"ab"), Err(Truncated));
    assert_eq!(ends(BodyLength::Length(2), b"ab"), Ok(()));
    assert_eq!(ends(BodyLength::Chunked, b"1\r\nx\r\n"), Err(Truncated));
    assert_eq!(ends(BodyLength::Chunked, b"0\r\n"), Err(Truncated));
    assert_eq!(ends(BodyLength::Chunked, b"0\r\n\r\n"), Ok(()));
    assert_eq!(ends(BodyLength::UntilClose, b"ab"), Ok(()));
}

#[test]
fn trailers_are_judged_before_they_go_on() {
    let scope = CanonicalScope { watched_headers: vec![Arc::from("x-role")], ..CanonicalScope::default() };
    let trailers = |lines: &str| {
        let mut body = BodyReader::new(HeadLimits::default());
        body.begin(BodyLength::Chunked);
        let piece = body.read(format!("0\r\n{lines}\r\n").as_bytes()).map(|piece| piece.end);
        assert_eq!(piece, Ok(true));
        let mut out = Vec::new();
        write::last_chunk(body.request_trailers(&scope)?, &mut out);
        Ok(String::from_utf8(out).unwrap())
    };
    assert_eq!(trailers("X-Sum: 1\r\n"), Ok("0\r\nx-sum: 1\r\n\r\n".to_owned()));
    assert_eq!(trailers(""), Ok("0\r\n\r\n".to_owned()));
    for (line, refusal) in [
        ("X-Role: admin\r\n", ForbiddenTrailer),
        ("x_role: admin\r\n", FoldedName),
        ("Content-Length: 5\r\n", ForbiddenTrailer),
        ("Transfer-Encoding: chunked\r\n", ForbiddenTrailer),
        ("Host: b\r\n", ForbiddenTrailer),
        ("X-Original-URL: /admin\r\n", ForbiddenTrailer),
    ] {
        assert_eq!(trailers(line), Err(refusal), "{line}");
    }
}

fn respond(text: &str, asked: Asked<'_>) -> Result<(ResponseHead, String), Refusal> {
    let mut head = ResponseHead::default();
    let input = format!("{text}\r\n\r\n");
    let taken = head.read(input.as_bytes(), HeadLimits::default(), asked)?;
    assert_eq!(taken, Some(input.len()), "{text}");
    let mut out = Vec::new();
    write::response_head(&head, Version::Http11, false, &mut out);
    Ok((head, out.escape_ascii().to_string().replace("\\r\\n", "\n")))
}

#[test]
fn responses_are_framed_by_what_was_asked() {
    let plain = Asked::default();
    let head = Asked { head: true, ..plain };
    let connect = Asked { connect: true, ..plain };
    let websocket = Asked { upgrade: Some(b"websocket"), ..plain };
    type Case<'a> = (&'a str, Asked<'a>, Result<(BodyLength, bool, bool), Refusal>);
    let cases: &[Case<'_>] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 5", plain, Ok((BodyLength::Length(5), false, true))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0", plain, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", plain, Ok((BodyLength::Chunked, false, true))),
        ("HTTP/1.1 200", plain, Ok((BodyLength::UntilClose, false, false))),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5", plain, Ok((BodyLength::Length(5), false, false))),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive",
            plain,
            Ok((BodyLength::Length(5), false, true)),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", plain, Ok((BodyLength::Length(5), false, false))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5", head, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", head, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 204 No Content", plain, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5", plain, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", plain, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 100 Continue", plain, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 103 Early Hints\r\nLink: </x>", plain, Ok((BodyLength::None, false, true))),
        ("HTTP/1.1 200 OK", connect, Ok((BodyLength::None, true, false))),
        ("HTTP/1.1 407 No\r\nContent-Length: 2", connect, Ok((BodyLength::Length(2), false, true))),
        (
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: WebSocket",
            websocket,
            Ok((BodyLength::None, true, false)),
        ),
        ("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket", plain, Err(UnaskedUpgrade)),
        ("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c", websocket, Err(UnaskedUpgrade)),
        ("HTTP/1.1 101 Switching\r\nUpgrade: websocket", websocket, Err(UnaskedUpgrade)),
        ("HTTP/1.1 101 Switching\r\nConnection: upgrade", websocket, Err(UnaskedUpgrade)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", plain, Err(LengthWithEncoding)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", plain, Err(SeveralLengths)),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5", plain, Err(MalformedLength)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", plain, Err(TransferEncoding)),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", plain, Err(MisplacedEncoding)),
        ("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked", plain, Err(MisplacedEncoding)),
        ("HTTP/1.1 100 C\r\nTransfer-Encoding: chunked", plain, Err(MisplacedEncoding)),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b", plain, Err(FoldedLine)),
        ("HTTP/1.1 200 OK\r\nX : a", plain, Err(SpaceBeforeColon)),
        ("HTTP/1.1 200 OK\r\nX: a\0", plain, Err(ControlInValue)),
        ("HTTP/1.1 200 OK\nX: a", plain, Err(BareLf)),
        ("HTTP/1.1 200 OK\r\nX: a\rb", plain, Err(BareCr)),
        ("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 5", plain, Err(NominatedHeader)),
        ("HTTP/2.0 200 OK", plain, Err(MalformedStartLine)),
        ("HTTP/1.1  200 OK", plain, Err(MalformedStartLine)),
        ("HTTP/1.1 20 OK", plain, Err(MalformedStartLine)),
        ("HTTP/1.1 2000 OK", plain, Err(MalformedStartLine)),
        ("HTTP/1.1 099 OK", plain, Err(MalformedStartLine)),
        ("HTTP/1.1 200OK", plain, Err(MalformedStartLine)),
        ("SSH-2.0-x", plain, Err(MalformedStartLine)),
    ];
    for (text, asked, expected) in cases {
        let found = respond(text, *asked).map(|(head, _)| (head.body_length(), head.is_tunnel(), head.keep_alive()));
        assert_eq!(found, *expected, "{text:?}");
    }
}

#[test]
fn responses_go_on_with_our_framing() {
    let plain = Asked::default();
    for (text, expected) in [
        (
            "HTTP/1.1 200 Fine\r\ncontent-length: 5\r\nETag: x\r\nConnection: x-a\r\nX-A: 1",
            "HTTP/1.1 200 Fine\nETag: x\nContent-Length: 5\n\n",
        ),
        ("HTTP/1.1 204 No\r\nContent-Length: 0", "HTTP/1.1 204 No\n\n"),
        ("HTTP/1.1 304 N\r\nContent-Length: 7", "HTTP/1.1 304 N\nContent-Length: 7\n\n"),
        ("HTTP/1.1 100 Continue", "HTTP/1.1 100 Continue\n\n"),
        ("HTTP/1.1 200\r\nX-Eastwall-Decision-Id: x\r\nContent-Length: 0", "HTTP/1.1 200 \nContent-Length: 0\n\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"),
    ] {
        assert_eq!(respond(text, plain).unwrap().1, expected, "{text:?}");
    }
    let websocket = Asked { upgrade: Some(b"websocket"), ..plain };
    let switched = respond("HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y", websocket);
    assert_eq!(switched.unwrap().1, "HTTP/1.1 101 S\nX: y\nConnection: Upgrade\nUpgrade: websocket\n\n");

    let old_client = |text: &str, close: bool| {
        let (head, _) = respond(text, plain).unwrap();
        let mut out = Vec::new();
        write::response_head(&head, Version::Http10, close, &mut out);
        String::from_utf8(out).unwrap()
    };
    let chunked = old_client("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", true);
    assert_eq!(chunked, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    let kept = old_client("HTTP/1.1 200 OK\r\nContent-Length: 2", false);
    assert_eq!(kept, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n");
    assert!(!write::rechunks(BodyLength::Chunked, Version::Http10));
}

#[test]
fn answers_of_our_own_are_whole() {
    let mut out = Vec::new();
    let lines = [("X-Eastwall-Decision-Id", "abc")];
    let answer =
        write::Answer { status: 403, lines: &lines, body: "no\n", head: false, client: Version::Http11, close: true };
    write::answer(&answer, &mut out);
    let expected = "HTTP/1.1 403 Forbidden\r\nX-Eastwall-Decision-Id: abc\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Length: 3\r\nConnection: close\r\n\r\nno\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut out = Vec::new();
    write::answer(&write::Answer { head: true, close: false, ..answer }, &mut out);
    assert!(out.ends_with(b"Content-Length: 3\r\n\r\n"));
    for refusal in Refusal::ALL {
        let mut out = Vec::new();
        write::answer(&write::Answer { status: refusal.status(), ..answer }, &mut out);
        assert!(respond_whole(&out), "{refusal}");
    }
}

/// Our own answers pass our own reader.
fn respond_whole(bytes: &[u8]) -> bool {
    let mut head = ResponseHead::default();
    let Ok(Some(taken)) = head.read(bytes, HeadLimits::default(), Asked::default()) else { return false };
    head.body_length() == BodyLength::Length((bytes.len() - taken) as u64)
}

/// Feeds a conversation at whatever borders and tells what was seen: heads as forwarded, data, trailers, the refusal.
fn events(input: &[u8], cuts: &[usize]) -> Vec<String> {
    let (limits, scope) = (HeadLimits { bytes: 400, fields: 10 }, CanonicalScope::default());
    let (mut head, mut body, mut seen) = (RequestHead::default(), BodyReader::new(limits), Vec::new());
    let (mut data, mut in_body, mut start, mut cut) = (Vec::new(), false, 0, 0);
    let borders = cuts.iter().copied().chain([input.len()]);
    for border in borders {
        cut = border.max(cut).min(input.len());
        loop {
            let available = &input[start..cut];
            if !in_body {
                match head.read(available, limits, &scope, Scheme::Http) {
                    Err(refusal) => {
                        seen.push(refusal.label().to_owned());
                        return seen;
                    }
                    Ok(None) => break,
                    Ok(Some(taken)) => {
                        let mut out = Vec::new();
                        write::request_head(&head, &mut out);
                        seen.push(out.escape_ascii().to_string());
                        start += taken;
                        body.begin(head.body_length());
                        in_body = true;
                    }
                }
            } else {
                match body.read(available) {
                    Err(refusal) => {
                        seen.push(format!("{} then {refusal}", data.escape_ascii()));
                        return seen;
                    }
                    Ok(piece) => {
                        data.extend_from_slice(piece.data);
                        start += piece.consumed;
                        if piece.end {
                            let mut out = Vec::new();
                            match body.request_trailers(&scope) {
                                Ok(trailers) => write::last_chunk(trailers, &mut out),
                                Err(refusal) => out.extend_from_slice(refusal.label().as_bytes()),
                            }
                            seen.push(format!("{} {}", data.escape_ascii(), out.escape_ascii()));
                            data.clear();
                            in_body = false;
                        } else if piece.consumed == 0 {
                            break;
                        }
                    }
                }
            }
        }
    }
    seen.push(format!("{} {}", if in_body { "in body" } else { "in head" }, data.escape_ascii()));
    seen
}

/// Conversations made of what conversations are attacked with.
fn any_conversation() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => Just("GET / HTTP/1.1\r\nHost: a\r\n"), 4 => Just("POST /a/../b?c HTTP/1.1\r\nHost: B:80\r\n"),
        8 => Just("\r\n"), 3 => Just("Content-Length: 3\r\n"), 3 => Just("Transfer-Encoding: chunked\r\n"),
        4 => Just("abc"), 4 => Just("3\r\nabc\r\n"), 4 => Just("0\r\n\r\n"), 2 => Just("0\r\nX-T: 1\r\n\r\n"),
        2 => Just("X-A: b\r\n"), 1 => Just("Connection: close, x-a\r\n"), 1 => Just("\n"), 1 => Just("\r"),
        1 => Just(" "), 1 => Just("1;a=\"b\"\r\nx\r\n"), 1 => Just("GET"), 1 => Just("\0"), 1 => Just("Host: a\r\n"),
    ];
    prop::collection::vec(piece, 1..14).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn splitting_the_input_changes_nothing(
        input in any_conversation(),
        cuts in prop::collection::vec(0_usize..300, 0..6),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = events(&input, &[]);
        prop_assert_eq!(&events(&input, &cuts), &whole);
        let every: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&events(&input, &every), &whole);
    }

    #[test]
    fn what_was_forwarded_is_read_again_as_the_same(input in any_conversation()) {
        let Ok(Some(head)) = read(&input) else { return Ok(()) };
        let mut once = Vec::new();
        write::request_head(&head, &mut once);
        let again = read(&once).unwrap().unwrap();
        let mut twice = Vec::new();
        write::request_head(&again, &mut twice);
        prop_assert_eq!(once.escape_ascii().to_string(), twice.escape_ascii().to_string());
        prop_assert_eq!(head.body_length(), again.body_length());
        prop_assert_eq!(head.path(), again.path());
    }

    #[test]
    fn chunks_are_read_as_they_were_written(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5)) {
        let mut out = Vec::new();
        for part in &parts {
            write::chunk(part, &mut out);
        }
        write::last_chunk(eastwall_policy::facts::Headers::default(), &mut out);
        prop_assert_eq!(body_of(BodyLength::Chunked, &out), Ok((parts.concat(), out.len(), true)));
    }

    #[test]
    fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = events(&input, &[7, 31]);
        let _ = ResponseHead::default().read(&input, HeadLimits::default(), Asked::default());
        let _ = body_of(BodyLength::Chunked, &input);
    }
}
