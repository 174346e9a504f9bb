//! HTTP/1: one verdict and one answer a request, and the bytes that were judged.

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;

use crate::harness::{
    ATTACKER, Answer, CLERK, Gateway, WEB, backend, header, http_backend, read_chunks, read_head, usual,
};

#[test]
fn keep_alive_carries_many_requests_over_one_upstream_connection() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    for number in 0..20 {
        write!(reader.get_mut(), "GET /orders/{number} HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
        let answer = Answer::read(&mut reader, false).unwrap();
        assert_eq!((answer.status, answer.body), (200, format!("GET /orders/{number} 0").into_bytes()));
    }
    assert_eq!(record.connections(), 1);
}

/// Attack 37.
#[test]
fn pipelined_requests_get_one_answer_each_in_order() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let request = |method: &str, id: u32| format!("{method} /orders/{id} HTTP/1.1\r\nHost: orders\r\n\r\n");
    let allowed_first = [request("GET", 1), request("DELETE", 2), request("GET", 3)].concat();
    let denied_first = [request("DELETE", 4), request("GET", 5), request("DELETE", 6), request("GET", 7)].concat();
    for (bytes, expected) in [(allowed_first, vec![200, 403, 200]), (denied_first, vec![403, 200, 403, 200])] {
        let answers = gateway.ask(WEB, bytes.as_bytes(), expected.len());
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), expected);
        for answer in answers.iter().filter(|answer| answer.status == 403) {
            assert_eq!(answer.header("x-eastwall-decision-id").unwrap().len(), 32);
        }
    }
    assert!(!record.text().contains("DELETE"));
    assert_eq!(record.text().matches("GET ").count(), 4);
}

#[test]
fn a_trusted_port_does_not_make_an_identity() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let answers = gateway.ask(ATTACKER, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 1);
    assert_eq!(answers[0].status, 403);
    assert_eq!((record.connections(), record.bytes().len()), (0, 0));
    assert_eq!(answers[0].body, b"denied by policy\n");
}

/// Attack 37: what looks like a request inside a denied body is never taken for one.
#[test]
fn the_body_of_a_denied_request_is_no_request() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let inner = "GET /orders/666 HTTP/1.1\r\nHost: orders\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
    ] {
        let bytes = format!(
            "POST /orders/1 HTTP/1.1\r\nHost: orders\r\n{framing}GET /orders/2 HTTP/1.1\r\nHost: orders\r\n\r\n"
        );
        let answers = gateway.ask(WEB, bytes.as_bytes(), 2);
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [403, 200]);
    }
    assert!(!record.text().contains("666"));
}

#[test]
fn a_large_body_of_a_denied_request_ends_the_connection() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    write!(reader.get_mut(), "POST /orders/1 HTTP/1.1\r\nHost: orders\r\nContent-Length: 10000000\r\n\r\nstart")
        .unwrap();
    let answer = Answer::read(&mut reader, false).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    assert!(Answer::read(&mut reader, false).is_none());
    assert_eq!(record.connections(), 0);
}

/// Attacks 1, 13 and 26: matched, logged and forwarded are the same bytes.
#[test]
fn what_is_forwarded_is_what_was_judged() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let request = "GET /x/../orders/%37?a=%2F HTTP/1.1\r\nhOsT: ORDERS.:80\r\nX-Eastwall-Decision-Id: forged\r\nX-Kept: yes\r\n\
                   X-Gone: 1\r\nConnection: x-gone\r\n\r\n";
    let answer = gateway.ask(WEB, request.as_bytes(), 1).remove(0);
    assert_eq!((answer.status, answer.body), (200, b"GET /orders/7?a=%2F 0".to_vec()));
    assert_eq!(record.text(), "GET /orders/7?a=%2F HTTP/1.1\r\nHost: orders:80\r\nX-Kept: yes\r\n\r\n");
    drop(gateway);
}

#[test]
fn upstream_connections_are_not_shared_between_identities() {
    let (address, record) = http_backend();
    let gateway = Gateway::with(&usual(), address, "http", &["--workers", "1"]);
    for from in [WEB, CLERK, WEB, CLERK] {
        let answers = gateway.ask(from, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n", 1);
        assert_eq!(answers[0].status, 200);
    }
    assert_eq!(record.connections(), 2, "one for each identity, used again by it alone");
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let (address, record) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        read_head(&mut reader).unwrap();
        let (data, trailers) = read_chunks(&mut reader);
        assert_eq!((data.as_slice(), trailers.as_str()), (&b"hello world"[..], "x-sum: 11\r\n"));
        out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n3\r\nabc\r\n").unwrap();
        out.write_all(b"2;ext=1\r\nde\r\n0\r\nX-End: yes\r\n\r\n").unwrap();
        let _ = reader.read(&mut [0]);
    });
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    let request = "POST /up HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n";
    reader.get_mut().write_all(request.as_bytes()).unwrap();
    reader.get_mut().write_all(b"6\r\nhello \r\n5\r\nworld\r\n0\r\nX-Sum: 11\r\n\r\n").unwrap();
    let head = read_head(&mut reader).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let (data, trailers) = read_chunks(&mut reader);
    assert_eq!((data.as_slice(), trailers.as_str()), (&b"abcde"[..], "x-end: yes\r\n"));
    assert!(!record.text().contains(";ext"));
}

