//! Bytes that two parsers could read differently: refused, and none of them reaches the backend.

use crate::harness::{Gateway, WEB, http_backend, usual};

#[test]
fn ambiguous_requests_are_refused_whole() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let head = |lines: &str| format!("POST /up HTTP/1.1\r\nHost: orders\r\n{lines}\r\n\r\n0\r\n\r\n");
    for (attack, request) in [
        ("31 length and encoding", head("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        ("31 encoding list", head("Transfer-Encoding: chunked, identity")),
        ("31 unknown encoding", head("Transfer-Encoding: xchunked")),
        ("31 space before colon", head("Transfer-Encoding : chunked")),
        ("31 two lengths", head("Content-Length: 5\r\nContent-Length: 5")),
        ("31 signed length", head("Content-Length: +5")),
        ("31 hexadecimal length", head("Content-Length: 0x5")),
        ("32 two encodings", head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("32 encoding in 1.0", head("Transfer-Encoding: chunked").replace("HTTP/1.1", "HTTP/1.0")),
        ("20 folded line", head("X-A: b\r\n c")),
        ("20 bare line feed", head("X-A: b\nX-C: d")),
        ("20 bare return", head("X-A: b\rX-C: d")),
        ("20 nul", head("X-A: b\0c")),
        ("23 two hosts", head("Host: other")),
        ("23 userinfo", head("X-A: b").replace("Host: orders", "Host: a@orders")),
        ("11 absolute form", head("X-A: b").replace("/up", "http://evil/up")),
        ("27 nominated host", head("Connection: host")),
        ("15 escaped nul", head("X-A: b").replace("/up", "/up%00")),
        ("2 escaped slash", head("X-A: b").replace("/up", "/x%2Fup")),
        ("4 fragment", head("X-A: b").replace("/up", "/up#x")),
        ("7 path parameters", head("X-A: b").replace("/up", "/up;x=y")),
        ("26 override", head("X-HTTP-Method-Override: DELETE")),
    ] {
        let answers = gateway.ask(WEB, request.as_bytes(), 1);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "attack {attack}");
        assert_eq!(record.connections(), 0, "attack {attack}: {}", record.text());
    }
}

#[test]
fn a_body_that_breaks_its_framing_ends_both_connections() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    for chunk in ["5\r\nhelloXX0\r\n\r\n", "-1\r\n", "5;\0\r\nhello\r\n", "fffffffffffffffff\r\n", "5\nhello"] {
        let smuggled = "GET /orders/666 HTTP/1.1\r\nHost: orders\r\n\r\n";
        let request =
            format!("POST /up HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{smuggled}");
        let answers = gateway.ask(WEB, request.as_bytes(), 3);
        assert!(answers.iter().all(|answer| answer.status == 400), "{chunk:?}: {answers:?}");
    }
    assert!(!record.text().contains("666"), "{}", record.text());
}

#[test]
fn a_request_line_that_is_refused_is_answered_once() {
    let (address, _) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    for path in [&b"/caf\xc3\xa9"[..], b"/\0", b"/\x7f"] {
        let request = [b"GET ", path, b" HTTP/1.1\r\nHost: orders\r\n\r\n"].concat();
        let statuses: Vec<u16> = gateway.ask(WEB, &request, 3).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{path:?}");
    }
}