#[test]
fn a_client_that_ends_its_direction_still_gets_its_answer() {
    let (address, _) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let mut stream = gateway.connect(WEB);
    stream.write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(Answer::read(&mut reader, false).unwrap().status, 200);
    assert!(Answer::read(&mut reader, false).is_none());
}

#[test]
fn an_answer_before_the_end_of_the_request_closes_both_sides() {
    let (address, record) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        read_head(&mut reader).unwrap();
        out.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nfull").unwrap();
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    let stream = reader.get_mut();
    write!(stream, "POST /up HTTP/1.1\r\nHost: orders\r\nContent-Length: 1000\r\n\r\nstart").unwrap();
    let answer = Answer::read(&mut reader, false).unwrap();
    let close = answer.header("connection");
    assert_eq!((answer.status, close, answer.body.as_slice()), (413, Some("close"), &b"full"[..]));
    assert!(Answer::read(&mut reader, false).is_none());
    let again = gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 1);
    assert_eq!(again[0].status, 413);
    assert_eq!(record.connections(), 2, "the first was not used again");
}

#[test]
fn an_unframed_answer_ends_with_the_connection() {
    let (address, _) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        read_head(&mut BufReader::new(peer)).unwrap();
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
    });
    let gateway = Gateway::start(&usual(), address);
    let answers = gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 2);
    assert_eq!((answers[0].body.as_slice(), answers[0].header("connection")), (&b"until the end"[..], Some("close")));
    assert_eq!(answers.len(), 1);
}

#[test]
fn a_response_with_two_readings_is_a_bad_gateway() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        "nonsense\r\n\r\n",
    ] {
        let (address, _) = backend(move |peer| {
            let mut out = peer.stream.try_clone().unwrap();
            read_head(&mut BufReader::new(peer)).unwrap();
            out.write_all(response.as_bytes()).unwrap();
        });
        let gateway = Gateway::start(&usual(), address);
        let answers = gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 1);
        assert_eq!(answers[0].status, 502, "{response:?}");
    }
}

#[test]
fn an_unreachable_upstream_is_a_bad_gateway() {
    let gone = std::net::TcpListener::bind((crate::harness::ORDERS, 0)).unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&usual(), gone);
    let answers = gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 1);
    assert_eq!(answers[0].status, 502);
}

#[test]
fn a_connection_that_the_upstream_closed_is_replaced_unseen() {
    let (address, record) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        read_head(&mut BufReader::new(peer)).unwrap();
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let gateway = Gateway::with(&usual(), address, "http", &["--workers", "1"]);
    let mut reader = BufReader::new(gateway.connect(WEB));
    for number in 1..=5 {
        reader.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
        assert_eq!(Answer::read(&mut reader, false).unwrap().status, 200, "{number}");
    }
    assert_eq!(record.connections(), 5);
}

#[test]
fn continue_is_asked_of_the_upstream_and_never_of_a_denied_client() {
    let (address, _) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        let head = read_head(&mut reader).unwrap();
        assert_eq!(header(&head, "expect"), Some("100-continue"));
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 4];
        reader.read_exact(&mut body).unwrap();
        out.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
        let _ = reader.read(&mut [0]);
    });
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    let head = "Host: orders\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    write!(reader.get_mut(), "POST /up HTTP/1.1\r\n{head}").unwrap();
    assert_eq!(Answer::read(&mut reader, false).unwrap().status, 100);
    reader.get_mut().write_all(b"body").unwrap();
    assert_eq!(Answer::read(&mut reader, false).unwrap().status, 201);
    write!(reader.get_mut(), "POST /orders/1 HTTP/1.1\r\n{head}").unwrap();
    let denied = Answer::read(&mut reader, false).unwrap();
    assert_eq!((denied.status, denied.header("connection")), (403, Some("close")));
}

#[test]
fn head_and_http_1_0_are_answered_in_their_own_way() {
    let (address, _) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    reader.get_mut().write_all(b"HEAD /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut reader, true).unwrap().header("content-length"), Some("16"));
    reader.get_mut().write_all(b"HEAD /denied HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut reader, true).unwrap().status, 403);
    reader.get_mut().write_all(b"GET /orders/1 HTTP/1.0\r\nHost: orders\r\n\r\n").unwrap();
    let answer = Answer::read(&mut reader, false).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(Answer::read(&mut reader, false).is_none());
}

#[test]
fn large_bodies_stream_both_ways() {
    const SIZE: usize = 24 << 20;
    let (address, _) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        while let Some(head) = read_head(&mut reader) {
            let length: usize = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            if length > 0 {
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
                write!(out, "HTTP/1.1 200 OK\r\nX-Sum: {sum}\r\nContent-Length: 0\r\n\r\n").unwrap();
            } else {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
                out.write_all(&pattern(SIZE)).unwrap();
            }
        }
    });
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    let body = pattern(SIZE);
    write!(reader.get_mut(), "POST /up HTTP/1.1\r\nHost: orders\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
    reader.get_mut().write_all(&body).unwrap();
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    let answer = Answer::read(&mut reader, false).unwrap();
    assert_eq!(answer.header("x-sum"), Some(sum.to_string().as_str()));
    reader.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    assert!(Answer::read(&mut reader, false).unwrap().body == body);
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}
